"""A process for each contender, asked over and over: so many steps, how fast?"""

import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Protocol

from learn2add.benchmark.contenders import Contender, make_contender
from learn2add.benchmark.networks import drawn_by, validation_rmse
from learn2add.configs import RunConfig
from learn2add.hardware import peak_memory


class Worker(Protocol):
    """One contender in its process."""

    def images_per_second(self, steps: int) -> float:
        """Take so many optimiser steps; input pictures per second."""

    def validation_rmse(self, epochs: int) -> float:
        """Train anew for whole epochs; see :func:`learn2add.benchmark.networks.validation_rmse`."""

    def peak_memory(self) -> int:
        """Bytes that the process held at most so far."""

    def close(self) -> None:
        """End the process."""


class LocalWorker:
    """One of this project's contenders, in a fresh process of this environment.

    Args:
        name: One of :data:`learn2add.benchmark.contenders.CONTENDERS`.
        config: What to train.
    """

    def __init__(self, name: str, config: RunConfig) -> None:
        self.name, self.config = name, config
        options = {"initializer": _start, "initargs": (name, config)}
        self.pool = ProcessPoolExecutor(1, get_context("spawn"), **options)

    def images_per_second(self, steps: int) -> float:
        """See :class:`Worker`."""
        return self.pool.submit(_images_per_second, steps).result()

    def validation_rmse(self, epochs: int) -> float:
        """See :class:`Worker`."""
        return self.pool.submit(_validation_rmse, self.name, self.config, epochs).result()

    def peak_memory(self) -> int:
        """See :class:`Worker`."""
        return self.pool.submit(peak_memory).result()

    def close(self) -> None:
        """See :class:`Worker`."""
        self.pool.shutdown()


_contender: Contender | None = None  # of this process


def _start(name: str, config: RunConfig) -> None:
    global _contender
    _contender = make_contender(name, config)


def _images_per_second(steps: int) -> float:
    assert _contender is not None
    start = time.perf_counter()
    pictures = _contender.train(steps)
    return pictures / (time.perf_counter() - start)


def _validation_rmse(name: str, config: RunConfig, epochs: int) -> float:
    contender = make_contender(name, config)
    for _ in range(epochs):
        contender.train(None)
    return validation_rmse(config, drawn_by(contender.model.eval()))
