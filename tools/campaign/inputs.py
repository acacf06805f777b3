"""Bad values for every field of a configuration, every option, and what the public functions take.

Each has to be refused by one error of a usual kind that names what it is about.
"""

import contextlib
import io
import math
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from learn2add import recipes, runs
from learn2add.__main__ import main as learn2add
from learn2add.config import LossWeights, RunConfig, Stage
from learn2add.data import load_digits
from learn2add.drawing.photo import read_digit
from learn2add.judge import load_judge
from learn2add.measures import add
from learn2add.network import Adder, DecoderConvTranspose, Encoder
from learn2add.pairs import transform_data_add
from learn2add.studies.counting import CountingAdder

USUAL = (ValueError, TypeError, OSError, RuntimeError)  # the package's own errors among them
HUGE = 10**30
BAD: tuple[Any, ...] = ("nonsense", "", b"1", math.nan, math.inf, -math.inf, -7, HUGE, 1 + 2j)
BAD += ([], {}, object(), ("a",), {"a": 1}, [[1]], np.array([1, 2]))
WORDS = ("nonsense", "-7", "nan", "1e99", "")
STAGE = Stage("autoencoder", 1)
GIVEN = {RunConfig: {"stages": (STAGE,)}, Stage: {"task": "autoencoder", "epochs": 1}}
Case = tuple[str, str, Callable[[], Any]]
"""A group, what the error has to name, and what is tried."""


def cases(folder: Path) -> Iterator[Case]:
    """Yield everything that is tried."""
    for kind in (RunConfig, Stage, LossWeights):
        for field in fields(kind):
            for bad in BAD:
                if field.name == "held_out" and not isinstance(bad, np.ndarray) and not bad:
                    continue  # no cell
                if field.name == "learning_rate" and bad is HUGE:
                    continue
                given = GIVEN.get(kind, {}) | {field.name: bad}
                yield kind.__name__, field.name, lambda kind=kind, given=given: built(kind(**given))
    yield from options(folder)
    yield from functions(folder)


def built(config: RunConfig | Stage | LossWeights) -> None:
    """Build the model of a configuration, which checks what it is made of."""
    if isinstance(config, RunConfig):
        config.build()


def options(folder: Path) -> Iterator[Case]:
    """Yield bad options of the command line; ``held_out`` and the like have none of their own."""
    own = {"stages", "model", "weights", "held_out", "embed_addend", "task"}
    for kind in (RunConfig, Stage, LossWeights):
        for field in fields(kind):
            if field.name in own:
                continue
            option = "--" + field.name.replace("_", "-")
            for word in WORDS:
                line = ["train", "part3", "--folder", str(folder / "run"), f"{option}={word}"]
                yield "command line", field.name, lambda line=line: command(line)


def command(line: list[str]) -> None:
    """Run a command; a ValueError with what it wrote where it ended with status 2."""
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
        status = learn2add(line)
    if status == 2 and said.getvalue().count("\n") == 1:
        raise ValueError(said.getvalue().strip().replace("-", "_"))
    raise AssertionError(f"status {status}, {said.getvalue()!r}")


def functions(folder: Path) -> Iterator[Case]:
    """Yield public functions with one argument that is wrong."""
    model, judge = runs.load("part3/reference").model("cpu"), load_judge()
    x, image = torch.rand(2, 1, 28, 28), torch.zeros(2, 28, 28, dtype=torch.uint8)
    for bad in BAD:
        yield "budget", "budget", lambda bad=bad: recipes.part3(budget=bad)
        yield "part4", "model", lambda bad=bad: recipes.part4(bad)
        yield "load", "run", lambda bad=bad: runs.load(str(bad))
        yield "load_digits", "split", lambda bad=bad: load_digits("MNIST", bad)
        yield "load_digits", "dataset", lambda bad=bad: load_digits(bad)
        yield "Encoder", "code_size", lambda bad=bad: Encoder(bad)
        yield "Encoder", "image_size", lambda bad=bad: Encoder(7, bad)
        yield "Decoder", "code_size", lambda bad=bad: DecoderConvTranspose(bad)
        yield "Adder", "code_size", lambda bad=bad: Adder(bad)
        if bad is not HUGE and not isinstance(bad, np.ndarray) and bad != -7:
            yield "add", "addend", lambda bad=bad: add(model, image, bad)
        if not isinstance(bad, np.ndarray):
            yield "read_digit", "path", lambda bad=bad: read_digit(folder / repr(bad)[:40])
    for shape in ((28, 28), (2, 28, 28), (2, 3, 28, 28), (2, 1, 28), (0,), (2, 1, 27, 27)):
        wrong = torch.rand(*shape)
        yield "encoder", "x", lambda wrong=wrong: model.encoder(wrong)
        if wrong.shape != (2, 1, 27, 27):  # which it resizes
            yield "judge", "images", lambda wrong=wrong: judge.read(wrong)
        yield "decoder", "z", lambda wrong=wrong: model.decoder(wrong)
        yield "adder", "addend", lambda w=wrong: model.adder(torch.rand(2, 7), w.flatten()[:1])
        counting = CountingAdder()
        yield "counting", "z", lambda wrong=wrong, c=counting: c(wrong, torch.ones(len(wrong)))
    labels = torch.tensor([1, 2])
    for bad in (x, image[:1], [], None, "x"):
        yield "handout", "", lambda bad=bad: transform_data_add(bad, labels)
    for bad in (labels.float(), labels - 5, labels + 9, labels[:1], None, "x"):
        yield "handout", "", lambda bad=bad: transform_data_add(image, bad)


def inputs(count: int, folder: Path) -> dict[str, Counter]:
    """Try the first ``count``, spread over all; count what was refused, and how."""
    tried = list(cases(folder))
    found: dict[str, Counter] = {}
    every = max(1, len(tried) // count)
    for group, name, attempt in tqdm(tried[::every][:count], unit=" inputs"):
        counted = found.setdefault(group, Counter())
        try:
            attempt()
            said = "accepted"
        except USUAL as error:
            clear = name in str(error) and "\n" not in str(error)
            said = "" if clear else f"unclear: {error}"
        except Exception as error:
            said = repr(error)
        counted["wrong" if said else "refused"] += 1
        if said:
            tqdm.write(f"{group}, {name}: {said}"[:200])
    return found
