"""The encoders (E): picture -> code, or the code's distribution.

Geometry follows from ``image_size`` S in {28, 32, 64}: three poolings take S to ``S // 8``
(28 -> 14 -> 7 -> 3).

The variational encoder still returns a code when called, the mean of its Gaussian, so everything
that draws or measures with a plain encoder works with it unchanged; training and sampling ask for
the whole distribution.

Sources: assignment, Part II item 1 and Part IV item 1; D. P. Kingma and M. Welling, arXiv
1312.6114.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from learn2add.capacity import Capacity
from learn2add.checks import check_choice, check_int
from learn2add.decoders import ASSIGNED, IMAGE_SIZES, in_float32

LOGVAR_RANGE = (-10.0, 10.0)
"""Variances are kept between exp of these, so that no early step overflows."""


class Encoder(nn.Module):
    """E: picture -> code. Three blocks of convolution, max-pooling and ReLU, two linear layers.

    ReLU stands after the pooling, where it has a quarter of the values to clip: the larger of four
    clipped values is the larger of the four, clipped.

    The two linear layers have no activation between them, as the assignment specifies
    ("MLP (256), Linear; MLP (2), Linear"); two linear layers in a row are one. ``hidden="relu"``
    puts a ReLU between them, the other reading of the report's "two fully connected layers".

    Shapes: ``x`` float ``[B, 1, S, S]`` in [0, 1] -> ``z`` float ``[B, code_size]``.

    Args:
        code_size: Length of the code, 1 to 128.
        image_size: S, one of 28, 32, 64.
        capacity: Widths and dropout; without filters, two fully connected layers stand in the place
            of convolutions and first linear layer (report 002, section 6).
        hidden: "linear" (the assignment's) or "relu".

    Raises:
        ValueError: An argument is not allowed.

    Source: assignment, Part II item 1.
    """

    def __init__(
        self,
        code_size: int = 7,
        image_size: int = 28,
        capacity: Capacity = ASSIGNED,
        *,
        hidden: str = "linear",
    ) -> None:
        super().__init__()
        self.code_size = check_int("code_size", code_size, 1, 128)
        self.image_size = check_choice("image_size", image_size, IMAGE_SIZES)
        if capacity.channels:
            self.features = convolutions(*capacity.channels)
            features = capacity.channels[2] * (image_size // 8) ** 2
        else:
            features = 2 * capacity.units
            pixels = nn.Linear(image_size * image_size, features)
            self.features = nn.Sequential(nn.Flatten(), pixels, nn.ReLU())
        layers: list[nn.Module] = [nn.Linear(features, capacity.units)]
        if check_choice("hidden", hidden, ("linear", "relu")) == "relu":
            layers.append(nn.ReLU())
        if capacity.dropout:
            layers.append(nn.Dropout(capacity.dropout))
        self.hidden = nn.Sequential(*layers) if len(layers) > 1 else layers[0]
        self.code = nn.Linear(capacity.units, code_size)

    def forward(self, x: Tensor) -> Tensor:
        """Encode ``x`` ``[B, 1, S, S]`` to ``z`` ``[B, code_size]``."""
        self.check(x)
        return in_float32(self.code, self.hidden(self.features(x)))

    def check(self, x: Tensor) -> None:
        """Raise ValueError unless ``x`` is ``[B, 1, S, S]``."""
        if x.dim() != 4 or x.shape[1:] != (1, self.image_size, self.image_size):
            size = self.image_size
            raise ValueError(f"x has shape {list(x.shape)}; allowed is [B, 1, {size}, {size}]")


def convolutions(c1: int, c2: int, c3: int) -> nn.Sequential:
    """Three blocks, each of half the side: ``[B, 1, S, S]`` -> ``[B, c3 * (S // 8)**2]``."""
    return nn.Sequential(
        nn.Conv2d(1, c1, 3, padding="same"),  # [B, 32, S, S]
        nn.MaxPool2d(2),  # [B, 32, S/2, S/2]
        nn.ReLU(),
        nn.Conv2d(c1, c2, 3, padding="same"),
        nn.MaxPool2d(2),  # [B, 64, S/4, S/4]
        nn.ReLU(),
        nn.Conv2d(c2, c3, 3, padding="same"),
        nn.MaxPool2d(2),  # [B, 128, S//8, S//8]
        nn.ReLU(),
        nn.Flatten(),
    )


class Gaussian(NamedTuple):
    """Independent normal distributions: ``mu`` and ``logvar``, each float ``[B, code_size]``."""

    mu: Tensor
    logvar: Tensor

    def sample(self, noise: Tensor) -> Tensor:
        """``mu + sigma * noise``, the reparameterisation trick: gradients reach both.

        Args:
            noise: Standard normal numbers of ``mu``'s shape, times a temperature if one is wanted.

        Returns:
            Float ``[B, code_size]``.
        """
        return self.mu + torch.exp(0.5 * self.logvar) * noise


def gaussian_of(mu: nn.Module, logvar: nn.Module, hidden: Tensor) -> Gaussian:
    """The distribution that two heads make of the same features."""
    return Gaussian(in_float32(mu, hidden), in_float32(logvar, hidden).clamp(*LOGVAR_RANGE))


class GaussianEncoder(Encoder):
    """E of a variational autoencoder: the encoder with a second head for the log-variance.

    Shapes: ``x`` float ``[B, 1, S, S]`` in [0, 1] -> ``mu`` float ``[B, code_size]``.

    Args:
        code_size: Length of the code, 1 to 128.
        image_size: S, one of 28, 32, 64.
        capacity: Widths and dropout.
        hidden: "linear" (the assignment's) or "relu".

    Source: assignment, Part IV item 1.
    """

    def __init__(
        self,
        code_size: int = 7,
        image_size: int = 28,
        capacity: Capacity = ASSIGNED,
        *,
        hidden: str = "linear",
    ) -> None:
        super().__init__(code_size, image_size, capacity, hidden=hidden)
        self.logvar = nn.Linear(capacity.units, code_size)

    def gaussian(self, x: Tensor) -> Gaussian:
        """The code's distribution q(z | x) of ``x`` ``[B, 1, S, S]``."""
        self.check(x)
        return gaussian_of(self.code, self.logvar, self.hidden(self.features(x)))
