"""Changes of training pictures that leave the digit what it is."""

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
