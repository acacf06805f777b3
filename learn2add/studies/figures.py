"""Figures of the studies: curves against a strength, maps of codes, films, searches."""

import base64
import html
import io
from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, NullLocator
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from learn2add.checks import check_choice, check_int
from learn2add.figures import style
from learn2add.figures.style import FAINT, INK, PALETTE, SMALL, styled

DOTS = ("o", "s", "^", "D", "v", "P", "X", "*")
HUES = (*PALETTE[:7], "#8c6d46", "#999999", "#6a3d9a")
"""One for each digit; the points are the digits themselves, so nothing hangs on the colour."""
ALL_SHOWN = 1000
"""Up to so many digits a map of codes leaves none out."""
LEVELS = 5
"""So many different values are drawn as a row of levels; more are an axis."""


def low_to_high(values: Iterable[float], form: str = ".3f") -> str:
    """Return the lowest and the highest value: "0.245 to 0.251"; where they read alike, one."""
    values = list(values)
    return " to ".join(dict.fromkeys(f"{end(values):{form}}" for end in (min, max)))


@styled
def strength_curves(
    strengths: ArrayLike,
    measures: Mapping[str, Mapping[str, ArrayLike]],
    *,
    xlabel: str,
    log: str = "",
    **texts: str,
) -> Figure:
    """Draw one or more measures of several models against the strength of a corruption.

    ``strengths`` are rising numbers ``[N]``, ``xlabel`` says of what. ``measures`` holds per
    measure (it names the y axis), at most 4, and in each per model, at most 8, the values ``[N]``;
    a model has the same colour and mark in every panel. ``log`` makes axes logarithmic, "x", "y" or
    "xy"; a logarithmic x axis has its ticks at the strengths.
    """
    check_choice("log", log, ("", "x", "y", "xy"))
    names = list(dict.fromkeys(name for lines in measures.values() for name in lines))
    check_int("the number of models", len(names), 1, len(PALETTE))
    x, handles = np.asarray(strengths, float), {}
    measures = {
        name: style.as_rows(f"measures[{name!r}]", lines, x.shape)
        for name, lines in measures.items()
    }
    width = {1: 6.0, 2: 8.6}.get(len(measures), 10.4)
    figure, grid = style.subplots(width, 3.7, 1, len(measures), squeeze=False, **texts)
    for axes, (measure, lines) in zip(grid[0], measures.items(), strict=True):
        for name, y in lines.items():
            i = names.index(name)
            look = {"color": PALETTE[i], "marker": DOTS[i], "markersize": 4.5, "label": name}
            (handles[name],) = axes.plot(x, y, **look)
        axes.set(xlabel=xlabel, ylabel=measure)
        if "x" in log:
            axes.set_xscale("log")
            near = [*(x[1:] < 1.12 * x[:-1]), False]  # labels would touch
            axes.set_xticks(x, ["" if n else f"{v:,g}" for v, n in zip(x, near, strict=True)])
            axes.xaxis.set_minor_locator(NullLocator())
        if "y" in log:
            plain_log(axes)
        style.rule(axes)
    style.legend_over_panels(figure, [handles[name] for name in names])
    return figure


