"""A run is a folder: its configuration, its curves, its weights. It is loaded or trained.

``config.json`` what was asked for; ``metrics.csv`` and an event file the curves;
``weights.safetensors`` the best epoch; ``last.safetensors`` all that is needed to go on;
``result.json``, written last, says that the run is complete, how long it took and on what.
"""

import contextlib
import csv
import dataclasses
import difflib
import errno
import hashlib
import json
import os
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import filelock
import torch
from torch import nn

from learn2add.checkpoints import (
    CheckpointError,
    load_weights,
    remove_half_written,
    write_atomically,
)
from learn2add.config import RunConfig
from learn2add.data import Digits, load_digits
from learn2add.hardware import default_device, describe, keep_freed_memory
from learn2add.tensorboard import read_metrics
from learn2add.train import build_model, train


class RunError(RuntimeError):
    """A run's folder does not hold what was asked for."""


@dataclass(frozen=True)
class Run:
    """A complete run; ``history`` has one row of results per epoch.

    ``result`` has ``best_epoch``, ``seconds`` (of training alone), ``device``, ``threads`` and
    ``torch``; also ``same_as``, the run beside it that this one copies, where there is one.
    """

    folder: Path
    config: RunConfig
    history: list[dict[str, Any]]
    result: dict[str, Any]

    def model(self, device: torch.device | str | None = None) -> nn.Module:
        """Return the trained model (best epoch on validation), in evaluation mode."""
        keep_freed_memory()
        model = build_model(self.config)
        file = self.folder / "weights.safetensors"
        if "same_as" in self.result and not file.exists():  # kept once for both
            file = self.folder.with_name(self.result["same_as"]) / file.name
        load_weights(file, model)
        device = device or default_device()
        return model.to(device, memory_format=torch.channels_last).eval().requires_grad_(False)

    def evaluation(self) -> dict[str, Any] | None:
        """Return what :func:`learn2add.evidence.evaluate` found on the test digits, if kept."""
        file = self.folder / "evaluation.json"
        return json.loads(file.read_text()) if file.exists() else None

    def curve(self, name: str) -> dict[str, list[float]]:
        """Return "loss", "rmse" or "sum_rmse" over the epochs: ``epoch, train, validation``."""
        rows = [row for row in self.history if f"{name}/train" in row]
        picked = {
            split: [row[f"{name}/{split}"] for row in rows] for split in ("train", "validation")
        }
        return {"epoch": [row["epoch"] for row in rows]} | picked


def runs_root() -> Path:
    """Return where runs are written: ``LEARN2ADD_RUNS``, else the checkout's or ``./runs``."""
    if chosen := os.environ.get("LEARN2ADD_RUNS"):
        return Path(chosen).expanduser()
    return _checkout_runs() or Path.cwd() / "runs"


def kept_file(name: str) -> Path | None:
    """Return a file that came with the project, such as "part4/seeds/seeds.json", or None.

    A checkout has them under ``runs/``, an installed package in its own folder.
    """
    installed = Path(__file__).parent / "kept_runs"
    for root in (_checkout_runs(), installed):
        if root is not None and (root / name).exists():
            return root / name
    return None


def _checkout_runs() -> Path | None:
    root = Path(__file__).parents[1]
    return root / "runs" if (root / "pyproject.toml").exists() else None


def load(run: str | Path) -> Run:
    """Load a complete run by its folder, or by its name, such as "part3/quick".

    Names are looked up under :func:`runs_root`, then among the runs that came with the project.

    Raises:
        RunError: There is no complete run; those that there are are listed.
        CheckpointError: Its configuration, curves or result are damaged.
    """
    for folder in (Path(run), runs_root() / run):
        if any((folder / name).exists() for name in ("config.json", "result.json")):
            return _read(folder)
    if kept := kept_file(f"{run}/config.json"):
        return _read(kept.parent)
    root, own = runs_root(), kept_file("part3")
    names = {
        file.parent.relative_to(place).as_posix()
        for place in {root, own.parent if own else root}
        for file in place.rglob("result.json")
    }
    near = difflib.get_close_matches(str(run), names, 1)
    known = ", ".join(sorted(names)) or "none; `learn2add train part3` makes one"
    meant = f"{near[0]!r} is near; " if near else ""
    raise RunError(
        f"run is {str(run)[:500]!r}; {meant}allowed is a run's folder or a name under {root} or of "
        f"a run that came with the project: {known}"
    )


def _read(folder: Path) -> Run:
    config = _read_config(folder)
    if not (folder / "result.json").exists():
        raise RunError(f"{folder} is an unfinished run; train it again to finish it")
    try:
        file = folder / "result.json"
        result = json.loads(file.read_text())
        best = result["best_epoch"]
        file = folder / "metrics.csv"
        history = read_metrics(file)
        if not 1 <= best <= len(history):
            raise ValueError(f"the best epoch, {best}, is missing")
        if result.pop("sha256", None) != _checksum(folder, result):
            raise ValueError("or config.json or result.json is: their checksum is wrong")
    except (OSError, ValueError, KeyError, TypeError, RecursionError, csv.Error) as error:
        raise CheckpointError(
            f"{file} is damaged ({error}); delete the folder to train again"
        ) from error
    return Run(folder, config, history, result)


