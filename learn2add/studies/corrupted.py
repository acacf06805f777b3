"""Corrupted images (notebook 6): noise and occlusion, redrawing and adding in spite of them.

The corruptions work on whole batches on the images' device; an explicit generator decides them.
Sources: reports 002 (section 4) and 003 (sections 4.1 and 4.2).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn

from learn2add.checks import check_number
from learn2add.config import RunConfig, Stage
from learn2add.data import BATCH, Digits, as_float, check_images
from learn2add.judge import Judge
from learn2add.measures import ImageErrors, Interval, judge_sums, squared_errors, summarise
from learn2add.steps import AutoencoderStep, deformed, shifted

Corruption = Callable[[Tensor, float, torch.Generator], Tensor]
"""Such as :func:`noisy` or :func:`occluded`: images, strength, generator."""


def noisy(
    x: Tensor, sigma: float | Tensor, generator: torch.Generator, *, clip: bool = True
) -> Tensor:
    """Add normal noise to every pixel.

    Args:
        x: Images, float32 ``[B, 1, S, S]`` in [0, 1].
        sigma: Standard deviation in grey levels, 0 or more; a number, or one per image ``[B]``.
        generator: Decides the noise.
        clip: Whether the result is clipped to [0, 1], as report 003 does. Report 002 adds
            ``noise_factor`` (0 to 1) times the noise and does not clip.
    """
    check_images("x", x)
    noisy = _with_noise(x, _per_image("sigma", sigma, x), generator)
    return noisy.clamp(0, 1) if clip else noisy


def occluded(x: Tensor, side: int | Tensor, generator: torch.Generator) -> Tensor:
    """Black a square out of each image, at a random place that lies wholly within it.

    Args:
        x: Images, float32 ``[B, 1, S, S]`` in [0, 1].
        side: Of the square in pixels, 0 to S; a whole number, or one per image ``[B]``.
        generator: Decides the places.
    """
    check_images("x", x)
    side, size = _per_image("side", side, x), x.shape[-1]
    if bool((side > size).any() | (side != side.floor()).any()):
        raise ValueError(f"side is {side.tolist()}; allowed is whole numbers from 0 to {size}")
    return _without_square(x, side, generator)


def corrupted(
    x: Tensor,
    noise: float,
    occlude: int,
    generator: torch.Generator,
    *,
    exact: bool = False,
    clip: bool = True,
) -> Tensor:
    """Corrupt each image by an amount of its own, as denoising models are trained.

    Args:
        x: Images, float32 ``[B, 1, S, S]`` in [0, 1].
        noise: Largest standard deviation of the noise; each image's is drawn evenly from 0 on.
        occlude: Largest side of the black square; each image's is drawn evenly from 0 on.
        generator: Decides everything.
        exact: All images have the largest of both.
        clip: Whether what the noise makes is clipped to [0, 1].
    """
    count, options = len(x), {"generator": generator, "device": x.device}
    if occlude:
        least = occlude if exact else 0
        x = _without_square(x, torch.randint(least, occlude + 1, (count,), **options), generator)
    if noise:
        share = torch.ones(count, device=x.device) if exact else torch.rand(count, **options)
        x = _with_noise(x, noise * share, generator)
        x = x.clamp(0, 1) if clip else x
    return x


# On a GPU the checks of the two functions above wait for the device; a training step must not.
def _with_noise(x: Tensor, sigma: Tensor, generator: torch.Generator) -> Tensor:
    noise = torch.randn(x.shape, generator=generator, device=x.device)
    return x + sigma[:, None, None, None] * noise


def _without_square(x: Tensor, side: Tensor, generator: torch.Generator) -> Tensor:
    size, options = x.shape[-1], {"generator": generator, "device": x.device}
    corner = (torch.rand(2, len(x), **options) * (size - side + 1)).floor()
    line = torch.arange(size, device=x.device)
    rows, columns = ((line >= c[:, None]) & (line < (c + side)[:, None]) for c in corner)
    return x.masked_fill((rows[:, :, None] & columns[:, None, :])[:, None], 0)


def _per_image(name: str, amount: float | Tensor, x: Tensor) -> Tensor:
    """Return one amount for each image, float32 ``[B]``, none of them negative."""
    check_number(name, amount)
    amounts = torch.as_tensor(amount, dtype=torch.float32, device=x.device)
    if amounts.ndim > 1 or (amounts.ndim == 1 and len(amounts) != len(x)):
        raise ValueError(
            f"{name} is of shape {list(amounts.shape)}; allowed is a number or [{len(x)}]"
        )
    if bool((amounts < 0).any()):
        raise ValueError(f"{name} is {float(amounts.min()):g}; allowed is 0 or more")
    return amounts.expand(len(x))


@dataclass(frozen=True)
class CorruptedStage(Stage):
    """The autoencoder's stage, its encoder shown corrupted images, the clean ones to be redrawn."""

    task: Literal["autoencoder"]
    noise: float = 0.0
    """Largest standard deviation of the normal noise on the images shown."""
    occlude: int = 0
    """Side of the largest square that is blacked out of them."""
    distort: float = 0.0
    """Strength of their deformations, which are to be undone. The decoder cannot know how the image
    lay before, so the code has no use for how it lies."""
    exact: bool = False
    """All images have the whole noise and the whole square, not a share drawn for each."""
    clip: bool = True
    """Whether noisy images are clipped to [0, 1]."""

    RANGES: ClassVar[dict[str, tuple[float, float]]] = Stage.RANGES | {
        "noise": (0.0, 10.0),
        "occlude": (0, 28),
        "distort": (0.0, 10.0),
    }


