"""The command line, a thin face over the package: ``learn2add``, or ``python -m learn2add``."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from learn2add.options import DEFAULT_RUN, make_parser

# torch takes seconds to import, so commands import what they need when they run.
if TYPE_CHECKING:
    from torch import Tensor

    from learn2add.configs import RunConfig
    from learn2add.runs import Run

ENLARGED = 8
"""Pixels of the written PNG per pixel of the picture, along each side."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; status 0 if it worked, 2 if it could not, 130 if interrupted."""
    arguments = make_parser().parse_args(argv)
    try:
        COMMANDS[arguments.command](arguments)
    except KeyboardInterrupt:
        print("learn2add: interrupted", file=sys.stderr)
        return 130
    except (ValueError, TypeError, OSError, RuntimeError) as error:
        message = " ".join(str(error).split()) or type(error).__name__
        print(f"learn2add: error: {message}", file=sys.stderr)
        return 2
    return 0


def run_data(arguments: argparse.Namespace) -> None:
    """``learn2add data``."""
    from learn2add.data import load_digits
    from learn2add.fetching import cache_folder

    for split in ("train", "validation", "test"):
        digits = load_digits(arguments.dataset, split)
        size = digits.image_size
        print(f"{digits.dataset} {split}: {len(digits):,} pictures, {size} x {size}, verified")
    for folder in (os.environ.get("LEARN2ADD_DATA"), cache_folder()):
        if folder:
            home = Path(folder) / arguments.dataset
            files = [*home.rglob("*-ubyte"), *home.rglob("*-ubyte.gz")]
            for place in sorted({file.parent for file in files}):
                print(f"in {place}")


def run_train(arguments: argparse.Namespace) -> None:
    """``learn2add train``, by one process or by those that ``torchrun`` started."""
    import contextlib

    from learn2add import parallel

    with parallel.joined() as processes:
        quiet = contextlib.nullcontext() if processes.first else contextlib.redirect_stdout(None)
        with quiet:
            train(arguments)


def train(arguments: argparse.Namespace) -> None:
    """Train, and print what came of it."""
    from learn2add import recipes, runs

    config, name, budget = recipe(arguments)
    folder = arguments.folder or recipes.run_folder(arguments.part, name, budget)
    if (folder / "result.json").exists():
        print(f"{folder} is complete already; loading it")
    else:
        print(f"budget {budget}: {recipes.MEANING[budget]}\nrun {folder}", flush=True)
    run = runs.load_or_train(config, folder)
    best = run.history[run.result["best_epoch"] - 1]
    print(f"\nbest epoch {best['epoch']} of {len(run.history)} (chosen on validation loss)")
    print(f"{'':10}{'train':>10}{'validation':>12}")
    for measure in ("loss", "rmse", "sum_rmse"):
        if f"{measure}/train" in best:
            train, validation = best[f"{measure}/train"], best[f"{measure}/validation"]
            print(f"{measure:10}{train:10.4f}{validation:12.4f}")
    print(f"trained in {run.result['seconds']:.0f} s ({run.result['device']})")
    print(f"folder {run.folder}\nnext: learn2add evaluate {run.folder}")


def run_reference(arguments: argparse.Namespace) -> None:
    """``learn2add reference``."""
    from learn2add import recipes, reference, runs

    plan = reference.plan(arguments.budget, beside=arguments.beside)
    meaning = recipes.MEANING[arguments.budget]
    if arguments.beside:
        meaning = "long runs beside the assignment's own setting"
    print(f"{meaning}\n{reference.status(plan)}", flush=True)
    if arguments.list:
        return
    places = {planned.folder: planned for planned in plan}
    for folder in runs.free_first(places):
        print(f"\n{places[folder].name}", flush=True)
        reference.train(places[folder])
        print(reference.time_left(plan), flush=True)


