"""The command line, a thin face over the package: ``learn2add``, or ``python -m learn2add``.

Each command is a dataclass. Its docstring and those of its fields are the help; tyro makes the
options. Those of ``train`` are the fields of :mod:`learn2add.config`.
"""

import ast
import contextlib
import inspect
import io
import itertools
import json
import os
import re
import sys
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Any, Literal, TypedDict, TypeVar, get_type_hints

import tyro
from tyro.conf import DisallowNone, FlagCreatePairsOff, Positional, arg

import learn2add
from learn2add.config import HELD_OUT, LossWeights, RunConfig, Stage

# torch takes seconds to import, so commands import what they need when they run.
T = TypeVar("T")
Silent = Annotated[DisallowNone[T | None], arg(help_behavior_hint="")]
"""The type of an option whose help says what happens without it."""


def main(argv: list[str] | None = None) -> int:
    """Run one command; status 0 if it worked, 2 if it could not, 130 if interrupted.

    3: it worked, but what came in is doubtful; a warning says why.
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a code page may lack an accent; that is no error
            stream.reconfigure(errors="backslashreplace")
    try:
        command_of(sys.argv[1:] if argv is None else argv)()
    except KeyboardInterrupt:
        print("learn2add: interrupted", file=sys.stderr)
        return 130
    except (ValueError, TypeError, OSError, RuntimeError) as error:
        message = " ".join(str(error).split()) or type(error).__name__
        print(f"learn2add: error: {message}", file=sys.stderr)
        return 2
    return 0


def command_of(arguments: list[str]) -> Any:
    """Return the command asked for, to be called; SystemExit where help was, and is printed."""
    box = io.StringIO()
    try:
        with contextlib.redirect_stderr(box):
            return tyro.extras.subcommand_cli_from_dict(
                COMMANDS,
                prog="learn2add",
                description=f"{learn2add.__doc__}\nVersion {learn2add.__version__}.",
                args=arguments,
                config=(tyro.conf.OmitArgPrefixes,),
            )
    except SystemExit as leaving:
        if not leaving.code:
            raise
    # tyro writes what is wrong into a box, below a title and above a rule: here it is one line.
    text = re.sub(r"\x1b\[[\d;]*m|[│╭╮╰╯]", "", box.getvalue()).partition("\n")[2]
    wrong = " ".join(next(filter(str.strip, re.split("[─-]{9,}", text)), "").split())
    known = [name for name in arguments[:1] if name in COMMANDS]
    raise ValueError(f"{wrong} (see {' '.join(['learn2add', *known])} --help)")


def options_of(kind: type, *without: str) -> Any:
    """Return a type of which tyro makes options: a dictionary of the fields that are given."""
    body = ast.parse(inspect.getsource(kind)).body[0].body
    texts = {
        field.target.id: re.sub(r":\w+:|`", "", " ".join(text.value.value.split()))
        for field, text in itertools.pairwise(body)
        if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr)
    }
    hints = get_type_hints(kind)
    options = {
        field.name: Annotated[hints[field.name], arg(help=texts[field.name], help_behavior_hint="")]
        for field in fields(kind)
        if field.name not in without
    }
    return TypedDict(kind.__name__, options, total=False)


@dataclass(frozen=True)
class Data:
    """Find, or fetch, and verify the digits; say where they are.

    They are sought in the folder LEARN2ADD_DATA, then in the cache, and verified against the
    official checksums.
    """

    dataset: Literal["MNIST", "FashionMNIST"] = "MNIST"
    """Digits, or clothes."""

    def __call__(self) -> None:
        """Run the command."""
        from learn2add.data import cache_folder, home_of, load_digits

        for split in ("train", "validation", "test"):
            digits = load_digits(self.dataset, split)
            size = digits.image_size
            print(f"{digits.dataset} {split}: {len(digits):,} pictures, {size} x {size}, verified")
        for folder in filter(None, (os.environ.get("LEARN2ADD_DATA"), cache_folder())):
            home = home_of(Path(folder).expanduser(), self.dataset) / self.dataset
            files = [*home.rglob("*-ubyte"), *home.rglob("*-ubyte.gz")]
            for place in sorted({file.parent for file in files}):
                print(f"in {place}")


@dataclass(frozen=True)
class Train:
    """Train an autoencoder (part2) or a network that adds (part3, part4).

    An option left out is as the recipe of the part and the budget has it. A training that was
    stopped goes on where it was when the same command is given again; one that is complete is
    loaded. TensorBoard shows the curves: tensorboard --logdir FOLDER. Examples:
        learn2add train part2 --loss bce --code-size 7
        learn2add train part2 --epochs 12 --steps 0
        learn2add train part3 --seed 1 --folder my_runs/adder
    """

    part: Positional[Literal["part2", "part3", "part4"]]
    """Reconstruct; add; add with distributions."""
    config: options_of(RunConfig, "stages", "model", "weights", "held_out")
    weights: options_of(LossWeights)
    """The weights of the loss (part3, part4)."""
    stage: options_of(Stage, "task")
    """The training; where it has several stages, the last. Of steps, 0 is one pass over all."""
    model: Silent[Literal["variational_addition", "generative_addition"]] = None
    """part4: which; default: generative_addition."""
    budget: Silent[Literal["reference", "quick", "smoke"]] = None
    """Which recipe; default: LEARN2ADD_BUDGET, else quick."""
    folder: Silent[Path] = None
    """Where to put the run; default: a name under runs/."""
    held_out: FlagCreatePairsOff[bool] = False
    """Never train ten of the 55 sums: 0+3, 0+8, 1+6, 2+2, 2+5, 3+4, 4+1, 5+3, 6+2, 7+1."""

    def __call__(self) -> None:
        """Run the command."""
        from learn2add import recipes, runs

        config, name, budget = self.recipe()
        folder = self.folder or runs.runs_root() / recipes.place(self.part, name, budget)
        train(config, folder, f"budget {budget}: {recipes.MEANING[budget]}")

    def recipe(self) -> tuple[RunConfig, str, str]:
        """Return the configuration asked for, its folder's name (what differs), and the budget."""
        from learn2add import recipes

        budget = self.budget or recipes.budget()
        chosen = {"model": self.model} if self.model else {}
        if chosen and self.part != "part4":
            raise ValueError(f"--model is {self.model!r}; allowed for part4, not {self.part}")
        base = getattr(recipes, self.part)(budget=budget, **chosen)
        changes = self.stage | ({"steps": None} if self.stage.get("steps") == 0 else {})
        stage = replace(base.stages[-1], **changes)
        weights = replace(base.weights, **self.weights)
        changes = self.config | ({"held_out": HELD_OUT} if self.held_out else {})
        config = replace(base, stages=(*base.stages[:-1], stage), weights=weights, **changes)
        base = replace(base, decoder=config.decoder)
        name = f"{config.model}-{config.decoder}" if self.part == "part4" else config.decoder
        if self.part == "part2":
            name += f"-{stage.loss}-code{config.code_size}"
            base = recipes.part2(config.decoder, stage.loss, config.code_size, budget=budget)
        return config, name + differing(config, base), budget


