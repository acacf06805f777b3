"""What a row of a table of codes means: a point, or a distribution over codes.

A row holds the parameters of a distribution over codes. Point codes have one number per dimension
(the code itself: an auto-decoder); the others have what their distribution needs (a variational
auto-decoder). Every family says how its rows become codes, how they are sampled so that gradients
reach them, and how far they are from its prior.

Each prior has mean square about 1 per dimension, so that a decoder meets codes of like size:
N(0, 1), Exp(1), U(-sqrt 3, sqrt 3).

Source: report 004, sections 1.3.1 and 1.3.2; A. Zadeh et al., arXiv 1903.00840 (variational
auto-decoders).
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from learn2add.checks import check_choice
from learn2add.encoders import LOGVAR_RANGE, Gaussian

HALF_WIDTH = math.sqrt(3)
"""The uniform prior reaches so far to both sides: variance 1."""
START_SPREAD = 0.01
"""Standard deviation of the first means. Small: a code that starts at random is learned by heart
where it lies; codes that start together part as their pictures do."""
START_SIGMA = 0.3
"""Standard deviation of Gaussian codes before training; 1, the prior's, would drown the means."""


class Family:
    """What a row of the table means. Shapes: rows ``[B, parts, C]``, codes ``[B, C]``."""

    parts: int = 1
    """Numbers per dimension of the code."""
    sampled: bool = True
    """Whether a row has more than one code."""

    def initial(
        self, count: int, code_size: int, generator: torch.Generator | None = None
    ) -> Tensor:
        """Rows before training, each another one: float ``[count, parts, code_size]``."""
        rows = self.neutral(count, code_size)
        drawn = torch.randn(count, code_size, generator=generator, device=_device(generator))
        rows = rows.to(drawn.device)
        rows[:, 0] += START_SPREAD * drawn
        return rows

    def neutral(self, count: int, code_size: int) -> Tensor:
        """Rows that say nothing of a picture yet, all alike: ``[count, parts, code_size]``."""
        return torch.zeros(count, self.parts, code_size)

    def mean(self, rows: Tensor) -> Tensor:
        """The mean code of each row."""
        return rows[:, 0]

    def noise(self, shape: torch.Size, generator: torch.Generator) -> Tensor:
        """The random numbers that :meth:`sample` needs, for codes of that shape."""
        return torch.randn(shape, generator=generator, device=generator.device)

    def sample(self, rows: Tensor, noise: Tensor) -> Tensor:
        """A code for each row, made of the noise so that gradients reach the row."""
        raise NotImplementedError

    def kl(self, rows: Tensor) -> Tensor:
        """KL(the row's distribution || the prior), summed over dimensions: nats ``[B]``."""
        raise NotImplementedError

    def prior(self, count: int, code_size: int, generator: torch.Generator) -> Tensor:
        """Codes drawn from the prior: ``[count, code_size]``."""
        return self.noise(torch.Size((count, code_size)), generator)

    def at(self, codes: Tensor) -> Tensor:
        """Rows whose mean code is ``codes`` as nearly as the family can; else as before training.

        Args:
            codes: Float ``[B, C]``.
        """
        rows = self.neutral(*codes.shape).to(codes)
        rows[:, 0] = codes
        return rows


class Point(Family):
    """The code itself; nothing is sampled and nothing holds it near a prior."""

    sampled = False

    def sample(self, rows: Tensor, noise: Tensor) -> Tensor:
        """The code; the noise is not used."""
        return rows[:, 0]

    def kl(self, rows: Tensor) -> Tensor:
        """Zero: a point has no divergence, and none is asked for."""
        return rows.new_zeros(len(rows))


class GaussianCodes(Family):
    """``mu`` and ``logvar``; prior N(0, I)."""

    parts = 2

    def neutral(self, count: int, code_size: int) -> Tensor:
        """Mean 0, standard deviation :data:`START_SIGMA`."""
        rows = torch.zeros(count, 2, code_size)
        rows[:, 1] = 2 * math.log(START_SIGMA)
        return rows

    def gaussian(self, rows: Tensor) -> Gaussian:
        """The rows as ``mu`` and ``logvar``."""
        return Gaussian(rows[:, 0], rows[:, 1].clamp(*LOGVAR_RANGE))

    def sample(self, rows: Tensor, noise: Tensor) -> Tensor:
        """``mu + sigma * noise``."""
        return self.gaussian(rows).sample(noise)

    def kl(self, rows: Tensor) -> Tensor:
        """``(mu^2 + sigma^2 - 1 - ln sigma^2) / 2``, summed."""
        mu, logvar = self.gaussian(rows)
        return 0.5 * (mu.square() + logvar.exp() - 1 - logvar).sum(1)


