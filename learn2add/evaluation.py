"""Every measure of a trained run: RMSE, whether the picture of the sum shows the sum, and floors.

The assignment's own metric, the squared error to the expected picture, cannot tell a right sum from
a wrong one: the expected picture is a *random* picture of the sum, so the best answer is the class
mean, and a sharp, correct digit scores worse than that blur. So a judge reads the pictures, and the
squared error stands beside its floors.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from learn2add.checks import check_finite
from learn2add.data import Digits, as_float, load_digits
from learn2add.evidence import gather
from learn2add.judge import Judge, load_judge
from learn2add.models import BATCH, AdditionInference, inference_of
from learn2add.objectives import rmse
from learn2add.pairs import CELLS, cell_counts
from learn2add.runs import Run
from learn2add.sums import Blame, SumScores, class_moments, judge_sums

Z95 = 1.959963984540054
"""Two-sided 95 % quantile of the normal distribution."""


class Interval(NamedTuple):
    """A proportion with the ends of its 95 % interval; arrays or numbers."""

    value: Any
    low: Any
    high: Any


def wilson(correct: Any, total: Any) -> Interval:
    """Wilson's 95 % interval of a proportion.

    Args:
        correct: Successes; a number or an array.
        total: Trials, same shape; 0 gives NaN.

    Source: E. B. Wilson, J. Amer. Statist. Assoc. 22 (1927) 209.
    """
    correct, total = np.asarray(correct, float), np.asarray(total, float)
    with np.errstate(invalid="ignore", divide="ignore"):
        p = correct / total
        middle = (p + Z95**2 / (2 * total)) / (1 + Z95**2 / total)
        half = Z95 * np.sqrt(p * (1 - p) / total + Z95**2 / (4 * total**2)) / (1 + Z95**2 / total)
    return Interval(p, np.clip(middle - half, 0, 1), np.clip(middle + half, 0, 1))


@torch.no_grad()
def reconstruct(model: nn.Module, images: Tensor) -> Tensor:
    """Pictures uint8 ``[N, S, S]`` through encoder and decoder: float32 ``[N, 1, S, S]``."""
    parts = [model.decoder(model.encoder(as_float(part))) for part in images.split(BATCH)]
    return torch.cat(parts)


def reconstruction_rmse(model: nn.Module, digits: Digits) -> float:
    """RMSE of the reconstructions over all pictures and pixels, in grey levels (0 to 1).

    Source: assignment, Part II item 4.
    """
    squares = 0.0
    for part in digits.images.split(BATCH):
        error = reconstruct(model, part) - as_float(part)
        squares += float(error.double().square().sum())
    return rmse(squares, len(digits), digits.image_size)


@torch.no_grad()
def add(model: AdditionInference, images: Tensor, addend: float | Tensor) -> Tensor:
    """Draw sums: pictures uint8 ``[N, S, S]`` plus a number (or one per picture).

    Returns:
        float32 ``[N, 1, S, S]`` in (0, 1).

    Raises:
        ValueError: An addend is NaN or infinite.
    """
    check_finite("addend", addend)
    addends = torch.as_tensor(addend, dtype=torch.float32, device=images.device)
    addends = addends.expand(len(images))
    pairs = zip(images.split(BATCH), addends.split(BATCH), strict=True)
    return torch.cat([model(as_float(part), number) for part, number in pairs])


def floors(digits: Digits) -> dict[str, float]:
    """What answers that know nothing of the input picture score in the assignment's metric.

    Expected squared error per pixel to a random picture of the sum, weighted over the sums as the
    handout's pairs are.

    Returns:
        ``floor_class_mean`` (the mean picture of the sum's class: the best answer there is),
        ``floor_one_mean`` (one mean picture for every sum) and ``real_digit`` (a random real
        picture of the right sum, which scores worse than the blur).
    """
    means, variances = class_moments(digits)
    weights = _sum_weights(digits)
    overall = (weights[:, None, None] * means).sum(0)
    between = (means - overall).square().mean((1, 2))
    return {
        "floor_class_mean": float(weights @ variances),
        "floor_one_mean": float(weights @ (variances + between)),
        "real_digit": float(2 * weights @ variances),
    }


def _sum_weights(digits: Digits) -> Tensor:
    """Share of each sum among the handout's pairs: float64 ``[10]``."""
    weights = torch.zeros(10, dtype=torch.float64, device=digits.images.device)
    counts = cell_counts([len(members) for members in digits.by_class()])
    for digit, addend in CELLS:
        weights[digit + addend] += counts[digit, addend]
    return weights / weights.sum()


def summarise(scores: SumScores, digits: Digits) -> dict[str, Any]:
    """The sum measures under their stable keys, proportions with their 95 % intervals."""
    accuracy = wilson(scores.correct, scores.total)
    worst = np.unravel_index(np.nanargmin(accuracy.value), (10, 10))
    counts = cell_counts([len(members) for members in digits.by_class()]).numpy()
    found: dict[str, Any] = {}
    for name, mean in (
        ("cells_mean", _mean_over(scores, 1 / np.maximum(scores.total, 1))),
        ("pairs_mean", _mean_over(scores, np.ones((10, 10)))),
    ):
        found |= {name: float(mean.value), f"{name}_interval": [float(mean.low), float(mean.high)]}
    return found | {
        "cells_worst": float(accuracy.value[worst]),
        "cells_worst_interval": [float(accuracy.low[worst]), float(accuracy.high[worst])],
        "cells_worst_cell": [int(worst[0]), int(worst[1])],
        "sum_mse": float(np.nansum(scores.mse * counts) / counts.sum()),
    }


def _mean_over(scores: SumScores, weights: np.ndarray) -> Interval:
    """Weighted mean accuracy over cells, with Wilson's interval.

    The same test picture stands in all of its digit's cells, and a picture that is misread is wrong
    in most of them. So the interval is taken at the number of *independent* trials that would give
    the variance found between pictures.
    """
    sums, variance, whole = 0.0, 0.0, 0.0
    for digit, right in enumerate(scores.right):
        per_picture = right @ weights[digit, : right.shape[1]]
        sums += per_picture.sum()
        variance += len(right) * per_picture.var(ddof=1)
        whole += len(right) * weights[digit, : right.shape[1]].sum()
    p = sums / whole
    pictures = sum(len(right) for right in scores.right)
    # Where all pictures fare alike there is no variance to go by, and each is one trial.
    alike = variance < 1e-12 * whole**2
    trials = pictures if alike else p * (1 - p) * whole**2 / variance
    return wilson(round(p, 12) * trials, trials)


def evaluate(run: Run, split: str = "test", device: torch.device | str = "cpu") -> dict[str, Any]:
    """All measures of a run, under stable keys.

    Args:
        run: A complete run.
        split: "test", or "validation" while choosing recipes.
        device: Where to compute.

    Returns:
        ``judge_accuracy``, ``rmse``; for an addition model also ``cells_mean``, ``cells_worst``,
        ``pairs_mean`` (with intervals), ``sum_mse``, ``floor_class_mean``, ``floor_one_mean``,
        ``real_digit``, ``held_out_cells_mean`` (None where no cell was held out), ``misread``,
        ``misadded``, ``misdrawn`` and the keys of :func:`learn2add.evidence.gather`.
    """
    config = run.config
    digits = load_digits(config.dataset, split).resized(config.image_size).to(device)
    model = run.model(device)
    found: dict[str, Any] = {"split": split, "rmse": reconstruction_rmse(model, digits)}
    if config.dataset == "MNIST":
        judge = load_judge(device=device)
        found["judge_accuracy"] = judge_accuracy(judge, digits)
        if config.kind.adder:
            inference = inference_of(model)
            scores = judge_sums(inference, judge, digits)
            found |= summarise(scores, digits) | floors(digits)
            found["held_out_cells_mean"] = held_out_mean(scores, config.held_out)
            found |= dict(zip(Blame._fields[:3], scores.blame, strict=False))
            if not config.kind.table:  # it would search for every code again and again
                found |= gather(inference, judge, digits)
    # JSON knows no NaN: a model that never turns from 8 to 9 has no turning point.
    return {k: None if isinstance(v, float) and np.isnan(v) else v for k, v in found.items()}


def held_out_mean(scores: SumScores, cells: Sequence[tuple[int, int]]) -> float | None:
    """Mean accuracy over cells that were never trained; None where there are none."""
    accuracy = wilson(scores.correct, scores.total).value
    return float(np.mean([accuracy[cell] for cell in cells])) if cells else None


def judge_accuracy(judge: Judge, digits: Digits) -> float:
    """Share of real digits that the judge reads rightly."""
    read = [judge.read(as_float(part)).argmax(1) for part in digits.images.split(BATCH)]
    return float((torch.cat(read) == digits.labels).double().mean())
