"""The training loop, on one screen, for every model of the project.

Several processes may share it: see :mod:`learn2add.parallel`.

Reproducibility: the random numbers of an epoch depend on (seed, stage, epoch) alone, so a training
that was killed and resumed goes on with exactly the numbers it would have seen. Same configuration,
machine and thread count -> byte-identical weights. Source: assignment, Part II item 3.
"""

import contextlib
import os
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from learn2add import captured, parallel
from learn2add.addition_tasks import make_task
from learn2add.checkpoints import (
    CheckpointError,
    load_tensors,
    pack_state,
    save_tensors,
    unpack_model,
    unpack_optimiser,
)
from learn2add.configs import RunConfig, Stage
from learn2add.data import Digits
from learn2add.models import make_model
from learn2add.objectives import rmse
from learn2add.tasks import Task
from learn2add.tracking import Tracker, write_metrics


class TrainingDiverged(RuntimeError):
    """The loss became NaN or infinite; the last good checkpoint is still in the run's folder."""


@dataclass
class Progress:
    """How far a training has come: all that a checkpoint holds besides tensors."""

    stage: int = 0
    epoch: int = 0
    """Next epoch of that stage."""
    best: float = float("inf")
    """Best validation figure of the last stage so far."""
    best_epoch: int = -1
    history: list[dict[str, Any]] = field(default_factory=list)
    """One row per finished epoch."""
    finished: bool = False


def build_model(config: RunConfig) -> nn.Module:
    """The untrained model of a configuration, its initial weights decided by ``config.seed``."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        return make_model(
            config.model,
            config.decoder,
            config.code_size,
            config.image_size,
            hidden=config.hidden,
            embed_addend=config.embed_addend,
            capacity=config.capacity,
            distribution=config.code_distribution,
            count=config.train_size or 50_000,
        )


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy and torch, and prefer deterministic kernels.

    Training needs it for libraries that draw from the global generators; its own random numbers
    come from explicit ones.
    """
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True