class ExponentialCodes(Family):
    """``k``, the logarithm of the rate; prior Exp(1).

    The standard deviation of an exponential distribution *is* its mean, so such a code can be
    large or small, but never certain.
    """

    def mean(self, rows: Tensor) -> Tensor:
        """``1 / rate``."""
        return torch.exp(-self._rate(rows))

    def noise(self, shape: torch.Size, generator: torch.Generator) -> Tensor:
        """Exponential numbers of rate 1, ``-ln u``."""
        drawn = torch.empty(shape, device=generator.device)
        return drawn.exponential_(generator=generator)

    def sample(self, rows: Tensor, noise: Tensor) -> Tensor:
        """``noise / rate``; the report's ``-ln(u) / rate``."""
        return self.mean(rows) * noise

    def kl(self, rows: Tensor) -> Tensor:
        """``k + exp(-k) - 1``, summed."""
        k = self._rate(rows)
        return (k + torch.exp(-k) - 1).sum(1)

    def at(self, codes: Tensor) -> Tensor:
        """Rates ``1 / codes``; a code below 0.01, which no exponential has as its mean, is 0.01."""
        return -codes.clamp(min=0.01).log()[:, None]

    @staticmethod
    def _rate(rows: Tensor) -> Tensor:
        return rows[:, 0].clamp(*LOGVAR_RANGE)


class UniformCodes(Family):
    """A centre and a width within the prior, U(-sqrt 3, sqrt 3); two free numbers for each.

    An interval that left the prior's would have an infinite divergence, so none can: the half width
    is ``sqrt 3 * sigmoid(b)``, the centre ``tanh(a)`` times the room that is left.
    """

    parts = 2

    def neutral(self, count: int, code_size: int) -> Tensor:
        """Centre 0, the standard deviation :data:`START_SIGMA`."""
        rows = torch.zeros(count, 2, code_size)
        rows[:, 1] = math.log(START_SIGMA / (1 - START_SIGMA))
        return rows

    def interval(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Centre and half width, each ``[B, C]``."""
        half = HALF_WIDTH * torch.sigmoid(rows[:, 1].clamp(*LOGVAR_RANGE))
        return (HALF_WIDTH - half) * torch.tanh(rows[:, 0]), half

    def mean(self, rows: Tensor) -> Tensor:
        """The centre."""
        return self.interval(rows)[0]

    def noise(self, shape: torch.Size, generator: torch.Generator) -> Tensor:
        """Numbers from -1 to 1."""
        return 2 * torch.rand(shape, generator=generator, device=generator.device) - 1

    def sample(self, rows: Tensor, noise: Tensor) -> Tensor:
        """``centre + half width * noise``."""
        centre, half = self.interval(rows)
        return centre + half * noise

    def kl(self, rows: Tensor) -> Tensor:
        """``ln(prior's width / width)``, summed."""
        return -F.logsigmoid(rows[:, 1].clamp(*LOGVAR_RANGE)).sum(1)

    def prior(self, count: int, code_size: int, generator: torch.Generator) -> Tensor:
        """Numbers from -sqrt 3 to sqrt 3."""
        return HALF_WIDTH * super().prior(count, code_size, generator)

    def at(self, codes: Tensor) -> Tensor:
        """Centres as near to the codes as the width before training lets them be."""
        rows = self.neutral(*codes.shape).to(codes)
        room = HALF_WIDTH * (1 - START_SIGMA)
        rows[:, 0] = torch.atanh((codes / room).clamp(-0.99, 0.99))
        return rows


FAMILIES: dict[str, Family] = {
    "point": Point(),
    "gaussian": GaussianCodes(),
    "exponential": ExponentialCodes(),
    "uniform": UniformCodes(),
}
"""What can stand in a table, by name."""


def family_of(name: str) -> Family:
    """The family called ``name``: "point", "gaussian", "exponential" or "uniform".

    Raises:
        ValueError: There is no such family.
    """
    return FAMILIES[check_choice("code_distribution", name, tuple(FAMILIES))]


def _device(generator: torch.Generator | None) -> torch.device:
    return torch.device("cpu") if generator is None else generator.device
