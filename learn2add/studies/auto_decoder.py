"""Auto-decoders: a decoder and a table of codes, and no encoder (notebook 10).

The code of a training image is learned with the weights. The code of a new image is *found*, by
gradient descent on the code alone, the weights fixed. A row of the table is a point (an
auto-decoder, AD) or the parameters of a distribution over codes (a variational one, VAD).

Source: report 004, section 1.3; A. Zadeh et al., arXiv 1903.00840; J. J. Park et al., arXiv
1901.05103 (where the name comes from).
"""

import contextlib
import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from learn2add.checks import check_choice, check_int, check_number
from learn2add.data import as_float, in_batches
from learn2add.evidence import frechet_distance
from learn2add.hardware import default_precision
from learn2add.judge import Judge
from learn2add.losses import PIXELS, gaussian_kl_of_numbers, image_losses
from learn2add.network import LOGVAR_RANGE, Decoder, Gaussian, check_shape, in_float32


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
"""Standard deviation of codes before training; 1, the prior's, ends with worse images."""


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

    def initial(self, count: int, code_size: int) -> Tensor:
        """Return rows before training, ``[count, parts, C]``, drawn from torch's own generator."""
        rows = torch.tensor(self.start)[:, None].repeat(count, 1, code_size)
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

    def draw(self, rows: Tensor, generator: torch.Generator) -> Tensor:
        """Return a code for each row, ``[B, C]``: a sample where it has more than one."""
        if not self.sampled:
            return self.mean(rows)
        return self.sample(rows, self.noise(len(rows), rows.shape[2], generator))

    def kl(self, rows: Tensor) -> Tensor:
        """Return KL(the row's distribution || the prior), summed over dimensions: nats ``[B]``."""
        raise NotImplementedError

    def prior(self, count: int, code_size: int, generator: torch.Generator) -> Tensor:
        """Return codes drawn from the prior: ``[count, C]``."""
        return self.noise(count, code_size, generator)


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


FAMILIES: dict[str, Family] = {
    "point": PointCodes(),
    "gaussian": GaussianCodes(),
    "exponential": ExponentialCodes(),
    "uniform": UniformCodes(),
}


class CodeLoss:
    """What rows cost: nats of the images, and ``kl`` times the divergence from the prior.

    Called with rows ``[B, parts, C]`` and images ``[B, 1, S, S]`` it returns the loss of each,
    ``[B]``. With a divergence a sample of each code is drawn (``generator``; default: one of seed
    0), without one its mean.
    """

    def __init__(
        self,
        decoder: Decoder,
        family: Family,
        kl: float = 0.0,
        generator: torch.Generator | None = None,
    ) -> None:
        self.decoder, self.family = decoder, family
        self.kl = check_number("kl", kl, 0.0, 1e12)
        device = next(decoder.parameters()).device
        self.generator = generator or torch.Generator(device).manual_seed(0)

    def __call__(self, rows: Tensor, x: Tensor) -> Tensor:
        """Return the loss of each image."""
        family = self.family
        z = family.draw(rows, self.generator) if self.kl else family.mean(rows)
        return image_losses("bce", self.decoder.logits(z), x) + self.kl * family.kl(rows)


class Found(NamedTuple):
    """Rows found for images, the weights of the decoder fixed."""

    rows: Tensor
    """``[N, parts, C]``."""
    curve: Tensor
    """Loss after 0, 1, ... steps, mean over the images: ``[steps + 1]``."""


FIT_BATCH = 250
"""Images whose codes are found at once: a matter of memory."""


def find_codes(
    loss: CodeLoss, images: Tensor, start: Tensor, *, steps: int = 100, learning_rate: float = 1e-2
) -> Found:
    """Find rows of images by Adam, the decoder's weights and statistics fixed.

    Every image has its own loss and its own moments, so its code depends on its own pixels alone,
    not on the images beside it.

    Args:
        loss: Its decoder is used in evaluation mode and comes back in its own.
        images: uint8 ``[N, S, S]``, or float ``[N, 1, S, S]`` in [0, 1], on the decoder's device.
        start: Rows to start from, ``[N, parts, C]``.
        steps: Adam's; 0 only measures the start. The report's are 100.
        learning_rate: Adam's; the report's is 0.01.

    Source: report 004, section 1.3.1.
    """
    check_int("steps", steps, 0)
    check_number("learning_rate", learning_rate, 0.0, 1e3)
    x, side = as_float(images) if images.dtype == torch.uint8 else images, loss.decoder.image_size
    check_shape("images", x, 1, side, side)
    if start.shape[0] != len(x) or start.dim() != 3:
        shape = list(start.shape)
        raise ValueError(f"start is of shape {shape}; allowed is [{len(x)}, parts, code_size]")
    parts = zip(x.split(FIT_BATCH), start.split(FIT_BATCH), strict=True)
    with evaluating(loss.decoder), torch.enable_grad(), fast(x.device):
        found = [descend(loss, *part, steps, learning_rate) for part in parts]
    rows, losses = zip(*found, strict=True)
    return Found(torch.cat(rows), torch.cat(losses, 1).mean(1))


def descend(
    loss: CodeLoss, x: Tensor, start: Tensor, steps: int, rate: float
) -> tuple[Tensor, Tensor]:
    """Return the rows found for images, and their losses ``[steps + 1, B]``."""
    rows, losses = start.detach().clone().requires_grad_(), []
    adam = torch.optim.Adam([rows], rate)
    for _ in range(steps):
        now = loss(rows, x)
        # Of the rows alone: the weights do not even get a gradient.
        (rows.grad,) = torch.autograd.grad(now.sum(), [rows])
        adam.step()
        losses.append(now.detach())
    with torch.no_grad():
        losses.append(loss(rows, x))
    return rows.detach(), torch.stack(losses)


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


def report_loss(rmse: float, batch_size: int) -> float:
    """Return an RMSE in grey levels of 0 to 1 as report 004's loss.

    The report's ``evaluate.py`` is its course's: the norm of the difference of a whole batch, in
    grey levels of 0 to 255, over the number of its elements, ``||x - x_hat|| / (B * 784)``. That
    falls with the root of the batch, which the report does not state.
    """
    return 255 * rmse / (PIXELS * check_int("batch_size", batch_size, 1)) ** 0.5


def code_accuracy(z: Tensor, labels: Tensor, z_new: Tensor, labels_new: Tensor) -> dict[str, float]:
    """Return which share of new codes simple classifiers assign to their class.

    "logistic regression" and the "5 nearest neighbours" learn from codes ``z`` ``[N, C]`` and
    labels ``[N]``, and classify ``z_new`` ``[M, C]``.
    """
    from sklearn.linear_model import LogisticRegression  # a part of the notebooks' extra
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    kinds = {
        "logistic regression": LogisticRegression(max_iter=1000, C=0.1),
        "5 nearest neighbours": KNeighborsClassifier(5),
    }
    z, labels, z_new, labels_new = (t.numpy(force=True) for t in (z, labels, z_new, labels_new))
    fitted = {k: make_pipeline(StandardScaler(), kind).fit(z, labels) for k, kind in kinds.items()}
    return {name: float(kind.score(z_new, labels_new)) for name, kind in fitted.items()}


def distance_to_real(judge: Judge, images: Tensor, real: Tensor) -> float:
    """Return the Fréchet distance between two sets of images in a judge's features.

    Each is uint8 ``[N, S, S]`` or float ``[N, 1, S, S]`` in [0, 1].
    """
    features = (in_batches(judge.features, each).numpy(force=True) for each in (images, real))
    return frechet_distance(*features)
