"""The space of codes: ways through it, what addition does in it, how its size pays.

Projections, mixtures and neighbours are scikit-learn's; here stands what it does not have.
"""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from learn2add.checks import check_int
from learn2add.judge import Judge


def plane(decoder: nn.Module, corners: Tensor, steps: int = 16) -> Tensor:
    """What a decoder of code size 2 draws at the points of a grid.

    Args:
        decoder: Of code size 2.
        corners: Float ``[2, 2]``: the lowest, then the highest value of each of the two numbers.
        steps: Points along each side.

    Returns:
        Float ``[steps, steps, S, S]``, the first number growing to the right, the second upwards.

    Raises:
        ValueError: ``corners`` is not ``[2, 2]``, or ``steps`` is below 2.
    """
    if corners.shape != (2, 2):
        raise ValueError(f"corners has shape {list(corners.shape)}; allowed is [2, 2]")
    (left, bottom), (right, top) = corners.tolist()
    x = torch.linspace(left, right, check_int("steps", steps, 2))
    across, up = torch.meshgrid(x, torch.linspace(top, bottom, steps), indexing="xy")
    z = torch.stack([across, up], dim=-1).view(-1, 2).to(corners.device)
    with torch.no_grad():
        drawn = decoder(z)
    return drawn.view(steps, steps, *drawn.shape[-2:])


def class_means(z: Tensor, labels: Tensor) -> Tensor:
    """Mean code of each digit: codes ``[N, C]``, labels ``[N]`` -> ``[10, C]``.

    Raises:
        ValueError: A digit is missing.
    """
    counts = labels.bincount(minlength=10)
    if not counts.all():
        missing = (counts == 0).nonzero().flatten().tolist()
        raise ValueError(f"labels lacks {missing}; allowed are labels that hold every digit")
    return z.new_zeros(10, z.shape[1]).index_add_(0, labels, z) / counts[:, None]


def straight(start: Tensor, end: Tensor, steps: int = 21) -> Tensor:
    """Codes on the straight line: ``[..., C]`` and ``[..., C]`` -> ``[steps, ..., C]``."""
    share = _shares(start, end, steps)
    return start + share * (end - start)


def spherical(start: Tensor, end: Tensor, steps: int = 21) -> Tensor:
    """Codes on an arc about the origin, the length growing or shrinking evenly on the way.

    Samples of N(0, I) in many dimensions all lie at about the same distance from the origin; the
    straight line between two of them passes through places where there are none.

    Args:
        start: Float ``[..., C]``.
        end: Likewise.
        steps: Codes on the way, both ends included.

    Returns:
        Float ``[steps, ..., C]``; the straight line where the two directions are the same.

    Raises:
        ValueError: The shapes differ, or ``steps`` is below 2.

    Source: K. Shoemake, "Animating rotation with quaternion curves", 1985; for codes T. White,
    arXiv 1609.04468.
    """
    share = _shares(start, end, steps)
    long, end_long = (code.norm(dim=-1, keepdim=True).clamp(min=1e-12) for code in (start, end))
    a, b = start / long, end / end_long
    angle = (a * b).sum(-1, keepdim=True).clamp(-1, 1).acos()
    sine = angle.sin()
    length = long + share * (end_long - long)
    arc = (((1 - share) * angle).sin() * a + (share * angle).sin() * b) / sine * length
    return torch.where(sine > 1e-4, arc, start + share * (end - start))


def _shares(start: Tensor, end: Tensor, steps: int) -> Tensor:
    """0 to 1 in so many steps, laid out to multiply codes of that shape."""
    if start.shape != end.shape:
        raise ValueError(
            f"end has shape {list(end.shape)}; allowed is that of start, {list(start.shape)}"
        )
    share = torch.linspace(0, 1, check_int("steps", steps, 2), device=start.device)
    return share.view(-1, *[1] * start.dim())


class Journey(NamedTuple):
    """What is drawn on ways through the space of codes."""

    clear: float
    """Share of the pictures that the judge reads with a confidence of 0.9 or more."""
    readings: float
    """How many different digits the judge reads on a way, on average: 2 between two digits is a
    direct change from one to the other."""
    largest: float
    """Largest step between neighbouring pictures over the mean step, averaged over the ways: 1 is
    an even change, large is a jump."""


