"""A run is a folder: its configuration, its curves, its weights.

Ask for a run; it is loaded, resumed or trained.

``config.json`` what was asked for; ``metrics.csv`` and an event file the curves;
``weights.safetensors`` the best epoch; ``last.safetensors`` all that is needed to go on;
``result.json``, written last, says that the run is complete, how long it took and on what.
"""

import contextlib
import dataclasses
import json
import os
import shutil
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import filelock
import torch
from torch import nn

from learn2add import parallel
from learn2add.checkpoints import (
    CheckpointError,
    load_weights,
    pack_weights,
    save_tensors,
    write_atomically,
)
from learn2add.configs import RunConfig
from learn2add.data import load_digits
from learn2add.hardware import default_device, describe, keep_freed_memory
from learn2add.tracking import EVENT_PREFIX, copy_events, read_metrics
from learn2add.training import build_model, train


class RunError(RuntimeError):
    """A run's folder does not hold what was asked for."""


@dataclass(frozen=True)
class Run:
    """A complete run.

    Attributes:
        folder: Where it lies.
        config: What it was asked to be.
        history: One row of figures per epoch.
        result: ``best_epoch``, ``seconds`` (of training alone), ``device``, ``threads``, ``torch``;
            ``same_as``, the run beside it that this one copies, where there is one.
    """

    folder: Path
    config: RunConfig
    history: list[dict[str, Any]]
    result: dict[str, Any]

    def model(self, device: torch.device | str | None = None) -> nn.Module:
        """The trained model (best epoch on validation), in evaluation mode.

        Raises:
            CheckpointError: The weights are missing, damaged or of another model.
        """
        keep_freed_memory()  # whoever loads a model is about to compute with it
        model = build_model(self.config)
        file = self.folder / "weights.safetensors"
        if "same_as" in self.result and not file.exists():  # kept once for both
            file = self.folder.with_name(self.result["same_as"]) / file.name
        load_weights(file, model)
        device = device or default_device()
        return model.to(device, memory_format=torch.channels_last).eval().requires_grad_(False)

    def evaluation(self) -> dict[str, Any] | None:
        """The figures on the test digits that came with a kept run, or None.

        They are those of :func:`learn2add.evaluation.evaluate`; where the weights came with it too,
        a test measures them again.
        """
        file = self.folder / "evaluation.json"
        return json.loads(file.read_text()) if file.exists() else None

    def curve(self, name: str) -> dict[str, list[float]]:
        """One figure over the epochs: ``epoch``, ``train`` and ``validation`` lists.

        Args:
            name: "loss", "rmse" or "sum_rmse".
        """
        rows = [row for row in self.history if f"{name}/train" in row]
        picked = {
            split: [row[f"{name}/{split}"] for row in rows] for split in ("train", "validation")
        }
        return {"epoch": [row["epoch"] for row in rows]} | picked


def runs_root() -> Path:
    """Where runs are written: ``LEARN2ADD_RUNS``, else the checkout's ``runs``, else ``./runs``."""
    if chosen := os.environ.get("LEARN2ADD_RUNS"):
        return Path(chosen)
    return _checkout_runs() or Path.cwd() / "runs"


def kept_run(name: str) -> Run | None:
    """A run that came with the project, such as "part3/quick", or None where it did not.

    A checkout has them under ``runs/``, an installed package in its own folder.
    """
    result = kept_file(f"{name}/result.json")
    return load_run(result.parent) if result else None


def kept_file(name: str) -> Path | None:
    """A file that came with the project, such as "part4/seeds/seeds.json", or None."""
    installed = Path(__file__).parent / "kept_runs"
    for root in (_checkout_runs(), installed):
        if root is not None and (root / name).exists():
            return root / name
    return None


def _checkout_runs() -> Path | None:
    root = Path(__file__).parents[1]
    return root / "runs" if (root / "pyproject.toml").exists() else None


def load_run(folder: str | Path) -> Run:
    """Load the complete run in ``folder``.

    Raises:
        RunError: There is no complete run.
        CheckpointError: Its configuration, curves or result are damaged.
    """
    folder = Path(folder)
    if not (folder / "config.json").exists():
        raise RunError(f"{folder} is not a run: it has no config.json")
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
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{file} is damaged ({error}); delete the folder to train again"
        ) from error
    return Run(folder, config, history, result)


