"""Draw the README's two images: ``python tools/readme_images.py``.

The first test digit of five classes with a number each, and what the kept model that counts draws
for the sum, in the hand of the input; and the scheme of the assignment's network, with what that
one draws. They go to ``runs/strip.png`` and ``runs/scheme.png``.
"""

import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from learn2add import figures
from learn2add.course.scheme import scheme
from learn2add.data import load_digits
from learn2add.measures import add, reconstruct
from learn2add.runs import load
from tools.pictures import save_packed

RUNS = Path(__file__).parents[1] / "runs"
SUMS = ((7, 2), (3, 4), (0, 6), (1, 1), (4, 0))


def main() -> None:
    """Draw both."""
    model, test = load("part3/hand").model("cpu"), load_digits("MNIST", "test")
    first = [members[:1] for members in test.by_class()]
    inputs = test.images[torch.cat([first[digit] for digit, _ in SUMS])]
    addends = [addend for _, addend in SUMS]
    drawn = torch.cat([add(model, inputs[[i]], addend) for i, addend in enumerate(addends)])
    strip = figures.pairs_strip(inputs, addends, drawn, columns=len(SUMS), result="drawn")
    save_packed(strip, RUNS / "strip.png")
    assigned, x = load("part3/reference").model("cpu"), inputs[:1]
    images = {"x": x[0], "x_hat": reconstruct(assigned, x)[0, 0]}
    images |= {"y": test.images[first[9][0]], "y_hat": add(assigned, x, addends[0])[0, 0]}
    save_packed(scheme("addition", images), RUNS / "scheme.png")


if __name__ == "__main__":
    sys.exit(main())
