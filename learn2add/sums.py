"""Every sum of every digit, drawn and read by a judge: what is right, and what went wrong first.

Source: assignment, Part III items 5-7 (are the sums right?).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from learn2add.data import Digits
from learn2add.evidence import added
from learn2add.judge import Judge
from learn2add.models import AdditionInference, encode
from learn2add.pairs import CELLS


class Blame(NamedTuple):
    """Where wrong sums come from, as shares of all wrong sums; they add up to 1 (or all are NaN).

    ``misread``: the reconstruction of the input already shows another digit. ``misadded``: not so,
    but the adder's code lies nearest to the mean code of another digit than the sum. ``misdrawn``:
    neither; the code is at its place and the picture is not.
    """

    misread: float
    misadded: float
    misdrawn: float
    wrong: int
    """Wrong sums in all."""


class SumScores(NamedTuple):
    """What the judge and the squared error say of all sums.

    Cells whose sum exceeds 9 hold 0 pictures and NaN errors.
    """

    right: list[np.ndarray]
    """For each digit d, bool ``[pictures of d, 10 - d]``: does the judge read the sum?"""
    mse: np.ndarray
    """float64 ``[10, 10]`` by digit and addend: expected squared error per pixel to a random
    picture of the sum."""
    confusion: np.ndarray
    """int64 ``[10, 10]``: drawn pictures by (sum, digit read)."""
    causes: tuple[int, int, int] = (0, 0, 0)
    """Wrong sums that are misread, misadded, misdrawn; see :class:`Blame`."""

    @property
    def blame(self) -> Blame:
        """The causes as shares."""
        wrong = sum(self.causes)
        return Blame(*(n / wrong if wrong else float("nan") for n in self.causes), wrong)

    @property
    def correct(self) -> np.ndarray:
        """int64 ``[10, 10]`` by digit and addend: pictures in which the judge reads the sum."""
        padded = [np.pad(right.sum(0), (0, 10 - right.shape[1])) for right in self.right]
        return np.stack(padded).astype(np.int64)

    @property
    def total(self) -> np.ndarray:
        """int64 ``[10, 10]`` by digit and addend: pictures judged."""
        counts = np.zeros((10, 10), np.int64)
        for digit, right in enumerate(self.right):
            counts[digit, : right.shape[1]] = len(right)
        return counts


def judge_sums(model: AdditionInference, judge: Judge, digits: Digits) -> SumScores:
    """Draw every valid sum of every digit and have the judge read it.

    Args:
        model: Draws ``x + addend``.
        judge: Reads pictures.
        digits: Test digits, on the model's device.

    Returns:
        Counts and errors per cell, and what went wrong first where a sum is wrong.
    """
    (scores,) = read_sums(model, [judge], digits)
    return scores


@torch.no_grad()
def read_sums(model: AdditionInference, judges: Sequence[Judge], digits: Digits) -> list[SumScores]:
    """:func:`judge_sums` for several judges; every sum is drawn once and read by each of them."""
    means, variances = class_moments(digits)
    mse, classes = np.full((10, 10), np.nan), digits.by_class()
    codes = [encode(model, digits.images[members]) for members in classes]
    centres = torch.stack([z.mean(0) for z in codes])
    echoes = [model.decoder(z) for z in codes]
    readings = [Reading(judge, echoes) for judge in judges]
    for digit, addend in CELLS:
        z_sum, total = added(model, codes[digit], addend), digit + addend
        y_hat = model.decoder(z_sum)
        elsewhere = torch.cdist(z_sum.float(), centres.float()).argmin(1) != total
        for reading in readings:
            reading.take_in(digit, addend, y_hat, elsewhere)
        error = (y_hat[:, 0] - means[total].float()).square().mean() + variances[total]
        mse[digit, addend] = float(error)
    return [reading.scores(mse) for reading in readings]


class Reading:
    """What one judge has read so far.

    Args:
        judge: Reads pictures.
        echoes: For each digit, its pictures as encoder and decoder redraw them.
    """

    def __init__(self, judge: Judge, echoes: list[Tensor]) -> None:
        self.judge = judge
        self.lost = [judge.read(x_hat).argmax(1) != digit for digit, x_hat in enumerate(echoes)]
        self.right = [np.zeros((len(lost), 10 - d), bool) for d, lost in enumerate(self.lost)]
        self.confusion, self.causes = np.zeros((10, 10), np.int64), np.zeros(3, int)

    def take_in(self, digit: int, addend: int, y_hat: Tensor, elsewhere: Tensor) -> None:
        """Read the pictures ``y_hat`` of one cell.

        ``elsewhere`` tells for each whether its code lies nearest to those of another digit.
        """
        read, lost = self.judge.read(y_hat).argmax(1), self.lost[digit]
        wrong = read != digit + addend
        misread, misadded = wrong & lost, wrong & ~lost & elsewhere
        self.causes += [int(n.sum()) for n in (misread, misadded, wrong & ~misread & ~misadded)]
        self.right[digit][:, addend] = (~wrong).cpu().numpy()
        self.confusion[digit + addend] += read.bincount(minlength=10).cpu().numpy()

    def scores(self, mse: np.ndarray) -> SumScores:
        """All of it, beside the squared errors of the pictures."""
        return SumScores(self.right, mse, self.confusion, tuple(self.causes.tolist()))


def class_moments(digits: Digits) -> tuple[Tensor, Tensor]:
    """Mean picture ``[10, S, S]`` and mean per-pixel variance ``[10]`` of each class, float64."""
    groups = [digits.images[members].double() / 255 for members in digits.by_class()]
    means = torch.stack([group.mean(0) for group in groups])
    return means, torch.stack([group.var(0, correction=0).mean() for group in groups])
