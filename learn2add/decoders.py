"""The decoders (D): code -> picture. The assignment's three, and one without convolutions.

Geometry follows from ``image_size`` S in {28, 32, 64}: two doublings take a decoder from ``S // 4``
to S (7 -> 14 -> 28). It starts at ``S // 4``, not at the encoder's ``S // 8``, because 3 does not
double to 7.

How a decoder can reverse max-pooling
-------------------------------------
Max-pooling keeps the largest of four values and forgets which of the four it was. A transposed
convolution with stride 2 learns how to spread one value over the four places; upsampling copies it
to all four and leaves the refinement to a convolution. ``nn.MaxUnpool2d`` would instead put it back
where the encoder found it, but it needs the encoder's indices, and those are a second, wide channel
of information past the code: the picture of a sum has no encoder that saw it (the decoder is handed
a code made by the adder), so at inference there are no indices to use.

Sources: assignment, Part II item 2; report, section 3.1.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from learn2add.capacity import Capacity
from learn2add.checks import check_choice, check_int

IMAGE_SIZES = (28, 32, 64)
ASSIGNED = Capacity()


class Decoder(nn.Module):
    """D: code -> picture. What all share: two linear layers, then, of the three, two doublings.

    Shapes: ``z`` float ``[B, code_size]`` -> ``x_hat`` float ``[B, 1, S, S]`` in (0, 1).

    The sigmoid stands in :meth:`forward`; losses use :meth:`logits`, because binary cross-entropy
    computed from logits keeps its precision where the sigmoid saturates.

    Args:
        code_size: Length of the code, 1 to 128.
        image_size: S, one of 28, 32, 64.
        capacity: Widths and dropout.

    Raises:
        ValueError: An argument is not allowed.

    Source: assignment, Part II item 2; report, section 3.1.
    """

    def __init__(
        self, code_size: int = 7, image_size: int = 28, capacity: Capacity = ASSIGNED
    ) -> None:
        super().__init__()
        self.code_size = check_int("code_size", code_size, 1, 128)
        self.image_size = check_choice("image_size", image_size, IMAGE_SIZES)
        shape = self.start(capacity)
        self.expand = nn.Sequential(
            nn.Linear(code_size, capacity.units),
            nn.ReLU(),
            *([nn.Dropout(capacity.dropout)] if capacity.dropout else []),
            nn.Linear(capacity.units, math.prod(shape)),
            nn.ReLU(),
            nn.Unflatten(1, shape),  # [B, 128, S/4, S/4]
        )

    def start(self, capacity: Capacity) -> tuple[int, ...]:
        """Shape of a picture's features after the two linear layers: ``(128, S/4, S/4)``."""
        side = self.image_size // 4
        return capacity.filters[2], side, side

    def logits(self, z: Tensor) -> Tensor:
        """Decode ``z`` ``[B, code_size]`` to pixel logits ``[B, 1, S, S]``."""
        if z.dim() != 2 or z.shape[1] != self.code_size:
            raise ValueError(f"z has shape {list(z.shape)}; allowed is [B, {self.code_size}]")
        return self.draw(self.expand[1:](in_float32(self.expand[0], z)))

    def draw(self, features: Tensor) -> Tensor:
        """Turn features ``[B, 128, S/4, S/4]`` into pixel logits ``[B, 1, S, S]``."""
        raise NotImplementedError

    def forward(self, z: Tensor) -> Tensor:
        """Decode ``z`` ``[B, code_size]`` to a picture ``[B, 1, S, S]`` in (0, 1)."""
        return torch.sigmoid(self.logits(z))


def in_float32(layers: nn.Module, x: Tensor) -> Tensor:
    """Apply layers that read or write a code, in float32 even under autocast.

    All that the decoder learns of a picture passes through a few numbers, and bfloat16 keeps but 8
    bits of each; these layers are small, so exactness costs nothing.
    """
    with torch.autocast(x.device.type, enabled=False):
        return layers(x.float() if x.dtype in (torch.bfloat16, torch.float16) else x)


class TransposedConvolution(nn.ConvTranspose2d):
    """A transposed convolution that adds its bias in a step of its own.

    The same function and the same weights; but oneDNN, torch's library for CPUs, sums the bias's
    gradient of a transposed convolution in one slow loop, which takes longer than the layer's
    other gradients together.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Convolve ``x`` ``[B, C_in, H, W]``."""
        y = F.conv_transpose2d(x, self.weight, None, self.stride, self.padding, self.output_padding)
        return add_bias(y, self.bias)


def add_bias(x: Tensor, bias: Tensor | None) -> Tensor:
    """Add ``bias`` ``[C]`` (or None) to the channels of ``x`` ``[B, C, H, W]``, in place."""
    return x if bias is None else x.add_(bias.to(x.dtype).view(-1, 1, 1))


