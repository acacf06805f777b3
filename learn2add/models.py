"""The whole models, made of an encoder (E), an adder (P) and a decoder (D).

Sources: assignment, Part II, Part III items 3 and 6, Part IV; report, section 5.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from learn2add.adders import Adder, GaussianAdder
from learn2add.auto_decoder import AutoDecoder
from learn2add.capacity import Capacity
from learn2add.checks import check_choice, check_finite, check_images
from learn2add.data import as_float
from learn2add.dcgan import make_decoder
from learn2add.decoders import ASSIGNED, Decoder
from learn2add.encoders import Encoder, Gaussian, GaussianEncoder

BATCH = 1000
"""Pictures that are encoded, drawn or read at once outside training."""


def make_encoder(
    code_size: int, image_size: int, capacity: Capacity, variational: bool, hidden: str
) -> Encoder:
    """A plain or a variational encoder."""
    kind = GaussianEncoder if variational else Encoder
    return kind(code_size, image_size, capacity, hidden=hidden)


class Autoencoder(nn.Module):
    """D after E: a picture through its code and back.

    Args:
        decoder: "conv_transpose", "conv_upsample", "interpolation" or "dense".
        code_size: Length of the code, 1 to 128.
        image_size: Side of a picture, one of 28, 32, 64.
        variational: Whether the code is a distribution (then, when called, its mean is decoded).
        hidden: See :class:`learn2add.encoders.Encoder`.
        capacity: Widths and dropout.

    Source: assignment, Part II and Part IV item 1.
    """

    def __init__(
        self,
        decoder: str = "conv_transpose",
        code_size: int = 7,
        image_size: int = 28,
        *,
        variational: bool = False,
        hidden: str = "linear",
        capacity: Capacity = ASSIGNED,
    ) -> None:
        super().__init__()
        self.encoder = make_encoder(code_size, image_size, capacity, variational, hidden)
        self.decoder = make_decoder(decoder, code_size, image_size, capacity)

    def forward(self, x: Tensor) -> Tensor:
        """Reconstruct ``x``: ``[B, 1, S, S]`` -> ``[B, 1, S, S]`` in (0, 1)."""
        return self.decoder(self.encoder(x))


def code_of(
    part: Encoder | Adder, *inputs: Tensor, noise: Tensor | None = None
) -> tuple[Tensor, Gaussian | None]:
    """The code that an encoder or adder makes, and its distribution if it makes one.

    Of a distribution the code is a sample with the given noise, or without noise the mean.
    """
    if not isinstance(part, GaussianEncoder | GaussianAdder):
        return part(*inputs), None
    found = part.gaussian(*inputs)
    return (found.mu if noise is None else found.sample(noise)), found


def encode(model: nn.Module, images: Tensor) -> Tensor:
    """Codes of pictures uint8 ``[N, S, S]``: ``[N, code_size]``, of a distribution its mean."""
    return torch.cat([model.encoder(as_float(part)) for part in images.split(BATCH)])


class AdditionOutput(NamedTuple):
    """What the whole training model returns; the pictures as logits and as values in (0, 1).

    ``x_hat``, ``y_hat``: float ``[B, 1, S, S]``. ``z_sum`` (made by the adder) and ``z_target``
    (the encoder's code of the target picture): float ``[B, code_size]``. ``q_x``, ``q_y`` (of a
    variational encoder, for input and target) and ``p_sum`` (of a generative adder) are the
    distributions, else None.
    """

    x_logits: Tensor
    y_logits: Tensor
    z_sum: Tensor
    z_target: Tensor
    q_x: Gaussian | None = None
    q_y: Gaussian | None = None
    p_sum: Gaussian | None = None

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

    Args:
        decoder: "conv_transpose", "conv_upsample", "interpolation" or "dense".
        code_size: Length of the code, 1 to 128.
        image_size: Side of a picture, one of 28, 32, 64.
        variational: Whether the encoder's code is a distribution (Part IV item 1).
        generative: Whether the adder's is (Part IV item 3).
        embed_addend: See :class:`learn2add.adders.Adder`.
        hidden: See :class:`learn2add.encoders.Encoder`.
        capacity: Widths and dropout.
    """

    def __init__(
        self,
        decoder: str = "conv_transpose",
        code_size: int = 7,
        image_size: int = 28,
        *,
        variational: bool = False,
        generative: bool = False,
        embed_addend: bool = False,
        hidden: str = "linear",
        capacity: Capacity = ASSIGNED,
    ) -> None:
        super().__init__()
        self.encoder = make_encoder(code_size, image_size, capacity, variational, hidden)
        self.adder = (GaussianAdder if generative else Adder)(code_size, embed_addend=embed_addend)
        self.decoder = make_decoder(decoder, code_size, image_size, capacity)

    def forward(
        self, x: Tensor, addend: Tensor, y: Tensor, noise: Tensor | None = None
    ) -> AdditionOutput:
        """Run both branches.

        Args:
            x: Input pictures, float ``[B, 1, S, S]`` in [0, 1].
            addend: The numbers added, float ``[B]``.
            y: Target pictures (used for their codes alone), float ``[B, 1, S, S]`` in [0, 1].
            noise: Standard normal ``[B, 2 * code_size]``, for the code and for the sum's code
                where they are distributions; None takes their means.

        Returns:
            Logits of reconstruction and sum picture, the codes of the sum, the distributions.
        """
        both, q_both = code_of(self.encoder, torch.cat([x, y]))
        (z, z_target), q_x, q_y = both.chunk(2), None, None
        if q_both is not None:
            q_x, q_y = (
                Gaussian(*parts) for parts in zip(*(t.chunk(2) for t in q_both), strict=True)
            )
            z = z if noise is None else q_x.sample(noise.chunk(2, 1)[0])
        noise = None if noise is None else noise.chunk(2, 1)[1]
        z_sum, p_sum = code_of(self.adder, z, addend, noise=noise)
        x_logits, y_logits = self.decoder.logits(torch.cat([z, z_sum])).chunk(2)
        return AdditionOutput(x_logits, y_logits, z_sum, z_target, q_x, q_y, p_sum)

    def inference(self) -> "AdditionInference":
        """The inference model, sharing this model's weights."""
        return inference_of(self)


