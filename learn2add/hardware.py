"""What the machine offers: device, precision, threads, and how fast it multiplies matrices."""

import ctypes
import sys
import time
from pathlib import Path

import torch


def default_device() -> torch.device:
    """The first CUDA device where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def multiplies_bfloat16(device: torch.device | str = "cpu") -> bool:
    """Whether the hardware multiplies bfloat16 itself; elsewhere it is emulated.

    A processor without AVX512-BF16 or AMX computes bfloat16 convolutions 10 to 90 times slower than
    float32. What a build of torch cannot tell, it cannot do: macOS has none of these questions.
    """
    kind = torch.device(device).type
    if kind == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    able = getattr(torch.cpu, "_is_avx512_bf16_supported", bool)
    return kind == "cpu" and bool(able())


def default_precision(device: torch.device | str = "cpu") -> str:
    """Return "bfloat16" where the hardware multiplies it faster than float32, else "float32"."""
    return "bfloat16" if multiplies_bfloat16(device) else "float32"


def keep_freed_memory() -> bool:
    """Ask glibc to keep freed buffers instead of handing each back to the kernel.

    A training step allocates and frees the same buffers of several MB again and again; by default
    each comes as fresh pages that the kernel has to clear first.

    Returns:
        Whether the C library took the settings (False where it is not glibc).
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return False
    mmap_threshold, trim_threshold = -3, -1  # M_MMAP_THRESHOLD, M_TRIM_THRESHOLD of malloc.h
    return bool(mallopt(mmap_threshold, 1 << 30) and mallopt(trim_threshold, (1 << 31) - 1))


def peak_memory() -> int:
    """Bytes of main memory that this process held at most (its resident set).

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


def matmul_rate(precision: str | None = None, size: int = 2048, repeats: int = 10) -> float:
    """Rate of a square matrix product on the default device.

    Args:
        precision: "float32" or "bfloat16"; the default is :func:`default_precision`.
        size: Rows and columns of the matrices.
        repeats: Products timed; the best third's slowest counts, so a brief disturbance does not.

    Returns:
        GFLOP/s (10^9 multiplications and additions per second).
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


def describe() -> dict[str, str | int]:
    """Device, threads and library versions, for the record of a run (no machine name)."""
    device = default_device()
    name = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    return {"device": name, "threads": torch.get_num_threads(), "torch": torch.__version__}