def recipe(arguments: argparse.Namespace) -> tuple["RunConfig", str, str]:
    """The configuration that ``train`` is asked for, the name of its folder, and the budget.

    The name tells what differs from the part's recipe.
    """
    import dataclasses

    from learn2add import configs, recipes

    budget = arguments.budget or recipes.budget()
    make = {"part2": recipes.part2, "part3": recipes.part3, "part4": recipes.part4}[arguments.part]
    chosen = {"model": arguments.model} if arguments.model else {}
    if chosen and arguments.part != "part4":
        raise ValueError(f"--model is {arguments.model!r}; allowed for part4, not {arguments.part}")
    base = make(budget=budget, **chosen)

    def given(kind: type) -> dict[str, Any]:
        values = {f.name: getattr(arguments, f.name, None) for f in dataclasses.fields(kind)}
        return {name: value for name, value in values.items() if value is not None}

    changes = given(configs.Stage)
    if changes.get("steps") == 0:
        changes["steps"] = None
    stages = (*base.stages[:-1], dataclasses.replace(base.stages[-1], **changes))
    config = dataclasses.replace(base, stages=stages, **given(configs.RunConfig))
    name, stage = config.decoder, config.stages[-1]
    if arguments.part == "part4":
        name = f"{config.model}-{name}"
    base = dataclasses.replace(base, decoder=config.decoder)
    if arguments.part == "part2":
        name += f"-{stage.loss}-code{config.code_size}"
        base = recipes.part2(config.decoder, stage.loss, config.code_size, budget=budget)
    was = base.flat()
    differing = {field: value for field, value in config.flat().items() if value != was[field]}
    for field, value in differing.items():
        text = value
        if isinstance(value, tuple):
            text = f"{len(value)}-cells" if field == "held_out" else "-".join(map(str, value))
        name += f"-{field.split('.')[-1]}-{text}"
    return config, name, budget


def run_evaluate(arguments: argparse.Namespace) -> None:
    """``learn2add evaluate``."""
    import json

    from learn2add.checkpoints import write_atomically
    from learn2add.evaluation import evaluate
    from learn2add.hardware import default_device
    from learn2add.report import report

    run = find_run(arguments.run)
    if arguments.figures and not run.config.kind.adder:
        raise ValueError(f"--figures: {run.folder} is an {run.config.model} and does not add")
    found = evaluate(run, arguments.split, default_device())
    print(report(run, found))
    if arguments.json:
        write_atomically(arguments.json, json.dumps(found, indent=2, allow_nan=False) + "\n")
    if arguments.figures:
        draw_evidence(run, found, arguments.figures)


def draw_evidence(run: "Run", found: dict[str, Any], folder: Path) -> None:
    """Write the figures of a run's evidence into a folder."""
    from matplotlib import pyplot

    from learn2add.evidence_figures import evidence_figures
    from learn2add.figures import save_png
    from learn2add.hardware import default_device

    for name, figure in evidence_figures(run, found, device=default_device()):
        print(f"wrote {save_png(figure, folder / f'{name}.png')}")
        pyplot.close(figure)


def find_run(name: str) -> "Run":
    """The run in a folder, or one kept with the project under that name.

    Raises:
        ValueError: There is none; the complete ones are listed.
    """
    from learn2add.runs import kept_run, load_run, runs_root

    for folder in (Path(name), runs_root() / name):
        if (folder / "config.json").exists():
            return load_run(folder)
    if run := kept_run(name):
        return run
    root = runs_root()
    names = sorted(str(file.parent.relative_to(root)) for file in root.rglob("result.json"))
    known = ", ".join(names) or f"none; `learn2add train {name.split('/')[0]}` makes one"
    raise ValueError(f"RUN is {name!r}: no such folder and no such run (under {root}: {known})")


