"""What decides a result, as frozen dataclasses that travel as JSON."""

import dataclasses
import json
import math
from dataclasses import dataclass
from typing import Any

from learn2add.checks import check_choice, check_finite, check_int
from learn2add.code_distributions import FAMILIES
from learn2add.dcgan import ALL_DECODERS
from learn2add.decoders import IMAGE_SIZES
from learn2add.models import MODELS, Kind

TASKS = ("autoencoder", "adder", "addition", "auto_decoder")
WEIGHTS = (
    "l2_orig",
    "l2_added",
    "code",
    "kld_encoder",
    "kld_adder",
    "match",
    "contrast",
    "temperature",
)
"""The fields of :class:`RunConfig` that decide the loss."""
BALANCES = ("natural", "sums", "cells", "digits", "mixed")


@dataclass(frozen=True)
class Stage:
    """One phase of a training: which parts learn, from what, for how long.

    A run of the assignment is one stage. A staged recipe trains the autoencoder first, then the
    adder alone on its codes, then everything jointly.
    """

    task: str
    """"autoencoder" (E and D), "adder" (P alone, on cached codes), "addition" (E, P, D) or
    "auto_decoder" (D and the table of codes)."""
    epochs: int
    """How often the figures are taken and a checkpoint is written."""
    steps: int | None = None
    """Optimiser steps per epoch; None is one pass over the data (for pairs: all of them)."""
    batch_size: int = 128
    """Pictures (autoencoder) or pairs per step."""
    learning_rate: float = 1e-3
    """Adam's learning rate, or its peak under "one_cycle"."""
    schedule: str = "constant"
    """"constant" (the assignment's) or "one_cycle": up, then down to 0, as cosines."""
    loss: str = "l2"
    """Picture loss, "l2" or "bce"."""
    balance: str = "natural"
    """How pairs are drawn; see :class:`learn2add.pairs.AdditionPairs`."""
    partners: str = "drawn"
    """"drawn": each pair is one input and one partner. "batch": see
    :class:`learn2add.pairs.BatchPartners`; ``batch_size`` then counts pictures."""
    optimiser: str = "adam"
    """"adam" (the assignment's), or "muon" for the large weight matrices and Adam for the rest; see
    :mod:`learn2add.optimisers`."""
    beta2: float = 0.999
    """Adam's decay rate of the squared gradients. 0.999 is usual; a short training gains by 0.99,
    which forgets the large first gradients sooner."""
    momentum: float = 0.95
    """Muon's share of the former mean of gradients. 0.95 is usual; one pass gains by 0.9."""
    rise: float = 0.3
    """Share of the steps in which a "one_cycle" rate goes up."""
    shift: int = 0
    """Training pictures are moved by up to this many pixels each way, anew every time."""
    deform: float = 0.0
    """Strength of the small deformations of training pictures, made anew every time; 1 is a usual
    one. See :func:`learn2add.augmentation.deformed`."""
    noise: float = 0.0
    """The autoencoder's stage only: the encoder is shown pictures with normal noise of up to this
    standard deviation, and the clean ones are to be redrawn. See
    :func:`learn2add.corruptions.corrupted`."""
    occlude: int = 0
    """Likewise: side of the largest square that is blacked out of the pictures shown."""
    addend_noise: float = 0.0
    """Standard deviation of normal noise on the addends of training pairs."""
    reconstruct_every: int = 4
    """With partners "batch", the reconstruction is taken from one picture in so many."""
    code_rate: float = 1.0
    """The auto-decoder's stage only: learning rate of the codes over that of the weights."""
    fit_steps: int = 20
    """Likewise: Adam's steps, of 0.05, that find the codes of the validation pictures."""
    patience: int | None = None
    """Stop after this many epochs without a better validation figure; None never stops early."""

    def __post_init__(self) -> None:
        check_choice("task", self.task, TASKS)
        check_int("epochs", self.epochs, 1, 100_000)
        check_int("batch_size", self.batch_size, 1, 60_000)
        for name in ("steps", "patience"):
            if getattr(self, name) is not None:
                check_int(name, getattr(self, name), 1, 10_000_000)
        check_finite("learning_rate", self.learning_rate)
        if self.learning_rate <= 0:
            raise ValueError(f"learning_rate is {self.learning_rate}; allowed is above 0")
        check_int("shift", self.shift, 0, 8)
        check_int("occlude", self.occlude, 0, 28)
        check_int("fit_steps", self.fit_steps, 1, 10_000)
        check_finite("code_rate", self.code_rate)
        if not 0 < self.code_rate <= 1000:
            raise ValueError(f"code_rate is {self.code_rate}; allowed is above 0, up to 1000")
        check_int("reconstruct_every", self.reconstruct_every, 1, 1000)
        for name in ("addend_noise", "deform", "noise"):
            check_finite(name, getattr(self, name))
            if not 0 <= getattr(self, name) <= 10:
                raise ValueError(f"{name} is {getattr(self, name)}; allowed is 0 to 10")
        for name in ("shift", "deform"):
            if getattr(self, name) and self.task == "adder":
                raise ValueError(
                    f"{name} is {getattr(self, name)}; the adder's stage trains on cached codes"
                )
        for name in ("noise", "occlude"):
            if getattr(self, name) and self.task != "autoencoder":
                raise ValueError(
                    f"{name} is {getattr(self, name)}; allowed for the autoencoder task only"
                )
        for name in ("beta2", "momentum", "rise"):
            check_finite(name, getattr(self, name))
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; allowed is from 0 to below 1")
        check_choice("schedule", self.schedule, ("constant", "one_cycle"))
        check_choice("optimiser", self.optimiser, ("adam", "muon"))
        check_choice("loss", self.loss, ("l2", "bce"))
        check_choice("balance", self.balance, BALANCES)
        check_choice("partners", self.partners, ("drawn", "batch"))
        if self.partners == "batch" and (
            self.task != "addition"
            or self.steps is None
            or self.batch_size % 10
            or self.balance == "natural"
        ):
            raise ValueError(
                "partners is 'batch'; allowed for the addition task, with steps set, batch_size a "
                f"multiple of 10 and a balance other than natural; these are task {self.task!r}, "
                f"steps {self.steps}, batch_size {self.batch_size}, balance {self.balance!r}"
            )

    def learning_rate_at(self, step: int, steps: int) -> float:
        """Learning rate of step ``step`` (from 0) out of ``steps`` in the whole stage."""
        if self.schedule == "constant":
            return self.learning_rate
        rise = self.rise * steps
        if step < rise:
            return self.learning_rate * (0.04 + 0.96 * (1 - math.cos(math.pi * step / rise)) / 2)
        return self.learning_rate * (1 + math.cos(math.pi * (step - rise) / (steps - rise))) / 2


