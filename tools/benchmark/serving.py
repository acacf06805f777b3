"""Turns between the steps of a training: ``python -m tools.benchmark.serving NAME EPOCHS``.

Starting another library's training takes longer than many of its steps. So a training is started
once, without end, and what is called after each step waits wherever a turn is over. The process is
sent lines and answers each with a line of JSON:

- the configuration as JSON -> ``{"library": name and version, "parameters": N, "image": [...]}``,
  the last being what the untrained network draws, see ``networks.first_image``;
- ``train N`` -> ``{"images": N, "seconds": X}`` for that many optimiser steps;
- ``memory`` -> ``{"bytes": N}``.

Instead of that answer it may give ``{"failed": "one line"}``. With EPOCHS above 0 it takes no turns
but trains for so many whole epochs and answers ``{"rmse": X}``.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any, Protocol, TextIO

import torch
from torch import Tensor

from learn2add.config import RunConfig
from tools.benchmark.contenders import make_contender
from tools.benchmark.machine import peak_memory
from tools.benchmark.networks import first_image, validation_rmse
from tools.benchmark.peers import PEERS

ENDLESS = 1_000_000
"""Epochs that nobody waits for."""


class Loop(Protocol):
    """A network, and a way to train it."""

    library: str
    """Its name and version."""
    parameters: int
    """How many numbers it learns."""

    def draw(self, *inputs: Tensor) -> Tensor:
        """Return the network's image, as ``networks.validation_rmse`` wants it."""

    def fit(self, epochs: int, step_ended: Callable[[int], None]) -> None:
        """Train; after each optimiser step call ``step_ended`` with its number of images."""


class Turns:
    """Lets a training go on for as many steps as are asked for, and answers how long they took."""

    def __init__(self, lines: Iterator[str], answer: Callable[[dict[str, Any]], None]) -> None:
        self.lines, self.answer = lines, answer

    def wait(self) -> None:
        """Return where a turn begins; SystemExit where nobody asks any more."""
        for line in self.lines:
            match line.split():
                case ["memory"]:
                    self.answer({"bytes": peak_memory()})
                case ["train", steps]:
                    self.left, self.images, self.start = int(steps), 0, time.perf_counter()
                    return
                case _:
                    raise ValueError(f"line is {line!r}; allowed is 'train N' or 'memory'")
        raise SystemExit

    def step_ended(self, images: int) -> None:
        """Count a step; at the end of a turn answer, and wait for the next."""
        self.left, self.images = self.left - 1, self.images + images
        if self.left == 0:
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            seconds = time.perf_counter() - self.start
            self.answer({"images": self.images, "seconds": seconds})
            self.wait()


def serve(
    make_loop: Callable[[RunConfig], Loop], lines: TextIO, answers: TextIO, epochs: int = 0
) -> None:
    """Build the network of the first line, then take turns or train; see the module's head."""

    def answer(found: dict[str, Any]) -> None:
        print(json.dumps(found), file=answers, flush=True)

    try:
        config = RunConfig.from_json(lines.readline())
        loop = make_loop(config)
        built = {"library": loop.library, "parameters": loop.parameters}
        answer(built | {"image": first_image(config, loop.draw)})
        if epochs:
            loop.fit(epochs, lambda images: None)
            answer({"rmse": validation_rmse(config, loop.draw)})
        else:
            turns = Turns(iter(lines), answer)
            turns.wait()
            loop.fit(ENDLESS, turns.step_ended)
    except Exception as error:
        first = str(error).strip().split("\n")[0]
        answer({"failed": f"{type(error).__name__}: {first}"[:160]})


def main(name: str, epochs: str) -> None:
    """Serve one contender; what its library prints goes to standard error."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def make_loop(config: RunConfig) -> Loop:
        if name in PEERS:
            return import_module(f"tools.benchmark.{name}_loop").Loop(config)
        return make_contender(name, config)

    serve(make_loop, sys.stdin, answers, int(epochs))


if __name__ == "__main__":
    main(*sys.argv[1:])
