"""Train the assignment's own setting, 100 epochs a run: ``python tools/reference.py``.

Trains what is missing and goes on with what was cut off, minutes a run on a GPU, hours on a CPU;
``--list`` only says what there is, what is left and how long it takes. The runs lie where the
notebooks look for them under LEARN2ADD_BUDGET=reference, most useful first; those that came with
the project count as done. Several processes, also of several machines on one file system, can train
them together.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import NamedTuple

from learn2add import recipes, runs
from learn2add.checkpoints import write_atomically
from learn2add.config import RunConfig
from learn2add.runs import Run, load_or_train
from learn2add.tensorboard import Tracker, add_hyper_parameters, read_metrics
from learn2add.train import build_model


class Planned(NamedTuple):
    """One run of the plan; the name is such as "part3/reference"."""

    name: str
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
    """Return the runs of Parts III and IV, then Part II's twelve, code size 7 first, copies last.

    With ``beside`` instead those of :func:`runs_beside`.
    """
    if beside:
        return [
            placed(*name.split("/"), config, "reference") for name, config in runs_beside().items()
        ]
    chosen = [("part3", budget, recipes.part3(budget=budget))]
    for model in recipes.PART4:
        config = recipes.part4(model, budget=budget)
        chosen.append(("part4", f"{model}-{config.decoder}", config))
    part2 = recipes.all_part2(budget).items()
    order = sorted(part2, key=lambda item: (is_twin(item[1]), -item[1].code_size))
    chosen += [("part2", name, config) for name, config in order]
    return [placed(part, name, config, budget) for part, name, config in chosen]


def runs_beside() -> dict[str, RunConfig]:
    """Return by name the runs beside the assignment's hundred epochs at a constant rate.

    "scheduled": their rate has a schedule, their images are deformed, their large layers are
    Muon's. Those of Part II were held against shorter ones of weaker deformation, on the validation
    split. "relu": the hundred epochs at a constant rate, but for a ReLU between the encoder's two
    linear layers; and once more with batches of 32, four times as many steps. "pixels64": the
    assignment's third decoder at its size, by cross-entropy for four epochs (ten minutes each on a
    core without bfloat16); and by squared error for one, in which it learns to draw black, where a
    saturated sigmoid has no gradient left.
    """
    relu = replace(recipes.part2(budget="reference"), activation="relu")
    small_batches = replace(relu.stages[0], batch_size=32)
    large = {}
    for loss, epochs in (("bce", 4), ("l2", 1)):
        base = recipes.part2("interpolation", loss, budget="reference")
        few = (replace(base.stages[0], epochs=epochs),)
        large[f"part2/pixels64-{loss}"] = replace(base, image_size=64, stages=few)
    return {
        "part3/scheduled": part3_long(),
        "part2/scheduled-code7": recipes.part2_long(7, epochs=80, plain=10, deform=2.5),
        "part2/scheduled-code2": recipes.part2_long(2, epochs=100, plain=10, deform=2.0),
        "part2/relu-code2": relu,
        "part2/relu-batch32-code2": replace(relu, stages=(small_batches,)),
    } | large


def part3_long(*, epochs: int = 16, seed: int = 0) -> RunConfig:
    """Return Part III's quick recipe, its joint stage four times as long and on deformed images.

    ``epochs`` are those of the joint stage, 500 steps each.
    """
    base = recipes.part3(seed=seed)
    autoencoder, adder, joint = base.stages
    autoencoder = replace(autoencoder, epochs=4, steps=390)
    return replace(base, stages=(autoencoder, adder, replace(joint, epochs=epochs, deform=1.0)))


def placed(part: str, name: str, config: RunConfig, budget: str) -> Planned:
    """Return a run in the folder where it came with the project, or where it is to be written."""
    kept = runs.kept(config, f"{part}/{name}") if budget == "reference" else None
    folder = kept.folder if kept else runs.runs_root() / recipes.place(part, name, budget)
    return Planned(f"{part}/{name}", folder, config)


def progress(planned: Planned) -> Progress:
    """Return how far the run is, by its curves; a ValueError if they are damaged."""
    total = sum(stage.epochs for stage in planned.config.stages)
    curves = planned.folder / "metrics.csv"
    rows = read_metrics(curves) if curves.exists() else []
    seconds = mean(row["seconds"] for row in rows) if rows else None
    return Progress(len(rows), total, seconds, (planned.folder / "result.json").exists())


def seconds_left(plan: list[Planned]) -> float | None:
    """Return the training time of what is left, by the epochs there are; None if there are none.

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
    """Return one line per run, and ``time_left``."""
    lines = []
    for planned in plan:
        state = progress(planned)
        word = "complete" if state.complete else f"epoch {state.done} of {state.total}"
        lines.append(f"{planned.name:<42}{word}")
    return "\n".join([*lines, time_left(plan)])


