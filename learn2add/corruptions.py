"""Corrupted pictures: noise and occlusion.

The corruptions work on whole batches on the pictures' device; an explicit generator decides them.
Sources: reports 002 (section 4) and 003 (sections 4.1 and 4.2).
"""

import torch
from torch import Tensor

from learn2add.checks import check_finite, check_images


def noisy(
    x: Tensor, sigma: float | Tensor, generator: torch.Generator, *, clip: bool = True
) -> Tensor:
    """Add normal noise to every pixel.

    Args:
        x: Pictures, float32 ``[B, 1, S, S]`` in [0, 1].
        sigma: Standard deviation in grey levels, 0 or more; a number, or one per picture ``[B]``.
        generator: Decides the noise; on the pictures' device.
        clip: Whether the result is clipped to [0, 1], as report 003 does. Report 002 adds
            ``noise_factor`` (0 to 1) times the noise and does not clip.

    Returns:
        float32 ``[B, 1, S, S]``.

    Raises:
        ValueError: A standard deviation is negative or not finite.
    """
    check_images("x", x)
    noisy = _with_noise(x, _per_picture("sigma", sigma, x), generator)
    return noisy.clamp(0, 1) if clip else noisy


def occluded(x: Tensor, side: int | Tensor, generator: torch.Generator) -> Tensor:
    """Black a square out of each picture, at a random place that lies wholly within it.

    Args:
        x: Pictures, float32 ``[B, 1, S, S]`` in [0, 1].
        side: Of the square in pixels, 0 to S; a whole number, or one per picture ``[B]``.
        generator: Decides the places; on the pictures' device.

    Returns:
        float32 ``[B, 1, S, S]``.

    Raises:
        ValueError: A side is negative, not whole or longer than the picture's.
    """
    check_images("x", x)
    side, size = _per_picture("side", side, x), x.shape[-1]
    if bool((side > size).any() | (side != side.floor()).any()):
        raise ValueError(f"side must be whole numbers from 0 to {size}, the side of the pictures")
    return _without_square(x, side, generator)


def corrupted(x: Tensor, noise: float, occlude: int, generator: torch.Generator) -> Tensor:
    """Corrupt each picture by an amount of its own, as denoising models are trained.

    Args:
        x: Pictures, float32 ``[B, 1, S, S]`` in [0, 1].
        noise: Largest standard deviation of the noise; each picture's is drawn evenly from 0 on.
        occlude: Largest side of the black square; each picture's is drawn evenly from 0 on.
        generator: Decides everything; on the pictures' device.

    Returns:
        float32 ``[B, 1, S, S]`` in [0, 1]; ``x`` itself where both are 0.
    """
    count, options = len(x), {"generator": generator, "device": x.device}
    if occlude:
        x = _without_square(x, torch.randint(occlude + 1, (count,), **options), generator)
    if noise:
        x = _with_noise(x, noise * torch.rand(count, **options), generator).clamp(0, 1)
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


def _per_picture(name: str, amount: float | Tensor, x: Tensor) -> Tensor:
    """One amount for each picture, float32 ``[B]``, none of them negative."""
    check_finite(name, amount)
    amounts = torch.as_tensor(amount, dtype=torch.float32, device=x.device)
    if amounts.ndim > 1 or (amounts.ndim == 1 and len(amounts) != len(x)):
        raise ValueError(
            f"{name} must be one number or one per picture [{len(x)}], not {list(amounts.shape)}"
        )
    if bool((amounts < 0).any()):
        raise ValueError(f"{name} must be 0 or more, not {float(amounts.min()):g}")
    return amounts.expand(len(x))
