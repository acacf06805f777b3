"""The narrow autoencoder of reports 002 and 003, and how they train it (notebooks 6 to 9).

Both go on from a lab of their course. Its network, as public solutions have it, has convolutions of
stride 2: a fortieth of the weights and a hundredth of the work of the assignment's. Settings bear
the reports' numbers. Their loss is a mean over the 784 pixels, ours a sum, so they are trained with
784 times their ``decay``. Neither report names its batch size; here it is 256.

Sources: report 002, sections 2 to 4; report 003, sections 3 and 4.
"""

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import torch
from torch import nn

from learn2add.checks import check_choice, check_int
from learn2add.config import LossWeights, Stage
from learn2add.data import Digits
from learn2add.losses import PIXELS
from learn2add.network import Autoencoder, Encoder, GaussianEncoder
from learn2add.recipes import MUON
from learn2add.studies.corrupted import CorruptedConfig, CorruptedStage, CorruptedStep
from learn2add.studies.mirror import MirrorDecoder, Widths

NARROW = Widths((8, 16, 32), 64)
"""As report 002 found them best."""


class NarrowEncoder(Encoder):
    """Three convolutions of stride 2, two linear layers; after all but the last ReLU and dropout.

    [1, 28, 28] -> [8, 14, 14] -> [16, 7, 7] -> [32, 3, 3] -> [64] -> code.
    """

    def __init__(self, code_size: int = 10, widths: Widths = NARROW) -> None:
        nn.Module.__init__(self)
        self.code_size, self.image_size = check_int("code_size", code_size, 1, 128), 28
        (c1, c2, c3), units, after = widths.channels, widths.units, widths.after
        self.features = nn.Sequential(
            nn.Conv2d(1, c1, 3, stride=2, padding=1), *after(),
            nn.Conv2d(c1, c2, 3, stride=2, padding=1), *after(),
            nn.Conv2d(c2, c3, 3, stride=2), *after(), nn.Flatten(),
        )  # fmt: skip
        self.hidden = nn.Sequential(nn.Linear(9 * c3, units), *after())
        self.code = nn.Linear(units, code_size)


class NarrowGaussianEncoder(GaussianEncoder, NarrowEncoder):
    """The same with a second head, for the log-variance."""


class NarrowDecoder(MirrorDecoder):
    """The encoder's mirror: code -> [64] -> [32, 3, 3] -> [16, 7, 7] -> [8, 14, 14] -> image."""

    def __init__(self, code_size: int = 10, widths: Widths = NARROW) -> None:
        super().__init__(code_size, widths)


