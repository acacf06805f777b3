"""What the machine offers: device, precision, threads."""

import ctypes
import sys

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


def describe() -> dict[str, str | int]:
    """Device, threads and library versions, for the record of a run (no machine name)."""
    device = default_device()
    name = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    return {"device": name, "threads": torch.get_num_threads(), "torch": torch.__version__}
