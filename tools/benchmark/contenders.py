"""The loops that are compared in this environment: the usual one of coursework, and this project's.

Usual: torchvision's data set with ``ToTensor`` behind a shuffling ``DataLoader``, in float32. For
the addition model the data set picks, for every digit, a valid addend and some image of the sum.

This project's addition model is measured in two ways. ``learn2add float32`` and ``learn2add
bfloat16`` see drawn pairs, so each step does what the usual loop's does. ``learn2add recipe``
trains as the recipes do (targets "batch"). A step takes equally many input images and has the same
loss in expectation, but compares each with all its targets in the batch, so it needs no second
image; the reconstruction is taken from one image in four. All have the assignment's weights and
Adam, not the recipes' own.
"""

import random
from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision.datasets import MNIST
from torchvision.transforms import ToTensor
from tqdm.auto import tqdm

from learn2add.checks import check_choice
from learn2add.config import RunConfig
from learn2add.data import Digits, load_digits
from learn2add.hardware import default_device, default_precision, keep_freed_memory
from learn2add.network import parameter_count
from learn2add.train import Progress, build_model, deterministic, run_epoch
from tools.benchmark.networks import training_digits, usual_loss

USUAL = "usual loop"
RECIPE = "learn2add recipe"
CONTENDERS = (USUAL, "learn2add float32", "learn2add bfloat16", RECIPE)


class UsualDigits(MNIST):
    """torchvision's data set over digits already in memory, so that it needs no files.

    Each image becomes a PIL image, then a float32 tensor ``[1, 28, 28]`` in [0, 1].
    """

    def __init__(self, digits: Digits) -> None:
        self.data, self.targets = digits.images, digits.labels
        self.transform, self.target_transform = ToTensor(), None


class UsualSums(UsualDigits):
    """For every digit a random valid addend and a random image of the sum.

    An item is ``(x, addend, y)``: float32 ``[1, 28, 28]``, a number, ``[1, 28, 28]``.
    """

    def __init__(self, digits: Digits) -> None:
        super().__init__(digits)
        self.of_digit = [members.tolist() for members in digits.by_class()]

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, Tensor]:
        x, digit = super().__getitem__(index)
        addend = random.randint(0, 9 - digit)
        y, _ = super().__getitem__(random.choice(self.of_digit[digit + addend]))
        return x, torch.tensor(float(addend)), y


def usual_loader(config: RunConfig) -> DataLoader:
    """Return the usual data set for that network, shuffled and in batches."""
    torch.manual_seed(config.seed)
    random.seed(config.seed)
    data = (UsualSums if config.adds else UsualDigits)(training_digits(config))
    return DataLoader(data, batch_size=config.stages[0].batch_size, shuffle=True)


class UsualLoop:
    """The contender to beat; see the module's head."""

    library = USUAL

    def __init__(self, config: RunConfig) -> None:
        self.config, self.device = config, default_device()
        self.model = build_model(config).to(self.device)
        self.parameters = parameter_count(self.model)
        self.loader = usual_loader(config)

    def draw(self, *inputs: Tensor) -> Tensor:
        """See ``serving.Loop``."""
        return self.model.eval()(*inputs)

    def fit(self, epochs: int, step_ended: Callable[[int], None]) -> None:
        """See ``serving.Loop``."""
        self.model.train()
        rate = self.config.stages[0].learning_rate
        optimiser, total = torch.optim.Adam(self.model.parameters(), lr=rate), 0.0
        for _ in range(epochs):
            for batch in self.loader:
                batch = [part.to(self.device) for part in batch]
                loss = usual_loss(self.config, self.model, batch)
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                total += loss.item()
                step_ended(len(batch[0]))


class OurLoop:
    """The loop of ``learn2add.train``, as it stands; validation is cut to ten digits."""

    library = "learn2add"

    def __init__(self, config: RunConfig) -> None:
        keep_freed_memory()
        self.config, device = config, default_device()
        self.model = build_model(config).to(device, memory_format=torch.channels_last)
        self.parameters = parameter_count(self.model)
        few = load_digits("MNIST", "validation").subset(10).resized(config.image_size)
        digits = training_digits(config).to(device)
        self.step = config.step(config.stages[0], self.model, digits, few.to(device))

    draw = UsualLoop.draw

    def fit(self, epochs: int, step_ended: Callable[[int], None]) -> None:
        """See ``serving.Loop``."""
        batches = self.step.batches

        def counted(generator: torch.Generator) -> Iterator[tuple[Tensor, ...]]:
            for batch in batches(generator):
                yield batch
                step_ended(len(batch[0]))  # the loop asks for the next one when a step is taken

        self.step.batches = counted
        optimiser = self.step.optimiser()
        with deterministic(), tqdm(disable=True) as bar:
            for epoch in range(epochs):
                run_epoch(self.config, Progress(epoch=epoch), self.step, optimiser, bar)


def contenders_for(config: RunConfig) -> list[str]:
    """Return those that can train it here; bfloat16 only where hardware has it."""
    fast = default_precision(default_device())
    names = [name for name in CONTENDERS if fast == "bfloat16" or not name.endswith("bfloat16")]
    return names if config.adds else [name for name in names if name != RECIPE]


def config_of(name: str, config: RunConfig) -> RunConfig:
    """Return what the contender of that name trains: precision and targets are its own."""
    check_choice("name", name, CONTENDERS)
    if name != RECIPE:
        precision = "bfloat16" if name.endswith("bfloat16") else "float32"
        return replace(config, precision=precision)
    if not config.adds:
        raise ValueError(f"name is {name!r}; allowed for networks that add, not {config.model!r}")
    stages = (replace(config.stages[0], targets="batch"),)
    return replace(config, stages=stages, precision=default_precision(default_device()))


def make_contender(name: str, config: RunConfig) -> UsualLoop | OurLoop:
    """Build one of ``CONTENDERS``."""
    config = config_of(name, config)
    return UsualLoop(config) if name == USUAL else OurLoop(config)
