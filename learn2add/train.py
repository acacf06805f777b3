"""The training loop, on one screen, for every model of the project.

Reproducibility: the random numbers of an epoch depend on (seed, stage, epoch) alone, so a training
that was killed and resumed goes on with exactly the numbers it would have seen. Same configuration,
machine and thread count -> byte-identical weights. Source: assignment, Part II item 3.
"""

import contextlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from learn2add.checkpoints import (
    CheckpointError,
    load_tensors,
    pack_state,
    save_tensors,
    unpack_model,
    unpack_optimiser,
)
from learn2add.config import RunConfig, Stage
from learn2add.data import Digits
from learn2add.hardware import bfloat16_pays
from learn2add.losses import rmse
from learn2add.optim import learning_rate_at
from learn2add.steps import Step
from learn2add.tensorboard import Tracker, add_hyper_parameters, write_metrics


class TrainingDiverged(RuntimeError):
    """The loss became NaN or infinite; the last good checkpoint is still in the run's folder."""


@dataclass
class Progress:
    """How far a training has come: all that a checkpoint holds besides tensors."""

    stage: int = 0
    epoch: int = 0
    """Next epoch of that stage."""
    best: float = float("inf")
    """Best validation loss of the last stage so far."""
    best_epoch: int = -1
    history: list[dict[str, Any]] = field(default_factory=list)
    """One row per finished epoch."""
    finished: bool = False


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

    Both digits have images of ``config.image_size``; those of validation choose the best epoch and
    are never learned from. ``after_epoch`` is given each epoch's row; what it raises ends the
    training.

    Raises:
        TrainingDiverged: The loss is not finite; epoch and step are named.
        CheckpointError: ``last.safetensors`` is damaged or of another model.
    """
    device = torch.device(device)
    if config.precision == "bfloat16" and not bfloat16_pays(device.type):
        config = replace(config, precision="float32")
        if progress:
            print("this machine only emulates bfloat16: training in float32", file=sys.stderr)
    digits = train_digits.to(device), validation_digits.to(device)
    model = build_model(config).to(device, memory_format=torch.channels_last).eval()
    last = Path(folder) / "last.safetensors"
    tensors, state = load_state(last, config) if last.exists() else ({}, Progress())
    if tensors:
        unpack_model(last, tensors, model)
    bar = tqdm(
        total=sum(stage.epochs for stage in config.stages),
        initial=len(state.history),
        bar_format="{l_bar}{bar}| {n:.1f}/{total} epochs [{elapsed}<{remaining}{postfix}]",
        disable=not progress,
        mininterval=1,
    )
    tracker = Tracker(folder, model, len(state.history))
    with bar, deterministic(), flushing_subnormals(), tracker:
        while not state.finished:
            number = state.stage
            step = config.step(config.stages[number], model, *digits)
            optimiser = step.optimiser()
            if tensors and state.epoch > 0:  # cut off within this stage, not between two
                unpack_optimiser(last, tensors, optimiser)
            while state.stage == number:
                row = run_epoch(config, state, step, optimiser, bar)
                if health := step.health():
                    row |= health.figures()
                    if progress and (alarm := health.alarm()):
                        bar.write(f"epoch {row['epoch']}: {alarm}")
                close_epoch(config, state, row)
                # Curves before the checkpoint: a training killed between the two repeats the epoch
                # and hides these; the other way round they would lack it for good.
                tracker.epoch(row, len(state.history), step.images())
                save_epoch(config, state, model, optimiser, Path(folder))
                if after_epoch:
                    after_epoch(row)
                bar.set_postfix_str(f"{row['task']} loss {row['loss/validation']:.4g}")
        add_hyper_parameters(tracker.writer, config.flat(), state.history[state.best_epoch - 1])
    return state


def run_epoch(
    config: RunConfig, state: Progress, step: Step, optimiser: torch.optim.Optimizer, bar: tqdm
) -> dict[str, Any]:
    """Train one epoch, validate, and return the results of both as one row.

    The training results are means over the epoch, taken while the weights still move, as is usual;
    so a fast-learning epoch's training error can lie above its validation error.
    """
    stage, device, started = config.stages[state.stage], step.device, time.perf_counter()
    place = (config.seed, state.stage, state.epoch)
    done, total = state.epoch * step.steps, stage.epochs * step.steps
    rates = [learning_rate_at(stage, done + i, total) for i in range(step.steps)]
    precision = autocast(config, device)
    learned, validated = Meter(config.image_size), Meter(config.image_size)
    with dropping(step.model, place, device):
        batches = step.batches(epoch_generator(place, device))
        for batch, rate in zip(batches, rates, strict=True):
            for group in optimiser.param_groups:
                group["lr"] = rate
            with precision:
                loss, squares = step(batch)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            learned.add(loss, squares, len(batch[0]))
            left = 1.0 if bar.total is None else bar.total - bar.n  # rounding must not pass the end
            bar.update(min(1 / step.steps, left))
    learned.check_finite(stage, state)
    with torch.no_grad(), precision:
        for batch in step.validation_batches():
            validated.add(*step(batch), len(batch[0]))
    validated.check_finite(stage, state, validated_after=step.steps)
    row = {"stage": state.stage, "task": stage.task, "epoch": len(state.history) + 1}
    row |= {"seconds": time.perf_counter() - started}
    row |= {"learning_rate": rates[-1]}
    return row | learned.figures("train") | validated.figures("validation")


def close_epoch(config: RunConfig, state: Progress, row: dict[str, Any]) -> None:
    """Append the row; update the best epoch of the stage and what comes next."""
    stage = config.stages[state.stage]
    state.history.append(row)
    if state.epoch == 0 or row["loss/validation"] < state.best:
        state.best, state.best_epoch = row["loss/validation"], row["epoch"]
    state.epoch += 1
    if state.epoch >= stage.epochs or stage.over(state.history, state.best_epoch):
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
    facts = vars(state) | {"config": config.flat() | {"precision": None}}  # that is the machine's
    save_tensors(folder / "last.safetensors", pack_state(model, optimiser), facts)


def load_state(path: Path, config: RunConfig) -> tuple[dict[str, Tensor], Progress]:
    """Return tensors and progress of a training that was cut off, or raise CheckpointError."""
    remedy = "delete it to train again"
    tensors, facts = load_tensors(path, remedy)
    wanted = json.loads(json.dumps(config.flat() | {"precision": None}))  # lists for tuples
    try:
        if facts.pop("config", wanted) != wanted:
            raise ValueError("it is that of another configuration")
        state = Progress(**facts)
        stages, place = config.stages, state.stage
        known = place in range(len(stages)) and state.epoch in range(stages[place].epochs)
        if not state.history or not (known or state.finished):
            raise ValueError(f"epoch {state.epoch} of stage {state.stage}")
    except (TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{path} holds no state to go on from ({error}); {remedy}") from error
    return tensors, state


def build_model(config: RunConfig) -> nn.Module:
    """Return the untrained model of a configuration, its weights decided by ``config.seed``."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        return config.build()


