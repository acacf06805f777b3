"""What the project costs before it does anything: time to import it, memory, size of its data."""

import contextlib
import subprocess
import sys
from statistics import median
from typing import NamedTuple

import torch
from torch import Tensor

from learn2add.checks import check_int
from learn2add.data import load_digits
from learn2add.pairs import AdditionPairs
from tools.benchmark.compare import WARM_UP
from tools.benchmark.contenders import contenders_for
from tools.benchmark.networks import NETWORKS, benchmark_config
from tools.benchmark.peers import ROOT, Worker

IMPORTS = {
    "import torch": "import torch",
    "and learn2add's data, pairs and network": "import torch\n"
    "import learn2add.data, learn2add.pairs, learn2add.network",
    "and its training": "import torch\nimport learn2add.recipes, learn2add.runs",
}
CLOCKED = """\
import time
start = time.perf_counter()
{code}
seconds = time.perf_counter() - start
from tools.benchmark.machine import peak_memory
print(seconds, peak_memory())
"""


class Start(NamedTuple):
    """What some imports cost in a fresh process; medians."""

    seconds: float
    beyond: float
    """Seconds more than torch alone took in the same repeat."""
    memory: float
    """Bytes that the process held at most."""


def starts(repeats: int = 5) -> dict[str, Start]:
    """Return the cost of each of ``IMPORTS``, in fresh processes that take turns."""
    check_int("repeats", repeats, 1, 100)
    turns = [{name: _start(code) for name, code in IMPORTS.items()} for _ in range(repeats)]
    found, (alone, *_) = {}, IMPORTS
    for name in IMPORTS:
        seconds, beyond, memory = zip(
            *((t[name][0], t[name][0] - t[alone][0], t[name][1]) for t in turns), strict=True
        )
        found[name] = Start(median(seconds), median(beyond), median(memory))
    return found


def _start(code: str) -> tuple[float, float]:
    """Seconds and bytes of one fresh process."""
    words = [sys.executable, "-c", CLOCKED.format(code=code)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True)
    seconds, memory = done.stdout.split()
    return float(seconds), float(memory)


def pairs_bytes() -> tuple[int, int]:
    """Count the addition pairs of MNIST's 60,000 training images, and their bytes beyond these.

    Counted are all tensors that ``AdditionPairs`` keeps, and one epoch.
    """
    pairs = AdditionPairs(load_digits("MNIST", "train+validation").labels)
    kept = [*pairs.epoch(torch.Generator().manual_seed(0))]
    for value in vars(pairs).values():
        values = value if isinstance(value, list) else [value]
        kept += [tensor for tensor in values if isinstance(tensor, Tensor)]
    return len(pairs), sum(tensor.numel() * tensor.element_size() for tensor in kept)


def footprint_table(repeats: int = 5, batch_size: int = 128) -> str:
    """Measure all of it and lay it out for reading."""
    lines = [f"{'':40}{'seconds':>9}{'beyond torch':>14}{'peak MB':>9}"]
    for name, start in starts(repeats).items():
        cost = f"{start.seconds:9.2f}{start.beyond:14.2f}{start.memory / 1e6:9,.0f}"
        lines.append(f"{name:40}{cost}")
    for network in NETWORKS:
        config = benchmark_config(network, batch_size)
        name = contenders_for(config)[-1]  # this project's fastest loop here
        with contextlib.closing(Worker(name, config)) as worker:
            worker.images_per_second(WARM_UP)
            memory = worker.peak_memory() / 1e6
        lines.append(f"{f'training {network}, {name}':63}{memory:9,.0f}")
    count, size = pairs_bytes()
    lines += ["", f"{count:,} addition pairs take {size / 1e6:.1f} MB beyond the digits"]
    lines += [
        f"imports: median of {repeats} fresh processes each, in turns; training: batch {batch_size}"
    ]
    return "\n".join(lines)
