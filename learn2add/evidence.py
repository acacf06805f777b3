"""Evidence beyond "right or wrong": what lies between whole numbers, and how real and how various
the drawn sums are.

Every function takes an inference model (encoder, adder, decoder) and draws at the mean of its
distributions unless a temperature is given. Source: assignment, Part III item 7 and Part IV items 2
and 3; the report's observations in its sections 4.5, 5.1 and 5.2.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from learn2add.checks import check_finite
from learn2add.data import Digits, as_float
from learn2add.judge import Judge
from learn2add.models import AdditionInference, encode
from learn2add.pairs import CELLS

NEIGHBOURS = 5
"""k of density and coverage, the value their authors use."""
PER_CELL = 400
"""Pictures of each digit from which sums are sampled, at most."""


@torch.no_grad()
def sweep(
    model: AdditionInference, judge: Judge, images: Tensor, addends: np.ndarray | Tensor
) -> np.ndarray:
    """What the judge reads as the addend goes through a range.

    Args:
        model: Draws sums.
        judge: Reads them.
        images: Pictures of one digit, uint8 ``[N, S, S]``.
        addends: Any real numbers ``[A]``.

    Returns:
        float64 ``[A, 10]``: the judge's probabilities, averaged over the pictures.
    """
    check_finite("addends", torch.as_tensor(addends))
    z = encode(model, images)
    rows = [judge.read(model.decoder(added(model, z, float(a)))).mean(0) for a in addends]
    return torch.stack(rows).double().cpu().numpy()


class TurningPoint(NamedTuple):
    """A logistic curve through p(high) / (p(low) + p(high))."""

    u50: float
    """Addend at which the higher digit is as probable as the lower."""
    width: float
    """Addends from 10 % to 90 %."""


def turning_point(addends: np.ndarray, low: np.ndarray, high: np.ndarray) -> TurningPoint:
    """Fit where, and how sharply, one digit gives way to the next.

    Logistic regression on shares, by Newton's method (it has one optimum).

    Args:
        addends: ``[A]``.
        low: Probability of the lower digit, ``[A]``.
        high: Probability of the higher digit, ``[A]``.

    Returns:
        Both NaN where there is no turn from low to high.
    """
    share = high / np.maximum(low + high, 1e-12)
    x = np.stack([np.ones_like(addends), addends - addends.mean()], 1)
    beta = np.zeros(2)
    for _ in range(100):
        p = 1 / (1 + np.exp(-np.clip(x @ beta, -40, 40)))
        curvature = x.T @ (x * (p * (1 - p))[:, None]) + 1e-6 * np.eye(2)
        step = np.linalg.solve(curvature, x.T @ (share - p) - 1e-6 * beta)
        beta += step * min(1, 5 / np.abs(step).max().clip(1e-12))
        if np.abs(step).max() < 1e-10:
            break
    if beta[1] < 1e-3:
        return TurningPoint(float("nan"), float("nan"))
    u50 = addends.mean() - beta[0] / beta[1]
    return TurningPoint(float(u50), float(2 * np.log(9) / beta[1]))


def turn_of_sevens(
    model: AdditionInference, judge: Judge, digits: Digits
) -> tuple[TurningPoint, float]:
    """Where 7 + u turns from 8 to 9, over all sevens.

    Returns:
        The turning point between + 1 and + 2, and the largest probability of any third digit there.

    Source: assignment, Part III item 7.
    """
    between = np.linspace(1, 2, 21)
    p = sweep(model, judge, digits.images[digits.labels == 7], between)
    return turning_point(between, p[:, 8], p[:, 9]), float(1 - (p[:, 8] + p[:, 9]).min())


class Sampled(NamedTuple):
    """Sampled sums at one temperature; each a mean over the 55 cells."""

    temperature: float
    accuracy: float
    diversity: float
    """Pixel variance within a cell, over that of the real digits of the sum's class."""
    frechet: float
    """Fréchet distance in the judge's features to the real digits of the sum, by sum."""
    density: float
    coverage: float


