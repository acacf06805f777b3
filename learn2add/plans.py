"""What reports 002 and 003 searched, as fixed lists of settings.

The settings bear the reports' numbers. Their loss is a mean over pixels, ours a sum over 784 of
them; so the configuration of a setting has 784 times its ``decay`` (Adam divides gradients by their
size, so the learning rate stays). Widths are those of the encoder; the decoder mirrors it.

Sources: report 002, section 2; report 003, section 3.1.
"""

import json
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from learn2add.checks import check_choice, check_int
from learn2add.configs import RunConfig, Stage
from learn2add.objectives import PIXELS

GRID: dict[str, tuple[float, ...]] = {
    "code_size": (2, 4, 10, 128),
    "filters1": (8, 16, 32, 64),
    "filters2": (8, 16, 32, 64),
    "filters3": (8, 16, 32, 64),
    "units": (32, 64, 128),
    "dropout": (0.0, 0.25, 0.5, 0.75),
    "learning_rate": (0.001, 0.01, 0.02, 0.1),
    "decay": (0.0, 1e-5, 1e-4, 1e-3),
}
"""Report 002's: 49,152 settings."""
BEST_002: dict[str, float] = {
    "code_size": 10,
    "filters1": 8,
    "filters2": 16,
    "filters3": 32,
    "units": 64,
    "dropout": 0.0,
    "learning_rate": 0.001,
    "decay": 1e-5,
}
"""What came out best there."""
RANGES = {"learning_rate": (1e-4, 1e-1), "decay": (1e-6, 1e-2), "dropout": (0.0, 0.5)}
"""Report 003's: drawn evenly, rate and decay in their logarithms."""
LOGARITHMIC = ("learning_rate", "decay")
BEST_003 = {"learning_rate": 3.47e-4, "decay": 4.65e-6, "dropout": 0.1508}
"""What came out best there, of 30 draws at code size 4."""

STAGES = {
    "reference": Stage("autoencoder", 3000, patience=10),
    "quick": Stage("autoencoder", 5, 50, 32, patience=10),
    "smoke": Stage("autoencoder", 2, 3, 32, patience=10),
}
"""How long a setting is trained: to report 002's early stopping, or some 250 steps."""
SUBSETS = {"reference": (None, 10_000), "quick": (5000, 500), "smoke": (200, 100)}
"""How many digits are learned from (None: all), and how many measure it."""


@dataclass(frozen=True)
class Plan:
    """Settings that are each to be trained once, and what they have in common.

    Raises:
        ValueError: No settings, the same one twice, or one that no model can have.
    """

    name: str
    """The study's."""
    settings: tuple[dict[str, float], ...]
    """Each with the same parameters, names as in :data:`GRID`; those left out are as in
    :data:`BEST_002`."""
    stage: Stage = STAGES["quick"]
    """The training; learning rate and weight decay are the settings'."""
    train_size: int | None = 5000
    """Digits that are learned from; None is all 50,000."""
    validation_size: int = 500
    """Validation digits that measure a setting."""
    prune: bool = False
    """Whether a training is given up when it is behind the median of those before it."""
    seed: int = 0
    """Of every training."""

    def __post_init__(self) -> None:
        check_int("validation_size", self.validation_size, 10, 10_000)
        names = {tuple(sorted(setting)) for setting in self.settings}
        if len(names) != 1 or not set(*names) <= set(GRID):
            raise ValueError(
                f"settings have the parameters {sorted(names)}; allowed are one or more settings, "
                f"all with the same of {', '.join(GRID)}"
            )
        if len({tuple(sorted(setting.items())) for setting in self.settings}) < len(self.settings):
            raise ValueError("settings hold one twice; allowed is each once")
        for place in range(len(self.settings)):
            self.config(place)

    def config(self, place: int) -> RunConfig:
        """The training of the setting at a place of the list."""
        return setting_config(
            self.settings[place], self.stage, train_size=self.train_size, seed=self.seed
        )

    def to_json(self) -> str:
        """The plan as readable JSON."""
        return json.dumps(asdict(self), indent=1) + "\n"


