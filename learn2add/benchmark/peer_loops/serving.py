"""Turns between the steps of a training that another library runs.

Starting such a training takes longer than many of its steps. So it is started once, without end,
and its callback after each step waits wherever a turn is over.
"""

import json
import time
from collections.abc import Callable, Iterator
from typing import Any, Protocol, TextIO

import torch
from torch import Tensor

from learn2add.benchmark.networks import first_picture, validation_rmse
from learn2add.configs import RunConfig
from learn2add.hardware import peak_memory

ENDLESS = 1_000_000
"""Epochs that nobody waits for."""


class Loop(Protocol):
    """A network in another library, and that library's training of it."""

    library: str
    """Its name and version."""
    parameters: int
    """How many numbers it learns."""

    def draw(self, *inputs: Tensor) -> Tensor:
        """The network's picture; see :func:`learn2add.benchmark.networks.validation_rmse`."""

    def fit(self, epochs: int, step_ended: Callable[[int], None]) -> None:
        """Train; after each optimiser step call ``step_ended`` with its number of pictures."""


class Turns:
    """Lets a training go on for as many steps as are asked for, and answers how long they took."""

    def __init__(self, lines: Iterator[str], answer: Callable[[dict[str, Any]], None]) -> None:
        self.lines, self.answer = lines, answer

    def wait(self) -> None:
        """Return where a turn begins.

        Raises:
            SystemExit: Nobody asks any more.
            ValueError: The line is none of those that are understood.
        """
        for line in self.lines:
            match line.split():
                case ["memory"]:
                    self.answer({"bytes": peak_memory()})
                case ["train", steps]:
                    self.left, self.pictures, self.start = int(steps), 0, time.perf_counter()
                    return
                case _:
                    raise ValueError(f"line is {line!r}; allowed are 'train N' and 'memory'")
        raise SystemExit

    def step_ended(self, pictures: int) -> None:
        """Count a step; at the end of a turn answer, and wait for the next."""
        self.left, self.pictures = self.left - 1, self.pictures + pictures
        if self.left == 0:
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            seconds = time.perf_counter() - self.start
            self.answer({"pictures": self.pictures, "seconds": seconds})
            self.wait()


def serve(
    make_loop: Callable[[RunConfig], Loop], lines: TextIO, answers: TextIO, epochs: int = 0
) -> None:
    """Build the network, then take turns, or train for whole epochs and answer with the error.

    Args:
        make_loop: Builds it from the configuration in the first line.
        lines: What is asked.
        answers: Where the answers go, a line of JSON each; a failure is one of them.
        epochs: 0 to take turns.
    """

    def answer(found: dict[str, Any]) -> None:
        print(json.dumps(found), file=answers, flush=True)

    try:
        config = RunConfig.from_json(lines.readline())
        loop = make_loop(config)
        built = {"library": loop.library, "parameters": loop.parameters}
        answer(built | {"picture": first_picture(config, loop.draw)})
        if epochs:
            loop.fit(epochs, lambda pictures: None)
            answer({"rmse": validation_rmse(config, loop.draw)})
        else:
            turns = Turns(iter(lines), answer)
            turns.wait()
            loop.fit(ENDLESS, turns.step_ended)
    except Exception as error:
        first = str(error).strip().split("\n")[0]
        answer({"failed": f"{type(error).__name__}: {first}"[:160]})
