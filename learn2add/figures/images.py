"""Figures made of digits: grids, strips, rows, the addition grid; and how a figure is saved."""

import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from learn2add.checkpoints import write_atomically
from learn2add.checks import check_int
from learn2add.figures import style
from learn2add.figures.style import FAINT, SMALL, VALID, WARN, styled, write


@styled
def image_grid(
    images: ArrayLike, *, columns: int = 10, titles: Sequence[str] | None = None, **texts: str
) -> Figure:
    """Draw images ``[N, S, S]`` row by row, ``columns`` to a row, each under its own title."""
    shown = style.as_images("images", images)
    columns = min(check_int("columns", columns, 1), len(shown))
    if titles is not None:
        style.check_length("titles", titles, len(shown))
    step = 1.08 + (0.27 if titles is not None else 0.0)
    figure, axes = style.canvas(1.08 * columns, step * math.ceil(len(shown) / columns), **texts)
    for i, image in enumerate(shown):
        x, y = 1.08 * (i % columns), step * (i // columns + 1) - 1.08
        style.draw_image(axes, image, x, y)
        if titles is not None:
            write(axes, x + 0.5, y - 0.06, titles[i], SMALL, va="bottom")
    return figure


@styled
def pairs_strip(
    inputs: ArrayLike,
    addends: ArrayLike,
    targets: ArrayLike,
    *,
    columns: int = 3,
    result: str = "target",
    **texts: str,
) -> Figure:
    """Draw training samples as sums, ``input + addend = target``, ``columns`` to a row: images
    ``[N, S, S]`` and numbers ``[N]``; ``result`` names the last. Source: Part III item 1.
    """
    x = style.as_images("inputs", inputs)
    numbers = style.as_numbers("addends", addends, (len(x),))
    y = style.as_images("targets", targets, len(x))
    columns = min(check_int("columns", columns, 1), len(x))
    height = 1.1 * math.ceil(len(x) / columns) + 0.25
    figure, axes = style.canvas(3.9 * columns - 0.8, height, **texts)
    for i, number in enumerate(numbers):
        left, top = 3.9 * (i % columns), 1.1 * (i // columns) + 0.3
        for name, image, at in (("input", x[i], left), (result, y[i], left + 2.1)):
            style.draw_image(axes, image, at, top)
            if i < columns:
                write(axes, at + 0.5, top - 0.06, name, SMALL, color=FAINT, va="bottom")
        sign = "+" if number >= 0 else "\N{MINUS SIGN}"
        write(axes, left + 1.55, top + 0.5, f"{sign} {abs(number):g} =", 14)
    return figure


@styled
def reconstructions(
    originals: ArrayLike, rows: Mapping[str, ArrayLike], *, first: str = "input", **texts: str
) -> Figure:
    """Draw originals ``[N, S, S]`` above one labelled row of as many reconstructions per model.

    ``first`` labels the originals. Source: assignment, Part II items 4, 6 and 7.
    """
    labels, shown = [first, *rows], [style.as_images("originals", originals)]
    count = len(shown[0])
    shown += [style.as_images(f"rows[{label!r}]", row, count) for label, row in rows.items()]
    figure, axes = style.canvas(1.06 * count, 1.06 * len(shown) + 0.1, labels=labels, **texts)
    for row, (label, images) in enumerate(zip(labels, shown, strict=True)):
        y = 1.06 * row + (0.1 if row else 0.0)  # the originals stand slightly apart
        label_row(axes, y, label)
        for column, image in enumerate(images):
            style.draw_image(axes, image, 1.06 * column, y)
    return figure


@styled
def strip(
    images: ArrayLike,
    titles: Sequence[str],
    *,
    first: ArrayLike | None = None,
    notes: Sequence[str] | Sequence[Sequence[str]] | None = None,
    rows: Sequence[str] | None = None,
    **texts: str,
) -> Figure:
    """Draw one image per addend, the input before them: 7 + {1, 2, 1.4, 1.5, 1.6}.

    ``images`` are ``[N, S, S]``, or ``[R, N, S, S]`` for R rows labelled ``rows``; ``titles`` one
    per column, such as ``"+ 1.4"``; ``first`` the inputs, ``[S, S]`` or ``[R, S, S]``; ``notes``,
    N or R x N, stand below the images. Source: assignment, Part III item 7, Part IV item 2.
    """
    images = style.as_image_rows("images", images, len(titles))
    titles, labels = list(titles), rows or []
    style.check_length("rows", labels, len(images) if labels else 0)
    if notes is not None:
        style.check_length("notes", np.ravel(notes), len(images) * len(titles))
        notes = np.reshape(notes, images.shape[:2]).tolist()
    table, columns = list(images), [1.08 * i for i in range(len(titles))]
    if first is not None:
        first = np.asarray(first)[None] if np.ndim(first) == 2 else first
        first = style.as_images("first", first, len(images))
        table = [[one, *row] for one, row in zip(first, images, strict=True)]
        columns = [0.0, *(1.4 + x for x in columns)]
        titles, notes = ["input", *titles], notes and [["", *row] for row in notes]
    step = 1.08 + (0.25 if notes else 0.0)
    size = columns[-1] + 1.08, step * len(table) + 0.28
    figure, axes = style.canvas(*size, labels=labels, cell=0.95, **texts)
    for x, text in zip(columns, titles, strict=True):
        write(axes, x + 0.5, 0.22, text, va="bottom")
    for row, line in enumerate(table):
        y = step * row + 0.28
        if labels:
            label_row(axes, y, labels[row])
        for i, x in enumerate(columns):
            style.draw_image(axes, line[i], x, y)
            if notes:
                write(axes, x + 0.5, y + 1.04, notes[row][i], SMALL, color=FAINT, va="top")
    return figure


def label_row(axes: Axes, y: float, label: str) -> None:
    """Write a label left of the row of images whose upper edge is at ``y``."""
    axes.text(-0.12, y + 0.5, label, ha="right", va="center", linespacing=1.35)


@styled
def side_by_side(images: Mapping[str, ArrayLike], **texts: str) -> Figure:
    """Draw square uint8 images of any sizes at one height, their names and sizes above."""
    figure, row = style.subplots(3 * len(images), 3.3, 1, len(images), squeeze=False, **texts)
    for axes, (name, image) in zip(row[0], images.items(), strict=True):
        shown = style.as_grey(f"images[{name!r}]", image)
        axes.imshow(shown, vmin=0, vmax=1)
        axes.set(title=f"{name}, {len(shown)} x {len(shown)}", xticks=[], yticks=[])
    return figure


@styled
def addition_grid(
    pictures: Sequence[Sequence[Any]], *, misread: ArrayLike | None = None, **texts: str
) -> Figure:
    """Draw the assignment's display: every digit plus every addend whose sum is at most 9.

    ``pictures[digit][addend]``, 10 x 10, are images ``[S, S]``; anything where the sum exceeds 9.
    ``misread``, bool ``[10, 10]``, says which cells to frame. Source: assignment, Part III item 6.
    """
    cells = np.argwhere(VALID)
    images = style.as_images("pictures", np.stack([pictures[d][a] for d, a in cells]))
    size, wrong = images.shape[-1], []
    if misread is not None:
        wrong = np.argwhere(style.as_numbers("misread", misread, (10, 10)).astype(bool) & VALID)
    sheet = np.zeros((10, size, 10, size))
    sheet[cells[:, 1], :, cells[:, 0]] = images
    figure, axes = style.subplots(6.4, 6.6, **texts)
    axes.imshow(sheet.reshape(10 * size, -1), vmin=0, vmax=1, interpolation="nearest")
    style.number_cells(axes, size)
    style.corner_note(axes, 0.07, "blank: the sum would exceed 9", color="white")
    for digit, addend in wrong:
        style.frame_cell(axes, digit, addend, size)
    if misread is not None:
        note = f"framed: read as another digit ({len(wrong)} of 55)"
        style.corner_note(axes, 0.02, note, color=WARN)
    return figure


def save_png(figure: Figure, path: str | Path) -> Path:
    """Write the figure as PNG, whole or not at all; the same figure gives the same bytes."""
    path = Path(path)
    if path.suffix.lower() != ".png":
        raise ValueError(f"path is {str(path)!r}; allowed is a name that ends in .png")
    write_atomically(path, png_of(figure, pil_kwargs={"optimize": True}))
    return path


def png_of(figure: Figure, **options: Any) -> bytes:
    """Return the figure as the bytes of a PNG, cut to what is drawn."""
    content, options = io.BytesIO(), {"metadata": {"Software": None}, **options}
    figure.savefig(content, format="png", bbox_inches="tight", pad_inches=0.1, **options)
    return content.getvalue()
