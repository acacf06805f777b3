"""Evidence beyond "right or wrong": between whole numbers, how real and various sums are, seeds.

Models draw at the mean of their distributions unless a temperature is given.

Source: assignment, Part III item 7 and Part IV items 2 and 3; report, sections 4.5, 5.1 and 5.2.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from learn2add.checks import check_number
from learn2add.data import Digits, as_float, in_batches
from learn2add.judge import Judge, judge_of
from learn2add.measures import (
    Blame,
    added,
    floors,
    held_out_mean,
    judge_accuracy,
    judge_sums,
    reconstruction_rmse,
    summarise,
)
from learn2add.network import code_of
from learn2add.pairs import CELLS
from learn2add.runs import Run, digits_of, kept_file

NEIGHBOURS = 5  # k of density and coverage, the value their authors use
PER_CELL = 400  # images of each digit from which sums are sampled, at most
SEEDS = "part4/seeds"  # where several seeds are kept


@torch.no_grad()
def sweep(
    model: nn.Module, judge: Judge, images: Tensor, addends: np.ndarray | Tensor
) -> np.ndarray:
    """Return what the judge reads as the addend goes through real numbers ``[A]``: float64
    probabilities ``[A, 10]``, averaged over images uint8 ``[N, S, S]``.
    """
    check_number("addends", torch.as_tensor(addends))
    z = in_batches(model.encoder, images)
    rows = [judge.read(model.decoder(added(model, z, float(a)))).mean(0) for a in addends]
    return torch.stack(rows).double().cpu().numpy()


class TurningPoint(NamedTuple):
    """A logistic curve through p(high) / (p(low) + p(high))."""

    u50: float
    """Addend at which the higher digit is as probable as the lower."""
    width: float
    """Addends from 10 % to 90 %."""


def turning_point(addends: np.ndarray, low: np.ndarray, high: np.ndarray) -> TurningPoint:
    """Fit where, and how sharply, one digit gives way to the next: logistic regression on shares.

    ``low`` and ``high`` are the probabilities of the two, ``[A]``. NaN where there is no turn.
    """
    from scipy.optimize import root
    from scipy.special import expit

    share = high / np.maximum(low + high, 1e-12)
    x = np.stack([np.ones_like(addends), addends - addends.mean()], 1)

    def slope(beta: np.ndarray) -> np.ndarray:  # of the loss, with a slight pull towards 0
        return x.T @ (expit(x @ beta) - share) + 1e-6 * beta

    beta = root(slope, np.zeros(2), method="lm", tol=1e-12).x
    if beta[1] < 1e-3:
        return TurningPoint(float("nan"), float("nan"))
    u50 = addends.mean() - beta[0] / beta[1]
    return TurningPoint(float(u50), float(2 * np.log(9) / beta[1]))


def turn_of_sevens(model: nn.Module, judge: Judge, digits: Digits) -> tuple[TurningPoint, float]:
    """Return where 7 + u turns from 8 to 9, and the largest probability of any third digit there.

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
    model: nn.Module,
    judge: Judge,
    digits: Digits,
    temperatures: Sequence[float] = (1.0,),
    *,
    per_cell: int = PER_CELL,
    seed: int = 0,
) -> list[Sampled]:
    """Draw one sample for each of ``per_cell`` images in each cell, and measure them.

    ``digits`` are both the inputs and what the samples are compared with. ``temperatures`` are
    factors on the noise of encoder and adder, which is the same at each; 0 draws at the mean.
    """
    check_number("temperatures", torch.as_tensor(temperatures))
    real = [as_float(digits.images[members]) for members in digits.by_class()]
    spread = [float(x.var(0).mean()) for x in real]
    features = [judge.features(x).cpu().numpy() for x in real]
    codes = [code_of(model.encoder, x[:per_cell]) for x in real]
    found = []
    for temperature in temperatures:
        generator = torch.Generator(digits.images.device).manual_seed(seed)
        accuracy, diversity, drawn = [], [], [[] for _ in range(10)]
        for digit, addend in CELLS:
            (z, q), total = codes[digit], digit + addend
            addends = torch.full((len(z),), float(addend), device=z.device)
            z = z if q is None else q.draw(temperature, generator)
            z_sum, p = code_of(model.adder, z, addends)
            y_hat = model.decoder(z_sum if p is None else p.draw(temperature, generator))
            seen = judge.features(y_hat)
            right = judge.read_features(seen).argmax(1) == total
            accuracy.append(float(right.double().mean()))
            diversity.append(float(y_hat.var(0).mean()) / spread[total])
            drawn[total].append(seen)
        made = [torch.cat(parts).cpu().numpy() for parts in drawn]
        likeness = zip(*map(_likeness, features, made), strict=True)
        right, various = float(np.mean(accuracy)), float(np.mean(diversity))
        found.append(Sampled(temperature, right, various, *(float(np.mean(v)) for v in likeness)))
    return found


