"""Every picture of the notebooks, the command line and the README.

The functions take arrays (anything ``np.asarray`` accepts: NumPy, CPU tensors without gradient,
nested lists) and know no model. Three rules hold for all of them.

- **Pictures** are ``uint8`` in 0..255 or float in [0, 1], 0 = background, drawn as the assignment
  draws them: ``Greys_r``, a white digit on black. ``[N, 1, S, S]`` is read as ``[N, S, S]``.
- **Cells** are indexed ``[digit, addend]``. Drawn, the digit runs along x and the addend down y,
  as in the assignment's display (Part III item 6). A cell whose sum exceeds 9 stays blank.
- **Every function** takes ``title`` (above) and ``caption`` (small, below: budget, seed, run),
  raises ``ValueError`` naming the argument when what it is given does not fit, and returns a
  ``Figure`` made through pyplot. A notebook therefore shows it at the end of the cell by itself:
  end the line with a semicolon, or keep the figure in a name, or Jupyter shows it twice. A script
  that draws many should ``plt.close`` each one.

Colours are Okabe and Ito's, which people with any common colour blindness can tell apart.
"""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

from learn2add.checkpoints import write_atomically
from learn2add.drawing import (
    DIAMOND,
    DIGITS,
    FAINT,
    INK,
    PALETTE,
    PLATE,
    SMALL,
    TEXT,
    VALID,
    WARN,
    as_cell_pictures,
    as_cells,
    as_numbers,
    as_picture_rows,
    as_pictures,
    as_rows,
    as_run,
    as_string_rows,
    as_strings,
    board,
    corner_note,
    draw_bar_marks,
    draw_picture,
    draw_run,
    explain_runs,
    frame_cell,
    ink_on,
    label_ends,
    label_row,
    layout,
    legend_above,
    number_cells,
    percent,
    plain_log,
    plot,
    styled,
    thousands,
    write,
)


