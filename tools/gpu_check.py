"""What a GPU makes of the trainings, in minutes and one JSON file: ``python -m tools.gpu_check``.

The usual loop of coursework beside this project's, for the three decoders and Part III; eager steps
beside compiled ones, compile time counted; a hundred epochs of Parts II and III; whether float32
there is that of the CPU, and whether a training gives the same bits twice. It runs on a CPU too,
where it takes hours: try it there with ``--smoke``.
"""

import argparse
import contextlib
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import torch

from learn2add import recipes
from learn2add.checkpoints import write_atomically
from learn2add.config import RunConfig
from learn2add.data import as_float, load_digits
from learn2add.hardware import default_device, default_precision, describe
from learn2add.runs import load, load_or_train
from tools.benchmark.compare import compare
from tools.benchmark.contenders import OurLoop
from tools.benchmark.machine import matmul_rate
from tools.benchmark.networks import NETWORKS, benchmark_config

KEPT = ("part2/conv_transpose-l2-code7", "part3/reference")
"""Runs whose images are compared between the devices."""
MODES = {"eager": None, "compiled": "reduce-overhead"}


def loops(steps: int, repeats: int) -> dict[str, Any]:
    """Return images per second and ratio to the usual loop, by network and contender."""
    found = {}
    for network in NETWORKS:
        compared = compare(network, steps=steps, repeats=repeats, say=print)
        found[network] = {
            speed.name: {"images/s": median(speed.images_per_second), "ratio": speed.ratio}
            for speed in compared.speeds
        }
    return found


class Enough(Exception):
    """Ends a training."""


def steps_of(config: RunConfig, mode: str | None, count: int) -> dict[str, float]:
    """Take steps of a training; return the first one's seconds and the median of the others.

    ``mode`` is of ``torch.compile``; None is eager. The first step compiles.
    """
    loop, on_gpu = OurLoop(config), default_device().type == "cuda"
    if mode:
        how = {"mode": mode} if on_gpu else {"backend": "aot_eager"}
        loop.model.encoder.compile(**how)
        loop.model.decoder.logits = torch.compile(loop.model.decoder.logits, **how)
    ended = [time.perf_counter()]

    def step_ended(images: int) -> None:
        if on_gpu:
            torch.cuda.synchronize()
        ended.append(time.perf_counter())
        if len(ended) > count:
            raise Enough
        torch.compiler.cudagraph_mark_step_begin()

    with contextlib.suppress(Enough):
        loop.fit(1, step_ended)
    seconds = [after - before for before, after in pairwise(ended)]
    return {"first": seconds[0], "median": median(seconds[1:])}


def a_hundred_epochs(smoke: bool) -> dict[str, float]:
    """Return the seconds of the assignment's own trainings of Parts II and III."""
    budget, found = "smoke" if smoke else "reference", {}
    for name, config in (
        ("part2", recipes.part2(code_size=7, budget=budget)),
        ("part3", recipes.part3(budget=budget)),
    ):
        with tempfile.TemporaryDirectory() as folder:
            run = load_or_train(config, Path(folder) / "run")
            found[name] = run.result["seconds"]
    return found


@torch.no_grad()
def agreement(count: int = 500) -> dict[str, float]:
    """Return how far images in float32 on the device lie from the CPU's at most, by run."""
    x, found = as_float(load_digits("MNIST", "test").images[:count]), {}
    for name in KEPT:
        run, drawn = load(name), []
        for device in (torch.device("cpu"), default_device()):
            addend = (torch.ones(len(x), device=device),) if run.config.adds else ()
            drawn.append(run.model(device)(x.to(device), *addend).cpu())
        found[name] = float((drawn[0] - drawn[1]).abs().max())
    return found


def same_twice() -> bool:
    """Whether a short training gives the same weights twice, to the bit."""
    weights = []
    for _ in range(2):
        with tempfile.TemporaryDirectory() as folder:
            run = load_or_train(recipes.part3(budget="smoke"), Path(folder) / "run", progress=False)
            weights.append((run.folder / "weights.safetensors").read_bytes())
    return weights[0] == weights[1]


def main(argv: Sequence[str] | None = None) -> int:
    """Measure everything, write it after each part, print it; status 0."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("-o", "--output", type=Path, default=Path("build/gpu.json"))
    parser.add_argument("--smoke", action="store_true", help="next to nothing of everything")
    options = parser.parse_args(argv)
    steps, repeats = (2, 1) if options.smoke else (200, 5)
    fast = default_precision(default_device())
    base = replace(benchmark_config(), precision=fast, train_size=1000 if options.smoke else None)
    count = 3 if options.smoke else 300
    parts = {
        "matmul GFLOP/s": lambda: {name: matmul_rate(name) for name in ("float32", fast)},
        "agreement": agreement,
        "same twice": same_twice,
        "seconds a step": lambda: {
            name: steps_of(base, mode, count) for name, mode in MODES.items()
        },
        "loops": lambda: loops(steps, repeats),
        "seconds of 100 epochs": lambda: a_hundred_epochs(options.smoke),
    }
    found: dict[str, Any] = describe()
    for name, measure in parts.items():
        print(f"\n{name}", flush=True)
        found[name] = measure()
        write_atomically(options.output, json.dumps(found, indent=1) + "\n")
        print(json.dumps(found[name], indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
