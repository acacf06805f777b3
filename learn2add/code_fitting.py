"""Finding the codes of pictures by gradient descent, the weights of the decoder fixed.

Source: report 004, section 1.3.1.
"""

import contextlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from learn2add.checks import check_choice, check_finite, check_images, check_int
from learn2add.code_distributions import Family, family_of
from learn2add.data import as_float
from learn2add.decoders import Decoder
from learn2add.hardware import default_precision
from learn2add.objectives import picture_losses

STARTS = ("zero", "mean", "prior")
FIT_BATCH = 250
"""Pictures whose codes are found at once."""


class Found(NamedTuple):
    """Codes found for pictures, the weights of the decoder fixed."""

    rows: Tensor
    """``[N, parts, code_size]``."""
    z: Tensor
    """Mean codes ``[N, code_size]``."""
    mse: Tensor
    """Squared error per pixel of each picture drawn at its mean code, ``[N]``."""
    curve: Tensor
    """Loss after 0, 1, ... steps, mean over the pictures: ``[steps + 1]``."""


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode inside, each part's own mode again outside."""
    modes = [(part, part.training) for part in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for part, mode in modes:
            part.training = mode


def starting_rows(
    name: str,
    family: Family,
    count: int,
    means: Tensor,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Rows to start from: ``[count, parts, code_size]``.

    Args:
        name: "zero" (the code 0, or the nearest that the family has), "mean" (the mean of all
            training codes, whatever their class) or "prior" (a draw of the prior for each).
        family: What the rows mean.
        count: How many.
        means: Codes of the training pictures, ``[M, C]``.
        generator: For "prior"; default: one with seed 0.

    Raises:
        ValueError: There is no such start.
    """
    check_choice("start", name, STARTS)
    shape = (count, means.shape[1])
    if name == "zero":
        return family.at(means.new_zeros(shape))
    if name == "mean":
        return family.at(means.mean(0).expand(shape))
    generator = generator or torch.Generator(means.device).manual_seed(0)
    return family.at(family.prior(*shape, generator))


def find_codes(
    decoder: Decoder,
    family: str | Family,
    images: Tensor,
    *,
    means: Tensor,
    start: str | Sequence[str] | Tensor = "mean",
    steps: int = 100,
    learning_rate: float = 1e-2,
    loss: str = "bce",
    kl: float = 0.0,
    generator: torch.Generator | None = None,
    batch_size: int = FIT_BATCH,
) -> Found:
    """Find codes of pictures by Adam, the decoder's weights and statistics fixed.

    Every picture has its own loss and its own moments, so its code depends on its own pixels alone,
    not on the pictures beside it.

    Args:
        decoder: Draws codes; it is used in evaluation mode and comes back in its own.
        family: What is found, "point", "gaussian", "exponential" or "uniform".
        images: Pictures uint8 ``[N, S, S]``, or float ``[N, 1, S, S]`` in [0, 1], on the decoder's
            device.
        means: Codes of the training pictures ``[M, C]``: what "mean" is the mean of.
        start: One of "zero", "mean", "prior"; or several, of which each picture takes the one with
            the least loss before the first step; or rows ``[N, parts, C]`` to go on from.
        steps: Adam's steps; 0 only measures the start. The report's are 100.
        learning_rate: Adam's; the report's is 0.01.
        loss: "bce" or "l2".
        kl: Weight of the divergence from the prior. With 0 (the report's "further fitting") the
            mean is drawn, otherwise a sample.
        generator: For starts and samples; default: one with seed 0.
        batch_size: Pictures at once; a matter of memory.

    Raises:
        TypeError: ``images`` or a number is of the wrong kind.
        ValueError: Shapes do not fit, or an argument is not allowed.
    """
    family = family_of(family) if isinstance(family, str) else family
    check_int("steps", steps, 0)
    check_int("batch_size", batch_size, 1)
    check_choice("loss", loss, ("bce", "l2"))
    for name, value in (("learning_rate", learning_rate), ("kl", kl)):
        check_finite(name, value)
        if value < 0:
            raise ValueError(f"{name} is {value}; allowed is 0 or more")
    x, size = _as_pictures(images), decoder.code_size
    if means.dim() != 2 or means.shape[1] != size:
        raise ValueError(f"means has shape {list(means.shape)}; allowed is [M, {size}]")
    generator = generator or torch.Generator(x.device).manual_seed(0)
    with evaluating(decoder), torch.enable_grad(), _fast(x.device):
        rows = _start(decoder, family, x, means, start, loss, generator)
        fit = _Fit(decoder, family, loss, kl, learning_rate, steps)
        parts = [
            fit.run(*pair, generator)
            for pair in zip(x.split(batch_size), rows.split(batch_size), strict=True)
        ]
    found, curves = (torch.cat([part[i] for part in parts]) for i in (0, 1))
    with torch.no_grad(), evaluating(decoder):
        z = family.mean(found)
        drawn = torch.cat([decoder(part) for part in z.split(batch_size)])
        mse = (drawn - x).square().mean((1, 2, 3))
    return Found(found, z, mse, curves.mean(0))


class _Fit:
    """Adam on rows, for one batch of pictures after another."""

    def __init__(
        self, decoder: Decoder, family: Family, loss: str, kl: float, rate: float, steps: int
    ) -> None:
        self.decoder, self.family, self.loss = decoder, family, loss
        self.kl, self.rate, self.steps = kl, rate, steps

    def run(self, x: Tensor, start: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Rows ``[B, parts, C]`` found for pictures, and the losses ``[B, steps + 1]``."""
        rows = start.detach().clone().requires_grad_()
        adam = torch.optim.Adam([rows], self.rate)
        losses = []
        for _ in range(self.steps):
            loss = self.losses(x, rows, generator)
            # Of the rows alone: the weights do not even get a gradient.
            (rows.grad,) = torch.autograd.grad(loss.sum(), [rows])
            adam.step()
            losses.append(loss.detach())
        with torch.no_grad():
            losses.append(self.losses(x, rows, generator))
        return rows.detach(), torch.stack(losses, 1)

    def losses(self, x: Tensor, rows: Tensor, generator: torch.Generator) -> Tensor:
        """The loss of each picture, ``[B]``."""
        if not self.kl:
            return picture_losses(self.loss, self.decoder.logits(self.family.mean(rows)), x)
        noise = self.family.noise(rows[:, 0].shape, generator)
        drawn = self.decoder.logits(self.family.sample(rows, noise))
        return picture_losses(self.loss, drawn, x) + self.kl * self.family.kl(rows)


def _as_pictures(images: Tensor) -> Tensor:
    if isinstance(images, Tensor) and images.dtype == torch.uint8:
        return as_float(images)
    check_images("images", images)
    return images


def _fast(device: torch.device) -> torch.autocast:
    """Bfloat16 where the machine multiplies it faster; codes and losses stay float32."""
    enabled = default_precision(device) == "bfloat16"
    return torch.autocast(device.type, torch.bfloat16, enabled=enabled)


def _start(
    decoder: Decoder,
    family: Family,
    x: Tensor,
    means: Tensor,
    start: str | Sequence[str] | Tensor,
    loss: str,
    generator: torch.Generator,
) -> Tensor:
    """The rows that the search begins with."""
    shape = (len(x), family.parts, decoder.code_size)
    if isinstance(start, Tensor):
        if start.shape != shape:
            raise ValueError(f"start has shape {list(start.shape)}; allowed is {list(shape)}")
        return start
    names = [start] if isinstance(start, str) else list(start)
    if not names:
        raise ValueError(f"start is empty; allowed are one or more of {STARTS}")
    candidates = [starting_rows(name, family, len(x), means, generator) for name in names]
    if len(candidates) == 1:
        return candidates[0]
    with torch.no_grad():
        losses = [
            torch.cat(
                [
                    picture_losses(loss, decoder.logits(family.mean(part)), seen)
                    for part, seen in zip(rows.split(FIT_BATCH), x.split(FIT_BATCH), strict=True)
                ]
            )
            for rows in candidates
        ]
    best = torch.stack(losses).argmin(0)
    return torch.stack(candidates)[best, torch.arange(len(x), device=x.device)]
