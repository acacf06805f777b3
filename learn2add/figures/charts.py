"""Figures made of numbers: maps, curves, bars."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike, NDArray

from learn2add.checks import check_int
from learn2add.figures import style
from learn2add.figures.style import FAINT, INK, PALETTE, SMALL, TEXT, WARN, styled, write


@styled
def cell_map(
    accuracy: ArrayLike, low: ArrayLike | None = None, high: ArrayLike | None = None, **texts: str
) -> Figure:
    """Draw the accuracy of each of the 55 cells in per cent, with its interval in small type.

    ``accuracy`` and the ends ``low`` and ``high`` of its 95 % intervals are fractions ``[10, 10]``
    as ``[digit, addend]``. The colours begin at the worst cell, rounded down to 5 %.
    """
    share = as_cells("accuracy", accuracy)
    ends = [] if low is None else [as_cells("low", low), as_cells("high", high)]
    digit, addend = np.unravel_index(np.nanargmin(share), share.shape)
    worst = share[digit, addend]
    bottom = min(np.floor(worst * 20) / 20, 0.95)
    figure, axes = style.subplots(8.6, 7.1, **texts)
    image = axes.imshow(100 * share.T, cmap="Blues", vmin=100 * bottom, vmax=100)
    style.number_cells(axes, 1)
    style.frame_cell(axes, digit, addend, 1)
    mean, least = style.percent(np.nanmean(share)), style.percent(worst)
    style.corner_note(axes, 0.14, f"mean over the 55 cells {mean} %", size=TEXT)
    style.corner_note(axes, 0.09, f"worst, {digit} + {addend}: {least} %", size=TEXT, color=WARN)
    for x, y in np.argwhere(style.VALID):
        ink = style.ink_on(image.to_rgba(100 * share[x, y]))
        write(axes, x, y - (0.12 if ends else 0.0), style.percent(share[x, y]), color=ink)
        interval = "\N{EN DASH}".join(style.percent(end[x, y]) for end in ends)
        write(axes, x, y + 0.24, interval, SMALL - 2, color=ink)
    bar = figure.colorbar(image, ax=axes, shrink=0.7, pad=0.02, label="read as the right sum (%)")
    bar.outline.set_visible(False)
    return figure


def as_cells(name: str, value: ArrayLike) -> NDArray:
    """Return fractions in the 55 cells of ``[10, 10]``, NaN elsewhere."""
    array = np.where(style.VALID, style.as_numbers(name, value, (10, 10)), np.nan)
    if not (np.abs(array[style.VALID] - 0.5) <= 0.5 + 1e-9).all():  # a NaN fails as well
        low, high = array[style.VALID].min(), array[style.VALID].max()
        raise ValueError(f"{name} is from {low:g} to {high:g}; allowed is from 0 to 1")
    return array.clip(0, 1)  # an interval's end may miss 1 by rounding


@styled
def sum_distribution(counts: ArrayLike, **texts: str) -> Figure:
    """Draw how often each (digit, addend) cell and each sum occurs: is the data set balanced?

    ``counts`` are whole numbers ``[10, 10]`` as ``[digit, addend]``, 0 where the sum exceeds 9.
    Left the cells, right the ten sums beside an even share. Source: assignment, Part III item 1.
    """
    table = style.as_numbers("counts", counts, (10, 10))
    if table[~style.VALID].any():
        raise ValueError(f"counts is {table.tolist()}; allowed is 0 where the sum exceeds 9")
    sums = np.array([np.fliplr(table).diagonal(9 - total).sum() for total in style.DIGITS])
    figure, (left, right) = style.subplots(10.4, 5.2, 1, 2, width_ratios=(1.25, 1), **texts)
    image = left.imshow(np.where(style.VALID, table, np.nan).T, cmap="Blues", vmin=0)
    style.number_cells(left, 1)
    for digit, addend in np.argwhere(style.VALID):
        count = table[digit, addend]
        ink = style.ink_on(image.to_rgba(count))
        write(left, digit, addend, thousands(count), SMALL - 0.5, color=ink)
    style.corner_note(left, 0.05, f"{int(table.sum()):,} pairs in 55 cells")
    bars = right.bar(style.DIGITS, sums, color=PALETTE[0], width=0.8)
    labels = [f"{thousands(total)}\n{style.percent(total / table.sum())} %" for total in sums]
    right.bar_label(bars, labels, padding=2, fontsize=SMALL - 1, linespacing=1.2, bbox=style.PLATE)
    even = table.sum() / 10
    right.axhline(even, color=INK, linewidth=1.2, linestyle="--", label=f"even share {even:,.0f}")
    right.yaxis.set_major_formatter(lambda value, _: thousands(value))
    right.set(xticks=style.DIGITS, xlabel="sum", ylabel="pairs", ylim=(0, 1.2 * sums.max()))
    right.legend(loc="upper left")
    return figure


def thousands(number: float) -> str:
    """Write ``12345`` as ``12,345``, and from a hundred thousand on ``123k``."""
    return f"{number:,.0f}" if number < 99_999.5 else f"{number / 1000:,.0f}k"


@styled
def curves(
    series: Mapping[str, Mapping[str, ArrayLike]],
    *,
    ylabel: str,
    references: Mapping[str, float] | None = None,
    best: bool = True,
    ylim: tuple[float, float] | None = None,
    **texts: str,
) -> Figure:
    """Draw train (dashed) and validation (solid) curves over the epochs, one colour per run.

    ``series`` holds per run, at most 8, ``{"epoch": [E], "train": [E], "validation": [E]}``.
    ``references`` are values to draw as level dotted lines, such as the report's 0.1839; ``best``
    marks and prints each run's lowest validation value instead of the last; ``ylim`` cuts off what
    the first epochs would take of the height.
    """
    check_int("len(series)", len(series), 1, len(PALETTE))
    runs = [style.as_rows(f"series[{k!r}]", r, np.shape(r["epoch"])) for k, r in series.items()]
    figure, axes = style.subplots(8.6, 4.6, **texts)
    epochs = np.concatenate([run["epoch"] for run in runs])
    margin = 0.0 if np.ptp(epochs) else 0.5  # one epoch is a point, and a point needs room
    stop = epochs.max() + margin
    axes.set(xlabel="epoch", ylabel=ylabel, xlim=(epochs.min() - margin, stop))
    ends = []
    for name, value in (references or {}).items():
        axes.axhline(value, color=FAINT, linewidth=1, linestyle=":")
        ends.append((stop, value, f"{name}  {value:.4f}", FAINT))
    for colour, name, run in zip(PALETTE, series, runs, strict=False):
        ends.append(draw_run(axes, name, run, colour, best))
    axes.xaxis.set_major_locator(MaxNLocator(10, integer=True, min_n_ticks=1, steps=(1, 2, 5, 10)))
    style.rule(axes)
    if ylim is not None:
        axes.set_ylim(ylim)
    label_ends(axes, ends)
    looks = {"validation": {}, "train": {"linestyle": "--", "linewidth": 1.1}}
    if best:
        looks["lowest validation"] = {"linestyle": "", "marker": "o", "markersize": 5.5}
    style.legend_above(axes, [Line2D([], [], color=FAINT, label=k, **v) for k, v in looks.items()])
    return figure


def draw_run(
    axes: Axes, name: str, run: dict[str, NDArray], colour: str, best: bool
) -> tuple[float, float, str, str]:
    """Draw one run's two curves; return where its validation ends, its label and its colour."""
    epoch, values = run["epoch"], run["validation"]
    dot = "." if len(epoch) < 4 else None  # a line of one point would not be seen
    axes.plot(epoch, run["train"], "--", color=colour, linewidth=1.1, marker=dot)
    axes.plot(epoch, values, color=colour, marker=dot)
    chosen = int(np.argmin(values)) if best else len(values) - 1
    if best:
        dot = {"marker": "o", "markersize": 5.5, "markeredgecolor": "white"}
        axes.plot(epoch[chosen], values[chosen], color=colour, clip_on=False, zorder=5, **dot)
    return epoch[-1], values[-1], f"{name}  {values[chosen]:.4f}", colour


