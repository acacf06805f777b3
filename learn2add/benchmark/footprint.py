"""What the project costs before it does anything: time to import it, memory, size of its data."""

import subprocess
import sys
from dataclasses import dataclass
from statistics import median

import torch
from torch import Tensor

from learn2add.benchmark.compare import WARM_UP
from learn2add.benchmark.contenders import contenders_for
from learn2add.benchmark.networks import NETWORKS, benchmark_config
from learn2add.benchmark.workers import LocalWorker
from learn2add.checks import check_int
from learn2add.data import load_digits
from learn2add.pairs import AdditionPairs

IMPORTS = {
    "import torch": "import torch",
    "and learn2add, every public name": "import torch\nfrom learn2add import *",
    "and its training": "import torch\nfrom learn2add import *\nimport learn2add.recipes",
}
CLOCKED = """\
import time
start = time.perf_counter()
{code}
seconds = time.perf_counter() - start
from learn2add.hardware import peak_memory
print(seconds, peak_memory())
"""


@dataclass(frozen=True)
class Start:
    """What some imports cost in a fresh process."""

    seconds: float
    """Median."""
    beyond: float
    """Median of the seconds more than torch alone took in the same repeat."""
    memory: float
    """Median of the bytes that the process held at most."""


def starts(repeats: int = 5) -> dict[str, Start]:
    """Cost of each of :data:`IMPORTS`, fresh processes in turns.

    Raises:
        TypeError, ValueError: ``repeats`` is no integer from 1 to 100.
        CalledProcessError: An import fails.
    """
    check_int("repeats", repeats, 1, 100)
    turns = [{name: _start(code) for name, code in IMPORTS.items()} for _ in range(repeats)]
    alone = next(iter(IMPORTS))
    return {
        name: Start(
            median(turn[name][0] for turn in turns),
            median(turn[name][0] - turn[alone][0] for turn in turns),
            median(turn[name][1] for turn in turns),
        )
        for name in IMPORTS
    }


def _start(code: str) -> tuple[float, float]:
    """Seconds and bytes of one fresh process."""
    words = [sys.executable, "-c", CLOCKED.format(code=code)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    seconds, memory = done.stdout.split()
    return float(seconds), float(memory)


def pairs_bytes() -> tuple[int, int]:
    """The addition pairs of MNIST's 60,000 training pictures: how many, and bytes beyond these.

    Counted are all tensors that :class:`learn2add.pairs.AdditionPairs` keeps, and one epoch.
    """
    pairs = AdditionPairs(load_digits("MNIST", "train+validation").labels)
    kept = [*pairs.epoch(torch.Generator().manual_seed(0))]
    for value in vars(pairs).values():
        kept += [
            v for v in (value if isinstance(value, list) else [value]) if isinstance(v, Tensor)
        ]
    return len(pairs), sum(tensor.numel() * tensor.element_size() for tensor in kept)


def training_memory(network: str, batch_size: int = 128) -> tuple[str, int]:
    """This project's fastest loop for a network here, and the bytes that its process takes.

    Raises:
        TypeError, ValueError: See :func:`learn2add.benchmark.networks.benchmark_config`.
    """
    config = benchmark_config(network, batch_size)
    name = contenders_for(config)[-1]
    worker = LocalWorker(name, config)
    try:
        worker.images_per_second(WARM_UP)
        return name, worker.peak_memory()
    finally:
        worker.close()


def footprint_table(repeats: int = 5, batch_size: int = 128) -> str:
    """All of it for reading.

    Raises:
        TypeError, ValueError: An argument is not allowed.
    """
    lines = [f"{'':40}{'seconds':>9}{'beyond torch':>14}{'peak MB':>9}"]
    for name, start in starts(repeats).items():
        cost = f"{start.seconds:9.2f}{start.beyond:14.2f}{start.memory / 1e6:9,.0f}"
        lines.append(f"{name:40}{cost}")
    for network in NETWORKS:
        name, memory = training_memory(network, batch_size)
        lines.append(f"{f'training {network}, {name}':63}{memory / 1e6:9,.0f}")
    count, size = pairs_bytes()
    lines += ["", f"{count:,} addition pairs take {size / 1e6:.1f} MB beyond the digits"]
    lines += [
        f"imports: median of {repeats} fresh processes each, in turns; training: batch {batch_size}"
    ]
    return "\n".join(lines)
