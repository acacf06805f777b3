"""What decides a result, as frozen dataclasses that travel as JSON. Imports no torch.

``RunConfig`` is that of Parts II to IV. A study that needs more subclasses it, and ``Stage``, with
its own fields and overrides ``build`` (the untrained model) and ``step`` (what a training step is).
"""

import dataclasses
import importlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args, get_origin, get_type_hints

from learn2add.checks import check_choice, check_int, check_number, shown

if TYPE_CHECKING:
    from torch import nn

    from learn2add.data import Digits
    from learn2add.steps import Step

Balance = Literal["natural", "sums", "cells", "digits", "mixed"]
BALANCES = get_args(Balance)
HELD_OUT = ((0, 3), (0, 8), (1, 6), (2, 2), (2, 5), (3, 4), (4, 1), (5, 3), (6, 2), (7, 1))
"""Ten (digit, addend) cells; each of their digits, addends and sums occurs in others."""
Model = Literal[
    "autoencoder",
    "variational_autoencoder",
    "addition",
    "variational_addition",
    "generative_addition",
]


def check_fields(config: Any, ranges: dict[str, tuple[float, float]]) -> None:
    """Check the fields of a dataclass: choices, booleans, dataclasses, and those of the ranges.

    A range of two ints is for an integer; None is allowed where the field's default is None.
    """
    for name, kind in get_type_hints(type(config)).items():
        if get_origin(kind) is Literal or kind is bool:
            check_choice(name, getattr(config, name), get_args(kind) or (False, True))
        elif dataclasses.is_dataclass(kind) and not isinstance(getattr(config, name), kind):
            came = shown(getattr(config, name))
            raise TypeError(f"{name} is {came}; allowed is {kind.__name__}")
    defaults = {field.name: field.default for field in dataclasses.fields(config)}
    for name, (low, high) in ranges.items():
        value = getattr(config, name)
        if value is None and defaults[name] is None:
            continue
        check = check_int if isinstance(high, int) else check_number
        if getattr(value, "shape", ()):  # the check of a number takes arrays of them
            raise TypeError(f"{name} is {shown(value)}; allowed is one number")
        check(name, value, low, high)


def check_held_out(cells: Sequence[Sequence[int]]) -> tuple[tuple[int, int], ...]:
    """Return (digit, addend) cells as tuples; an error unless each is one of the 55, some left."""
    allowed = "allowed is (digit, addend) pairs of integers with sums from 0 to 9, not all 55"
    try:
        found = tuple((check_int("digit", d), check_int("addend", a)) for d, a in cells)
    except (TypeError, ValueError) as error:
        raise ValueError(f"held_out is {shown(cells)}; {allowed}") from error
    if any(not 0 <= d <= d + a <= 9 for d, a in found) or len(set(found)) == 55:
        raise ValueError(f"held_out is {shown(cells)}; {allowed}")
    return found


@dataclass(frozen=True)
class Stage:
    """One phase of a training: which parts learn, from what, for how long.

    A run of the assignment is one stage. A staged recipe trains the autoencoder first, then the
    adder alone on its codes, then everything jointly.
    """

    task: Literal["autoencoder", "adder", "addition"]
    """Which parts learn: E and D; P alone, on cached codes; or E, P and D."""
    epochs: int
    """How often results are measured and a checkpoint is written."""
    steps: int | None = None
    """Optimiser steps per epoch; None is one pass over the data (for pairs: all of them)."""
    batch_size: int = 128
    """Images (autoencoder) or pairs per step."""
    learning_rate: float = 1e-3
    """Adam's learning rate, or its peak under "one_cycle"."""
    schedule: Literal["constant", "one_cycle"] = "constant"
    """Of the learning rate: constant (the assignment's), or up, then down to 0, as cosines."""
    loss: Literal["l2", "bce"] = "l2"
    """Image loss."""
    balance: Balance = "natural"
    """Which sums are drawn how often; see :class:`learn2add.pairs.AdditionPairs`."""
    targets: Literal["drawn", "batch"] = "drawn"
    """One target for each input, or all of a batch, of whose images ``batch_size`` then is the
    number; see :class:`learn2add.pairs.BatchTargets`."""
    optimiser: Literal["adam", "muon"] = "adam"
    """Of the large matrices; the rest is Adam's. See :mod:`learn2add.optim`."""
    beta2: float = 0.999
    """Adam's decay rate of the squared gradients; a short training gains by 0.99."""
    momentum: float = 0.95
    """Muon's share of the former mean of gradients; one pass gains by 0.9."""
    pct_start: float = 0.3
    """Share of the steps in which a "one_cycle" rate goes up."""
    shift: int = 0
    """Training images are moved by up to this many pixels each way, anew every time."""
    deform: float = 0.0
    """Strength of the small deformations of training images, anew every time; 1 is a usual one."""
    restarts: int = 1
    """The adder's stage only: so many adders learn side by side, each from initial weights of its
    own, and the best on validation stays. Needs ``epochs`` 1."""
    addend_noise: float = 0.0
    """Standard deviation of normal noise on the addends of training pairs."""
    reconstruct_every: int = 4
    """With all targets of a batch, the reconstruction is taken from one image in so many."""

    RANGES: ClassVar[dict[str, tuple[float, float]]] = {
        "epochs": (1, 100_000),
        "steps": (1, 10_000_000),
        "batch_size": (1, 60_000),
        "learning_rate": (1e-38, 1e38),
        "beta2": (0.0, 0.999999),
        "momentum": (0.0, 0.999999),
        "pct_start": (0.0, 0.999999),
        "shift": (0, 8),
        "deform": (0.0, 10.0),
        "restarts": (1, 1000),
        "addend_noise": (0.0, 10.0),
        "reconstruct_every": (1, 1000),
    }

    def __post_init__(self) -> None:
        check_fields(self, self.RANGES)
        if self.restarts > 1 and (self.task != "adder" or self.epochs > 1):
            raise ValueError(
                f"restarts is {self.restarts}, task {self.task!r}, epochs {self.epochs}; allowed "
                "is above 1 for the adder task with epochs 1"
            )
        if self.task == "adder" and (self.shift or self.deform):
            raise ValueError(
                f"shift is {self.shift}, deform {self.deform}; allowed is 0 for the adder task, "
                "which trains on cached codes"
            )
        if self.targets == "batch" and (
            self.task != "addition"
            or self.steps is None
            or self.batch_size % 10
            or self.balance == "natural"
        ):
            raise ValueError(
                f"targets is 'batch', task {self.task!r}, steps {self.steps}, batch_size "
                f"{self.batch_size}, balance {self.balance!r}; allowed is the addition task with "
                "steps set, batch_size a multiple of 10 and a balance other than natural"
            )

    def over(self, history: list[dict[str, Any]], best_epoch: int) -> bool:
        """Whether the stage ends before its last epoch; a study with early stopping says when."""
        return False


