"""Marks of the figures of the evidence: sweeps, parts, seeds, the table of weightings."""

import itertools
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from matplotlib.text import Text
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import Bbox
from numpy.typing import NDArray

from learn2add.figures.marks import ink_on, percent, write
from learn2add.figures.sheets import FAINT, INK, PALETTE, PLATE, SMALL

PARTS = {  # of wrong sums: which part went wrong first
    "misread (reconstruction already wrong)": PALETTE[0],
    "misadded (code at another digit)": PALETTE[4],
    "misdrawn (code right, picture wrong)": PALETTE[2],
}
COLUMNS = {  # of the table of weightings: where the middle of each is, in pictures
    "L2\noriginal": 0.9,
    "L2\nadded": 2.7,
    "KL\nencoder": 4.5,
    "KL\nadder": 6.3,
    "sums\nright (%)": 14.8,
    "digits\ndrawn": 16.4,
    "units\nin use": 17.7,
}
VERDICT = 7.5


def draw_weighting(axes: Axes, y: float, row: Mapping[str, Any]) -> None:
    """Write one row of the table of weightings at the height ``y``, all but its pictures."""
    weights = [short(weight) for weight in row["weights"]]
    measured = [percent(row["accuracy"]), str(row["digits"]), f"{row['active']}/{row['code_size']}"]
    for x, text in zip(COLUMNS.values(), [*weights, *measured], strict=True):
        write(axes, x, y, text, SMALL)
    verdict = textwrap.fill(row["verdict"], 26, max_lines=2, placeholder=" ...")
    axes.text(VERDICT, y, verdict, size=SMALL, va="center")
    for share, colour in ((1, "#e6e6e6"), (row["accuracy"], PALETTE[0])):
        axes.add_patch(Rectangle((12.2, y - 0.25), 1.8 * share, 0.5, color=colour, linewidth=0))


def short(weight: float) -> str:
    """A weight in as many characters as its column has room for: 0.00001, but 1.1e-06."""
    text = np.format_float_positional(weight, precision=2, fractional=False, trim="-")
    return text if len(text) <= 7 else f"{weight:.1e}"


def head_weightings(axes: Axes, drawn: str) -> None:
    """Write the heads of the table's columns, that of the pictures as asked."""
    for text, x in {**COLUMNS, drawn: 23.8}.items():
        write(axes, x, 0.9, text, SMALL, FAINT, "baseline")
    axes.text(VERDICT, 0.9, "the report's\nverdict", size=SMALL, color=FAINT, va="baseline")


def mark_addends(axes: Axes, addends: NDArray, digit: int | None) -> None:
    """Name the axis of the addends; over a wide range it counts in whole numbers."""
    whole, target = np.ptp(addends) > 4, "" if digit is None else f" to a {digit}"
    axes.xaxis.set_major_locator(MaxNLocator(10 if whole else 5, integer=whole))
    axes.set(xlim=(addends[0], addends[-1]), xlabel=f"number added{target}")


def draw_sweep(axes: Axes, addends: NDArray, p: NDArray, low: int, high: int) -> None:
    """Draw the probabilities of two digits and of all others together."""
    axes.plot(addends, p[:, low], color=PALETTE[0], label=f"read as {low}")
    axes.plot(addends, p[:, high], color=PALETTE[1], label=f"read as {high}")
    others = np.delete(p, [low, high], axis=1).sum(1)
    axes.plot(addends, others, "--", color=FAINT, linewidth=1.3, label="all other digits")
    axes.set(ylim=(-0.02, 1.14), yticks=np.linspace(0, 1, 6))
    axes.grid(axis="y", color="#e4e4e4", linewidth=0.7)


