"""What the machine offers: device, precision, threads."""

import ctypes
import functools
import sys
import time

import torch
from torch import nn


def default_device() -> torch.device:
    """The first CUDA device where there is one, else the CPU; not Apple's MPS, which has no float64
    and could not be held against a CPU.
    """
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
    """Return "bfloat16" where it pays, else "float32"."""
    return "bfloat16" if bfloat16_pays(torch.device(device).type) else "float32"


@functools.cache
@torch.no_grad()
def bfloat16_pays(kind: str = "cpu") -> bool:
    """Whether a device multiplies bfloat16 itself, rightly and not slower than float32; tried once.

    Tried are a convolution, a transposed one and a linear layer, for some milliseconds; rightly is
    within 1 % of float32's largest number.
    """
    if not multiplies_bfloat16(kind):
        return False
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        x = torch.randn(32, 32, 14, 14)
        layers = nn.Sequential(
            nn.Conv2d(32, 64, 3), nn.ConvTranspose2d(64, 32, 3), nn.Flatten(), nn.Linear(6272, 64)
        )
    x, layers = (a.to(kind, memory_format=torch.channels_last) for a in (x, layers))
    seconds, results = {}, {}
    for fast in (False, True):
        times = []
        for _ in range(7):
            started = time.perf_counter()
            with torch.autocast(kind, torch.bfloat16, enabled=fast):
                results[fast] = layers(x).float()
            results[fast].sum().item()  # waits for a GPU
            times.append(time.perf_counter() - started)
        seconds[fast] = min(times)
    exact, rounded = results.values()
    agree = (exact - rounded).abs().max() <= 0.01 * exact.abs().max()
    # Its own takes 0.6 times as long, an emulated one 10 times: a busy machine must not decide.
    return bool(agree) and seconds[True] < 2 * seconds[False]


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


def describe() -> dict[str, str | int]:
    """Device, threads and library versions, for the record of a run (no machine name)."""
    device = default_device()
    name = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    return {"device": name, "threads": torch.get_num_threads(), "torch": torch.__version__}
