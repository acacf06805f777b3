"""Checks of those exercises that can be checked: ``check("2.1", merge)``.

Numbered by notebook and exercise. What is wanted of each stands at the exercise; the mistakes are
named as in :mod:`learn2add.course.check`.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from learn2add.course.check import check_shape, ensure, refuse


def number(wanted: float, near: float, mistakes: dict[str, float]) -> Callable[[Any], str]:
    """Return a check of a number, to a share ``near`` of it; ``mistakes`` have others, by hint."""

    def judge(answer: Any) -> str:
        found = float(answer)
        for hint, value in mistakes.items():
            ensure(abs(found - value) > near * abs(value), hint)
        ensure(abs(found - wanted) <= near * abs(wanted), f"{found:.4g} is not the number")
        return "right"

    return judge


def merged(merge: Callable[[nn.Linear, nn.Linear], nn.Linear]) -> str:
    """Check 2.1: two linear layers as one."""
    first, second, x = nn.Linear(5, 4), nn.Linear(4, 3), torch.randn(6, 5)
    with torch.no_grad():
        found, wanted = merge(first, second)(x), second(first(x))
        check_shape("what your layer gives", found, 6, 3)
        if torch.allclose(found, wanted, atol=1e-5):
            return "right"
        lost = second.weight @ first.bias
        mistakes = {
            "the bias of the first layer is lost: it goes through the second": wanted - lost,
            "the bias of the second layer is missing": wanted - second.bias,
            "the bias of the first layer is added as it is": wanted - lost + first.bias[:3],
        }
    refuse(found, mistakes, "this is not the second layer of the first")


def bound(bound_of: Callable[[float, float], float]) -> str:
    """Check 2.4: the RMSE that a BCE and its floor guarantee."""
    found, gap = float(bound_of(0.2, 0.08)), 0.12
    hints = {
        gap / 2: "this bounds the MSE; take the root",
        gap**0.5: "Pinsker's 2 is missing",
        0.1**0.5: "the floor is not taken off",
        (2 * gap) ** 0.5: "Pinsker's 2 stands on the other side",
    }
    for value, hint in hints.items():
        ensure(abs(found - value) > 1e-6, hint)
    ensure(abs(found - (gap / 2) ** 0.5) < 1e-6, f"{found:.4f} for a BCE of 0.2 over 0.08")
    return "right"


def mixture(log_density: Callable[..., Tensor]) -> str:
    """Check 4.3: the logarithm of a mixture's density."""
    z, w = torch.linspace(-2, 2, 9), torch.tensor([0.3, 0.7])
    mu, sigma = torch.tensor([-1.0, 1.0]), torch.tensor([0.5, 0.8])
    found, each = log_density(z, w, mu, sigma), torch.distributions.Normal(mu, sigma)
    check_shape("the densities of 9 points", found, 9)
    logs = each.log_prob(z[:, None])
    wanted = (logs + w.log()).logsumexp(1)
    if torch.allclose(found, wanted, atol=1e-4):
        return "right"
    mistakes = {
        "the mean of the logarithms; wanted is the logarithm of the mean": (w * logs).sum(1),
        "the density itself, not its logarithm": wanted.exp(),
        "the weights are missing": logs.logsumexp(1),
    }
    refuse(found, mistakes, "compare with torch.distributions.MixtureSameFamily")


def salt_and_pepper(corrupt: Callable[[Tensor, float, torch.Generator], Tensor]) -> str:
    """Check 6.3: a share of the pixels black or white, half of them each, the rest untouched."""
    x = torch.full((40, 1, 28, 28), 0.4)
    found = corrupt(x, 0.3, torch.Generator().manual_seed(0))
    check_shape("what it returns", found, 40, 1, 28, 28)
    ensure(bool((x == 0.4).all()), "your function changes the images it is given")
    shares = [float((found == value).float().mean()) for value in (0.0, 1.0, 0.4)]
    ensure(abs(sum(shares) - 1) < 1e-6, "a pixel is either 0, or 1, or as it was")
    ensure(abs(shares[2] - 0.7) < 0.03, f"{1 - shares[2]:.0%} of the pixels change, expected 30 %")
    ensure(abs(shares[0] - shares[1]) < 0.03, "as many black as white: half of the share each")
    again = corrupt(x, 0.3, torch.Generator().manual_seed(0))
    ensure(torch.equal(found, again), "draw with the generator, or nobody can repeat it")
    return "right"


def laplace(family: Any) -> str:
    """Check 10.3: a family of Laplace distributions."""
    family = family() if isinstance(family, type) else family
    rows = torch.randn(50_000, 2, 1)
    rows[:, 0], rows[:, 1] = 0.5, -1.0
    one = torch.distributions.Laplace(torch.tensor(0.5), torch.tensor(-1.0).exp())
    prior = torch.distributions.Laplace(0.0, 1.0)
    wanted = torch.distributions.kl_divergence(one, prior)
    z = family.sample(rows, family.noise(len(rows), 1, torch.Generator().manual_seed(0)))
    check_shape("the samples", z, 50_000, 1)
    ensure(abs(float(z.mean()) - 0.5) < 0.02, f"their mean is {float(z.mean()):.2f}, expected 0.5")
    spread = float((z - 0.5).abs().mean())
    ensure(abs(spread - float(one.scale)) < 0.02, f"|z - mu| is {spread:.2f} on average, not b")
    found = family.kl(rows)
    check_shape("the divergences", found, 50_000)
    ensure(bool((found - wanted).abs().max() < 1e-3), "the divergence is not torch's")
    return "right"


ROOT_MEAN_SQUARE = {"take the root of the mean square": 0.000876, "pixels go from 0 to 1": 7.55}
DECAY = {"the rate is missing": 0.00277, "that halves a weight in one step": 50.0}
EXERCISES: dict[str, Callable[[Any], str]] = {
    "1.1": number(0.0296, 0.02, ROOT_MEAN_SQUARE),
    "2.1": merged,
    "2.4": bound,
    "4.3": mixture,
    "6.3": salt_and_pepper,
    "9.5": number(0.277, 0.03, DECAY),
    "10.3": laplace,
}
"""The checks by notebook and exercise; the others ask for trainings, or for words."""
