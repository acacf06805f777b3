"""An adder that counts (notebook 12): one step, applied as often as the addend says.

The assignment's adder is told the addend as a number, and learns 55 cells; this one has a single
network for "one more". What it is given beyond the assignment is that structure, nothing else, and
it is what lets it add where it was never taught. Source: A. Schwarzschild et al., arXiv 2106.04537,
for steps with shared weights that are repeated more often than in training.
"""

import math
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from learn2add import recipes
from learn2add.config import HELD_OUT, LossWeights, RunConfig, Stage
from learn2add.data import BATCH, Digits, in_batches
from learn2add.judge import Judge
from learn2add.measures import SumScores, add, held_out_mean
from learn2add.network import Adder, check_shape, in_float32
from learn2add.pairs import CELLS

BEYOND_ONE = tuple(cell for cell in CELLS if cell[1] > 1)
"""The 36 cells that "+ 0" and "+ 1" are not."""


class CountingAdder(nn.Module):
    """``z + step(z)``, ``addend`` times; what is left below 1 is a part of a step.

    A step of 0.5 goes half of the way to the next digit's code; "+ 0" leaves a code as it is.
    """

    def __init__(self, code_size: int = 7, width: int = 192) -> None:
        super().__init__()
        self.code_size = code_size
        self.step = nn.Sequential(
            nn.Linear(code_size, width), nn.SiLU(),
            nn.Linear(width, width), nn.SiLU(), nn.Linear(width, code_size),
        )  # fmt: skip

    def forward(self, z: Tensor, addend: Tensor) -> Tensor:
        """Add ``addend`` ``[B]``, 0 or more, to the digits of codes ``z`` ``[B, code_size]``."""
        for part in parts_of(z, addend, self.code_size):
            z = z + part * in_float32(self.step, z)
        return z


class MatrixAdder(nn.Module):
    """The same with one matrix: ``lower(M^addend lift(z))``; below 0 its inverse, so it subtracts.

    ``M h + b`` is affine; a part of a step goes straight towards the next. torch's own initial
    weights matter: they make ``M`` shrink what it is given, so that after a few steps a code has
    forgotten which digit it came from. Begun as the identity it keeps that, and learns cells.
    """

    def __init__(self, code_size: int = 7, width: int = 192, size: int = 16) -> None:
        super().__init__()
        self.code_size = code_size
        self.lift = nn.Sequential(nn.Linear(code_size, width), nn.SiLU(), nn.Linear(width, size))
        self.one_more = nn.Linear(size, size)
        self.lower = nn.Sequential(nn.Linear(size, width), nn.SiLU(), nn.Linear(width, code_size))

    def forward(self, z: Tensor, addend: Tensor) -> Tensor:
        """Add ``addend`` ``[B]``, also below 0, to the digits of codes ``z`` ``[B, code_size]``."""
        parts = parts_of(z, addend, self.code_size)
        h = in_float32(self.lift, z)
        for part in parts:
            h = h + part * (self.one_more(h) - h)
        if (addend < 0).any():
            for part in parts_of(z, -addend, self.code_size):
                h = h + part * (self.one_less(h) - h)
        return in_float32(self.lower, h)

    def one_less(self, h: Tensor) -> Tensor:
        """Undo one step on lifted codes ``[B, size]``; it was not trained, only solved for."""
        return torch.linalg.solve(self.one_more.weight, (h - self.one_more.bias).T).T


def parts_of(z: Tensor, addend: Tensor, code_size: int) -> list[Tensor]:
    """Return how much of each step is taken, ``[B, 1]`` each: 1, 1, 0.5 for an addend of 2.5."""
    check_shape("z", z, code_size)
    if addend.shape != z.shape[:1]:
        raise ValueError(f"addend is of shape {list(addend.shape)}; allowed is [{len(z)}]")
    steps = max(1, math.ceil(float(addend.max()))) if len(z) else 1
    return [(addend - k).clamp(0, 1)[:, None] for k in range(steps)]


@torch.no_grad()
def arithmetic(model: nn.Module, judge: Judge, digits: Digits) -> dict[str, float]:
    """Return how often the judge reads what arithmetic asks for beyond the 55 cells.

    ``one_and_one``: one is added, the image drawn, and one added to that image. ``zero_and_zero``:
    the same with 0. ``one_less``: -1 is added, which nobody trained. By shares of all digits.
    """

    def read(images: Tensor, *addends: float) -> Tensor:
        for addend in addends:
            images = (255 * add(model, images, addend)[:, 0]).round().byte()
        return in_batches(judge.read, images, BATCH).argmax(1)

    cases = {"one_and_one": (1, 1), "zero_and_zero": (0, 0), "one_less": (-1,)}
    found = {}
    for name, addends in cases.items():
        total = digits.labels + sum(addends)
        kept = (total >= 0) & (total <= 9)
        right = read(digits.images[kept], *addends) == total[kept]
        found[name] = float(right.double().mean())
    return found


ADDERS = {"assigned": Adder, "counting": CountingAdder, "matrix": MatrixAdder}


@dataclass(frozen=True)
class CountingConfig(RunConfig):
    """A run of Part III with another adder in the place of the assignment's."""

    rule: Literal["assigned", "counting", "matrix"] = "counting"
    """The assignment's adder; or one step that is repeated, as a network or as a matrix."""

    def check_model(self) -> None:
        """Raise ValueError unless the model can have such an adder."""
        if self.model not in ("addition", "variational_addition") or self.embed_addend:
            raise ValueError(
                f"model is {self.model!r}, embed_addend {self.embed_addend}; allowed for the rule "
                f"{self.rule!r} is addition or variational_addition without"
            )
        super().check_model()

    def build(self) -> nn.Module:
        """Return the untrained model."""
        model = super().build()
        model.adder = ADDERS[self.rule](self.code_size)
        return model

    def evidence(
        self, model: nn.Module, judge: Judge, digits: Digits, scores: SumScores
    ) -> dict[str, Any]:
        """Return the right sums of cells that were held out, by their name, and arithmetic."""
        names = {frozenset(HELD_OUT): "counting_held_out", frozenset(BEYOND_ONE): "taught_one"}
        found = {}
        if name := names.get(frozenset(self.held_out)):
            found[name] = held_out_mean(scores, self.held_out)
        return found | arithmetic(model, judge, digits)


def in_seconds(
    code_size: int = 16, autoencoder: int = 80, adder: int = 200, joint: int = 220, *, seed: int = 0
) -> CountingConfig:
    """Return a model that counts after half a minute of training, with so many steps a stage.

    Validated on 500 digits; its contrast is three times Part III's, so it needs few joint steps.
    """
    first = Stage("autoencoder", 1, autoencoder, 128, 4e-3, "one_cycle", "bce", **recipes.MUON)
    second = Stage("adder", 1, adder, 512, 5e-3, "one_cycle", balance="cells")
    third = replace(first, task="addition", steps=joint, batch_size=100)
    third = replace(third, balance="mixed", targets="batch")
    options = recipes.common("quick") | {"validation_size": 500}
    weights = LossWeights(code=0.3, contrast=30.0)
    options |= {"code_size": code_size, "activation": "relu", "weights": weights, "seed": seed}
    return CountingConfig((first, second, third), "addition", **options)
