"""Auto-decoders: a decoder and a table of codes, and no encoder (notebook 10).

The code of a training image is learned with the weights. The code of a new image is *found*, by
gradient descent on the code alone, the weights fixed. A row of the table is a point (an
auto-decoder, AD) or the parameters of a distribution over codes (a variational one, VAD).

Source: report 004, section 1.3; A. Zadeh et al., arXiv 1903.00840; J. J. Park et al., arXiv
1901.05103 (where the name comes from).
"""

import contextlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from learn2add.checks import check_choice, check_int, check_number
from learn2add.data import as_float, in_batches
from learn2add.hardware import default_precision
from learn2add.losses import gaussian_kl_of_numbers, image_losses
from learn2add.network import LOGVAR_RANGE, Adder, Decoder, Gaussian, check_shape, in_float32


class DecoderDCGAN(Decoder):
    """D of report 004, after DCGAN's generator: three doublings, then a cut to 28 x 28.

    The report leaves open how wide the third doubling is. Its sigmoid is times 255; here grey
    levels are 0 to 1. Batch normalisation looks at the other images of the batch in training mode,
    at none of them in evaluation mode. An image takes about 0.27 GFLOP, eight times as much as the
    assignment's first decoder, and three times that with both gradients.

    Source: report 004, section 1.3.1; A. Radford et al., arXiv 1511.06434.
    """

    def __init__(self, code_size: int = 128, image_size: int = 28) -> None:
        nn.Module.__init__(self)
        self.code_size = check_int("code_size", code_size, 1, 128)
        self.image_size = check_choice("image_size", image_size, (28,))
        self.expand = nn.Linear(code_size, 512 * 4 * 4)
        self.layers = nn.Sequential(
            nn.Unflatten(1, (512, 4, 4)),
            *doubling(512, 256),  # [B, 256, 8, 8]
            *doubling(256, 128),  # [B, 128, 16, 16]
            *doubling(128, 128),  # [B, 128, 32, 32]
            nn.ConvTranspose2d(128, 1, 1),
            nn.ConvTranspose2d(1, 1, 1, padding=2),  # [B, 1, 28, 28]
        )

    def logits(self, z: Tensor) -> Tensor:
        """Decode codes ``[B, code_size]`` to pixel logits ``[B, 1, 28, 28]``."""
        check_shape("z", z, self.code_size)
        return self.layers(in_float32(self.expand, z))


def doubling(inputs: int, outputs: int) -> list[nn.Module]:
    """Return the layers that double the side of maps."""
    convolution = nn.ConvTranspose2d(inputs, outputs, 4, stride=2, padding=1, bias=False)
    return [convolution, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]


# What a row of the table means. Each prior has mean square about 1 per dimension, so that a decoder
# meets codes of like size: N(0, 1), Exp(1), U(-sqrt 3, sqrt 3).

HALF_WIDTH = math.sqrt(3)
"""The uniform prior reaches so far to both sides: variance 1."""
START_SPREAD = 0.01
"""Standard deviation of the first means. Small: a code that starts at random is learned by heart
where it lies; codes that start together part as their images do."""
START_SIGMA = 0.3
"""Standard deviation of codes before training; 1, the prior's, would drown the means."""


class Family:
    """A family of distributions: rows ``[B, parts, C]`` of a table, codes ``[B, C]``."""

    start: tuple[float, ...] = (0.0,)
    """Before training: one number for each part of a row, the first of them that of the mean."""
    sampled: bool = True
    """Whether a row has more than one code."""

    @property
    def parts(self) -> int:
        """How many numbers a row has per dimension of the code."""
        return len(self.start)

    def neutral(self, count: int, code_size: int) -> Tensor:
        """Return rows that say nothing of an image yet, all alike: ``[count, parts, C]``."""
        return torch.tensor(self.start)[:, None].repeat(count, 1, code_size)

    def initial(self, count: int, code_size: int) -> Tensor:
        """Return rows before training, each different, drawn from torch's own generator."""
        rows = self.neutral(count, code_size)
        rows[:, 0] += START_SPREAD * torch.randn(count, code_size)
        return rows

    def mean(self, rows: Tensor) -> Tensor:
        """Return the mean code of each row."""
        return rows[:, 0]

    def noise(self, count: int, code_size: int, generator: torch.Generator) -> Tensor:
        """Return the random numbers ``[count, C]`` that :meth:`sample` needs."""
        return torch.randn(count, code_size, generator=generator, device=generator.device)

    def sample(self, rows: Tensor, noise: Tensor) -> Tensor:
        """Return a code for each row, made of the noise so that gradients reach the row."""
        raise NotImplementedError

    def kl(self, rows: Tensor) -> Tensor:
        """Return KL(the row's distribution || the prior), summed over dimensions: nats ``[B]``."""
        raise NotImplementedError

    def prior(self, count: int, code_size: int, generator: torch.Generator) -> Tensor:
        """Return codes drawn from the prior: ``[count, C]``."""
        return self.noise(count, code_size, generator)

    def at(self, codes: Tensor) -> Tensor:
        """Return rows whose mean is ``codes`` as nearly as can be, else as before training."""
        rows = self.neutral(*codes.shape).to(codes)
        rows[:, 0] = codes
        return rows


