"""The solutions of the exercises: there is one for each, and its code runs."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tools import editions

by_name = pytest.mark.parametrize("file", editions.NOTEBOOKS, ids=lambda file: file.stem)
EXERCISE = re.compile(r"^\*{0,2}(\d+)\. \*{0,2}([^*]+?)\.?\*\*\.? \((.*?), (.*?), (.*?)\)", re.M)


def exercises(file: Path) -> list[tuple[str, ...]]:
    """Number, title, difficulty, importance and time of each exercise."""
    cells = json.loads(file.read_text())["cells"]
    (text,) = ("".join(c["source"]) for c in cells if "## Exercises" in "".join(c["source"]))
    found = EXERCISE.findall(text.partition("## Exercises")[2])
    assert len(found) == len(re.findall(r"^\*{0,2}\d+\. ", text, re.M)) >= 3
    return found


@by_name
def test_each_exercise_says_how_hard_how_important_and_how_long_it_is(file: Path) -> None:
    for _, _, difficulty, importance, time in exercises(file):
        assert difficulty in ("easy", "medium", "hard")
        assert importance in ("core", "useful", "extra")
        assert re.fullmatch(r"[1-9]\d minutes|an afternoon", time)


@by_name
def test_each_exercise_has_a_solution_that_can_be_read(file: Path) -> None:
    text = editions.solutions_of(file)
    asked = [(number, title.rstrip("?.")) for number, title, *_ in exercises(file)]
    parts = re.split(r"^### ", text, flags=re.M)[1:]
    solved = [part.partition("\n")[0].rstrip("?.").split(". ", 1) for part in parts]
    assert [tuple(one) for one in solved] == asked
    for part in parts:
        prose = editions.FENCED.sub("", part).partition("\n")[2]
        assert 10 <= len(prose.split()) <= 200, part.partition("\n")[0]
        assert all(len(code.splitlines()) <= 45 for code in editions.FENCED.findall(part))


@pytest.mark.slow
@by_name
def test_the_code_of_the_solutions_runs(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_a_process: Callable
) -> None:
    monkeypatch.setenv("LEARN2ADD_BUDGET", "smoke")
    monkeypatch.setenv("LEARN2ADD_RUNS", str(tmp_path))
    monkeypatch.setenv("MPLBACKEND", "agg")
    code = "\n".join(editions.FENCED.findall(editions.solutions_of(file)))
    status, said = in_a_process(lambda: exec(code, {"__name__": "__main__"}))
    assert status == 0, said[-2000:]
    assert len(said.splitlines()) >= len(exercises(file)) - 1
