"""The networks: one encoder (E), three decoders (D), the adder (P), and the wholes made of them.

Geometry follows from ``image_size`` S in {28, 32, 64}: three poolings take the encoder from S to
``S // 8`` (28 -> 14 -> 7 -> 3), and two doublings take a decoder from ``S // 4`` back to S
(7 -> 14 -> 28). The decoder starts at ``S // 4``, not ``S // 8``, because 3 does not double to 7.

How a decoder can reverse max-pooling
-------------------------------------
Max-pooling keeps the largest of four values and forgets which of the four it was. A transposed
convolution with stride 2 learns how to spread one value over the four places; upsampling copies it
to all four and leaves the refinement to a convolution. ``nn.MaxUnpool2d`` would instead put it back
where the encoder found it, but it needs the encoder's indices, and those are a second, wide channel
of information past the code: the picture of a sum has no encoder that saw it (the decoder is handed
a code made by the adder), so at inference there are no indices to use.

Sources: assignment, Part II items 1-2 and Part III items 2, 3 and 6; report, section 3.1.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from learn2add.checks import check_choice, check_finite, check_images, check_int

IMAGE_SIZES = (28, 32, 64)
CHANNELS = (32, 64, 128)
HIDDEN = 256


class Encoder(nn.Module):
    """E: picture -> code. Three blocks of convolution, max-pooling and ReLU, two linear layers.

    ReLU stands after the pooling, where it has a quarter of the values to clip: the larger of four
    clipped values is the larger of the four, clipped.

    The two linear layers have no activation between them, as the assignment specifies
    ("MLP (256), Linear; MLP (2), Linear").

    Shapes: ``x`` float ``[B, 1, S, S]`` in [0, 1] -> ``z`` float ``[B, code_size]``.

    Args:
        code_size: Length of the code, 1 to 128.
        image_size: S, one of 28, 32, 64.

    Raises:
        ValueError: ``code_size`` or ``image_size`` is not allowed.

    Source: assignment, Part II item 1.
    """

    def __init__(self, code_size: int = 7, image_size: int = 28) -> None:
        super().__init__()
        self.code_size = check_int("code_size", code_size, 1, 128)
        self.image_size = check_choice("image_size", image_size, IMAGE_SIZES)
        c1, c2, c3 = CHANNELS
        side = image_size // 8
        self.features = nn.Sequential(
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
        self.hidden = nn.Linear(c3 * side * side, HIDDEN)
        self.code = nn.Linear(HIDDEN, code_size)

    def forward(self, x: Tensor) -> Tensor:
        """Encode ``x`` ``[B, 1, S, S]`` to ``z`` ``[B, code_size]``."""
        if x.dim() != 4 or x.shape[1:] != (1, self.image_size, self.image_size):
            size = self.image_size
            raise ValueError(f"x has shape {list(x.shape)}; allowed is [B, 1, {size}, {size}]")
        return self.code(self.hidden(self.features(x)))


class Decoder(nn.Module):
    """D: code -> picture. What the three variants share: two linear layers, then two doublings.

    Shapes: ``z`` float ``[B, code_size]`` -> ``x_hat`` float ``[B, 1, S, S]`` in (0, 1).

    The sigmoid stands in :meth:`forward`; losses use :meth:`logits`, because binary cross-entropy
    computed from logits keeps its precision where the sigmoid saturates.

    Args:
        code_size: Length of the code, 1 to 128.
        image_size: S, one of 28, 32, 64.

    Raises:
        ValueError: ``code_size`` or ``image_size`` is not allowed.

    Source: assignment, Part II item 2; report, section 3.1.
    """

    def __init__(self, code_size: int = 7, image_size: int = 28) -> None:
        super().__init__()
        self.code_size = check_int("code_size", code_size, 1, 128)
        self.image_size = check_choice("image_size", image_size, IMAGE_SIZES)
        side = image_size // 4
        self.expand = nn.Sequential(
            nn.Linear(code_size, HIDDEN),
            nn.ReLU(),
            nn.Linear(HIDDEN, CHANNELS[2] * side * side),
            nn.ReLU(),
            nn.Unflatten(1, (CHANNELS[2], side, side)),  # [B, 128, S/4, S/4]
        )

    def logits(self, z: Tensor) -> Tensor:
        """Decode ``z`` ``[B, code_size]`` to pixel logits ``[B, 1, S, S]``."""
        if z.dim() != 2 or z.shape[1] != self.code_size:
            raise ValueError(f"z has shape {list(z.shape)}; allowed is [B, {self.code_size}]")
        return self.draw(self.expand(z))

    def draw(self, features: Tensor) -> Tensor:
        """Turn features ``[B, 128, S/4, S/4]`` into pixel logits ``[B, 1, S, S]``."""
        raise NotImplementedError

    def forward(self, z: Tensor) -> Tensor:
        """Decode ``z`` ``[B, code_size]`` to a picture ``[B, 1, S, S]`` in (0, 1)."""
        return torch.sigmoid(self.logits(z))


class DecoderConvTranspose(Decoder):
    """Decoder 1, the encoder's mirror: each max-pooling is reversed by a learned stride-2 layer.

    A transposed convolution of stride 2 writes a learned 3x3 stamp for every input value, so
    *where* a pooled value goes is learned. Three transposed convolutions: 128 -> 64 -> 32 -> 1.

    Source: assignment, Part II item 2, first version; report, section 3.1.1.
    """

    def __init__(self, code_size: int = 7, image_size: int = 28) -> None:
        super().__init__(code_size, image_size)
        c1, c2, c3 = CHANNELS
        self.layers = nn.Sequential(
            nn.ConvTranspose2d(c3, c2, 3, stride=2, padding=1, output_padding=1),
            nn.ReLU(),  # [B, 64, S/2, S/2]
            nn.ConvTranspose2d(c2, c1, 3, stride=2, padding=1, output_padding=1),
            nn.ReLU(),  # [B, 32, S, S]
            nn.ConvTranspose2d(c1, 1, 3, padding=1),  # [B, 1, S, S]
        )

    def draw(self, features: Tensor) -> Tensor:
        """Turn features ``[B, 128, S/4, S/4]`` into pixel logits ``[B, 1, S, S]``."""
        return self.layers(features)


def upsample_then_convolve(x: Tensor, convolution: nn.Conv2d) -> Tensor:
    """Nearest-neighbour doubling followed by a 3x3 convolution, computed before the doubling.

    After doubling, the nine taps of the kernel fall on only four different input values, so
    neighbouring taps can be added beforehand: the pair of operations *is* a transposed convolution
    of stride 2 with the 4x4 kernel ``w * ones(2, 2)``. Exact, and 2.25 times less work.

    Args:
        x: Float ``[B, C, H, W]``.
        convolution: A 3x3 convolution with padding 1 (or "same") and stride 1.

    Returns:
        Float ``[B, C_out, 2H, 2W]``, equal to ``convolution(upsample(x))``.
    """
    # conv_transpose2d wants [C_in, C_out, kH, kW] and applies the kernel flipped.
    flipped = convolution.weight.flip(2, 3).transpose(0, 1)
    padded = F.pad(flipped, (1, 1, 1, 1))
    kernel = (
        padded[..., 1:, 1:] + padded[..., 1:, :-1] + padded[..., :-1, 1:] + padded[..., :-1, :-1]
    )
    return F.conv_transpose2d(x, kernel, convolution.bias, stride=2, padding=1)


class DecoderConvUpsample(Decoder):
    """Decoder 2: max-pooling is reversed by copying each value to four places, then convolving.

    Two blocks of nearest-neighbour upsampling, 3x3 convolution and ReLU (128 -> 64 -> 32), then a
    3x3 convolution 32 -> 1.

    Source: assignment, Part II item 2, second version; report, section 3.1.2.
    """

    def __init__(self, code_size: int = 7, image_size: int = 28) -> None:
        super().__init__(code_size, image_size)
        c1, c2, c3 = CHANNELS
        self.convolution1 = nn.Conv2d(c3, c2, 3, padding="same")
        self.convolution2 = nn.Conv2d(c2, c1, 3, padding="same")
        self.convolution3 = nn.Conv2d(c1, 1, 3, padding="same")

    mode = "nearest"

    def double(self, x: Tensor, convolution: nn.Conv2d) -> Tensor:
        """Double the side of ``x`` ``[B, C, H, W]`` and convolve: ``[B, C_out, 2H, 2W]``."""
        # In bfloat16 the matrix units multiply faster than memory feeds them: the plain way wins.
        if self.mode == "nearest" and not torch.is_autocast_enabled(x.device.type):
            return upsample_then_convolve(x, convolution)
        return convolution(F.interpolate(x, scale_factor=2, mode=self.mode))

    def draw(self, features: Tensor) -> Tensor:
        """Turn features ``[B, 128, S/4, S/4]`` into pixel logits ``[B, 1, S, S]``."""
        half = F.relu(self.double(features, self.convolution1))  # [B, 64, S/2, S/2]
        full = F.relu(self.double(half, self.convolution2))  # [B, 32, S, S]
        return self.convolution3(full)


class DecoderInterpolation(DecoderConvUpsample):
    """Decoder 3: max-pooling is reversed by interpolating between the values, then convolving.

    The report's third decoder calls ``interpolate`` where its second uses an upsampling layer. With
    the report's setting, ``mode="nearest"``, the two are the same function of the same weights, and
    any difference between their curves is a difference of seeds. ``mode="bilinear"`` is a third
    function: it blends neighbours instead of copying them. The assignment's third version, pictures
    of 64x64, is this decoder at ``image_size=64``.

    Args:
        code_size: Length of the code, 1 to 128.
        image_size: S, one of 28, 32, 64.
        mode: ``"nearest"`` (the report's) or ``"bilinear"``.

    Raises:
        ValueError: An argument is not allowed.

    Source: assignment, Part II item 2, third version; report, sections 3.1.3 and 3.2.3.
    """

    def __init__(self, code_size: int = 7, image_size: int = 28, mode: str = "nearest") -> None:
        super().__init__(code_size, image_size)
        self.mode = check_choice("mode", mode, ("nearest", "bilinear"))


DECODERS: dict[str, type[Decoder]] = {
    "conv_transpose": DecoderConvTranspose,
    "conv_upsample": DecoderConvUpsample,
    "interpolation": DecoderInterpolation,
}


def make_decoder(name: str, code_size: int = 7, image_size: int = 28) -> Decoder:
    """Build the decoder called ``name``: "conv_transpose", "conv_upsample" or "interpolation".

    Raises:
        ValueError: ``name``, ``code_size`` or ``image_size`` is not allowed.
    """
    return DECODERS[check_choice("decoder", name, tuple(DECODERS))](code_size, image_size)


class Adder(nn.Module):
    """P: code and addend -> code of the sum. A small multilayer perceptron.

    Shapes: ``z`` float ``[B, code_size]``, ``addend`` float ``[B]`` -> float ``[B, code_size]``.

    Source: assignment, Part III item 2.
    """

    def __init__(self, code_size: int = 7) -> None:
        super().__init__()
        self.code_size = check_int("code_size", code_size, 1, 128)
        self.layers = nn.Sequential(
            nn.Linear(code_size + 1, 32),
            nn.ReLU(),
            nn.Linear(32, 16),
            nn.ReLU(),
            nn.Linear(16, 16),
            nn.ReLU(),
            nn.Linear(16, code_size),
        )

    def forward(self, z: Tensor, addend: Tensor) -> Tensor:
        """Add ``addend`` ``[B]`` to the digits whose codes are ``z`` ``[B, code_size]``."""
        if z.dim() != 2 or z.shape[1] != self.code_size:
            raise ValueError(f"z has shape {list(z.shape)}; allowed is [B, {self.code_size}]")
        if addend.shape != z.shape[:1]:
            raise ValueError(f"addend has shape {list(addend.shape)}; allowed is [{len(z)}]")
        return self.layers(torch.cat([z, addend[:, None].to(z.dtype)], dim=1))


class Autoencoder(nn.Module):
    """D after E: a picture through its code and back. Source: assignment, Part II."""

    def __init__(
        self, decoder: str = "conv_transpose", code_size: int = 7, image_size: int = 28
    ) -> None:
        super().__init__()
        self.encoder = Encoder(code_size, image_size)
        self.decoder = make_decoder(decoder, code_size, image_size)

    def forward(self, x: Tensor) -> Tensor:
        """Reconstruct ``x``: ``[B, 1, S, S]`` -> ``[B, 1, S, S]`` in (0, 1)."""
        return self.decoder(self.encoder(x))


class AdditionOutput(NamedTuple):
    """What the whole training model returns; the pictures as logits and as values in (0, 1).

    ``x_hat``, ``y_hat``: float ``[B, 1, S, S]``. ``z_sum`` (made by the adder) and ``z_target``
    (the encoder's code of the target picture): float ``[B, code_size]``.
    """

    x_logits: Tensor
    y_logits: Tensor
    z_sum: Tensor
    z_target: Tensor

    @property
    def x_hat(self) -> Tensor:
        """Reconstruction of the input picture."""
        return torch.sigmoid(self.x_logits)

    @property
    def y_hat(self) -> Tensor:
        """Picture of the sum."""
        return torch.sigmoid(self.y_logits)


class AdditionModel(nn.Module):
    """The whole training model: one encoder and one decoder, each used twice, and the adder.

    "Instantiated twice with shared weights" (assignment, Part III item 3) is one module called on
    both pictures; the two calls of each are made as one call on a batch of double length.
    """

    def __init__(
        self, decoder: str = "conv_transpose", code_size: int = 7, image_size: int = 28
    ) -> None:
        super().__init__()
        self.encoder = Encoder(code_size, image_size)
        self.adder = Adder(code_size)
        self.decoder = make_decoder(decoder, code_size, image_size)

    def forward(self, x: Tensor, addend: Tensor, y: Tensor) -> AdditionOutput:
        """Run both branches.

        Args:
            x: Input pictures, float ``[B, 1, S, S]`` in [0, 1].
            addend: The numbers added, float ``[B]``.
            y: Target pictures (used for their codes alone), float ``[B, 1, S, S]`` in [0, 1].

        Returns:
            Logits of reconstruction and sum picture, and the two codes of the sum.
        """
        z, z_target = self.encoder(torch.cat([x, y])).chunk(2)
        z_sum = self.adder(z, addend)
        x_logits, y_logits = self.decoder.logits(torch.cat([z, z_sum])).chunk(2)
        return AdditionOutput(x_logits, y_logits, z_sum, z_target)

    def inference(self) -> "AdditionInference":
        """The inference model, sharing this model's weights."""
        return AdditionInference(self.encoder, self.adder, self.decoder)


class AdditionInference(nn.Module):
    """The solid lines of the assignment's overview: E, then P, then D; the sum picture alone.

    Source: assignment, Part III item 6.
    """

    def __init__(self, encoder: Encoder, adder: Adder, decoder: Decoder) -> None:
        super().__init__()
        self.encoder, self.adder, self.decoder = encoder, adder, decoder

    def forward(self, x: Tensor, addend: Tensor) -> Tensor:
        """Draw ``x + addend``: ``[B, 1, S, S]`` and ``[B]`` -> ``[B, 1, S, S]`` in (0, 1).

        Raises:
            ValueError: ``x`` is of another shape or not in [0, 1], or an addend is NaN or infinite.
            TypeError: ``x`` is not float32.
        """
        check_images("x", x)
        check_finite("addend", addend)
        return self.decoder(self.adder(self.encoder(x), addend))