def load_or_train(
    config: RunConfig,
    folder: str | Path,
    *,
    device: torch.device | str | None = None,
    progress: bool = True,
) -> Run:
    """The run in ``folder``: loaded if complete, resumed if cut off, trained if not there.

    Two processes asking for the same folder do not train it twice; the second waits.

    Args:
        config: What the run must be.
        folder: Where it lies or is to lie.
        device: Where to train; the default is the first CUDA device, else the CPU.
        progress: Whether to show a progress bar.

    Raises:
        RunError: The folder holds a run of another configuration; the fields are named.
        OSError: The folder cannot be written.
        TrainingDiverged: The loss became NaN or infinite.
        CheckpointError: A file of the run is damaged.
    """
    folder = Path(folder)
    if (folder / "config.json").exists() or (folder / "result.json").exists():
        _check_config(config, folder)
        if (folder / "result.json").exists():
            return load_run(folder)
    with locked(folder) if parallel.world().first else contextlib.nullcontext():
        if parallel.world().first:
            if (folder / "config.json").exists():  # another process may have come first
                _check_config(config, folder)
            else:
                write_atomically(folder / "config.json", config.to_json())
        parallel.wait()
        if not (folder / "result.json").exists():
            _train(config, folder, torch.device(device or default_device()), progress)
    return load_run(folder)


def free_first(folders: Iterable[Path]) -> Iterator[Path]:
    """The runs still to be trained, in an order for several processes that share the list.

    Each process trains what it is given with :func:`load_or_train`. It is given the runs that no
    other is training, and at the end those that others had begun: they are complete by the time
    their lock is free, or their process was killed and they are taken over.

    Args:
        folders: Where the runs lie or are to lie, most wanted first.
    """
    begun = []
    for folder in folders:
        if is_held(folder / ".lock"):
            begun.append(folder)
        elif not (folder / "result.json").exists():
            yield folder
    yield from begun


def is_held(lock: Path) -> bool:
    """Whether a living process holds the lock that this file stands for."""
    if not lock.exists():
        return False
    try:
        with filelock.FileLock(lock).acquire(timeout=0):
            return False
    except filelock.Timeout:
        return True


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Make the folder and hold its lock; an OSError names the folder."""
    lock = filelock.FileLock(folder / ".lock")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except OSError as error:
        raise OSError(f"cannot write {folder}: {error.strerror or error}") from error
    try:
        yield
    finally:
        lock.release()


def _train(config: RunConfig, folder: Path, device: torch.device, progress: bool) -> None:
    keep_freed_memory()
    digits = load_digits(config.dataset, "train").resized(config.image_size)
    if config.train_size is not None:
        digits = digits.subset(config.train_size)
    validation = load_digits(config.dataset, "validation").resized(config.image_size)
    if config.validation_size is not None:
        validation = validation.subset(config.validation_size)
    state = train(config, digits, validation, folder, device=device, progress=progress)
    result = {"best_epoch": state.best_epoch}
    result |= {"seconds": round(sum(row["seconds"] for row in state.history), 1)} | describe()
    if parallel.world().size > 1:
        result["processes"] = parallel.world().size
    if parallel.world().first:
        write_atomically(folder / "result.json", json.dumps(result, indent=2) + "\n")
    parallel.wait()


def _read_config(folder: Path) -> RunConfig:
    try:
        return RunConfig.from_json((folder / "config.json").read_text())
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{folder / 'config.json'} is damaged: {error}") from error


def _check_config(config: RunConfig, folder: Path) -> None:
    differences = config.differences(_read_config(folder))
    if differences:
        raise RunError(
            f"{folder} holds a run of another configuration ({'; '.join(differences)}). "
            "Choose another folder, or delete this one."
        )


def publish(run: Run, folder: str | Path, *, weights: bool = True) -> Run:
    """Copy a run for keeping in git: weights in a byte each, pictures of ten epochs, no state.

    Args:
        run: A complete one.
        folder: Where it is to be kept; not there yet.
        weights: False keeps its configuration, curves and pictures only.

    Raises:
        RunError: ``folder`` exists already.
        OSError: It cannot be written.
    """
    folder = Path(folder)
    if folder.exists():
        raise RunError(f"{folder} exists already")
    packed = pack_weights(run.model("cpu").state_dict()) if weights else None
    partial = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}")
    try:
        partial.mkdir(parents=True)
        same = run.result.get("same_as")
        kept = same is not None and (folder.with_name(same) / "weights.safetensors").exists()
        if packed is not None and not kept:
            facts = {"epoch": run.result["best_epoch"]}
            save_tensors(partial / "weights.safetensors", packed, facts)
        for file in ("config.json", "metrics.csv"):
            shutil.copy(run.folder / file, partial)
        for file in run.folder.glob(f"{EVENT_PREFIX}*"):
            copy_events(file, partial / file.name)
        result = run.result | ({"weights": "int8"} if weights else {})
        write_atomically(partial / "result.json", json.dumps(result, indent=2) + "\n")
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return load_run(folder)


def with_precision(config: RunConfig, precision: str) -> RunConfig:
    """The same configuration in another precision."""
    return dataclasses.replace(config, precision=precision)
