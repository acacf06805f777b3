"""What reports 002 and 003 searched: many settings, the better ones trained longer (notebook 9).

A sweep goes in rounds. All settings are trained for a few epochs; the best third of them goes on,
from where it stands, to three times as many; and so on (successive halving, here into thirds). The
outcome depends on no order, so processes may share the work.

A sweep is a folder: ``plan.json``, and a run such as ``trials/0007`` per setting, with what came of
it in ``outcome.json``. What a dead process left goes on from its last epoch.

Sources: report 002, section 2; 003, section 3.1; K. Jamieson and A. Talwalkar, arXiv 1502.07943.
"""

import json
import math
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from learn2add.checkpoints import write_atomically
from learn2add.checks import check_choice, check_int
from learn2add.data import Digits, load_digits
from learn2add.hardware import default_device, keep_freed_memory
from learn2add.runs import RunError, free_first, locked, runs_root, write_result
from learn2add.studies.narrow import (
    BATCH_SIZE,
    BEST_002,
    BEST_003,
    GRID,
    LOGARITHMIC,
    RANGES,
    NarrowConfig,
    NarrowStage,
    setting_config,
)
from learn2add.tensorboard import add_hyper_parameters, rename_event_files
from learn2add.train import TrainingDiverged, load_state, train

NOTHING = "(drawn at random)"  # a parameter that decides nothing, ranked beside the others


@dataclass(frozen=True)
class Plan:
    """Settings that are each to be trained once, and what they have in common."""

    name: str  # of the sweep's folder
    settings: tuple[dict[str, float], ...]  # as setting_config takes them
    stage: NarrowStage
    rounds: tuple[int, ...] = ()  # epochs by whose end two thirds are given up, rising
    train_size: int | None = None  # digits that are learned from; None is all 50,000
    validation_size: int | None = None  # digits that measure a setting; None is all 10,000

    def __post_init__(self) -> None:
        names = {tuple(sorted(setting)) for setting in self.settings}
        if len(names) != 1:
            raise ValueError(f"settings is of {sorted(names)}; allowed is one or more of the same")
        ends = (0, *self.rounds, self.stage.epochs)
        if sorted(set(ends)) != list(ends):
            raise ValueError(f"rounds is {self.rounds}; allowed is rising below {ends[-1]}")
        for place in range(len(self.settings)):
            self.config(place)

    def config(self, place: int) -> NarrowConfig:
        """Return the configuration of the setting at a place of the list."""
        sizes = {"train_size": self.train_size, "validation_size": self.validation_size}
        return setting_config(self.settings[place], self.stage, **sizes)


ROUNDS = {"grid": (2, 6, 18, 54), "draws": (4, 12, 36, 108)}


def make_plan(name: str, *, count: int | None = None) -> Plan:
    """Return the plan "grid" or "draws".

    That is :data:`BEST_002` and ``count`` (26) settings of :data:`GRID` with its code size, or
    :data:`BEST_003` and ``count`` (30) draws. Code sizes are not compared: the largest always wins.
    """
    *rounds, last = ROUNDS[check_choice("name", name, tuple(ROUNDS))]
    generator, code_size = np.random.default_rng(0), {"code_size": BEST_003["code_size"]}
    if name == "grid":
        cells = [cell for cell in product(*GRID.values()) if cell[0] == BEST_002["code_size"]]
        count = check_int("count", 26 if count is None else count, 1, len(cells))
        drawn = generator.choice(len(cells), count, False)
        settings = [BEST_002, *(dict(zip(GRID, cells[at], strict=True)) for at in drawn)]
    else:
        settings = [BEST_003]
        for _ in range(check_int("count", 30 if count is None else count, 1, 10_000)):
            drawn = {key: generator.uniform(*ends) for key, ends in RANGES.items()}
            settings.append(code_size | drawn | {key: 10 ** drawn[key] for key in LOGARITHMIC})
    stage = NarrowStage("autoencoder", last, None, BATCH_SIZE, patience=10)
    return Plan(f"{name}-{len(settings)}", tuple(settings), stage, tuple(rounds))


