"""Train autoencoders of many code sizes: ``python tools/code_sizes.py``.

Each is Part II's quick run with squared error. Every run lies under ``LEARN2ADD_RUNS`` (or
``runs``), so a second call goes on where the first was stopped. The squared errors per pixel of the
validation digits go to ``runs/part2/code_sizes/errors.json``.
"""

import argparse
import json
from pathlib import Path

from tqdm import tqdm

from learn2add import load_digits, recipes
from learn2add.checkpoints import write_atomically
from learn2add.evaluation import reconstruction_rmse
from learn2add.hardware import default_device

KEPT = Path(__file__).parents[1] / "runs" / "part2" / "code_sizes"
SIZES = (*range(1, 11), 16, 32, 64, 128)


def main() -> None:
    """Train, measure, keep."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="default: 1 to 128")
    parser.add_argument("--budget", choices=("quick", "smoke"), default="quick")
    parser.add_argument("--folder", type=Path, default=KEPT, help="where the figures go")
    arguments = parser.parse_args()
    device, budget = default_device(), arguments.budget
    validation = load_digits("MNIST", "validation").to(device)
    errors = []
    for size in tqdm(arguments.sizes, unit=" runs"):
        config = recipes.part2(code_size=size, budget=budget)
        run = recipes.run("latent", f"plain-l2-code{size}", config, budget, progress=False)
        errors.append(reconstruction_rmse(run.model(device), validation) ** 2)
    table = {"code_sizes": list(arguments.sizes), "mse": [round(error, 6) for error in errors]}
    write_atomically(arguments.folder / "errors.json", json.dumps(table, indent=1) + "\n")
    for size, error in zip(arguments.sizes, errors, strict=True):
        print(f"{size:>4} numbers: squared error {error:.4f} per pixel")


if __name__ == "__main__":
    main()
