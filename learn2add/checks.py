"""Small argument checks; each raises one error naming the argument, what came, what is allowed."""

from __future__ import annotations

import math
import numbers
from collections.abc import Sequence
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

T = TypeVar("T")


def check_images(name: str, x: Tensor, *, square: bool = True) -> None:
    """Check a batch of model images.

    Args:
        name: The argument's name, for the message.
        x: Must be float32 `[B, 1, S, S]` with B >= 1 and every value in [0, 1].
        square: Whether height and width must be equal.

    Raises:
        TypeError: `x` is not a tensor or not float32.
        ValueError: `x` has another shape, is empty, or holds NaN or values outside [0, 1].
    """
    allowed = "float32 [B, 1, S, S] with values in [0, 1]"
    if not isinstance(x, Tensor):
        raise TypeError(f"{name} must be a tensor {allowed}, not {_kind(x)}")
    if x.dtype != torch.float32:
        raise TypeError(f"{name} must be {allowed}, not {_kind(x)} (as_float makes one of uint8)")
    rank_is_wrong = x.ndim != 4 or x.shape[1] != 1
    if rank_is_wrong or (square and x.shape[2] != x.shape[3]):
        raise ValueError(f"{name} must be {allowed}, not of shape {list(x.shape)}")
    if x.numel() == 0:
        raise ValueError(f"{name} must be {allowed}, not empty (shape {list(x.shape)})")
    low, high = (bound.item() for bound in torch.aminmax(x.detach()))  # a NaN comes through both
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ValueError(f"{name} must be {allowed}, but holds NaN or infinite values")
    if low < 0 or high > 1:
        raise ValueError(f"{name} must be {allowed}, but its values span [{low:.4g}, {high:.4g}]")


def check_digit_arrays(
    x: np.ndarray | Tensor, y: np.ndarray | Tensor, *, names: tuple[str, str] = ("x", "y")
) -> tuple[np.ndarray, np.ndarray]:
    """Check digit pictures with their labels, as NumPy arrays or tensors.

    Args:
        x: Pictures `[N, H, W]` of any numeric type, N >= 1.
        y: Integer labels `[N]`, each 0 to 9.
        names: The two arguments' names, for the message.

    Returns:
        Both as NumPy arrays, labels as int64; nothing is copied where that can be avoided.

    Raises:
        TypeError: Neither array nor tensor, or of another kind of number.
        ValueError: Other shapes, unequal lengths, no picture, NaN, or labels outside 0 to 9.
    """
    images, labels = _as_array(names[0], x), _as_array(names[1], y)
    if images.dtype.kind not in "uif":
        raise TypeError(f"{names[0]} must hold real numbers, not {images.dtype}")
    if labels.dtype.kind not in "ui":
        raise TypeError(f"{names[1]} must hold integer labels 0 to 9, not {labels.dtype}")
    if images.ndim != 3 or images.size == 0:
        raise ValueError(f"{names[0]} must be pictures [N, H, W], not shape {list(images.shape)}")
    if labels.ndim != 1:
        raise ValueError(f"{names[1]} must be labels [N], not shape {list(labels.shape)}")
    if len(images) != len(labels):
        raise ValueError(
            f"{names[0]} and {names[1]} must be equally long, not {len(images)} and {len(labels)}"
        )
    if images.dtype.kind == "f" and not np.isfinite(images).all():
        raise ValueError(f"{names[0]} must be finite, but holds NaN or infinite values")
    if labels.min() < 0 or labels.max() > 9:
        raise ValueError(
            f"{names[1]} must be labels 0 to 9, but they span {labels.min()} to {labels.max()}"
        )
    return images, labels.astype(np.int64, copy=False)


def check_choice(name: str, value: T, allowed: Sequence[T]) -> T:
    """Check that `value` is one of `allowed`; True is not 1, and 28.0 is not 28.

    Returns:
        The value.

    Raises:
        ValueError: It is not.
    """
    for choice in allowed:
        both_integers = _is_integer(value) and _is_integer(choice)
        if (both_integers or type(value) is type(choice)) and value == choice:
            return value
    choices = ", ".join(repr(choice) for choice in allowed)
    raise ValueError(f"{name} must be one of {choices}, not {_short(value)}")


def check_int(name: str, value: object, low: int | None = None, high: int | None = None) -> int:
    """Check an integer between `low` and `high`, both included; None leaves a side open.

    Returns:
        The value as a Python int.

    Raises:
        TypeError: Not an integer (bool and whole floats are refused too).
        ValueError: Out of range.
    """
    bounds = f"an integer{_bounds(low, high)}"
    if not _is_integer(value):
        raise TypeError(f"{name} must be {bounds}, not {_short(value)}")
    value = int(value)
    if (low is not None and value < low) or (high is not None and value > high):
        raise ValueError(f"{name} must be {bounds}, not {value}")
    return value


def check_finite(name: str, value: Tensor | np.ndarray | float) -> None:
    """Check that a number, array or tensor holds neither NaN nor infinity.

    Raises:
        TypeError: Not a real number, array or tensor of real numbers.
        ValueError: NaN or infinity in it.
    """
    if isinstance(value, Tensor) and value.dtype != torch.bool and not value.is_complex():
        finite = bool(torch.isfinite(value).all())
    elif isinstance(value, np.ndarray) and value.dtype.kind in "uif":
        finite = bool(np.isfinite(value).all())
    elif isinstance(value, numbers.Real) and not isinstance(value, bool):
        try:
            finite = math.isfinite(value)
        except OverflowError:  # an integer beyond the range of float
            finite = False
    else:
        raise TypeError(f"{name} must be finite real numbers, not {_kind(value)}")
    if not finite:
        what = f"{value}" if isinstance(value, numbers.Real) else "NaN or infinite values in it"
        raise ValueError(f"{name} must be finite, not {what}")


def _is_integer(value: object) -> bool:
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def _as_array(name: str, value: np.ndarray | Tensor) -> np.ndarray:
    if isinstance(value, Tensor):
        if value.dtype == torch.bfloat16:  # NumPy has no such type
            value = value.float()
        return value.detach().cpu().numpy()
    if isinstance(value, np.ndarray):
        return value
    raise TypeError(f"{name} must be a NumPy array or a tensor, not {_kind(value)}")


def _bounds(low: int | None, high: int | None) -> str:
    if low is not None and high is not None:
        return f" from {low} to {high}"
    if low is not None:
        return f" of {low} or more"
    return "" if high is None else f" of {high} or less"


def _kind(value: object) -> str:
    if isinstance(value, Tensor | np.ndarray):
        return f"{str(value.dtype).removeprefix('torch.')} {list(value.shape)}"
    return _short(value)


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{type(value).__name__} {text[:50]}..."
