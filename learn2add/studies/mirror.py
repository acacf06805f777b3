"""The encoder's exact mirror (notebook 2), and what unpooling with the encoder's places smuggles.

The encoder pools three times, 28 -> 14 -> 7 -> 3. The mirror doubles three times, 3 -> 7 -> 14 ->
28, and each max-pooling is answered in one of two ways: by a learned stamp at every second place,
or by ``nn.MaxUnpool2d``, which puts each value back where the encoder found it. For that the places
travel beside the code. Source: assignment, Part II item 2, first decoder.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from learn2add import recipes
from learn2add.checks import check_int
from learn2add.config import RunConfig, Stage
from learn2add.data import Digits
from learn2add.losses import image_loss
from learn2add.network import Autoencoder, ConvTranspose, Decoder, Encoder
from learn2add.steps import AutoencoderStep, Result, squares

SIDES = (7, 14, 28)
Places = list[Tensor]
"""Of each pooling, first to last: which of four pixels was the largest, ``[B, C, H, W]``."""


class Widths(NamedTuple):
    """How wide the layers are, and which share of their values a training step leaves out."""

    channels: tuple[int, int, int] = Encoder.channels
    """Of the encoder's convolutions; the decoder mirrors them."""
    units: int = Encoder.units
    """Hidden neurons between convolutions and code, on both sides."""
    dropout: float = 0.0
    """After each layer but the last."""

    def after(self) -> list[nn.Module]:
        """Return what follows a layer."""
        return [nn.ReLU(inplace=True), *([nn.Dropout(self.dropout)] if self.dropout else [])]


ASSIGNED = Widths()


class MirrorDecoder(Decoder):
    """Code -> 256 -> 128 x 3 x 3, then three transposed convolutions: 128 -> 64 -> 32 -> 1."""

    def __init__(self, code_size: int = 7, widths: Widths = ASSIGNED) -> None:
        nn.Module.__init__(self)
        self.code_size, self.image_size = check_int("code_size", code_size, 1, 128), 28
        (c1, c2, c3), units, after = widths.channels, widths.units, widths.after
        self.expand = nn.Sequential(
            nn.Linear(code_size, units), *after(),
            nn.Linear(units, c3 * 9), *after(), nn.Unflatten(1, (c3, 3, 3)),
        )  # fmt: skip
        self.layers = nn.Sequential(
            ConvTranspose(c3, c2, 3, stride=2), *after(),  # [64, 7, 7]
            ConvTranspose(c2, c1, 3, stride=2, padding=1, output_padding=1), *after(),
            ConvTranspose(c1, 1, 3, stride=2, padding=1, output_padding=1),  # [1, 28, 28]
        )  # fmt: skip


class UnpoolingDecoder(MirrorDecoder):
    """The same with ``nn.MaxUnpool2d``, then a convolution, in place of each stamp."""

    def __init__(self, code_size: int = 7) -> None:
        super().__init__(code_size)
        widths = (*reversed(self.channels), 1)
        pairs = zip(widths, widths[1:], strict=False)
        self.layers = nn.ModuleList(nn.Conv2d(a, b, 3, padding="same") for a, b in pairs)

    def logits_at(self, z: Tensor, places: Places) -> Tensor:
        """Decode codes ``[B, code_size]`` with the places of some images to pixel logits."""
        x = self.expand(z)
        steps = zip(self.layers, reversed(places), SIDES, strict=True)
        for number, (convolution, place, side) in enumerate(steps):
            x = convolution(F.max_unpool2d(x, place, 2, output_size=(side, side)))
            x = F.relu(x) if number < 2 else x
        return x


class UnpoolingAutoencoder(Autoencoder):
    """An encoder that gives away where each maximum was, and a decoder that uses it."""

    def places(self, x: Tensor) -> Places:
        """Return of images ``[B, 1, 28, 28]`` the places that the three poolings choose."""
        found = []
        for layer in self.encoder.features:
            if isinstance(layer, nn.MaxPool2d):
                x, place = F.max_pool2d(x, 2, return_indices=True)
                found.append(place)
            else:
                x = layer(x)
        return found

    def forward(self, x: Tensor) -> Tensor:
        """Reconstruct images ``[B, 1, 28, 28]``."""
        return torch.sigmoid(self.decoder.logits_at(self.encoder(x), self.places(x)))


class UnpoolingStep(AutoencoderStep):
    """Part II's step, the places handed over beside the code."""

    def __call__(self, batch: tuple[Tensor, ...]) -> Result:
        """Return the reconstruction loss and ``rmse``'s squares."""
        x, shown, *_ = batch
        logits = self.model.decoder.logits_at(self.model.encoder(shown), self.model.places(shown))
        return image_loss(self.stage.loss, logits, x), {"rmse": squares(logits, x)}

    def images(self) -> dict[str, Tensor]:
        """Return nothing: this decoder draws from no code alone."""
        return {}


@dataclass(frozen=True)
class MirrorConfig(RunConfig):
    """A run of Part II with the exact mirror as its decoder."""

    unpooling: bool = False
    """Whether each maximum is put back where the encoder found it."""

    def build(self) -> nn.Module:
        """Return the untrained model."""
        encoder = Encoder(self.code_size, self.image_size, self.activation)
        if self.unpooling:
            return UnpoolingAutoencoder(encoder, UnpoolingDecoder(self.code_size))
        return Autoencoder(encoder, MirrorDecoder(self.code_size))

    def step(
        self, stage: Stage, model: nn.Module, train: Digits, validation: Digits
    ) -> AutoencoderStep:
        """Return what a training step is."""
        kind = UnpoolingStep if self.unpooling else AutoencoderStep
        return kind(model, self, stage, train, validation)


def mirror(*, epochs: int = 3, unpooling: bool = False) -> MirrorConfig:
    """Return Part II's run with the exact mirror; all else but its length as assigned."""
    stages = (Stage("autoencoder", epochs),)
    return MirrorConfig(stages, code_size=2, unpooling=unpooling, **recipes.common("reference"))