def differing(config: RunConfig, base: RunConfig) -> str:
    """Return the end of a folder's name: each field in which a run differs from its recipe."""
    was, name = base.flat(), ""
    for field, value in config.flat().items():
        if value != was.get(field):
            text = value
            if isinstance(value, tuple):
                text = f"{len(value)}-cells" if field == "held_out" else "-".join(map(str, value))
            name += f"-{field.split('.')[-1]}-{text}"
    return name


def train(config: RunConfig, folder: Path, meaning: str) -> None:
    """Train, go on training, or load a run, and print what came of it."""
    from learn2add import runs

    if (folder / "result.json").exists():
        print(f"{folder} is complete already; loading it")
    else:
        print(f"{meaning}\nrun {folder}", flush=True)
    run = runs.load_or_train(config, folder)
    best = run.history[run.result["best_epoch"] - 1]
    print(f"\nbest epoch {best['epoch']} of {len(run.history)} (chosen on validation loss)")
    print(f"{'':10}{'train':>10}{'validation':>12}")
    for measure in ("loss", "rmse", "sum_rmse"):
        if f"{measure}/train" in best:
            row = best[f"{measure}/train"], best[f"{measure}/validation"]
            print(f"{measure:10}{row[0]:10.4f}{row[1]:12.4f}")
    print(f"trained in {run.result['seconds']:.0f} s ({run.result['device']})")
    print(f"folder {run.folder}\nnext: learn2add evaluate {run.folder}")


@dataclass(frozen=True)
class Evaluate:
    """Measure a trained run on the test digits.

    Its reconstruction error; how often the judge, an independent classifier, reads the right sum;
    the squared error beside its floors. Example: learn2add evaluate part3/quick
    """

    run: Annotated[Positional[str], arg(metavar="RUN")]
    """Its folder, or its name: part3/quick."""
    split: Literal["test", "validation"] = "test"
    """Which digits."""
    json: Silent[Path] = None
    """Also write the results into this file."""
    figures: Silent[Path] = None
    """Also draw the evidence into this folder, as PNG (a run that adds; some minutes)."""

    def __call__(self) -> None:
        """Run the command."""
        from matplotlib import pyplot

        from learn2add import runs
        from learn2add.checkpoints import write_atomically
        from learn2add.evidence import evaluate
        from learn2add.figures.evidence_sheet import evidence_figures, report
        from learn2add.figures.images import save_png
        from learn2add.hardware import default_device

        run = runs.load(self.run)
        if self.figures and not run.config.adds:
            raise ValueError(f"--figures: {run.folder} is an {run.config.model} and does not add")
        found = evaluate(run, self.split, default_device())
        if self.json:
            write_atomically(self.json, json.dumps(found, indent=2, allow_nan=False) + "\n")
        print(report(run, found))
        if self.figures:
            for name, figure in evidence_figures(run, found, device=default_device()):
                print(f"wrote {save_png(figure, self.figures / f'{name}.png')}")
                pyplot.close(figure)