def draw_turn(axes: Axes, turn: float) -> None:
    """Mark the addend at which one digit gives way to the next and write it; NaN: say so."""
    left, right = axes.get_xlim()
    if left <= turn <= right:
        axes.axvline(turn, color=INK, linewidth=1.1, linestyle=":")
    text = "no turning point" if np.isnan(turn) else f"turns at {turn:.2f}"
    share = 0.0 if np.isnan(turn) else np.clip((turn - left) / (right - left), 0, 1)
    x, ha = (share - 0.02, "right") if share > 0.5 else (share + 0.02, "left")
    axes.text(x, 0.95, text, transform=axes.transAxes, size=SMALL, ha=ha, va="center")


def draw_parts(axes: Axes, y: float, parts: NDArray) -> None:
    """Draw the three parts as one bar of 100; a narrow one has its number above or below."""
    beside = itertools.cycle([(-0.28, "bottom"), (0.3, "top")])  # in turn: neighbours keep clear
    for part, left, colour in zip(parts, np.cumsum(parts) - parts, PARTS.values(), strict=True):
        axes.barh(y, 100 * part, 0.52, 100 * left, color=colour)
        if part:
            up, va = (0, "center") if part > 0.09 else next(beside)
            ink = INK if up else ink_on(colour)
            x = np.clip(100 * (left + part / 2), 3, 97)
            write(axes, x, y + up, f"{percent(part)} %", SMALL, ink, va)


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
    axes.annotate(text, (x, top), size=SMALL + 0.5, bbox=PLATE, **place)


def name_columns(axes: Axes, names: Sequence[str]) -> None:
    """Name columns at 0, 1, 2, ... below the axis, in as many lines as their width asks for."""
    room = int((axes.get_figure().get_figwidth() - 1) / len(names) / 0.078)  # in letters
    lines = [textwrap.fill(name, room, break_long_words=False) for name in names]
    axes.set_xticks(range(len(names)), lines)
    axes.tick_params(axis="x", length=0)
    axes.set_xlim(-0.6, len(names) - 0.4)


def label_points(axes: Axes, lines: Sequence[tuple[NDArray, Sequence[str], str]]) -> None:
    """Write a text beside each point of some lines, clear of all lines and of one another.

    Each line is its points ``[N, 2]``, their texts and its colour. A text goes to the nearest free
    place, with a leader where that is not beside its point.
    """
    axes.get_figure().draw_without_rendering()  # free places are known once the axes have a size
    unit = axes.get_figure().dpi / 72  # pixels of a point of type
    paths = [axes.transData.transform(points) for points, _, _ in lines]
    taken, words = [], []
    for path in paths:
        steps = np.linspace(0, len(path) - 1, 24 * (len(path) - 1) + 1)
        spots = np.transpose([np.interp(steps, range(len(path)), axis) for axis in path.T])
        taken += [Bbox([spot - 3.5 * unit, spot + 3.5 * unit]) for spot in spots]
    ways = np.exp(1j * np.radians([45, 90, 0, 135, -45, 180, -90, -135, *range(20, 380, 45)]))
    for path, (points, texts, colour) in zip(paths, lines, strict=True):
        ink = 0.75 * np.array(mpl.colors.to_rgb(colour))  # pale colours are no ink
        look = {"ha": "center", "va": "center", "size": SMALL, "color": ink}
        look["arrowprops"] = {"arrowstyle": "-", "linewidth": 0.6, "color": ink}
        for centre, xy, text in zip(path, points, texts, strict=True):
            note = axes.annotate(text, xy, (0, 0), textcoords="offset points", **look)
            half = np.array(Text.get_window_extent(note).size) / 2 + unit
            for far, way in itertools.product((4, 10, 18, 28, 40, 56), ways):
                shift = (half + far * unit) * (way.real, way.imag)
                box = Bbox([centre + shift - half, centre + shift + half])
                leader = np.linspace(centre, centre + shift, 24)
                inside = axes.bbox.contains(*box.min) and axes.bbox.contains(*box.max)
                crosses = any(word.contains(*spot) for word in words for spot in leader)
                if inside and not crosses and not box.count_overlaps(taken):
                    break
            words.append(box.padded(-unit))
            taken += [box, *(Bbox([spot - unit, spot + unit]) for spot in leader)]
            note.set_position(shift / unit)
