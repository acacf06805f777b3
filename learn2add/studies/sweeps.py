"""What reports 002 and 003 searched: lists of settings, each trained once (notebook 9).

Settings bear the reports' numbers. Their loss is a mean over the 784 pixels, ours a sum, so they
are trained with 784 times their ``decay``. Widths are the encoder's; the decoder mirrors it.

A sweep is a folder: ``plan.json``, and a run such as ``trials/0007`` per setting, whose
``result.json`` is written last. Processes may share it: each trains what no other is training, and
what a dead one left goes on from its last epoch. Sources: report 002, section 2; 003, section 3.1.
"""

import json
import math
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn
from torch.utils.tensorboard import SummaryWriter
from tqdm.auto import tqdm

from learn2add.checkpoints import write_atomically
from learn2add.checks import check_choice, check_int
from learn2add.config import RunConfig, Stage
from learn2add.data import Digits, load_digits
from learn2add.hardware import default_device, keep_freed_memory
from learn2add.losses import PIXELS
from learn2add.network import DECODERS, Autoencoder, Encoder, GaussianEncoder
from learn2add.runs import RunError, free_first, locked, runs_root, write_result
from learn2add.steps import AutoencoderStep
from learn2add.tensorboard import add_hyper_parameters, rename_event_files
from learn2add.train import TrainingDiverged, load_state, train


@dataclass(frozen=True)
class SweepStage(Stage):
    """An autoencoder's stage with early stopping and weight decay."""

    patience: int | None = None  # end after so many epochs without a better one; None: never
    weight_decay: float = 0.0  # so many times a weight is added to its gradient

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("optimiser", self.optimiser, ("adam",))
        if self.patience is not None:
            check_int("patience", self.patience, 1)
        if not 0 <= self.weight_decay < math.inf:
            raise ValueError(f"weight_decay is {self.weight_decay}; allowed is 0 or more")

    def over(self, history: list[dict], best_epoch: int) -> bool:
        """Return whether the last ``patience`` epochs were no better."""
        return self.patience is not None and history[-1]["epoch"] - best_epoch >= self.patience


class SweepStep(AutoencoderStep):
    """The autoencoder's step with weight decay."""

    def optimiser(self) -> torch.optim.Optimizer:
        """Return Adam with L2 regularisation (not decoupled as in AdamW)."""
        adam = super().optimiser()
        for group in adam.param_groups:
            group["weight_decay"] = self.stage.weight_decay
        return adam


@dataclass(frozen=True)
class SweepConfig(RunConfig):
    """An autoencoder of any widths, with dropout."""

    channels: tuple[int, int, int] = Encoder.channels  # of the convolutions
    units: int = Encoder.units  # hidden neurons between convolutions and code, on both sides
    dropout: float = 0.0  # share of these that each training step leaves out

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "channels", tuple(self.channels))  # JSON makes lists of tuples
        if len(self.channels) != 3:
            raise ValueError(f"channels is {self.channels}; allowed is three numbers")
        for width in self.channels:
            check_int("channels", width, 1, 1024)
        check_int("units", self.units, 1, 8192)
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is {self.dropout}; allowed is from 0 to below 1")

    def build(self) -> Autoencoder:
        """Return the untrained model."""
        own = {"channels": self.channels, "units": self.units}
        encoder = type("Encoder", (GaussianEncoder if self.variational else Encoder,), own)
        decoder = type(
            "Decoder", (DECODERS[check_choice("decoder", self.decoder, [*DECODERS])],), own
        )
        e = encoder(self.code_size, self.image_size, self.activation)
        d = decoder(self.code_size, self.image_size)
        if self.dropout:
            hidden = e.hidden if isinstance(e.hidden, nn.Sequential) else [e.hidden]
            e.hidden = nn.Sequential(*hidden, nn.Dropout(self.dropout))
            d.expand.insert(2, nn.Dropout(self.dropout))
        return Autoencoder(e, d)

    @classmethod
    def stage_of(cls, fields: dict[str, Any]) -> SweepStage:
        """Return the stage with these fields."""
        return SweepStage(**fields)

    def step(self, stage: Stage, model: Autoencoder, *digits: Digits) -> SweepStep:
        """Return what does one training step."""
        return SweepStep(model, self, stage, *digits)


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
# Report 003 drew evenly from these ranges (of LOGARITHMIC: powers of 10), 30 times at code size 4.
RANGES = {"learning_rate": (-4, -1), "decay": (-6, -2), "dropout": (0.0, 0.5)}
BEST_003 = {"learning_rate": 3.47e-4, "decay": 4.65e-6, "dropout": 0.1508}

STAGES = {  # per budget: to report 002's early stopping, or some 250 steps
    "reference": SweepStage("autoencoder", 3000, patience=10),
    "quick": SweepStage("autoencoder", 5, 50, 32, patience=10),
    "smoke": SweepStage("autoencoder", 2, 3, 32, patience=10),
}
SUBSETS = {"reference": (None, 10_000), "quick": (5000, 500), "smoke": (200, 100)}
NOTHING = "(drawn at random)"  # a parameter that decides nothing, ranked beside the others


