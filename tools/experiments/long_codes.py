"""Train autoencoders of several code sizes for longer: ``python tools/experiments/long_codes.py``.

The notebooks' live trainings see less than one pass over the digits; the reports' saw a hundred.
Each run here has the recipe of ``runs/part2/long`` with fewer passes (``PASSES``). Every run lies
under ``LEARN2ADD_RUNS`` (or ``runs``), so a second call goes on where the first was stopped, and
several at once share the work. The results go to ``runs/part2/long_codes/figures.json``; the
weights, 4 MB each, are not kept.
"""

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from learn2add import recipes
from learn2add.config import RunConfig
from learn2add.data import Digits
from learn2add.hardware import default_device
from learn2add.judge import Judge, load_judge
from learn2add.runs import Run, runs_root
from learn2add.studies.corrupted import CorruptedConfig, CorruptedStage, noisy, redrawn
from tools.experiments._keep import digits_of, keep, options, trained

PASSES = 8
PLAN = {
    "code4-noise": {"code_size": 4, "noise": 0.3},
    "code10": {"code_size": 10},
    "code64-noise": {"code_size": 64, "noise": 0.5},
}
"""Options of ``recipes.part2_long``, and largest noise on the images shown, by name."""
STRENGTHS = (0.0, 0.01**0.5, 0.2, 0.05**0.5, 0.1**0.5, 0.2**0.5)
"""Standard deviations of the noise: none, report 003's 0.2, and four variances."""


def config_of(name: str, passes: int, budget: str) -> RunConfig:
    """Return the configuration of a run of the plan."""
    chosen = {"noise": 0.0} | PLAN[name]
    noise = chosen.pop("noise")
    config = recipes.part2_long(**chosen, epochs=passes)
    stages = tuple(CorruptedStage(**vars(stage), noise=noise) for stage in config.stages)
    config = CorruptedConfig(**vars(config) | {"stages": stages})
    few = {"train_size": 1000, "validation_size": 1000} if budget == "smoke" else {}
    return replace(config, **few)


def results_of(run: Run, judge: Judge, digits: Digits) -> dict[str, Any]:
    """Return squared error and PSNR at every strength of noise."""
    rows = redrawn(run.model(digits.images.device), judge, digits, noisy, STRENGTHS)
    return {key: [round(getattr(row.errors, key), 6) for row in rows] for key in ("mse", "psnr")}


def main(argv: Sequence[str] | None = None) -> None:
    """Train, measure, keep."""
    parser = options(__doc__, "part2/long_codes")
    parser.add_argument("--passes", type=int, default=PASSES, help=f"default: {PASSES}")
    parser.add_argument("--names", nargs="+", choices=tuple(PLAN), default=tuple(PLAN))
    arguments = parser.parse_args(argv)
    passes, budget = arguments.passes, arguments.budget
    root = runs_root() / budget / "part2" / f"long-{passes}"
    configs = {root / name: config_of(name, passes, budget) for name in arguments.names}
    runs, judge = trained(configs), load_judge(device=default_device())
    splits = {split: digits_of(split, budget) for split in ("validation", "test")}
    table: dict[str, Any] = {"passes": passes, "strengths": STRENGTHS, "runs": {}}
    for folder, run in runs.items():
        found = {split: results_of(run, judge, digits) for split, digits in splits.items()}
        row = PLAN[folder.name] | {"seconds": run.result["seconds"]} | found
        table["runs"][folder.name] = row
        error = found["test"]["mse"][0]
        print(f"{folder.name}: squared error {error:.5f} per pixel, clean test digits")
    keep(arguments.folder / "figures.json", table)


if __name__ == "__main__":
    main()
