"""What the figures share: palette and style, sheets to draw on."""

import functools
import textwrap
from collections.abc import Callable, Iterable
from typing import ParamSpec

import matplotlib as mpl
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from learn2add.checks import check_int

PALETTE = (
    "#0072B2",  # blue
    "#D55E00",  # vermilion
    "#009E73",  # green
    "#CC79A7",  # purple
    "#E69F00",  # orange
    "#56B4E9",  # sky
    "#000000",
    "#F0E442",  # yellow, last: it is faint on white
)
INK, FAINT, WARN = "#222222", "#666666", PALETTE[1]
TEXT, SMALL = 10, 8.5
PLATE = {"facecolor": "white", "edgecolor": "none", "pad": 0.8}  # keeps lines off numbers
DIAMOND = {"marker": "D", "markersize": 6, "color": "white", "markeredgecolor": INK}
STYLE = {
    "figure.dpi": 100,
    "figure.facecolor": "white",
    "figure.constrained_layout.use": True,
    "font.family": "DejaVu Sans",  # shipped with matplotlib: the same picture on every machine
    "font.size": TEXT,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.facecolor": "white",
    "axes.grid": False,
    "axes.labelsize": TEXT,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.labelsize": SMALL + 0.5,
    "ytick.labelsize": SMALL + 0.5,
    "legend.frameon": False,
    "legend.fontsize": SMALL,
    "lines.linewidth": 1.8,
    "image.cmap": "Greys_r",
}
P = ParamSpec("P")


def styled(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Make a function draw in the one style and leave the caller's settings as they were."""

    @functools.wraps(draw)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> Figure:
        # Not mpl.rc_context: Jupyter's backend loads with the first figure and switches interactive
        # display on; a context would switch it off again at its end, and no figure would show.
        saved = {key: mpl.rcParams[key] for key in STYLE}
        mpl.rcParams.update(STYLE)
        try:
            figure = draw(*args, **kwargs)
            figure.draw_without_rendering()  # matplotlib makes ticks and layout only now
        finally:
            mpl.rcParams.update(saved)
        return figure

    return wrapper


def plot(
    width: float,
    height: float,
    title: str | None,
    caption: str | None,
    *shape: int,
    grow: bool = False,
    **options: object,
) -> tuple[Figure, Axes]:
    """A figure of that many inches with its title and caption wrapped to its width.

    ``grow`` adds the height of the two texts, so that pictures keep their size.
    """
    texts = {}
    for name, text, size in (("title", title, TEXT + 1), ("caption", caption, SMALL)):
        if text is not None and not isinstance(text, str):
            raise ValueError(f"{name} must be text or None, got {type(text).__name__}")
        room = max(12, int(width * 72 / (0.58 * size)))
        lines = [line for part in (text or "").split("\n") for line in textwrap.wrap(part, room)]
        texts[name] = "\n".join(lines)
        height += (len(lines) * size * 1.25 / 72 + 0.06) if lines and grow else 0.0
    figure, axes = plt.subplots(*shape, figsize=(width, height), **options)
    if texts["title"]:
        figure.suptitle(texts["title"], x=0.01, ha="left", size=TEXT + 1, weight="bold")
    if texts["caption"]:
        figure.supxlabel(texts["caption"], x=0.01, ha="left", size=SMALL, color=FAINT)
    return figure, axes


def board(
    width: float,
    height: float,
    title: str | None,
    caption: str | None,
    *,
    labels: Iterable[str] | None = None,
    cell: float = 0.78,
) -> tuple[Figure, Axes]:
    """A sheet for pictures: x to the right, y down, one unit = one picture = ``cell`` inches.

    ``labels`` are those of the rows: they get room at the left.
    """
    longest = max((len(line) for label in labels or () for line in label.split("\n")), default=0)
    left = 0.085 * longest + 0.15 if longest else 0.0
    cell = min(cell, (10.5 - left) / width)  # a notebook page is about this wide
    figure, axes = plot(left + cell * width + 0.1, cell * height + 0.1, title, caption, grow=True)
    axes.set(xlim=(0, width), ylim=(height, 0), aspect="equal")
    axes.axis("off")
    return figure, axes


def layout(columns: int, count: int) -> tuple[int, int]:
    """Columns and rows of a board that holds ``count`` things."""
    columns = min(check_int("columns", columns, 1), count)
    return columns, -(-count // columns)


def panels(
    names: Iterable[str], height: float, title: str | None, caption: str | None
) -> tuple[Figure, NDArray]:
    """One plot for each name, side by side on one y axis, the name above it."""
    names = list(names)
    width, shape = {1: 6.0, 2: 8.0}.get(len(names), 10.4), (1, len(names))
    figure, grid = plot(width, height, title, caption, *shape, sharey=True, squeeze=False)
    for axes, name in zip(grid[0], names, strict=True):
        label = textwrap.fill(name, int((width - 1) / len(names) / 0.09))
        axes.set_title(label, loc="left", size=TEXT)
    return figure, grid[0]
