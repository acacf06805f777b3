"""Learning to add a number to the picture of a digit: autoencoders, an adder, their measures."""

from learn2add.data import Digits, as_float, load_digits
from learn2add.models import (
    Adder,
    AdditionInference,
    AdditionModel,
    Autoencoder,
    DecoderConvTranspose,
    DecoderConvUpsample,
    DecoderInterpolation,
    Encoder,
)
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
    "as_float",
    "load_digits",
    "transform_data_add",
]
