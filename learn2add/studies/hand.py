"""The same hand (notebook 12): sums that keep slant, stroke and width of the digit they come from.

In the assignment's pairs the target is any image of the sum, so the best answer is the mean of its
class, whoever wrote the input. Here it is an image in a *similar hand*: one of the style neighbours
of the input among the digits of the sum. Sources of the four measures: D. Castro et al.,
Morpho-MNIST, J. Machine Learning Research 20 (2019) 178.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from learn2add.data import Digits, as_float, in_batches, load_digits
from learn2add.evidence import PER_CELL
from learn2add.measures import SumScores, add, added
from learn2add.pairs import CELLS

SHAPES = ("slant", "thickness", "width", "height")
FINER = 4
"""Strokes are measured on images of so many times the size: a stroke is three pixels wide."""
INK = 0.98
"""Share of the ink that lies within width and height."""
Cells = Sequence[tuple[int, int]]
CELLS_OF_ZERO = tuple((digit, 0) for digit in range(10))
FIRST_STUDENT = 2100
"""NIST numbers the writers; those before were employees of the Census Bureau."""
MATTERS = {"slant": 1.0, "thickness": 1.0, "width": 0.7}
"""What makes two hands similar, and how much of it."""


def shapes(images: Tensor) -> np.ndarray:
    """Measure images, uint8 ``[N, S, S]``: float64 ``[N, 4]``, NaN where there is no ink.

    ``slant`` is how many pixels a stroke leans to the right for each that it goes up, ``thickness``
    twice the mean distance of a stroke's middle from its edge; within ``width`` and ``height`` lie
    the middle 98 % of the ink, the slant undone. All but the slant are in pixels.
    """
    slant, extent = slants_and_extents(images.cpu().numpy().astype(np.float64))
    thickness = [stroke_thickness(image) for image in images.cpu().numpy()]
    return np.column_stack([slant, thickness, extent])


def slants_and_extents(ink: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return slants ``[N]`` and widths and heights ``[N, 2]`` of images ``[N, S, S]``."""
    count, side, _ = ink.shape
    total = ink.sum((1, 2))
    with np.errstate(invalid="ignore", divide="ignore"):
        up, right = (np.arange(side - 1, -1, -1.0), np.arange(float(side)))
        y, x = (ink.sum(2) @ up / total, ink.sum(1) @ right / total)  # centres of mass
        dy, dx = up - y[:, None], right - x[:, None]  # [N, S] each
        mixed = np.einsum("nij,ni,nj->n", ink, dy, dx)
        slant = mixed / np.einsum("nij,ni->n", ink, dy**2)
        upright = dx[:, None, :] - slant[:, None, None] * dy[:, :, None]
    extents = [extent(upright.reshape(count, -1), ink.reshape(count, -1))]
    extents.append(extent(np.broadcast_to(dy, (count, side)), ink.sum(2)))
    return slant, np.stack(extents, 1)


def extent(places: np.ndarray, ink: np.ndarray) -> np.ndarray:
    """Return between which places ``[N, P]`` the middle 98 % of the ink lie: a length ``[N]``."""
    order = np.argsort(places, axis=1)
    places = np.take_along_axis(places, order, 1)
    share = np.take_along_axis(ink, order, 1).cumsum(1)
    ends = []
    for wanted in (0.5 - INK / 2, 0.5 + INK / 2):
        reached = (share < wanted * share[:, -1:]).sum(1).clip(max=places.shape[1] - 1)
        ends.append(np.take_along_axis(places, reached[:, None], 1)[:, 0])
    return np.where(share[:, -1] > 0, ends[1] - ends[0] + 1, np.nan)  # a pixel is 1 wide


