"""Checks of arguments; every error reads ``name is VALUE; allowed is ...``.

Neither torch nor NumPy is imported here, so that the command line's help need not wait for them.
"""

import math
import numbers
import re
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")
_DTYPES = {"integers": r"(torch\.)?u?int\d+", "numbers": r"(torch\.)?(u?int|b?float)\d+"}


def check_choice(name: str, value: T, allowed: Sequence[T]) -> T:
    """Return ``value`` if it is one of ``allowed``; True is not 1, and 28.0 is not 28."""
    for choice in allowed:
        alike = type(value) is type(choice) or (_is_integer(value) and _is_integer(choice))
        if alike and value == choice:
            return value
    choices = ", ".join(repr(choice) for choice in allowed)
    raise ValueError(f"{name} is {shown(value)}; allowed is one of {choices}")


def check_int(name: str, value: object, low: float = -math.inf, high: float = math.inf) -> int:
    """Return ``value`` as a Python int if it is an integer from ``low`` to ``high``, both included.
    Bool and whole floats are none: TypeError; ValueError if out of range.
    """
    wrong = f"{name} is {shown(value)}; allowed is an integer{_interval(low, high)}"
    if not _is_integer(value):
        raise TypeError(wrong)
    if not low <= value <= high:
        raise ValueError(wrong)
    return int(value)


def check_number(
    name: str,
    value: T,
    low: float = -math.inf,
    high: float = math.inf,
    *,
    above: float = -math.inf,
    below: float = math.inf,
) -> T:
    """Return ``value`` if it is a finite number in the interval, or an array or tensor of them.

    ``low`` and ``high`` belong to the interval, ``above`` and ``below`` do not. Raises TypeError
    for what is no real number (bool is none), ValueError for NaN, infinite or out of range.
    """
    interval = _interval(low, high, above, below)
    allowed = f"a number{interval}" if " to " in interval else f"a finite number{interval}"
    if hasattr(value, "dtype"):
        is_real = re.fullmatch(_DTYPES["numbers"], str(value.dtype))
    else:
        is_real = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not is_real:
        raise TypeError(f"{name} is {shown(value)}; allowed is {allowed}")
    sizes = getattr(value, "shape", ())
    if 0 in sizes:
        raise ValueError(f"{name} is {shown(value)}; allowed is {allowed}")
    least, most = (value.min().item(), value.max().item()) if sizes else (value, value)
    if not (low <= least and most <= high and above < least and most < below):
        spread = f" from {least:g} to {most:g}" if sizes else ""
        raise ValueError(f"{name} is {shown(value)}{spread}; allowed is {allowed}")
    return value


def check_array(name: str, value: object, dtype: str, shape: str) -> None:
    """Check the type and shape of an array or tensor.

    ``dtype`` is ``"integers"`` or ``"numbers"`` of any width, or one type like ``"torch.uint8"``
    (else TypeError); ``shape`` like ``"B 1 S S"``, equal letters for equal sizes (else ValueError).
    """
    kind, words = str(getattr(value, "dtype", "")), shape.split()
    if not (re.fullmatch(_DTYPES[dtype], kind) if dtype in _DTYPES else kind == dtype):
        raise TypeError(f"{name} is {shown(value)}; allowed is {dtype} [{', '.join(words)}]")
    sizes = list(value.shape)
    seen = dict(zip(words, sizes, strict=False)) | {n: int(n) for n in words if n.isdigit()}
    if [seen.get(word) for word in words] != sizes:
        raise ValueError(f"{name} is {shown(value)}; allowed is {dtype} [{', '.join(words)}]")


def shown(value: object) -> str:
    """Return a value for a message: an array's type and shape, else its repr, cut if long."""
    if hasattr(value, "dtype") and value.shape:
        return f"{value.dtype} {list(value.shape)}"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _is_integer(value: object) -> bool:
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def _interval(low: float, high: float, above: float = -math.inf, below: float = math.inf) -> str:
    bounds = {"from": low, "above": above, "to": high, "to below": below}
    given = [f"{word} {bound}" for word, bound in bounds.items() if abs(bound) < math.inf]
    if given == [f"from {low}"]:
        given = [f"of {low} or more"]
    return " ".join(["", *given])
