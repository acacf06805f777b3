"""What the figures share: style, pages to draw on, checks of what is drawn, marks."""

import functools
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence, Sized
from typing import Any, ParamSpec

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import ArrayLike, NDArray

# Blue, vermilion, green, purple, orange, sky, black, and yellow last: it is faint on white.
PALETTE = tuple("#0072B2 #D55E00 #009E73 #CC79A7 #E69F00 #56B4E9 #000000 #F0E442".split())
INK, FAINT, WARN = "#222222", "#666666", PALETTE[1]
TEXT, SMALL = 10, 8.5
PLATE = {"facecolor": "white", "edgecolor": "none", "pad": 0.8}  # keeps lines off numbers
STYLE = {
    "figure.dpi": 100,
    "figure.facecolor": "white",
    "figure.constrained_layout.use": True,
    "font.family": "DejaVu Sans",  # shipped with matplotlib: the same figure on every machine
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
DIGITS = np.arange(10)
VALID = DIGITS[:, None] + DIGITS[None, :] <= 9  # [digit, addend]: the 55 sums of one digit
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


class Described(Figure):
    """A figure that says in words what it shows, where Jupyter would tell its size."""

    def __repr__(self) -> str:
        """Its titles, what its axes measure, its caption."""
        said = [self.get_suptitle()]
        for axes in self.axes:
            measured = " over ".join(filter(None, (axes.get_ylabel(), axes.get_xlabel())))
            said += [axes.get_title() or axes.get_title(loc="left"), measured]
        said.append(self.get_supxlabel())
        told = ". ".join(dict.fromkeys(" ".join(text.split()).rstrip(".") for text in said if text))
        return f"Figure: {told}." if told else f"Figure with {len(self.axes)} panels"


def subplots(
    width: float,
    height: float,
    *shape: int,
    title: str = "",
    caption: str = "",
    grow: bool = False,
    **options: object,
) -> tuple[Figure, Axes]:
    """Make a figure of that many inches, its ``title`` above and small ``caption`` below wrapped to
    its width; ``grow`` adds their height, so that images keep their size.
    """
    texts = []
    for text, size in ((title, TEXT + 1), (caption, SMALL)):
        room = max(12, int(width * 72 / (0.58 * size)))
        lines = [line for part in (text or "").split("\n") for line in textwrap.wrap(part, room)]
        texts.append("\n".join(lines))
        height += (len(lines) * size * 1.25 / 72 + 0.06) if lines and grow else 0.0
    figure, axes = plt.subplots(*shape, figsize=(width, height), FigureClass=Described, **options)
    if texts[0]:
        figure.suptitle(texts[0], x=0.01, ha="left", size=TEXT + 1, weight="bold")
    if texts[1]:
        figure.supxlabel(texts[1], x=0.01, ha="left", size=SMALL, color=FAINT)
    return figure, axes


def canvas(
    width: float, height: float, *, labels: Iterable[str] = (), cell: float = 0.78, **texts: str
) -> tuple[Figure, Axes]:
    """Make axes for images: x to the right, y down, one unit = one image = ``cell`` inches; the
    ``labels`` of the rows get room at the left.
    """
    longest = max((len(line) for label in labels for line in label.split("\n")), default=0)
    left = 0.085 * longest + 0.15 if longest else 0.0
    cell = min(cell, (10.5 - left) / width)  # a notebook page is about this wide
    figure, axes = subplots(left + cell * width + 0.1, cell * height + 0.1, grow=True, **texts)
    axes.set(xlim=(0, width), ylim=(height, 0), aspect="equal")
    axes.axis("off")
    return figure, axes


def panels(names: Iterable[str], height: float, **texts: str) -> tuple[Figure, NDArray]:
    """Make axes for each name, side by side on one y axis, the name above each."""
    names = list(names)
    width = {1: 6.0, 2: 8.0}.get(len(names), 10.4)
    figure, grid = subplots(width, height, 1, len(names), sharey=True, squeeze=False, **texts)
    for axes, name in zip(grid[0], names, strict=True):
        label = textwrap.fill(name, int((width - 1) / len(names) / 0.09))
        axes.set_title(label, loc="left", size=TEXT)
    return figure, grid[0]


def check_length(name: str, values: Sized, count: int) -> None:
    """Raise ``ValueError`` if there are not ``count`` values."""
    if len(values) != count:
        raise ValueError(f"len({name}) is {len(values)}; allowed is {count}")


def as_numbers(name: str, value: ArrayLike, shape: tuple[int, ...]) -> NDArray:
    """Return floats of that shape, or raise ``ValueError``."""
    array = np.asarray(value, float)
    if array.shape != shape:
        raise ValueError(f"shape of {name} is {array.shape}; allowed is {shape}")
    return array


def as_rows(name: str, rows: Mapping[str, ArrayLike], shape: tuple[int, ...]) -> dict[str, NDArray]:
    """Return each row as floats of that shape, or raise ``ValueError`` naming it."""
    return {key: as_numbers(f"{name}[{key!r}]", row, shape) for key, row in rows.items()}


def as_images(name: str, value: ArrayLike, count: int | None = None) -> NDArray:
    """Return images ``[N, S, S]`` or ``[N, 1, S, S]`` as float ``[N, S, S]``, N = ``count``."""
    array = as_grey(name, value)
    if array.ndim == 4 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 3:
        raise ValueError(f"shape of {name} is {array.shape}; allowed is [N, S, S] or [N, 1, S, S]")
    check_length(name, array, len(array) if count is None else count)
    return array


def as_image_rows(name: str, value: ArrayLike, columns: int) -> NDArray:
    """Return images ``[R, N, S, S]``, or one row as for ``as_images``, as rows; N = ``columns``."""
    array = as_grey(name, value)
    if array.shape[:-2] != (columns, 1) and array.shape[-3:-2] != (columns,):
        raise ValueError(f"shape of {name} is {array.shape}; allowed is [R, {columns}, S, S]")
    return array.reshape(-1, columns, *array.shape[-2:])


def as_grey(name: str, value: ArrayLike) -> NDArray:
    """Return square images ``[..., S, S]``, ``uint8`` or float in [0, 1], as float in [0, 1]."""
    array = np.asarray(value)
    if array.ndim < 2 or array.shape[-1] != array.shape[-2] or array.size == 0:
        raise ValueError(f"shape of {name} is {array.shape}; allowed is [N, S, S]")
    if array.dtype == np.uint8:
        return array / np.float32(255)
    if array.dtype.kind != "f" or not (array.min() >= -1e-3 and array.max() <= 1 + 1e-3):
        span = f"{array.dtype} from {array.min()} to {array.max()}"
        raise ValueError(f"{name} is {span}; allowed is uint8 or float in [0, 1]")
    return array.astype(np.float32)


def draw_image(axes: Axes, image: NDArray, x: float, y: float) -> None:
    """Draw one image with its upper left corner at ``(x, y)`` of a canvas."""
    axes.imshow(image, vmin=0, vmax=1, interpolation="nearest", extent=(x, x + 1, y + 1, y))


def write(axes: Axes, x: float, y: float, text: str, size: float = TEXT, **look: Any) -> None:
    """Write centred on ``x`` and, unless ``va`` says otherwise, on ``y``."""
    axes.text(x, y, text, size=size, ha="center", **{"va": "center", **look})


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
    corner, side = [place * pitch - 0.5 + 0.03 * pitch for place in (digit, addend)], 0.94 * pitch
    axes.add_patch(Rectangle(corner, side, side, fill=False, edgecolor=WARN, linewidth=2))


def corner_note(axes: Axes, height: float, text: str, **look: Any) -> None:
    """Write into the blank lower right triangle of a map of cells."""
    look = {"size": SMALL, "color": FAINT, "transform": axes.transAxes, **look}
    axes.text(0.985, height, text, ha="right", **look)


def rule(axes: Axes) -> None:
    """Draw the faint level lines of the y axis."""
    axes.grid(axis="y", color="#e4e4e4", linewidth=0.7)


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


def darker(colour: str) -> NDArray:
    """Return a darker shade of a colour: pale colours are no ink."""
    return 0.75 * np.array(mpl.colors.to_rgb(colour))


def ink_on(colour: object) -> str:
    """Return dark or white, whichever text reads better on that colour."""
    red, green, blue, _ = mpl.colors.to_rgba(colour)
    return "white" if 0.299 * red + 0.587 * green + 0.114 * blue < 0.55 else INK


def percent(share: float) -> str:
    """Write ``0.9893`` as ``98.9``; ``100`` stands only for all, ``0`` only for none."""
    return f"{100 * share:g}" if share in (0, 1) else f"{100 * share:.1f}"