@dataclass(frozen=True)
class NarrowStage(CorruptedStage):
    """An autoencoder's stage with early stopping and weight decay."""

    patience: int | None = None
    """End after so many epochs without a better one; None: never."""
    weight_decay: float = 0.0
    """So many times a weight is added to its gradient (Adam's L2, not AdamW's decoupled decay)."""

    RANGES: ClassVar[dict[str, tuple[float, float]]] = CorruptedStage.RANGES | {
        "patience": (1, 100_000),
        "weight_decay": (0.0, 1e38),
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.weight_decay:
            check_choice("optimiser", self.optimiser, ("adam",))

    def over(self, history: list[dict[str, Any]], best_epoch: int) -> bool:
        """Return whether the last ``patience`` epochs were no better."""
        return self.patience is not None and history[-1]["epoch"] - best_epoch >= self.patience


class NarrowStep(CorruptedStep):
    """The autoencoder's step with weight decay."""

    def optimiser(self) -> torch.optim.Optimizer:
        """Return Adam with L2 regularisation, or what has none."""
        found = super().optimiser()
        if self.stage.weight_decay:
            for group in found.param_groups:
                group["weight_decay"] = self.stage.weight_decay
        return found


@dataclass(frozen=True)
class NarrowConfig(CorruptedConfig):
    """A narrow autoencoder of any widths, with dropout; variational where the model says so."""

    channels: tuple[int, int, int] = NARROW.channels
    """Of the convolutions; the decoder mirrors them."""
    units: int = NARROW.units
    """Hidden neurons between convolutions and code, on both sides."""
    dropout: float = 0.0
    """Share of the values after each layer but the last that a training step leaves out."""
    decoder: Literal["conv_transpose"] = "conv_transpose"
    image_size: Literal[28] = 28
    activation: Literal["relu"] = "relu"

    RANGES: ClassVar[dict[str, tuple[float, float]]] = CorruptedConfig.RANGES | {
        "units": (1, 8192),
        "dropout": (0.0, 0.999),
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "channels", tuple(self.channels))  # JSON makes lists of tuples
        if len(self.channels) != 3:
            raise ValueError(f"channels is {self.channels}; allowed is three numbers")
        for width in self.channels:
            check_int("channels", width, 1, 1024)

    def build(self) -> Autoencoder:
        """Return the untrained model."""
        sizes = self.code_size, Widths(self.channels, self.units, self.dropout)
        encoder = NarrowGaussianEncoder if self.variational else NarrowEncoder
        return Autoencoder(encoder(*sizes), NarrowDecoder(*sizes))

    @classmethod
    def stage_of(cls, fields: dict[str, Any]) -> NarrowStage:
        """Return the stage with these fields."""
        return NarrowStage(**fields)

    def step(self, stage: Stage, model: nn.Module, *digits: Digits) -> NarrowStep:
        """Return what does one training step."""
        return NarrowStep(model, self, stage, *digits)


BATCH_SIZE = 256  # neither report names its own
GRID: dict[str, tuple[float, ...]] = {  # report 002's 49,152 settings
    "code_size": (2, 4, 10, 128),
    "filters1": (8, 16, 32, 64),
    "filters2": (8, 16, 32, 64),
    "filters3": (8, 16, 32, 64),
    "units": (32, 64, 128),
    "dropout": (0.0, 0.25, 0.5, 0.75),
    "learning_rate": (0.001, 0.01, 0.02, 0.1),
    "decay": (0.0, 1e-5, 1e-4, 1e-3),
}
BEST_002 = dict(zip(GRID, (10, 8, 16, 32, 64, 0.0, 0.001, 1e-5), strict=True))
LOGARITHMIC = ("learning_rate", "decay")
# Report 003 drew evenly from these, of LOGARITHMIC powers of 10, thirty times.
RANGES = {"learning_rate": (-4, -1), "decay": (-6, -2), "dropout": (0.0, 0.5)}
BEST_003 = {"code_size": 4, "learning_rate": 3.47e-4, "decay": 4.65e-6, "dropout": 0.1508}


def setting_config(setting: dict[str, float], stage: NarrowStage, **fields: Any) -> NarrowConfig:
    """Return the configuration of a setting.

    What is left out of the setting is as in :data:`BEST_002`; its learning rate and decay replace
    the stage's; ``fields`` are others of the configuration, such as ``train_size``.
    """
    for name in setting:
        check_choice("setting", name, tuple(GRID))
    code_size, *channels, units, dropout, rate, decay = (BEST_002 | setting).values()
    stage = replace(stage, learning_rate=rate, weight_decay=PIXELS * decay)
    fields |= {"code_size": code_size, "channels": channels, "units": units, "dropout": dropout}
    return NarrowConfig((stage,), **fields)


def narrow(
    code_size: int = 10,
    *,
    variational: bool = False,
    epochs: int = 30,
    seed: int = 0,
    **shown: Any,
) -> NarrowConfig:
    """Return the same network under this project's recipe, to be set beside the reports' own.

    Muon, a one-cycle rate, thirty passes. ``shown`` is what :class:`CorruptedStage` has:
    ``noise``, ``occlude``, ``distort``. If ``variational``, the loss is the negative evidence lower
    bound: cross-entropy and divergence, both of weight 1.
    """
    how, own = MUON | {"learning_rate": 1e-2, "schedule": "one_cycle"} | shown, {}
    if variational:
        how |= {"loss": "bce"}
        own = {"model": "variational_autoencoder", "weights": LossWeights(kld_encoder=1.0)}
    stage = NarrowStage("autoencoder", epochs, **how)
    return NarrowConfig((stage,), code_size=code_size, seed=seed, **own)
