"""The loops that are compared in this environment: the usual one of coursework, and this project's.

Usual: torchvision's data set with ``ToTensor`` behind a shuffling ``DataLoader``, in float32. For
the addition model the data set picks, for every digit, a valid addend and some picture of the sum.

This project's addition model is measured in two ways. ``learn2add float32`` and ``learn2add
bfloat16`` see drawn pairs, so each step does what the usual loop's does. ``learn2add recipe``
trains as the recipes do (partners "batch"). A step takes equally many input pictures and has the
same loss in expectation, but compares each with all its partners in the batch, so it needs no
second picture; the reconstruction is taken from one picture in four. All have the assignment's
weights and Adam, not the recipes' own.
"""

import random
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision.datasets import MNIST
from torchvision.transforms import ToTensor
from tqdm.auto import tqdm

from learn2add.addition_tasks import make_task
from learn2add.benchmark.networks import training_digits, usual_loss
from learn2add.checks import check_choice
from learn2add.configs import RunConfig
from learn2add.data import Digits, load_digits
from learn2add.hardware import default_device, default_precision, keep_freed_memory
from learn2add.training import Progress, build_model, deterministic, run_epoch

USUAL = "usual loop"
RECIPE = "learn2add recipe"
CONTENDERS = (USUAL, "learn2add float32", "learn2add bfloat16", RECIPE)


class Contender(Protocol):
    """One way to train the network."""

    model: nn.Module

    def train(self, steps: int | None) -> int:
        """Take ``steps`` optimiser steps (None: one epoch) and return how many pictures it took."""


class UsualDigits(MNIST):
    """torchvision's data set over digits already in memory, so that it needs no files.

    Each picture becomes a PIL image, then a float32 tensor ``[1, 28, 28]`` in [0, 1].
    """

    def __init__(self, digits: Digits) -> None:
        self.data, self.targets = digits.images, digits.labels
        self.transform, self.target_transform = ToTensor(), None


class UsualSums(UsualDigits):
    """For every digit a random valid addend and a random picture of the sum.

    An item is ``(x, addend, y)``: float32 ``[1, 28, 28]``, a number, ``[1, 28, 28]``.
    """

    def __init__(self, digits: Digits) -> None:
        super().__init__(digits)
        self.of_digit = [
            (self.targets == digit).nonzero().flatten().tolist() for digit in range(10)
        ]

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, Tensor]:
        x, digit = super().__getitem__(index)
        addend = random.randint(0, 9 - digit)
        y, _ = super().__getitem__(random.choice(self.of_digit[digit + addend]))
        return x, torch.tensor(float(addend)), y


def usual_loader(config: RunConfig) -> DataLoader:
    """The usual data set for that network, shuffled and in batches."""
    torch.manual_seed(config.seed)
    random.seed(config.seed)
    kind = UsualSums if config.kind.adder else UsualDigits
    data = kind(training_digits(config))
    return DataLoader(data, batch_size=config.stages[0].batch_size, shuffle=True)


class UsualLoop:
    """The contender to beat; see the module's head."""

    def __init__(self, config: RunConfig) -> None:
        self.config, self.device = config, default_device()
        self.model = build_model(config).to(self.device)
        rate = config.stages[0].learning_rate
        self.optimiser = torch.optim.Adam(self.model.parameters(), lr=rate)
        self.loader = usual_loader(config)
        self.stream, self.total = self.endless(), 0.0

    def endless(self) -> Iterator[list[Tensor]]:
        """Epoch after epoch."""
        while True:
            yield from self.loader

    def train(self, steps: int | None) -> int:
        """See :class:`Contender`."""
        taken = 0
        for batch in islice(self.stream, steps or len(self.loader)):
            batch = [part.to(self.device) for part in batch]
            loss = usual_loss(self.config, self.model, batch)
            self.optimiser.zero_grad()
            loss.backward()
            self.optimiser.step()
            self.total += loss.item()
            taken += len(batch[0])
        return taken


class OurLoop:
    """The loop of :mod:`learn2add.training`, as it stands; validation is cut to ten digits."""

    def __init__(self, config: RunConfig) -> None:
        keep_freed_memory()
        self.config, device = config, default_device()
        self.model = build_model(config).to(device, memory_format=torch.channels_last)
        few = load_digits("MNIST", "validation").subset(10).resized(config.image_size)
        self.digits, self.few = training_digits(config).to(device), few.to(device)
        self.optimiser = self.task(config).optimiser()
        self.epochs = 0

    def task(self, config: RunConfig) -> Any:
        """The training task over all digits."""
        return make_task(self.model, config, config.stages[0], self.digits, self.few)

    def train(self, steps: int | None) -> int:
        """See :class:`Contender`."""
        stage = self.config.stages[0]
        stage = replace(stage, steps=steps or stage.steps)
        config = replace(self.config, stages=(stage,))
        bar = tqdm(disable=True)
        with deterministic():
            run_epoch(config, Progress(epoch=self.epochs), self.task(config), self.optimiser, bar)
        self.epochs += 1
        return len(self.digits) if stage.steps is None else stage.steps * stage.batch_size


def contenders_for(config: RunConfig) -> list[str]:
    """Those of :data:`CONTENDERS` that can train it here; bfloat16 only where hardware has it."""
    fast = default_precision(default_device())
    names = [name for name in CONTENDERS if fast == "bfloat16" or not name.endswith("bfloat16")]
    return names if config.kind.adder else [name for name in names if name != RECIPE]


def config_of(name: str, config: RunConfig) -> RunConfig:
    """What the contender of that name trains: precision and partners are its own.

    Raises:
        ValueError: Another name, or a recipe of pairs for a network that does not add.
    """
    check_choice("name", name, CONTENDERS)
    if name != RECIPE:
        precision = "bfloat16" if name.endswith("bfloat16") else "float32"
        return replace(config, precision=precision)
    if not config.kind.adder:
        raise ValueError(f"name is {name!r}; allowed for networks that add, not {config.model!r}")
    stages = (replace(config.stages[0], partners="batch"),)
    return replace(config, stages=stages, precision=default_precision(default_device()))


def make_contender(name: str, config: RunConfig) -> Contender:
    """Build one of :data:`CONTENDERS`.

    Raises:
        ValueError: See :func:`config_of`.
    """
    config = config_of(name, config)
    return UsualLoop(config) if name == USUAL else OurLoop(config)
