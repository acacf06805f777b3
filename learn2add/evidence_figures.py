"""The evidence on one run as figures: what ``learn2add evaluate --figures`` draws."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from tqdm import tqdm

from learn2add import figures
from learn2add.data import load_digits
from learn2add.evaluation import judge_sums, wilson
from learn2add.evidence import PER_CELL, sweep
from learn2add.judge import load_judge
from learn2add.runs import Run

STEPS = 20
"""Addends per unit in the sweeps."""


def evidence_figures(
    run: Run, found: dict[str, Any], *, device: torch.device | str = "cpu", progress: bool = True
) -> Iterator[tuple[str, Figure]]:
    """Draw the evidence on a run that adds, on all digits of the split it was evaluated on.

    Args:
        run: A complete run.
        found: What :func:`learn2add.evaluation.evaluate` found of it.
        device: Where to compute.
        progress: Whether to show a progress bar; the staircase takes minutes on two CPU cores.

    Yields:
        Name and figure: ``cells`` (accuracy of each cell with intervals), ``causes`` (of wrong
        sums), ``between`` (7 + u from u = 1 to 2), ``staircase`` (what is drawn as the sum asked
        for goes from 0 to 9) and, for a model that samples, ``variety``.

    Raises:
        ValueError: The run does not add.
    """
    config = run.config
    if not config.kind.adder:
        raise ValueError(f"{run.folder} is an {config.model}; figures are of a run that adds")
    digits = load_digits(config.dataset, found["split"]).resized(config.image_size).to(device)
    model, judge = run.model(device).inference(), load_judge(device=device)
    name, caption = run.folder.name, f"{len(digits):,} {found['split']} digits."
    scores = judge_sums(model, judge, digits)
    yield (
        "cells",
        figures.cell_map(
            *wilson(scores.correct, scores.total),
            title=f"{name}: sums read rightly, with 95 % intervals",
            caption=caption,
        ),
    )
    yield (
        "causes",
        figures.blame_bars(
            {name: scores.blame[:3]},
            {name: scores.blame.wrong / scores.total.sum()},
            title="Where wrong sums come from",
            caption=caption,
        ),
    )
    groups = [digits.images[members] for members in digits.by_class()]
    between = np.linspace(1, 2, STEPS + 1)
    turn = float("nan") if found["u50"] is None else found["u50"]
    yield (
        "between",
        figures.sweep_curves(
            between,
            {name: sweep(model, judge, groups[7], between)},
            turning={name: turn},
            title="From 7 + 1 to 7 + 2",
            caption=f"{len(groups[7]):,} {found['split']} sevens.",
        ),
    )
    if model.stochastic:
        few = f"The first {PER_CELL} {found['split']} digits of each class, with every addend."
        points = [(s["temperature"], s["accuracy"], s["diversity"]) for s in found["samples"]]
        yield "variety", figures.trade_off({name: points}, title="Sampled sums", caption=few)
    totals, p = np.arange(9 * STEPS + 1) / STEPS, np.zeros((10, 9 * STEPS + 1, 10))
    for digit, images in enumerate(tqdm(groups, unit=" digits", disable=not progress)):
        p[digit, digit * STEPS :] = sweep(model, judge, images, totals[digit * STEPS :] - digit)
    p = p.sum(0) / (np.floor(totals) + 1)[:, None]  # a sum is reached from digits 0 to its floor
    yield (
        "staircase",
        figures.digit_map(
            totals,
            {name: p},
            digit=0,
            xlabel="sum asked for",
            title="What is drawn between the whole sums",
            caption=f"{caption} Every digit up to the sum, with the number that is missing.",
        ),
    )
