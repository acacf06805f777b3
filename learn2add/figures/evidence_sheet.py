"""The evidence on one run, as ``learn2add evaluate`` shows it: a page of text, and figures."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from tqdm import tqdm

from learn2add.evidence import PER_CELL, sweep
from learn2add.figures.charts import cell_map
from learn2add.figures.evidence import blame_bars, digit_map, sweep_curves, trade_off
from learn2add.judge import judge_of
from learn2add.measures import judge_sums, wilson
from learn2add.runs import Run, digits_of

STEPS = 20
"""Addends per unit in the sweeps."""

RUN = """\
{run.folder}: {config.model}, {config.decoder}, code {config.code_size}, {config.dataset} \
{config.image_size} x {config.image_size}, {split} digits

RMSE of reconstruction            {rmse:8.4f}    grey levels, 0 to 1"""
SUMS = """
Right sums, as the judge reads                95 % interval
  mean over the 55 cells          {percent[cells_mean]}
  mean over all pairs             {percent[pairs_mean]}
  worst cell, {cells_worst_cell[0]} + {cells_worst_cell[1]}               {percent[cells_worst]}

MSE of the sum picture            {sum_mse:8.4f}    beside its floors:
  class mean                      {floor_class_mean:8.4f}    \
the right digit's blurred mean: the best there is
  one mean                        {floor_one_mean:8.4f}    one picture for every sum: knows nothing
  real digit                      {real_digit:8.4f}    another, real picture of the right digit
"""
MIRRORED = "It subtracts: digits stand mirrored below, so that d + a is (9 - d) - a"
CAUSES = "Wrong sums are misread {percent[misread]:.0f} %, misadded {percent[misadded]:.0f} %, \
misdrawn {percent[misdrawn]:.0f} %"
HELD_OUT = "Cells never trained, mean         {percent[held_out_cells_mean]:8.2f} %"
TURN = "7 + u turns from 8 to 9 at u =    {u50:8.3f}    10 to 90 % within {u50_width:.3f}"
NO_TURN = "7 + u never turns from 8 to 9"
SAMPLES = "\nSamples: temperature        right   variety   Fréchet distance"
SAMPLE = "{temperature:24.1f}{right:7.2f} %{diversity:10.3f}{frechet:19.2f}"
VARIETY = "variety: pixel variance within a cell, over that of real digits of the sum"
JUDGE = "\nJudge on the real digits          {percent[judge_accuracy]:8.2f} %"


def report(run: Run, found: dict[str, Any]) -> str:
    """Lay the results of :func:`learn2add.evidence.evaluate` out for reading."""
    lines = [RUN] if run.config.operation == "add" else [RUN, MIRRORED]
    percent = {k: 100 * v for k, v in found.items() if isinstance(v, float)}
    if "cells_mean" in found:
        for key in ("cells_mean", "pairs_mean", "cells_worst"):
            low, high = (100 * end for end in found[f"{key}_interval"])
            percent[key] = f"{percent[key]:8.2f} %  {low:.2f} to {high:.2f} %"
        lines.append(SUMS)
        if found["misread"] is not None:
            lines.append(CAUSES)
        if found["held_out_cells_mean"] is not None:
            lines.append(HELD_OUT)
    if "samples" in found:
        lines += [NO_TURN if found["u50"] is None else TURN, SAMPLES]
        for sample in found["samples"]:
            lines.append(SAMPLE.format(right=100 * sample["accuracy"], **sample))
        lines.append(VARIETY)
    if "judge_accuracy" in found:
        lines.append(JUDGE)
    return "\n".join(lines).format(run=run, config=run.config, percent=percent, **found)


def evidence_figures(
    run: Run, found: dict[str, Any], *, device: torch.device | str = "cpu", progress: bool = True
) -> Iterator[tuple[str, Figure]]:
    """Draw the evidence on a run that adds, on all digits of the split it was evaluated on.

    Yields name and figure: ``cells``, ``causes`` (of wrong sums), ``between`` (7 + u from u = 1 to
    2), ``variety`` for a model that samples, and ``staircase`` (as the sum asked for goes from 0 to
    9; minutes on two CPU cores).
    """
    config = run.config
    if not config.adds:
        raise ValueError(f"{run.folder} is an {config.model}; allowed is a run that adds")
    digits, judge = digits_of(config, found["split"]).to(device), judge_of(config, device)
    model, name = run.model(device), run.folder.name
    caption = f"{len(digits):,} {found['split']} digits."
    scores = judge_sums(model, judge, digits)
    accuracy, title = wilson(scores.correct, scores.total), "sums read rightly, with 95 % intervals"
    yield "cells", cell_map(*accuracy, title=f"{name}: {title}", caption=caption)
    shares, wrong = {name: scores.blame[:3]}, {name: scores.blame.wrong / scores.total.sum()}
    yield "causes", blame_bars(shares, wrong, title="Where wrong sums come from", caption=caption)
    groups = [digits.images[members] for members in digits.by_class()]
    between = np.linspace(1, 2, STEPS + 1)
    p = {name: sweep(model, judge, groups[7], between)}
    turning = {name: float("nan") if found["u50"] is None else found["u50"]}
    sevens = {"caption": f"{len(groups[7]):,} {found['split']} sevens."}
    title = "From 7 + 1 to 7 + 2"
    yield "between", sweep_curves(between, p, turning=turning, title=title, **sevens)
    if model.stochastic:
        few = f"The first {PER_CELL} {found['split']} digits of each class, with every addend."
        points = [(s["temperature"], s["accuracy"], s["diversity"]) for s in found["samples"]]
        yield "variety", trade_off({name: points}, title="Sampled sums", caption=few)
    totals, p = np.arange(9 * STEPS + 1) / STEPS, np.zeros((10, 9 * STEPS + 1, 10))
    for digit, images in enumerate(tqdm(groups, unit=" digits", disable=not progress)):
        p[digit, digit * STEPS :] = sweep(model, judge, images, totals[digit * STEPS :] - digit)
    p = p.sum(0) / (np.floor(totals) + 1)[:, None]  # a sum is reached from digits 0 to its floor
    caption += " Every digit up to the sum, with the number that is missing."
    title, asked = "What is drawn between the whole sums", {"digit": 0, "xlabel": "sum asked for"}
    yield "staircase", digit_map(totals, {name: p}, title=title, caption=caption, **asked)