@dataclass(frozen=True)
class CorruptedConfig(RunConfig):
    """A run that learns to redraw the clean images of corrupted ones."""

    def step(
        self, stage: Stage, model: nn.Module, train: Digits, validation: Digits
    ) -> AutoencoderStep:
        """Return what a training step is."""
        return CorruptedStep(model, self, stage, train, validation)

    @classmethod
    def stage_of(cls, fields: dict[str, Any]) -> Stage:
        """Return the stage with these fields."""
        return CorruptedStage(**fields)


class CorruptedStep(AutoencoderStep):
    """Reconstruct the clean images; in validation they are corrupted the same way each time."""

    def shown(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Return what the encoder is shown of images uint8."""
        stage = self.stage
        images = deformed(images, stage.distort, generator)
        # The deformation moves an image little; a digit's place says nothing of what it is.
        images = shifted(images, round(stage.distort / 2), generator)
        how = {"exact": stage.exact, "clip": stage.clip}
        return corrupted(as_float(images), stage.noise, stage.occlude, generator, **how)


class Redrawn(NamedTuple):
    """How corrupted images are redrawn, measured against the clean ones."""

    strength: float
    errors: ImageErrors
    accuracy: float
    """Share of the redrawn images in which the judge reads the digit."""


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

    ``model`` has ``encoder`` and ``decoder``; None compares the corrupted images themselves. The
    digits are on its device; ``seed`` decides the corruption, the same for every model.
    """
    draw = corrupt if model is None else then_redrawn(corrupt, model)
    found = []
    for strength in strengths:
        generator = torch.Generator(digits.images.device).manual_seed(seed)
        errors, right = [], []
        parts = zip(digits.images.split(BATCH), digits.labels.split(BATCH), strict=True)
        for images, labels in parts:
            x = as_float(images)
            drawn = draw(x, strength, generator)
            errors.append(squared_errors(drawn, x))
            right.append(judge.read(drawn.clamp(0, 1)).argmax(1) == labels)
        share = float(torch.cat(right).double().mean())
        found.append(Redrawn(float(strength), ImageErrors.of(torch.cat(errors)), share))
    return found


def then_redrawn(corrupt: Corruption, model: nn.Module) -> Corruption:
    """Return a corruption followed by redrawing: what another model is shown if this one cleans."""

    @torch.no_grad()
    def both(x: Tensor, strength: float, generator: torch.Generator) -> Tensor:
        return model.decoder(model.encoder(corrupt(x, strength, generator)))

    return both


def sums_despite(
    model: nn.Module,
    judge: Judge,
    digits: Digits,
    corrupt: Corruption,
    strengths: Sequence[float],
    *,
    seed: int = 0,
) -> list[Interval]:
    """Return the share of right sums (mean over the 55 cells) of digits corrupted at each strength.

    Corrupted, the digits are rounded to 8 bits again; the arguments are those of :func:`redrawn`.
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
