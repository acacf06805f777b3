"""The report's Table 1 (notebooks 4 and 5): sixteen weightings of one loss, trained and measured.

The report tried them one after the other and judged by eye ("only fuzzy nines"). Here each is a run
of the same length from the same weights, and its verdict is a count. Source: report, section 5.2.
"""

import json
import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import ArrayLike, NDArray

from learn2add.checks import check_choice
from learn2add.figures import style
from learn2add.figures.style import FAINT, PALETTE, SMALL, styled, write
from learn2add.runs import kept_file

PLACE = "part4/table1"


READINGS = {"mean": ("table", "pictures"), "summed": ("summed", "summed_pictures")}
"""How the report's KL is read, a mean over the elements of a batch of codes or their sum: files."""


def kept_table(reading: str = "mean") -> tuple[dict[str, Any], NDArray[np.uint8]]:
    """Read the report's Table 1 as trained again, that came with the project.

    Return ``steps`` of each run, ``rows`` (``weights``, ``verdict`` and what was measured) and, of
    the reading "mean", ``search_steps`` of a trial and ``trials`` of the search (``weights``,
    ``state``, ``right``); and the ten images of each row, ``[R, 10, S, S]``.
    """
    table, images = READINGS[check_choice("reading", reading, tuple(READINGS))]
    folder = kept_file(PLACE)
    if folder is None:
        raise FileNotFoundError(f"no kept runs/{PLACE}; tools/experiments/table1.py makes it")
    return json.loads((folder / f"{table}.json").read_text()), np.load(folder / f"{images}.npy")


COLUMNS = {  # of the table of weightings: where the middle of each is, in images
    "L2\noriginal": 0.9,
    "L2\nadded": 2.7,
    "KL\nencoder": 4.5,
    "KL\nadder": 6.3,
    "sums\nright (%)": 14.8,
    "digits\ndrawn": 16.4,
    "units\nin use": 17.7,
}
VERDICT = 7.5


@styled
def weightings_table(
    rows: Sequence[dict], pictures: ArrayLike, *, drawn: str = "ten sums it draws", **texts: str
) -> Figure:
    """Draw the report's table of loss weights again, beside what each weighting came to here.

    ``rows`` hold per weighting ``weights`` (four, in the report's order), ``verdict`` (the report's
    words), ``accuracy`` in [0, 1], ``digits`` (how many of the ten it draws), ``active`` (units of
    the code in use) and ``code_size``; ``pictures`` are ten images for each, ``[R, 10, S, S]``, and
    ``drawn`` says of what. Source: report, Table 1.
    """
    images = style.as_image_rows("pictures", pictures, 10)
    style.check_length("pictures", images, len(rows))
    figure, axes = style.canvas(29, 1.1 * len(rows) + 1.3, **texts, cell=0.36)
    for text, x in {**COLUMNS, drawn: 23.8}.items():
        write(axes, x, 0.9, text, SMALL, color=FAINT, va="baseline")
    axes.text(VERDICT, 0.9, "the report's\nverdict", size=SMALL, color=FAINT, va="baseline")
    for i, (row, line) in enumerate(zip(rows, images, strict=True)):
        y = 1.1 * i + 1.25
        if i == 0 or row["verdict"] != rows[i - 1]["verdict"]:
            axes.plot([0, 29], [y - 0.05, y - 0.05], color="#c0c0c0", linewidth=0.8)
        draw_weighting(axes, y + 0.5, row)
        for column, image in enumerate(line):
            style.draw_image(axes, image, 18.6 + 1.04 * column, y)
    return figure


def draw_weighting(axes: Axes, y: float, row: dict[str, Any]) -> None:
    """Write one row of the table of weightings at the height ``y``, all but its images."""
    accuracy, active = style.percent(row["accuracy"]), f"{row['active']}/{row['code_size']}"
    cells = [*map(short, row["weights"]), accuracy, str(row["digits"]), active]
    for x, text in zip(COLUMNS.values(), cells, strict=True):
        write(axes, x, y, text, SMALL)
    verdict = textwrap.fill(row["verdict"], 26, max_lines=2, placeholder=" ...")
    axes.text(VERDICT, y, verdict, size=SMALL, va="center")
    for share, colour in ((1, "#e6e6e6"), (row["accuracy"], PALETTE[0])):
        axes.add_patch(Rectangle((12.2, y - 0.25), 1.8 * share, 0.5, color=colour, linewidth=0))


def short(weight: float) -> str:
    """Write a weight in as many characters as its column has room for: 0.00001, but 1.1e-06."""
    text = np.format_float_positional(weight, precision=2, fractional=False, trim="-")
    return text if len(text) <= 7 else f"{weight:.1e}"
