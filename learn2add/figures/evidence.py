"""Figures of the evidence: sweeps of the addend, samples, blame, seeds."""

import itertools
import textwrap
from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike, NDArray

from learn2add.figures import style
from learn2add.figures.style import DIGITS, FAINT, INK, PALETTE, SMALL, WARN, styled, write

PARTS = {  # of wrong sums: which part went wrong first
    "misread (reconstruction already wrong)": PALETTE[0],
    "misadded (code at another digit)": PALETTE[4],
    "misdrawn (code right, picture wrong)": PALETTE[2],
}


@styled
def sweep_curves(
    addends: ArrayLike,
    probabilities: Mapping[str, ArrayLike],
    *,
    digit: int = 7,
    low: int = 8,
    high: int = 9,
    turning: Mapping[str, float] | None = None,
    **texts: str,
) -> Figure:
    """Draw how one sum gives way to the next as the addend grows, a panel per model.

    ``addends`` are rising numbers ``[A]``; ``probabilities`` per model, at most 4, the judge's
    means ``[A, 10]``. ``turning`` is per model the addend at which ``high`` becomes more probable
    than ``low``, NaN where it never does. Source: assignment, Part III item 7.
    """
    x = np.asarray(addends, float)
    models = style.as_rows("probabilities", probabilities, (len(x), 10))
    figure, row = style.panels(models, 3.9, **texts)
    for axes, (name, p) in zip(row, models.items(), strict=True):
        others = np.delete(p, [low, high], axis=1).sum(1)
        axes.plot(x, p[:, low], color=PALETTE[0], label=f"read as {low}")
        axes.plot(x, p[:, high], color=PALETTE[1], label=f"read as {high}")
        axes.plot(x, others, "--", color=FAINT, linewidth=1.3, label="all other digits")
        axes.set(ylim=(-0.02, 1.14), yticks=np.linspace(0, 1, 6))
        style.rule(axes)
        mark_addends(axes, x, digit)
        if turning and name in turning:
            draw_turn(axes, float(turning[name]))
    row[0].set_ylabel("judge's mean probability")
    style.legend_over_panels(figure, row[0].get_legend_handles_labels()[0])
    return figure


@styled
def digit_map(
    addends: ArrayLike,
    probabilities: Mapping[str, ArrayLike],
    *,
    digit: int | None = None,
    xlabel: str | None = None,
    **texts: str,
) -> Figure:
    """Draw which digit is read as the addend grows: the darker, the more probable.

    ``addends`` and ``probabilities`` are as for :func:`sweep_curves`. If ``digit``, that of the
    inputs, is given, the line on which the sum lies is drawn. ``xlabel`` says what ``addends`` are
    if they are not numbers added; the line is then where both axes agree.
    """
    x = np.asarray(addends, float)
    models = style.as_rows("probabilities", probabilities, (len(x), 10))
    figure, row = style.panels(models, 4.1, **texts)
    for axes, p in zip(row, models.values(), strict=True):
        image = axes.pcolormesh(x, DIGITS, p.T, cmap="Blues", vmin=0, vmax=1, shading="nearest")
        if digit is not None:
            label = xlabel or f"{digit} + the number added"
            axes.plot(x, digit + x, "--", color=WARN, linewidth=1.3, label=label)
        mark_addends(axes, x, digit, xlabel)
        axes.set(ylim=(-0.5, 9.5), yticks=DIGITS)
        axes.tick_params(axis="y", length=0)
    row[0].set_ylabel("digit read")
    bar = figure.colorbar(image, ax=row, pad=0.02, label="judge's mean probability")
    bar.outline.set_visible(False)
    if digit is not None:
        style.legend_over_panels(figure, row[0].get_legend_handles_labels()[0])
    return figure


def mark_addends(axes: Axes, addends: NDArray, digit: int | None, label: str | None = None) -> None:
    """Name the axis of the addends; over a wide range it counts in whole numbers."""
    whole, target = np.ptp(addends) > 4, "" if digit is None else f" to a {digit}"
    axes.xaxis.set_major_locator(MaxNLocator(10 if whole else 5, integer=whole))
    axes.set(xlim=(addends[0], addends[-1]), xlabel=label or f"number added{target}")


def draw_turn(axes: Axes, turn: float) -> None:
    """Mark the addend at which one digit gives way to the next and write it; NaN: say so."""
    left, right = axes.get_xlim()
    if left <= turn <= right:
        axes.axvline(turn, color=INK, linewidth=1.1, linestyle=":")
    text = "no turning point" if np.isnan(turn) else f"turns at {turn:.2f}"
    share = 0.0 if np.isnan(turn) else np.clip((turn - left) / (right - left), 0, 1)
    x, ha = (share - 0.02, "right") if share > 0.5 else (share + 0.02, "left")
    axes.text(x, 0.95, text, transform=axes.transAxes, size=SMALL, ha=ha, va="center")


