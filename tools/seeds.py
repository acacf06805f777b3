"""Train decoders and models with several seeds each: ``python tools/seeds.py``.

One run tells how good a run is, not whether a decoder or a model is better: for that the difference
has to stand out from what another seed makes of it. Every run lies under ``LEARN2ADD_RUNS`` (or
``runs``), so a second call goes on where the first was stopped. The figures, of the test digits, go
to ``runs/part4/seeds/seeds.json``.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path

from tqdm import tqdm

from learn2add import load_digits, recipes
from learn2add.checkpoints import write_atomically
from learn2add.configs import RunConfig
from learn2add.evaluation import judge_sums, reconstruction_rmse, summarise
from learn2add.hardware import default_device
from learn2add.judge import load_judge
from learn2add.runs import load_or_train, runs_root

KEPT = Path(__file__).parents[1] / "runs" / "part4" / "seeds"
STEPS = 1000
"""Of the joint stage; the quick recipes have 4,500 to 8,000."""


def shortened(config: RunConfig, steps: int) -> RunConfig:
    """The same recipe with a joint stage of so many steps, validated twice."""
    *before, joint = config.stages
    return replace(config, stages=(*before, replace(joint, epochs=2, steps=-(-steps // 2))))


def main() -> None:
    """Train, measure, keep."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5, help="of each; default: 5")
    parser.add_argument("--steps", type=int, default=STEPS, help="of the joint stage")
    parser.add_argument("--budget", choices=("quick", "smoke"), default="quick")
    parser.add_argument("--folder", type=Path, default=KEPT, help="where the figures go")
    arguments = parser.parse_args()
    budget, steps, root = arguments.budget, arguments.steps, runs_root() / "quick" / "seeds"
    judge, test = load_judge(device=default_device()), load_digits("MNIST", "test")
    test = (test.subset(300) if arguments.budget == "smoke" else test).to(default_device())
    decoders = {name: [] for name in ("conv_transpose", "conv_upsample")}
    models = {name: [] for name in ("addition", *recipes.PART4)}
    todo = [(seed, name) for seed in range(arguments.seeds) for name in (*decoders, *models)]
    for seed, name in tqdm(todo, unit=" runs"):
        folder = root / f"{budget}-{steps}" / f"{name}-{seed}"
        if name in decoders:
            config = recipes.part2(name, "l2", 2, budget=budget, seed=seed)
            run = load_or_train(config, folder, progress=False)
            decoders[name].append(reconstruction_rmse(run.model(test.images.device), test))
            continue
        full = (
            recipes.part3(budget=budget, seed=seed)
            if name == "addition"
            else recipes.part4(name, budget=budget, seed=seed)
        )
        run = load_or_train(shortened(full, steps), folder, progress=False)
        model = run.model(test.images.device).inference()
        found = summarise(judge_sums(model, judge, test), test)
        models[name].append({key: found[key] for key in ("cells_mean", "cells_worst")})
    table = {"steps": steps, "decoders": decoders, "models": models}
    arguments.folder.mkdir(parents=True, exist_ok=True)
    write_atomically(arguments.folder / "seeds.json", json.dumps(table, indent=1) + "\n")
    print(json.dumps(table, indent=1))


if __name__ == "__main__":
    main()
