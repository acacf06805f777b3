"""A plan as an Optuna study that several processes share and that survives a kill.

A study is a folder: ``plan.json``; ``journal.log``, Optuna's; ``trials/0007/``, a run's folder for
each place of the plan; ``places/``, a lock for each place. A process holds the lock of the place it
trains, and the system takes it back when the process dies. So a trial that is "running" while its
place is free was left by a dead process: it is entered as failed, and the place is queued again,
where training goes on from the last epoch. A place that is finished is never queued again.

A process killed while it writes to the journal holds the others up for half a minute; then they
take over (Optuna's grace period).

Source: T. Akiba et al., arXiv 1907.10902.
"""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import filelock

from learn2add.checkpoints import write_atomically
from learn2add.plans import Plan
from learn2add.runs import RunError, is_held, locked

if TYPE_CHECKING:
    import optuna


def keep_study(plan: Plan, folder: Path) -> None:
    """Make the folder a study of this plan, or see that it is one."""
    file = folder / "plan.json"
    with study_lock(folder):
        if not file.exists():
            write_atomically(file, plan.to_json())
        mine, kept = json.loads(plan.to_json()), json.loads(file.read_text())
    differing = sorted(name for name in mine | kept if mine.get(name) != kept.get(name))
    if differing:
        raise RunError(
            f"{folder} holds the study of another plan ({', '.join(differing)} differ). "
            "Choose another folder, or delete this one."
        )


@contextlib.contextmanager
def study_lock(folder: Path) -> Iterator[None]:
    """One process at a time looks at the places and takes one; an OSError names the folder."""
    with locked(folder):
        (folder / "places").mkdir(exist_ok=True)
        yield


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Optuna's warnings alone inside, the caller's setting again outside."""
    import optuna

    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(verbosity)


def open_study(plan: Plan, folder: Path) -> "optuna.Study":
    """The study kept in a folder's journal, or a new one; its trials minimise the error."""
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    return optuna.create_study(
        storage=JournalStorage(JournalFileBackend(str(folder / "journal.log"))),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=1),
        study_name=plan.name,
        direction="minimize",
        load_if_exists=True,
    )


Claim = tuple[int, "optuna.Trial | None", filelock.BaseFileLock | None]


def claim(study: "optuna.Study", plan: Plan, folder: Path) -> Claim:
    """Queue every place that nobody finished, trains or queued, then take the first in the queue.

    Returns:
        The place, its trial and its lock, held; -1 and None where nothing is left in the queue.
    """
    from optuna.trial import TrialState

    with study_lock(folder):
        alive: dict[int, bool] = {}
        for trial in study.get_trials(deepcopy=False):
            place = trial.user_attrs["place"]
            if trial.state == TrialState.RUNNING and not is_held(lock_file(folder, place)):
                study.tell(trial.number, state=TrialState.FAIL)  # its process is dead
            elif trial.state != TrialState.FAIL or "outcome" in trial.user_attrs:
                alive[place] = alive.get(place, False) or trial.state == TrialState.WAITING
        for place, setting in enumerate(plan.settings):
            if place not in alive:
                study.enqueue_trial(setting, user_attrs={"place": place})
                alive[place] = True
        if not any(alive.values()):
            return -1, None, None
        taken = study.ask(fixed_distributions=distributions(plan))
        place = taken.user_attrs["place"]
        lock = filelock.FileLock(lock_file(folder, place))
        lock.acquire()
        return place, taken, lock


def lock_file(folder: Path, place: int) -> Path:
    """Of the lock that whoever trains a place holds."""
    return folder / "places" / f"{place:04d}.lock"


def distributions(plan: Plan) -> dict[str, Any]:
    """Optuna's description of each parameter: the values that the plan has."""
    from optuna.distributions import CategoricalDistribution

    return {
        name: CategoricalDistribution(sorted({setting[name] for setting in plan.settings}))
        for name in plan.settings[0]
    }
