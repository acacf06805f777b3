"""Errors of images and their floors, right sums per cell, and the alarm that names a collapse.

The assignment's own metric, the squared error to a *random* image of the sum, cannot tell right
from wrong (see :mod:`learn2add.judge`): so a judge reads the images, and the error has its floors.

A model is anything with ``encoder``, ``adder`` and ``decoder``. Digits must be on its device.

Sources: assignment, Part II item 4 (RMSE) and Part III items 5-7 (are the sums right?); report,
section 5.2 (collapses).
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from learn2add.checks import check_number
from learn2add.data import BATCH, Digits, as_float, in_batches
from learn2add.judge import Judge
from learn2add.losses import rmse
from learn2add.pairs import CELLS, cell_counts

Z95 = 1.959963984540054  # two-sided 95 % quantile of the normal distribution
DRAWN = 0.01  # share of the images from which on a digit counts as drawn; zeros are due in 1.8 %
FEW = 5  # with so few digits drawn, or fewer, the alarm is raised
ACTIVE = 0.01  # variance of its mean over images above which a unit of the code is active


def reconstruct(model: nn.Module, images: Tensor) -> Tensor:
    """Reconstruct images uint8 ``[N, S, S]``: float32 ``[N, 1, S, S]``."""
    return in_batches(lambda x: model.decoder(model.encoder(x)), images, BATCH)


@torch.no_grad()
def add(model: nn.Module, images: Tensor, addend: float | Tensor) -> Tensor:
    """Draw images uint8 ``[N, S, S]`` plus a number (or one each): float32 ``[N, 1, S, S]``."""
    check_number("addend", addend)
    addends = torch.as_tensor(addend, dtype=torch.float32, device=images.device)
    parts = zip(images.split(BATCH), addends.expand(len(images)).split(BATCH), strict=True)
    return torch.cat([model.decoder(model.adder(model.encoder(as_float(x)), a)) for x, a in parts])


def predictor(model: nn.Module) -> Callable[[NDArray, float], NDArray]:
    """Return ``prediction(img, number)`` as the handout's display calls it.

    It takes an image uint8 ``[S, S]`` and the number to add and returns the image of the sum, float
    ``[S, S]`` in [0, 1]. Source: assignment, Part III item 6.
    """
    device = next(model.parameters()).device

    def prediction(img: NDArray, number: float) -> NDArray:
        image = torch.from_numpy(np.ascontiguousarray(img, np.uint8))[None].to(device)
        return add(model, image, float(number))[0, 0].cpu().numpy()

    return prediction


def added(model: nn.Module, z: Tensor, addend: float) -> Tensor:
    """Return the codes of the sums of codes ``z`` ``[N, code_size]`` and a number, at the mean."""
    return model.adder(z, torch.full((len(z),), float(addend), device=z.device))


class ImageErrors(NamedTuple):
    """How far drawn images are from the real ones."""

    mse: float
    """Squared error per pixel, mean over all images and pixels, in squared grey levels (0 to 1)."""
    psnr: float
    """Peak signal-to-noise ratio in dB: -10 log10 of an image's squared error per pixel, mean over
    the images. (Of the mean error it would be lower: hard images count for more there.)"""

    @property
    def rmse(self) -> float:
        """Root of ``mse``, in grey levels."""
        return self.mse**0.5

    @classmethod
    def of(cls, mse: Tensor) -> "ImageErrors":
        """Summarise the squared errors per pixel of images, ``[N]``."""
        mse = mse.double()
        return cls(float(mse.mean()), float((-10 * mse.clamp(min=1e-10).log10()).mean()))


def squared_errors(drawn: Tensor, images: Tensor) -> Tensor:
    """Return the squared error per pixel of each drawn image: float64 ``[N]``."""
    return (drawn - images).double().square().mean((1, 2, 3))


def reconstruction_rmse(model: nn.Module, digits: Digits) -> float:
    """Return the RMSE of the reconstructions over images and pixels, in grey levels (0 to 1)."""
    squares = 0.0
    for part in digits.images.split(BATCH):
        error = reconstruct(model, part) - as_float(part)
        squares += float(error.double().square().sum())
    return rmse(squares, len(digits), digits.image_size)


def judge_accuracy(judge: Judge, digits: Digits) -> float:
    """Return the share of real digits that the judge reads right."""
    read = in_batches(judge.read, digits.images, BATCH).argmax(1)
    return float((read == digits.labels).double().mean())


def floors(digits: Digits) -> dict[str, float]:
    """Return what answers that know nothing of the input image score in the assignment's metric.

    That is the expected squared error per pixel to a random image of the sum, sums as frequent as
    in the handout's pairs, of ``floor_class_mean`` (the mean image of the sum's class: the best),
    ``floor_one_mean`` (one for every sum) and ``real_digit`` (a random real image of the sum).
    """
    means, variances = class_moments(digits)
    weights = torch.zeros_like(variances)  # share of each sum among the handout's pairs
    counts = cell_counts([len(members) for members in digits.by_class()])
    for digit, addend in CELLS:
        weights[digit + addend] += counts[digit, addend]
    weights /= weights.sum()
    overall = (weights[:, None, None] * means).sum(0)
    between = (means - overall).square().mean((1, 2))
    return {
        "floor_class_mean": float(weights @ variances),
        "floor_one_mean": float(weights @ (variances + between)),
        "real_digit": float(2 * weights @ variances),
    }


def class_moments(digits: Digits) -> tuple[Tensor, Tensor]:
    """Return mean image ``[10, S, S]`` and mean per-pixel variance ``[10]`` by class, float64."""
    groups = [digits.images[members].double() / 255 for members in digits.by_class()]
    means = torch.stack([group.mean(0) for group in groups])
    return means, torch.stack([group.var(0, correction=0).mean() for group in groups])


class Interval(NamedTuple):
    """A proportion with the ends of its 95 % interval; arrays or numbers."""

    value: Any
    low: Any
    high: Any


def wilson(correct: Any, total: Any) -> Interval:
    """Return Wilson's 95 % interval of successes among trials (0 give NaN): numbers or arrays.
    Source: E. B. Wilson, J. Amer. Statist. Assoc. 22 (1927) 209.
    """
    correct, total = np.asarray(correct, float), np.asarray(total, float)
    with np.errstate(invalid="ignore", divide="ignore"):
        p = correct / total
        middle = (p + Z95**2 / (2 * total)) / (1 + Z95**2 / total)
        half = Z95 * np.sqrt(p * (1 - p) / total + Z95**2 / (4 * total**2)) / (1 + Z95**2 / total)
    return Interval(p, np.clip(middle - half, 0, 1), np.clip(middle + half, 0, 1))


class Blame(NamedTuple):
    """Where wrong sums come from, as shares of all wrong sums; they add up to 1 (or all are NaN).

    ``misread``: the reconstruction of the input already shows another digit. ``misadded``: not so,
    but the adder's code lies nearest to the mean code of another digit than the sum. ``misdrawn``:
    neither; the code is at its place and the image is not.
    """

    misread: float
    misadded: float
    misdrawn: float
    wrong: int  # sums in all


class SumScores(NamedTuple):
    """What the judge and the squared error say of all sums; cells beyond 9 hold 0 or NaN."""

    right: list[np.ndarray]
    """For each digit d, bool ``[images of d, 10 - d]``: does the judge read the sum?"""
    mse: np.ndarray
    """float64 ``[10, 10]`` by digit and addend: expected error per pixel to random images."""
    confusion: np.ndarray
    """int64 ``[10, 10]``: drawn images by (sum, digit read)."""
    causes: tuple[int, int, int] = (0, 0, 0)
    """Wrong sums that are misread, misadded, misdrawn; see ``Blame``."""

    @property
    def blame(self) -> Blame:
        """The causes as shares."""
        wrong = sum(self.causes)
        return Blame(*(n / wrong if wrong else float("nan") for n in self.causes), wrong)

    @property
    def correct(self) -> np.ndarray:
        """int64 ``[10, 10]`` by digit and addend: images in which the judge reads the sum."""
        return np.array([np.pad(r.sum(0), (0, 10 - r.shape[1])) for r in self.right])

    @property
    def total(self) -> np.ndarray:
        """int64 ``[10, 10]`` by digit and addend: images judged."""
        return np.array([np.pad([len(r)] * r.shape[1], (0, 10 - r.shape[1])) for r in self.right])


def judge_sums(model: nn.Module, judge: Judge, digits: Digits) -> SumScores:
    """Draw all valid sums of all digits; count what the judge reads, and what went wrong first."""
    return read_sums(model, [judge], digits)[0]


@torch.no_grad()
def read_sums(model: nn.Module, judges: Sequence[Judge], digits: Digits) -> list[SumScores]:
    """Do as ``judge_sums`` for several judges; every sum is drawn once and read by each of them."""
    means, variances = class_moments(digits)
    classes, mse = digits.by_class(), np.full((10, 10), np.nan)
    codes = [in_batches(model.encoder, digits.images[members], BATCH) for members in classes]
    centres = torch.stack([z.mean(0) for z in codes])
    misplaced, read = [], [[] for _ in judges]  # by digit d, [images of d, 10 - d or 11 - d]
    for digit, z in enumerate(codes):
        astray, drawn = [], [model.decoder(z)]  # reconstructions, then sums
        for addend in range(10 - digit):
            z_sum, total = added(model, z, addend), digit + addend
            astray.append(torch.cdist(z_sum.float(), centres.float()).argmin(1) != total)
            y_hat = model.decoder(z_sum)
            drawn.append(y_hat)
            error = (y_hat[:, 0] - means[total].float()).square().mean() + variances[total]
            mse[digit, addend] = float(error)
        misplaced.append(torch.stack(astray, 1).cpu().numpy())
        for judge, tables in zip(judges, read, strict=True):
            columns = [judge.read(images).argmax(1) for images in drawn]
            tables.append(torch.stack(columns, 1).cpu().numpy())
    return [_scores(tables, misplaced, mse) for tables in read]


def _scores(read: list[np.ndarray], misplaced: list[np.ndarray], mse: np.ndarray) -> SumScores:
    """Count what one judge has read: of each digit's reconstructions, then of its sums."""
    right, confusion, causes = [], np.zeros((10, 10), np.int64), np.zeros(3, int)
    for digit, (table, astray) in enumerate(zip(read, misplaced, strict=True)):
        lost, total = table[:, :1] != digit, np.arange(digit, 10)
        wrong = table[:, 1:] != total
        parts = (wrong & lost, wrong & ~lost & astray, wrong & ~lost & ~astray)
        causes += [int(part.sum()) for part in parts]
        np.add.at(confusion, (np.broadcast_to(total, wrong.shape), table[:, 1:]), 1)
        right.append(~wrong)
    return SumScores(right, mse, confusion, tuple(causes.tolist()))


