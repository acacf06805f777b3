"""Figures of the sibling studies: measures against a strength, a size or a number of labels;
speed against the size of the work.
"""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator
from numpy.typing import ArrayLike

from learn2add.checks import check_choice
from learn2add.figures.inputs import as_numbers
from learn2add.figures.marks import legend_over_panels, plain_log
from learn2add.figures.sheets import PALETTE, plot, styled

DOTS = ("o", "s", "^", "D", "v", "P", "X", "*")


@styled
def strength_curves(
    strengths: ArrayLike,
    measures: Mapping[str, Mapping[str, ArrayLike]],
    *,
    xlabel: str,
    log: str = "",
    title: str | None = None,
    caption: str | None = None,
) -> Figure:
    """Draw one or more measures of several models against the strength of a disturbance.

    Args:
        strengths: Rising numbers ``[N]``.
        measures: Per measure (it names the y axis), at most 4, and in each per model, at most 8,
            the values ``[N]``. A model has the same colour and mark in every panel.
        xlabel: What the strength is, with its unit.
        log: Logarithmic axes, "x", "y" or "xy"; a logarithmic x axis has its ticks at the
            strengths.
        title: Above.
        caption: Below.
    """
    x = as_numbers("strengths", strengths)
    if x.ndim != 1 or len(x) < 2 or (x[1:] <= x[:-1]).any():
        raise ValueError(f"strengths must be two or more rising numbers, got {x.tolist()}")
    check_choice("log", log, ("", "x", "y", "xy"))
    if "x" in log and x[0] <= 0:
        raise ValueError(f"strengths begin at {x[0]:g}; allowed on a logarithmic axis is above 0")
    names = list(dict.fromkeys(name for lines in measures.values() for name in lines))
    if not 1 <= len(measures) <= 4 or not 1 <= len(names) <= len(PALETTE):
        raise ValueError(
            f"measures must hold 1 to 4 measures of 1 to {len(PALETTE)} models, got "
            f"{len(measures)} of {len(names)}"
        )
    lowest = 1e-12 if "y" in log else -np.inf
    values = {
        measure: {
            name: as_numbers(f"measures[{measure!r}][{name!r}]", line, (len(x),), low=lowest)
            for name, line in lines.items()
        }
        for measure, lines in measures.items()
    }
    width = {1: 6.0, 2: 8.6}.get(len(measures), 10.4)
    figure, grid = plot(width, 3.7, title, caption, 1, len(measures), squeeze=False)
    looks = {name: (PALETTE[i], DOTS[i]) for i, name in enumerate(names)}
    for axes, (measure, lines) in zip(grid[0], values.items(), strict=True):
        for name, y in lines.items():
            colour, dot = looks[name]
            axes.plot(x, y, color=colour, marker=dot, markersize=4.5, label=name)
        axes.set(xlabel=xlabel, ylabel=measure)
        if "x" in log:
            axes.set_xscale("log")
            axes.set_xticks(x, [f"{value:,g}" for value in x])
            axes.xaxis.set_minor_locator(NullLocator())
        if "y" in log:
            plain_log(axes)
        axes.grid(axis="y", color="#e4e4e4", linewidth=0.7)
    known = [axes.get_legend_handles_labels() for axes in grid[0]]
    by_name = {label: handle for found in known for handle, label in zip(*found, strict=True)}
    legend_over_panels(figure, [by_name[name] for name in names])
    return figure


@styled
def growth_curves(
    measured: Mapping[str, Mapping[str, ArrayLike]],
    *,
    ylabel: str,
    title: str | None = None,
    caption: str | None = None,
) -> Figure:
    """Draw one measure against several quantities that grew, a panel each, on one scale from 0.

    Args:
        measured: Per quantity (it names the x axis), 1 to 4 of them, ``{"sizes": [N],
            "median": [N], "low": [N], "high": [N]}``; sizes rise and are above 0.
        ylabel: What is measured, with its unit.
        title: Above.
        caption: Below.
    """
    if not 1 <= len(measured) <= 4:
        raise ValueError(f"measured must hold 1 to 4 quantities, got {len(measured)}")
    panels = {}
    for name, found in measured.items():
        x = as_numbers(f"measured[{name!r}]['sizes']", found["sizes"], low=1e-12)
        if x.ndim != 1 or len(x) < 2 or (x[1:] <= x[:-1]).any():
            raise ValueError(f"measured[{name!r}]['sizes'] must be two or more rising numbers")
        lines = ("median", "low", "high")
        panels[name] = (
            x,
            *(
                as_numbers(f"measured[{name!r}][{line!r}]", found[line], (len(x),), low=0)
                for line in lines
            ),
        )
    rows, columns = (len(panels) + 1) // 2, min(2, len(panels))
    shape = {"squeeze": False, "sharey": True}
    figure, grid = plot(4.6 * columns, 2.9 * rows + 0.5, title, caption, rows, columns, **shape)
    for axes in grid.flat[len(panels) :]:
        axes.set_visible(False)
    for axes, (name, (x, middle, low, high)) in zip(grid.flat, panels.items(), strict=False):
        axes.fill_between(x, low, high, color=PALETTE[0], alpha=0.2, linewidth=0)
        axes.plot(x, middle, color=PALETTE[0], marker=DOTS[0], markersize=4.5)
        axes.set_xscale("log")
        axes.set_xticks(x, [f"{value:,g}" for value in x])
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set(xlabel=name)
        axes.grid(axis="y", color="#e4e4e4", linewidth=0.7)
    for axes in grid[:, 0]:
        axes.set(ylabel=ylabel, ylim=(0, None))
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:,g}")
    return figure