def stroke_thickness(image: np.ndarray) -> float:
    """Return twice the mean distance to the edge along the middle of the strokes, in pixels.

    The middle are the pixels, of an image enlarged four times, no neighbour of which lies deeper.
    """
    large = cv2.resize(image, None, fx=FINER, fy=FINER, interpolation=cv2.INTER_CUBIC)
    edged = cv2.copyMakeBorder((large > 127).astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT)
    depth = cv2.distanceTransform(edged, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    middle = (depth > 0) & (depth >= cv2.dilate(depth, np.ones((3, 3), np.uint8)))
    # Half a pixel less: the distance is that to the middle of the first pixel beyond the edge.
    return float((2 * depth[middle] - 1).mean() / FINER) if middle.any() else np.nan


@functools.lru_cache(maxsize=4)
def hand_of(digits: Digits) -> np.ndarray:
    """Return each digit's slant, thickness and width *for its class*, as normal scores ``[N, 3]``.

    A 1 is narrow and a 0 is wide, so the numbers are ranked among the digits of a class.
    """
    from scipy.stats import norm, rankdata

    scores = np.zeros((len(digits), len(MATTERS)))
    measured = shapes(digits.images)[:, [SHAPES.index(name) for name in MATTERS]]
    for members in digits.by_class():
        members = members.cpu()
        ranks = rankdata(np.nan_to_num(measured[members]), axis=0) / (len(members) + 1)
        scores[members] = norm.ppf(ranks) * list(MATTERS.values())
    return scores


@functools.lru_cache(maxsize=4)
def style_neighbours(digits: Digits, count: int) -> Tensor:
    """Return for each image and each digit the images of that digit in the most similar hands.

    int64 ``[N, 10, count]``, on the digits' device; no image is its own neighbour.
    """
    from scipy.spatial import cKDTree

    scores, found = hand_of(digits), []
    for members in digits.by_class():
        near = members.cpu().numpy()[cKDTree(scores[members]).query(scores, k=count + 1)[1]]
        itself = near == np.arange(len(digits))[:, None]
        itself[~itself.any(1), -1] = True  # of all others the farthest is left out
        found.append(near[~itself].reshape(len(digits), count))
    return torch.from_numpy(np.stack(found, 1)).to(digits.labels.device)


class Hand(NamedTuple):
    """How much of the hand the sums keep; correlations are rank correlations with the inputs."""

    slant: float
    thickness: float
    width: float
    height: float
    variety: float
    """Pixel variance within a cell, over that of the real digits of the sum's class."""
    sharpness: float
    """Mean of 4 y (1 - y): 0 where every pixel is black or white; real digits have 0.07."""


@torch.no_grad()
def hand_kept(model: nn.Module, digits: Digits, per_cell: int = PER_CELL) -> Hand:
    """Measure the sums of up to ``per_cell`` images in each of the 55 cells: means over cells."""
    members = digits.by_class()
    real = [float(as_float(digits.images[each]).var(0).mean()) for each in members]
    inputs = [digits.images[each[:per_cell]] for each in members]
    codes = [in_batches(model.encoder, x) for x in inputs]
    seen = [shapes(x) for x in inputs]
    rows = []
    for digit, addend in CELLS:
        y = in_batches(model.decoder, added(model, codes[digit], addend))
        made = shapes((255 * y[:, 0]).round().byte())
        kept = [rank_correlation(*pair) for pair in zip(seen[digit].T, made.T, strict=True)]
        variety = float(y.var(0).mean()) / real[digit + addend]
        rows.append([*kept, variety, float((4 * y * (1 - y)).mean())])
    return Hand(*np.mean(rows, 0).tolist())


def rank_correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Return Spearman's correlation of two measures ``[N]``; 0 where one of them never varies."""
    from scipy.stats import spearmanr

    sound = np.isfinite(a) & np.isfinite(b)
    if sound.sum() < 3 or np.ptp(a[sound]) == 0 or np.ptp(b[sound]) == 0:
        return 0.0
    return float(spearmanr(a[sound], b[sound]).statistic)


class Writers(NamedTuple):
    """How near sums are to what their own writers wrote, beside anybody else's digits."""

    retrieval: float
    """How often a real digit of the sum by the input's writer is nearer than one by another."""
    mse: float
    """Squared error per pixel to real digits of the sum by the input's writer."""


@torch.no_grad()
def own_writers(draw: Callable[[Tensor, int], Tensor], digits: Digits, cells: Cells) -> Writers:
    """Compare drawn images with the real digits of the same writers; means over cells.

    ``draw`` is given the indices of inputs and the digit to add and returns float
    ``[B, 1, S, S]``. An input is nobody's sum. ``digits`` must have writers.
    """
    members, rows = digits.by_class(), []
    for digit, addend in cells:
        at, total = members[digit][:PER_CELL], members[digit + addend]
        y, real = draw(at, addend).flatten(1), as_float(digits.images[total]).flatten(1)
        own = digits.writer[at][:, None] == digits.writer[total][None]
        far = torch.cdist(y, real).square() / y.shape[1]
        itself = at[:, None] == total[None]  # last of all, so before nobody
        far[itself], own[itself] = torch.inf, False
        rows.append([nearer(far, own), float(far[own].mean())])
    return Writers(*np.mean(rows, 0).tolist())


def nearer(far: Tensor, own: Tensor) -> float:
    """Return how often, in rows of distances ``[N, M]``, one's own is smaller than another: a mean.

    That is the area under the curve of a reader who tells own from other by the distance alone.
    """
    kept = own.any(1) & ~own.all(1)
    place, own = far[kept].argsort(1).argsort(1).double(), own[kept].double()
    n = own.sum(1)
    before = (place * own).sum(1) - n * (n - 1) / 2  # how many others lie before each own, summed
    return float((1 - before / (n * (own.shape[1] - n))).mean())


def by_writer(scores: SumScores, digits: Digits, resamples: int = 2000) -> dict[str, Any]:
    """Return whose sums are right: the writers, not the images, are the witnesses.

    ``cells_mean_interval_by_writer`` is the 95 % interval of the mean over the 55 cells, writers
    drawn anew; the digits of one hand are right or wrong together, so by images it is too narrow.
    ``writers_wrong`` of ``writers`` have a wrong sum, ``writers_of_half`` own half of all of them.
    """
    digits = digits.to("cpu")
    names, writer = np.unique(digits.writer, return_inverse=True)
    right, count = np.zeros((2, len(names), 10, 10))
    for digit, members in enumerate(digits.by_class()):
        np.add.at(right[:, digit, : 10 - digit], writer[members], scores.right[digit])
        np.add.at(count[:, digit, : 10 - digit], writer[members], 1)
    cells = tuple(np.array(CELLS).T)
    right, count = right[:, *cells], count[:, *cells]  # [writers, 55]

    def mean(weights: np.ndarray) -> np.ndarray:
        return (weights @ right / (weights @ count)).mean(-1)

    even = np.full(len(names), 1 / len(names))
    drawn = np.random.default_rng(0).multinomial(len(names), even, size=resamples)
    wrong = np.sort((count - right).sum(1))[::-1]
    found = {
        "cells_mean_interval_by_writer": np.quantile(mean(drawn), (0.025, 0.975)).tolist(),
        "writers": len(names),
        "writers_wrong": int((wrong > 0).sum()),
        "writers_of_half": int((wrong.cumsum() < wrong.sum() / 2).sum()) + 1,
    }
    student = names >= FIRST_STUDENT
    groups = {"students": student, "employees": ~student}
    return found | {f"right_{name}": float(mean(group)) for name, group in groups.items()}


def hand_evidence(model: nn.Module, digits: Digits, scores: SumScores) -> dict[str, Any]:
    """Return :func:`hand_kept` under stable keys, and of digits with writers what these tell."""
    kept = hand_kept(model, digits)._asdict()
    found = {f"hand_{name}": kept[name] for name in SHAPES}
    found |= {"hand_variety": kept["variety"], "sharpness": kept["sharpness"]}
    if (digits := with_writers(digits)).writer is None:
        return found
    means = digits.class_means()[:, None]
    drawn = {
        "": lambda at, addend: add(model, digits.images[at], addend),
        "_class_mean": lambda at, addend: means[digits.labels[at] + addend],
        "_real": lambda at, _: as_float(digits.images[at]),  # another of their own
    }
    for name, draw in drawn.items():
        cells = CELLS if name != "_real" else CELLS_OF_ZERO
        retrieval, mse = own_writers(draw, digits, cells)
        found |= {f"writer_retrieval{name}": retrieval, f"own_writer_mse{name}": mse}
    return found | by_writer(scores, digits)


def with_writers(digits: Digits) -> Digits:
    """Return the digits of a whole split with their writers, if these can be found or fetched."""
    try:
        whole = load_digits(digits.dataset, digits.split, writers=True).to(digits.labels.device)
    except RuntimeError:
        return digits
    return replace(digits, writer=whole.writer) if len(whole) == len(digits) else digits
