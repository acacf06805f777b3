"""Auto-decoders: a decoder and a table of codes, and no encoder.

The code of a training picture is learned with the weights. The code of a new picture is *found*, by
gradient descent on the code alone, the weights fixed: :mod:`learn2add.code_fitting`.

Source: report 004; A. Zadeh et al., arXiv 1903.00840; J. J. Park et al., arXiv 1901.05103 (where
the name comes from).
"""

from typing import Any

import torch
from torch import Tensor, nn

from learn2add.adders import Adder
from learn2add.capacity import Capacity
from learn2add.checks import check_int
from learn2add.code_distributions import Family, family_of
from learn2add.code_fitting import Found, find_codes
from learn2add.dcgan import make_decoder
from learn2add.decoders import ASSIGNED


class CodeTable(torch.nn.Module):
    """One row for each training picture, on the device, learned with the decoder.

    Only the rows of the pictures in a batch have a gradient, and it is a sparse one; see
    :class:`learn2add.code_optimiser.CodeAdam`.

    Args:
        count: Pictures.
        code_size: Length of the code.
        distribution: "point", "gaussian", "exponential" or "uniform".

    Raises:
        ValueError: An argument is not allowed.
    """

    def __init__(self, count: int, code_size: int, distribution: str = "point") -> None:
        super().__init__()
        check_int("count", count, 1)
        check_int("code_size", code_size, 1, 128)
        self.family, self.code_size = family_of(distribution), code_size
        rows = self.family.initial(count, code_size).flatten(1)
        self.rows = torch.nn.Embedding(*rows.shape, sparse=True, _weight=rows)

    def forward(self, at: Tensor) -> Tensor:
        """The rows of pictures ``at``, int64 ``[B]``: ``[B, parts, code_size]``."""
        return self.rows(at).unflatten(1, (self.family.parts, self.code_size))

    def means(self) -> Tensor:
        """The mean code of every picture, ``[count, code_size]``, without gradient."""
        rows = self.rows.weight.detach()
        return self.family.mean(rows.unflatten(1, (self.family.parts, self.code_size)))

    def __len__(self) -> int:
        """Number of pictures."""
        return self.rows.num_embeddings


class AutoDecoder(nn.Module):
    """D, and a row of the table for each training picture.

    Args:
        decoder: "dcgan", "conv_transpose", "conv_upsample" or "interpolation".
        code_size: Length of the code, 1 to 128.
        image_size: Side of a picture.
        count: Training pictures.
        distribution: "point" (AD), "gaussian", "exponential" or "uniform" (VAD).
        adder: Whether it has an adder too.
        embed_addend: See :class:`learn2add.adders.Adder`.
        capacity: Widths and dropout of the decoder; "dcgan" has its own.

    Raises:
        ValueError: An argument is not allowed.
    """

    def __init__(
        self,
        decoder: str = "dcgan",
        code_size: int = 128,
        image_size: int = 28,
        *,
        count: int,
        distribution: str = "point",
        adder: bool = False,
        embed_addend: bool = False,
        capacity: Capacity = ASSIGNED,
    ) -> None:
        super().__init__()
        self.codes = CodeTable(count, code_size, distribution)
        if adder:
            self.adder = Adder(code_size, embed_addend=embed_addend)
        self.decoder = make_decoder(decoder, code_size, image_size, capacity)

    def forward(self, at: Tensor) -> Tensor:
        """Draw training pictures ``at``, int64 ``[B]``, at their means: ``[B, 1, S, S]``."""
        return self.decoder(self.family.mean(self.codes(at)))

    @property
    def family(self) -> Family:
        """What a row of the table means."""
        return self.codes.family

    def find(self, images: Tensor, **options: Any) -> Found:
        """:func:`learn2add.code_fitting.find_codes` for this decoder and its training codes."""
        return find_codes(self.decoder, self.family, images, means=self.codes.means(), **options)

    @property
    def encoder(self) -> "FittedEncoder":
        """What stands where other models have an encoder: a search for every picture."""
        return FittedEncoder(self)


class FittedEncoder(nn.Module):
    """Picture -> code by :func:`learn2add.code_fitting.find_codes`: slow, and without weights.

    So an auto-decoder can be measured by whatever encodes and decodes, and can add. Codes are found
    as they were trained: those of distributions with their divergence from the prior.

    Args:
        model: Whose codes are found; it is not copied.
        options: Of the search.
    """

    def __init__(self, model: AutoDecoder, **options: Any) -> None:
        super().__init__()
        self._model = (model,)  # a module of its own it is not
        self.options = {"kl": float(model.family.sampled)} | options

    def forward(self, x: Tensor) -> Tensor:
        """Find the codes of ``x`` float ``[B, 1, S, S]`` in [0, 1]: ``[B, code_size]``."""
        (model,) = self._model
        return model.find(x, **self.options).z
