"""Adders that count, and hands that are kept: ``python tools/experiments/counting.py``.

``adders`` are trained alone between the encoder and the decoder of a kept autoencoder that never
saw a sum: the assigned adder, one that counts and one matrix, with random targets and with targets
in a similar hand, ten cells held out. ``cells``: the same, random targets, so many cells taught.
``dead``: how many cells an adder alone leaves unlearned, none held out, ten seeds. ``joint``: whole
models, encoder and decoder too, with ten cells held out (``hand``) or taught "+ 0" and "+ 1" alone
(``one``); their runs lie under ``LEARN2ADD_RUNS`` (or ``runs``). All on validation digits but
``joint``, which is for the report: test digits.

Everything goes to ``runs/part3/counting``, a file for each training; what has its file is not
trained again. ``python tools/publish.py`` keeps the run of the hand.
"""

import argparse
import functools
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).parents[2]))

from learn2add.config import HELD_OUT, LossWeights, Stage
from learn2add.data import Digits
from learn2add.evidence import turn_of_sevens
from learn2add.hardware import default_device
from learn2add.judge import load_judge
from learn2add.measures import SumScores, held_out_mean, judge_sums, summarise, wilson
from learn2add.network import parameter_count
from learn2add.pairs import CELLS
from learn2add.runs import load, load_or_train, runs_root
from learn2add.studies.counting import (
    BEYOND_ONE,
    CountingAdder,
    CountingConfig,
    arithmetic,
)
from learn2add.studies.hand import hand_kept
from learn2add.studies.hand_training import HandConfig, same_hand
from tools.experiments._keep import adder_between, digits_of, keep, options

CODES = "part2/conv_transpose-l2-code7"
"""The kept autoencoder between whose halves adders are trained: the assignment's, code size 7."""
RULES = {"assigned": 1e-2, "counting": 5e-3, "matrix": 5e-3, "small": 5e-3}
"""With the learning rate that is best for each, on validation digits. The small one counts with
about as many weights as the assigned adder has."""
SMALL = 32
"""Its width."""
TAUGHT = (6, 9, 14, 19, 28)
"""How many of the 55 cells are taught, each a part of the next."""
SEEDS = 3
DEAD = {"assigned": ("assigned", 1), "best_of_8": ("assigned", 8), "counting": ("counting", 1)}
DEAD_SEEDS = 10


@functools.cache
def few_digits(budget: str) -> tuple[Digits, Digits]:
    """Return 10,000 training digits and 500 of validation: of codes as small as these, enough."""
    sizes = {"train": 10_000, "validation": 500}
    digits = {split: digits_of(split, budget) for split in sizes}
    return tuple(digits[split].subset(min(len(digits[split]), n)) for split, n in sizes.items())


def adder_alone(
    rule: str,
    similar: bool,
    held_out: tuple[tuple[int, int], ...],
    seed: int,
    budget: str,
    restarts: int = 1,
) -> tuple[CountingConfig, nn.Module]:
    """Return a new adder between the encoder and the decoder of the kept autoencoder."""
    kept = load(CODES)
    steps = 20 if budget == "smoke" else 700
    stage = Stage(
        "adder", 1, steps, 256, RULES[rule], "one_cycle", balance="cells", restarts=restarts
    )
    options = {"code_size": kept.config.code_size, "held_out": held_out, "seed": seed}
    options["rule"] = "counting" if rule == "small" else rule
    kind = HandConfig if similar else CountingConfig
    config = kind((stage,), "addition", weights=LossWeights(), **options)
    adder = None
    if rule == "small":
        torch.manual_seed(seed)
        adder = CountingAdder(config.code_size, SMALL)
    return config, adder_between(kept, config, few_digits(budget), adder)


def right(scores: SumScores, held_out: Sequence[tuple[int, int]]) -> dict[str, float | None]:
    """Return the right sums of the cells that were taught, and of those that were not."""
    table = wilson(scores.correct, scores.total).value
    taught = [float(table[cell]) for cell in CELLS if cell not in held_out]
    found = {"taught": float(np.mean(taught)), "taught_worst": min(taught)}
    found["dead"] = sum(share < 0.5 for share in taught)
    return found | {"held_out": held_out_mean(scores, held_out)}


