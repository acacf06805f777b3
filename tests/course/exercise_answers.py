"""Answers to the exercises that have a check: right ones in two ways, and the usual mistakes."""

import math
from typing import Any

import torch
from torch import nn

from learn2add.studies.auto_decoder import GaussianCodes


def merge(first: nn.Linear, second: nn.Linear, bias: str = "both") -> nn.Linear:
    one = nn.Linear(first.in_features, second.out_features)
    one.weight.copy_(second.weight @ first.weight)
    through = second.weight @ first.bias
    parts = {"both": through + second.bias, "second": second.bias, "first": through}
    one.bias.copy_(parts[bias])
    return one


def mixed(z: Any, w: Any, mu: Any, sigma: Any) -> Any:
    return (torch.distributions.Normal(mu, sigma).log_prob(z[..., None]) + w.log()).logsumexp(-1)


def by_torch(z: Any, w: Any, mu: Any, sigma: Any) -> Any:
    kinds, parts = torch.distributions.Categorical(w), torch.distributions.Normal(mu, sigma)
    return torch.distributions.MixtureSameFamily(kinds, parts).log_prob(z)


def peppered(x: Any, share: float, generator: Any, black: float = 0.5) -> Any:
    dice = torch.rand(x.shape, generator=generator)
    return torch.where(dice < share * black, 0.0, torch.where(dice < share, 1.0, x))


def in_two_steps(x: Any, share: float, generator: Any) -> Any:
    hit = torch.rand(x.shape, generator=generator) < share
    white = torch.rand(x.shape, generator=generator) < 0.5
    return torch.where(hit, white.float(), x)


class Laplace(GaussianCodes):
    factor = 1.0

    def noise(self, count: int, code_size: int, generator: torch.Generator) -> Any:
        return torch.rand(count, code_size, generator=generator) - 0.5

    def sample(self, rows: Any, noise: Any) -> Any:
        b = self.factor * rows[:, 1].exp()
        return rows[:, 0] - b * noise.sign() * (1 - 2 * noise.abs()).clamp(min=1e-7).log()

    def kl(self, rows: Any) -> Any:
        mu, b = rows[:, 0].abs(), rows[:, 1].exp()
        return (b * (-mu / b).exp() + mu - b.log() - 1).sum(1)


class Wide(Laplace):
    factor = 2.0


class Signed(Laplace):
    def kl(self, rows: Any) -> Any:
        return -super().kl(rows)


RIGHT = {
    "1.1": [0.0296, torch.tensor(0.02958)],
    "2.1": [merge, lambda a, b: nn.Sequential(a, b)],
    "2.4": [lambda b, f: ((b - f) / 2) ** 0.5, lambda b, f: math.sqrt(0.5 * b - 0.5 * f)],
    "4.3": [mixed, by_torch],
    "6.3": [peppered, in_two_steps],
    "9.5": [0.277, (1 - 0.5 ** (1 / 250)) / 0.01],
    "10.3": [Laplace, Laplace()],
}
WRONG: dict[str, list[tuple[Any, str]]] = {
    "1.1": [(0.000875, "root"), (7.54, "from 0 to 1"), (0.05, "not the number")],
    "2.1": [
        (lambda a, b: merge(a, b, "second"), "first layer is lost"),
        (lambda a, b: merge(a, b, "first"), "second layer is missing"),
        (lambda a, b: nn.Linear(5, 3), "not the second layer of the first"),
        (lambda a, b: a, "expected [6, 3]"),
    ],
    "2.4": [
        (lambda b, f: (b - f) / 2, "take the root"),
        (lambda b, f: (b - f) ** 0.5, "2 is missing"),
        (lambda b, f: (b / 2) ** 0.5, "floor"),
        (lambda b, f: (2 * (b - f)) ** 0.5, "other side"),
    ],
    "4.3": [
        (lambda *of: mixed(*of).exp(), "density itself"),
        (lambda z, w, m, s: mixed(z, torch.ones(2), m, s), "weights are missing"),
        (
            lambda z, w, m, s: (w * torch.distributions.Normal(m, s).log_prob(z[..., None])).sum(
                -1
            ),
            "logarithm of the mean",
        ),
    ],
    "6.3": [
        (lambda x, share, g: peppered(x, share / 2, g), "15% of the pixels change"),
        (lambda x, share, g: peppered(x, share, g, 0.9), "as many black as white"),
        (lambda x, share, g: peppered(x, share, None), "draw with the generator"),
        (lambda x, share, g: (x + torch.randn(x.shape, generator=g)).clamp(0, 1), "0, or 1, or"),
        (lambda x, share, g: x.mul_(0), "changes the images"),
    ],
    "9.5": [(0.00277, "rate is missing"), (50, "one step"), (1, "not the number")],
    "10.3": [
        (Wide, "on average, not b"),
        (Signed, "not torch"),
        (GaussianCodes(), "the package's"),
    ],
}