def epoch_generator(place: tuple[int, int, int], device: torch.device | str) -> torch.Generator:
    """Return the random numbers of one epoch, ``place`` = (seed, stage, epoch)."""
    state = np.random.SeedSequence(place).generate_state(1)[0]
    return torch.Generator(device).manual_seed(int(state))


@contextlib.contextmanager
def dropping(model: nn.Module, place: tuple[int, int, int], device: torch.device) -> Iterator[None]:
    """Turn dropout on inside; torch's own generators begin each epoch anew, restored after."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        # One word more than epoch_generator's: other numbers than those of the batches.
        torch.manual_seed(int(np.random.SeedSequence([*place, 1]).generate_state(1)[0]))
        model.train()
        try:
            yield
        finally:
            model.eval()


def autocast(config: RunConfig, device: torch.device) -> torch.autocast:
    """Return the context of the forward pass; losses and weights stay float32."""
    return torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bfloat16")


@contextlib.contextmanager
def deterministic() -> Iterator[None]:
    """Use deterministic kernels inside; restore the caller's settings after."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    # use_deterministic_algorithms tells torch's compiler as well, whose import takes a while.
    before = torch.get_deterministic_debug_mode()
    fill = torch.utils.deterministic.fill_uninitialized_memory
    torch.set_deterministic_debug_mode("warn")
    # Filling every fresh tensor with NaN guards against reading it; here nothing does.
    torch.utils.deterministic.fill_uninitialized_memory = False
    try:
        yield
    finally:
        torch.set_deterministic_debug_mode(before)
        torch.utils.deterministic.fill_uninitialized_memory = fill


@contextlib.contextmanager
def flushing_subnormals() -> Iterator[None]:
    """Let a CPU take numbers below float32's normal range, 1e-38, for 0; restore after.

    They occur where a model collapses: its gradients shrink without end, and a processor that keeps
    such numbers needs many times longer for each.
    """
    before = float(torch.tensor(1e-40) * 1) == 0
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)


class Meter:
    """Epoch results from batches, each weighted by its length; no transfer until the end."""

    def __init__(self, image_size: int) -> None:
        self.image_size = image_size
        self.losses: list[Tensor] = []
        self.lengths: list[int] = []
        self.squares: dict[str, Tensor] = {}

    def add(self, loss: Tensor, squares: dict[str, Tensor], length: int) -> None:
        """Add one batch: its mean loss and its summed squared errors."""
        self.losses.append(loss.detach())
        self.lengths.append(length)
        for name, value in squares.items():
            self.squares[name] = self.squares[name] + value if name in self.squares else value

    def figures(self, split: str) -> dict[str, float]:
        """Return ``loss/<split>`` and one RMSE per kind of image."""
        count = sum(self.lengths)
        losses = torch.stack(self.losses).double().cpu() @ torch.tensor(self.lengths).double()
        found = {f"loss/{split}": float(losses) / count}
        for name, value in self.squares.items():
            found[f"{name}/{split}"] = rmse(float(value), count, self.image_size)
        return found

    def check_finite(self, stage: Stage, state: Progress, validated_after: int = 0) -> None:
        """Raise TrainingDiverged if a loss, in validation after a given step, is not finite."""
        losses = torch.stack(self.losses)
        bad = (~torch.isfinite(losses)).nonzero()
        if len(bad):
            loss = f"{'validation ' if validated_after else ''}loss"
            step = validated_after or int(bad[0]) + 1
            raise TrainingDiverged(
                f"the {loss} is {float(losses[int(bad[0])])} at step {step} of epoch "
                f"{state.epoch + 1} of the {stage.task} stage (learning rate "
                f"{stage.learning_rate}); the checkpoint of the epoch before is kept"
            )
