"""The loops that are compared in this environment: ``usual_loop``, and this project's.

This project's addition model is measured in two ways. ``learn2add float32`` and ``learn2add
bfloat16`` see drawn pairs, so each step does what the usual loop's does. ``learn2add recipe``
trains as the recipes do (targets "batch"). A step takes equally many input images and has the same
loss in expectation, but compares each with all its targets in the batch, so it needs no second
image; the reconstruction is taken from one image in four. All have the assignment's weights and
Adam, not the recipes' own.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from tqdm import tqdm

from learn2add.checks import check_choice
from learn2add.config import RunConfig
from learn2add.data import load_digits
from learn2add.hardware import default_device, default_precision, keep_freed_memory
from learn2add.network import parameter_count
from learn2add.train import Progress, build_model, deterministic, run_epoch
from tools.benchmark.networks import training_digits

if TYPE_CHECKING:
    from tools.benchmark.usual_loop import UsualLoop

USUAL = "usual loop"
RECIPE = "learn2add recipe"
CONTENDERS = (USUAL, "learn2add float32", "learn2add bfloat16", RECIPE)


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

    def draw(self, *inputs: Tensor) -> Tensor:
        """See ``serving.Loop``."""
        return self.model.eval()(*inputs)

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


def make_contender(name: str, config: RunConfig) -> "OurLoop | UsualLoop":
    """Build one of ``CONTENDERS``."""
    config = config_of(name, config)
    if name != USUAL:
        return OurLoop(config)
    from tools.benchmark.usual_loop import UsualLoop  # torchvision takes seconds to import

    return UsualLoop(config)