@contextlib.contextmanager
def deterministic() -> Iterator[None]:
    """Deterministic kernels inside, the caller's settings again outside."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    before = torch.are_deterministic_algorithms_enabled()
    only_warned = torch.is_deterministic_algorithms_warn_only_enabled()
    fill = torch.utils.deterministic.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True, warn_only=True)
    # Filling every fresh tensor with NaN guards against reading it; here nothing does.
    torch.utils.deterministic.fill_uninitialized_memory = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=only_warned)
        torch.utils.deterministic.fill_uninitialized_memory = fill


@contextlib.contextmanager
def flushing_subnormals() -> Iterator[None]:
    """Inside, a CPU takes numbers below float32's normal range, 1e-38, for 0; then as before.

    They occur where a model collapses: its gradients shrink without end, and a processor that keeps
    such numbers needs many times longer for each.
    """
    before = float(torch.tensor(1e-40) * 1) == 0
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)


def epoch_generator(
    seed: int, stage: int, epoch: int, device: torch.device | str
) -> torch.Generator:
    """The random numbers of one epoch; nothing carries over from the epoch before."""
    state = np.random.SeedSequence([seed, stage, epoch]).generate_state(1)[0]
    return torch.Generator(device).manual_seed(int(state))


def train(
    config: RunConfig,
    train_digits: Digits,
    validation_digits: Digits,
    folder: Path,
    *,
    device: torch.device | str = "cpu",
    progress: bool = True,
    after_epoch: Callable[[dict[str, Any]], None] | None = None,
) -> Progress:
    """Train, or go on training, the run in ``folder``.

    Writes ``weights.safetensors`` (best on validation in the last stage), ``last.safetensors``
    (everything needed to go on), ``metrics.csv`` and the TensorBoard event file.

    Args:
        config: What to train.
        train_digits: Pictures of ``config.image_size``.
        validation_digits: Likewise; they choose the best epoch and are never learned from.
        folder: The run's folder.
        device: Where to train.
        progress: Whether to show a progress bar.
        after_epoch: Is given each epoch's row; what it raises ends the training.

    Returns:
        The finished progress, with one row of figures per epoch.

    Raises:
        TrainingDiverged: The loss is not finite; epoch and step are named.
        OSError: The folder cannot be written.
        CheckpointError: ``last.safetensors`` is damaged or of another model.
    """
    train_digits, validation_digits = train_digits.to(device), validation_digits.to(device)
    model = build_model(config).to(device, memory_format=torch.channels_last).eval()
    last = Path(folder) / "last.safetensors"
    tensors, state = load_state(last) if last.exists() else ({}, Progress())
    if tensors:
        unpack_model(last, tensors, model)
    parallel.wait()  # until all have read
    first = parallel.world().first
    progress = progress and first
    epochs = sum(stage.epochs for stage in config.stages)
    bar = tqdm(
        total=epochs,
        initial=len(state.history),
        bar_format="{l_bar}{bar}| {n:.1f}/{total} epochs [{elapsed}<{remaining}{postfix}]",
        disable=not progress,
        mininterval=1,
    )
    tracking = Tracker(folder, model, len(state.history)) if first else contextlib.nullcontext()
    with bar, deterministic(), flushing_subnormals(), tracking as tracker:
        while not state.finished:
            number = state.stage
            task = make_task(model, config, config.stages[number], train_digits, validation_digits)
            optimiser = task.optimiser()
            if tensors and state.epoch > 0:  # cut off within this stage, not between two
                unpack_optimiser(last, tensors, optimiser)
            while state.stage == number:
                row = run_epoch(config, state, task, optimiser, bar)
                health = task.examine() if first else None
                if health:
                    row |= health.figures()
                    if progress and (alarm := health.alarm()):
                        bar.write(f"epoch {row['epoch']}: {alarm}")
                close_epoch(config, state, row)
                if first:
                    save_epoch(config, state, model, optimiser, Path(folder))
                    tracker.epoch(row, len(state.history), task.pictures())
                if after_epoch:
                    after_epoch(row)
                bar.set_postfix_str(f"{row['task']} loss {row['loss/validation']:.4g}")
        if first:
            tracker.hyper_parameters(config.flat(), state.history[state.best_epoch - 1])
    parallel.wait()  # until all is written
    return state


def load_state(path: Path) -> tuple[dict[str, Tensor], Progress]:
    """Tensors and progress of a training that was cut off.

    Raises:
        CheckpointError: The file is damaged or is not the state of a training.
    """
    tensors, facts = load_tensors(path)
    try:
        state = Progress(**facts)
    except TypeError as error:
        raise CheckpointError(f"{path} holds no state of a training: {error}") from error
    if not state.history:
        raise CheckpointError(f"{path} holds no state of a training; delete it to train again")
    return tensors, state


def run_epoch(
    config: RunConfig,
    state: Progress,
    task: Task,
    optimiser: torch.optim.Optimizer,
    bar: tqdm,
) -> dict[str, Any]:
    """Train one epoch, validate, and return the figures of both as one row.

    The training figures are means over the epoch, taken while the weights still move, as is usual;
    so a fast-learning epoch's training error can lie above its validation error.

    Raises:
        TrainingDiverged: A loss was not finite.
    """
    stage, device = config.stages[state.stage], task.device
    generator = epoch_generator(config.seed, state.stage, state.epoch, device)
    update = updating(config, task, optimiser)
    if captured.wanted(device, stage):
        update = captured.Captured(update)
    started, step, steps = time.perf_counter(), state.epoch * task.steps, stage.epochs * task.steps
    learned, validated = Meter(config.image_size), Meter(config.image_size)
    with dropping(task.model, (config.seed, state.stage, state.epoch), device):
        for batch in task.batches(generator):
            captured.set_rate(optimiser, stage.learning_rate_at(step, steps))
            learned.add(*update(batch), len(batch[0]))
            step += 1
            share = 1 / task.steps
            if bar.total is not None:  # rounding must not pass the end
                share = min(share, bar.total - bar.n)
            bar.update(share)
    learned.check_finite(stage, state)
    with torch.no_grad(), autocast(config, device):
        for batch in task.validation_batches():
            validated.add(*mine(task, batch), len(batch[0]))
    validated.check_finite(stage, state, validated_after=task.steps)
    row = {"stage": state.stage, "task": stage.task, "epoch": len(state.history) + 1}
    row |= {"seconds": time.perf_counter() - started}
    row |= {"learning_rate": stage.learning_rate_at(step - 1, steps)}
    return row | learned.figures("train") | validated.figures("validation")


def updating(
    config: RunConfig, task: Task, optimiser: torch.optim.Optimizer
) -> Callable[[Any], tuple[Tensor, dict[str, Tensor]]]:
    """One step of the training: what learns from a batch, and gives its loss and squares."""

    def update(batch: Any) -> tuple[Tensor, dict[str, Tensor]]:
        with autocast(config, task.device):
            loss, squares = mine(task, batch)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        parallel.average_gradients(task.parameters())
        optimiser.step()
        return loss.detach(), squares

    return update


def mine(task: Task, batch: object) -> tuple[Tensor, dict[str, Tensor]]:
    """Loss and squares of this process's rows; their means over the processes are the batch's."""
    part, weight = task.mine(batch)
    loss, squares = task.step(part)
    return loss * weight, squares


@contextlib.contextmanager
def dropping(model: nn.Module, epoch: tuple[int, int, int], device: torch.device) -> Iterator[None]:
    """Dropout inside, none outside.

    Dropout draws from torch's own generators; they begin each epoch anew, at (seed, stage, epoch),
    and are the caller's again afterwards.
    """
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        # One word more than epoch_generator's: other numbers than those of the batches.
        torch.manual_seed(int(np.random.SeedSequence([*epoch, 1]).generate_state(1)[0]))
        model.train()
        try:
            yield
        finally:
            model.eval()


def autocast(config: RunConfig, device: torch.device) -> torch.autocast:
    """Forward passes in the configured precision; losses and weights stay float32."""
    enabled = config.precision == "bfloat16"
    return torch.autocast(device.type, torch.bfloat16, enabled=enabled)


class Meter:
    """Epoch figures from batches, each weighted by its length; no transfer until the end."""

    def __init__(self, image_size: int) -> None:
        self.image_size = image_size
        self.losses: list[Tensor] = []
        self.lengths: list[int] = []
        self.squares: dict[str, Tensor] = {}

    def add(self, loss: Tensor, squares: dict[str, Tensor], length: int) -> None:
        """Take in one batch: its mean loss and its summed squared errors."""
        self.losses.append(loss.detach())
        self.lengths.append(length)
        processes = parallel.world().size
        for name, value in squares.items():
            if length < processes:  # each had the whole batch
                value = value / processes
            self.squares[name] = self.squares[name] + value if name in self.squares else value

    def figures(self, split: str) -> dict[str, float]:
        """``loss/<split>`` and one RMSE per kind of picture."""
        count = sum(self.lengths)
        losses = self.means().double().cpu() @ torch.tensor(self.lengths).double()
        found = {f"loss/{split}": float(losses) / count}
        for name, value in self.squares.items():
            whole = float(parallel.total(value))
            found[f"{name}/{split}"] = rmse(whole, count, self.image_size)
        return found

    def means(self) -> Tensor:
        """The batches' losses, over all processes."""
        return parallel.total(torch.stack(self.losses)) / parallel.world().size

    def check_finite(
        self, stage: Stage, state: Progress, validated_after: int | None = None
    ) -> None:
        """Raise TrainingDiverged, naming epoch and step, if a loss was not finite.

        ``validated_after`` is the epoch's last step where the losses are those of validation.
        """
        losses = self.means()
        bad = (~torch.isfinite(losses)).nonzero()
        if len(bad):
            loss = f"{'validation ' if validated_after else ''}loss"
            step = validated_after or int(bad[0]) + 1
            raise TrainingDiverged(
                f"the {loss} is {float(losses[int(bad[0])])} at step {step} of epoch "
                f"{state.epoch + 1} of the {stage.task} stage (learning rate "
                f"{stage.learning_rate}); the checkpoint of the epoch before is kept"
            )


def close_epoch(config: RunConfig, state: Progress, row: dict[str, Any]) -> None:
    """Enter the epoch in the books: history, best epoch of the stage, what comes next."""
    stage = config.stages[state.stage]
    state.history.append(row)
    if state.epoch == 0 or row["loss/validation"] < state.best:
        state.best, state.best_epoch = row["loss/validation"], row["epoch"]
    state.epoch += 1
    stalled = stage.patience is not None and row["epoch"] - state.best_epoch >= stage.patience
    if state.epoch == stage.epochs or stalled:
        state.finished = state.stage + 1 == len(config.stages)
        state.stage, state.epoch = state.stage + 1, 0


def save_epoch(
    config: RunConfig,
    state: Progress,
    model: nn.Module,
    optimiser: torch.optim.Optimizer,
    folder: Path,
) -> None:
    """Write the curves, the best weights if these are the best, then the state to go on from."""
    row = state.history[-1]
    write_metrics(folder / "metrics.csv", state.history)
    if row["stage"] == len(config.stages) - 1 and row["epoch"] == state.best_epoch:
        save_tensors(folder / "weights.safetensors", model.state_dict(), {"epoch": row["epoch"]})
    save_tensors(folder / "last.safetensors", pack_state(model, optimiser), vars(state))