def kept(config: RunConfig, name: str) -> Run | None:
    """Return the run that came with the project, if it differs in nothing but precision."""
    file = kept_file(f"{name}/result.json")
    run = _read(file.parent) if file else None
    return run if run and _same(run.config, config) else None


def _same(one: RunConfig, other: RunConfig) -> bool:
    return one == dataclasses.replace(other, precision=one.precision)


def load_or_train(
    config: RunConfig,
    folder: str | Path,
    *,
    device: torch.device | str | None = None,
    progress: bool = True,
) -> Run:
    """Return the run in ``folder``: loaded if complete, resumed if cut off, trained if not there.

    Two processes asking for the same folder do not train it twice; the second waits. A string is a
    name under :func:`runs_root`; a run of that name and configuration that came with the project is
    loaded. The default device is the first CUDA device, else the CPU.

    Raises:
        RunError: The folder holds a run of another configuration; the fields are named.
        TrainingDiverged: The loss became NaN or infinite.
        CheckpointError: A file of the run is damaged.
    """
    if isinstance(folder, str):
        if run := kept(config, folder):
            return run
        folder = runs_root() / folder
    if (folder / "config.json").exists() or (folder / "result.json").exists():
        _check_config(config, folder)
        if (folder / "result.json").exists():
            return _read(folder)
    build_model(config)  # what cannot be built leaves no folder behind
    with locked(folder):
        remove_half_written(folder)
        if (folder / "config.json").exists():  # another process may have come first
            _check_config(config, folder)
        else:
            write_atomically(folder / "config.json", config.to_json())
        if not (folder / "result.json").exists():
            _train(config, folder, torch.device(device or default_device()), progress)
    return _read(folder)


def free_first(folders: Iterable[Path]) -> Iterator[Path]:
    """Yield the runs still to be trained, those first that nobody else is training.

    Each of several processes, also of machines that see one folder, trains what it is given with
    :func:`load_or_train`, and holds its lock until it asks for the next. At the end it is given
    the runs that others had begun: they are complete by the time their lock is free, or their
    process was killed and they are taken over.
    """
    begun = []
    for folder in folders:
        if not (folder / "result.json").exists():
            try:
                with locked(folder, wait=False):
                    yield folder
            except filelock.Timeout:
                begun.append(folder)
    yield from begun


@contextlib.contextmanager
def locked(folder: Path, *, wait: bool = True) -> Iterator[None]:
    """Make the folder and hold its lock, once more where this thread has it already.

    Raises:
        OSError: The folder cannot be written; it is named.
        filelock.Timeout: Somebody else holds the lock, and ``wait`` is false.
    """
    lock = filelock.FileLock(folder.resolve() / ".lock", is_singleton=True)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=-1 if wait else 0)
    except filelock.Timeout:
        raise
    except (OSError, NotImplementedError) as error:
        number = getattr(error, "errno", errno.ENOSYS)
        if number not in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS):
            text = f"cannot write {folder}: {error.strerror or error}"
            raise OSError(f"{text} (LEARN2ADD_RUNS names another place)") from error
        warnings.warn(f"{folder} has no locks: train it in one process only", stacklevel=4)
    try:
        yield
    finally:
        lock.release()


def digits_of(config: RunConfig, split: str, count: int | None = None) -> Digits:
    """Return the digits of a split as a run sees them: all, or as :meth:`Digits.subset`."""
    digits = load_digits(config.dataset, split)
    digits = digits if count is None else digits.subset(count)
    return config.seen(digits.resized(config.image_size))


def _train(config: RunConfig, folder: Path, device: torch.device, progress: bool) -> None:
    keep_freed_memory()
    counts = {"train": config.train_size, "validation": config.validation_size}
    digits = (digits_of(config, split, count) for split, count in counts.items())
    state = train(config, *digits, folder, device=device, progress=progress)
    result = {"best_epoch": state.best_epoch}
    result |= {"seconds": round(sum(row["seconds"] for row in state.history), 1)} | describe()
    write_result(folder, result)


def write_result(folder: Path, result: dict[str, Any]) -> None:
    """Write ``result.json``, with a checksum of it and of the two books that are read with it."""
    result = result | {"sha256": _checksum(folder, result)}
    write_atomically(folder / "result.json", json.dumps(result, indent=2) + "\n")


def _checksum(folder: Path, result: dict[str, Any]) -> str:
    books = [folder / name for name in ("config.json", "metrics.csv")]
    texts = [book.read_text("utf-8") for book in books if book.exists()]
    return hashlib.sha256(json.dumps([*texts, sorted(result.items())]).encode()).hexdigest()


def _read_config(folder: Path) -> RunConfig:
    try:
        return RunConfig.from_json((folder / "config.json").read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{folder / 'config.json'} is damaged: {error}") from error


def _check_config(config: RunConfig, folder: Path) -> None:
    there = _read_config(folder)
    if (folder / "result.json").exists() and _same(there, config):
        return  # complete, perhaps on a machine of another precision
    if differences := config.differences(there):
        raise RunError(
            f"{folder} holds a run of another configuration ({'; '.join(differences)}). "
            "Choose another folder, or delete this one."
        )
