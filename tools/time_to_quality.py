"""How long from nothing to a stated quality: ``python tools/time_to_quality.py``.

Each goal has a recipe that is meant to reach it. It is trained from scratch, stages and validation
included, and measured on validation and test digits; beside the seconds stands how fast the machine
multiplies matrices. The figures go to ``runs/part3/time_to_quality/times.json``.
"""

import argparse
import json
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from tqdm import tqdm

from learn2add import load_digits, recipes
from learn2add.checkpoints import write_atomically
from learn2add.configs import RunConfig, Stage
from learn2add.data import Digits
from learn2add.evaluation import judge_sums, reconstruction_rmse, summarise
from learn2add.hardware import default_device, default_precision, matmul_rate
from learn2add.judge import load_judge
from learn2add.runs import Run, load_or_train

KEPT = Path(__file__).parents[1] / "runs" / "part3" / "time_to_quality"


class Goal(NamedTuple):
    """What is to be reached, how, and how it is measured."""

    name: str
    config: RunConfig
    measure: Callable[[Run, Digits], float]


def right_sums(run: Run, digits: Digits) -> float:
    """Right sums, mean over the 55 cells."""
    device = digits.images.device
    scores = judge_sums(run.model(device).inference(), load_judge(device=device), digits)
    return summarise(scores, digits)["cells_mean"]


def error(run: Run, digits: Digits) -> float:
    """RMSE of the reconstruction."""
    return reconstruction_rmse(run.model(digits.images.device), digits)


def adding(pictures: int, adder: int, joint: tuple[int, int]) -> RunConfig:
    """Part III's quick recipe with so many steps in each stage."""
    config = recipes.part3()
    first, second, third = config.stages
    first = replace(first, epochs=1, steps=pictures)
    third = replace(third, epochs=joint[0], steps=joint[1])
    return replace(config, stages=(first, replace(second, steps=adder), third))


def goals(budget: str) -> list[Goal]:
    """The three goals; under "smoke" with next to no training."""
    if budget == "smoke":
        tiny = replace(recipes.part3(budget="smoke"), train_size=1000)
        return [Goal("95 % of the sums right", tiny, right_sums)]
    stage = Stage("autoencoder", 6, None, 128, 6e-3, "one_cycle", "l2", **recipes.MUON)
    redraw = replace(recipes.part2(), stages=(stage,), hidden="relu")
    return [
        Goal("RMSE 0.1839 at code size 2", redraw, error),
        Goal("95 % of the sums right", adding(200, 600, (1, 300)), right_sums),
        Goal("98.5 % of the sums right", adding(400, 1000, (2, 350)), right_sums),
    ]


def main() -> None:
    """Train, measure, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--budget", choices=("quick", "smoke"), default="quick")
    parser.add_argument("--folder", type=Path, default=KEPT, help="where the figures go")
    arguments = parser.parse_args()
    device = default_device()
    splits = {name: load_digits("MNIST", name).to(device) for name in ("validation", "test")}
    precision = default_precision(device)
    rows: list[dict[str, Any]] = []
    for goal in tqdm(goals(arguments.budget), unit=" goals"):
        rate = matmul_rate(precision)
        with tempfile.TemporaryDirectory() as folder:
            run = load_or_train(goal.config, Path(folder) / "run", progress=False)
            reached = {name: goal.measure(run, digits) for name, digits in splits.items()}
        row = {"goal": goal.name, "seconds": run.result["seconds"], **reached}
        rows.append(row | {"device": run.result["device"], "gflops": round(rate)})
    arguments.folder.mkdir(parents=True, exist_ok=True)
    write_atomically(arguments.folder / "times.json", json.dumps(rows, indent=1) + "\n")
    print(f"{'goal':<28}{'seconds':>8}{'validation':>12}{'test':>9}{precision + ' GFLOP/s':>20}")
    for row in rows:
        print(
            f"{row['goal']:<28}{row['seconds']:8.0f}{row['validation']:12.4f}{row['test']:9.4f}"
            f"{row['gflops']:20,}"
        )


if __name__ == "__main__":
    main()
