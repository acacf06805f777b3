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

from tools import editions

WITH_TASKS = [file for file in editions.COURSE if file.name[:2] in ("02", "03", "04")]
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
    made = editions.student(json.loads(file.read_text()))
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
    assert len(stubs) == len(solutions(json.loads(file.read_text()))) and len(checks) >= 2
    for code in stubs + checks:
        exec(code, names)
    said = capsys.readouterr().out.splitlines()
    assert said == [f"{item}: not yet" for item in names["done"]] and len(said) == len(checks)


def test_every_item_that_a_notebook_solves_is_checked() -> None:
    found = [
        item
        for file in WITH_TASKS
        for code in sources(editions.student(json.loads(file.read_text())), "code")
        for item in re.findall(r'^done\["(.*?)"\]', code)
    ]
    assert found == list(editions.CHECKED)


@by_name
def test_the_key_is_the_notebook_with_delimiters(file: Path) -> None:
    source = json.loads(file.read_text())
    made = editions.key(source)
    marks = (editions.BEGIN, editions.END)
    for before, after in zip(source["cells"], made["cells"], strict=True):
        lines = "".join(after["source"]).splitlines()
        kept = [line for line in lines if line.strip() not in marks]
        assert "\n".join(kept) == "".join(before["source"])
        opened = [line.strip() for line in lines if line.strip() in marks]
        assert opened == list(marks) * (len(opened) // 2)
        assert bool(opened) == editions.is_solution(before)


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
    assert items == [item for item in editions.CHECKED if f'done["{item}"]' in code] != []