class PointCodes(Family):
    """The code itself; nothing is sampled and nothing holds it near a prior."""

    sampled = False

    def sample(self, rows: Tensor, noise: Tensor) -> Tensor:
        """Return the code."""
        return rows[:, 0]

    def kl(self, rows: Tensor) -> Tensor:
        """Return 0: a point has no divergence, and none is asked for."""
        return rows.new_zeros(len(rows))


class GaussianCodes(Family):
    """``mu`` and ``logvar``; prior N(0, I)."""

    start = (0.0, 2 * math.log(START_SIGMA))

    def gaussian(self, rows: Tensor) -> Gaussian:
        """Return the rows as ``mu`` and ``logvar``."""
        return Gaussian(rows[:, 0], rows[:, 1].clamp(*LOGVAR_RANGE))

    def sample(self, rows: Tensor, noise: Tensor) -> Tensor:
        """Return ``mu + sigma * noise``."""
        return self.gaussian(rows).sample(noise)

    def kl(self, rows: Tensor) -> Tensor:
        """Return ``(mu^2 + sigma^2 - 1 - ln sigma^2) / 2``, summed."""
        return gaussian_kl_of_numbers(*self.gaussian(rows)).sum(1)


class ExponentialCodes(Family):
    """``k``, the logarithm of the rate; prior Exp(1).

    The standard deviation of an exponential distribution *is* its mean, so such a code can be large
    or small, but never certain.
    """

    def mean(self, rows: Tensor) -> Tensor:
        """Return ``1 / rate``."""
        return torch.exp(-rows[:, 0].clamp(*LOGVAR_RANGE))

    def noise(self, count: int, code_size: int, generator: torch.Generator) -> Tensor:
        """Return exponential numbers of rate 1, ``-ln u``."""
        drawn = torch.empty(count, code_size, device=generator.device)
        return drawn.exponential_(generator=generator)

    def sample(self, rows: Tensor, noise: Tensor) -> Tensor:
        """Return ``noise / rate``; the report's ``-ln(u) / rate``."""
        return self.mean(rows) * noise

    def kl(self, rows: Tensor) -> Tensor:
        """Return ``k + exp(-k) - 1``, summed."""
        k = rows[:, 0].clamp(*LOGVAR_RANGE)
        return (k + torch.exp(-k) - 1).sum(1)

    def at(self, codes: Tensor) -> Tensor:
        """Return rates ``1 / codes``; no exponential has a mean of 0, so 0.01 is the least."""
        return -codes.clamp(min=0.01).log()[:, None]


