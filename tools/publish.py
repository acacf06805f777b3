"""Keep a finished run in git: ``python tools/publish.py RUN part3/quick``.

Beside what :func:`learn2add.runs.publish` copies, the kept folder gets the figures of its stored
(eight-bit) weights on the test digits, ``evaluation.json``, and a sample picture.
"""

import argparse
import json
from pathlib import Path

import torch

from learn2add import as_float, figures, load_digits
from learn2add.checkpoints import write_atomically
from learn2add.evaluation import add, evaluate, reconstruct
from learn2add.pairs import CELLS
from learn2add.runs import Run, load_run, publish

RUNS = Path(__file__).parents[1] / "runs"


def sample(run: Run, file: Path) -> None:
    """Draw what the run can do with the first test digit of each class."""
    test = load_digits(run.config.dataset, "test").resized(run.config.image_size)
    first = torch.tensor([int(members[0]) for members in test.by_class()])
    model, caption = run.model("cpu"), "First test digit of each class."
    if run.config.kind.adder:
        digit, addend = torch.tensor(CELLS).T
        drawn = add(model.inference(), test.images[first[digit]], addend.float())
        grid: list[list[torch.Tensor | None]] = [[None] * 10 for _ in range(10)]
        for (d, a), picture in zip(CELLS, drawn, strict=True):
            grid[d][a] = picture[0]
        figure = figures.addition_grid(grid, caption=caption)
    else:
        digits = test.images[first]
        rows = {"reconstruction": reconstruct(model, digits)[:, 0]}
        figure = figures.reconstructions(as_float(digits)[:, 0], rows, caption=caption)
    figures.save_png(figure, file)


def main() -> None:
    """Publish, evaluate, draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="folder of a finished run")
    parser.add_argument("name", help="its name under runs/, such as part3/quick")
    parser.add_argument("--no-weights", action="store_true", help="the figures are then the run's")
    arguments = parser.parse_args()
    run, weights = load_run(arguments.run), not arguments.no_weights
    kept = publish(run, RUNS / arguments.name, weights=weights)
    measured = kept if weights else run
    found = evaluate(measured)
    write_atomically(kept.folder / "evaluation.json", json.dumps(found, indent=2) + "\n")
    sample(measured, kept.folder / "sample.png")
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
