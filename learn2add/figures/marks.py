"""Marks to draw with: pictures, cells, bars, curves, and what is written beside them."""

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter
from numpy.typing import NDArray

from learn2add.figures.inputs import DIGITS
from learn2add.figures.sheets import DIAMOND, FAINT, INK, SMALL, TEXT, WARN


def draw_picture(axes: Axes, picture: NDArray, x: float, y: float) -> None:
    """Draw one picture with its upper left corner at ``(x, y)`` of a board."""
    axes.imshow(picture, vmin=0, vmax=1, interpolation="nearest", extent=(x, x + 1, y + 1, y))


def write(
    axes: Axes,
    x: float,
    y: float,
    text: str,
    size: float = TEXT,
    color: str = INK,
    va: str = "center",
) -> None:
    """Write centred on ``x``."""
    axes.text(x, y, text, size=size, color=color, ha="center", va=va)


def label_row(axes: Axes, y: float, label: str) -> None:
    """Write a label left of the row of pictures whose upper edge is at ``y``."""
    axes.text(-0.12, y + 0.5, label, ha="right", va="center", linespacing=1.35)


def number_cells(axes: Axes, pitch: int) -> None:
    """Number the ten columns and rows of cells, each number at the middle of its cell."""
    middles = DIGITS * pitch + (pitch - 1) / 2
    axes.set_xticks(middles, DIGITS)
    axes.set_yticks(middles, DIGITS)
    axes.set(xlabel="input digit", ylabel="added value")
    axes.tick_params(length=0, labeltop=True)  # the cells hang from the top, so number it too
    axes.spines[:].set_visible(False)


def frame_cell(axes: Axes, digit: int, addend: int, pitch: int) -> None:
    """Frame one cell, just inside its edge, so that neighbouring frames do not touch."""
    x, y = (place * pitch - 0.5 + 0.03 * pitch for place in (digit, addend))
    side = 0.94 * pitch
    axes.add_patch(Rectangle((x, y), side, side, fill=False, edgecolor=WARN, linewidth=2))


def corner_note(
    axes: Axes, text: str, height: float, size: float = SMALL, color: str = FAINT
) -> None:
    """Write into the blank lower right triangle of a map of cells."""
    axes.text(0.985, height, text, transform=axes.transAxes, size=size, color=color, ha="right")


def draw_bar_marks(
    axes: Axes, x: float, value: float, mark: float, span: NDArray, colour: str, digits: int
) -> None:
    """Write a bar's value at its foot; mark its interval and its reference, where not NaN.

    A number that finds no room in the bar goes above everything drawn at ``x``.
    """
    unit = axes.get_ylim()[1] / 1.2  # text heights below are shares of the tallest thing drawn
    inside = value > 0.12 * unit
    peak = np.nanmax([value, *span])
    if np.isfinite(span).all():
        axes.plot([x, x], span, color=INK, linewidth=1.2)
    if np.isfinite(mark):
        axes.plot(x, mark, **DIAMOND)
        if inside and 0.2 * unit < mark <= value + 0.03 * unit:
            y, ink, va = mark - 0.035 * unit, ink_on(colour), "top"
        else:
            y, ink, va = max(peak, mark) + 0.035 * unit, FAINT, "bottom"
            peak = y + 0.05 * unit
        write(axes, x, y, f"{mark:.{digits}f}", SMALL, ink, va)
    y, ink = (0.03 * unit, ink_on(colour)) if inside else (peak + 0.02 * unit, INK)
    write(axes, x, y, f"{value:.{digits}f}", TEXT, ink, "bottom")


def draw_run(
    axes: Axes, name: str, run: dict[str, NDArray], colour: str, best: bool
) -> tuple[float, float, str, str]:
    """Draw one run's two curves; return where its validation ends, its label and its colour."""
    epoch, values = run["epoch"], run["validation"]
    dot = "." if len(epoch) < 4 else None  # a line of one point would not be seen
    axes.plot(epoch, run["train"], color=colour, linewidth=1.1, linestyle="--", marker=dot)
    axes.plot(epoch, values, color=colour, marker=dot)
    chosen = int(np.argmin(values)) if best else len(values) - 1
    if best:
        dot = {"marker": "o", "markersize": 5.5, "markeredgecolor": "white"}
        axes.plot(epoch[chosen], values[chosen], color=colour, clip_on=False, zorder=5, **dot)
    return epoch[-1], values[-1], f"{name}  {values[chosen]:.4f}", colour


