"""The house: who imports whom, how large it is, how far a training step is from its call."""

import ast
import inspect
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from pathlib import Path
from types import FrameType

import pytest
import torch

import learn2add
from learn2add import network, recipes
from learn2add.config import RunConfig
from learn2add.data import Digits
from learn2add.train import train

PACKAGE = Path(learn2add.__file__).parent
ORDER = (
    "checks",
    "config",
    "data",
    "pairs",
    "network",
    "losses",
    "optim",
    "hardware",
    "checkpoints",
    "tensorboard",
    "judge",
    "measures",
    "steps",
    "train",
    "runs",
    "recipes",
    "evidence",
    "figures",
    "__main__",
)
"""The core; each module imports those before it. ``config`` alone looks ahead, in two methods."""
BEYOND_FIVE = ("studies.counting", "studies.hand")
"""What answers none of the five documents, but goes on from them."""
DRAWN = ("drawing", "page")
"""What takes in what people draw themselves."""
BESIDE = {
    "narrow": {"corrupted", "mirror"},
    "sweeps": {"narrow"},
    "hand_training": {"counting", "hand"},
    "morph": {"latent", "figures"},
}
"""Which studies a study may import; the others stand alone."""


def name_of(file: Path) -> str:
    """The dotted name of a module, without the package's."""
    parts = file.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(file): file for file in sorted(PACKAGE.rglob("*.py"))}
BEYOND = ("studies", "course", "drawing", "page")
DOORS = {
    "": ["course.check"],
    "__main__": [
        "course.handin",
        "course.verify",
        "drawing.sums",
        "page.build",
        "studies.morph",
    ],
}
"""What the package and its command line hand on to when they are asked, and not before."""
CORE = [name for name in MODULES if name.partition(".")[0] not in BEYOND]


def imports(name: str) -> Iterator[tuple[str, str, bool]]:
    """Each import of a module: where from, which name, and whether it is met on loading."""
    tree = ast.parse(MODULES[name].read_text())
    met = set(tree.body)  # others stand in functions, or in `if TYPE_CHECKING`
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "", node in met) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name} has a relative import"
            yield from ((node.module, alias.name, node in met) for alias in node.names)


def own_imports(name: str) -> Iterator[tuple[str, str, bool]]:
    """Of these the package's own: which of its modules, which name in it, whether on loading."""
    for module, what, met in imports(name):
        if module.partition(".")[0] == "learn2add":
            path = [*module.split(".")[1:], *filter(None, [what])]
            longest = max(n for n in range(len(path) + 1) if ".".join(path[:n]) in MODULES)
            yield ".".join(path[:longest]), ".".join(path[longest:]), met


# Direction


def test_the_core_is_made_of_these_modules() -> None:
    assert {name.partition(".")[0] for name in CORE} == {"", *ORDER}


def test_nothing_knows_the_tools_and_the_core_no_study_and_no_course() -> None:
    for name in MODULES:
        found = [module for module, _, _ in imports(name) if module.partition(".")[0] == "tools"]
        assert found == [], name
    for name in CORE:
        found = [(module, met) for module, _, met in own_imports(name) if module.startswith(BEYOND)]
        assert sorted(found) == [(module, False) for module in DOORS.get(name, ())], name


def test_the_core_imports_in_one_order() -> None:
    ahead = []
    for name in filter(None, CORE):
        place = ORDER.index(name.partition(".")[0])
        for module, _, met in own_imports(name):
            if module.startswith(BEYOND):
                continue
            later = module and ORDER.index(module.partition(".")[0]) > place
            if later and (name != "config" or met):
                ahead.append(f"{name} imports {module}")
    assert ahead == []


def test_studies_stand_alone() -> None:
    for name in MODULES:
        if name.startswith("studies."):
            own = {module for module, _, _ in own_imports(name) if module.startswith("studies.")}
            others = {module.partition(".")[2] for module in own}
            assert others <= BESIDE.get(name.partition(".")[2], set()), name


def test_what_is_private_stays_at_home() -> None:
    for name in MODULES:
        assert [what for _, what, _ in own_imports(name) if what.startswith("_")] == [], name