@dataclass(frozen=True)
class LossWeights:
    """The weights of the loss of the addition, the report's names where it has them."""

    l2_orig: float = 0.1
    """Reconstruction of the input."""
    l2_added: float = 1.0
    """Image of the sum."""
    code: float = 1.0
    """Squared difference of the two codes of the sum."""
    kld_encoder: float = 0.0
    """KL(q(z|x) || N(0, I)), where the encoder is variational."""
    kld_adder: float = 0.0
    """KL(p(z_sum|z, addend) || N(0, I)), where the adder is generative."""
    match: float = 0.0
    """KL(q(z|y) || p(z_sum|z, addend)), the adder's distribution against that of the target y."""
    contrast: float = 0.0
    """InfoNCE over the batch: -ln of the share that p(z_sum|z, addend) gives to the codes of images
    of the sum among the codes of all. An adder without distribution is given variance 1."""

    def __post_init__(self) -> None:
        check_fields(self, {f.name: (0.0, 1e12) for f in dataclasses.fields(self)})


@dataclass(frozen=True)
class RunConfig:
    """Everything that decides the result of a run: data, model, loss, optimiser, seed."""

    stages: tuple[Stage, ...]
    """The phases of the training, in order."""
    model: Model = "autoencoder"
    """Part II, Part III, and with distributions (of the code; of the code and the sum) Part IV."""
    decoder: str = "conv_transpose"
    """conv_transpose, conv_upsample or interpolation; see :data:`learn2add.network.DECODERS`."""
    code_size: int = 7
    """Numbers in the code, 1 to 128."""
    image_size: Literal[28, 32, 64] = 28
    """Side of an image in pixels."""
    activation: Literal["linear", "relu"] = "linear"
    """Between the encoder's two linear layers; "linear" is none."""
    embed_addend: bool = False
    """Whether the adder embeds the addend first (the report's ``ValueToLatent``)."""
    weights: LossWeights = LossWeights()
    """Of the terms of the loss."""
    operation: Literal["add", "subtract"] = "add"
    """Subtraction is the addition of mirrored digits: d - a = r where (9 - d) + a = 9 - r."""
    held_out: tuple[tuple[int, int], ...] = ()
    """(digit, addend) cells that are never trained; where it subtracts, of mirrored digits."""
    train_size: int | None = None
    """Train on this many images, balanced over classes; None is all 50,000."""
    validation_size: int | None = None
    """Validate on this many images, balanced over classes; None is all 10,000."""
    seed: int = 0
    """Decides initial weights and the order of the data."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Of forward and backward passes; weights stay float32."""

    dataset: ClassVar[str] = "MNIST"
    RANGES: ClassVar[dict[str, tuple[float, float]]] = {
        "code_size": (1, 128),
        "seed": (0, 2**32 - 1),
        "train_size": (10, 60_000),
        "validation_size": (10, 10_000),
    }

    def __post_init__(self) -> None:
        check_fields(self, self.RANGES)
        stages = self.stages if isinstance(self.stages, tuple) else ()
        if not stages or not all(isinstance(stage, Stage) for stage in stages):
            raise ValueError(f"stages is {shown(self.stages)}; allowed is a tuple of stages")
        # JSON makes lists of tuples.
        object.__setattr__(self, "held_out", check_held_out(self.held_out))
        self.check_model()

    def check_model(self) -> None:
        """Raise ValueError where stages or weights ask for a part that the model has not."""
        tasks = {stage.task for stage in self.stages}
        if not self.adds and (tasks != {"autoencoder"} or self.embed_addend or self.held_out):
            raise ValueError(
                f"stages is {sorted(tasks)}, embed_addend {self.embed_addend}, held_out "
                f"{len(self.held_out)} cells; allowed for model {self.model!r}, which has "
                "no adder, is the autoencoder task alone"
            )
        weights, able = self.weights, {"kld_encoder": self.variational}
        for name in ("kld_encoder", "kld_adder", "match"):
            value = getattr(weights, name)
            if value and not able.get(name, self.generative):
                raise ValueError(f"{name} is {value}; allowed is 0 for model {self.model!r}")
        joint = [stage for stage in self.stages if stage.task == "addition"]
        if weights.contrast and not (joint and all(s.targets == "batch" for s in joint)):
            raise ValueError(
                f"contrast is {weights.contrast}; allowed is above 0 where all addition stages "
                "have targets 'batch', for it compares the images of a batch"
            )

    @property
    def adds(self) -> bool:
        """Whether the model has an adder."""
        return self.model.endswith("addition")

    @property
    def variational(self) -> bool:
        """Whether its codes are distributions."""
        return self.model not in ("autoencoder", "addition")

    @property
    def generative(self) -> bool:
        """Whether its sums are."""
        return self.model == "generative_addition"

    def seen(self, digits: "Digits") -> "Digits":
        """Return digits as the run adds to them: mirrored, 9 for 0, where it subtracts."""
        return digits if self.operation == "add" else digits.mirrored()

    def build(self) -> "nn.Module":
        """Return the untrained model; torch's own generator decides its weights."""
        from learn2add import network  # imported here, for --help must not wait for torch

        decoder = network.DECODERS[check_choice("decoder", self.decoder, tuple(network.DECODERS))]
        encoder = network.GaussianEncoder if self.variational else network.Encoder
        e = encoder(self.code_size, self.image_size, self.activation)
        if not self.adds:
            return network.Autoencoder(e, decoder(self.code_size, self.image_size))
        adder = network.GaussianAdder if self.generative else network.Adder
        p = adder(self.code_size, embed_addend=self.embed_addend)
        return network.AdditionModel(e, p, decoder(self.code_size, self.image_size))

    def step(
        self, stage: Stage, model: "nn.Module", train: "Digits", validation: "Digits"
    ) -> "Step":
        """Return what a training step of a stage is, for digits on the model's device."""
        from learn2add import steps

        joint = steps.BatchStep if stage.targets == "batch" else steps.JointStep
        kinds = {"autoencoder": steps.AutoencoderStep, "adder": steps.AdderStep, "addition": joint}
        return kinds[stage.task](model, self, stage, train, validation)

    def evidence(self, model: "nn.Module", *measured: Any) -> dict[str, Any]:
        """Return what a study measures besides, given judge, digits and their ``SumScores``."""
        return {}

    def to_json(self) -> str:
        """Return the configuration, and its class, as readable JSON."""
        name = f"{type(self).__module__}.{type(self).__qualname__}"
        return json.dumps({"class": name} | dataclasses.asdict(self), indent=2) + "\n"

    @staticmethod
    def from_json(text: str) -> "RunConfig":
        """Read what :meth:`to_json` wrote, of this class or of a study's, or raise ValueError."""
        try:
            fields = json.loads(text)
            module, _, name = fields.pop("class").rpartition(".")
            if not module.startswith("learn2add."):
                raise TypeError(f"class is {module}.{name}; allowed is one of this package")
            kind = getattr(importlib.import_module(module), name)
            stages = tuple(kind.stage_of(stage) for stage in fields.pop("stages"))
            return kind(stages=stages, weights=LossWeights(**fields.pop("weights")), **fields)
        except (ImportError, json.JSONDecodeError, AttributeError, KeyError, TypeError) as error:
            raise ValueError(f"this is not the configuration of a run: {error}") from error

    @classmethod
    def stage_of(cls, fields: dict[str, Any]) -> Stage:
        """Return the stage with these fields; a study's may be of a class of its own."""
        return Stage(**fields)

    def differences(self, other: "RunConfig") -> list[str]:
        """Return the fields in which ``other`` differs, each as ``name: mine, not theirs``."""
        mine, theirs = self.flat(), other.flat()
        names = [name for name in mine | theirs if mine.get(name) != theirs.get(name)]
        return [f"{name}: {mine.get(name)!r}, not {theirs.get(name)!r}" for name in names]

    def flat(self) -> dict[str, Any]:
        """Return all fields on one level, those of stages numbered: ``stages.0.epochs``."""
        fields = dataclasses.asdict(self)
        for name, value in fields.pop("weights").items():
            fields[f"weights.{name}"] = value
        for number, stage in enumerate(fields.pop("stages")):
            fields |= {f"stages.{number}.{name}": value for name, value in stage.items()}
        return fields
