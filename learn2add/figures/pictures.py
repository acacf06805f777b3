"""Figures made of digits: grids, strips, rows, the addition grid."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from learn2add.checkpoints import write_atomically
from learn2add.figures.inputs import (
    VALID,
    as_cell_pictures,
    as_numbers,
    as_picture_rows,
    as_pictures,
    as_string_rows,
    as_strings,
)
from learn2add.figures.marks import (
    corner_note,
    draw_picture,
    frame_cell,
    label_row,
    number_cells,
    write,
)
from learn2add.figures.sheets import FAINT, SMALL, WARN, board, layout, plot, styled


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
