"""Checks of what the figures of the evidence are to draw, named and made as those of ``inputs``."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from learn2add.figures.inputs import as_numbers, as_strings

T = TypeVar("T")


def as_named(name: str, things: Mapping[str, T], most: int) -> dict[str, T]:
    """One to ``most`` things by name."""
    if not isinstance(things, Mapping) or not all(isinstance(key, str) for key in things):
        raise ValueError(f"{name} must map names to what is drawn, got {type(things).__name__}")
    if not 1 <= len(things) <= most:
        raise ValueError(f"{name} must hold 1 to {most} names, got {len(things)}")
    return dict(things)


def as_share(name: str, value: ArrayLike, shape: tuple[int, ...] = ()) -> NDArray:
    """Fractions in [0, 1]."""
    array = as_numbers(name, value, shape, low=0)
    if (array > 1 + 1e-9).any():
        raise ValueError(f"{name} must be in [0, 1], got {array.max():g}")
    return array


def as_parts(name: str, value: ArrayLike, shape: tuple[int, ...]) -> NDArray:
    """Fractions that add up to 1 along the last axis."""
    array = as_numbers(name, value, shape, low=0)
    if not np.allclose(array.sum(-1), 1, rtol=0, atol=1e-3):  # means of float32 miss 1 a little
        raise ValueError(f"{name} must add up to 1 in each row")
    return array


def as_sweeps(
    addends: ArrayLike, probabilities: Mapping[str, ArrayLike] | ArrayLike, most: int
) -> tuple[NDArray, dict[str, NDArray]]:
    """Rising addends ``[A]``, and per model the probabilities ``[A, 10]`` of the ten digits.

    One model's alone go by the name ``""``.
    """
    x = as_numbers("addends", addends)
    if x.ndim != 1 or len(x) < 2 or (np.diff(x) <= 0).any():
        raise ValueError("addends must be two or more numbers, each above the one before")
    if not isinstance(probabilities, Mapping):
        return x, {"": as_parts("probabilities", probabilities, (len(x), 10))}
    models, shape = as_named("probabilities", probabilities, most), (len(x), 10)
    return x, {key: as_parts(f"probabilities[{key!r}]", p, shape) for key, p in models.items()}


def as_samples(
    series: Mapping[str, Sequence[tuple[float, float, float]]], most: int
) -> dict[str, NDArray]:
    """Per model ``[N, 3]``: temperature, accuracy in [0, 1], diversity."""
    found = {}
    for key, rows in as_named("series", series, most).items():
        table = as_numbers(f"series[{key!r}]", rows, low=0)
        if table.ndim != 2 or table.shape[1] != 3:
            raise ValueError(f"series[{key!r}] must be [N, 3], got shape {table.shape}")
        as_share(f"accuracy in series[{key!r}]", table[:, 1], (len(table),))
        found[key] = table
    return found


def as_seeds(values: Mapping[str, ArrayLike], most: int) -> dict[str, NDArray]:
    """Per column one number for each seed."""
    columns = as_named("values", values, most)
    return {
        key: as_numbers(f"values[{key!r}]", row, (np.size(row),)) for key, row in columns.items()
    }


def as_blame(
    shares: Mapping[str, ArrayLike], wrong: Mapping[str, float], most: int
) -> dict[str, tuple[NDArray | None, float]]:
    """Per model the three parts of its wrong sums, None without any, and the share of these."""
    models = as_named("shares", shares, most)
    if set(as_named("wrong", wrong, most)) != set(models):
        raise ValueError("wrong must name the same models as shares")
    found = {}
    for key, parts in models.items():
        name = f"shares[{key!r}]"
        none = np.isnan(as_numbers(name, parts, (3,), nan=True)).all()
        share = float(as_share(f"wrong[{key!r}]", wrong[key]))
        if none and share:
            raise ValueError(f"{name} must not be NaN where {share:g} of the sums are wrong")
        found[key] = None if none else as_parts(name, parts, (3,)), share
    return found


def as_weightings(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One or more rows of the table of weightings: what they lack or hold wrongly is named."""
    keys = ("weights", "verdict", "accuracy", "digits", "active", "code_size")
    found = []
    for i, row in enumerate(rows):
        missing = [key for key in keys if key not in row]
        if missing:
            raise ValueError(f"rows[{i}] lacks {', '.join(missing)}")
        names = {key: f"rows[{i}][{key!r}]" for key in keys}
        weights = as_numbers(names["weights"], row["weights"], (4,), low=0)
        accuracy = float(as_share(names["accuracy"], row["accuracy"]))
        (verdict,) = as_strings(names["verdict"], [row["verdict"]])
        most = {"digits": 10, "code_size": np.inf, "active": row["code_size"]}
        for key, high in most.items():
            count = as_numbers(names[key], row[key], (), low=0)
            if count % 1 or count > high:
                raise ValueError(f"{names[key]} must be whole, at most {high:g}, got {count:g}")
        counts = {key: int(row[key]) for key in most}
        found.append({"weights": weights, "verdict": verdict, "accuracy": accuracy, **counts})
    if not found:
        raise ValueError("rows must hold at least one weighting")
    return found
