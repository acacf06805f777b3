"""Train what reports 002 and 003 describe, and better: ``python tools/experiments/reports.py``.

First their own experiments: their network, optimiser and length. Then the same network under this
project's recipe, plain and shown spoiled images; and what the searches found best, trained as long
as its report trained. Every run lies under ``LEARN2ADD_RUNS`` (or ``runs``), so a second call goes
on where the first was stopped, and several at once share the work. The results of all seeds go to
``runs/narrow/figures.json``, and what it has is not trained again; the runs of the first seed are
kept beside it, but for those winners.

Sources: report 002, sections 2 to 6; report 003, sections 3 to 5.
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from learn2add.config import RunConfig
from learn2add.data import Digits
from learn2add.evidence import evaluate
from learn2add.hardware import default_device
from learn2add.judge import Judge, load_judge
from learn2add.measures import reconstruction_rmse
from learn2add.network import parameter_count
from learn2add.runs import Run, runs_root
from learn2add.studies.corrupted import noisy, redrawn
from learn2add.studies.narrow import (
    BATCH_SIZE,
    BEST_002,
    BEST_003,
    NarrowStage,
    narrow,
    setting_config,
)
from tools.experiments._keep import KEPT, digits_of, in_seconds, keep, options, trained
from tools.publish import publish

OWN = {
    "002": (BEST_002, {"epochs": 3000, "patience": 10}),
    "002-noise": (BEST_002, {"epochs": 3000, "patience": 10, "noise": 1.0, "clip": False}),
    "003": (BEST_003, {"epochs": 150}),
    "003-noise": (BEST_003, {"epochs": 100, "noise": 0.2, "exact": True}),
}
"""The reports' own. 002 has noise of any factor from 0 to 1, not clipped; 003 a standard deviation
of 0.2, clipped."""
OURS: dict[str, dict[str, Any]] = {
    "code10": {},
    "code4": {"code_size": 4},
    "code4-noise": {"code_size": 4, "noise": 0.2, "exact": True},
    "code4-range": {"code_size": 4, "noise": 0.5},
    "code4-holes": {"code_size": 4, "occlude": 14},
    "code4-both": {"code_size": 4, "noise": 0.5, "occlude": 14},
    "code32-both": {"code_size": 32, "noise": 0.5, "occlude": 14},
    "code10-distorted": {"distort": 4.0},
    "code10-variational": {"variational": True},
    "code2": {"code_size": 2},
    "code2-variational": {"code_size": 2, "variational": True},
}
"""Options of :func:`learn2add.studies.narrow.narrow`."""
WINNERS = {"grid-winner": ("grid", "002"), "draws-winner": ("draws", "003")}
"""What ``runs/hyper/PLAN.json`` has as the best, and whose length it trains for."""
NAMES = (*OWN, *OURS, *WINNERS)


def winner(plan: str) -> dict[str, float]:
    """Return the setting with the lowest validation error of a search that is kept."""
    outcomes = json.loads((KEPT / "hyper" / f"{plan}.json").read_text())["outcomes"]
    measured = [row for row in outcomes if row["mse"] is not None]
    return min(measured, key=lambda row: row["mse"])["setting"]


def config_of(name: str, budget: str, seed: int = 0) -> RunConfig:
    """Return the configuration of a run."""
    if name in OURS:
        config = narrow(**OURS[name], seed=seed)
    else:
        plan, report = WINNERS.get(name, (None, name))
        setting, how = OWN[report]
        setting = winner(plan) if plan else setting
        stage = NarrowStage("autoencoder", batch_size=BATCH_SIZE, **how)
        config = replace(setting_config(setting, stage), seed=seed)
    return in_seconds(config) if budget == "smoke" else config


def results_of(run: Run, judge: Judge, splits: dict[str, Digits]) -> dict[str, Any]:
    """Return what a run is and its squared error per pixel, on test digits at 003's noise too."""
    model = run.model(default_device())
    found: dict[str, Any] = {
        "weights": parameter_count(model),
        "epochs": len(run.history),
        "seconds": run.result["seconds"],
    }
    for split, digits in splits.items():
        found[split] = round(reconstruction_rmse(model, digits) ** 2, 6)
    (noise,) = redrawn(model, judge, splits["test"], noisy, (0.2,))
    return found | {"test, noise 0.2": round(noise.errors.mse, 6)}


def main(argv: Sequence[str] | None = None) -> None:
    """Train, measure, keep."""
    parser = options(__doc__, "narrow")
    parser.add_argument("--names", nargs="+", choices=NAMES, default=NAMES)
    parser.add_argument("--seeds", type=int, default=1, help="trainings of each; default: 1")
    arguments = parser.parse_args(argv)
    root, budget = runs_root() / arguments.budget / "narrow", arguments.budget
    file = arguments.folder / "figures.json"
    known = json.loads(file.read_text()) if file.exists() else {}
    configs = {
        root / (f"{name}-seed{seed}" if seed else name): config_of(name, budget, seed)
        for name in arguments.names
        for seed in range(arguments.seeds)
    }
    runs = trained({at: config for at, config in configs.items() if at.name not in known})
    splits = {split: digits_of(split, budget) for split in ("train", "validation", "test")}
    judge = load_judge(device=default_device())
    table = {folder.name: results_of(run, judge, splits) for folder, run in runs.items()}
    for name in (*OWN, *OURS):
        if root / name in runs and not (arguments.folder / name).exists():
            kept = publish(runs[root / name], arguments.folder / name, images=2, least=4000)
            keep(kept.folder / "evaluation.json", evaluate(kept, device=default_device()))
    known = json.loads(file.read_text()) if file.exists() else {}  # by now another may have written
    keep(file, dict(sorted((known | table).items())))
    for name, row in table.items():
        print(f"{name:<22} {row['epochs']:>4} epochs   test {row['test']:.5f}")


if __name__ == "__main__":
    main()
