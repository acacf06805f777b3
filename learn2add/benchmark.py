"""Training speed, side by side with the loop that coursework usually has.

The same network starts from the same seed in two loops: torchvision's data set with ``ToTensor``
behind a shuffling ``DataLoader``, in float32, and this project's. Each contender has a process of
its own, as settings of memory and precision hold for a whole process; they take turns, so a machine
that slows down slows all of them.
"""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from multiprocessing import get_context
from statistics import median
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torch.utils.flop_counter import FlopCounterMode
from torchvision.datasets import MNIST
from torchvision.transforms import ToTensor
from tqdm.auto import tqdm

from learn2add.addition_tasks import make_task
from learn2add.checks import check_choice, check_int
from learn2add.configs import RunConfig, Stage
from learn2add.data import as_float, load_digits
from learn2add.evaluation import reconstruction_rmse
from learn2add.hardware import (
    default_device,
    default_precision,
    describe,
    keep_freed_memory,
    matmul_rate,
)
from learn2add.objectives import squared_error
from learn2add.training import Progress, build_model, deterministic, run_epoch

USUAL = "usual loop"
CONTENDERS = (USUAL, "learn2add float32", "learn2add bfloat16")
TRAIN_SIZE = 50_000
WARM_UP = 5
"""Steps before the clock starts: first calls choose kernels and touch fresh memory."""


class Contender(Protocol):
    """One way to train the network."""

    model: nn.Module

    def train(self, steps: int | None) -> int:
        """Take ``steps`` optimiser steps (None: one epoch) and return how many pictures it took."""


class UsualDigits(MNIST):
    """torchvision's data set over digits already in memory, so that it needs no files.

    Each picture becomes a PIL image, then a float32 tensor ``[1, 28, 28]`` in [0, 1].
    """

    def __init__(self) -> None:
        digits = load_digits("MNIST", "train")
        self.data, self.targets = digits.images, digits.labels
        self.transform, self.target_transform = ToTensor(), None


