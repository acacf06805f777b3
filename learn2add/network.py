"""The network, all of it: encoder E, three decoders D, adder P, and the two models made of them.

    x --E--> z --D--> x_hat                              autoencoder (Part II)
    x --E--> z --P(addend)--> z_sum --D--> y_hat         addition (Part III)

A code is ``code_size`` numbers. In Part IV it may be a normal distribution: the encoder's
(variational), the adder's (generative). A part called as a function returns the mean.

Shapes: images float ``[B, 1, S, S]`` in [0, 1] with S = 28, 32 or 64, codes ``[B, code_size]``,
addends ``[B]``. Sources: assignment, Parts II to IV; report, sections 3.1 and 5.1.
"""

import math
from itertools import pairwise
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from learn2add.checks import check_choice, check_int
from learn2add.data import IMAGE_SIZES

LOGVAR_RANGE = (-10.0, 10.0)  # log-variances are kept within, so that no early step overflows


class Gaussian(NamedTuple):
    """Independent normal distributions, one for each number of each code: ``[B, code_size]``."""

    mu: Tensor
    logvar: Tensor

    def sample(self, noise: Tensor) -> Tensor:
        """Return ``mu + sigma * noise``: the reparameterisation trick, gradients reach both."""
        return self.mu + torch.exp(0.5 * self.logvar) * noise

    def draw(self, temperature: float, generator: torch.Generator | None) -> Tensor:
        """Return a sample with fresh noise, scaled by the temperature."""
        noise = torch.randn(self.mu.shape, generator=generator, device=self.mu.device)
        return self.sample(temperature * noise)


def in_float32(layers: nn.Module, x: Tensor) -> Tensor:
    """Apply layers that read or write a code, in float32: bfloat16 would keep 8 bits of it."""
    with torch.autocast(x.device.type, enabled=False):
        return layers(x.float() if x.dtype in (torch.bfloat16, torch.float16) else x)


def check_shape(name: str, x: Tensor, *shape: int) -> None:
    """Raise ValueError unless ``x`` is ``[B, *shape]``."""
    if x.shape[1:] != shape:
        allowed = ", ".join(map(str, shape))
        raise ValueError(f"{name} is of shape {list(x.shape)}; allowed is [B, {allowed}]")


