"""How well a model redraws, or adds to, pictures that are corrupted more and more."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor, nn

from learn2add.data import Digits, as_float
from learn2add.evaluation import Interval, judge_sums, summarise
from learn2add.judge import Judge
from learn2add.models import BATCH, AdditionInference

Corruption = Callable[[Tensor, float, torch.Generator], Tensor]
"""Such as :func:`learn2add.corruptions.noisy` or ``occluded``: pictures, strength, generator."""


class Redrawn(NamedTuple):
    """How corrupted pictures are redrawn, measured against the clean ones."""

    strength: float
    mse: float
    """Squared error per pixel, mean over all pictures and pixels."""
    psnr: float
    """Peak signal-to-noise ratio in dB: -10 log10 of a picture's squared error per pixel, mean
    over the pictures. (Of the mean error it would be lower: hard pictures count for more there.)"""
    accuracy: float
    """Share of the redrawn pictures in which the judge reads the digit."""

    @property
    def rmse(self) -> float:
        """Root of ``mse``, in grey levels."""
        return self.mse**0.5


@torch.no_grad()
def redrawn(
    model: nn.Module | None,
    judge: Judge,
    digits: Digits,
    corrupt: Corruption,
    strengths: Sequence[float],
    *,
    seed: int = 0,
) -> list[Redrawn]:
    """Corrupt the digits at each strength, redraw them, and compare with the clean ones.

    Args:
        model: With ``encoder`` and ``decoder``; None compares the corrupted pictures themselves.
        judge: Reads the pictures.
        digits: On the model's device.
        corrupt: Corrupts a batch.
        strengths: From weak to strong.
        seed: Decides the corruption, the same for every model.

    Returns:
        One entry per strength.
    """
    draw = corrupt if model is None else then_redrawn(corrupt, model)
    found = []
    for strength in strengths:
        generator = torch.Generator(digits.images.device).manual_seed(seed)
        errors, right = [], []
        for images, labels in zip(
            digits.images.split(BATCH), digits.labels.split(BATCH), strict=True
        ):
            x = as_float(images)
            drawn = draw(x, strength, generator)
            errors.append((drawn - x).double().square().mean((1, 2, 3)))
            right.append(judge.read(drawn.clamp(0, 1)).argmax(1) == labels)
        error = torch.cat(errors)
        psnr = float((-10 * error.clamp(min=1e-10).log10()).mean())
        share = float(torch.cat(right).double().mean())
        found.append(Redrawn(float(strength), float(error.mean()), psnr, share))
    return found


def then_redrawn(corrupt: Corruption, model: nn.Module) -> Corruption:
    """A corruption followed by redrawing: what another model is shown if this one cleans first.

    Args:
        corrupt: Corrupts a batch.
        model: With ``encoder`` and ``decoder``.
    """

    @torch.no_grad()
    def both(x: Tensor, strength: float, generator: torch.Generator) -> Tensor:
        return model.decoder(model.encoder(corrupt(x, strength, generator)))

    return both


def sums_despite(
    model: AdditionInference,
    judge: Judge,
    digits: Digits,
    corrupt: Corruption,
    strengths: Sequence[float],
    *,
    seed: int = 0,
) -> list[Interval]:
    """Right sums, mean over the 55 cells, drawn from pictures corrupted at each strength.

    Args:
        model: Draws sums.
        judge: Reads them.
        digits: On the model's device; corrupted, they are rounded to 8 bits again.
        corrupt: Corrupts a batch.
        strengths: From weak to strong.
        seed: Decides the corruption, the same for every model.

    Returns:
        Share of right sums with its 95 % interval, one per strength.
    """
    found = []
    for strength in strengths:
        generator = torch.Generator(digits.images.device).manual_seed(seed)
        parts = [
            corrupt(as_float(part), strength, generator) for part in digits.images.split(BATCH)
        ]
        images = (255 * torch.cat(parts)[:, 0].clamp(0, 1)).round().byte()
        seen = replace(digits, images=images)
        sums = summarise(judge_sums(model, judge, seen), seen)
        found.append(Interval(sums["cells_mean"], *sums["cells_mean_interval"]))
    return found