@dataclass(frozen=True)
class Add:
    """Add a number to your own picture of a digit.

    Read the picture of one handwritten digit (any size, dark on light or light on dark), add a
    number, and draw the picture of the sum. Where the judge is less than 90 % sure which digit it
    is, the sum is drawn all the same, and the status is 3. Example:
        learn2add add seven.png 2 -o nine.png --show-input
    """

    image: Annotated[Positional[Path], arg(metavar="IMAGE")]
    """PNG or JPEG of one digit."""
    addend: Annotated[Positional[float], arg(metavar="ADDEND")]
    """Number to add: 2, or 1.5."""
    output: Annotated[Path, arg(aliases=["-o"], metavar="OUT.png")]
    """Write the sum here."""
    run: Annotated[str, arg(metavar="RUN")] = "part3/hand"
    """Folder or name of a run."""
    show_input: FlagCreatePairsOff[bool] = False
    """Input and sum side by side."""

    def __call__(self) -> None:
        """Run the command."""
        from learn2add.drawing import sums

        sure = sums.draw_sum(self.image, self.addend, self.output, self.run, self.show_input)
        if sure < sums.SURE:
            doubt = f"the judge is only {sure:.0%} sure of the input: one digit, well lit?"
            print(f"learn2add: warning: {doubt}", file=sys.stderr)
            sys.exit(3)


@dataclass(frozen=True)
class Morph:
    """Turn one digit into another, as a film. Example: learn2add morph 2 0 -o film.gif."""

    start: Annotated[Positional[str], arg(metavar="A")]
    """A digit, for the mean code of its class, or a picture of one."""
    end: Annotated[Positional[str], arg(metavar="B")]
    """Another."""
    output: Annotated[Path, arg(aliases=["-o"], metavar="OUT.gif")]
    """Write the film here."""
    run: Annotated[str, arg(metavar="RUN")] = "narrow/code10-variational"
    """Folder or name of a run."""

    def __call__(self) -> None:
        """Run the command."""
        from learn2add.studies.morph import morph

        morph(self.start, self.end, self.output, self.run)


@dataclass(frozen=True)
class HandIn:
    """Pack NAME_DL_List1.zip: your notebooks, a PDF report of your answers, what the checks said.

    Run and save the notebooks first. What is missing is named, and the status is 1.
    Example: learn2add handin "Ada Lovelace"
    """

    name: Positional[str]
    """Yours."""
    notebooks: Annotated[Positional[tuple[Path, ...]], arg(metavar="NOTEBOOK")] = ()
    """Default: all in the folder."""
    folder: Path = Path()
    """Where to write the zip, and to look for notebooks."""

    def __call__(self) -> None:
        """Run the command."""
        from learn2add.course.handin import hand_in

        if hand_in(self.name, self.notebooks, self.folder):
            sys.exit(1)


@dataclass(frozen=True)
class Page:
    """Make a web page to draw a digit on and see sums drawn: learn2add page -o page.html."""

    output: Annotated[Path, arg(aliases=["-o"], metavar="OUT.html")]
    """Write the page here."""
    runs: Annotated[Positional[tuple[str, ...]], arg(metavar="RUN")] = ()
    """Folders or names of runs that add; default: three that came with the project."""

    def __call__(self) -> None:
        """Run the command."""
        from learn2add.checkpoints import write_atomically
        from learn2add.page import build

        write_atomically(self.output, build.build(self.runs or tuple(build.RUNS)))
        print(f"wrote {self.output}; open it in a browser")


@dataclass(frozen=True)
class Verify:
    """Measure runs that came with the project again: are their figures the same on this machine?

    The status is 1 if one differs. Example: learn2add verify part3/reference
    """

    runs: Annotated[Positional[tuple[str, ...]], arg(metavar="RUN")] = ()
    """Their names; default: all of them, which takes minutes."""

    def __call__(self) -> None:
        """Run the command."""
        from learn2add.course.verify import verify

        if verify(self.runs):
            sys.exit(1)


COMMANDS = {
    c.__name__.lower(): c for c in (Data, Train, Evaluate, Verify, Add, Morph, HandIn, Page)
}

if __name__ == "__main__":
    sys.exit(main())