class UsualLoop:
    """The contender to beat; see the module's head."""

    def __init__(self, config: RunConfig) -> None:
        stage, self.device = config.stages[0], default_device()
        self.model = build_model(config).to(self.device)
        self.optimiser = torch.optim.Adam(self.model.parameters(), lr=stage.learning_rate)
        torch.manual_seed(config.seed)
        self.loader = DataLoader(UsualDigits(), batch_size=stage.batch_size, shuffle=True)
        self.stream, self.total = self.endless(), 0.0

    def endless(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Epoch after epoch."""
        while True:
            yield from self.loader

    def train(self, steps: int | None) -> int:
        """See :class:`Contender`."""
        taken = 0
        for x, _ in islice(self.stream, steps or len(self.loader)):
            x = x.to(self.device)
            loss = squared_error(self.model(x), x)
            self.optimiser.zero_grad()
            loss.backward()
            self.optimiser.step()
            self.total += loss.item()
            taken += len(x)
        return taken


class OurLoop:
    """The loop of :mod:`learn2add.training`, as it stands; validation is cut to ten digits."""

    def __init__(self, config: RunConfig) -> None:
        keep_freed_memory()
        self.config, device = config, default_device()
        self.model = build_model(config).to(device, memory_format=torch.channels_last)
        self.digits = load_digits("MNIST", "train").to(device)
        self.few = load_digits("MNIST", "validation").subset(10).to(device)
        self.optimiser = self.task(config).optimiser()
        self.epochs = 0

    def task(self, config: RunConfig) -> Any:
        """The training task over all digits."""
        return make_task(self.model, config, config.stages[0], self.digits, self.few)

    def train(self, steps: int | None) -> int:
        """See :class:`Contender`."""
        config = benchmark_config(self.config.stages[0].batch_size, self.config.precision, steps)
        bar = tqdm(disable=True)
        with deterministic():
            run_epoch(config, Progress(epoch=self.epochs), self.task(config), self.optimiser, bar)
        self.epochs += 1
        return TRAIN_SIZE if steps is None else steps * config.stages[0].batch_size


def benchmark_config(batch_size: int, precision: str, steps: int | None = None) -> RunConfig:
    """What all contenders train: the assignment's first autoencoder, L2, Adam at 0.001."""
    stage = Stage("autoencoder", 1000, steps, batch_size)
    return RunConfig((stage,), decoder="conv_transpose", code_size=7, precision=precision)


def make_contender(name: str, batch_size: int) -> Contender:
    """Build one of :data:`CONTENDERS`.

    Raises:
        ValueError: Another name.
    """
    check_choice("name", name, CONTENDERS)
    if name == USUAL:
        return UsualLoop(benchmark_config(batch_size, "float32"))
    return OurLoop(benchmark_config(batch_size, name.removeprefix("learn2add ")))


_contender: Contender | None = None  # of this process


def _start(name: str, batch_size: int) -> None:
    global _contender
    _contender = make_contender(name, batch_size)


def _images_per_second(steps: int) -> float:
    assert _contender is not None
    start = time.perf_counter()
    pictures = _contender.train(steps)
    return pictures / (time.perf_counter() - start)


def _validation_rmse(name: str, batch_size: int, epochs: int) -> float:
    """Train anew for whole epochs; the error is measured in float32 for all contenders."""
    contender = make_contender(name, batch_size)
    for _ in range(epochs):
        contender.train(None)
    digits = load_digits("MNIST", "validation").to(default_device())
    return reconstruction_rmse(contender.model.eval(), digits)


@dataclass(frozen=True)
class Speed:
    """What one contender reached."""

    name: str
    images_per_second: list[float]
    """One figure per repeat."""
    ratio: float
    """Median over the repeats of its speed relative to the usual loop's in the same repeat."""
    rmse: float | None = None
    """Validation RMSE after equal epochs, in grey levels, where it was asked for."""


def compare(
    *,
    batch_size: int = 128,
    steps: int = 30,
    repeats: int = 7,
    epochs: int = 0,
    say: Callable[[str], None] = lambda line: None,
) -> list[Speed]:
    """Let the contenders train in turns.

    Args:
        batch_size: Pictures per step.
        steps: Steps per turn.
        repeats: Turns of each contender.
        epochs: If above 0, also train each from scratch for so many epochs and take the validation
            RMSE.
        say: Is told what happens.

    Returns:
        The usual loop's speed, then the others'; bfloat16 only where the hardware has it.

    Raises:
        TypeError, ValueError: A number is not an integer, or out of range.
    """
    check_int("batch_size", batch_size, 1, TRAIN_SIZE)
    for name, value, low in (("steps", steps, 1), ("repeats", repeats, 1), ("epochs", epochs, 0)):
        check_int(name, value, low, 10_000)
    fast = default_precision(default_device())
    names = [name for name in CONTENDERS if fast == "bfloat16" or not name.endswith("bfloat16")]
    speeds: dict[str, list[float]] = {name: [] for name in names}
    errors: dict[str, float] = {}
    with ExitStack() as stack:
        workers = {}
        for name in names:
            options = {"initializer": _start, "initargs": (name, batch_size)}
            pool = ProcessPoolExecutor(1, get_context("spawn"), **options)
            workers[name] = stack.enter_context(pool)
            workers[name].submit(_images_per_second, WARM_UP).result()
        for repeat in range(repeats):
            for name, worker in workers.items():
                speeds[name].append(worker.submit(_images_per_second, steps).result())
            row = ", ".join(f"{name} {speeds[name][-1]:,.0f}" for name in names)
            say(f"turn {repeat + 1} of {repeats}, images/s: {row}")
        for name, worker in workers.items() if epochs else ():
            errors[name] = worker.submit(_validation_rmse, name, batch_size, epochs).result()
            say(f"{name}: validation RMSE {errors[name]:.4f} after {epochs} epochs")
    ratios = {
        name: median(ours / usual for ours, usual in zip(own, speeds[USUAL], strict=True))
        for name, own in speeds.items()
    }
    return [Speed(name, speeds[name], ratios[name], errors.get(name)) for name in names]


def flops_per_image(batch_size: int = 128) -> float:
    """Floating-point operations of one training step, per picture, as torch counts them."""
    model = build_model(benchmark_config(batch_size, "float32"))
    x = as_float(load_digits("MNIST", "validation").subset(batch_size).images)
    with FlopCounterMode(display=False) as counter:
        squared_error(model(x), x).backward()
    return counter.get_total_flops() / len(x)


def table(speeds: list[Speed], flops: float, batch_size: int, epochs: int) -> str:
    """Lay the result out for reading."""
    machine = describe()
    precisions = {speed.name.split()[-1] for speed in speeds} & {"float32", "bfloat16"}
    rates = {name: matmul_rate(name) for name in sorted(precisions, reverse=True)}
    products = ", ".join(f"{rate:,.0f} GFLOP/s in {name}" for name, rate in rates.items())
    head = f"{'':20}{'images/s':>10}{'lowest to highest':>20}{'GFLOP/s':>9}{'ratio':>7}"
    lines = [
        "Training one autoencoder (conv_transpose, code 7, L2, Adam 0.001, "
        f"batch {batch_size}) in different loops",
        f"{machine['device']}, {machine['threads']} threads, torch {machine['torch']}; "
        f"matrix product {products}",
        f"one picture, forward and backward: {flops / 1e6:.0f} MFLOP",
        "",
        head + (f"{'validation RMSE':>17}" if epochs else ""),
    ]
    for speed in speeds:
        middle = median(speed.images_per_second)
        low, high = min(speed.images_per_second), max(speed.images_per_second)
        line = f"{speed.name:20}{middle:10,.0f}{f'{low:,.0f} to {high:,.0f}':>20}"
        line += f"{middle * flops / 1e9:9,.0f}{speed.ratio:7.2f}"
        lines.append(line + (f"{speed.rmse:17.4f}" if speed.rmse is not None else ""))
    if epochs:
        lines += ["", f"RMSE after {epochs} epochs from the same seed, in grey levels (0 to 1)"]
    return "\n".join(lines)