@dataclass(frozen=True)
class RunConfig:
    """Everything that decides the result of a run: data, model, objective, optimiser, seed."""

    stages: tuple[Stage, ...]
    """The phases of the training, in order."""
    model: str = "autoencoder"
    """"autoencoder" (Part II) or "addition" (Part III); "variational_autoencoder",
    "variational_addition" (a Gaussian code) or "generative_addition" (and a Gaussian sum: Part
    IV); "auto_decoder" (a table of codes instead of an encoder) and "auto_decoder_addition"."""
    decoder: str = "conv_transpose"
    """"conv_transpose", "conv_upsample", "interpolation", or "dcgan" (report 004's)."""
    code_size: int = 7
    """Length of the code."""
    image_size: int = 28
    """Side of a picture in pixels: 28, 32 or 64."""
    dataset: str = "MNIST"
    """"MNIST" or "FashionMNIST"."""
    train_size: int | None = None
    """Train on this many pictures, balanced over classes; None is all 50,000."""
    validation_size: int | None = None
    """Validate on this many pictures, balanced over classes; None is all 10,000."""
    l2_orig: float = 0.1
    """Weight of the reconstruction of the input, in the addition loss (the report's name)."""
    l2_added: float = 1.0
    """Weight of the picture of the sum, in the addition loss (the report's name)."""
    code: float = 1.0
    """Weight of the squared difference of the two codes of the sum."""
    kld_encoder: float = 0.0
    """Weight of KL(q(z|x) || N(0, I)), where the encoder is variational (the report's name)."""
    kld_adder: float = 0.0
    """Weight of KL(p(z'|z, addend) || N(0, I)), where the adder is generative (the report's)."""
    match: float = 0.0
    """Weight of KL(q(z|y) || p(z'|z, addend)): the adder's distribution against the encoder's of
    the target picture y."""
    contrast: float = 0.0
    """Weight of -ln of the share that p(z'|z, addend) gives to the codes of pictures of the sum
    among the codes of all pictures in the batch: right answers are to lie where wrong ones do not.
    An adder without distribution is given one of variance 1 about its answer.
    """
    temperature: float = 1.0
    """Factor on the noise of a generative adder where its sum is drawn for ``l2_added``. Squared
    error to random partners is least for their mean, so at 1 (the report's) it also teaches the
    samples to be alike; at 0 it is asked of the distribution's mean alone."""
    hidden: str = "linear"
    """Activation between the encoder's two linear layers, "linear" (none) or "relu"."""
    embed_addend: bool = False
    """Whether the adder embeds the addend first (the report's ``ValueToLatent``)."""
    held_out: tuple[tuple[int, int], ...] = ()
    """(digit, addend) cells that are never trained."""
    seed: int = 0
    """Decides initial weights and the order of the data."""
    code_distribution: str = "point"
    """What an auto-decoder's table holds: "point", "gaussian", "exponential" or "uniform"; see
    :mod:`learn2add.code_distributions`."""
    kld_code: float = 0.0
    """Weight of the divergence of such a table's distributions from their prior."""
    precision: str = "float32"
    """"float32", or "bfloat16" for forward and backward passes (weights stay float32)."""

    def __post_init__(self) -> None:
        check_choice("model", self.model, tuple(MODELS))
        check_choice("decoder", self.decoder, ALL_DECODERS)
        check_choice("code_distribution", self.code_distribution, tuple(FAMILIES))
        check_int("code_size", self.code_size, 1, 128)
        check_choice("image_size", self.image_size, IMAGE_SIZES)
        check_choice("dataset", self.dataset, ("MNIST", "FashionMNIST"))
        check_choice("hidden", self.hidden, ("linear", "relu"))
        check_choice("precision", self.precision, ("float32", "bfloat16"))
        check_int("seed", self.seed, 0, 2**32 - 1)
        if self.train_size is not None:
            check_int("train_size", self.train_size, 10, 60_000)
        if self.validation_size is not None:
            check_int("validation_size", self.validation_size, 10, 10_000)
        for name in (*WEIGHTS, "kld_code"):
            check_finite(name, getattr(self, name))
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}; allowed is 0 or more")
        if not self.stages:
            raise ValueError("stages is empty; allowed is one stage or more")
        tasks = {stage.task for stage in self.stages}
        if self.kind.table:
            self._check_table(tasks)
        elif "auto_decoder" in tasks:
            raise ValueError(f"stages hold {sorted(tasks)}; model {self.model!r} has no codes")
        elif not self.kind.adder and tasks != {"autoencoder"}:
            raise ValueError(f"stages hold {sorted(tasks)}; an autoencoder has no adder to train")
        cells = tuple((int(digit), int(addend)) for digit, addend in self.held_out)
        object.__setattr__(self, "held_out", cells)  # JSON makes lists of tuples
        for digit, addend in cells:
            if not 0 <= digit <= digit + addend <= 9:
                raise ValueError(f"held_out names {digit} + {addend}; allowed are sums from 0 to 9")
        if self.contrast and {s.partners for s in self.stages if s.task == "addition"} != {"batch"}:
            raise ValueError(
                f"contrast is {self.contrast}; allowed where all addition stages have partners "
                "'batch', for it compares the pictures of a batch"
            )
        for name, part in (
            ("kld_encoder", "variational"),
            ("kld_adder", "generative"),
            ("match", "generative"),
            ("kld_code", "table"),
        ):
            if getattr(self, name) and not getattr(self.kind, part):
                raise ValueError(
                    f"{name} is {getattr(self, name)}; model {self.model!r} has no such term"
                )

    def _check_table(self, tasks: set[str]) -> None:
        """Raise ValueError unless the stages are those of a model with a table of codes."""
        allowed = {"auto_decoder", "adder"} if self.kind.adder else {"auto_decoder"}
        if not tasks <= allowed or self.stages[0].task != "auto_decoder":
            raise ValueError(
                f"stages hold {[stage.task for stage in self.stages]}; allowed for model "
                f"{self.model!r} are {sorted(allowed)}, auto_decoder first"
            )
        if self.kld_code and self.code_distribution == "point":
            raise ValueError(f"kld_code is {self.kld_code}; a point code has no such term")

    @property
    def kind(self) -> Kind:
        """What the model is made of."""
        return MODELS[self.model]

    def to_json(self) -> str:
        """The configuration as readable JSON."""
        return json.dumps(dataclasses.asdict(self), indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "RunConfig":
        """Read what :meth:`to_json` wrote.

        Raises:
            ValueError: The text is not JSON, or a field is unknown, missing or not allowed.
        """
        try:
            fields: dict[str, Any] = json.loads(text)
            stages = tuple(Stage(**stage) for stage in fields.pop("stages"))
            return cls(stages=stages, **fields)
        except (json.JSONDecodeError, AttributeError, KeyError, TypeError) as error:
            raise ValueError(f"this is not the configuration of a run: {error}") from error

    def differences(self, other: "RunConfig") -> list[str]:
        """The fields in which ``other`` differs, each as ``name: mine, not theirs``."""
        mine, theirs = self.flat(), other.flat()
        names = [name for name in mine | theirs if mine.get(name) != theirs.get(name)]
        return [f"{name}: {mine.get(name)!r}, not {theirs.get(name)!r}" for name in names]

    def flat(self) -> dict[str, Any]:
        """All fields on one level, those of stages numbered: ``stages.0.epochs``."""
        fields = dataclasses.asdict(self)
        for number, stage in enumerate(fields.pop("stages")):
            fields |= {f"stages.{number}.{name}": value for name, value in stage.items()}
        return fields
