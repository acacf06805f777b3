"""The networks as schemes (notebooks 2 to 4 and 10): what goes where, what training alone needs."""

from collections.abc import Mapping

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Polygon
from numpy.typing import ArrayLike

from learn2add.checks import check_choice
from learn2add.figures import style
from learn2add.figures.style import FAINT, INK, PALETTE, SMALL, styled, write

Place = tuple[float, float]
CODE = {"boxstyle": "round,pad=0.12,rounding_size=0.1", "linewidth": 1, "edgecolor": FAINT}

# Where each part stands, what is written in it, and which parts an arrow joins. A name that ends in
# ' is drawn once more with the same weights; an arrow or part of training alone is dashed.
PARTS: dict[str, dict[str, tuple[Place, str]]] = {
    "autoencoder": {
        "x": ((0, 0), "x"), "E": ((1.6, 0), "E\nencoder"), "z": ((3.1, 0), "code z\n2 numbers"),
        "D": ((4.6, 0), "D\ndecoder"), "x_hat": ((6.2, 0), "x_hat"),
    },
    "auto_decoder": {
        "z": ((0, 0), "row i of the\ntable: code z"), "D": ((1.6, 0), "D\ndecoder"),
        "x_hat": ((3.2, 0), "x_hat"), "x": ((4.9, 0), "x: image i"),
    },
    "addition": {
        "x": ((0, 2), "x"), "E": ((1.6, 2), "E\nencoder"), "z": ((3.1, 2), "code z\n7 numbers"),
        "D'": ((6.1, 3.2), "D\nsame weights"), "x_hat": ((7.7, 3.2), "x_hat"),
        "addend": ((3.1, 0.9), "addend"), "P": ((4.6, 2), "P\nadder"),
        "z_sum": ((6.1, 2), "code z_sum\n7 numbers"), "D": ((7.6, 2), "D\ndecoder"),
        "y_hat": ((9.2, 2), "y_hat"), "y": ((3.0, -0.4), "y"),
        "E'": ((4.6, -0.4), "E\nsame weights"), "z_target": ((6.1, -0.4), "z_target\n7 numbers"),
    },
}  # fmt: skip
PARTS["generative"] = PARTS["addition"] | {
    "z": ((3.1, 2), "mu, sigma of z\n2 x 7 numbers"),
    "z_sum": ((6.1, 2), "mu, sigma\nof z_sum"),
}
ARROWS = {
    "autoencoder": ("x E", "E z", "z D", "D x_hat"),
    "auto_decoder": ("z D", "D x_hat"),
    "addition": ("x E", "E z", "z P", "addend P", "P z_sum", "z_sum D", "D y_hat"),
}
ARROWS["generative"] = ARROWS["addition"]
TRAINING = ("z D'", "D' x_hat", "y E'", "E' z_target", "z_target z_sum")
IN_TRAINING = TRAINING, "dashed: in training alone", (0.3, -0.8)
DASHED = {
    "autoencoder": ((), "", (0, 0)),
    "auto_decoder": (
        ("x x_hat",),
        "dashed: the loss; its gradient moves D and the row",
        (1.2, -0.7),
    ),
    "addition": IN_TRAINING,
    "generative": IN_TRAINING,
}
"""The arrows of training alone, what is said of them, and where."""


@styled
def scheme(network: str, images: Mapping[str, ArrayLike], **texts: str) -> Figure:
    """Draw a network: "autoencoder" (Part II), "addition" (Part III), "generative" (Part IV) or
    "auto_decoder" (report 004).

    ``images`` are drawn for parts of the data by name, each ``[S, S]``: ``x`` and ``x_hat``, or
    ``x``, ``x_hat``, ``y`` and ``y_hat``. Source: assignment, the overview.
    """
    parts = PARTS[check_choice("network", network, tuple(PARTS))]
    dashed, note, place = DASHED[network]
    columns, rows = zip(*(place for place, _ in parts.values()), strict=True)
    width, height = max(columns) + 1.1, max(rows) - min(rows) + 1.3
    figure, axes = style.subplots(width, height, grow=True, **texts)
    axes.set(xlim=(-0.55, max(columns) + 0.55), ylim=(min(rows) - 0.75, max(rows) + 0.55))
    axes.set_aspect("equal")
    axes.axis("off")
    of_training = {word for arrow in dashed for word in arrow.split()} - {"z", "z_sum"}
    for arrow in (*ARROWS[network], *dashed):
        join(axes, *(parts[word][0] for word in arrow.split()), dashed=arrow in dashed)
    for name, (at, label) in parts.items():
        if name in images:
            draw_data(axes, at, label, style.as_grey(f"images[{name!r}]", images[name]))
        else:
            draw_part(axes, name, at, label, dashed=name in of_training)
    if dashed:
        write(axes, *place, note, SMALL, color=FAINT)
    return figure


def join(axes: Axes, start: Place, end: Place, *, dashed: bool) -> None:
    """Draw an arrow from one part to another; it ends at their edges."""
    look = {"linestyle": "--" if dashed else "-", "color": FAINT if dashed else INK}
    ends = {"shrinkA": 42, "shrinkB": 42, "arrowstyle": "-|>", "mutation_scale": 11, "zorder": 1}
    if abs(start[0] - end[0]) < 0.3:  # up or down there is less room
        ends |= {"shrinkA": 26, "shrinkB": 30}
    axes.add_patch(FancyArrowPatch(start, end, linewidth=1.2, **look, **ends))


def draw_data(axes: Axes, place: Place, label: str, image: ArrayLike) -> None:
    """Draw an image, its name below."""
    x, y = place
    axes.imshow(image, vmin=0, vmax=1, extent=(x - 0.42, x + 0.42, y - 0.42, y + 0.42), zorder=3)
    write(axes, x, y - 0.55, label, SMALL)


def draw_part(axes: Axes, name: str, place: Place, label: str, *, dashed: bool) -> None:
    """Draw an encoder (narrowing), a decoder (widening), the adder, or a code."""
    x, y = place
    line = "--" if dashed else "-"
    wide, narrow = 0.46, 0.26
    left, right = {"E": (wide, narrow), "D": (narrow, wide), "P": (0.36, 0.36)}.get(name[0], (0, 0))
    if left:
        corners = [(x - 0.5, y - left), (x - 0.5, y + left), (x + 0.5, y + right)]
        corners.append((x + 0.5, y - right))
        colour = {"E": PALETTE[5], "D": PALETTE[4], "P": PALETTE[2]}[name[0]]
        look = {"facecolor": (*style.mpl.colors.to_rgb(colour), 0.3), "edgecolor": colour}
        axes.add_patch(Polygon(corners, linestyle=line, linewidth=1.3, zorder=2, **look))
    else:
        box = FancyBboxPatch((x - 0.38, y - 0.2), 0.76, 0.4, facecolor="white", **CODE)
        box.set(linestyle=line, zorder=2)
        axes.add_patch(box)
    write(axes, x, y, label, SMALL - 0.5, zorder=4)
