"""Train autoencoders of many code sizes: ``python tools/experiments/code_sizes.py``.

Each is Part II's quick run with squared error. Every run lies under ``LEARN2ADD_RUNS`` (or
``runs``), so a second call goes on where the first was stopped, and several at once share the work.
The squared errors per pixel of the validation digits go to ``runs/part2/code_sizes/errors.json``.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from learn2add import recipes
from learn2add.hardware import default_device
from learn2add.measures import reconstruction_rmse
from learn2add.runs import runs_root
from tools.experiments._keep import digits_of, keep, options, trained

SIZES = (*range(1, 11), 16, 32, 64, 128)


def main(argv: Sequence[str] | None = None) -> None:
    """Train, measure, keep."""
    parser = options(__doc__, "part2/code_sizes")
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="default: 1 to 128")
    arguments = parser.parse_args(argv)
    budget = arguments.budget
    configs = {}
    for size in arguments.sizes:
        folder = runs_root() / recipes.place("latent", f"plain-l2-code{size}", budget)
        configs[folder] = recipes.part2(code_size=size, budget=budget)
    device, validation = default_device(), digits_of("validation", budget)
    runs = trained(configs).values()
    errors = [reconstruction_rmse(run.model(device), validation) ** 2 for run in runs]
    table = {"code_sizes": list(arguments.sizes), "mse": [round(error, 6) for error in errors]}
    keep(arguments.folder / "errors.json", table)
    for size, error in zip(arguments.sizes, errors, strict=True):
        print(f"{size:>4} numbers: squared error {error:.4f} per pixel")


if __name__ == "__main__":
    main()