def label_ends(axes: Axes, ends: Sequence[tuple[float, float, str, str]]) -> None:
    """Name lines at the right edge, in a darker shade of their colour, clear of each other."""
    axes.set_ylim(axes.get_ylim())  # from here on the axis stands still
    points = axes.transData.transform([(x, y) for x, y, _, _ in ends])
    heights = axes.transAxes.inverted().transform(points)[:, 1]
    place = {"textcoords": "axes fraction", "va": "center", "annotation_clip": False}
    leader = {"arrowstyle": "-", "linewidth": 0.7, "shrinkA": 1, "shrinkB": 0, "relpos": (0, 0.5)}
    for (x, y, text, colour), height in zip(ends, apart(heights, 0.052), strict=True):
        look = {"color": style.darker(colour), "size": SMALL + 0.5, **place}
        axes.annotate(text, (x, y), (1.05, height), arrowprops=leader | {"color": colour}, **look)


def apart(wanted: NDArray, gap: float) -> NDArray:
    """Return heights in the order of ``wanted``, near to it, that lie at least ``gap`` apart."""
    order = np.argsort(wanted, kind="stable")
    steps = gap * np.arange(len(wanted))
    slack = wanted[order] - steps  # must not decrease: midway between the envelopes it does not
    above, below = np.maximum.accumulate(slack), np.minimum.accumulate(slack[::-1])[::-1]
    return ((above + below) / 2 + steps)[np.argsort(order)]


