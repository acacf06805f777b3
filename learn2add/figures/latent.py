"""Maps of codes, and pictures that move."""

import base64
import html
import io
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from learn2add.checks import check_int
from learn2add.figures.inputs import as_numbers, as_pictures, as_shades
from learn2add.figures.sheets import PALETTE, plot, styled

HUES = (*PALETTE[:7], "#8c6d46", "#999999", "#6a3d9a")
"""One for each digit; the points are the digits themselves, so nothing hangs on the colour."""
ALL_SHOWN = 1000
"""Up to so many digits a map of codes leaves none out."""


class Sheet(NamedTuple):
    """Pictures of the points of a grid, and where the grid lies."""

    pictures: ArrayLike
    """``[R, C, S, S]``, the first row on top."""
    corners: ArrayLike
    """``[2, 2]``: lowest, then highest x and y."""


@styled
def code_maps(
    maps: Mapping[str, ArrayLike],
    labels: ArrayLike,
    sheets: Mapping[str, Sheet] | None = None,
    *,
    title: str | None = None,
    caption: str | None = None,
) -> Figure:
    """Draw codes in a plane as the digits they belong to, and beside them what is drawn there.

    Args:
        maps: By name, points ``[N, 2]`` of the digits. A map with a sheet of its name shows the
            sheet's part of the plane; others everything up to :data:`ALL_SHOWN` digits, of more
            all but the outermost hundredth on each side.
        labels: Digits ``[N]``.
        sheets: By name, pictures on the plane of the map of that name. With a sheet for every map,
            each stands under its map; at most 3 maps.
        title: Above.
        caption: Below.
    """
    digits, sheets = as_numbers("labels", labels).astype(int), dict(sheets or {})
    shape = (len(digits), 2)
    points = {name: as_numbers(f"maps[{name!r}]", at, shape) for name, at in maps.items()}
    if not 1 <= len(points) <= 3 or not set(sheets) <= set(points):
        raise ValueError(
            f"maps are {list(points)} and sheets {list(sheets)}; allowed are 1 to 3 maps, and "
            "sheets with the names of maps"
        )
    rows, columns = (2 if sheets else 1), len(points)
    if sheets and columns == 1:  # one map and its sheet read better side by side
        rows, columns = 1, 2
    width = {1: 5.4, 2: 10.4, 3: 10.6}[columns]
    height = rows * width / columns
    figure, grid = plot(width, height, title, caption, rows, columns, squeeze=False)
    places = grid.T.reshape(len(points), -1) if rows == 2 else grid.reshape(len(points), -1)
    for (name, at), panels in zip(points.items(), places, strict=True):
        sheet = sheets.get(name)
        corners = sheet and as_numbers(f"sheets[{name!r}].corners", sheet.corners, (2, 2))
        low, high = _reach(at) if corners is None else corners
        _scatter(panels[0], at, digits)
        panels[0].set(xlim=(low[0], high[0]), ylim=(low[1], high[1]), title=name)
        if sheet:
            panels[1].imshow(
                _tiled(sheet.pictures), extent=(low[0], high[0], low[1], high[1]), aspect="auto"
            )
            panels[1].set(title=f"{name}: what is drawn there")
        elif len(panels) > 1:
            panels[1].axis("off")
    return figure


def _reach(at: NDArray) -> tuple[NDArray, NDArray]:
    """Lower and upper limits of a map of points ``[N, 2]``."""
    if len(at) > ALL_SHOWN:
        low, high = np.quantile(at, (0.01, 0.99), axis=0)
        return low, high
    margin = 0.04 * np.ptp(at, axis=0)
    return at.min(0) - margin, at.max(0) + margin


def _scatter(axes: Axes, at: NDArray, digits: NDArray) -> None:
    size = 16 if len(at) > 200 else 36
    for digit in range(10):
        axes.scatter(*at[digits == digit].T, s=size, marker=f"${digit}$", color=HUES[digit])
    axes.set(xlabel="first number", ylabel="second number")


def _tiled(pictures: ArrayLike) -> NDArray:
    shades = as_shades("pictures", pictures)
    if shades.ndim != 4:
        raise ValueError(f"pictures has shape {shades.shape}; allowed is [R, C, S, S]")
    rows, columns, height, width = shades.shape
    return shades.swapaxes(1, 2).reshape(rows * height, columns * width)


class Film(NamedTuple):
    """A picture that moves; a notebook plays it."""

    gif: bytes
    """The file."""
    alt: str
    """What it shows, in words."""

    def __repr__(self) -> str:  # a notebook keeps it beside the picture
        return f"Film({self.alt!r}, {len(self.gif):,} bytes)"

    def _repr_html_(self) -> str:
        data = base64.b64encode(self.gif).decode()
        return f'<img alt="{html.escape(self.alt)}" src="data:image/gif;base64,{data}">'


def film(
    scenes: Mapping[str, ArrayLike], *, seconds: float = 2.5, zoom: int = 4, alt: str = ""
) -> Film:
    """Play several rows of pictures side by side, there and back, for ever.

    Args:
        scenes: By name, at most 8, pictures ``[T, S, S]`` of equal number and size; from left to
            right. The names go into the words that stand in for the film.
        seconds: From the first picture to the last.
        zoom: Screen pixels per pixel, 1 to 16.
        alt: What is shown, before the names.

    Raises:
        ValueError: There are none or too many, they differ in number, or ``seconds`` is not above
            0.
    """
    rows = [as_pictures(f"scenes[{name!r}]", row) for name, row in scenes.items()]
    if not 1 <= len(rows) <= 8 or len({row.shape for row in rows}) != 1 or len(rows[0]) < 2:
        shapes = {name: row.shape for name, row in zip(scenes, rows, strict=True)}
        raise ValueError(f"scenes have shapes {shapes}; allowed are 1 to 8 of one shape [T, S, S]")
    if not seconds > 0:
        raise ValueError(f"seconds is {seconds}; allowed is above 0")
    check_int("zoom", zoom, 1, 16)
    shades = np.concatenate([np.pad(row, ((0, 0), (0, 0), (0, 2))) for row in rows], axis=2)
    large = (
        (255 * shades.clip(0, 1)).round().astype(np.uint8).repeat(zoom, axis=1).repeat(zoom, axis=2)
    )
    frames = [Image.fromarray(frame) for frame in (*large, *large[-2:0:-1])]
    pause = round(1000 * seconds / (len(large) - 1))
    held = [5 * pause if i in (0, len(large) - 1) else pause for i in range(len(frames))]
    file = io.BytesIO()
    frames[0].save(
        file, "GIF", save_all=True, append_images=frames[1:], duration=held, loop=0, optimize=True
    )
    return Film(file.getvalue(), ": ".join(part for part in (alt, ", ".join(scenes)) if part))
