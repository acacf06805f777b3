"""Figures of the evidence: sweeps of the addend, samples, blame, weightings, seeds."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from numpy.typing import ArrayLike

from learn2add.figures.evidence_inputs import (
    as_blame,
    as_samples,
    as_seeds,
    as_share,
    as_sweeps,
    as_weightings,
)
from learn2add.figures.evidence_marks import (
    PARTS,
    draw_parts,
    draw_seeds,
    draw_sweep,
    draw_turn,
    draw_weighting,
    head_weightings,
    label_points,
    mark_addends,
    name_columns,
)
from learn2add.figures.inputs import DIGITS, as_digits, as_numbers, as_picture_rows, as_rows
from learn2add.figures.marks import draw_picture, legend_above, legend_over_panels, percent
from learn2add.figures.sheets import FAINT, INK, PALETTE, WARN, board, panels, plot, styled

MODELS = 4  # side by side; more would be too narrow to read


@styled
def sweep_curves(
    addends: ArrayLike,
    probabilities: Mapping[str, ArrayLike],
    *,
    digit: int = 7,
    low: int = 8,
    high: int = 9,
    turning: Mapping[str, float] | None = None,
    title: str | None = None,
    caption: str | None = None,
) -> Figure:
    """Draw how one sum gives way to the next as the addend grows, a panel per model.

    ``addends`` are rising numbers ``[A]``, such as 1 to 2 or 0 to 9; ``probabilities`` per model,
    at most 4, the judge's means ``[A, 10]``. Drawn are those of ``low``, of ``high``, and of all
    other digits together. ``turning`` is per model the addend at which ``high`` becomes the more
    probable, NaN where it never does. Source: assignment, Part III item 7.
    """
    x, models = as_sweeps(addends, probabilities, MODELS)
    turns = as_rows("turning", turning, models, (), "probabilities")
    as_digits(digit=digit, low=low, high=high)
    if low == high:
        raise ValueError(f"low and high must be two digits, got {low} twice")
    figure, row = panels(models, 3.9, title, caption)
    for axes, (name, p) in zip(row, models.items(), strict=True):
        draw_sweep(axes, x, p, low, high)
        mark_addends(axes, x, digit)
        if turning and name in turning:
            draw_turn(axes, float(turns[name]))
    row[0].set_ylabel("judge's mean probability")
    legend_over_panels(figure, row[0].get_legend_handles_labels()[0])
    return figure


@styled
def digit_map(
    addends: ArrayLike,
    probabilities: Mapping[str, ArrayLike] | ArrayLike,
    *,
    digit: int | None = None,
    xlabel: str | None = None,
    title: str | None = None,
    caption: str | None = None,
) -> Figure:
    """Draw which digit is read as the addend grows: the darker, the more probable.

    ``addends`` are rising numbers ``[A]``, such as 0 to 9 in steps of 0.05; ``probabilities`` the
    judge's means ``[A, 10]``, or those per model, at most 4. ``digit`` is the one on the input
    pictures; if given, the line on which the sum lies is drawn. ``xlabel`` says what ``addends``
    are if they are not numbers added; the line is then where both axes agree.
    """
    x, models = as_sweeps(addends, probabilities, MODELS)
    as_digits(digit=0 if digit is None else digit)
    figure, row = panels(models, 4.1, title, caption)
    for axes, p in zip(row, models.values(), strict=True):
        image = axes.pcolormesh(x, DIGITS, p.T, cmap="Blues", vmin=0, vmax=1, shading="nearest")
        if digit is not None:
            label = f"{digit} + the number added" if xlabel is None else xlabel
            axes.plot(x, digit + x, "--", color=WARN, linewidth=1.3, label=label)
        mark_addends(axes, x, digit)
        if xlabel is not None:
            axes.set_xlabel(xlabel)
        axes.set(ylim=(-0.5, 9.5), yticks=DIGITS)
        axes.tick_params(axis="y", length=0)
    row[0].set_ylabel("digit read")
    bar = figure.colorbar(image, ax=row, pad=0.02, label="judge's mean probability")
    bar.outline.set_visible(False)
    if digit is not None:
        legend_over_panels(figure, row[0].get_legend_handles_labels()[0])
    return figure


@styled
def trade_off(
    series: Mapping[str, Sequence[tuple[float, float, float]]],
    *,
    wanted: tuple[float, float] = (0.95, 0.3),
    title: str | None = None,
    caption: str | None = None,
) -> Figure:
    """Draw how many sampled sums are right against how various they are, a line per model.

    ``series`` holds per model its points ``(temperature, accuracy, diversity)``, accuracy in
    [0, 1]; at most 4 models. What reaches both accuracy and diversity of ``wanted`` is shaded.
    """
    points = as_samples(series, MODELS)
    goal, various = (float(number) for number in as_numbers("wanted", wanted, (2,), low=0))
    every = np.concatenate([*points.values(), [[0, as_share("wanted[0]", goal), various]]])
    room = max(100 - 100 * every[:, 1].min(), 2)
    right, top = 1.12 * every[:, 2].max() or 1, 100 + 0.06 * room
    figure, axes = plot(8.6, 4.9, title, caption)
    axes.set(xlim=(0, right), ylim=(100 - 1.1 * room, top), ylabel="sums read right (%)")
    axes.set_xlabel("diversity: pixel variance over that of real digits (at points: temperature)")
    lines = []
    for colour, (name, rows) in zip(PALETTE, points.items(), strict=False):
        spots = rows[:, :0:-1] * (1, 100)  # [diversity, accuracy in per cent]
        axes.plot(*spots.T, "o-", color=colour, markersize=5, label=name)
        lines.append((spots, [f"{temperature:g}" for temperature in rows[:, 0]], colour))
    name = f"wanted: {100 * goal:g} % at {various:g}, or better"
    place = (various, 100 * goal), right - various, top - 100 * goal
    axes.add_patch(Rectangle(*place, color="#dfeee7", linewidth=0, zorder=0, label=name))
    legend_above(axes, axes.get_legend_handles_labels()[0])
    label_points(axes, lines)
    return figure


@styled
def blame_bars(
    shares: Mapping[str, tuple[float, float, float]],
    wrong: Mapping[str, float],
    *,
    title: str | None = None,
    caption: str | None = None,
) -> Figure:
    """Draw which part went wrong first in the wrong sums of each model.

    ``shares`` holds per model, at most 8, what part of its wrong sums is misread, misadded and
    misdrawn; the three add up to 1, or are NaN where no sum is wrong. ``wrong`` is the share of
    all its sums that are wrong, written below its name.
    """
    models = as_blame(shares, wrong, 8)
    figure, axes = plot(8.6, 1.4 + 0.78 * len(models), title, caption)
    for y, (parts, _) in enumerate(models.values()):
        if parts is None:
            axes.text(1, y, "no sum is wrong", color=FAINT, va="center")
        else:
            draw_parts(axes, y, parts)
    names = [f"{name}\n{percent(share)} % of sums wrong" for name, (_, share) in models.items()]
    axes.set_yticks(range(len(names)), names)
    axes.tick_params(axis="y", length=0)
    axes.set(xlim=(0, 100), ylim=(len(names) - 0.45, -0.6), xlabel="share of the wrong sums (%)")
    legend_over_panels(figure, [Patch(color=c, label=name) for name, c in PARTS.items()])
    return figure


@styled
def weightings_table(
    rows: Sequence[Mapping[str, Any]],
    pictures: ArrayLike,
    *,
    drawn: str = "ten sums it draws",
    title: str | None = None,
    caption: str | None = None,
) -> Figure:
    """Draw the report's table of loss weights again, beside what each weighting came to here.

    Args:
        rows: Per weighting ``weights`` (four, in the report's order), ``verdict`` (the report's
            words), ``accuracy`` in [0, 1], ``digits`` (how many of the ten it draws), ``active``
            (units of the code in use), ``code_size``.
        pictures: Ten for each row, ``[R, 10, S, S]``.
        drawn: What they are.
        title: Above.
        caption: Below.

    Source: report, Table 1.
    """
    table, images = as_weightings(rows), as_picture_rows("pictures", pictures, 10)
    if len(images) != len(table):
        raise ValueError(f"pictures has {len(images)} rows where {len(table)} are needed")
    figure, axes = board(29, 1.1 * len(table) + 1.3, title, caption, cell=0.36)
    head_weightings(axes, drawn)
    for i, (row, line) in enumerate(zip(table, images, strict=True)):
        y = 1.1 * i + 1.25
        if i == 0 or row["verdict"] != table[i - 1]["verdict"]:
            axes.plot([0, 29], [y - 0.05, y - 0.05], color="#c0c0c0", linewidth=0.8)
        draw_weighting(axes, y + 0.5, row)
        for column, picture in enumerate(line):
            draw_picture(axes, picture, 18.6 + 1.04 * column, y)
    return figure


@styled
def seeds_plot(
    values: Mapping[str, ArrayLike],
    *,
    ylabel: str,
    digits: int = 2,
    title: str | None = None,
    caption: str | None = None,
) -> Figure:
    """Draw what each seed came to, and beside the seeds their mean and standard deviation.

    ``values`` holds per model or decoder, at most 8, one number per seed (one seed alone has no
    deviation); ``ylabel`` says what is measured, ``digits`` how many digits behind the point.
    """
    columns = as_seeds(values, 8)
    width = max(4.6, min(1.4 * len(columns) + 1.2, 10.4))
    figure, axes = plot(width, 4.2, title, caption)
    for x, seeds in enumerate(columns.values()):
        draw_seeds(axes, x, seeds, digits)
    name_columns(axes, list(columns))
    axes.set_ylabel(ylabel)
    axes.margins(y=0.12)
    axes.grid(axis="y", color="#e4e4e4", linewidth=0.7)
    dot = Line2D([], [], color=PALETTE[0], marker="o", linestyle="", label="one seed")
    bar = Line2D([], [], color=INK, marker="|", markersize=12, linestyle="", label="mean ± sd")
    legend_above(axes, [dot, bar])
    return figure