def summarise(scores: SumScores, digits: Digits) -> dict[str, Any]:
    """Return the sum measures under their stable keys, proportions with their 95 % intervals."""
    accuracy = wilson(scores.correct, scores.total)
    worst = np.unravel_index(np.nanargmin(accuracy.value), (10, 10))
    counts = cell_counts([len(members) for members in digits.by_class()]).numpy()
    found: dict[str, Any] = {}
    for name, p in {
        "cells_mean": _mean_over(scores, 1 / np.maximum(scores.total, 1)),
        "pairs_mean": _mean_over(scores, np.ones((10, 10))),
        "cells_worst": Interval(*(ends[worst] for ends in accuracy)),
    }.items():
        found |= {name: float(p.value), f"{name}_interval": [float(p.low), float(p.high)]}
    found["cells_worst_cell"] = [int(place) for place in worst]
    return found | {"sum_mse": float(np.nansum(scores.mse * counts) / counts.sum())}


def _mean_over(scores: SumScores, weights: np.ndarray) -> Interval:
    """Return the weighted mean accuracy over cells, with Wilson's interval.

    The same image stands in all of its digit's cells, and if misread is wrong in most of them. So
    the interval is that of as many *independent* trials as give the variance between images.
    """
    sums, variance, whole = 0.0, 0.0, 0.0
    for digit, right in enumerate(scores.right):
        per_image = right @ weights[digit, : right.shape[1]]
        sums += per_image.sum()
        variance += len(right) * per_image.var(ddof=1)
        whole += len(right) * weights[digit, : right.shape[1]].sum()
    p = sums / whole
    # Where all images fare alike there is no variance to go by, and each is one trial.
    alike = variance < 1e-12 * whole**2
    trials = sum(map(len, scores.right)) if alike else p * (1 - p) * whole**2 / variance
    return wilson(round(p, 12) * trials, trials)