@styled
def floors_bar(
    values: Mapping[str, float],
    floors: Mapping[str, float],
    *,
    xlabel: str = "mean squared error of the sum picture",
    **texts: str,
) -> Figure:
    """Draw the error of each model (blue) among the floors (grey) that give it a meaning.

    Floors are what a constant answer scores: the right class's mean image, or one for everything.
    """
    rows = [(name, float(value), PALETTE[0]) for name, value in values.items()]
    rows += [(name, float(value), "#b0b0b0") for name, value in floors.items()]
    figure, axes = style.subplots(7.6, 1.1 + 0.36 * len(rows), **texts)
    names, numbers, colours = zip(*sorted(rows, key=lambda row: row[1]), strict=True)
    bars = axes.barh(range(len(rows)), numbers, color=colours, height=0.72)
    for value in floors.values():
        axes.axvline(float(value), color=FAINT, linewidth=1, linestyle=":", zorder=0.5)
    axes.bar_label(bars, [f"{n:.4f}" for n in numbers], padding=4, fontsize=SMALL, bbox=style.PLATE)
    axes.set_yticks(range(len(rows)), names)
    axes.tick_params(axis="y", length=0)
    axes.invert_yaxis()
    axes.set(xlabel=xlabel, xlim=(0, 1.14 * max(*numbers, 1e-9)))
    return figure


@styled
def lines(
    panels: Mapping[str, Mapping[str, tuple[ArrayLike, ArrayLike]]],
    *,
    xlabel: Sequence[str],
    ylabel: Sequence[str],
    **texts: str,
) -> Figure:
    """Draw lines by name, ``x`` and ``y`` each, in one panel for each title; labels are panels'."""
    figure, row = style.subplots(5.2 * len(panels), 3.7, 1, len(panels), squeeze=False, **texts)
    for axes, (title, curves), x_of, y_of in zip(
        row[0], panels.items(), xlabel, ylabel, strict=True
    ):
        for colour, (name, (x, y)) in zip(PALETTE, curves.items(), strict=False):
            axes.plot(np.asarray(x), np.asarray(y), color=colour, label=name)
        axes.set_title(title, loc="left", size=TEXT)
        axes.set(xlabel=x_of, ylabel=y_of)
        style.rule(axes)
        axes.legend()
    return figure


def table(columns: Sequence[str], rows: Mapping[str, Sequence[object]]) -> None:
    """Print rows by name under the names of their columns, each as wide as it must be."""
    lines = [["", *columns], *([name, *map(str, row)] for name, row in rows.items())]
    first, *widths = (max(map(len, column)) for column in zip(*lines, strict=True))
    for name, *row in lines:
        print(f"{name:<{first}}", *(f"{v:>{w + 2}}" for v, w in zip(row, widths, strict=True)))
