"""The alarm that names a collapse while it happens: few digits drawn, dead code units.

A picture loss falls just as smoothly while a model learns to draw the same fuzzy nine for every sum
(the report's Table 1 has eleven such trainings, each found out by eye when it was over). So after
every epoch a judge reads a few sums.

Source: report, section 5.2; active units: Y. Burda et al., arXiv 1509.00519, section 5.2.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from learn2add.data import Digits, as_float
from learn2add.encoders import GaussianEncoder
from learn2add.judge import Judge
from learn2add.models import AdditionModel, code_of
from learn2add.pairs import CELLS

PER_DIGIT = 4
"""Pictures of each digit whose sums are read."""
DRAWN = 0.01
"""A digit counts as drawn if it is read in this share of the pictures; 0 is due in 1.8 %."""
FEW = 5
"""So many digits, or fewer, are a collapse."""
ACTIVE = 0.01
"""A unit of a variational code is active if its mean varies by more than this over pictures."""


class Health(NamedTuple):
    """How a model that adds is doing."""

    right: float
    """Share of right sums, all cells alike."""
    read: tuple[float, ...]
    """Share of each digit 0 to 9 among what the judge reads."""
    active: int | None
    """Active units of the code; None where it is no distribution."""
    code_size: int

    @property
    def drawn(self) -> int:
        """How many different digits are drawn."""
        return sum(share >= DRAWN for share in self.read)

    def figures(self) -> dict[str, float]:
        """Its curves, by TensorBoard tag."""
        found = {"sums/right": self.right, "sums/digits_drawn": float(self.drawn)}
        return found if self.active is None else found | {"code/active_units": float(self.active)}

    def alarm(self) -> str | None:
        """What has collapsed, in words; None where nothing has."""
        found = []
        if self.drawn <= FEW:
            often = sorted(range(10), key=lambda digit: -self.read[digit])[: min(self.drawn, 3)]
            shares = ", ".join(f"{digit} in {self.read[digit]:.0%}" for digit in often)
            found.append(f"only {self.drawn} of 10 digits are drawn ({shares} of the sums)")
        if self.active is not None and self.active < self.code_size:
            found.append(f"{self.code_size - self.active} of {self.code_size} code units are dead")
        return "; ".join(found) or None


@torch.no_grad()
def examine(
    model: AdditionModel, judge: Judge, digits: Digits, per_digit: int = PER_DIGIT
) -> Health:
    """Draw every sum of the first few pictures of each digit, at the mean of all distributions.

    Args:
        model: A whole training model.
        judge: Reads the sums.
        digits: Validation digits, each class present.
        per_digit: Pictures of each digit, at most.
    """
    classes = digits.by_class()
    count = min(per_digit, *map(len, classes))
    first = torch.stack([members[:count] for members in classes])  # [10, 4]
    z, _ = code_of(model.encoder, as_float(digits.images[first.flatten()]))
    digit, addend = torch.tensor(CELLS, device=z.device).T
    codes = z.view(10, count, -1)[digit].flatten(0, 1)  # [55 * 4, code_size]
    addends = addend.repeat_interleave(count)
    z_sum, _ = code_of(model.adder, codes, addends.float())
    read = judge.read(model.decoder(z_sum)).argmax(1)
    total = (digit + addend).repeat_interleave(count)
    shares = read.bincount(minlength=10).double() / len(read)
    right = float((read == total).double().mean())
    return Health(right, tuple(shares.tolist()), active_units(model, digits), z.shape[1])


@torch.no_grad()
def active_units(model: AdditionModel, digits: Digits, count: int = 500) -> int | None:
    """Units of a variational code whose mean varies over the first pictures; None if not one."""
    if not isinstance(model.encoder, GaussianEncoder):
        return None
    mu: Tensor = model.encoder(as_float(digits.images[:count]))
    return int((mu.var(0) > ACTIVE).sum())
