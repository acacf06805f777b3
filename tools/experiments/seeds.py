"""Train decoders and models with several seeds each: ``python tools/experiments/seeds.py``.

One run tells how good a run is, not whether a decoder or a model is better: for that the difference
has to stand out from what another seed makes of it. Every run lies under ``LEARN2ADD_RUNS`` (or
``runs``), so a second call goes on where the first was stopped, and several at once share the work.
The results, of the test digits, go to ``runs/part4/seeds``, a file for each run; what has its file
is not trained again.

The generative model is there a second time with one adder in the adder's stage instead of the best
of eight. The adder with and without the report's ``ValueToLatent`` is compared alone, trained from
scratch between the encoder and the decoder of the kept run of Part III, which takes seconds each;
and, where the report claims that it matters, in the variational model from scratch, by the
assignment's objective, four epochs and three seeds each.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mean, stdev

from torch import nn

sys.path.insert(0, str(Path(__file__).parents[2]))

from learn2add import recipes
from learn2add.config import RunConfig, Stage
from learn2add.data import Digits, load_digits
from learn2add.evidence import kept_seeds
from learn2add.hardware import default_device
from learn2add.judge import Judge, load_judge
from learn2add.measures import judge_sums, reconstruction_rmse, summarise
from learn2add.runs import Run, load, load_or_train, runs_root
from tools.experiments._keep import (
    adder_between,
    digits_of,
    in_seconds,
    keep,
    options,
    shared,
)

STEPS = 800
"""Of the joint stage; the quick recipes have 2,000. The autoencoder's stage has half as many."""

DECODERS = ("conv_transpose", "conv_upsample")
ONE_START = "generative_one_start"
MODELS = ("addition", *recipes.PART4, ONE_START)
ADDERS = {"adder": False, "adder_embedded": True}
SCRATCH = {"scratch": False, "scratch_embedded": True}
SCRATCH_EPOCHS, SCRATCH_SEEDS = 4, 3


def config_of(name: str, seed: int, *, budget: str, steps: int) -> RunConfig:
    """Return a decoder's quick run, or a model's with shorter stages."""
    if name in DECODERS:
        return recipes.part2(name, "l2", 2, budget=budget, seed=seed)
    if name in SCRATCH:
        config = recipes.part4("variational_addition", budget="reference", seed=seed)
        stage = replace(config.stages[0], epochs=SCRATCH_EPOCHS)
        config = replace(config, stages=(stage,), embed_addend=SCRATCH[name])
        return in_seconds(config) if budget == "smoke" else config
    if name == "addition":
        config = recipes.part3(budget=budget, seed=seed)
    else:
        model = "generative_addition" if name == ONE_START else name
        config = recipes.part4(model, budget=budget, seed=seed)
    first, adder, joint = config.stages
    if name == ONE_START:
        adder = replace(adder, restarts=1, learning_rate=1e-2)
    first = replace(first, epochs=1, steps=-(-steps // 2))
    return replace(config, stages=(first, adder, replace(joint, epochs=1, steps=steps)))


def results_of(run: Run, judge: Judge, test: Digits) -> dict[str, float]:
    """Return the error of the reconstruction, and the right sums of a run that adds."""
    model = run.model(test.images.device)
    found = {"rmse": reconstruction_rmse(model, test), "seconds": run.result["seconds"]}
    return found | (right_sums(model, judge, test) if run.config.adds else {})


def right_sums(model: nn.Module, judge: Judge, test: Digits) -> dict[str, float]:
    """Return mean and worst of the 55 cells."""
    sums = summarise(judge_sums(model, judge, test), test)
    return {key: sums[key] for key in ("cells_mean", "cells_worst")}


def adder_alone(
    seed: int, embed: bool, *, steps: int, judge: Judge, test: Digits
) -> dict[str, float]:
    """Return the right sums of a new adder between Part III's kept encoder and decoder."""
    device, kept = test.images.device, load("part3/quick")
    stage = Stage("adder", 1, steps, 1024, 1e-2, "one_cycle", balance="cells")
    weights = replace(kept.config.weights, contrast=0.0)
    config = replace(kept.config, stages=(stage,), weights=weights, embed_addend=embed, seed=seed)
    config = replace(config, precision="float32")
    # A thousand codes of each digit will do.
    counts = {"train": len(test), "validation": len(test) // 5}
    digits = [load_digits("MNIST", split).to(device).subset(n) for split, n in counts.items()]
    return right_sums(adder_between(kept, config, digits), judge, test)


def measured(name: str, seed: int, arguments: argparse.Namespace) -> dict[str, float]:
    """Train if need be, and measure."""
    budget, steps = arguments.budget, arguments.steps
    judge, test = load_judge(device=default_device()), digits_of("test", budget)
    if name in ADDERS:
        return adder_alone(seed, ADDERS[name], steps=steps, judge=judge, test=test)
    config = config_of(name, seed, budget=budget, steps=steps)
    run = load_or_train(config, run_folder(name, seed, arguments), progress=False)
    return results_of(run, judge, test)


def run_folder(name: str, seed: int, arguments: argparse.Namespace) -> Path:
    """Return where a run lies while its results are not kept."""
    family = f"{arguments.budget}-{arguments.steps}"
    return runs_root() / "quick" / "seeds" / family / f"{name}-{seed}"


def main(argv: Sequence[str] | None = None) -> None:
    """Train, measure, keep, print."""
    parser = options(__doc__, "part4/seeds")
    parser.add_argument("--seeds", type=int, default=5, help="of each; default: 5")
    parser.add_argument("--steps", type=int, default=STEPS, help="of the joint stage")
    arguments = parser.parse_args(argv)
    todo = {
        run_folder(name, seed, arguments): (name, seed)
        for seed in range(arguments.seeds)
        for name in (*DECODERS, *ADDERS, *MODELS, *(SCRATCH if seed < SCRATCH_SEEDS else ()))
        if not (arguments.folder / f"{name}-{seed}.json").exists()
    }
    for folder in shared(todo):
        row = measured(*todo[folder], arguments)
        if todo[folder][0] not in SCRATCH:
            row["steps"] = arguments.steps
        keep(arguments.folder / f"{folder.name}.json", row)
    for name, found in kept_seeds(arguments.folder).items():
        for key in [key for key in found if key not in ("steps", "cells_worst")]:
            values = found[key].tolist()
            spread = f" ± {stdev(values):.4f}" if len(values) > 1 else ""
            print(f"{name:24}{key:12}{mean(values):.4f}{spread}, {len(values)} seeds")


if __name__ == "__main__":
    main()
