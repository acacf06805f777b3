"""Search as reports 002 and 003 did: ``python tools/hyper_parameters.py draws``.

A second process, here or on another machine that sees the folder, given the same words shares the
work; a search that was stopped goes on where it was. The study lies under ``LEARN2ADD_RUNS`` (or
``runs``); what came of it goes to ``runs/hyper/PLAN-BUDGET.json``.
"""

import argparse
import json
import math
from dataclasses import asdict
from pathlib import Path

from learn2add.checkpoints import write_atomically
from learn2add.hyper import Outcome, best, search_in_place
from learn2add.importance import importance
from learn2add.plans import STAGES, make_plan

KEPT = Path(__file__).parents[1] / "runs" / "hyper"


def table(found: list[Outcome]) -> list[dict]:
    """The outcomes for JSON, which knows no NaN."""
    rows = [outcome._asdict() for outcome in found]
    return [r | {"mse": None if math.isnan(r["mse"]) else round(r["mse"], 6)} for r in rows]


def main() -> None:
    """Train, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("plan", choices=("grid", "star", "draws"))
    parser.add_argument("--count", type=int, help="settings of the grid, or draws")
    parser.add_argument("--budget", choices=tuple(STAGES), default="quick")
    parser.add_argument("--folder", type=Path, default=KEPT, help="where the figures go")
    arguments = parser.parse_args()
    plan = make_plan(arguments.plan, budget=arguments.budget, count=arguments.count)
    name = f"{plan.name}-{arguments.budget}"
    found = search_in_place(plan, arguments.budget)
    measured = [outcome for outcome in found if not math.isnan(outcome.mse)]
    shares = importance(found) if len(measured) >= 10 else {}
    figures = {
        "plan": plan.name,
        "stage": asdict(plan.stage),
        "train_size": plan.train_size,
        "validation_size": plan.validation_size,
        "importance": {n: [round(share, 4) for share in row] for n, row in shares.items()},
        "outcomes": table(found),
    }
    write_atomically(arguments.folder / f"{name}.json", json.dumps(figures, indent=1) + "\n")
    for outcome in sorted(found, key=lambda o: (math.isnan(o.mse), o.mse)):
        values = ", ".join(f"{name} {value:.3g}" for name, value in outcome.setting.items())
        print(f"{outcome.mse:.4f}  {outcome.epochs:>4} epochs  {outcome.state:<9} {values}")
    print(f"\nbest: place {best(found).place}; spread explained (mean over the forests):")
    for name, row in shares.items():
        print(f"{name:<20}{sum(row) / len(row):6.1%}")


if __name__ == "__main__":
    main()
