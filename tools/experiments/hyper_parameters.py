"""Search as reports 002 and 003 did: ``python tools/experiments/hyper_parameters.py draws``.

A second process, here or on another machine that sees the folder, given the same words shares the
work; a search that was stopped goes on where it was. The study lies under ``LEARN2ADD_RUNS`` (or
``runs``); what came of it goes to ``runs/hyper/PLAN.json``.
"""

import argparse
import math
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from learn2add.studies.sweeps import Outcome, importance, make_plan, search
from tools.experiments._keep import KEPT, keep


def table(found: list[Outcome]) -> list[dict]:
    """Return the outcomes for JSON, which knows neither NaN nor infinity."""
    rows = []
    for outcome in found:
        mse = round(outcome.mse, 6) if math.isfinite(outcome.mse) else None
        errors = [round(error, 5) for error in outcome.errors]
        rows.append(outcome._asdict() | {"mse": mse, "errors": errors})
    return rows


def main(argv: Sequence[str] | None = None) -> None:
    """Train, keep, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("plan", choices=("grid", "draws"))
    parser.add_argument("--count", type=int, help="settings of the grid, or draws")
    parser.add_argument("--budget", choices=("quick", "smoke"), default="quick")
    parser.add_argument("--folder", type=Path, default=KEPT / "hyper", help="where the figures go")
    arguments = parser.parse_args(argv)
    plan = make_plan(arguments.plan, count=arguments.count)
    if arguments.budget == "smoke":
        stage = replace(plan.stage, epochs=2, steps=3, batch_size=32)
        few = {"train_size": 200, "validation_size": 100}
        plan = replace(plan, name=f"{plan.name}-smoke", stage=stage, rounds=(1,), **few)
    found = search(plan)
    measured = [outcome for outcome in found if math.isfinite(outcome.mse)]
    first = min(outcome.epochs for outcome in measured)
    shares = importance(found, first) if len(measured) >= 10 else {}
    results = {
        "plan": arguments.plan,
        "stage": asdict(plan.stage),
        "rounds": plan.rounds,
        "train_size": plan.train_size,
        "validation_size": plan.validation_size,
        "importance": {n: [round(share, 4) for share in row] for n, row in shares.items()},
        "outcomes": table(found),
    }
    smoke = "-smoke" * (arguments.budget == "smoke")
    keep(arguments.folder / f"{arguments.plan}{smoke}.json", results)
    for outcome in sorted(found, key=lambda o: (not math.isfinite(o.mse), o.mse)):
        values = ", ".join(f"{name} {value:.3g}" for name, value in outcome.setting.items())
        print(f"{outcome.mse:.4f}  {outcome.epochs:>4} epochs  {outcome.state:<9} {values}")
    best = min(found, key=lambda outcome: outcome.mse)
    print(f"\nbest: place {best.place}; spread explained (mean over the forests):")
    for name, row in shares.items():
        print(f"{name:<20}{sum(row) / len(row):6.1%}")


if __name__ == "__main__":
    main()
