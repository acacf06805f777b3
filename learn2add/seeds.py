"""Several seeds of the same recipe: the figures kept with the project, and a test of a difference.

``tools/seeds.py`` trains them.
"""

import json
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from learn2add.runs import kept_file

PLACE = "part4/seeds"


def kept_seeds(folder: str | Path | None = None) -> dict[str, dict[str, NDArray[np.float64]]]:
    """What every seed came to on the test digits.

    Args:
        folder: Where ``tools/seeds.py`` put its figures, a file ``recipe-seed.json`` for each; by
            default those that came with the project.

    Returns:
        Per recipe (``conv_transpose``, ``addition``, ``adder``, ...) and measure (``rmse``,
        ``cells_mean``, ``cells_worst``, ...) one value for each seed, ``[N]``, in their order.

    Raises:
        FileNotFoundError: The project came without its kept runs.
    """
    folder = kept_file(PLACE) if folder is None else Path(folder)
    if folder is None:
        raise FileNotFoundError(f"no kept runs/{PLACE}; tools/seeds.py trains them")
    rows: dict[str, dict[int, dict[str, float]]] = {}
    for file in folder.glob("*.json"):
        name, seed = file.stem.rsplit("-", 1)
        rows.setdefault(name, {})[int(seed)] = json.loads(file.read_text())
    return {
        name: {
            key: np.array([found[seed][key] for seed in sorted(found)])
            for key in next(iter(found.values()))
        }
        for name, found in sorted(rows.items())
    }


def chance(a: ArrayLike, b: ArrayLike) -> float:
    """How often chance alone makes two means differ by at least as much: an exact p value.

    Every way to split the values anew is tried, so nothing is assumed about their distribution; of
    five and five there are 252, and no p is below 2 in 252. Needs SciPy, of the ``notebooks``
    extra.

    Args:
        a: One value for each seed, ``[A]``.
        b: Of the other recipe, ``[B]``.

    Raises:
        ValueError: Fewer than two values, or one that is not finite.

    Source: exact two-sided permutation test of the difference of means.
    """
    from scipy.stats import permutation_test

    samples = []
    for name, values in (("a", a), ("b", b)):
        sample = np.asarray(values, dtype=float)
        if sample.ndim != 1 or len(sample) < 2 or not np.isfinite(sample).all():
            raise ValueError(f"{name} must be two or more finite numbers, got {values!r}")
        samples.append(sample)
    return permutation_test(
        samples,
        lambda x, y, axis: abs(x.mean(axis) - y.mean(axis)),
        vectorized=True,
        alternative="greater",
        n_resamples=np.inf,
    ).pvalue