def explain_runs(axes: Axes, best: bool) -> None:
    """Say what the lines of ``draw_run`` are, once for all colours."""
    looks = {"validation": {}, "train": {"linestyle": "--", "linewidth": 1.1}}
    if best:
        looks["lowest validation"] = {"linestyle": "", "marker": "o", "markersize": 5.5}
    legend_above(axes, [Line2D([], [], color=FAINT, label=k, **v) for k, v in looks.items()])


def legend_above(axes: Axes, handles: Sequence[Artist]) -> None:
    """Put a legend of one line above the axes, at the right."""
    place = {"loc": "lower right", "bbox_to_anchor": (1, 1), "borderaxespad": 0.2}
    axes.legend(handles=handles, ncols=len(handles), **place)


def legend_over_panels(figure: Figure, handles: Sequence[Artist]) -> None:
    """Put a legend of one line between the figure's title and its panels, at the right."""
    points, title = 72 * figure.get_figheight(), figure.get_suptitle()
    figure.get_layout_engine().set(rect=(0, 0, 1, 1 - 1.7 * SMALL / points))  # room for it
    used = 1.25 * (TEXT + 1) * (title.count("\n") + 1) if title else 0
    place = {"bbox_to_anchor": (1, 1 - used / points), "loc": "upper right"}
    figure.legend(handles=handles, ncols=len(handles), **place)


def label_ends(axes: Axes, ends: Sequence[tuple[float, float, str, str]]) -> None:
    """Name lines at the right edge, in a darker shade of their colour, clear of each other."""
    axes.set_ylim(axes.get_ylim())  # from here on the axis stands still
    points = axes.transData.transform([(x, y) for x, y, _, _ in ends])
    heights = axes.transAxes.inverted().transform(points)[:, 1]
    leader = {"arrowstyle": "-", "linewidth": 0.7, "shrinkA": 1, "shrinkB": 0, "relpos": (0, 0.5)}
    for (x, y, text, colour), height in zip(ends, apart(heights, 0.052), strict=True):
        axes.annotate(
            text,
            xy=(x, y),
            xytext=(1.05, height),
            textcoords="axes fraction",
            color=0.75 * np.array(mpl.colors.to_rgb(colour)),  # pale colours are no ink
            size=SMALL + 0.5,
            va="center",
            annotation_clip=False,
            arrowprops={**leader, "color": colour},
        )


def apart(wanted: NDArray, gap: float) -> NDArray:
    """Heights in the order of ``wanted`` and near to it that lie at least ``gap`` apart."""
    order = np.argsort(wanted, kind="stable")
    steps = gap * np.arange(len(wanted))
    slack = wanted[order] - steps  # must not decrease: midway between the envelopes it does not
    above, below = np.maximum.accumulate(slack), np.minimum.accumulate(slack[::-1])[::-1]
    result = np.empty(len(wanted))
    result[order] = (above + below) / 2 + steps
    return result


def plain_log(axes: Axes) -> None:
    """Make y logarithmic with plain numbers (0.2, not 2e-1), several of them even in one decade."""
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    narrow = high / low < 10
    axes.yaxis.set_major_locator(
        MaxNLocator(6, steps=(1, 2, 2.5, 5, 10)) if narrow else LogLocator(subs=(1, 2, 5))
    )
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.tick_params(axis="y", which="minor", length=0)


def ink_on(colour: object) -> str:
    """Dark or white text, whichever reads better on that colour."""
    red, green, blue, _ = mpl.colors.to_rgba(colour)
    return "white" if 0.299 * red + 0.587 * green + 0.114 * blue < 0.55 else INK


def percent(share: float) -> str:
    """``0.9893`` -> ``98.9``; ``100`` only for all of them, 0 only for none."""
    return f"{100 * share:g}" if share in (0, 1) else f"{100 * share:.1f}"


def thousands(number: float) -> str:
    """``12345`` -> ``12,345``; ``123k`` from a hundred thousand on."""
    return f"{number:,.0f}" if number < 99_999.5 else f"{number / 1000:,.0f}k"
