"""Train autoencoders of several code sizes for longer: ``python tools/long_codes.py``.

The notebooks' live trainings see less than one pass over the digits; the reports' saw a hundred.
Each run here has the recipe of ``runs/part2/long`` with fewer passes (:data:`PASSES`). Every run
lies under ``LEARN2ADD_RUNS`` (or ``runs``), so a second call goes on where the first was stopped,
and several at once share the work. The figures go to ``runs/part2/long_codes/figures.json``; the
weights, 4 MB each, are not kept.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from learn2add import load_digits, recipes
from learn2add.checkpoints import write_atomically
from learn2add.configs import RunConfig
from learn2add.corruptions import noisy
from learn2add.data import Digits
from learn2add.hardware import default_device
from learn2add.judge import Judge, load_judge
from learn2add.robustness import redrawn
from learn2add.runs import Run, free_first, load_or_train, load_run, runs_root

KEPT = Path(__file__).parents[1] / "runs" / "part2" / "long_codes"
PASSES = 8
PLAN = {
    "code4-noise": {"code_size": 4, "noise": 0.3},
    "code10": {"code_size": 10},
    "code64-noise": {"code_size": 64, "noise": 0.5},
}
"""Options of :func:`learn2add.recipes.part2_long`, by name."""
STRENGTHS = (0.0, 0.01**0.5, 0.2, 0.05**0.5, 0.1**0.5, 0.2**0.5)
"""Standard deviations of the noise: none, report 003's 0.2, and four variances."""


def config_of(name: str, arguments: argparse.Namespace) -> RunConfig:
    """The configuration of a run of the plan."""
    config = recipes.part2_long(**PLAN[name], epochs=arguments.passes)
    few = {"train_size": 1000, "validation_size": 1000} if arguments.budget == "smoke" else {}
    return replace(config, **few)


def figures_of(run: Run, judge: Judge, digits: Digits) -> dict[str, Any]:
    """Squared error and PSNR at every strength of noise."""
    rows = redrawn(run.model(digits.images.device), judge, digits, noisy, STRENGTHS)
    return {key: [round(getattr(row, key), 6) for row in rows] for key in ("mse", "psnr")}


def main() -> None:
    """Train, measure, keep."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--passes", type=int, default=PASSES, help=f"default: {PASSES}")
    parser.add_argument("--budget", choices=("quick", "smoke"), default="quick")
    parser.add_argument("--names", nargs="+", choices=tuple(PLAN), default=tuple(PLAN))
    parser.add_argument("--folder", type=Path, default=KEPT, help="where the figures go")
    arguments = parser.parse_args()
    root = runs_root() / arguments.budget / "part2" / f"long-{arguments.passes}"
    places = {root / name: name for name in arguments.names}
    for folder in tqdm(free_first(places), total=len(places), unit=" runs"):
        load_or_train(config_of(places[folder], arguments), folder, progress=False)
    device = default_device()
    judge = load_judge(device=device)
    splits = {split: load_digits("MNIST", split).to(device) for split in ("validation", "test")}
    if arguments.budget == "smoke":
        splits = {split: digits.subset(300) for split, digits in splits.items()}
    table: dict[str, Any] = {"passes": arguments.passes, "strengths": STRENGTHS, "runs": {}}
    for folder, name in places.items():
        run = load_run(folder)
        found = {split: figures_of(run, judge, digits) for split, digits in splits.items()}
        table["runs"][name] = PLAN[name] | {"seconds": run.result["seconds"]} | found
        print(f"{name}: squared error {found['test']['mse'][0]:.5f} per pixel, clean test digits")
    write_atomically(arguments.folder / "figures.json", json.dumps(table, indent=1) + "\n")


if __name__ == "__main__":
    main()
