"""Cross-validate report 002's best setting: ``python tools/experiments/folds.py``.

Five trainings on four fifths of the 60,000 digits each, measured on the fifth that was left out. A
second call goes on where the first was stopped. The errors go to ``runs/narrow/folds.json``.

Source: report 002, section 1: the task asks for it, section 2 says why it was not done.
"""

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[2]))

from learn2add.config import RunConfig
from learn2add.data import Digits, load_digits
from learn2add.hardware import default_device, keep_freed_memory
from learn2add.measures import reconstruction_rmse
from learn2add.runs import Run, runs_root
from learn2add.studies.narrow import BATCH_SIZE, BEST_002, NarrowStage, setting_config
from learn2add.train import train
from tools.experiments._keep import in_seconds, keep, options

FOLDS = 5


def everything(budget: str) -> Digits:
    """Return all digits but those of the test set, or a few of them."""
    parts = [load_digits("MNIST", split) for split in ("train", "validation")]
    images, labels = (torch.cat([getattr(p, name) for p in parts]) for name in ("images", "labels"))
    digits = replace(parts[0], images=images, labels=labels)
    return digits.subset(300) if budget == "smoke" else digits


def part(digits: Digits, fold: int, *, left_out: bool) -> Digits:
    """Return the fifth that a fold leaves out, or the others."""
    chosen = (torch.arange(len(digits)) % FOLDS == fold) == left_out
    return replace(digits, images=digits.images[chosen], labels=digits.labels[chosen])


def config_of(epochs: int, budget: str) -> RunConfig:
    """Return the setting, trained for so many epochs."""
    config = setting_config(BEST_002, NarrowStage("autoencoder", epochs, None, BATCH_SIZE))
    return in_seconds(config) if budget == "smoke" else config


def main(argv: Sequence[str] | None = None) -> None:
    """Train, measure, keep."""
    parser = options(__doc__, "narrow")
    parser.add_argument("--epochs", type=int, default=10, help="of each training; default: 10")
    arguments = parser.parse_args(argv)
    keep_freed_memory()
    digits, device = everything(arguments.budget), default_device()
    config = config_of(arguments.epochs, arguments.budget)
    errors, seconds = [], 0.0
    for fold in range(FOLDS):
        folder = runs_root() / arguments.budget / "folds" / f"{arguments.epochs}-{fold}"
        folder.mkdir(parents=True, exist_ok=True)
        halves = [part(digits, fold, left_out=out) for out in (False, True)]
        state = train(config, *halves, folder, device=device)
        model = Run(folder, config, state.history, {}).model(device)
        errors.append(round(reconstruction_rmse(model, halves[1].to(device)) ** 2, 6))
        seconds += sum(row["seconds"] for row in state.history)
    table = {"epochs": arguments.epochs, "errors": errors, "seconds": round(seconds)}
    keep(arguments.folder / "folds.json", table)
    print(f"squared error per pixel of each fold: {', '.join(f'{e:.5f}' for e in errors)}")


if __name__ == "__main__":
    main()
