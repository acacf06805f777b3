"""How much a model can hold: the widths of its layers, and the dropout between them."""

from dataclasses import dataclass

from learn2add.checks import check_finite, check_int

CHANNELS = (32, 64, 128)
"""The assignment's filters."""
UNITS = 256
"""The assignment's hidden neurons."""


@dataclass(frozen=True)
class Capacity:
    """Widths of encoder and decoder, which mirror each other, and their dropout.

    Raises:
        TypeError: A width is no integer, or the dropout no number.
        ValueError: Neither three widths nor none, or one is out of range.

    Sources: assignment, Part II items 1 and 2; what may vary: report 002, sections 2 and 6, report
    003, section 3.1.
    """

    channels: tuple[int, ...] = CHANNELS
    """Filters of the encoder's three convolutions; the decoder has them the other way round. Empty:
    no convolutions, fully connected layers in their place."""
    units: int = UNITS
    """Hidden neurons between convolutions and code, on both sides. Without convolutions a layer of
    twice as many stands on the picture's side."""
    dropout: float = 0.0
    """Share of the hidden neurons on both sides that each training step leaves out."""

    def __post_init__(self) -> None:
        if not isinstance(self.channels, list | tuple) or len(self.channels) not in (0, 3):
            raise ValueError(f"channels is {self.channels!r}; allowed are three numbers, or none")
        channels = tuple(check_int("channels", c, 1, 1024) for c in self.channels)
        object.__setattr__(self, "channels", channels)  # JSON makes lists of tuples
        check_int("units", self.units, 1, 8192)
        check_finite("dropout", self.dropout)
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is {self.dropout}; allowed is from 0 to below 1")

    @property
    def filters(self) -> tuple[int, ...]:
        """The three numbers of filters.

        Raises:
            ValueError: There are none.
        """
        if not self.channels:
            raise ValueError("channels is (); allowed are three numbers where there are filters")
        return self.channels