def inference_of(model: AdditionModel | AutoDecoder) -> "AdditionInference":
    """The inference model of a model that adds, sharing its weights."""
    return AdditionInference(model.encoder, model.adder, model.decoder)


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

    @property
    def stochastic(self) -> bool:
        """Whether a sample differs from the mean: some part makes distributions."""
        return isinstance(self.encoder, GaussianEncoder) or isinstance(self.adder, GaussianAdder)

    @torch.no_grad()
    def sample(
        self,
        x: Tensor,
        addend: Tensor,
        *,
        temperature: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Draw one sample of ``x + addend``: noise wherever a part is a distribution.

        Args:
            x: Float32 ``[B, 1, S, S]`` in [0, 1].
            addend: Float ``[B]``.
            temperature: Factor on the noise; 0 is :meth:`forward`.
            generator: Where the noise comes from; the default is torch's own.

        Returns:
            Float ``[B, 1, S, S]`` in (0, 1).
        """

        def drawn(part: Encoder | Adder, *inputs: Tensor) -> Tensor:
            mean, found = code_of(part, *inputs)
            if found is None:
                return mean
            noise = torch.randn(mean.shape, generator=generator, device=mean.device)
            return found.sample(temperature * noise)

        return self.decoder(drawn(self.adder, drawn(self.encoder, x), addend))


class Kind(NamedTuple):
    """What a whole model is made of."""

    adder: bool
    """Whether it adds, or reconstructs only."""
    variational: bool
    """Whether its encoder makes distributions."""
    generative: bool
    """Whether its adder does."""
    table: bool = False
    """Whether a table of codes stands in its encoder's place."""


MODELS = {
    "autoencoder": Kind(adder=False, variational=False, generative=False),
    "variational_autoencoder": Kind(adder=False, variational=True, generative=False),
    "addition": Kind(adder=True, variational=False, generative=False),
    "variational_addition": Kind(adder=True, variational=True, generative=False),
    "generative_addition": Kind(adder=True, variational=True, generative=True),
    "auto_decoder": Kind(adder=False, variational=False, generative=False, table=True),
    "auto_decoder_addition": Kind(adder=True, variational=False, generative=False, table=True),
}
"""The whole models by name."""


def make_model(
    name: str,
    decoder: str = "conv_transpose",
    code_size: int = 7,
    image_size: int = 28,
    *,
    hidden: str = "linear",
    embed_addend: bool = False,
    capacity: Capacity = ASSIGNED,
    distribution: str = "point",
    count: int = 1,
) -> Autoencoder | AdditionModel | AutoDecoder:
    """Build the model called ``name``, one of ``MODELS``.

    ``distribution`` and ``count`` are those of :class:`learn2add.auto_decoder.AutoDecoder`.

    Raises:
        ValueError: An argument is not allowed.
    """
    kind = MODELS[check_choice("model", name, tuple(MODELS))]
    if kind.table:
        table = {"count": count, "distribution": distribution}
        adder = {"adder": kind.adder, "embed_addend": embed_addend}
        return AutoDecoder(decoder, code_size, image_size, **table, **adder, capacity=capacity)
    ends = {"variational": kind.variational, "hidden": hidden, "capacity": capacity}
    if not kind.adder:
        return Autoencoder(decoder, code_size, image_size, **ends)
    adder = {"generative": kind.generative, "embed_addend": embed_addend}
    return AdditionModel(decoder, code_size, image_size, **ends, **adder)