def run_add(arguments: argparse.Namespace) -> None:
    """``learn2add add``."""
    from learn2add.checkpoints import write_atomically
    from learn2add.data import as_float
    from learn2add.evaluation import add
    from learn2add.judge import load_judge
    from learn2add.photo import read_digit

    if arguments.output.suffix.lower() != ".png":
        raise ValueError(f"the output must end in .png, not {arguments.output.name!r}")
    run = adding_run(arguments.run)
    digit = read_digit(arguments.image, run.config.image_size)[None]
    x, judge = as_float(digit), load_judge()
    y_hat = add(run.model("cpu").inference(), digit, arguments.addend)
    read = judge.read(x)[0]
    total = int(read.argmax()) + arguments.addend
    print(f"input: the judge reads {readings(read)}")
    print(f"sum:   the judge reads {readings(judge.read(y_hat)[0])}")
    if not 0 <= total <= 9:
        print(f"{total:g} is not the sum of any pair the network was trained on (0 to 9)")
    write_atomically(arguments.output, png([x, y_hat] if arguments.show_input else [y_hat]))
    print(f"wrote {arguments.output}")


def adding_run(name: str | None) -> "Run":
    """The run that ``add`` draws with.

    Raises:
        ValueError: It is no addition model, or none is named and none came with the project.
    """
    from learn2add.runs import kept_run

    run = kept_run(DEFAULT_RUN) if name is None else find_run(name)
    if run is None:
        raise ValueError(
            "no trained addition model came with this copy; train one with `learn2add train part3` "
            "and name its folder with --run"
        )
    if not run.config.kind.adder:
        raise ValueError(f"{run.folder} is an {run.config.model} without adder; name another run")
    return run


def readings(probabilities: "Tensor") -> str:
    """What the judge reads, likeliest first, down to 1 %: ``9 (97.2 %), 4 (2.1 %)``."""
    ranked = probabilities.sort(descending=True)
    pairs = zip(ranked.indices.tolist(), ranked.values.tolist(), strict=True)
    shown = [f"{digit} ({100 * p:.1f} %)" for digit, p in pairs if p >= 0.01]
    return ", ".join(shown[:3])


def png(pictures: list["Tensor"]) -> bytes:
    """Pictures float ``[1, 1, S, S]`` in [0, 1], side by side and enlarged, as a grey PNG."""
    import cv2
    import numpy as np

    row = np.concatenate([picture[0, 0].numpy() for picture in pictures], axis=1)
    large = np.rint(255 * row).astype(np.uint8).repeat(ENLARGED, axis=0).repeat(ENLARGED, axis=1)
    return cv2.imencode(".png", large)[1].tobytes()


def run_judge(arguments: argparse.Namespace) -> None:
    """``learn2add judge``."""
    from learn2add.hardware import default_device
    from learn2add.judge import place_of
    from learn2add.judge_training import rebuild_judge

    path = arguments.output or place_of(arguments.architecture, arguments.dataset)
    card = rebuild_judge(
        path,
        architecture=arguments.architecture,
        dataset=arguments.dataset,
        seed=arguments.seed,
        epochs=arguments.epochs,
        device=default_device(),
    )
    for size, findings in card["test"].items():
        surest = min(findings["class_means"])
        print(
            f"{size} x {size}: {100 * findings['accuracy']:.2f} % of the test digits read rightly; "
            f"class means with a confidence of {surest:.2f} or more"
        )
    print(f"wrote {path}")


def run_benchmark(arguments: argparse.Namespace) -> None:
    """``learn2add benchmark``."""
    from learn2add.benchmark.command import report

    print(report(arguments))


COMMANDS = {
    "data": run_data,
    "train": run_train,
    "reference": run_reference,
    "evaluate": run_evaluate,
    "add": run_add,
    "judge": run_judge,
    "benchmark": run_benchmark,
}


def leave(status: int) -> None:
    """End the process.

    One of several, started by ``torchrun``, ends at once. All is written by then; what is left is
    to take the interpreter apart, and Gloo's threads may still let go of tensors while that
    happens, which now and then aborts the process and with it the others.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)


if __name__ == "__main__":
    leave(main())