def plain_log(axes: Axes) -> None:
    """Make y logarithmic with plain numbers (0.2, not 2e-1), several of them even in one decade."""
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    narrow = MaxNLocator(6, steps=(1, 2, 2.5, 5, 10))
    axes.yaxis.set_major_locator(narrow if high / low < 10 else LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.tick_params(axis="y", which="minor", length=0)


class Sheet(NamedTuple):
    """Images of the points of a grid, and where the grid lies."""

    pictures: ArrayLike
    """``[R, C, S, S]``, the first row on top."""
    corners: ArrayLike
    """``[2, 2]``: lowest, then highest x and y."""


@styled
def code_maps(
    maps: Mapping[str, ArrayLike],
    labels: ArrayLike,
    sheets: Mapping[str, Sheet] | None = None,
    **texts: str,
) -> Figure:
    """Draw codes in a plane as the digits they belong to, and beside them what is drawn there.

    ``maps`` are by name, at most 3, points ``[N, 2]`` of the digits with ``labels`` ``[N]``;
    ``sheets`` are by name images on the plane of the map of that name. A map with a sheet shows the
    sheet's part of the plane; others everything up to :data:`ALL_SHOWN` digits, of more all but the
    outermost hundredth on each side. With several maps each sheet stands under its map.
    """
    digits, sheets = np.asarray(labels).astype(int), sheets or {}
    points = style.as_rows("maps", maps, (len(digits), 2))
    for name in sheets:
        check_choice("a key of sheets", name, list(points))
    tiles = {name: _tiled(sheet.pictures) for name, sheet in sheets.items()}
    rows, columns = (2 if sheets else 1), len(points)
    if sheets and columns == 1:  # one map and its sheet read better side by side
        rows, columns = 1, 2
    width = {1: 5.4, 2: 10.4}.get(columns, 10.6)
    figure, grid = style.subplots(
        width, rows * width / columns, rows, columns, squeeze=False, **texts
    )
    places = (grid.T if rows == 2 else grid).reshape(len(points), -1)
    for (name, at), panels in zip(points.items(), places, strict=True):
        sheet = sheets.get(name)
        low, high = np.asarray(sheet.corners) if sheet else _reach(at)
        size = 16 if len(at) > 200 else 36
        for digit in range(10):
            look = {"s": size, "marker": f"${digit}$", "color": HUES[digit]}
            panels[0].scatter(*at[digits == digit].T, **look)
        panels[0].set(xlabel="first number", ylabel="second number", title=name)
        panels[0].set(xlim=(low[0], high[0]), ylim=(low[1], high[1]))
        if sheet:
            extent = (low[0], high[0], low[1], high[1])
            panels[1].imshow(tiles[name], extent=extent, aspect="auto")
            panels[1].set(title=f"{name}: what is drawn there")
        elif len(panels) > 1:
            panels[1].axis("off")
    return figure


def _reach(at: NDArray) -> tuple[NDArray, NDArray]:
    """Return the lower and upper limits of a map of points ``[N, 2]``."""
    if len(at) > ALL_SHOWN:
        low, high = np.quantile(at, (0.01, 0.99), axis=0)
        return low, high
    margin = 0.04 * np.ptp(at, axis=0)
    return at.min(0) - margin, at.max(0) + margin


def _tiled(pictures: ArrayLike) -> NDArray:
    grey = style.as_grey("pictures", pictures)
    if grey.ndim != 4:
        raise ValueError(f"shape of pictures is {grey.shape}; allowed is [R, C, S, S]")
    rows, columns, height, width = grey.shape
    return grey.swapaxes(1, 2).reshape(rows * height, columns * width)


class Film(NamedTuple):
    """An image that moves; a notebook plays it."""

    gif: bytes
    """The file."""
    alt: str
    """What it shows, in words."""

    def __repr__(self) -> str:  # a notebook keeps it beside the image
        return f"Film({self.alt!r}, {len(self.gif):,} bytes)"

    def _repr_html_(self) -> str:
        data = base64.b64encode(self.gif).decode()
        return f'<img alt="{html.escape(self.alt)}" src="data:image/gif;base64,{data}">'


def film(
    scenes: Mapping[str, ArrayLike], *, seconds: float = 2.5, zoom: int = 4, alt: str = ""
) -> Film:
    """Play several rows of images side by side, there and back, for ever.

    ``scenes`` are by name images ``[T, S, S]`` of equal number and size, from left to right; they
    take ``seconds`` from the first image to the last, at ``zoom`` screen pixels per pixel. ``alt``
    says what is shown; the names are added to it.
    """
    rows = [style.as_images(f"scenes[{name!r}]", row) for name, row in scenes.items()]
    if len({row.shape for row in rows}) != 1 or len(rows[0]) < 2:
        shapes = [row.shape for row in rows]
        raise ValueError(f"shapes of scenes are {shapes}; allowed is one [T, S, S], T above 1")
    check_int("zoom", zoom, 1, 16)
    grey = np.concatenate([np.pad(row, ((0, 0), (0, 0), (0, 2))) for row in rows], axis=2)
    small = (255 * grey.clip(0, 1)).round().astype(np.uint8)
    large = small.repeat(zoom, axis=1).repeat(zoom, axis=2)
    frames = [Image.fromarray(frame) for frame in (*large, *large[-2:0:-1])]
    pause = round(1000 * seconds / (len(large) - 1))
    held = [5 * pause if i in (0, len(large) - 1) else pause for i in range(len(frames))]
    file, play = io.BytesIO(), {"duration": held, "loop": 0, "optimize": True}
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:], **play)
    return Film(file.getvalue(), ": ".join(part for part in (alt, ", ".join(scenes)) if part))