@styled
def trade_off(series: Mapping[str, ArrayLike], **texts: str) -> Figure:
    """Draw how many sampled sums are right against how various they are, a line per model.

    ``series`` holds per model points ``(temperature, accuracy, diversity)``, accuracy from 0 to 1.
    """
    points = {name: np.array(rows, float) for name, rows in series.items()}
    every = np.concatenate(list(points.values()))
    room = max(100 - 100 * every[:, 1].min(), 2)
    right, top = max(1.12 * every[:, 2].max(), 0.3), 100 + 0.06 * room
    figure, axes = style.subplots(8.6, 4.9, **texts)
    axes.set(xlim=(0, right), ylim=(100 - 1.1 * room, top), ylabel="sums read right (%)")
    axes.set_xlabel("variety: pixel variance over that of real digits (at points: temperature)")
    for colour, (name, rows) in zip(PALETTE, points.items(), strict=False):
        spots = rows[:, :0:-1] * (1, 100)  # [diversity, accuracy in per cent]
        axes.plot(*spots.T, "o-", color=colour, markersize=5, label=name)
        label_points(axes, spots, rows[:, 0], colour)
    style.legend_above(axes, axes.get_legend_handles_labels()[0])
    return figure


def label_points(axes: Axes, spots: NDArray, temperatures: NDArray, colour: str) -> None:
    """Write each temperature up right of its point; points on one another share a label."""
    gaps = np.hypot(*np.diff(axes.transData.transform(spots), axis=0).T)  # in pixels
    for part in np.split(np.arange(len(spots)), np.flatnonzero(gaps > 12) + 1):
        text = " to ".join(f"{temperatures[i]:g}" for i in sorted({part[0], part[-1]}))
        look = {"size": SMALL, "color": style.darker(colour), "textcoords": "offset points"}
        axes.annotate(text, spots[part[-1]], (5, 4), **look)


@styled
def blame_bars(shares: Mapping[str, ArrayLike], wrong: Mapping[str, float], **texts: str) -> Figure:
    """Draw which part went wrong first in the wrong sums of each model.

    ``shares`` holds per model what part of its wrong sums is misread, misadded and misdrawn (NaN
    where none is wrong), ``wrong`` the share of all its sums that are wrong.
    """
    names = [f"{name}\n{style.percent(float(wrong[name]))} % of sums wrong" for name in shares]
    figure, axes = style.subplots(8.6, 1.4 + 0.78 * len(names), **texts)
    for y, parts in enumerate(np.array(list(shares.values()), float)):
        if np.isnan(parts).all():
            axes.text(1, y, "no sum is wrong", color=FAINT, va="center")
        else:
            draw_parts(axes, y, parts)
    axes.set_yticks(range(len(names)), names)
    axes.tick_params(axis="y", length=0)
    axes.set(xlim=(0, 100), ylim=(len(names) - 0.45, -0.6), xlabel="share of the wrong sums (%)")
    style.legend_over_panels(figure, [Patch(color=c, label=name) for name, c in PARTS.items()])
    return figure


def draw_parts(axes: Axes, y: float, parts: NDArray) -> None:
    """Draw the three parts as one bar of 100; a narrow one has its number above or below."""
    beside = itertools.cycle([(-0.28, "bottom"), (0.3, "top")])  # in turn: neighbours keep clear
    for part, left, colour in zip(parts, np.cumsum(parts) - parts, PARTS.values(), strict=True):
        axes.barh(y, 100 * part, 0.52, 100 * left, color=colour)
        if part:
            up, va = (0, "center") if part > 0.09 else next(beside)
            ink = INK if up else style.ink_on(colour)
            x = np.clip(100 * (left + part / 2), 3, 97)
            write(axes, x, y + up, f"{style.percent(part)} %", SMALL, color=ink, va=va)


@styled
def seeds_plot(
    values: Mapping[str, ArrayLike], *, ylabel: str, digits: int = 2, **texts: str
) -> Figure:
    """Draw what each seed came to, and beside the seeds their mean and standard deviation.

    ``values`` holds per model or decoder, at most 8, one number per seed (one seed alone has no
    deviation); ``ylabel`` says what is measured, ``digits`` how many digits behind the point.
    """
    width = max(4.6, min(1.4 * len(values) + 1.2, 10.4))
    figure, axes = style.subplots(width, 4.2, **texts)
    for x, seeds in enumerate(values.values()):
        draw_seeds(axes, x, np.asarray(seeds, float), digits)
    room = int((width - 1) / len(values) / 0.078)  # for a name, in letters
    names = [textwrap.fill(name, room, break_long_words=False) for name in values]
    axes.set_xticks(range(len(names)), names)
    axes.tick_params(axis="x", length=0)
    axes.set(xlim=(-0.6, len(names) - 0.4), ylabel=ylabel)
    axes.margins(y=0.12)
    style.rule(axes)
    dot = Line2D([], [], color=PALETTE[0], marker="o", linestyle="", label="one seed")
    bar = Line2D([], [], color=INK, marker="|", markersize=12, linestyle="", label="mean ± sd")
    style.legend_above(axes, [dot, bar])
    return figure


def draw_seeds(axes: Axes, x: float, seeds: NDArray, digits: int) -> None:
    """Draw one column of seeds, at its right mean and standard deviation, above them both."""
    spread = np.linspace(-0.22, 0.02, len(seeds)) if len(seeds) > 1 else np.zeros(1)
    axes.plot(x + spread, seeds, "o", color=PALETTE[0], markersize=5.5, alpha=0.8)
    text, top = f"{seeds.mean():.{digits}f}", seeds.max()
    if len(seeds) > 1:
        sd = seeds.std(ddof=1)
        axes.errorbar(x + 0.2, seeds.mean(), sd, color=INK, marker="_", markersize=9, capsize=3)
        text, top = f"{text} ± {sd:.{digits}f}", max(top, seeds.mean() + sd)
    place = {"xytext": (0, 7), "textcoords": "offset points", "ha": "center"}
    axes.annotate(text, (x, top), size=SMALL + 0.5, bbox=style.PLATE, **place)
