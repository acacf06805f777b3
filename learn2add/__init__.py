"""Learning to add a number to the image of a digit: autoencoders, an adder, their measures."""

from typing import Any

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """``learn2add.check``, found when it is asked for: what it needs takes seconds to import."""
    if name == "check":
        from learn2add.course.check import check

        return check
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