class Encoder(nn.Module):
    """E: three times convolution, max-pooling and ReLU, then two linear layers.

    The assignment has no activation between the linear layers; "relu" is the other reading. ReLU
    after the pooling has a quarter of the values to clip and the same result (Part II item 1).
    """

    channels, units = (32, 64, 128), 256  # the assignment's; the decoders mirror them

    def __init__(
        self, code_size: int = 7, image_size: int = 28, activation: str = "linear"
    ) -> None:
        super().__init__()
        self.code_size = check_int("code_size", code_size, 1, 128)
        self.image_size = check_choice("image_size", image_size, IMAGE_SIZES)
        c1, c2, c3 = self.channels
        self.features = nn.Sequential(
            nn.Conv2d(1, c1, 3, padding="same"), nn.MaxPool2d(2), nn.ReLU(),  # [32, S/2, S/2]
            nn.Conv2d(c1, c2, 3, padding="same"), nn.MaxPool2d(2), nn.ReLU(),  # [64, S/4, S/4]
            nn.Conv2d(c2, c3, 3, padding="same"), nn.MaxPool2d(2), nn.ReLU(),  # [128, S//8, S//8]
            nn.Flatten(),
        )  # fmt: skip
        self.hidden = nn.Linear(c3 * (image_size // 8) ** 2, self.units)
        if check_choice("activation", activation, ("linear", "relu")) == "relu":
            self.hidden = nn.Sequential(self.hidden, nn.ReLU())
        self.code = nn.Linear(self.units, code_size)

    def forward(self, x: Tensor) -> Tensor:
        """Encode images ``[B, 1, S, S]`` to codes ``[B, code_size]``."""
        check_shape("x", x, 1, self.image_size, self.image_size)
        return in_float32(self.code, self.hidden(self.features(x)))


class GaussianEncoder(Encoder):
    """E of a variational autoencoder: a second head for the log-variance (Part IV item 1)."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.logvar = nn.Linear(self.code.in_features, self.code_size)

    def gaussian(self, x: Tensor) -> Gaussian:
        """Return the code's distribution q(z | x)."""
        check_shape("x", x, 1, self.image_size, self.image_size)
        return gaussian_of(self.code, self.logvar, self.hidden(self.features(x)))


def gaussian_of(mu: nn.Module, logvar: nn.Module, hidden: Tensor) -> Gaussian:
    """Return the distribution that two heads make of the same features."""
    return Gaussian(in_float32(mu, hidden), in_float32(logvar, hidden).clamp(*LOGVAR_RANGE))


class Decoder(nn.Module):
    """What the three decoders share: two linear layers, code -> 256 -> 128 x S/4 x S/4.

    They start at S/4, not at the encoder's S//8, because 3 does not double to 7. Losses use
    ``logits``, which keep their precision where the sigmoid saturates. ``nn.MaxUnpool2d`` would
    need the encoder's indices, but no encoder has seen the image of a sum.
    """

    channels, units = Encoder.channels, Encoder.units

    def __init__(self, code_size: int = 7, image_size: int = 28) -> None:
        super().__init__()
        self.code_size = check_int("code_size", code_size, 1, 128)
        self.image_size = check_choice("image_size", image_size, IMAGE_SIZES)
        start = (self.channels[2], image_size // 4, image_size // 4)
        self.expand = nn.Sequential(
            nn.Linear(code_size, self.units), nn.ReLU(),
            nn.Linear(self.units, math.prod(start)), nn.ReLU(), nn.Unflatten(1, start),
        )  # fmt: skip

    def draw(self, features: Tensor) -> Tensor:
        """Turn features ``[B, 128, S/4, S/4]`` into pixel logits ``[B, 1, S, S]``."""
        return self.layers(features)

    def logits(self, z: Tensor) -> Tensor:
        """Decode codes ``[B, code_size]`` to pixel logits ``[B, 1, S, S]``."""
        check_shape("z", z, self.code_size)
        return self.draw(self.expand[1:](in_float32(self.expand[0], z)))

    def forward(self, z: Tensor) -> Tensor:
        """Decode codes ``[B, code_size]`` to images ``[B, 1, S, S]`` in (0, 1)."""
        return torch.sigmoid(self.logits(z))


class ConvTranspose(nn.ConvTranspose2d):
    """``nn.ConvTranspose2d``, the bias added apart: oneDNN's gradient of it is one slow loop."""

    def forward(self, x: Tensor) -> Tensor:
        """Convolve ``x`` ``[B, C_in, H, W]``."""
        y = F.conv_transpose2d(x, self.weight, None, self.stride, self.padding, self.output_padding)
        return y.add_(self.bias.to(y.dtype).view(-1, 1, 1))


class DecoderConvTranspose(Decoder):
    """Decoder 1: each value writes a learned 3x3 stamp, two pixels apart: 128 -> 64 -> 32 -> 1."""

    def __init__(self, code_size: int = 7, image_size: int = 28) -> None:
        super().__init__(code_size, image_size)
        c1, c2, c3 = self.channels
        self.layers = nn.Sequential(
            ConvTranspose(c3, c2, 3, stride=2, padding=1, output_padding=1), nn.ReLU(inplace=True),
            ConvTranspose(c2, c1, 3, stride=2, padding=1, output_padding=1), nn.ReLU(inplace=True),
            ConvTranspose(c1, 1, 3, padding=1),
        )  # fmt: skip


class DecoderConvUpsample(Decoder):
    """Decoder 2: copies each value to four places, then a 3x3 convolution: 128 -> 64 -> 32 -> 1."""

    mode = "nearest"

    def __init__(self, code_size: int = 7, image_size: int = 28) -> None:
        super().__init__(code_size, image_size)
        c1, c2, c3 = self.channels
        self.convolution1 = nn.Conv2d(c3, c2, 3, padding="same")
        self.convolution2 = nn.Conv2d(c2, c1, 3, padding="same")
        self.convolution3 = nn.Conv2d(c1, 1, 3, padding="same")

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
    """Decoder 3: interpolates, then convolves. In "nearest" mode (the report's) it IS decoder 2.

    ``mode="bilinear"`` blends neighbours instead of copying them. The assignment's third version,
    images of 64x64, is this decoder at ``image_size=64``.
    """

    def __init__(self, code_size: int = 7, image_size: int = 28, mode: str = "nearest") -> None:
        super().__init__(code_size, image_size)
        self.mode = check_choice("mode", mode, ("nearest", "bilinear"))


def upsample_then_convolve(x: Tensor, convolution: nn.Conv2d) -> Tensor:
    """Return ``convolution(upsample(x))`` for nearest-neighbour doubling, for 2.25 times less work.

    After doubling, the nine taps of the kernel fall on only four different values. So the pair is
    exactly a transposed convolution of stride 2 whose 4x4 kernel is the 3x3 one summed over 2x2.
    """
    # conv_transpose2d wants [C_in, C_out, kH, kW] and applies the kernel flipped.
    flipped = convolution.weight.flip(2, 3).transpose(0, 1)
    w = F.pad(flipped.contiguous(memory_format=torch.channels_last), (1, 1, 1, 1))
    kernel = w[..., 1:, 1:] + w[..., 1:, :-1] + w[..., :-1, 1:] + w[..., :-1, :-1]
    y = F.conv_transpose2d(x, kernel, stride=2, padding=1)
    return y if convolution.bias is None else y.add_(convolution.bias.to(y.dtype).view(-1, 1, 1))


DECODERS: dict[str, type[Decoder]] = {
    "conv_transpose": DecoderConvTranspose,
    "conv_upsample": DecoderConvUpsample,
    "interpolation": DecoderInterpolation,
}


class Adder(nn.Module):
    """P: a small multilayer perceptron on code and addend.

    With ``embed_addend`` the addend first becomes a vector (the report's ``ValueToLatent``).
    """

    def __init__(self, code_size: int = 7, *, embed_addend: bool = False) -> None:
        super().__init__()
        self.code_size = check_int("code_size", code_size, 1, 128)
        width = code_size if embed_addend else 1
        self.embedding = (
            nn.Sequential(nn.Linear(1, width), nn.ReLU()) if embed_addend else nn.Identity()
        )
        sizes = (code_size + width, 32, 16, 16, code_size)
        layers = [layer for a, b in pairwise(sizes) for layer in (nn.Linear(a, b), nn.ReLU())]
        self.layers = nn.Sequential(*layers[:-1])

    def joined(self, z: Tensor, addend: Tensor) -> Tensor:
        """Return what the first layer is given: code and addend, side by side."""
        check_shape("z", z, self.code_size)
        if addend.shape != z.shape[:1]:
            raise ValueError(f"addend is of shape {list(addend.shape)}; allowed is [{len(z)}]")
        return torch.cat([z, in_float32(self.embedding, addend[:, None]).to(z.dtype)], dim=1)

    def forward(self, z: Tensor, addend: Tensor) -> Tensor:
        """Add ``addend`` ``[B]`` to the digits whose codes are ``z``: codes ``[B, code_size]``."""
        return in_float32(self.layers, self.joined(z, addend))


class GaussianAdder(Adder):
    """P as a generative model: the sum's code as a distribution (Part IV item 3)."""

    def __init__(self, code_size: int = 7, *, embed_addend: bool = False) -> None:
        super().__init__(code_size, embed_addend=embed_addend)
        self.logvar = nn.Linear(self.layers[-1].in_features, code_size)

    def gaussian(self, z: Tensor, addend: Tensor) -> Gaussian:
        """Return the distribution p(z_sum | z, addend)."""
        hidden = in_float32(self.layers[:-1], self.joined(z, addend))
        return gaussian_of(self.layers[-1], self.logvar, hidden)


def code_of(
    part: nn.Module, *inputs: Tensor, noise: Tensor | None = None
) -> tuple[Tensor, Gaussian | None]:
    """Return the code of E or P (a sample with ``noise``, else the mean) and its distribution."""
    if not hasattr(part, "gaussian"):
        return part(*inputs), None
    q = part.gaussian(*inputs)
    return (q.mu if noise is None else q.sample(noise)), q


class Autoencoder(nn.Module):
    """D after E: an image through its code and back (Part II)."""

    def __init__(self, encoder: nn.Module, decoder: nn.Module) -> None:
        super().__init__()
        self.encoder, self.decoder = encoder, decoder

    def forward(self, x: Tensor) -> Tensor:
        """Reconstruct images ``[B, 1, S, S]``."""
        return self.decoder(self.encoder(x))


class AdditionOutput(NamedTuple):
    """What a training pass returns; a distribution is None where a part makes none."""

    x_logits: Tensor  # reconstruction of the input, before the sigmoid
    y_logits: Tensor  # image of the sum
    z_sum: Tensor  # code of the sum, made by P
    z_target: Tensor  # code of the target image, made by E
    q_x: Gaussian | None = None
    q_y: Gaussian | None = None
    p_sum: Gaussian | None = None

    x_hat = property(lambda self: torch.sigmoid(self.x_logits))
    y_hat = property(lambda self: torch.sigmoid(self.y_logits))


class AdditionModel(nn.Module):
    """E, P and D; called as a function it is the inference model (Part III item 6)."""

    def __init__(self, encoder: nn.Module, adder: nn.Module, decoder: nn.Module) -> None:
        super().__init__()
        self.encoder, self.adder, self.decoder = encoder, adder, decoder

    def forward(self, x: Tensor, addend: Tensor) -> Tensor:
        """Draw ``x + addend``: images ``[B, 1, S, S]`` in (0, 1), at the mean of distributions."""
        return self.decoder(self.adder(self.encoder(x), addend))

    def training_pass(
        self, x: Tensor, addend: Tensor, y: Tensor, noise: Tensor | None = None
    ) -> AdditionOutput:
        """Run both branches; ``noise`` ``[B, 2 * code_size]`` samples the codes of x and sum."""
        for_x, for_sum = (None, None) if noise is None else noise.chunk(2, 1)
        both, q = code_of(self.encoder, torch.cat([x, y]))
        (z, z_target), q_x, q_y = both.chunk(2), None, None
        if q is not None:
            q_x, q_y = (Gaussian(*half) for half in zip(*(t.chunk(2) for t in q), strict=True))
            z = z if for_x is None else q_x.sample(for_x)
        z_sum, p_sum = code_of(self.adder, z, addend, noise=for_sum)
        x_logits, y_logits = self.decoder.logits(torch.cat([z, z_sum])).chunk(2)
        return AdditionOutput(x_logits, y_logits, z_sum, z_target, q_x, q_y, p_sum)

    @property
    def stochastic(self) -> bool:
        """Whether a sample differs from the mean: some part makes distributions."""
        return hasattr(self.encoder, "gaussian") or hasattr(self.adder, "gaussian")

    @torch.no_grad()
    def sample(
        self,
        x: Tensor,
        addend: Tensor,
        *,
        temperature: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Draw one sample of ``x + addend``; ``temperature`` scales the noise, 0 is the mean."""
        z, q = code_of(self.encoder, x)
        z = z if q is None else q.draw(temperature, generator)
        z_sum, p = code_of(self.adder, z, addend)
        return self.decoder(z_sum if p is None else p.draw(temperature, generator))


def parameter_count(module: nn.Module) -> int:
    """Return how many trained numbers a module has."""
    return sum(parameter.numel() for parameter in module.parameters())