def adder_row(rule: str, similar: bool, seed: int, budget: str, few: Digits) -> dict[str, Any]:
    """Train an adder with ten cells held out, and measure all that is asked of it."""
    config, model = adder_alone(rule, similar, HELD_OUT, seed, budget)
    judge = load_judge(device=few.images.device)
    found = {"parameters": parameter_count(model.adder)}
    found |= right(judge_sums(model, judge, few), config.held_out)
    return found | arithmetic(model, judge, few) | hand_kept(model, few, 100)._asdict()


def cells_row(rule: str, count: int, seed: int, budget: str, few: Digits) -> dict[str, Any]:
    """Teach so many cells, drawn by the seed, and measure the others."""
    order = np.random.default_rng(seed).permutation(len(CELLS))
    held_out = tuple(CELLS[i] for i in sorted(order[count:]))
    config, model = adder_alone(rule, False, held_out, seed, budget)
    scores = judge_sums(model, load_judge(device=few.images.device), few)
    return right(scores, config.held_out)


def dead_row(rule: str, restarts: int, seed: int, budget: str, few: Digits) -> dict[str, Any]:
    """Train an adder on all cells, or the best of several; count what it has not learned."""
    _, model = adder_alone(rule, False, (), seed, budget, restarts)
    found = right(judge_sums(model, load_judge(device=few.images.device), few), ())
    return {name: found[name] for name in ("taught", "taught_worst", "dead")}


def joint_row(name: str, seed: int, budget: str) -> dict[str, Any]:
    """Train a whole model if need be, and evaluate it on test digits."""
    config = same_hand(
        budget=budget, seed=seed, held_out=HELD_OUT if name == "hand" else BEYOND_ONE
    )
    run = load_or_train(config, runs_root() / budget / "part3" / f"{name}-{seed}", progress=False)
    model, test = run.model(default_device()), digits_of("test", budget)
    judge = load_judge(device=test.images.device)
    scores = judge_sums(model, judge, test)
    found = summarise(scores, test) | {"misread": scores.blame.misread}
    found |= config.evidence(model, judge, test, scores) | right(scores, config.held_out)
    found["u50"] = turn_of_sevens(model, judge, test)[0].u50
    cells = np.nan_to_num(wilson(scores.correct, scores.total).value)
    return found | {"seconds": run.result["seconds"], "cells": cells.round(4).tolist()}


def rows_of(arguments: argparse.Namespace) -> dict[str, tuple]:
    """Return all trainings by the name of their file: what makes its row, and with what."""
    budget, few = arguments.budget, digits_of("validation", arguments.budget)
    few = few.subset(min(len(few), 1000))
    rows: dict[str, tuple] = {}
    for seed in range(arguments.seeds):
        for name in ("hand", "one"):
            rows[f"joint-{name}-{seed}"] = (joint_row, name, seed, budget)
        for rule in RULES:
            for similar in (False, True)[: 1 if rule == "small" else 2]:
                name = f"adders-{rule}-{'similar' if similar else 'random'}-{seed}"
                rows[name] = (adder_row, rule, similar, seed, budget, few)
        for count in TAUGHT[: 1 if budget == "smoke" else None]:
            for rule in ("assigned", "counting"):
                rows[f"cells-{rule}-{count}-{seed}"] = (cells_row, rule, count, seed, budget, few)
    for seed in range(DEAD_SEEDS if budget == "quick" else 1):
        for name, (rule, restarts) in DEAD.items():
            rows[f"dead-{name}-{seed}"] = (dead_row, rule, restarts, seed, budget, few)
    return rows


def main(argv: Sequence[str] | None = None) -> None:
    """Train, measure, keep, print."""
    parser = options(__doc__, "part3/counting")
    parser.add_argument("--seeds", type=int, default=SEEDS, help="of each; default: 3")
    parser.add_argument("--only", default="", help="names of rows begin so")
    arguments = parser.parse_args(argv)
    rows = rows_of(arguments)
    todo = [name for name in rows if name.startswith(arguments.only)]
    for name in tqdm(todo, unit=" rows"):
        file = arguments.folder / f"{name}.json"
        if not file.exists():
            make, *given = rows[name]
            keep(file, make(*given))


if __name__ == "__main__":
    main()
