"""What the experiments share: options, digits, runs that several processes train, what is kept."""

import argparse
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn
from tqdm import tqdm

from learn2add.checkpoints import write_atomically
from learn2add.config import RunConfig
from learn2add.data import Digits, load_digits
from learn2add.hardware import default_device
from learn2add.runs import Run, free_first, load, load_or_train, locked
from learn2add.train import Progress, build_model, run_epoch

KEPT = Path(__file__).parents[2] / "runs"


def options(text: str, place: str) -> argparse.ArgumentParser:
    """Return a parser with ``--budget`` and ``--folder``, by default ``runs/PLACE``."""
    parser = argparse.ArgumentParser(description=text)
    parser.add_argument("--budget", choices=("quick", "smoke"), default="quick")
    parser.add_argument("--folder", type=Path, default=KEPT / place, help="where the figures go")
    return parser


def digits_of(split: str, budget: str) -> Digits:
    """Return a split on the default device; under "smoke" 150 of its digits."""
    digits = load_digits("MNIST", split).to(default_device())
    return digits.subset(150) if budget == "smoke" else digits


def in_seconds(config: RunConfig) -> RunConfig:
    """Return the same run with a few steps on a few digits, where every line is to be tried."""
    stages = tuple(replace(stage, epochs=2, steps=4, batch_size=32) for stage in config.stages)
    return replace(config, stages=stages, train_size=200, validation_size=100)


def shared(folders: Iterable[Path]) -> Iterator[Path]:
    """Yield what is left to train, behind a bar; several processes may share the list."""
    folders = list(folders)
    return tqdm(free_first(folders), total=len(folders), unit=" runs")


def claimed(folders: Iterable[Path], place: Path) -> Iterator[Path]:
    """Yield each folder, made and locked, of which ``place`` has no ``NAME.json`` yet."""
    for folder in shared(folders):
        with locked(folder):
            if not (place / f"{folder.name}.json").exists():
                yield folder


def trained(configs: dict[Path, RunConfig]) -> dict[Path, Run]:
    """Return the run of each folder, trained if need be."""
    for folder in shared(configs):
        load_or_train(configs[folder], folder, progress=False)
    return {folder: load(folder) for folder in configs}


def adder_between(
    kept: Run, config: RunConfig, digits: Sequence[Digits], adder: nn.Module | None = None
) -> nn.Module:
    """Train an adder alone, the configuration's or another, between a kept run's two halves."""
    device, (stage,) = digits[0].images.device, config.stages
    model = build_model(config)
    model.adder = adder or model.adder
    model = model.to(device)
    for part in ("encoder", "decoder"):
        getattr(model, part).load_state_dict(getattr(kept.model(device), part).state_dict())
    step = config.step(stage, model, *digits)
    with tqdm(total=1, disable=True) as bar:
        run_epoch(config, Progress(), step, step.optimiser(), bar)
    return model.eval()


def keep(file: Path, found: Any) -> None:
    """Write what was found as JSON."""
    write_atomically(file, json.dumps(found, indent=1) + "\n")