@torch.no_grad()
def sampled_sums(
    model: AdditionInference,
    judge: Judge,
    digits: Digits,
    temperatures: Sequence[float] = (1.0,),
    *,
    per_cell: int = PER_CELL,
    seed: int = 0,
) -> list[Sampled]:
    """Draw one sample for each of ``per_cell`` pictures in each cell, and measure them.

    Args:
        model: Draws sums.
        judge: Reads them; its features measure distances.
        digits: Real digits, both inputs and what the samples are compared with.
        temperatures: Factors on the noise of encoder and adder; 0 draws at the mean.
        per_cell: Pictures of each digit (the first ones), at most.
        seed: Decides the noise, the same at each temperature.

    Returns:
        What was found at each temperature.
    """
    check_finite("temperatures", torch.as_tensor(temperatures))
    real = [as_float(digits.images[members]) for members in digits.by_class()]
    spread = [float(x.var(0).mean()) for x in real]
    features = [judge.features(x).cpu().numpy() for x in real]
    found = []
    for temperature in temperatures:
        generator = torch.Generator(digits.images.device).manual_seed(seed)
        accuracy, diversity, drawn = [], [], [[] for _ in range(10)]
        for digit, addend in CELLS:
            x, total = real[digit][:per_cell], digit + addend
            addends = torch.full((len(x),), float(addend), device=x.device)
            y_hat = model.sample(x, addends, temperature=temperature, generator=generator)
            accuracy.append(float((judge.read(y_hat).argmax(1) == total).double().mean()))
            diversity.append(float(y_hat.var(0).mean()) / spread[total])
            drawn[total].append(judge.features(y_hat))
        made = [torch.cat(parts).cpu().numpy() for parts in drawn]
        likeness = zip(*map(_likeness, features, made), strict=True)
        right, various = float(np.mean(accuracy)), float(np.mean(diversity))
        found.append(Sampled(temperature, right, various, *(float(np.mean(v)) for v in likeness)))
    return found


def _likeness(real: np.ndarray, made: np.ndarray) -> tuple[float, float, float]:
    """Fréchet distance, density and coverage of samples of one digit, by their features."""
    thinned = made[:: -(-len(made) // 1000)]
    return frechet_distance(made, real), *density_coverage(real, thinned)


def frechet_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Fréchet distance between the normal distributions fitted to two sets of features.

    Args:
        a: Features ``[N, F]``.
        b: Features ``[M, F]``.

    Source: M. Heusel et al., arXiv 1706.08500 (there in Inception's features).
    """
    a, b = a.astype(np.float64), b.astype(np.float64)
    cov_a, cov_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    # The trace of the square root of cov_a cov_b, from a symmetric matrix of the same eigenvalues.
    values, vectors = np.linalg.eigh(cov_a)
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    cross = np.sqrt(np.linalg.eigvalsh(root @ cov_b @ root).clip(0)).sum()
    apart = np.square(a.mean(0) - b.mean(0)).sum()
    return float(apart + np.trace(cov_a) + np.trace(cov_b) - 2 * cross)


def density_coverage(
    real: np.ndarray, made: np.ndarray, k: int = NEIGHBOURS
) -> tuple[float, float]:
    """Density (are samples where real digits are?) and coverage (are real digits near samples?).

    Both compare with balls about the real digits that reach their ``k``-th real neighbour.

    Args:
        real: Features ``[N, F]``.
        made: Features ``[M, F]``.
        k: Neighbours.

    Source: M. F. Naeem et al., arXiv 2002.09797.
    """
    r, m = torch.from_numpy(real).double(), torch.from_numpy(made).double()
    radius = torch.cdist(r, r).kthvalue(k + 1, dim=1).values  # the first is the digit itself
    inside = torch.cdist(r, m) < radius[:, None]
    return float(inside.double().sum(0).mean() / k), float(inside.any(1).double().mean())


def gather(model: AdditionInference, judge: Judge, digits: Digits) -> dict[str, Any]:
    """The evidence that stands in every evaluation, under stable keys.

    Returns:
        ``u50`` and ``u50_width`` (where 7 + u turns from 8 to 9), ``third_digits`` (the largest
        probability of any other digit on the way), ``sampled_cells_mean``, ``diversity_ratio``,
        ``frechet``, ``density`` and ``coverage`` of samples at temperature 1, and
        ``frechet_at_mean``; ``samples`` holds all of it at temperatures 0, 0.5 and 1.
    """
    turn, third = turn_of_sevens(model, judge, digits)
    levels = (0.0, 0.5, 1.0)
    samples = sampled_sums(model, judge, digits, levels if model.stochastic else levels[:1])
    samples += [samples[0]._replace(temperature=level) for level in levels[len(samples) :]]
    mean, sampled = samples[0], samples[-1]
    return {
        "u50": turn.u50,
        "u50_width": turn.width,
        "third_digits": third,
        "sampled_cells_mean": sampled.accuracy,
        "diversity_ratio": sampled.diversity,
        "frechet": sampled.frechet,
        "frechet_at_mean": mean.frechet,
        "density": sampled.density,
        "coverage": sampled.coverage,
        "samples": [found._asdict() for found in samples],
    }


def added(model: AdditionInference, z: Tensor, addend: float) -> Tensor:
    """Codes of the sums of codes ``z`` ``[N, code_size]`` and one number, at the mean."""
    return model.adder(z, torch.full((len(z),), float(addend), device=z.device))
