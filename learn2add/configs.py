"""What decides a result, as frozen dataclasses that travel as JSON."""

import dataclasses
import json
from dataclasses import dataclass
from typing import Any

from learn2add.capacity import CHANNELS, UNITS, Capacity
from learn2add.checks import check_choice, check_finite, check_int
from learn2add.code_distributions import FAMILIES
from learn2add.dcgan import ALL_DECODERS
from learn2add.decoders import DENSE, IMAGE_SIZES
from learn2add.models import MODELS, Kind
from learn2add.stages import BALANCES, TASKS, Stage

__all__ = ["BALANCES", "TASKS", "WEIGHTS", "RunConfig", "Stage"]

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
    """"conv_transpose", "conv_upsample" or "interpolation"; "dense" for a model without
    convolutions, whose ``channels`` are (); "dcgan" (report 004's)."""
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
    channels: tuple[int, ...] = CHANNELS
    """Filters of the encoder's three convolutions, mirrored by the decoder; () has fully connected
    layers in their place. See :class:`learn2add.capacity.Capacity`, also for the next two."""
    units: int = UNITS
    """Hidden neurons between convolutions and code, on both sides."""
    dropout: float = 0.0
    """Share of these that each training step leaves out."""
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
        object.__setattr__(self, "channels", self.capacity.channels)  # JSON makes lists of tuples
        if (self.decoder == DENSE) != (not self.channels):
            raise ValueError(
                f"channels is {self.channels} and decoder {self.decoder!r}; allowed is () with "
                f"{DENSE!r}, three numbers with the others"
            )
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
        if self.embed_addend and not self.kind.adder:
            raise ValueError(f"embed_addend is True; model {self.model!r} has no adder")
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

    @property
    def capacity(self) -> Capacity:
        """The widths of the model's layers, and their dropout."""
        return Capacity(self.channels, self.units, self.dropout)

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
