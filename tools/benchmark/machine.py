"""How fast this machine multiplies matrices, and how much memory a process took."""

import sys
import time
from pathlib import Path

import torch

from learn2add.hardware import default_device, default_precision


def matmul_rate(precision: str | None = None, size: int = 2048, repeats: int = 10) -> float:
    """Return the rate of a square matrix product on the default device in GFLOP/s (10^9 a second).

    Args:
        precision: "float32" or "bfloat16"; the default is ``default_precision``'s.
        size: Rows and columns of the matrices.
        repeats: Products timed; the best third's slowest counts, so a brief disturbance does not.
    """
    device = default_device()
    dtype = getattr(torch, precision or default_precision(device))
    a = torch.randn(size, size, device=device).to(dtype)
    seconds = []
    for _ in range(repeats + 2):  # the first two warm up
        start = time.perf_counter()
        a @ a
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    typical = sorted(seconds[2:])[repeats // 3]
    return 2 * size**3 / typical / 1e9


def peak_memory() -> int:
    """Return the bytes of main memory that this process held at most (its resident set).

    Linux counts them for the program that runs; elsewhere a child may inherit its parent's peak.
    Windows does not tell: 0.
    """
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    for line in lines:
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    try:
        import resource
    except ImportError:
        return 0
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