def setting_config(
    setting: dict[str, float], stage: Stage, *, train_size: int | None = None, seed: int = 0
) -> RunConfig:
    """The configuration of a setting in the reports' numbers, with ReLU in all layers as they have.

    Args:
        setting: By the names of :data:`GRID`; what is left out is as in :data:`BEST_002`.
        stage: The training; its learning rate and weight decay are replaced by the setting's.
        train_size: Digits that are learned from; None is all.
        seed: Decides initial weights, order of the data and dropout.

    Raises:
        ValueError: A value is not allowed.
        TypeError: A width is no integer.
    """
    for name in setting:
        check_choice("setting", name, tuple(GRID))
    values: dict[str, Any] = BEST_002 | setting
    stage = replace(
        stage, learning_rate=values["learning_rate"], weight_decay=PIXELS * values["decay"]
    )
    return RunConfig(
        (stage,),
        code_size=values["code_size"],
        train_size=train_size,
        hidden="relu",
        channels=(values["filters1"], values["filters2"], values["filters3"]),
        units=values["units"],
        dropout=values["dropout"],
        seed=seed,
    )


def grid(count: int, seed: int = 0) -> tuple[dict[str, float], ...]:
    """So many different settings of report 002's grid, drawn at random.

    Args:
        count: 1 to 49,152.
        seed: Decides which.
    """
    sizes = [len(values) for values in GRID.values()]
    total = int(np.prod(sizes))
    check_int("count", count, 1, total)
    cells = np.random.default_rng(seed).choice(total, count, replace=False)
    rows = zip(*np.unravel_index(cells, sizes), strict=True)
    return tuple(
        {name: values[at] for (name, values), at in zip(GRID.items(), row, strict=True)}
        for row in rows
    )


def star() -> tuple[dict[str, float], ...]:
    """Report 002's best setting, then every other that differs from it in one parameter."""
    others = (
        BEST_002 | {name: value}
        for name, values in GRID.items()
        for value in values
        if value != BEST_002[name]
    )
    return (BEST_002, *others)


def draws(count: int = 30, seed: int = 0) -> tuple[dict[str, float], ...]:
    """Report 003's random search at code size 4: its own best setting, then ``count`` draws.

    Args:
        count: 30 in the report.
        seed: Decides them; fewer draws are the beginning of more.
    """
    check_int("count", count, 1, 10_000)
    generator = np.random.default_rng(seed)
    found = [BEST_003]
    for _ in range(count):
        drawn = {}
        for name, (low, high) in RANGES.items():
            if name in LOGARITHMIC:
                drawn[name] = float(10 ** generator.uniform(np.log10(low), np.log10(high)))
            else:
                drawn[name] = float(generator.uniform(low, high))
        found.append(drawn)
    return tuple({"code_size": 4} | setting for setting in found)


def make_plan(name: str, *, budget: str = "quick", count: int | None = None) -> Plan:
    """The plan "grid" (24 settings unless told), "star" or "draws" (of 30) under a budget.

    Draws are given up when they fall behind. The grid is not: its code sizes would be compared with
    one another, and no setting of the smallest would ever come to its end.

    Raises:
        ValueError: Another plan or budget, or a count for "star".
    """
    check_choice("plan", name, ("grid", "star", "draws"))
    stage = STAGES[check_choice("budget", budget, tuple(STAGES))]
    if name == "star" and count is not None:
        raise ValueError(f"count is {count}; the plan 'star' has all its settings, or none")
    settings = {"grid": lambda: grid(24 if count is None else count), "star": star}
    settings["draws"] = lambda: draws(30 if count is None else count)
    train_size, validation_size = SUBSETS[budget]
    return Plan(
        name,
        settings[name](),
        stage,
        train_size=train_size,
        validation_size=validation_size,
        prune=name == "draws",
    )