def _likeness(real: np.ndarray, made: np.ndarray) -> tuple[float, float, float]:
    """Return Fréchet distance, density and coverage of samples of one digit, by their features."""
    thinned = made[:: -(-len(made) // 1000)]
    return frechet_distance(made, real), *density_coverage(real, thinned)


def frechet_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Return the Fréchet distance of the normal distributions fitted to features [N, F] and [M, F].

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
    """Return density (are samples where real digits are?) and coverage (are real digits near any?).

    Both compare with balls about the real digits that reach their ``k``-th real neighbour, in
    features ``[N, F]`` and ``[M, F]``. Source: M. F. Naeem et al., arXiv 2002.09797.
    """
    r, m = torch.from_numpy(real).double(), torch.from_numpy(made).double()
    radius = torch.cdist(r, r).kthvalue(k + 1, dim=1).values  # the first is the digit itself
    inside = torch.cdist(r, m) < radius[:, None]
    return float(inside.double().sum(0).mean() / k), float(inside.any(1).double().mean())


def gather(model: nn.Module, judge: Judge, digits: Digits) -> dict[str, Any]:
    """Gather the evidence that stands in every evaluation, under stable keys.

    7 + u turns from 8 to 9 at ``u50``; ``third_digits`` is the largest probability of any other
    digit on the way. Measures of samples are at temperature 1; ``samples`` holds 0, 0.5 and 1.
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


def evaluate(run: Run, split: str = "test", device: torch.device | str = "cpu") -> dict[str, Any]:
    """Measure a complete run on a split, under stable keys.

    ``judge_accuracy``, ``rmse``; for an addition model also the keys of ``summarise``, ``floors``,
    ``Blame`` and ``gather``, and ``held_out_cells_mean`` (None where no cell was held out).
    """
    config, model = run.config, run.model(device)
    digits = digits_of(config, split).to(device)
    found: dict[str, Any] = {"split": split, "rmse": reconstruction_rmse(model, digits)}
    if config.dataset == "MNIST":
        judge = judge_of(config, device)
        found["judge_accuracy"] = judge_accuracy(judge, digits)
        if config.adds:
            scores = judge_sums(model, judge, digits)
            found |= summarise(scores, digits) | floors(digits)
            found["held_out_cells_mean"] = held_out_mean(scores, config.held_out)
            found |= dict(zip(Blame._fields[:3], scores.blame, strict=False))
            found |= gather(model, judge, digits)
            found |= config.evidence(model, judge, digits, scores)
    # JSON knows no NaN: a model that never turns from 8 to 9 has no turning point.
    return {k: None if isinstance(v, float) and np.isnan(v) else v for k, v in found.items()}


def kept_seeds(folder: str | Path | None = None) -> dict[str, dict[str, NDArray[np.float64]]]:
    """Read the test figures of several seeds: a file ``recipe-seed.json`` each in ``folder``.

    Return per recipe (``conv_transpose``, ``addition``, ``adder``, ...) and measure (``rmse``,
    ``cells_mean``, ...) one value for each seed, ``[N]``, in their order.
    """
    folder = kept_file(SEEDS) if folder is None else Path(folder)
    if folder is None:
        raise FileNotFoundError(f"no kept runs/{SEEDS}; tools/experiments/seeds.py makes it")
    rows: dict[str, list[dict[str, float]]] = {}
    for file in sorted(folder.glob("*.json"), key=lambda file: int(file.stem.split("-")[-1])):
        rows.setdefault(file.stem.rpartition("-")[0], []).append(json.loads(file.read_text()))
    return {
        name: {key: np.array([row[key] for row in found]) for key in found[0]}
        for name, found in sorted(rows.items())
    }


def chance(a: ArrayLike, b: ArrayLike) -> float:
    """Return how often chance alone makes two means differ by at least as much: an exact p value.

    ``a`` ``[A]`` and ``b`` ``[B]`` are two recipes' values, one for each seed. Every way to split
    them anew is tried (the exact two-sided permutation test), so nothing is assumed about their
    distribution; of five and five there are 252, and no p is below 2 in 252.
    """
    from scipy.stats import permutation_test

    samples = []
    for name, values in (("a", a), ("b", b)):
        sample = np.asarray(values, dtype=float)
        if sample.ndim != 1 or len(sample) < 2 or not np.isfinite(sample).all():
            raise ValueError(f"{name} is {values!r}; allowed is two or more finite numbers [N]")
        samples.append(sample)
    return permutation_test(
        samples,
        lambda x, y, axis: abs(x.mean(axis) - y.mean(axis)),
        vectorized=True,
        alternative="greater",
        n_resamples=np.inf,
    ).pvalue
