"""How the speed of this project's loop changes as the work grows, one quantity at a time."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from statistics import median

from learn2add.checks import check_choice, check_int
from learn2add.config import RunConfig
from learn2add.hardware import default_device, default_precision
from learn2add.network import DECODERS
from tools.benchmark.compare import WARM_UP
from tools.benchmark.networks import TRAIN_SIZE, benchmark_config
from tools.benchmark.peers import Worker

SIZES = {
    "batch size": (16, 32, 64, 128, 256, 512, 1024),
    "code size": (2, 4, 8, 16, 32, 64, 128),
    "image size": (28, 32, 64),
    "digits to train on": (1_000, 3_000, 10_000, TRAIN_SIZE),
}
"""What grows, and through which sizes."""


Growth = dict[str, Sequence[float]]
"""Of one quantity the ``sizes``, and ``median``, ``low`` and ``high`` images per second of each."""


def grown(config: RunConfig, quantity: str, size: int) -> RunConfig:
    """Return the configuration with one quantity at that size."""
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
    """Measure every size of every quantity, the others as usual; else see ``compare``.

    The sizes of one quantity train in turns, each in its process, equally many images a turn: as
    many as ``steps`` have at ``batch_size``.
    """
    check_choice("network", network, tuple(DECODERS))
    config = benchmark_config(network, batch_size, default_precision(default_device()))
    check_int("steps", steps, 1, 10_000)
    check_int("repeats", repeats, 1, 10_000)
    found = {}
    for quantity, values in sizes.items():
        configs = [grown(config, quantity, size) for size in values]
        speeds = _in_turns(configs, steps * batch_size, repeats)
        lines = {"median": median, "low": min, "high": max}
        found[quantity] = {"sizes": values}
        found[quantity] |= {name: [pick(own) for own in speeds] for name, pick in lines.items()}
        pairs = zip(values, found[quantity]["median"], strict=True)
        row = ", ".join(f"{size:,}: {speed:,.0f}" for size, speed in pairs)
        say(f"{quantity}, images/s: {row}")
    return found


def _in_turns(configs: list[RunConfig], images: int, repeats: int) -> list[list[float]]:
    """Images per second of each configuration, one figure per repeat."""
    with ExitStack() as stack:
        workers = []
        for config in configs:
            workers.append(Worker(f"learn2add {config.precision}", config))
            stack.callback(workers[-1].close)
            workers[-1].images_per_second(WARM_UP if config.stages[0].batch_size < 256 else 2)
        speeds: list[list[float]] = [[] for _ in configs]
        for _ in range(repeats):
            for own, config, worker in zip(speeds, configs, workers, strict=True):
                steps = max(1, images // config.stages[0].batch_size)
                own.append(worker.images_per_second(steps))
        return speeds


def growth_table(found: dict[str, Growth]) -> str:
    """Lay the figures out for reading: median, lowest and highest of each size."""
    lines = []
    for quantity, grown in found.items():
        lines += ["", f"{quantity:>18}{'images/s':>10}{'lowest to highest':>20}"]
        for size, middle, low, high in zip(*grown.values(), strict=True):
            lines.append(f"{size:18,}{middle:10,.0f}{f'{low:,.0f} to {high:,.0f}':>20}")
    return "\n".join(lines[1:])
