"""How the speed of this project's loop changes as the work grows, one quantity at a time."""

from collections.abc import Callable
from dataclasses import replace
from statistics import median
from typing import NamedTuple

from learn2add.benchmark.compare import WARM_UP
from learn2add.benchmark.networks import ADDITION, TRAIN_SIZE, benchmark_config
from learn2add.benchmark.workers import LocalWorker
from learn2add.checks import check_int
from learn2add.configs import RunConfig
from learn2add.hardware import default_device, default_precision

SIZES = {
    "batch size": (16, 32, 64, 128, 256, 512, 1024),
    "code size": (2, 4, 8, 16, 32, 64, 128),
    "image size": (28, 32, 64),
    "digits to train on": (1_000, 3_000, 10_000, TRAIN_SIZE),
}
"""What grows, and through which sizes."""


class Growth(NamedTuple):
    """Speeds of one quantity's sizes: images per second, ``[sizes]`` each."""

    sizes: tuple[int, ...]
    median: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]


def grown(config: RunConfig, quantity: str, size: int) -> RunConfig:
    """The configuration with one of :data:`SIZES`' quantities at that size."""
    if quantity == "batch size":
        return replace(config, stages=(replace(config.stages[0], batch_size=size),))
    names = {"code size": "code_size", "image size": "image_size"}
    return replace(config, **{names.get(quantity, "train_size"): size})


def growth(
    network: str = "conv_transpose",
    *,
    batch_size: int = 128,
    steps: int = 30,
    repeats: int = 7,
    sizes: dict[str, tuple[int, ...]] = SIZES,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Growth]:
    """Measure every size of every quantity, the others as usual.

    The sizes of one quantity train in turns, each in its process, equally many pictures a turn.

    Args:
        network: One of the assignment's decoders.
        batch_size: Pictures per step, where that does not grow.
        steps: Steps per turn at that batch size.
        repeats: Turns of each size.
        sizes: What grows, and through which sizes: names as in :data:`SIZES`.
        say: Is told what happens.

    Raises:
        TypeError, ValueError: A number is not an integer, or out of range; another network.
    """
    if network == ADDITION:
        raise ValueError(f"network must be one of the decoders where sizes grow, not {network!r}")
    config = benchmark_config(network, batch_size, default_precision(default_device()))
    check_int("steps", steps, 1, 10_000)
    check_int("repeats", repeats, 1, 10_000)
    found = {}
    for quantity, values in sizes.items():
        configs = [grown(config, quantity, size) for size in values]
        speeds = _in_turns(configs, steps * batch_size, repeats)
        found[quantity] = Growth(
            values, *(tuple(pick(own) for own in speeds) for pick in (median, min, max))
        )
        row = ", ".join(
            f"{size:,}: {median(own):,.0f}" for size, own in zip(values, speeds, strict=True)
        )
        say(f"{quantity}, images/s: {row}")
    return found


def _in_turns(configs: list[RunConfig], pictures: int, repeats: int) -> list[list[float]]:
    """Images per second of each configuration, one figure per repeat."""
    workers = []
    try:
        for config in configs:
            workers.append(LocalWorker(f"learn2add {config.precision}", config))
            workers[-1].images_per_second(WARM_UP if config.stages[0].batch_size < 256 else 2)
        speeds: list[list[float]] = [[] for _ in configs]
        for _ in range(repeats):
            for own, config, worker in zip(speeds, configs, workers, strict=True):
                steps = max(1, pictures // config.stages[0].batch_size)
                own.append(worker.images_per_second(steps))
        return speeds
    finally:
        for worker in workers:
            worker.close()


def growth_table(found: dict[str, Growth]) -> str:
    """The figures for reading: median, lowest and highest of each size."""
    lines = []
    for quantity, grown in found.items():
        lines += ["", f"{quantity:>18}{'images/s':>10}{'lowest to highest':>20}"]
        for size, middle, low, high in zip(*grown, strict=True):
            lines.append(f"{size:18,}{middle:10,.0f}{f'{low:,.0f} to {high:,.0f}':>20}")
    return "\n".join(lines[1:])