def setting_config(setting: dict[str, float], stage: SweepStage, **fields: Any) -> SweepConfig:
    """Return the configuration of a setting, with ReLU in all layers as the reports have it.

    What is left out of the setting is as in :data:`BEST_002`; its learning rate and decay replace
    the stage's; ``fields`` are others of the configuration, such as ``train_size``.
    """
    for name in setting:
        check_choice("setting", name, tuple(GRID))
    code_size, *channels, units, dropout, rate, decay = (BEST_002 | setting).values()
    stage = replace(stage, learning_rate=rate, weight_decay=PIXELS * decay)
    fields |= {"code_size": code_size, "channels": channels, "units": units, "dropout": dropout}
    return SweepConfig((stage,), activation="relu", **fields)


@dataclass(frozen=True)
class Plan:
    """Settings that are each to be trained once, and what they have in common."""

    name: str  # of the sweep's folder
    settings: tuple[dict[str, float], ...]  # as setting_config takes them
    stage: SweepStage = STAGES["quick"]
    train_size: int | None = 5000  # digits that are learned from; None is all 50,000
    validation_size: int = 500  # digits that measure a setting
    prune: bool = False  # whether a training that falls behind is given up

    def __post_init__(self) -> None:
        names = {tuple(sorted(setting)) for setting in self.settings}
        if len(names) != 1:
            raise ValueError(f"settings is of {sorted(names)}; allowed is one or more of the same")
        for place in range(len(self.settings)):
            self.config(place)

    def config(self, place: int) -> SweepConfig:
        """Return the configuration of the setting at a place of the list."""
        sizes = {"train_size": self.train_size, "validation_size": self.validation_size}
        return setting_config(self.settings[place], self.stage, **sizes)


def make_plan(name: str, *, budget: str = "quick", count: int | None = None) -> Plan:
    """Return the plan "grid", "star" or "draws" under a budget.

    That is ``count`` (24) settings of :data:`GRID`; :data:`BEST_002` and all that differ from it in
    one parameter; :data:`BEST_003`, then ``count`` (30) draws. Only draws are given up when they
    fall behind: on the grid no setting of the smallest code size would ever come to its end.
    """
    counts, cells = {"grid": 24, "star": None, "draws": 30}, list(product(*GRID.values()))
    count = counts[check_choice("name", name, tuple(counts))] if count is None else count
    if name == "star" and count is not None:
        raise ValueError(f"count is {count}; allowed is None where the plan is 'star'")
    check_choice("budget", budget, tuple(STAGES))
    generator = np.random.default_rng(0)
    if name == "star":
        changes = [{key: value} for key, values in GRID.items() for value in values]
        settings = [BEST_002, *(BEST_002 | one for one in changes if BEST_002 != BEST_002 | one)]
    elif name == "grid":
        drawn = generator.choice(len(cells), check_int("count", count, 1, len(cells)), False)
        settings = [dict(zip(GRID, cells[at], strict=True)) for at in drawn]
    else:
        settings = [BEST_003]
        for _ in range(check_int("count", count, 1, 10_000)):
            drawn = {key: generator.uniform(*ends) for key, ends in RANGES.items()}
            settings.append(drawn | {key: 10 ** drawn[key] for key in LOGARITHMIC})
        settings = [{"code_size": 4} | setting for setting in settings]
    title, how = f"{name}-{budget}-{len(settings)}", (STAGES[budget], *SUBSETS[budget])
    return Plan(title, tuple(settings), *how, prune=name == "draws")


class Outcome(NamedTuple):
    """What became of one setting."""

    place: int  # in the plan
    setting: dict[str, float]
    state: str  # "complete", "pruned" (given up) or "diverged"
    mse: float  # lowest squared error per pixel, validation; infinite where no epoch was finished
    epochs: int
    best_epoch: int
    seconds: float  # of training
    errors: list[float]  # squared, per pixel, after each epoch


def search(plan: Plan, folder: Path | None = None, *, progress: bool = True) -> list[Outcome]:
    """Train what is left of a plan, beside other processes that do so too; wait for all of it.

    The folder is ``studies/NAME`` where runs are written, unless told. Raises a RunError that names
    the fields if it holds the sweep of another plan.
    """
    folder = folder or runs_root() / "studies" / plan.name
    file, text = folder / "plan.json", json.dumps(asdict(plan), indent=1) + "\n"
    if not file.exists():
        write_atomically(file, text)
    mine, kept = json.loads(text), json.loads(file.read_text())
    if differing := sorted(name for name in mine | kept if mine.get(name) != kept.get(name)):
        raise RunError(f"{folder} holds the sweep of another plan ({', '.join(differing)} differ)")
    keep_freed_memory()
    homes, data = [folder / "trials" / f"{at:04d}" for at in range(len(plan.settings))], None
    with tqdm(total=len(homes), unit=" settings", disable=not progress) as bar:
        for home in free_first(homes):
            data = data or [load_digits("MNIST", split) for split in ("train", "validation")]
            train_setting(plan, home, *data)
            found = outcomes(folder)
            bar.set_postfix_str(f"lowest error {best(found).mse:.4f}", refresh=False)
            bar.update(len(found) - bar.n)
    return outcomes(folder)