class UniformCodes(Family):
    """A centre and a width within the prior, U(-sqrt 3, sqrt 3); two free numbers for each.

    An interval that left the prior's would have an infinite divergence, so none can: the half width
    is ``sqrt 3 * sigmoid(b)``, the centre ``tanh(a)`` times the room that is left.
    """

    start = (0.0, math.log(START_SIGMA / (1 - START_SIGMA)))

    def interval(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return centre and half width, each ``[B, C]``."""
        half = HALF_WIDTH * torch.sigmoid(rows[:, 1].clamp(*LOGVAR_RANGE))
        return (HALF_WIDTH - half) * torch.tanh(rows[:, 0]), half

    def mean(self, rows: Tensor) -> Tensor:
        """Return the centre."""
        return self.interval(rows)[0]

    def noise(self, count: int, code_size: int, generator: torch.Generator) -> Tensor:
        """Return numbers from -1 to 1."""
        drawn = torch.rand(count, code_size, generator=generator, device=generator.device)
        return 2 * drawn - 1

    def sample(self, rows: Tensor, noise: Tensor) -> Tensor:
        """Return ``centre + half width * noise``."""
        centre, half = self.interval(rows)
        return centre + half * noise

    def kl(self, rows: Tensor) -> Tensor:
        """Return ``ln(prior's width / width)``, summed."""
        return -F.logsigmoid(rows[:, 1].clamp(*LOGVAR_RANGE)).sum(1)

    def prior(self, count: int, code_size: int, generator: torch.Generator) -> Tensor:
        """Return numbers from -sqrt 3 to sqrt 3."""
        return HALF_WIDTH * self.noise(count, code_size, generator)

    def at(self, codes: Tensor) -> Tensor:
        """Return centres as near to the codes as the width before training lets them be."""
        room = HALF_WIDTH * (1 - START_SIGMA)
        return super().at(torch.atanh((codes / room).clamp(-0.99, 0.99)))


FAMILIES: dict[str, Family] = {
    "point": PointCodes(),
    "gaussian": GaussianCodes(),
    "exponential": ExponentialCodes(),
    "uniform": UniformCodes(),
}


class CodeTable(nn.Module):
    """One row for each of ``count`` training images, learned with the decoder.

    Only the rows of the images in a batch have a gradient, and it is a sparse one; see
    :class:`learn2add.studies.auto_decoder_training.CodeAdam`.
    """

    def __init__(self, count: int, code_size: int, family: Family) -> None:
        super().__init__()
        self.family, self.code_size = family, code_size
        rows = family.initial(count, code_size).flatten(1)
        self.rows = nn.Embedding(*rows.shape, sparse=True, _weight=rows)

    def forward(self, at: Tensor) -> Tensor:
        """Return the rows of images ``at``, int64 ``[B]``: ``[B, parts, code_size]``."""
        return self.rows(at).unflatten(1, (self.family.parts, self.code_size))

    def means(self) -> Tensor:
        """Return the mean code of every image, ``[count, code_size]``, without gradient."""
        rows = self.rows.weight.detach()
        return self.family.mean(rows.unflatten(1, (self.family.parts, self.code_size)))

    def __len__(self) -> int:
        return self.rows.num_embeddings


class Found(NamedTuple):
    """Codes found for images, the weights of the decoder fixed."""

    rows: Tensor
    """``[N, parts, C]``."""
    z: Tensor
    """Mean codes ``[N, C]``."""
    mse: Tensor
    """Squared error per pixel of each image drawn at its mean code, ``[N]``."""
    curve: Tensor
    """Loss after 0, 1, ... steps, mean over the images: ``[steps + 1]``."""

    @property
    def rmse(self) -> float:
        """Root of the mean of ``mse``, in grey levels of 0 to 1."""
        return float(self.mse.double().mean().sqrt())


STARTS = ("zero", "mean", "prior")
FIT_BATCH = 250
"""Images whose codes are found at once: a matter of memory."""


def find_codes(
    decoder: Decoder,
    family: Family,
    images: Tensor,
    *,
    means: Tensor,
    start: str | Sequence[str] | Tensor = "mean",
    steps: int = 100,
    learning_rate: float = 1e-2,
    loss: str = "bce",
    kl: float = 0.0,
) -> Found:
    """Find codes of images by Adam, the decoder's weights and statistics fixed.

    Every image has its own loss and its own moments, so its code depends on its own pixels alone,
    not on the images beside it.

    Args:
        decoder: Draws codes; it is used in evaluation mode and comes back in its own.
        family: What is found.
        images: uint8 ``[N, S, S]``, or float ``[N, 1, S, S]`` in [0, 1], on the decoder's device.
        means: Codes of the training images ``[M, C]``.
        start: "zero" (the code 0, or the nearest that the family has), "mean" (the mean of all
            training codes, whatever their class) or "prior" (a draw of the prior for each); or
            several, of which each image takes the one with the least loss before the first step; or
            rows ``[N, parts, C]`` to go on from.
        steps: Adam's; 0 only measures the start. The report's are 100.
        learning_rate: Adam's; the report's is 0.01.
        loss: "bce" or "l2".
        kl: Weight of the divergence from the prior. With 0 (the report's "further fitting") the
            mean is drawn, otherwise a sample.

    Source: report 004, section 1.3.1.
    """
    check_int("steps", steps, 0)
    check_number("learning_rate", learning_rate, 0.0, 1e3)
    check_number("kl", kl, 0.0, 1e12)
    x, side = as_float(images) if images.dtype == torch.uint8 else images, decoder.image_size
    check_shape("images", x, 1, side, side)
    check_shape("means", means, decoder.code_size)
    generator = torch.Generator(x.device).manual_seed(0)
    search = Search(decoder, family, loss, kl, learning_rate, steps, generator)
    with evaluating(decoder):
        with torch.enable_grad(), fast(x.device):
            parts = zip(
                x.split(FIT_BATCH),
                *(rows.split(FIT_BATCH) for rows in search.starts(start, means, len(x))),
                strict=True,
            )
            found = [search.run(part, search.best(part, starts)) for part, *starts in parts]
        rows, losses = (torch.cat(each) for each in zip(*found, strict=True))
        z = family.mean(rows)
        mse = (in_batches(decoder, z, FIT_BATCH) - x).square().mean((1, 2, 3))
    return Found(rows, z, mse, losses.mean(0))


@dataclass
class Search:
    """The arguments of :func:`find_codes` that hold for all batches of images."""

    decoder: Decoder
    family: Family
    loss: str
    kl: float
    learning_rate: float
    steps: int
    generator: torch.Generator

    def starts(
        self, start: str | Sequence[str] | Tensor, means: Tensor, count: int
    ) -> list[Tensor]:
        """Return the rows to start from, ``[count, parts, C]``: those of each start named."""
        if isinstance(start, Tensor):
            check_shape("start", start, self.family.parts, means.shape[1])
            return [start]
        names = [start] if isinstance(start, str) else list(start)
        if not names:
            raise ValueError(f"start is {start}; allowed is one or more of {STARTS}")
        shape = (count, means.shape[1])
        codes = {
            "zero": lambda: means.new_zeros(shape),
            "mean": lambda: means.mean(0).expand(shape),
            "prior": lambda: self.family.prior(*shape, self.generator),
        }
        return [self.family.at(codes[check_choice("start", name, STARTS)]()) for name in names]

    def best(self, x: Tensor, starts: list[Tensor]) -> Tensor:
        """Return for each image the rows ``[B, parts, C]`` whose mean draws it best."""
        if len(starts) == 1:
            return starts[0]
        with torch.no_grad():
            logits = [self.decoder.logits(self.family.mean(rows)) for rows in starts]
        best = torch.stack([image_losses(self.loss, each, x) for each in logits]).argmin(0)
        return torch.stack(starts)[best, torch.arange(len(x), device=x.device)]

    def run(self, x: Tensor, start: Tensor) -> tuple[Tensor, Tensor]:
        """Return the rows ``[B, parts, C]`` found for images, and losses ``[B, steps + 1]``."""
        rows = start.detach().clone().requires_grad_()
        adam = torch.optim.Adam([rows], self.learning_rate)
        losses = []
        for _ in range(self.steps):
            loss = self.losses(x, rows)
            # Of the rows alone: the weights do not even get a gradient.
            (rows.grad,) = torch.autograd.grad(loss.sum(), [rows])
            adam.step()
            losses.append(loss.detach())
        with torch.no_grad():
            losses.append(self.losses(x, rows))
        return rows.detach(), torch.stack(losses, 1)

    def losses(self, x: Tensor, rows: Tensor) -> Tensor:
        """Return the loss of each image, ``[B]``."""
        if not self.kl:
            return image_losses(self.loss, self.decoder.logits(self.family.mean(rows)), x)
        noise = self.family.noise(len(rows), rows.shape[2], self.generator)
        logits = self.decoder.logits(self.family.sample(rows, noise))
        return image_losses(self.loss, logits, x) + self.kl * self.family.kl(rows)


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Set evaluation mode inside, each part's own mode again outside."""
    modes = [(part, part.training) for part in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for part, mode in modes:
            part.training = mode


def fast(device: torch.device) -> torch.autocast:
    """Return bfloat16 where the machine multiplies it faster; codes and losses stay float32."""
    enabled = default_precision(device) == "bfloat16"
    return torch.autocast(device.type, torch.bfloat16, enabled=enabled)


class AutoDecoder(nn.Module):
    """D, a row of the table for each training image, and perhaps an adder on codes."""

    def __init__(self, codes: CodeTable, decoder: Decoder, adder: Adder | None = None) -> None:
        super().__init__()
        self.codes, self.decoder, self.adder = codes, decoder, adder

    def forward(self, at: Tensor) -> Tensor:
        """Draw training images ``at``, int64 ``[B]``, at their means: ``[B, 1, S, S]``."""
        return self.decoder(self.family.mean(self.codes(at)))

    @property
    def family(self) -> Family:
        """What a row of the table means."""
        return self.codes.family

    def find(self, images: Tensor, **options: Any) -> Found:
        """Call :func:`find_codes` for this decoder and its training codes."""
        return find_codes(self.decoder, self.family, images, means=self.codes.means(), **options)

    @property
    def encoder(self) -> "FittedEncoder":
        """What stands where other models have an encoder: a search for every image."""
        return FittedEncoder(self)


class FittedEncoder(nn.Module):
    """Image -> code by ``model.find``: slow, and without weights of its own.

    So an auto-decoder can be measured by whatever encodes and decodes, and can add:
    ``AdditionModel(FittedEncoder(model, steps=50), model.adder, model.decoder)``. Codes are found
    as they were trained, those of distributions with their divergence from the prior; ``options``
    are others of :func:`find_codes`.
    """

    def __init__(self, model: AutoDecoder, **options: Any) -> None:
        super().__init__()
        self.model = model
        self.options = {"kl": float(model.family.sampled)} | options

    def forward(self, x: Tensor) -> Tensor:
        """Find the codes of images float ``[B, 1, S, S]`` in [0, 1]: ``[B, code_size]``."""
        return self.model.find(x, **self.options).z