@torch.no_grad()
def journey(decoder: nn.Module, judge: Judge, ways: Tensor) -> Journey:
    """Draw what lies on the ways and measure how smoothly it changes.

    Args:
        decoder: Draws codes.
        judge: Reads the pictures.
        ways: Codes ``[steps, W, C]``, as :func:`straight` and :func:`spherical` make them.
    """
    steps, count, _ = ways.shape
    drawn = decoder(ways.flatten(0, 1))
    sure, digit = judge.read(drawn).view(steps, count, -1).max(dim=-1)
    moved = drawn.view(steps, count, -1).diff(dim=0).norm(dim=-1)
    readings = torch.nn.functional.one_hot(digit, 10).any(0).sum(1)
    return Journey(
        float((sure >= 0.9).double().mean()),
        float(readings.double().mean()),
        float((moved.amax(0) / moved.mean(0).clamp(min=1e-12)).mean()),
    )


class Arrow(NamedTuple):
    """A simple stand-in for the adder at one addend: code -> code of the sum."""

    explained: float
    """Share of the adder's shifts (squared, summed) that it explains; 1 is all."""
    shifted: Tensor
    """The codes after it, ``[N, C]``."""


def arrows(z: Tensor, z_sum: Tensor, labels: Tensor) -> dict[str, Arrow]:
    """How far the adder's work at one addend is a direction: three stand-ins, fitted to it.

    Args:
        z: Codes ``[N, C]`` of digits.
        z_sum: What the adder makes of them, ``[N, C]``.
        labels: The digits, ``[N]``.

    Returns:
        "one arrow" (the same shift for all codes), "an arrow per digit", and "an affine map".
    """
    shift = z_sum - z
    by_digit = torch.zeros_like(shift)
    for digit in labels.unique():
        members = labels == digit
        by_digit[members] = shift[members].mean(0)
    with_one = torch.cat([z, torch.ones_like(z[:, :1])], dim=1)
    affine = with_one @ torch.linalg.lstsq(with_one, shift).solution
    fits = {
        "one arrow": shift.mean(0).expand_as(shift),
        "an arrow per digit": by_digit,
        "an affine map": affine,
    }
    total = shift.square().sum()
    return {
        name: Arrow(1 - float((shift - fit).square().sum() / total), z + fit)
        for name, fit in fits.items()
    }


class Decay(NamedTuple):
    """A falling curve fitted to errors."""

    parameters: tuple[float, ...]
    off: float
    """Root mean squared relative distance of the errors from the curve."""
    beyond: float
    """What the curve foretells at the size asked for."""


def decays(sizes: ArrayLike, errors: ArrayLike, beyond: float) -> dict[str, Decay]:
    """Fit an exponential and a power of the code size to errors, and ask both for a larger size.

    Args:
        sizes: Code sizes ``[N]``, four or more.
        errors: Errors ``[N]``, above 0.
        beyond: A size that was not fitted.

    Returns:
        "exponential", ``a exp(-k / b) + c``, and "power", ``a k**-b + c``, with c >= 0.

    Raises:
        ValueError: The lengths differ, there are fewer than four, or a number is not above 0.
    """
    from scipy.optimize import curve_fit  # a part of the notebooks' extra

    k, e = np.asarray(sizes, float), np.asarray(errors, float)
    if k.ndim != 1 or k.shape != e.shape or len(k) < 4:
        raise ValueError(
            f"sizes and errors have shapes {k.shape} and {e.shape}; allowed are two rows of one "
            "length, 4 or more"
        )
    if not (np.isfinite([k, e]).all() and k.min() > 0 and e.min() > 0):
        raise ValueError("sizes or errors hold numbers that are not above 0")
    curves = {
        "exponential": (lambda k, a, b, c: a * np.exp(-k / b) + c, (e[0], 3.0, e[-1] / 2)),
        "power": (lambda k, a, b, c: a * k**-b + c, (e[0], 1.0, e[-1] / 10)),
    }
    found = {}
    for name, (curve, start) in curves.items():
        # sigma makes the distance relative: small errors count as much as large ones.
        fitted, _ = curve_fit(curve, k, e, start, sigma=e, bounds=(0, np.inf))
        off = float(np.sqrt(np.mean((curve(k, *fitted) / e - 1) ** 2)))
        found[name] = Decay(tuple(map(float, fitted)), off, float(curve(beyond, *fitted)))
    return found
