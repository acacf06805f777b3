"""The assignment's own setting, 100 epochs a run: what there is, what is left, how long it takes.

The runs lie where the notebooks look for them under the budget "reference", most useful first;
those that came with the project count as done.
Several processes, also of several machines on one file system, can train them together.
"""

import json
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import NamedTuple

from learn2add import recipes
from learn2add.checkpoints import write_atomically
from learn2add.configs import RunConfig
from learn2add.runs import Run, load_or_train
from learn2add.tracking import read_metrics


class Planned(NamedTuple):
    """One run of the plan."""

    name: str
    """Such as "part3/reference"."""
    folder: Path
    config: RunConfig


class Progress(NamedTuple):
    """How far a run is."""

    done: int
    """Epochs that need not be trained again."""
    total: int
    seconds: float | None
    """Of an epoch, so far; None where there was none."""
    complete: bool
    """Early stopping may complete a run before its last epoch."""


def plan(budget: str = "reference", *, beside: bool = False) -> list[Planned]:
    """The runs of Parts III and IV, then the twelve of Part II, code size 7 first, copies last.

    Args:
        budget: "reference", "quick" or "smoke".
        beside: Instead of those, the ones that stand beside them; see :func:`recipes.beside`.
    """
    if beside:
        runs = [(*name.split("/"), config) for name, config in recipes.beside().items()]
        return [placed(part, name, config, "reference") for part, name, config in runs]
    runs = [("part3", budget, recipes.part3(budget=budget))]
    for model in recipes.PART4:
        config = recipes.part4(model, budget=budget)
        runs.append(("part4", f"{model}-{config.decoder}", config))
    part2 = recipes.all_part2(budget).items()
    order = sorted(part2, key=lambda item: (is_twin(item[1]), -item[1].code_size))
    runs += [("part2", name, config) for name, config in order]
    return [placed(part, name, config, budget) for part, name, config in runs]


def placed(part: str, name: str, config: RunConfig, budget: str) -> Planned:
    """A run in the folder where it came with the project, or where it is to be written."""
    kept = recipes.kept_reference(part, name, config) if budget == "reference" else None
    folder = kept.folder if kept else recipes.run_folder(part, name, budget)
    return Planned(f"{part}/{name}", folder, config)


def progress(planned: Planned) -> Progress:
    """How far the run is, by its curves.

    Raises:
        ValueError: The curves are damaged.
    """
    total = sum(stage.epochs for stage in planned.config.stages)
    curves = planned.folder / "metrics.csv"
    rows = read_metrics(curves) if curves.exists() else []
    seconds = mean(row["seconds"] for row in rows) if rows else None
    return Progress(len(rows), total, seconds, (planned.folder / "result.json").exists())


def seconds_left(plan: list[Planned]) -> float | None:
    """Training time of what is left, judged by the epochs there are; None where there are none.

    A run not yet begun takes as long for an epoch as those of its part, or as all do on average; a
    copy takes no time.
    """
    states = {planned.name: progress(planned) for planned in plan}
    known = {name: state.seconds for name, state in states.items() if state.seconds is not None}
    if not known:
        return None
    left = 0.0
    for planned in plan:
        state = states[planned.name]
        if state.complete or (is_twin(planned.config) and not state.done):
            continue
        part = planned.name.split("/")[0]
        alike = [seconds for other, seconds in known.items() if other.split("/")[0] == part]
        seconds = known.get(planned.name) or mean(alike or known.values())
        left += seconds * (state.total - state.done)
    return left


def status(plan: list[Planned]) -> str:
    """One line per run, and :func:`time_left`."""
    lines = []
    for planned in plan:
        state = progress(planned)
        word = "complete" if state.complete else f"epoch {state.done} of {state.total}"
        lines.append(f"{planned.name:<42}{word}")
    return "\n".join([*lines, time_left(plan)])


def time_left(plan: list[Planned]) -> str:
    """:func:`seconds_left` in words."""
    left = seconds_left(plan)
    guess = "unknown until an epoch is done" if left is None else f"about {duration(left)}"
    return f"time left: {guess}"


def duration(seconds: float) -> str:
    """Hours and minutes, such as "3 h 05 min"."""
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{minutes} min"


def train(planned: Planned, *, show: bool = True) -> Run:
    """Train one run of the plan, go on with it, or load it. ``show``: with a progress bar.

    Decoder 3 is the same function of the same weights as decoder 2, and its training ends with the
    same bits (notebook 2 checks both); so its run is a copy of decoder 2's, which is trained, or
    waited for where another process trains it, if need be.
    """
    if is_twin(planned.config) and not (planned.folder / "config.json").exists():
        original = original_of(planned)
        copy_as(load_or_train(original.config, original.folder, progress=show), planned)
    return load_or_train(planned.config, planned.folder, progress=show)


def is_twin(config: RunConfig) -> bool:
    """Whether a run of decoder 2 ends with the same weights."""
    return config.decoder == "interpolation"


def original_of(planned: Planned) -> Planned:
    """The run of decoder 2 that a run of decoder 3 would repeat."""
    config = replace(planned.config, decoder="conv_upsample")
    part, name = planned.name.replace("interpolation", "conv_upsample").split("/")
    kept = recipes.kept_reference(part, name, config)
    folder = kept.folder if kept else planned.folder.with_name(name)
    return Planned(f"{part}/{name}", folder, config)


def copy_as(run: Run, planned: Planned) -> None:
    """Write a run's figures and weights once more, under another configuration.

    Raises:
        OSError: The folder cannot be written.
    """
    planned.folder.mkdir(parents=True, exist_ok=True)
    write_atomically(planned.folder / "config.json", planned.config.to_json())
    for file in ("metrics.csv", "weights.safetensors"):
        write_atomically(planned.folder / file, (run.folder / file).read_bytes())
    result = run.result | {"same_as": run.folder.name}
    write_atomically(planned.folder / "result.json", json.dumps(result, indent=2) + "\n")