@pytest.mark.parametrize(
    ("module", "left_out"), [("config", "torch"), ("recipes", "learn2add.studies")]
)
def test_a_module_does_not_load(module: str, left_out: str) -> None:
    code = f"import sys, learn2add.{module}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = done.stdout.split()
    assert f"learn2add.{module}" in loaded
    assert not [name for name in loaded if f"{name}.".startswith(f"{left_out}.")]


# Size


def lines_of(names: list[str]) -> int:
    return sum(len(MODULES[name].read_text().splitlines()) for name in names)


def test_the_house_is_small() -> None:
    assert lines_of(["network"]) <= 350
    assert lines_of(CORE) <= 5800
    five = [name for name in MODULES if not name.startswith(("course", *DRAWN, *BEYOND_FIVE))]
    assert lines_of(five) <= 8300
    assert lines_of([name for name in MODULES if name.startswith(BEYOND_FIVE)]) <= 600
    assert lines_of([name for name in MODULES if name.startswith(DRAWN)]) <= 580
    assert len(list(PACKAGE.glob("*.py"))) <= 20


def code_lines(function: Callable) -> int:
    """Lines of a function's body; blanks, comments, docstring and closing brackets are none."""
    text = textwrap.dedent(inspect.getsource(function))
    (tree,) = ast.parse(text).body
    body = tree.body[1:] if ast.get_docstring(tree) is not None else tree.body
    code = text.splitlines()[body[0].lineno - 1 : body[-1].end_lineno]
    return sum(bool(line.partition("#")[0].strip("()[]{}, ")) for line in code)


SHOWN = (
    network.Encoder,
    network.DecoderConvTranspose,
    network.DecoderConvUpsample,
    network.DecoderInterpolation,
    network.Adder,
)


@pytest.mark.parametrize("kind", SHOWN, ids=lambda kind: kind.__name__)
def test_a_class_that_notebooks_show_is_short(kind: type) -> None:
    own = [vars(kind)[name] for name in ("__init__", "forward", "draw") if name in vars(kind)]
    assert 0 < sum(map(code_lines, own)) <= 15


def test_a_configuration_has_few_fields() -> None:
    assert len(fields(RunConfig)) <= 18


# Distance


class Distance:
    """What of the package stands between ``train`` and a step of Adam, and between two steps."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.stack: list[str] = []
        self.called: set[str] = set()
        self.steps, distance, step = 0, self, torch.optim.Adam.step

        def counted(optimiser: torch.optim.Adam, *arguments: object) -> object:
            sys.setprofile(None)
            distance.steps += 1
            found = step(optimiser, *arguments)
            if distance.steps == 2:  # a steady one, in the middle of an epoch
                distance.stack = distance.frames(sys._getframe(1))
                sys.setprofile(distance.seen)
            return found

        monkeypatch.setattr(torch.optim.Adam, "step", counted)

    def frames(self, frame: FrameType | None) -> list[str]:
        """The package's functions on the stack, from ``train`` to the optimiser."""
        found = []
        while frame:
            if name := self.name(frame):
                found.insert(0, name)
            frame = frame.f_back
        return found

    def seen(self, frame: FrameType, event: str, _: object) -> None:
        if event == "call" and (name := self.name(frame)):
            self.called.add(name)

    def name(self, frame: FrameType) -> str | None:
        """Where a function of the package stands; comprehensions are part of theirs."""
        code = frame.f_code
        inside = code.co_filename.startswith(str(PACKAGE)) and code.co_name[0] != "<"
        return f"{Path(code.co_filename).stem}.{code.co_qualname}" if inside else None


def last_stage(config: RunConfig, steps: int) -> RunConfig:
    stage = replace(config.stages[-1], epochs=1, steps=steps)
    return replace(config, stages=(stage,), precision="float32")


@pytest.mark.parametrize(
    ("config", "most"),
    [
        (last_stage(recipes.part2(budget="smoke"), 4), 25),
        (last_stage(recipes.part3(), 4), 40),
        (last_stage(recipes.part4(), 4), 40),
    ],
    ids=["reconstruction", "addition", "generative"],
)
def test_a_training_step_is_near(
    config: RunConfig,
    most: int,
    training_digits: tuple[Digits, Digits],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    distance = Distance(monkeypatch)
    train(config, *training_digits, tmp_path, progress=False)
    sys.setprofile(None)
    assert distance.stack[0] == "train.train" and len(distance.stack) <= 3, distance.stack
    assert 5 < len(distance.called) <= most, sorted(distance.called)
