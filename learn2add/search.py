"""Loss weights found by search instead of by hand.

The report found its weights by trying sixteen; each trial here is one short training, and one that
falls behind the others half-way is given up. Optuna chooses what to try next and keeps the study in
a journal, so a search that was stopped goes on where it was and several processes can share one.

Source: report, section 5.2; T. Akiba et al., arXiv 1907.10902.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from learn2add.checks import check_int
from learn2add.collapse import examine
from learn2add.data import load_digits
from learn2add.hardware import default_device, keep_freed_memory
from learn2add.judge import load_judge
from learn2add.runs import Run
from learn2add.studies import quiet
from learn2add.training import TrainingDiverged, train
from learn2add.weightings import STEPS, Weighting, weighting_config

if TYPE_CHECKING:
    import optuna

RANGES = {
    "l2_orig": (0.05, 2.0),
    "l2_added": (0.05, 2.0),
    "kld_encoder": (1e-6, 1e-3),
    "kld_adder": (1e-6, 1e-3),
}
"""Of each weight, in the report's scale; tried evenly in their logarithms. They hold all of its
Table 1."""
PER_DIGIT = 40


def open_study(journal: Path, seed: int = 0) -> "optuna.Study":
    """The study kept in a journal file, or a new one.

    Raises:
        ImportError: Optuna is not installed (``pip install "learn2add[search]"``).
        OSError: The journal cannot be written.
    """
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    journal.parent.mkdir(parents=True, exist_ok=True)
    study = optuna.create_study(
        storage=JournalStorage(JournalFileBackend(str(journal))),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=3),
        study_name="weights",
        direction="maximize",
        load_if_exists=True,
    )
    # A sampler begins its random numbers anew: with the same seed it would try the same again.
    study.sampler = optuna.samplers.TPESampler(seed=seed + len(study.trials), n_startup_trials=6)
    return study


def search_weights(
    journal: Path, trials: int, *, steps: int = STEPS, seed: int = 0, progress: bool = True
) -> "optuna.Study":
    """Search the four weights of the report's objective for the most right sums.

    Args:
        journal: File of the study; an existing one is continued.
        trials: How many trials it is to hold in the end, those given up included.
        steps: Length of one training.
        seed: Decides what is tried and every training.
        progress: Whether to show a progress bar.

    Returns:
        The study; ``study.best_params`` are the weights, ``study.best_value`` the share of right
        sums of validation digits.
    """
    check_int("trials", trials, 1)
    with quiet():
        study = open_study(journal, seed)
        over = [trial for trial in study.trials if trial.state.is_finished()]
        study.optimize(
            _objective(steps, seed),
            n_trials=max(0, trials - len(over)),
            catch=TrainingDiverged,
            show_progress_bar=progress,
        )
    return study


def _objective(steps: int, seed: int) -> Callable[["optuna.Trial"], float]:
    """One training with the weights of a trial: its share of right sums."""
    import optuna

    keep_freed_memory()
    device = default_device()
    digits, validation = (load_digits("MNIST", split) for split in ("train", "validation"))
    judge = load_judge(device=device)

    def objective(trial: "optuna.Trial") -> float:
        weights = {
            name: trial.suggest_float(name, *ends, log=True) for name, ends in RANGES.items()
        }
        config = weighting_config(Weighting(**weights, verdict=""), steps=steps, seed=seed)

        def report(row: dict[str, Any]) -> None:
            trial.report(row["sums/right"], row["epoch"])
            if trial.should_prune():
                raise optuna.TrialPruned

        with tempfile.TemporaryDirectory() as folder:
            state = train(
                config,
                digits,
                validation,
                Path(folder),
                device=device,
                progress=False,
                after_epoch=report,
            )
            run = Run(Path(folder), config, state.history, {})
            health = examine(run.model(device), judge, validation.to(device), PER_DIGIT)
        trial.set_user_attr("digits", health.drawn)
        trial.set_user_attr("active", health.active)
        return health.right

    return objective
