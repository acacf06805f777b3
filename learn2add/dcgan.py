"""The decoder of the auto-decoders, after DCGAN's generator.

Source: report 004, section 1.3.1; A. Radford et al., arXiv 1511.06434.
"""

from torch import Tensor, nn

from learn2add import decoders
from learn2add.capacity import Capacity
from learn2add.checks import check_choice, check_int
from learn2add.decoders import Decoder, in_float32

CHANNELS = (512, 256, 128)
START = 4
"""Side of the first maps; three doublings make it 32, and the last layer cuts to 28."""


class DecoderDCGAN(Decoder):
    """D of report 004: a linear layer, three doublings with batch normalisation, a cut to 28 x 28.

    Linear 128 -> 8192 = 512 x 4 x 4; three transposed convolutions 4 x 4 of stride 2 without bias,
    512 -> 256 -> 128 -> 128, each with batch normalisation and ReLU (the report leaves open how
    wide the third is); a transposed convolution 128 -> 1, and one 1 -> 1 whose padding of 2 cuts
    32 x 32 to 28 x 28. The report's sigmoid is times 255; here grey levels are 0 to 1.

    Batch normalisation looks at the other pictures of the batch in training mode, and at none of
    them in evaluation mode.

    Shapes: ``z`` float ``[B, code_size]`` -> ``x_hat`` float ``[B, 1, 28, 28]`` in (0, 1). About
    0.27 GFLOP for a picture, three times that with both gradients.

    Args:
        code_size: Length of the code, 1 to 128; the report's is 128.
        image_size: 28.

    Raises:
        ValueError: An argument is not allowed.
    """

    def __init__(self, code_size: int = 128, image_size: int = 28) -> None:
        nn.Module.__init__(self)
        self.code_size = check_int("code_size", code_size, 1, 128)
        self.image_size = check_choice("image_size", image_size, (28,))
        a, b, c = CHANNELS
        self.expand = nn.Linear(code_size, a * START**2)
        self.layers = nn.Sequential(
            nn.Unflatten(1, (a, START, START)),
            *_doubling(a, b),  # [B, 256, 8, 8]
            *_doubling(b, c),  # [B, 128, 16, 16]
            *_doubling(c, c),  # [B, 128, 32, 32]
            nn.ConvTranspose2d(c, 1, 1),
            nn.ConvTranspose2d(1, 1, 1, padding=2),  # [B, 1, 28, 28]
        )

    def logits(self, z: Tensor) -> Tensor:
        """Decode ``z`` ``[B, code_size]`` to pixel logits ``[B, 1, 28, 28]``."""
        if z.dim() != 2 or z.shape[1] != self.code_size:
            raise ValueError(f"z has shape {list(z.shape)}; allowed is [B, {self.code_size}]")
        return self.layers(in_float32(self.expand, z))


def _doubling(inputs: int, outputs: int) -> list[nn.Module]:
    convolution = nn.ConvTranspose2d(inputs, outputs, 4, stride=2, padding=1, bias=False)
    return [convolution, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]


ALL_DECODERS = (*decoders.DECODERS, decoders.DENSE, "dcgan")
"""The assignment's three, report 002's without convolutions, and this one."""


def make_decoder(
    name: str, code_size: int = 7, image_size: int = 28, capacity: Capacity = decoders.ASSIGNED
) -> Decoder:
    """Build the decoder called ``name``, one of ``ALL_DECODERS``.

    Raises:
        ValueError: An argument is not allowed; ``"dcgan"`` has the report's own widths only.
    """
    if check_choice("decoder", name, ALL_DECODERS) != "dcgan":
        return decoders.make_decoder(name, code_size, image_size, capacity)
    if capacity != decoders.ASSIGNED:
        raise ValueError(f"capacity is {capacity}; allowed with decoder 'dcgan' is the default")
    return DecoderDCGAN(code_size, image_size)
