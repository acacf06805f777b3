"""Do distributions turn at the half, or blurred addends? ``python tools/experiments/blur.py``.

Between whole numbers the kept models of Parts III and IV differ in both. Here each of two models,
the plain and the variational one, is trained with blurred addends and without, and nothing else is
changed: where does 7 + u turn from an 8 into a 9, and within what width? Measured on test digits,
three seeds, the joint stage shorter than the recipe's. The results go to ``runs/part4/blur``, a
file for each run; what has its file is not trained again.
"""

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from learn2add.config import RunConfig
from learn2add.data import Digits
from learn2add.evidence import turn_of_sevens
from learn2add.hardware import default_device
from learn2add.judge import Judge, load_judge
from learn2add.runs import Run, load_or_train, runs_root
from tools.experiments import seeds
from tools.experiments._keep import digits_of, keep, options, shared

BLUR = 0.3
"""Deviation of the addends in training, in the joint stage: that of the variational recipe."""
MODELS = ("addition", "variational_addition")


def config_of(model: str, blurred: bool, seed: int, budget: str, steps: int) -> RunConfig:
    """Return a model's recipe, its addends blurred in the joint stage or not."""
    config = seeds.config_of(model, seed, budget=budget, steps=steps)
    *first, joint = config.stages
    joint = replace(joint, addend_noise=BLUR if blurred else 0.0)
    return replace(config, stages=(*first, joint))


def row_of(run: Run, judge: Judge, test: Digits) -> dict[str, float]:
    """Return where the sevens turn, within what width, third digits there, and right sums."""
    model = run.model(test.images.device)
    turn, third = turn_of_sevens(model, judge, test)
    found = {"u50": turn.u50, "width": turn.width, "third_digits": third}
    return found | seeds.right_sums(model, judge, test)


def main(argv: Sequence[str] | None = None) -> None:
    """Train, measure, keep, print."""
    parser = options(__doc__, "part4/blur")
    parser.add_argument("--seeds", type=int, default=3, help="of each; default: 3")
    parser.add_argument("--steps", type=int, default=seeds.STEPS, help="of the joint stage")
    arguments = parser.parse_args(argv)
    budget, steps = arguments.budget, arguments.steps
    judge, test = load_judge(device=default_device()), digits_of("test", budget)
    todo = {}
    for seed in range(arguments.seeds):
        for model in MODELS:
            for blurred in (False, True):
                name = f"{model}_{'blurred' if blurred else 'sharp'}-{seed}"
                if not (arguments.folder / f"{name}.json").exists():
                    folder = runs_root() / "quick" / "blur" / f"{budget}-{steps}" / name
                    todo[folder] = config_of(model, blurred, seed, budget, steps)
    for folder in shared(todo):
        run = load_or_train(todo[folder], folder, progress=False)
        row = row_of(run, judge, test)
        keep(arguments.folder / f"{folder.name}.json", row)
        print(folder.name, {key: round(value, 4) for key, value in row.items()}, flush=True)


if __name__ == "__main__":
    main()