class Pruned(Exception):
    """A training has fallen behind and is given up."""


def train_setting(plan: Plan, home: Path, train_digits: Digits, validation: Digits) -> None:
    """Train a setting in its folder, or go on, unless another process has finished it."""
    place, last, history, errors = int(home.name), home / "last.safetensors", [], []
    config, state, device = plan.config(place), "complete", default_device()
    if plan.train_size is not None:
        train_digits = train_digits.subset(plan.train_size)
    digits = (train_digits, validation.subset(plan.validation_size))

    def enter(row: dict[str, Any]) -> None:
        history.append(row)
        errors.append(row["rmse/validation"] ** 2)
        if plan.prune and behind(errors, outcomes(home.parents[1])):
            raise Pruned

    with locked(home):
        if (home / "result.json").exists():
            return
        write_atomically(home / "config.json", config.to_json())
        try:
            for row in load_state(last, config)[1].history if last.exists() else ():
                enter(row)
            train(config, *digits, home, device=device, progress=False, after_epoch=enter)
        except (Pruned, TrainingDiverged) as reason:
            state = "pruned" if isinstance(reason, Pruned) else "diverged"
        row = min(history, key=lambda row: row["rmse/validation"], default={"epoch": 0})
        if state != "complete":  # else the training has done it
            with SummaryWriter(str(home)) as writer:
                add_hyper_parameters(writer, config.flat(), row)
            rename_event_files(home)
        mse, seconds = min(errors, default=math.inf), sum(row["seconds"] for row in history)
        found = (place, plan.settings[place], state, mse, len(errors), row["epoch"])
        outcome = Outcome(*found, round(seconds, 2), errors)
        write_result(home, outcome._asdict())
        last.unlink(missing_ok=True)  # three times the weights, and no longer needed


def behind(errors: list[float], others: list[Outcome]) -> bool:
    """Return whether the best so far is above the median of five or more complete ones, by now.

    The rule of Optuna's ``MedianPruner``; ``errors`` are those of the epochs until now.
    """
    complete = [other.errors for other in others if other.state == "complete"]
    by_now = [other[len(errors) - 1] for other in complete if len(other) >= len(errors)]
    return len(complete) >= 5 and len(by_now) > 0 and min(errors) > float(np.median(by_now))


def outcomes(folder: Path) -> list[Outcome]:
    """Return what became of the settings that are finished, in the plan's order."""
    files = sorted(folder.glob("trials/*/result.json"))
    found = [json.loads(file.read_text()) for file in files]
    return [Outcome(**{name: row[name] for name in Outcome._fields}) for row in found]


def best(found: list[Outcome]) -> Outcome:
    """Return the outcome of the lowest error."""
    return min(found, key=lambda outcome: outcome.mse)


def importance(found: list[Outcome], *, seeds: int = 4, trees: int = 32) -> dict[str, list[float]]:
    """Return how much of the spread of the errors' logarithm each parameter explains, by fANOVA.

    A random forest is fitted to the settings, once per seed, and its variance divided among the
    parameters and :data:`NOTHING`; the most important comes first. A setting that was given up
    counts with its lowest error. Needs Optuna and scikit-learn.
    Source: F. Hutter et al., "An Efficient Approach for Assessing Hyperparameter Importance", 2014.
    """
    import optuna
    from optuna.distributions import FloatDistribution, IntDistribution

    measured = [outcome for outcome in found if outcome.epochs]
    if (count := len(measured)) < 10 or len({outcome.mse for outcome in measured}) < 2:
        raise ValueError(f"found is {count} with an error; allowed is 10 or more, not all the same")
    columns, kinds = {}, {}
    for name in measured[0].setting:
        values = [outcome.setting[name] for outcome in measured]
        low, high, levels = min(values), max(values), sorted(set(values))
        if len(levels) > 8:
            columns[name] = values
            kinds[name] = FloatDistribution(low, high, log=name in LOGARITHMIC and low > 0)
        elif len(levels) > 1:  # few different values are numbered in their order
            columns[name] = [levels.index(value) for value in values]
            kinds[name] = IntDistribution(0, len(levels) - 1)
    kinds[NOTHING] = FloatDistribution(0, 1)
    shares: dict[str, list[float]] = {name: [] for name in kinds}
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    for seed in range(seeds):
        columns[NOTHING] = np.random.default_rng(seed).random(count).tolist()
        study = optuna.create_study()
        for outcome, *row in zip(measured, *columns.values(), strict=True):
            params = dict(zip(columns, row, strict=True))
            value = math.log10(max(outcome.mse, 1e-12))
            study.add_trial(optuna.create_trial(params=params, distributions=kinds, value=value))
        forest = optuna.importance.FanovaImportanceEvaluator(n_trees=trees, seed=seed)
        for name, share in optuna.importance.get_param_importances(study, evaluator=forest).items():
            shares[name].append(float(share))
    return dict(sorted(shares.items(), key=lambda item: -float(np.mean(item[1]))))