class DecoderConvTranspose(Decoder):
    """Decoder 1, the encoder's mirror: each max-pooling is reversed by a learned stride-2 layer.

    A transposed convolution of stride 2 writes a learned 3x3 stamp for every input value, so
    *where* a pooled value goes is learned. Three transposed convolutions: 128 -> 64 -> 32 -> 1.

    Source: assignment, Part II item 2, first version; report, section 3.1.1.
    """

    def __init__(
        self, code_size: int = 7, image_size: int = 28, capacity: Capacity = ASSIGNED
    ) -> None:
        super().__init__(code_size, image_size, capacity)
        c1, c2, c3 = capacity.filters
        self.layers = nn.Sequential(
            TransposedConvolution(c3, c2, 3, stride=2, padding=1, output_padding=1),
            nn.ReLU(inplace=True),  # [B, 64, S/2, S/2]
            TransposedConvolution(c2, c1, 3, stride=2, padding=1, output_padding=1),
            nn.ReLU(inplace=True),  # [B, 32, S, S]
            TransposedConvolution(c1, 1, 3, padding=1),  # [B, 1, S, S]
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
    flipped = flipped.contiguous(memory_format=torch.channels_last)
    padded = F.pad(flipped, (1, 1, 1, 1))
    kernel = (
        padded[..., 1:, 1:] + padded[..., 1:, :-1] + padded[..., :-1, 1:] + padded[..., :-1, :-1]
    )
    return add_bias(F.conv_transpose2d(x, kernel, stride=2, padding=1), convolution.bias)


class DecoderConvUpsample(Decoder):
    """Decoder 2: max-pooling is reversed by copying each value to four places, then convolving.

    Two blocks of nearest-neighbour upsampling, 3x3 convolution and ReLU (128 -> 64 -> 32), then a
    3x3 convolution 32 -> 1.

    Source: assignment, Part II item 2, second version; report, section 3.1.2.
    """

    def __init__(
        self, code_size: int = 7, image_size: int = 28, capacity: Capacity = ASSIGNED
    ) -> None:
        super().__init__(code_size, image_size, capacity)
        c1, c2, c3 = capacity.filters
        self.convolution1 = nn.Conv2d(c3, c2, 3, padding="same")
        self.convolution2 = nn.Conv2d(c2, c1, 3, padding="same")
        self.convolution3 = nn.Conv2d(c1, 1, 3, padding="same")

    mode = "nearest"

    def double(self, x: Tensor, convolution: nn.Conv2d) -> Tensor:
        """Double the side of ``x`` ``[B, C, H, W]`` and convolve: ``[B, C_out, 2H, 2W]``."""
        if self.mode == "nearest":
            return upsample_then_convolve(x, convolution)
        return convolution(F.interpolate(x, scale_factor=2, mode=self.mode))

    def draw(self, features: Tensor) -> Tensor:
        """Turn features ``[B, 128, S/4, S/4]`` into pixel logits ``[B, 1, S, S]``."""
        half = F.relu_(self.double(features, self.convolution1))  # [B, 64, S/2, S/2]
        full = F.relu_(self.double(half, self.convolution2))  # [B, 32, S, S]
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
        capacity: Widths and dropout.
        mode: ``"nearest"`` (the report's) or ``"bilinear"``.

    Raises:
        ValueError: An argument is not allowed.

    Source: assignment, Part II item 2, third version; report, sections 3.1.3 and 3.2.3.
    """

    def __init__(
        self,
        code_size: int = 7,
        image_size: int = 28,
        capacity: Capacity = ASSIGNED,
        mode: str = "nearest",
    ) -> None:
        super().__init__(code_size, image_size, capacity)
        self.mode = check_choice("mode", mode, ("nearest", "bilinear"))


class DecoderDense(Decoder):
    """A decoder of fully connected layers alone: code - 256 - 512 - pixels.

    Source: report 002, section 6.
    """

    def __init__(
        self, code_size: int = 7, image_size: int = 28, capacity: Capacity = ASSIGNED
    ) -> None:
        super().__init__(code_size, image_size, capacity)
        side = self.image_size
        pixels = nn.Linear(2 * capacity.units, side * side)
        self.layers = nn.Sequential(pixels, nn.Unflatten(1, (1, side, side)))

    def start(self, capacity: Capacity) -> tuple[int, ...]:
        """Shape of a picture's features after the first two linear layers: ``(512,)``."""
        return (2 * capacity.units,)

    def draw(self, features: Tensor) -> Tensor:
        """Turn features ``[B, 512]`` into pixel logits ``[B, 1, S, S]``."""
        return self.layers(features)


DECODERS: dict[str, type[Decoder]] = {
    "conv_transpose": DecoderConvTranspose,
    "conv_upsample": DecoderConvUpsample,
    "interpolation": DecoderInterpolation,
}
"""The assignment's three."""
DENSE = "dense"


def make_decoder(
    name: str, code_size: int = 7, image_size: int = 28, capacity: Capacity = ASSIGNED
) -> Decoder:
    """Build the decoder called ``name``: one of ``DECODERS``, or "dense".

    Raises:
        ValueError: An argument is not allowed.
    """
    kinds = DECODERS | {DENSE: DecoderDense}
    return kinds[check_choice("decoder", name, tuple(kinds))](code_size, image_size, capacity)
