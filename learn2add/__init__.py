"""Learning to add a number to the image of a digit: autoencoders, an adder, their measures."""

__version__ = "0.1.0"