def held_out_mean(scores: SumScores, cells: Sequence[tuple[int, int]]) -> float | None:
    """Return the mean accuracy over cells that were never trained; None where there are none."""
    accuracy = wilson(scores.correct, scores.total).value
    return float(np.mean([accuracy[cell] for cell in cells])) if cells else None


class Health(NamedTuple):
    """How a model that adds is doing: after every epoch a judge reads a few sums.

    An image loss falls just as smoothly while a model learns to draw the same fuzzy nine for every
    sum; the report's Table 1 has eleven such trainings, each found out by eye when it was over.
    """

    right: float
    """Share of right sums, all cells alike."""
    read: tuple[float, ...]
    """Share of each digit 0 to 9 among what the judge reads."""
    active: int | None  # units of the code; None where it is no distribution
    code_size: int

    @property
    def drawn(self) -> int:
        """How many different digits are drawn."""
        return sum(share >= DRAWN for share in self.read)

    def figures(self) -> dict[str, float]:
        """Return its curves, by TensorBoard tag."""
        found = {"sums/right": self.right, "sums/digits_drawn": float(self.drawn)}
        return found if self.active is None else found | {"code/active_units": float(self.active)}

    def alarm(self) -> str | None:
        """Say in words what has collapsed; None where nothing has."""
        found = []
        if self.drawn <= FEW:
            often = sorted(range(10), key=lambda digit: -self.read[digit])[: min(self.drawn, 3)]
            shares = ", ".join(f"{digit} in {self.read[digit]:.0%}" for digit in often)
            found.append(f"only {self.drawn} of 10 digits are drawn ({shares} of the sums)")
        if self.active is not None and self.active < self.code_size:
            found.append(f"{self.code_size - self.active} of {self.code_size} code units are dead")
        return "; ".join(found) or None


