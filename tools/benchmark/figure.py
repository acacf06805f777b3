"""The figure of the benchmark: speed against the size of the work."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator
from numpy.typing import ArrayLike

from learn2add.checks import check_int
from learn2add.figures.style import PALETTE, rule, styled, subplots


@styled
def growth_curves(
    measured: Mapping[str, Mapping[str, ArrayLike]], *, ylabel: str, **texts: str
) -> Figure:
    """Draw one measure against several quantities that grew, a panel each, on one scale from 0.

    ``measured`` holds per quantity (it names the x axis), 1 to 4 of them, ``{"sizes": [N],
    "median": [N], "low": [N], "high": [N]}`` with rising sizes above 0; ``ylabel`` says what is
    measured, with its unit. ``title`` and ``caption`` stand above and below.
    """
    count = check_int("len(measured)", len(measured), 1, 4)
    rows, columns = (count + 1) // 2, min(2, count)
    shape = {"squeeze": False, "sharey": True}
    figure, grid = subplots(4.6 * columns, 2.9 * rows + 0.5, rows, columns, **shape, **texts)
    for axes in grid.flat[count:]:
        axes.set_visible(False)
    for axes, (name, found) in zip(grid.flat, measured.items(), strict=False):
        x, middle, low, high = (np.array(found[k]) for k in ("sizes", "median", "low", "high"))
        axes.fill_between(x, low, high, color=PALETTE[0], alpha=0.2, linewidth=0)
        axes.plot(x, middle, color=PALETTE[0], marker="o", markersize=4.5)
        axes.set_xscale("log")
        axes.set_xticks(x, [f"{value:,g}" for value in x])
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set(xlabel=name)
        rule(axes)
    for axes in grid[:, 0]:
        axes.set(ylabel=ylabel, ylim=(0, None))
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:,g}")
    return figure
