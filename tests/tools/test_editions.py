"""The student edition and the key, made of the notebooks."""

import ast
import json
import os
import re
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from learn2add.course.check import CHECKS
from tools import editions

WITH_TASKS = [file for file in editions.COURSE if file.name[:2] in ("02", "03", "04")]
Notebook = dict[str, Any]
by_name = pytest.mark.parametrize("file", WITH_TASKS, ids=lambda file: file.stem)


def sources(notebook: dict[str, Any], kind: str) -> list[str]:
    return ["".join(c["source"]) for c in notebook["cells"] if c["cell_type"] == kind]


def solutions(notebook: dict[str, Any]) -> list[str]:
    return ["".join(c["source"]) for c in notebook["cells"] if editions.is_solution(c)]


def compiled(code: str) -> ast.Module:
    return ast.parse(re.sub(r"^(\s*)%.*$", r"\1pass", code, flags=re.M))


@by_name
def test_nothing_of_a_solution_an_answer_or_an_output_is_in_the_student_edition(file: Path) -> None:
    source = json.loads(file.read_text())
    made = editions.student(source)
    text = "\n".join(sources(made, "code") + sources(made, "markdown"))
    hidden = [line for code in solutions(source) for line in code.splitlines()]
    for function in (f for code in solutions(source) for f in editions.functions(ast.parse(code))):
        assert ast.unparse(function.body[-1]) not in text
    stubs = "\n".join(map(editions.stub, solutions(source))).splitlines()
    hidden = {line.strip() for line in hidden} - {line.strip() for line in stubs}
    hidden = {line for line in hidden if len(line) > 12}  # a bracket gives nothing away
    assert len(hidden) > 5
    for line in hidden:
        assert line not in [part.strip() for part in text.splitlines()], line
    told = "\n\n".join(sources(source, "markdown")).split("### Answer ")[1:]
    for answer in told:
        assert answer.split("\n\n")[1] not in text
    assert text.count(editions.BLANK) == text.count("### Your answer to") == len(told) >= 3
    assert not [cell for cell in made["cells"] if cell.get("outputs")]
    for code in sources(made, "code"):
        compiled(code)


@by_name
def test_every_stub_is_checked_and_is_not_yet_there(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = json.loads(file.read_text())
    made = editions.student(source)
    names: dict[str, Any] = {"__name__": "__main__"}
    imports = "\n".join(
        ast.unparse(node)
        for code in sources(made, "code")
        for node in compiled(code).body
        if isinstance(node, ast.Import | ast.ImportFrom)
    )
    exec(imports + "\ndone = {}", names)
    stubs = [code for code in sources(made, "code") if editions.STUB in code]
    checks = [code for code in sources(made, "code") if code.startswith("done[")]
    assert stubs == solutions(made) and len(stubs) == len(solutions(source)) and len(checks) >= 2
    for code in stubs + checks:
        exec(code, names)
    said = capsys.readouterr().out.splitlines()
    assert said == [f"{item}: not yet" for item in names["done"]] and len(said) == len(checks)


def checked_items(notebooks: list[Notebook], form: str) -> list[str]:
    return [
        item
        for notebook in notebooks
        for code in sources(notebook, "code")
        for item in re.findall(form, code, re.M)
    ]


def test_every_item_that_can_be_checked_is_checked_once_in_each_edition() -> None:
    source = [json.loads(file.read_text()) for file in WITH_TASKS]
    made = [editions.student(notebook) for notebook in source]
    assert checked_items(source, r'^check\("(.*?)", .*\);$') == list(CHECKS)
    assert checked_items(made, r'^done\["(.*?)"\] = check') == list(CHECKS)


@by_name
def test_the_notebooks_own_solutions_were_found_right(file: Path) -> None:
    for cell in json.loads(file.read_text())["cells"]:
        if found := editions.CHECK.fullmatch("".join(cell["source"])):
            assert "".join(cell["outputs"][0]["text"]).startswith(f"{found[1]}: right"), file


@by_name
def test_the_key_is_the_notebook_with_delimiters_and_solutions(file: Path) -> None:
    source = json.loads(file.read_text())
    made = editions.key(source, "What it **means**.\n\n```python\nprint(1)\n```\n\nMore.\n")
    marks = (editions.BEGIN, editions.END)
    own, behind = made["cells"][: len(source["cells"])], made["cells"][len(source["cells"]) :]
    for before, after in zip(source["cells"], own, strict=True):
        lines = "".join(after["source"]).splitlines()
        kept = [line for line in lines if line.strip() not in marks]
        assert "\n".join(kept) == "".join(before["source"])
        assert after.get("outputs") == before.get("outputs")
        opened = [line.strip() for line in lines if line.strip() in marks]
        assert opened == list(marks) * (len(opened) // 2)
        assert bool(opened) == editions.is_solution(before)
    assert [c["cell_type"] for c in behind] == ["markdown", "code", "markdown"]
    assert sources(made, "code")[-1] == "print(1)" and sources(made, "markdown")[-1] == "More."


def test_a_seed_of_ones_own_changes_what_is_drawn_and_nothing_else() -> None:
    source = json.loads(WITH_TASKS[0].read_text())
    for make in (editions.student, editions.key):
        plain, own = make(source), make(source, seed=17)
        changed = 0
        for before, after in zip(plain["cells"], own["cells"], strict=True):
            one, other = ("".join(cell["source"]) for cell in (before, after))
            if one != other:
                changed += 1
                assert re.sub(r"\(SEED\)|SEED = 17", "", other).replace("\n", "") == re.sub(
                    r"(?<=seed)\(0\)|(?<=rng)\(0\)|SEED = 0", "", one
                ).replace("\n", "")
        assert changed >= 2 and all("outputs" not in c or not c["outputs"] for c in own["cells"])


def test_the_variant_subtracts_in_the_samples_alone() -> None:
    source = json.loads(WITH_TASKS[1].read_text())
    plain, own = (
        sources(editions.student(source, operation=operation), "code")
        for operation in ("add", "subtract")
    )
    changed = [(a, b) for a, b in zip(plain, own, strict=True) if a != b]
    assert changed == [
        (
            'done["III.1"] = check("III.1", my_transform)',
            'done["III.1"] = check("III.1", my_transform, "subtract")',
        )
    ]
    assert editions.SUBTRACTION in sources(
        editions.student(source, operation="subtract"), "markdown"
    )


@pytest.mark.slow
@by_name
def test_the_blank_edition_runs_from_top_to_bottom(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LEARN2ADD_BUDGET", "smoke")
    monkeypatch.setenv("LEARN2ADD_RUNS", str(tmp_path / "runs"))
    monkeypatch.delenv("MPLBACKEND", raising=False)
    if folder := os.environ.get("LEARN2ADD_DATA"):
        monkeypatch.setenv("LEARN2ADD_DATA", str(Path(folder).resolve()))
    made = editions.student(json.loads(file.read_text()))
    for number, cell in enumerate(made["cells"]):
        cell["id"] = f"cell-{number:03d}"
    notebook = nbformat.reads(json.dumps(made), as_version=4)
    NotebookClient(notebook, timeout=600, kernel_name="python3").execute(cwd=str(tmp_path))
    said = "".join(o.get("text", "") for c in notebook.cells for o in c.get("outputs", []))
    items = re.findall(r"^(I.*?): not yet$", said, re.M)
    code = "\n".join(sources(made, "code"))
    assert items == [item for item in CHECKS if f'done["{item}"] =' in code] != []
