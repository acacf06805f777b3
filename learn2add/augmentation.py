"""Changes of training pictures that leave the digit what it is."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def shifted(images: Tensor, pixels: int, generator: torch.Generator) -> Tensor:
    """Move each picture by up to ``pixels`` up or down and left or right, each way as likely.

    Args:
        images: uint8 ``[B, S, S]``; what is moved in is background, 0.
        pixels: Largest shift; 0 returns the pictures as they are.
        generator: Decides the shifts; on the pictures' device.

    Returns:
        uint8 ``[B, S, S]``.
    """
    if pixels == 0:
        return images
    count, side, _ = images.shape
    padded = F.pad(images, (pixels,) * 4)
    corner = torch.randint(2 * pixels + 1, (2, count, 1), generator=generator, device=images.device)
    rows, columns = corner + torch.arange(side, device=images.device)  # each [B, S]
    picture = torch.arange(count, device=images.device)[:, None, None]
    return padded[picture, rows[:, :, None], columns[:, None, :]]


def warped(images: Tensor, amounts: Tensor, wobble: Tensor | None = None) -> Tensor:
    """Turn, slant, scale and move pictures, each by its own amounts.

    Args:
        images: Float ``[B, 1, S, S]``; they span -1 to 1 each way.
        amounts: Float ``[6, B]``: angle in radians, slant, scale across, scale along, and how far
            it moves across and along.
        wobble: Further displacements of single pixels, float ``[B, S, S, 2]``.

    Returns:
        Float ``[B, 1, S, S]``, interpolated between pixels; what is moved in is 0.
    """
    turn, slant, wide, high, right, down = amounts
    across = torch.stack([wide * turn.cos(), slant - turn.sin(), right], dim=1)
    along = torch.stack([turn.sin(), high * turn.cos(), down], dim=1)
    affine = torch.stack([across, along], dim=1)  # [B, 2, 3]
    grid = F.affine_grid(affine, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid if wobble is None else grid + wobble, align_corners=False)


TURN, STRETCH, MOVE, WOBBLE = math.radians(3), 0.03, 0.15, 0.3
"""Standard deviations of a deformation of strength 1: radians; shares of the side, for scales and
slant; pixels; and pixels for the wobble of each point of a 5 x 5 net."""


def deformed(images: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Turn, scale, slant, move and wobble each picture by small normal amounts of its own.

    Args:
        images: uint8 ``[B, S, S]``.
        strength: Factor on the amounts; 0 returns the pictures as they are.
        generator: Decides the amounts; on the pictures' device.

    Returns:
        uint8 ``[B, S, S]``, interpolated between pixels.

    Source: P. Simard, D. Steinkraus and J. Platt, ICDAR 2003, for the wobble.
    """
    if strength == 0:
        return images
    count, side, _ = images.shape
    options = {"generator": generator, "device": images.device}
    turn, wide, high, slant, right, down = strength * torch.randn(6, count, **options)
    pixel = 2 / side  # the picture spans -1 to 1
    wide, high, slant = 1 + STRETCH * wide, 1 + STRETCH * high, STRETCH * slant
    right, down = MOVE * pixel * right, MOVE * pixel * down
    amounts = torch.stack([TURN * turn, slant, wide, high, right, down])
    net = WOBBLE * pixel * strength * torch.randn(count, 2, 5, 5, **options)
    wobble = F.interpolate(net, (side, side), mode="bicubic", align_corners=True)
    moved = warped(images[:, None].float(), amounts, wobble.permute(0, 2, 3, 1))
    return moved[:, 0].round().byte()