def time_left(plan: list[Planned]) -> str:
    """Return ``seconds_left`` in words, such as "time left: about 3 h 05 min"."""
    left = seconds_left(plan)
    if left is None:
        return "time left: unknown until an epoch is done"
    hours, minutes = divmod(round(left / 60), 60)
    return f"time left: about {f'{hours} h {minutes:02d}' if hours else minutes} min"


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
    return config.decoder == "interpolation" and config.image_size == 28


def original_of(planned: Planned) -> Planned:
    """Return the run of decoder 2 that a run of decoder 3 would repeat."""
    config = replace(planned.config, decoder="conv_upsample")
    part, name = planned.name.replace("interpolation", "conv_upsample").split("/")
    kept = runs.kept(config, f"{part}/{name}")
    folder = kept.folder if kept else planned.folder.with_name(name)
    return Planned(f"{part}/{name}", folder, config)


def copy_as(run: Run, planned: Planned) -> None:
    """Write a run's curves and weights once more, under another configuration."""
    write_atomically(planned.folder / "config.json", planned.config.to_json())
    for file in ("metrics.csv", "weights.safetensors"):
        write_atomically(planned.folder / file, (run.folder / file).read_bytes())
    write_events(run, planned.folder, planned.config)
    result = run.result | {"same_as": run.folder.name}
    runs.write_result(planned.folder, result)


def write_events(run: Run, folder: Path, config: RunConfig) -> None:
    """Write a run's curves for TensorBoard once more, under another configuration."""
    with Tracker(folder, build_model(config)) as tracker:
        for epoch, row in enumerate(run.history, 1):
            tracker.epoch(row, epoch, {})
        best = run.history[run.result["best_epoch"] - 1]
        add_hyper_parameters(tracker.writer, config.flat(), best)


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command's options."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--list", action="store_true", help="only say what there is")
    add = parser.add_mutually_exclusive_group().add_argument
    beside = "instead: the runs beside them, with a schedule, Muon and more, a ReLU, 64 x 64"
    add("--beside", action="store_true", help=beside)
    budgets = {"choices": recipes.BUDGETS, "default": "reference"}
    add("--budget", **budgets, help="another setting for the same runs")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Train what is left; status 0 if it worked, 2 if it could not, 130 if interrupted."""
    parser = make_parser()
    arguments = parser.parse_args(argv)
    beside = "long runs beside the assignment's own setting"
    try:
        todo = plan(arguments.budget, beside=arguments.beside)
        meaning = beside if arguments.beside else recipes.MEANING[arguments.budget]
        print(f"{meaning}\n{status(todo)}", flush=True)
        places = {} if arguments.list else {planned.folder: planned for planned in todo}
        for folder in runs.free_first(places):
            print(f"\n{places[folder].name}", flush=True)
            train(places[folder])
            print(time_left(todo), flush=True)
    except KeyboardInterrupt:
        return 130
    except (ValueError, OSError, RuntimeError) as error:
        print(f"{parser.prog}: error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
