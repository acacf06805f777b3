"""Figures of a search: which parameters decide, and how the error hangs on each."""

from collections.abc import Collection, Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import ArrayLike, NDArray

from learn2add.figures.inputs import as_numbers
from learn2add.figures.marks import legend_over_panels, plain_log
from learn2add.figures.sheets import FAINT, INK, PALETTE, SMALL, plot, styled

LEVELS = 5
"""So many different values are drawn as a row of levels; more are an axis."""
COLUMNS = 4


@styled
def importance_bars(
    shares: Mapping[str, ArrayLike], *, title: str | None = None, caption: str | None = None
) -> Figure:
    """Draw what share of the spread of the errors each parameter explains, the first on top.

    Args:
        shares: Per parameter its share in [0, 1] under each seed; the bar is their mean.
        title: Above.
        caption: Below.
    """
    rows = {name: as_numbers(f"shares[{name!r}]", row, low=0) for name, row in shares.items()}
    if not rows or any(row.ndim != 1 or (row > 1 + 1e-9).any() for row in rows.values()):
        raise ValueError("shares must hold, per parameter, a list of numbers from 0 to 1")
    figure, axes = plot(7.2, 1.1 + 0.34 * len(rows), title, caption)
    for y, row in enumerate(rows.values()):
        mean = 100 * row.mean()
        axes.barh(y, mean, color=PALETTE[0], height=0.62, alpha=0.75)
        axes.plot(100 * row, np.full(len(row), y), "|", color=INK, markersize=9)
        right = max(mean, 100 * row.max())
        axes.text(right + 1.2, y, f"{mean:.0f} %", va="center", size=SMALL + 0.5)
    axes.set_yticks(range(len(rows)), list(rows))
    axes.set(ylim=(len(rows) - 0.4, -0.6), xlabel="share of the spread explained (%)")
    axes.set_xlim(0, 1.12 * max(100 * row.max() for row in rows.values()) + 2)
    axes.tick_params(axis="y", length=0)
    return figure


@styled
def slices(
    settings: Mapping[str, ArrayLike],
    errors: ArrayLike,
    *,
    logarithmic: Collection[str] = (),
    given_up: ArrayLike | None = None,
    marked: Mapping[str, float] | None = None,
    mark: str = "the report's best",
    ylabel: str = "MSE, validation",
    title: str | None = None,
    caption: str | None = None,
) -> Figure:
    """Draw each setting's error once per parameter, against its value.

    Up to five different values stand side by side with their medians; more are an axis.

    Args:
        settings: Per parameter, at most 12, its value in each setting ``[N]``.
        errors: ``[N]``, above 0.
        logarithmic: Parameters whose axis is logarithmic; their values are above 0.
        given_up: Which settings were not trained to their end ``[N]``, drawn faint.
        marked: Per parameter a value to mark.
        mark: What is marked.
        ylabel: What the errors are.
        title: Above.
        caption: Below.
    """
    y = as_numbers("errors", errors)
    if y.ndim != 1 or (y <= 0).any():
        raise ValueError(f"errors must be a list of numbers above 0, got {y.min():g} or more")
    if not 1 <= len(settings) <= 12:
        raise ValueError(f"settings must hold 1 to 12 parameters, got {len(settings)}")
    columns = {name: as_numbers(f"settings[{name!r}]", v, y.shape) for name, v in settings.items()}
    up = np.zeros(len(y), bool) if given_up is None else np.asarray(given_up, bool)
    if up.shape != y.shape:
        raise ValueError(f"given_up must have shape {y.shape}, got {up.shape}")
    for name in set(marked or {}) - set(columns):
        raise ValueError(f"marked names {name!r}, which settings does not hold")
    for name in set(logarithmic) & set(columns):
        if len(np.unique(columns[name])) > LEVELS and columns[name].min() <= 0:
            raise ValueError(f"logarithmic names {name!r}, whose values are not all above 0")
    wide = min(len(columns), COLUMNS)
    tall = -(-len(columns) // wide)
    size = {1: 6.0, 2: 8.0}.get(wide, 10.4), 2.9 * tall + 0.5
    figure, grid = plot(*size, title, caption, tall, wide, sharey=True, squeeze=False)
    for axes, (name, x) in zip(grid.flat, columns.items(), strict=False):
        if name in logarithmic and len(np.unique(x)) > LEVELS:
            axes.set_xscale("log")
        _slice(axes, x, y, up, (marked or {}).get(name))
        axes.set_xlabel(name)
    for axes in grid.flat[len(columns) :]:
        axes.set_visible(False)
    plain_log(grid[0, 0])
    for axes in grid.flat:
        axes.tick_params(axis="y", which="minor", length=0)
    for axes in grid[:, 0]:
        axes.set_ylabel(ylabel)
    looks = [Line2D([], [], color=PALETTE[0], marker="o", linestyle="", label="a setting")]
    if up.any():
        style = {"color": FAINT, "marker": "x", "linestyle": ""}
        looks.append(Line2D([], [], **style, label="given up early"))
    if any(len(np.unique(x)) <= LEVELS for x in columns.values()):
        looks.append(Line2D([], [], color=INK, label="median"))
    if marked:
        looks.append(Line2D([], [], color=PALETTE[1], linestyle="--", label=mark))
    legend_over_panels(figure, looks)
    return figure


def _slice(axes: Axes, x: NDArray, y: NDArray, up: NDArray, marked: float | None) -> None:
    """Draw one parameter's panel."""
    levels = np.unique(x)
    if len(levels) <= LEVELS:
        at = np.searchsorted(levels, x).astype(float)
        for place in range(len(levels)):
            middle = np.median(y[at == place])
            axes.plot([place - 0.32, place + 0.32], [middle, middle], color=INK, linewidth=1.6)
        if marked is not None:
            marked = float(np.interp(marked, levels, np.arange(len(levels))))
        order = np.argsort(np.argsort(y, kind="stable")) * 0.618 % 1  # beside one another
        at += 0.5 * (order - 0.5)
        axes.set_xticks(range(len(levels)), [f"{level:g}" for level in levels])
        axes.set_xlim(-0.6, len(levels) - 0.4)
    else:
        at = x
    if marked is not None:
        axes.axvline(marked, color=PALETTE[1], linestyle="--", linewidth=1.2, zorder=0)
    axes.scatter(at[~up], y[~up], s=22, color=PALETTE[0], edgecolor="white", linewidth=0.5)
    if up.any():
        axes.scatter(at[up], y[up], s=20, color=FAINT, marker="x", linewidth=1)
    axes.grid(axis="y", color="#e4e4e4", linewidth=0.7)