class Outcome(NamedTuple):
    """What became of one setting."""

    place: int  # in the plan
    setting: dict[str, float]
    state: str  # "complete", "halted" (given up after a round) or "diverged"
    mse: float  # lowest squared error per pixel, validation; infinite where no epoch was finished
    epochs: int
    best_epoch: int
    seconds: float  # of training
    errors: list[float]  # squared, per pixel, after each epoch

    def lowest(self, epochs: int) -> float:
        """Return the lowest error of so many epochs; infinite where none was finished."""
        return min(self.errors[:epochs], default=math.inf)


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
    homes = [folder / "trials" / f"{at:04d}" for at in range(len(plan.settings))]
    left, data = list(homes), None
    for epochs in (*plan.rounds, plan.stage.epochs):
        with tqdm(total=len(left), desc=f"{epochs} epochs", disable=not progress) as bar:
            for home in free_first(left):
                data = data or [load_digits("MNIST", split) for split in ("train", "validation")]
                train_setting(plan, home, epochs, *data)
                lowest = min(outcome.mse for outcome in outcomes(folder))
                bar.set_postfix_str(f"lowest error {lowest:.4f}", refresh=False)
                bar.update(sum(reached(each, epochs) for each in left) - bar.n)
        errors = {homes[outcome.place]: outcome.lowest(epochs) for outcome in outcomes(folder)}
        left = sorted(sorted(left, key=errors.__getitem__)[: max(1, len(left) // 3)])
    for home in homes:
        (home / "last.safetensors").unlink(missing_ok=True)
    return outcomes(folder)


class Halted(Exception):
    """A training has come to the end of a round."""


def reached(home: Path, epochs: int) -> bool:
    """Return whether a setting has come so far, or will come no further."""
    file, over = home / "outcome.json", (home / "result.json").exists()  # the latter comes last
    found = json.loads(file.read_text()) if file.exists() else {"state": "halted", "epochs": 0}
    return over or (found["state"] == "halted" and found["epochs"] >= epochs)


def train_setting(plan: Plan, home: Path, epochs: int, *splits: Digits) -> None:
    """Train a setting in its folder up to an epoch, unless another process has done so.

    ``splits`` are all digits of training and of validation.
    """
    place, last, history = int(home.name), home / "last.safetensors", []
    config, state, device = plan.config(place), "complete", default_device()
    sizes = plan.train_size, plan.validation_size
    digits = [d if n is None else d.subset(n) for d, n in zip(splits, sizes, strict=True)]

    def over() -> bool:
        return epochs <= len(history) < plan.stage.epochs

    def enter(row: dict[str, Any]) -> None:
        history.append(row)
        if over():
            raise Halted

    with locked(home):
        if reached(home, epochs):
            return
        write_atomically(home / "config.json", config.to_json())
        history += load_state(last, config)[1].history if last.exists() else []
        try:
            if over():  # cut off between the epoch and its result
                raise Halted
            train(config, *digits, home, device=device, progress=False, after_epoch=enter)
        except (Halted, TrainingDiverged) as reason:
            state = "halted" if isinstance(reason, Halted) else "diverged"
        row = min(history, key=lambda row: row["rmse/validation"], default={"epoch": 0})
        if state != "complete":  # else the training has done it
            with SummaryWriter(str(home)) as writer:
                add_hyper_parameters(writer, config.flat(), row)
        rename_event_files(home)
        errors = [row["rmse/validation"] ** 2 for row in history]
        mse, seconds = min(errors, default=math.inf), sum(row["seconds"] for row in history)
        found = (place, plan.settings[place], state, mse, len(errors), row["epoch"])
        outcome = Outcome(*found, round(seconds, 2), errors)._asdict()
        write_atomically(home / "outcome.json", json.dumps(outcome) + "\n")
        if state != "halted":
            write_result(home, outcome)
            last.unlink(missing_ok=True)  # three times the weights, and no longer needed


def outcomes(folder: Path) -> list[Outcome]:
    """Return what became of the settings that are finished, in the plan's order."""
    files = sorted(folder.glob("trials/*/outcome.json"))
    found = [json.loads(file.read_text()) for file in files]
    return [Outcome(**{name: row[name] for name in Outcome._fields}) for row in found]


def importance(
    found: list[Outcome], epochs: int, *, seeds: int = 4, trees: int = 32
) -> dict[str, list[float]]:
    """Return how much of the spread of the errors' logarithm each parameter explains, by fANOVA.

    A random forest is fitted to the settings, once per seed, and its variance divided among the
    parameters and :data:`NOTHING`; the most important comes first. Every setting counts with its
    lowest error of so many epochs, those of the first round. Needs Optuna and scikit-learn.
    Source: F. Hutter et al., "An Efficient Approach for Assessing Hyperparameter Importance", 2014.
    """
    import optuna
    from optuna.distributions import FloatDistribution, IntDistribution

    measured = [outcome for outcome in found if outcome.epochs]
    if (count := len(measured)) < 10 or len({outcome.lowest(epochs) for outcome in measured}) < 2:
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
            value = math.log10(max(outcome.lowest(epochs), 1e-12))
            study.add_trial(optuna.create_trial(params=params, distributions=kinds, value=value))
        forest = optuna.importance.FanovaImportanceEvaluator(n_trees=trees, seed=seed)
        for name, share in optuna.importance.get_param_importances(study, evaluator=forest).items():
            shares[name].append(float(share))
    return dict(sorted(shares.items(), key=lambda item: -float(np.mean(item[1]))))
