"""Checks of what is to be drawn.

A function named ``as_...`` turns an argument into what is drawn or raises ``ValueError`` naming
that argument.
"""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

DIGITS = np.arange(10)
VALID = DIGITS[:, None] + DIGITS[None, :] <= 9  # [digit, addend]: the 55 sums of one digit


def as_array(name: str, value: ArrayLike) -> NDArray:
    """Any array of numbers."""
    try:
        array = np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:  # ragged; a tensor with gradient
        raise ValueError(f"{name} cannot be read as an array: {error}") from error
    if array.dtype.kind not in "uif":
        raise ValueError(f"{name} must hold numbers, got {array.dtype}")
    return array


def as_numbers(
    name: str,
    value: ArrayLike,
    shape: tuple[int, ...] | None = None,
    *,
    low: float = -np.inf,
    nan: bool = False,
) -> NDArray:
    """At least one float, finite or, if ``nan``, NaN; none below ``low``; ``shape`` if given."""
    array = as_array(name, value).astype(float)
    if shape is not None and array.shape != shape:
        raise ValueError(f"{name} must have shape {shape}, got {array.shape}")
    if array.size == 0 or np.isinf(array).any() or (np.isnan(array).any() and not nan):
        raise ValueError(f"{name} must hold numbers, none infinite{'' if nan else ' or NaN'}")
    if (array < low).any():
        raise ValueError(f"{name} must not be below {low:g}, got {np.nanmin(array):g}")
    return array


def as_shades(name: str, value: ArrayLike) -> NDArray:
    """Pictures ``[..., S, S]`` as float in [0, 1]."""
    array = as_array(name, value)
    if array.ndim < 2 or array.shape[-1] != array.shape[-2] or array.size == 0:
        raise ValueError(f"{name} must be square pictures [N, S, S], got shape {array.shape}")
    if array.dtype == np.uint8:
        return array / np.float32(255)
    if array.dtype.kind != "f" or not (array.min() >= -1e-3 and array.max() <= 1 + 1e-3):
        raise ValueError(
            f"{name} must be uint8 or float in [0, 1], "
            f"got {array.dtype} from {array.min():g} to {array.max():g}"
        )
    return array.astype(np.float32)


def as_pictures(name: str, value: ArrayLike, count: int | None = None) -> NDArray:
    """Pictures ``[N, S, S]`` (or ``[N, 1, S, S]``) as float ``[N, S, S]``; N may be asked for.

    Where one is asked for, ``[S, S]`` will do.
    """
    array = as_shades(name, value)
    if array.ndim == 2 and count == 1:
        array = array[None]
    if array.ndim == 4 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 3:
        raise ValueError(f"{name} must be [N, S, S] or [N, 1, S, S], got shape {array.shape}")
    if count is not None and len(array) != count:
        raise ValueError(f"{name} has {len(array)} pictures where {count} are needed")
    return array


def as_picture_rows(name: str, value: ArrayLike, columns: int) -> NDArray:
    """``[R, N, S, S]`` from that, or from one row as ``[N, S, S]`` or ``[N, 1, S, S]``."""
    array = as_shades(name, value)
    if array.ndim == 4 and array.shape[:2] == (columns, 1):
        array = array[:, 0]
    array = array[None] if array.ndim == 3 else array
    if array.ndim != 4 or array.shape[1] != columns:
        raise ValueError(
            f"{name} must be [N, S, S] or [R, N, S, S] with N = {columns} as titles, "
            f"got shape {np.shape(value)}"
        )
    return array


def as_cell_pictures(
    pictures: Sequence[Sequence[ArrayLike | None]] | ArrayLike, image_size: int | None
) -> dict[tuple[int, int], NDArray]:
    """The 55 pictures by ``(digit, addend)``, all of one size."""
    try:
        table = [list(row) for row in pictures]
    except TypeError:
        table = []
    if [len(row) for row in table] != [10] * 10:
        raise ValueError("pictures must be 10 x 10, as pictures[digit][addend]")
    cells = {}
    for digit, addend in np.argwhere(VALID):
        name = f"pictures[{digit}][{addend}]"
        cells[digit, addend] = shades = as_shades(name, table[digit][addend])
        image_size = image_size or shades.shape[-1]
        if shades.shape != (image_size, image_size):
            raise ValueError(f"{name} must be [{image_size}, {image_size}], got {shades.shape}")
    return cells


def as_cells(name: str, value: ArrayLike) -> NDArray:
    """Fractions ``[10, 10]`` in the 55 cells, NaN elsewhere."""
    array = as_numbers(name, value, (10, 10), nan=True)
    if not (np.abs(array[VALID] - 0.5) <= 0.5 + 1e-9).all():  # a NaN fails as well
        raise ValueError(f"{name} must be in [0, 1] where digit + addend <= 9")
    return np.where(VALID, array.clip(0, 1), np.nan)  # an interval's end may miss 1 by rounding


def as_run(name: str, run: Mapping[str, ArrayLike], low: float) -> dict[str, NDArray]:
    """The three equally long lists of a run, what was measured not below ``low``."""
    missing = {"epoch", "train", "validation"} - set(run)
    if missing:
        raise ValueError(f"{name} lacks {', '.join(sorted(missing))}")
    lines = {"epoch": as_numbers(f"{name}['epoch']", run["epoch"])}
    for key in ("train", "validation"):
        lines[key] = as_numbers(f"{name}[{key!r}]", run[key], (lines["epoch"].size,), low=low)
    return lines


def as_rows(
    name: str,
    rows: Mapping[str, ArrayLike] | None,
    kinds: Iterable[str],
    shape: tuple[int, ...],
    owner: str = "values",
) -> dict[str, NDArray]:
    """For each of ``kinds`` its row of numbers, of that shape: NaN where there is none.

    ``owner`` is the argument that holds the kinds.
    """
    rows, found = rows or {}, {kind: np.full(shape, np.nan) for kind in kinds}
    for kind, row in rows.items():
        if kind not in found:
            raise ValueError(f"{name} names {kind!r}, which {owner} does not hold")
        found[kind] = as_numbers(f"{name}[{kind!r}]", row, shape, nan=True)
    return found


def as_digits(**values: int) -> None:
    """Digits by the name of the argument that gave them."""
    for name, value in values.items():
        if not isinstance(value, (int, np.integer)) or not 0 <= value <= 9:
            raise ValueError(f"{name} must be a digit from 0 to 9, got {value!r}")


def as_strings(name: str, texts: Sequence[str] | None, count: int | None = None) -> list[str]:
    """A list of strings, as many as asked for; none from None."""
    if texts is None:
        return []
    if isinstance(texts, str) or not all(isinstance(text, str) for text in texts):
        raise ValueError(f"{name} must be a list of strings")
    if count is not None and len(texts) != count:
        raise ValueError(f"{name} has {len(texts)} strings where {count} are needed")
    return list(texts)


def as_string_rows(
    name: str, table: Sequence[str] | Sequence[Sequence[str]] | None, rows: int, columns: int
) -> list[list[str]]:
    """Rows of strings, from that or from one row; none from None."""
    if table is None:
        return []
    table = [table] if all(isinstance(text, str) for text in table) else table
    if len(table) != rows:
        raise ValueError(f"{name} has {len(table)} rows where {rows} are needed")
    return [as_strings(name, row, columns) for row in table]
