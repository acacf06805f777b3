"""Learning to add a number to the picture of a digit: autoencoders, an adder, their measures."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from learn2add.adders import Adder, GaussianAdder
    from learn2add.data import Digits, as_float, load_digits
    from learn2add.decoders import (
        DecoderConvTranspose,
        DecoderConvUpsample,
        DecoderInterpolation,
    )
    from learn2add.encoders import Encoder, GaussianEncoder
    from learn2add.models import AdditionInference, AdditionModel, Autoencoder
    from learn2add.pairs import AdditionPairs, transform_data_add

__version__ = "0.1.0"
__all__ = [
    "Adder",
    "AdditionInference",
    "AdditionModel",
    "AdditionPairs",
    "Autoencoder",
    "DecoderConvTranspose",
    "DecoderConvUpsample",
    "DecoderInterpolation",
    "Digits",
    "Encoder",
    "GaussianAdder",
    "GaussianEncoder",
    "as_float",
    "load_digits",
    "transform_data_add",
]

_HOMES = ("data", "encoders", "decoders", "adders", "models", "pairs")


def __getattr__(name: str) -> Any:
    """Import a name when it is first asked for, so that ``learn2add --help`` waits for no torch."""
    if name in __all__:
        for home in _HOMES:
            module = import_module(f"learn2add.{home}")
            if name in vars(module):
                return vars(module)[name]
    raise AttributeError(f"module 'learn2add' has no attribute {name!r}")
