"""The adders (P): code and addend -> code of the sum, or its distribution.

Sources: assignment, Part III item 2 and Part IV item 3; report, section 5.1.1.
"""

import torch
from torch import Tensor, nn

from learn2add.checks import check_int
from learn2add.decoders import in_float32
from learn2add.encoders import Gaussian, gaussian_of


class Adder(nn.Module):
    """P: code and addend -> code of the sum. A small multilayer perceptron.

    Shapes: ``z`` float ``[B, code_size]``, ``addend`` float ``[B]`` -> float ``[B, code_size]``.

    Args:
        code_size: Length of the code, 1 to 128.
        embed_addend: Whether the addend is first embedded to a vector as long as the code (one
            linear layer and ReLU), the report's ``ValueToLatent``, or joined as one number.

    Source: assignment, Part III item 2; report, section 5.1.1.
    """

    def __init__(self, code_size: int = 7, *, embed_addend: bool = False) -> None:
        super().__init__()
        self.code_size = check_int("code_size", code_size, 1, 128)
        width = code_size if embed_addend else 1
        self.embedding = (
            nn.Sequential(nn.Linear(1, width), nn.ReLU()) if embed_addend else nn.Identity()
        )
        self.layers = nn.Sequential(
            nn.Linear(code_size + width, 32),
            nn.ReLU(),
            nn.Linear(32, 16),
            nn.ReLU(),
            nn.Linear(16, 16),
            nn.ReLU(),
            nn.Linear(16, code_size),
        )

    def forward(self, z: Tensor, addend: Tensor) -> Tensor:
        """Add ``addend`` ``[B]`` to the digits whose codes are ``z`` ``[B, code_size]``."""
        return in_float32(self.layers, self.joined(z, addend))

    def joined(self, z: Tensor, addend: Tensor) -> Tensor:
        """What the first layer is fed: code and addend, ``[B, code_size + 1]`` or twice the code.

        Raises:
            ValueError: A shape is wrong.
        """
        if z.dim() != 2 or z.shape[1] != self.code_size:
            raise ValueError(f"z has shape {list(z.shape)}; allowed is [B, {self.code_size}]")
        if addend.shape != z.shape[:1]:
            raise ValueError(f"addend has shape {list(addend.shape)}; allowed is [{len(z)}]")
        return torch.cat([z, in_float32(self.embedding, addend[:, None]).to(z.dtype)], dim=1)


class GaussianAdder(Adder):
    """P as a generative model: the sum's code as a distribution p(z' | z, addend).

    Shapes: ``z`` float ``[B, code_size]``, ``addend`` float ``[B]`` -> ``mu`` ``[B, code_size]``.

    Args:
        code_size: Length of the code, 1 to 128.
        embed_addend: See :class:`Adder`.

    Source: assignment, Part IV item 3.
    """

    def __init__(self, code_size: int = 7, *, embed_addend: bool = False) -> None:
        super().__init__(code_size, embed_addend=embed_addend)
        self.logvar = nn.Linear(self.layers[-1].in_features, code_size)

    def gaussian(self, z: Tensor, addend: Tensor) -> Gaussian:
        """The distribution of the sum's code, for ``z`` ``[B, code_size]`` and addends ``[B]``."""
        hidden = in_float32(self.layers[:-1], self.joined(z, addend))
        return gaussian_of(self.layers[-1], self.logvar, hidden)
