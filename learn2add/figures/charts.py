"""Figures made of numbers: maps, curves, bars."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

from learn2add.figures.inputs import (
    DIGITS,
    VALID,
    as_cells,
    as_numbers,
    as_rows,
    as_run,
    as_strings,
)
from learn2add.figures.marks import (
    corner_note,
    draw_bar_marks,
    draw_run,
    explain_runs,
    frame_cell,
    ink_on,
    label_ends,
    legend_above,
    number_cells,
    percent,
    plain_log,
    thousands,
    write,
)
from learn2add.figures.sheets import (
    DIAMOND,
    FAINT,
    INK,
    PALETTE,
    PLATE,
    SMALL,
    TEXT,
    WARN,
    plot,
    styled,
)


@styled
def cell_map(
    accuracy: ArrayLike,
    low: ArrayLike | None = None,
    high: ArrayLike | None = None,
    *,
    floor: float | None = None,
    title: str | None = None,
    caption: str | None = None,
) -> Figure:
    """Draw the accuracy of each of the 55 cells in per cent, with its interval in small type.

    Args:
        accuracy: Fractions in [0, 1], ``[10, 10]`` as ``[digit, addend]``; what stands where the
            sum exceeds 9 is not drawn.
        low: Lower ends of the 95 % intervals, shaped alike.
        high: Upper ends.
        floor: Fraction at the pale end of the colours; by default the worst cell, rounded down
            to 5 %. Give it to compare two maps.
        title: Above.
        caption: Below.
    """
    share = as_cells("accuracy", accuracy)
    if (low is None) != (high is None):
        raise ValueError("low and high must be given together")
    ends = [] if low is None else [as_cells("low", low), as_cells("high", high)]
    digit, addend = np.unravel_index(np.nanargmin(share), share.shape)
    worst = share[digit, addend]
    bottom = min(np.floor(worst * 20) / 20, 0.95) if floor is None else floor
    if not 0 <= bottom < 1:
        raise ValueError(f"floor must be in [0, 1), got {floor}")
    figure, axes = plot(8.6, 7.1, title, caption)
    image = axes.imshow(100 * share.T, cmap="Blues", vmin=100 * bottom, vmax=100)
    number_cells(axes, 1)
    frame_cell(axes, digit, addend, 1)
    corner_note(axes, f"mean over the 55 cells {percent(np.nanmean(share))} %", 0.14, TEXT)
    corner_note(axes, f"worst, {digit} + {addend}: {percent(worst)} %", 0.09, TEXT, WARN)
    for x, y in np.argwhere(VALID):
        ink = ink_on(image.to_rgba(100 * share[x, y]))
        write(axes, x, y - (0.12 if ends else 0.0), percent(share[x, y]), TEXT, ink)
        interval = "\N{EN DASH}".join(percent(end[x, y]) for end in ends)
        write(axes, x, y + 0.24, interval, SMALL - 2, ink)
    bar = figure.colorbar(image, ax=axes, shrink=0.7, pad=0.02, label="read as the right sum (%)")
    bar.outline.set_visible(False)
    return figure


@styled
def sum_distribution(
    counts: ArrayLike, *, title: str | None = None, caption: str | None = None
) -> Figure:
    """Draw how often each (digit, addend) cell and each sum occurs: is the data set balanced?

    ``counts`` is ``[10, 10]`` as ``[digit, addend]``, whole numbers, 0 (or NaN) where the sum
    exceeds 9. Left the cells, right the ten sums beside an even share. Source: Part III item 1.
    """
    table = np.nan_to_num(as_numbers("counts", counts, (10, 10), low=0, nan=True))
    if (table != np.round(table)).any() or table[~VALID].any() or not table.any():
        raise ValueError("counts must be whole, not all 0, and 0 where digit + addend exceeds 9")
    sums = np.array([np.fliplr(table).diagonal(9 - total).sum() for total in DIGITS])
    figure, (left, right) = plot(10.4, 5.2, title, caption, 1, 2, width_ratios=(1.25, 1))
    image = left.imshow(np.where(VALID, table, np.nan).T, cmap="Blues", vmin=0)
    number_cells(left, 1)
    for digit, addend in np.argwhere(VALID):
        count = table[digit, addend]
        write(left, digit, addend, thousands(count), SMALL - 0.5, ink_on(image.to_rgba(count)))
    corner_note(left, f"{int(table.sum()):,} pairs in 55 cells", 0.05)
    bars = right.bar(DIGITS, sums, color=PALETTE[0], width=0.8)
    labels = [f"{thousands(total)}\n{percent(total / table.sum())} %" for total in sums]
    right.bar_label(bars, labels, padding=2, fontsize=SMALL - 1, linespacing=1.2, bbox=PLATE)
    even = table.sum() / 10
    right.axhline(even, color=INK, linewidth=1.2, linestyle="--", label=f"even share {even:,.0f}")
    right.yaxis.set_major_formatter(lambda value, _: thousands(value))
    right.set(xticks=DIGITS, xlabel="sum", ylabel="pairs", ylim=(0, 1.2 * sums.max()))
    right.legend(loc="upper left")
    return figure


@styled
def curves(
    series: Mapping[str, Mapping[str, ArrayLike]],
    *,
    ylabel: str,
    references: Mapping[str, float] | None = None,
    log: bool = False,
    best: bool = True,
    title: str | None = None,
    caption: str | None = None,
) -> Figure:
    """Draw train (dashed) and validation (solid) curves over the epochs, one colour per run.

    Args:
        series: Per run name ``{"epoch": [E], "train": [E], "validation": [E]}``, at most 8 runs.
        ylabel: What is measured, such as ``"RMSE"``.
        references: Values to draw as level dotted lines, by name, such as the report's 0.1839.
        log: Logarithmic y axis.
        best: Mark each run's lowest validation value and print it; otherwise print the last one.
        title: Above.
        caption: Below.
    """
    low = 1e-12 if log else -np.inf
    runs = {name: as_run(f"series[{name!r}]", run, low) for name, run in series.items()}
    levels = references or {}
    levels = {name: float(as_numbers(name, at, (), low=low)) for name, at in levels.items()}
    if not 1 <= len(runs) <= len(PALETTE):
        raise ValueError(f"series must hold 1 to {len(PALETTE)} runs, got {len(runs)}")
    figure, axes = plot(8.6, 4.6, title, caption)
    epochs = np.concatenate([run["epoch"] for run in runs.values()])
    margin = 0.0 if np.ptp(epochs) else 0.5  # one epoch is a point, and a point needs room
    stop = epochs.max() + margin
    axes.set(xlabel="epoch", ylabel=ylabel, xlim=(epochs.min() - margin, stop))
    ends = [(stop, value, f"{name}  {value:.4f}", FAINT) for name, value in levels.items()]
    for value in levels.values():
        axes.axhline(value, color=FAINT, linewidth=1, linestyle=":")
    for colour, (name, run) in zip(PALETTE, runs.items(), strict=False):
        ends.append(draw_run(axes, name, run, colour, best))
    axes.xaxis.set_major_locator(MaxNLocator(10, integer=True, min_n_ticks=1, steps=(1, 2, 5, 10)))
    if log:
        plain_log(axes)
    axes.grid(axis="y", color="#e4e4e4", linewidth=0.7)
    label_ends(axes, ends)
    explain_runs(axes, best)
    return figure


@styled
def comparison_bars(
    groups: Sequence[str],
    values: Mapping[str, ArrayLike],
    references: Mapping[str, ArrayLike] | None = None,
    *,
    ylabel: str,
    intervals: Mapping[str, ArrayLike] | None = None,
    reference_label: str = "report",
    digits: int = 4,
    title: str | None = None,
    caption: str | None = None,
) -> Figure:
    """Draw bars side by side: a group per decoder, a bar per loss, the report's figure upon it.

    Args:
        groups: Names of the groups along x, ``G`` strings.
        values: Per kind of bar (loss), ``G`` numbers >= 0.
        references: Per kind of bar, ``G`` numbers to mark with a diamond; NaN for none.
        ylabel: What is measured.
        intervals: Per kind of bar, ``[G, 2]`` lower and upper ends.
        reference_label: What the diamonds are.
        digits: Decimals printed.
        title: Above.
        caption: Below.
    """
    groups = as_strings("groups", groups)
    places = np.arange(len(groups))
    size = places.shape
    bars = {kind: as_numbers(f"values[{kind!r}]", v, size, low=0) for kind, v in values.items()}
    if not 1 <= len(bars) <= len(PALETTE):
        raise ValueError(f"values must hold 1 to {len(PALETTE)} kinds of bars, got {len(bars)}")
    marks = as_rows("references", references, bars, size)
    spans = as_rows("intervals", intervals, bars, (*size, 2))
    figure, axes = plot(max(5.6, 0.78 * len(groups) * len(bars) + 2), 4.2, title, caption)
    drawn = [row.ravel() for rows in (bars, marks, spans) for row in rows.values()]
    axes.set(ylim=(0, 1.2 * (np.nanmax(np.concatenate(drawn)) or 1)), ylabel=ylabel)
    width = 0.84 / len(bars)
    for i, (kind, row) in enumerate(bars.items()):
        centres = places + (i - (len(bars) - 1) / 2) * width
        axes.bar(centres, row, 0.94 * width, color=PALETTE[i], label=kind)
        for g, x in enumerate(centres):
            draw_bar_marks(axes, x, row[g], marks[kind][g], spans[kind][g], PALETTE[i], digits)
    axes.set_xticks(places, groups)
    axes.tick_params(axis="x", length=0)
    handles, _ = axes.get_legend_handles_labels()
    if references:
        handles.append(Line2D([], [], linestyle="", label=reference_label, **DIAMOND))
    legend_above(axes, handles)
    return figure


@styled
def floors_bar(
    values: Mapping[str, float],
    floors: Mapping[str, float],
    *,
    xlabel: str = "mean squared error of the sum picture",
    title: str | None = None,
    caption: str | None = None,
) -> Figure:
    """Draw the error of each model (blue) among the floors (grey) that give it a meaning.

    Floors are what a constant answer scores: the mean picture of the right class, or one mean
    picture for everything. Their values run on as dotted lines so that models can be read off.
    """
    if not values or not floors:
        raise ValueError("values and floors must each hold at least one number")
    rows = [(name, value, PALETTE[0]) for name, value in values.items()]
    rows += [(name, value, "#b0b0b0") for name, value in floors.items()]
    rows = [(name, float(as_numbers(name, n, (), low=0)), colour) for name, n, colour in rows]
    figure, axes = plot(7.6, 1.1 + 0.36 * len(rows), title, caption)
    names, numbers, colours = zip(*sorted(rows, key=lambda row: row[1]), strict=True)
    bars = axes.barh(range(len(rows)), numbers, color=colours, height=0.72)
    for value in floors.values():
        axes.axvline(float(value), color=FAINT, linewidth=1, linestyle=":", zorder=0.5)
    axes.bar_label(bars, [f"{n:.4f}" for n in numbers], padding=4, fontsize=SMALL, bbox=PLATE)
    axes.set_yticks(range(len(rows)), names)
    axes.tick_params(axis="y", length=0)
    axes.invert_yaxis()
    axes.set(xlabel=xlabel, xlim=(0, 1.14 * max(max(numbers), 1e-9)))
    return figure
