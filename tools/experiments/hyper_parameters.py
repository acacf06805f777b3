"""Search as reports 002 and 003 did: ``python tools/experiments/hyper_parameters.py draws``.

A second process, here or on another machine that sees the folder, given the same words shares the
work; a search that was stopped goes on where it was. The study lies under ``LEARN2ADD_RUNS`` (or
``runs``); what came of it goes to ``runs/hyper/PLAN-BUDGET.json``.
"""

import argparse
import math
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from learn2add.studies.sweeps import STAGES, Outcome, best, importance, make_plan, search
from tools.experiments._keep import KEPT, keep


def table(found: list[Outcome]) -> list[dict]:
    """Return the outcomes for JSON, which knows neither NaN nor infinity."""
    rows = []
    for outcome in found:
        row = {name: value for name, value in outcome._asdict().items() if name != "errors"}
        rows.append(row | {"mse": round(row["mse"], 6) if math.isfinite(row["mse"]) else None})
    return rows


def main(argv: Sequence[str] | None = None) -> None:
    """Train, keep, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("plan", choices=("grid", "star", "draws"))
    parser.add_argument("--count", type=int, help="settings of the grid, or draws")
    parser.add_argument("--budget", choices=tuple(STAGES), default="quick")
    parser.add_argument("--folder", type=Path, default=KEPT / "hyper", help="where the figures go")
    arguments = parser.parse_args(argv)
    plan = make_plan(arguments.plan, budget=arguments.budget, count=arguments.count)
    found = search(plan)
    measured = [outcome for outcome in found if math.isfinite(outcome.mse)]
    shares = importance(found) if len(measured) >= 10 else {}
    results = {
        "plan": arguments.plan,
        "stage": asdict(plan.stage),
        "train_size": plan.train_size,
        "validation_size": plan.validation_size,
        "importance": {n: [round(share, 4) for share in row] for n, row in shares.items()},
        "outcomes": table(found),
    }
    keep(arguments.folder / f"{arguments.plan}-{arguments.budget}.json", results)
    for outcome in sorted(found, key=lambda o: (not math.isfinite(o.mse), o.mse)):
        values = ", ".join(f"{name} {value:.3g}" for name, value in outcome.setting.items())
        print(f"{outcome.mse:.4f}  {outcome.epochs:>4} epochs  {outcome.state:<9} {values}")
    print(f"\nbest: place {best(found).place}; spread explained (mean over the forests):")
    for name, row in shares.items():
        print(f"{name:<20}{sum(row) / len(row):6.1%}")


if __name__ == "__main__":
    main()
