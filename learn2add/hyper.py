"""The settings of a plan, each trained once by the one training loop, and what became of them."""

import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from tqdm.auto import tqdm

from learn2add.checkpoints import write_atomically
from learn2add.data import Digits, load_digits
from learn2add.hardware import default_device, keep_freed_memory
from learn2add.plans import Plan
from learn2add.runs import runs_root
from learn2add.studies import claim, keep_study, open_study, quiet
from learn2add.tracking import write_hyper_parameters
from learn2add.training import TrainingDiverged, load_state, train

if TYPE_CHECKING:
    import optuna

POLL_SECONDS = 0.5


class Outcome(NamedTuple):
    """What became of one setting."""

    place: int
    """In the plan."""
    setting: dict[str, float]
    state: str
    """"complete", "pruned" (given up) or "diverged"."""
    mse: float
    """Lowest squared error per pixel of validation digits; NaN where no epoch was finished."""
    epochs: int
    """Finished."""
    best_epoch: int
    seconds: float
    """Of training."""


def search(
    plan: Plan,
    folder: str | Path,
    *,
    device: torch.device | str | None = None,
    progress: bool = True,
) -> list[Outcome]:
    """Train what is left of a plan, beside other processes that do the same; wait for all of it.

    Args:
        plan: What is to be trained.
        folder: The study's; several processes, or machines that see it, may be given the same.
        device: Where to train; the default is the first CUDA device, else the CPU.
        progress: Whether to show a progress bar.

    Returns:
        One outcome per setting, in the plan's order.

    Raises:
        ImportError: Optuna is not installed (``pip install "learn2add[search]"``).
        RunError: The folder holds the study of another plan; the fields are named.
        OSError: The folder cannot be written.
    """
    folder, device = Path(folder), torch.device(device or default_device())
    keep_study(plan, folder)
    keep_freed_memory()
    with quiet():
        study = open_study(plan, folder)
        data: tuple[Digits, Digits] | None = None
        with tqdm(total=len(plan.settings), unit=" settings", disable=not progress) as bar:
            while True:
                place, trial, lock = claim(study, plan, folder)
                found = outcomes(study)
                show(bar, found)
                if trial is not None and lock is not None:
                    try:
                        data = data or digits_of(plan, device)
                        run_trial(study, trial, place, plan, folder, data, device)
                    finally:
                        lock.release()
                elif len(found) == len(plan.settings):
                    return found
                else:  # the rest is being trained elsewhere
                    time.sleep(POLL_SECONDS)


def search_in_place(plan: Plan, budget: str, *, progress: bool = True) -> list[Outcome]:
    """Load, finish or train a plan's study in its place, ``runs/studies/PLAN-BUDGET-SETTINGS``."""
    name = f"{plan.name}-{budget}-{len(plan.settings)}"
    return search(plan, runs_root() / "studies" / name, progress=progress)


def digits_of(plan: Plan, device: torch.device) -> tuple[Digits, Digits]:
    """The digits that a plan learns from, and those that measure it."""
    learned, measured = (load_digits("MNIST", split) for split in ("train", "validation"))
    if plan.train_size is not None:
        learned = learned.subset(plan.train_size)
    return learned.to(device), measured.subset(plan.validation_size).to(device)


def run_trial(
    study: "optuna.Study",
    trial: "optuna.Trial",
    place: int,
    plan: Plan,
    folder: Path,
    data: tuple[Digits, Digits],
    device: torch.device,
) -> None:
    """Train one place, from where an earlier process left it, and enter what became of it."""
    import optuna
    from optuna.trial import TrialState

    config, home = plan.config(place), folder / "trials" / f"{place:04d}"
    write_atomically(home / "config.json", config.to_json())
    last = home / "last.safetensors"

    def report(row: dict[str, Any]) -> None:
        trial.report(row["rmse/validation"] ** 2, row["epoch"])
        if plan.prune and trial.should_prune():
            raise optuna.TrialPruned

    state = TrialState.COMPLETE
    try:
        for row in load_state(last)[1].history if last.exists() else ():
            report(row)
        train(config, *data, home, device=device, progress=False, after_epoch=report)
    except optuna.TrialPruned:
        state = TrialState.PRUNED
    except TrainingDiverged:
        state = TrialState.FAIL
    history = load_state(last)[1].history if last.exists() else []
    best = min(history, key=lambda row: row["rmse/validation"], default=None)
    if state != TrialState.COMPLETE:  # else the training has done it
        write_hyper_parameters(home, config.flat(), best or {})
    outcome = {
        "mse": best["rmse/validation"] ** 2 if best else None,
        "epochs": len(history),
        "best_epoch": best["epoch"] if best else 0,
        "seconds": round(sum(row["seconds"] for row in history), 2),
    }
    trial.set_user_attr("outcome", outcome)
    value = outcome["mse"] if state == TrialState.COMPLETE else None
    study.tell(trial, value, state)
    last.unlink(missing_ok=True)  # three times the weights, and no longer needed


def outcomes(study: "optuna.Study") -> list[Outcome]:
    """What became of the settings that are finished, in the plan's order."""
    names = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "diverged"}
    found = []
    for trial in study.get_trials(deepcopy=False):
        outcome = trial.user_attrs.get("outcome")
        if outcome is not None and trial.state.is_finished():
            mse = math.nan if outcome["mse"] is None else outcome["mse"]
            rest = (outcome["epochs"], outcome["best_epoch"], outcome["seconds"])
            place, state = trial.user_attrs["place"], names[trial.state.name]
            found.append(Outcome(place, dict(trial.params), state, mse, *rest))
    return sorted(found)


def show(bar: tqdm, found: list[Outcome]) -> None:
    """Move the bar to what is finished, here or elsewhere."""
    bar.n = len(found)
    errors = [outcome.mse for outcome in found if not math.isnan(outcome.mse)]
    if errors:
        bar.set_postfix_str(f"lowest error {min(errors):.4f}", refresh=False)
    bar.refresh()


def best(found: list[Outcome]) -> Outcome:
    """The outcome of the lowest error.

    Raises:
        ValueError: None has an error.
    """
    measured = [outcome for outcome in found if not math.isnan(outcome.mse)]
    if not measured:
        raise ValueError("found holds no outcome with an error; allowed are one or more")
    return min(measured, key=lambda outcome: outcome.mse)