@styled
def image_grid(
    images: ArrayLike,
    *,
    columns: int = 10,
    titles: Sequence[str] | None = None,
    title: str | None = None,
    caption: str | None = None,
) -> Figure:
    """Draw pictures ``[N, S, S]`` row by row, ``columns`` to a row, each under its own title."""
    pictures = as_pictures("images", images)
    titles = as_strings("titles", titles, len(pictures))
    columns, rows = layout(columns, len(pictures))
    step = 1.08 + (0.27 if titles else 0.0)
    figure, axes = board(1.08 * columns, step * rows, title, caption)
    for i, picture in enumerate(pictures):
        x, y = 1.08 * (i % columns), step * (i // columns + 1) - 1.08
        draw_picture(axes, picture, x, y)
        if titles:
            write(axes, x + 0.5, y - 0.06, titles[i], SMALL, va="bottom")
    return figure


@styled
def pairs_strip(
    inputs: ArrayLike,
    addends: ArrayLike,
    targets: ArrayLike,
    *,
    outputs: ArrayLike | None = None,
    columns: int = 3,
    title: str | None = None,
    caption: str | None = None,
) -> Figure:
    """Draw training samples as sums, ``input + addend = target`` (Part III item 1).

    Args:
        inputs: Pictures ``[N, S, S]``.
        addends: The number added to each, ``[N]``.
        targets: The picture wanted for each, ``[N, S, S]``.
        outputs: What a model drew for each, ``[N, S, S]``, beside its target (report, figure 23).
        columns: Sums to a row.
        title: Above.
        caption: Below.
    """
    shown = {"input": as_pictures("inputs", inputs)}
    count = len(shown["input"])
    numbers = as_numbers("addends", addends, (count,))
    shown["target"] = as_pictures("targets", targets, count)
    if outputs is not None:
        shown["output"] = as_pictures("outputs", outputs, count)
    columns, rows = layout(columns, count)
    places = {"input": 0.0, "target": 2.1, "output": 3.18}
    width = 1.8 + places[list(shown)[-1]]
    figure, axes = board(width * columns - 0.8, 1.1 * rows + 0.25, title, caption)
    for i, number in enumerate(numbers):
        left, y = width * (i % columns), 1.1 * (i // columns) + 0.3
        for name, group in shown.items():
            draw_picture(axes, group[i], left + places[name], y)
            if i < columns:
                write(axes, left + places[name] + 0.5, y - 0.06, name, SMALL, FAINT, "bottom")
        sign = "+" if number >= 0 else "\N{MINUS SIGN}"
        write(axes, left + 1.55, y + 0.5, f"{sign} {abs(number):g} =", 14)
    return figure


@styled
def reconstructions(
    originals: ArrayLike,
    rows: Mapping[str, ArrayLike],
    *,
    first: str = "input",
    title: str | None = None,
    caption: str | None = None,
) -> Figure:
    """Draw originals ``[N, S, S]`` above one labelled row of as many reconstructions per model.

    ``rows`` maps a label (it may have two lines) to pictures ``[N, S, S]``; ``first`` labels the
    originals. Serves Part II items 4, 6 and 7.
    """
    shown = {first: as_pictures("originals", originals)}
    count = len(shown[first])
    if not rows or first in rows:
        raise ValueError(f"rows must name at least one row of reconstructions, none {first!r}")
    for label, pictures in rows.items():
        shown[label] = as_pictures(f"rows[{label!r}]", pictures, count)
    figure, axes = board(1.06 * count, 1.06 * len(shown) + 0.1, title, caption, labels=shown)
    for row, (label, pictures) in enumerate(shown.items()):
        y = 1.06 * row + (0.1 if row else 0.0)  # the originals stand slightly apart
        label_row(axes, y, label)
        for column, picture in enumerate(pictures):
            draw_picture(axes, picture, 1.06 * column, y)
    return figure


@styled
def strip(
    images: ArrayLike,
    titles: Sequence[str],
    *,
    first: ArrayLike | None = None,
    notes: Sequence[str] | Sequence[Sequence[str]] | None = None,
    rows: Sequence[str] | None = None,
    title: str | None = None,
    caption: str | None = None,
) -> Figure:
    """Draw one picture per addend, the input before them: 7 + {1, 2, 1.4, 1.5, 1.6}.

    Args:
        images: Pictures ``[N, S, S]``, or ``[R, N, S, S]`` for R rows (several sevens or models).
        titles: One per column, ``N`` strings, such as ``"+ 1.4"``.
        first: The input of each row, ``[S, S]`` or ``[R, S, S]``; drawn first, set apart.
        notes: Text below each picture, such as what a judge reads, ``N`` or ``R`` x ``N`` strings.
        rows: Labels of the rows, ``R`` strings.
        title: Above.
        caption: Below.

    Source: assignment, Part III item 7 and Part IV item 2.
    """
    titles = as_strings("titles", titles)
    table = as_picture_rows("images", images, len(titles))
    labels = as_strings("rows", rows, len(table))
    notes = as_string_rows("notes", notes, len(table), len(titles))
    step, columns = 1.08 + (0.25 if notes else 0.0), [1.08 * i for i in range(len(titles))]
    pictures = list(table)
    if first is not None:
        first = as_pictures("first", first, len(table))
        pictures = [[one, *row] for one, row in zip(first, table, strict=True)]
        columns = [0.0, *(1.4 + x for x in columns)]
        titles, notes = ["input", *titles], [["", *row] for row in notes]
    size = columns[-1] + 1.08, step * len(table) + 0.28
    figure, axes = board(*size, title, caption, labels=labels, cell=0.95)
    for x, text in zip(columns, titles, strict=True):
        write(axes, x + 0.5, 0.22, text, va="bottom")
    for row, line in enumerate(pictures):
        y = step * row + 0.28
        if labels:
            label_row(axes, y, labels[row])
        for i, x in enumerate(columns):
            draw_picture(axes, line[i], x, y)
            if notes:
                write(axes, x + 0.5, y + 1.04, notes[row][i], SMALL, FAINT, "top")
    return figure


@styled
def addition_grid(
    pictures: Sequence[Sequence[ArrayLike | None]] | ArrayLike,
    image_size: int | None = None,
    *,
    misread: ArrayLike | None = None,
    title: str | None = None,
    caption: str | None = None,
) -> Figure:
    """Draw the assignment's display: every digit plus every addend whose sum is at most 9.

    Args:
        pictures: ``pictures[digit][addend]``, 10 x 10, each ``[S, S]``; anything, such as None,
            where the sum exceeds 9.
        image_size: S; taken from the pictures if not given.
        misread: bool ``[10, 10]``, indexed alike: cells to frame because a judge reads another
            digit there.
        title: Above.
        caption: Below.

    Source: assignment, Part III item 6.
    """
    cells = as_cell_pictures(pictures, image_size)
    size = len(cells[0, 0])
    frames = np.zeros((10, 10), bool) if misread is None else np.asarray(misread)
    if frames.shape != (10, 10) or frames.dtype != bool:
        raise ValueError(f"misread must be bool [10, 10], got {frames.dtype} {frames.shape}")
    sheet = np.zeros((10 * size, 10 * size))
    for (digit, addend), picture in cells.items():
        sheet[addend * size : (addend + 1) * size, digit * size : (digit + 1) * size] = picture
    figure, axes = plot(6.4, 6.6, title, caption)
    axes.imshow(sheet, vmin=0, vmax=1, interpolation="nearest")
    number_cells(axes, size)
    wrong = np.argwhere(frames & VALID)
    for digit, addend in wrong:
        frame_cell(axes, digit, addend, size)
    corner_note(axes, "blank: the sum would exceed 9", 0.07, color="white")
    if misread is not None:
        note = f"framed: read as another digit ({len(wrong)} of 55)"
        corner_note(axes, note, 0.02, color=WARN)
    return figure


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


def save_png(figure: Figure, path: str | Path) -> Path:
    """Write the figure as PNG, whole or not at all; the same figure gives the same bytes.

    Missing folders are made. Raises ``ValueError`` if the name does not end in ``.png`` and
    ``OSError`` naming the file if it cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() != ".png":
        raise ValueError(f"path must end in .png, got {str(path)!r}")
    content = io.BytesIO()
    options = {"metadata": {"Software": None}, "pil_kwargs": {"optimize": True}}
    figure.savefig(content, format="png", bbox_inches="tight", pad_inches=0.1, **options)
    write_atomically(path, content.getvalue())
    return path
