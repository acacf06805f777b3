"""Your own digit plus a number: ``learn2add add``."""

from pathlib import Path

import cv2
import numpy as np
from torch import Tensor

from learn2add import runs
from learn2add.checkpoints import write_atomically
from learn2add.data import as_float
from learn2add.drawing.photo import read_digit
from learn2add.judge import load_judge
from learn2add.measures import add

SURE = 0.9
"""Of photographs that are read wrongly, most are read with less certainty than this."""


def draw_sum(
    image: Path, addend: float, output: Path, name: str, show_input: bool = False
) -> float:
    """Read a digit, draw the sum with a run into a PNG file, and print what the judge reads.

    Return how sure it is of the input. ``show_input`` puts input and sum side by side.

    Raises:
        ValueError: The output is no PNG or the image itself, the run has no adder, or the image
            shows no digit.
        RunError: There is no such run.
    """
    check_output(output, ".png", image)
    run = runs.load(name)
    if not (config := run.config).adds:
        raise ValueError(f"{run.folder} is an {config.model} without adder; name another run")
    digit = read_digit(image, config.image_size)[None]
    x, judge = as_float(digit), load_judge()
    y_hat = add(run.model("cpu"), digit, addend)
    read = judge.read(x)[0]
    total = int(read.argmax()) + addend * (1 if config.operation == "add" else -1)
    print(f"input: the judge reads {readings(read)}")
    print(f"sum:   the judge reads {readings(judge.read(y_hat)[0])}")
    if not 0 <= total <= 9:
        print(f"{total:g} is not the sum of any pair the network was trained on (0 to 9)")
    write_atomically(output, png([x, y_hat] if show_input else [y_hat]))
    print(f"wrote {output}")
    return float(read.max())


def check_output(output: Path, suffix: str, *pictures: Path) -> None:
    """Raise ValueError where an output ends in another suffix, or is one of the pictures read."""
    if output.suffix.lower() != suffix:
        raise ValueError(f"the output must end in {suffix}, not {output.name!r}")
    if output.exists() and any(p.exists() and output.samefile(p) for p in pictures):
        raise ValueError(f"the output is {output}, the picture itself; name another file")


def readings(probabilities: Tensor) -> str:
    """Return what the judge reads, likeliest first, down to 1 %: ``9 (97.2 %), 4 (2.1 %)``."""
    ranked = sorted(enumerate(probabilities.tolist()), key=lambda pair: -pair[1])
    return ", ".join(f"{digit} ({100 * p:.1f} %)" for digit, p in ranked[:3] if p >= 0.01)


def png(images: list[Tensor], enlarged: int = 8) -> bytes:
    """Return images float ``[1, 1, S, S]`` in [0, 1], side by side and enlarged, as a grey PNG."""
    row = np.rint(255 * np.concatenate(images, axis=3)[0, 0]).astype(np.uint8)
    large = np.kron(row, np.ones((enlarged, enlarged), np.uint8))
    return cv2.imencode(".png", large)[1].tobytes()