@styled
def importance_bars(shares: Mapping[str, ArrayLike], **texts: str) -> Figure:
    """Draw what share of the spread of the errors each parameter explains, the first on top.

    ``shares`` holds per parameter its share, from 0 to 1, under each seed; the bar is their mean.
    """
    figure, axes = style.subplots(7.2, 1.1 + 0.34 * len(shares), **texts)
    rows = [100 * np.asarray(row, float) for row in shares.values()]
    for y, row in enumerate(rows):
        axes.barh(y, row.mean(), color=PALETTE[0], height=0.62, alpha=0.75)
        axes.plot(row, np.full(len(row), y), "|", color=INK, markersize=9)
        axes.text(row.max() + 1.2, y, f"{row.mean():.0f} %", va="center", size=SMALL + 0.5)
    axes.set_yticks(range(len(rows)), list(shares))
    axes.set(ylim=(len(rows) - 0.4, -0.6), xlabel="share of the spread explained (%)")
    axes.set_xlim(0, 1.12 * max(row.max() for row in rows) + 2)
    axes.tick_params(axis="y", length=0)
    return figure


@styled
def slices(
    settings: Mapping[str, ArrayLike],
    errors: ArrayLike,
    *,
    logarithmic: Collection[str] = (),
    given_up: ArrayLike | None = None,
    marked: Mapping[str, float] | None = None,
    mark: str = "the report's best",
    ylabel: str = "MSE, validation",
    **texts: str,
) -> Figure:
    """Draw each setting's error once per parameter, against its value.

    ``settings`` holds per parameter its value in each setting ``[N]``, ``errors`` are ``[N]``,
    above 0. Up to :data:`LEVELS` different values stand side by side with their medians; more are
    an axis, for parameters named by ``logarithmic`` a logarithmic one. ``given_up`` says which
    settings were not trained to their end ``[N]``: they are crosses. ``marked`` holds per
    parameter a value to mark and ``mark`` says of what.
    """
    y, marked = np.asarray(errors, float), marked or {}
    columns = style.as_rows("settings", settings, y.shape)
    up = np.zeros(len(y), bool) if given_up is None else np.asarray(given_up, bool)
    wide = min(len(columns), 4)
    tall = -(-len(columns) // wide)
    size = {1: 6.0, 2: 8.0}.get(wide, 10.4), 2.9 * tall + 0.5
    figure, grid = style.subplots(*size, tall, wide, sharey=True, squeeze=False, **texts)
    for axes, (name, x) in zip(grid.flat, columns.items(), strict=False):
        if name in logarithmic and len(np.unique(x)) > LEVELS:
            axes.set_xscale("log")
        _slice(axes, x, y, up, marked.get(name))
        axes.set_xlabel(name)
    for axes in grid.flat[len(columns) :]:
        axes.set_visible(False)
    plain_log(grid[0, 0])
    for axes in grid.flat:
        axes.tick_params(axis="y", which="minor", length=0)
    for axes in grid[:, 0]:
        axes.set_ylabel(ylabel)
    looks = {"a setting": {"color": PALETTE[0], "marker": "o", "linestyle": ""}}
    if up.any():
        looks["given up early"] = {"color": FAINT, "marker": "x", "linestyle": ""}
    if any(len(np.unique(x)) <= LEVELS for x in columns.values()):
        looks["median"] = {"color": INK}
    if marked:
        looks[mark] = {"color": PALETTE[1], "linestyle": "--"}
    handles = [Line2D([], [], label=label, **look) for label, look in looks.items()]
    style.legend_over_panels(figure, handles)
    return figure


def _slice(axes: Axes, x: NDArray, y: NDArray, up: NDArray, marked: float | None) -> None:
    """Draw one parameter's panel."""
    levels, at = np.unique(x), x
    if len(levels) <= LEVELS:
        at = np.searchsorted(levels, x).astype(float)
        for place in range(len(levels)):
            middle = np.median(y[at == place])
            axes.plot([place - 0.32, place + 0.32], [middle, middle], color=INK, linewidth=1.6)
        if marked is not None:
            marked = float(np.interp(marked, levels, np.arange(len(levels))))
        order = np.argsort(np.argsort(y, kind="stable")) * 0.618 % 1  # beside one another
        at += 0.5 * (order - 0.5)
        axes.set_xticks(range(len(levels)), [f"{level:g}" for level in levels])
        axes.set_xlim(-0.6, len(levels) - 0.4)
    if marked is not None:
        axes.axvline(marked, color=PALETTE[1], linestyle="--", linewidth=1.2, zorder=0)
    axes.scatter(at[~up], y[~up], s=22, color=PALETTE[0], edgecolor="white", linewidth=0.5)
    if up.any():
        axes.scatter(at[up], y[up], s=20, color=FAINT, marker="x", linewidth=1)
    style.rule(axes)