@torch.no_grad()
def health(model: nn.Module, judge: Judge, digits: Digits, per_digit: int = 4) -> Health:
    """Draw every sum of the first ``per_digit`` images of each digit, at the mean, and read it."""
    classes = digits.by_class()
    count = min(per_digit, *map(len, classes))
    first = torch.stack([members[:count] for members in classes])  # [10, count]
    z = model.encoder(as_float(digits.images[first.flatten()]))
    digit, addend = torch.tensor(CELLS, device=z.device).T
    codes = z.view(10, count, -1)[digit].flatten(0, 1)  # [55 * count, code_size]
    z_sum = model.adder(codes, addend.repeat_interleave(count).float())
    read = judge.read(model.decoder(z_sum)).argmax(1)
    right = float((read == (digit + addend).repeat_interleave(count)).double().mean())
    shares = read.bincount(minlength=10).double() / len(read)
    return Health(right, tuple(shares.tolist()), active_units(model, digits), z.shape[1])


@torch.no_grad()
def active_units(model: nn.Module, digits: Digits, count: int = 500) -> int | None:
    """Count the units of a variational code whose mean varies over images; None for other codes.
    Source: Y. Burda et al., arXiv 1509.00519, section 5.2.
    """
    if not hasattr(model.encoder, "gaussian"):
        return None
    mu: Tensor = model.encoder(as_float(digits.images[:count]))
    return int((mu.var(0) > ACTIVE).sum())
