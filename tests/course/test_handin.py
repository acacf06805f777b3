"""The hand-in: what is packed, what is missing, and a report that can be read back."""

import base64
import io
import json
import re
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pypdf
import pytest
from PIL import Image

from learn2add.__main__ import main
from learn2add.course import handin
from learn2add.course.check import CHECKS
from learn2add.course.handin import ITEMS, collect, hand_in, read_notebook
from tools import editions

ROOT = Path(__file__).parents[2]
Notebook = dict[str, Any]
MARGIN = 56  # points; 2 cm


def filled(file: Path) -> Notebook:
    """A student's notebook, made of the student edition and the key: every place is filled."""
    source = json.loads(file.read_text())
    made = editions.student(source)
    texts = ("".join(c["source"]) for c in source["cells"] if c["cell_type"] == "markdown")
    answers = dict(re.findall(r"### Answer (\S+)\n(.*?)(?=\n##|\Z)", "\n##\n".join(texts), re.S))
    code = iter([cell for cell in source["cells"] if cell["cell_type"] == "code"])
    count = 0
    for cell in made["cells"]:
        text = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            number = re.search(r"### Your answer to (\S+)", text)
            if number:
                text = text.replace(editions.BLANK, answers[number[1]].strip())
                cell["source"] = text
            continue
        count += 1
        cell["execution_count"] = count
        if own := next(code, None):
            if editions.is_solution(cell):
                cell["source"] = own["source"]
            cell["outputs"] = own["outputs"]
    return made


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A student's finished notebooks."""
    place = tmp_path_factory.mktemp("student")
    for file in editions.COURSE:
        (place / file.name).write_text(json.dumps(filled(file)))
    return place


@pytest.fixture(scope="module")
def finished(folder: Path) -> zipfile.ZipFile:
    began = time.monotonic()
    assert hand_in("Ada Lovelace", folder=folder) == []
    assert time.monotonic() - began < 120
    return zipfile.ZipFile(folder / "Ada_Lovelace_DL_List1.zip")


def pages_of(archive: zipfile.ZipFile) -> list[pypdf.PageObject]:
    (name,) = (name for name in archive.namelist() if name.endswith(".pdf"))
    return list(pypdf.PdfReader(io.BytesIO(archive.read(name))).pages)


def words_of(archive: zipfile.ZipFile) -> str:
    return " ".join(" ".join(page.extract_text() for page in pages_of(archive)).split())


def test_a_finished_hand_in_has_all_that_is_asked_for(
    finished: zipfile.ZipFile, folder: Path
) -> None:
    assert finished.testzip() is None
    names = {Path(name).name for name in finished.namelist()}
    assert names == {"report.pdf", "checks.txt"} | {file.name for file in editions.COURSE}
    for file in editions.COURSE:
        assert finished.read(f"Ada_Lovelace/{file.name}") == (folder / file.name).read_bytes()
    checks = finished.read("Ada_Lovelace/checks.txt").decode()
    for item in ITEMS:
        (line,) = (line for line in checks.splitlines() if line.startswith(f"{item} "))
        assert int(line.split()[1]) > 20 and line.endswith("right" if item in CHECKS else "-")
    assert "missing:\nnothing" in checks and "torch" in checks


def test_the_report_has_every_item_with_its_task_answer_code_and_figures(
    finished: zipfile.ZipFile, folder: Path
) -> None:
    text = words_of(finished)
    found = [text.index(f"Task {item} ") for item in ITEMS]
    assert found == sorted(found) and "Ada Lovelace" in text
    items = collect(read_notebook(folder / file.name) for file in editions.COURSE)
    for item in items.values():
        bold = re.findall(r"\*\*([^*$`]+)\*\*", item.answer)[0]
        assert " ".join(bold.split()) in text
    for line in (
        "class MyEncoder(nn.Module):",
        "def my_loss(x, y, x_hat, y_hat, z_sum, z_target):",
    ):
        assert line in text
    assert sum(len(page.images) for page in pages_of(finished)) >= 15


def test_nothing_is_cut_at_the_paper_s_edge(finished: zipfile.ZipFile, folder: Path) -> None:
    text = words_of(finished).replace(" ", "")
    items = collect(read_notebook(folder / file.name) for file in editions.COURSE)
    lines = [line for item in items.values() for code in item.code for line in code.splitlines()]
    for item in items.values():
        lines += [
            row for shown in item.shown if isinstance(shown, str) for row in shown.splitlines()
        ]
    assert max(map(len, lines)) > 90
    for line in lines:
        assert re.sub(r"\s", "", line) in text, line
    for page in pages_of(finished):
        ends = [0.0]

        def note(
            piece: str, _: Any, place: Any, font: Any, size: float, ends: list[float] = ends
        ) -> None:
            wide = 0.602 * size if "Mono" in str((font or {}).get("/BaseFont")) else 0.0
            ends += [place[4] + wide * len(line.rstrip()) for line in piece.splitlines()]

        page.extract_text(visitor_text=note)
        assert max(ends) <= float(page.mediabox.right) - MARGIN


def test_what_is_blank_is_named_and_the_zip_is_written_all_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = editions.student(json.loads(editions.COURSE[1].read_text()))
    (tmp_path / "02.ipynb").write_text(json.dumps(made))
    with pytest.raises(SystemExit) as leaving:
        main(["handin", "Zoë O'Neill-Smith", "--folder", str(tmp_path)])
    assert leaving.value.code == 1
    said = capsys.readouterr().out.splitlines()
    assert [line for line in said if line.endswith("no answer")] == [
        f"{i}: no answer" for i in ITEMS
    ]
    for item in CHECKS:
        assert f"{item}: its check says nothing, it was not asked" in said
    assert re.match(r"02.ipynb: \d+ cells were not run", said[0])
    archive = zipfile.ZipFile(tmp_path / "Zoë_O'Neill-Smith_DL_List1.zip")
    assert len(archive.namelist()) == 3 and "Task IV.3" in words_of(archive)


def test_a_report_that_fails_costs_nothing_else(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> bytes:
        raise RuntimeError("no fonts")

    monkeypatch.setattr(handin, "pdf", broken)
    files = sorted(folder.glob("*.ipynb"))
    assert hand_in("Ada", files, tmp_path) == ["report.pdf: RuntimeError: no fonts"]
    names = zipfile.ZipFile(tmp_path / "Ada_DL_List1.zip").namelist()
    assert (
        len(names) == len(files) + 1
        and "report.pdf: RuntimeError"
        in zipfile.ZipFile(tmp_path / "Ada_DL_List1.zip").read("Ada/checks.txt").decode()
    )


def test_two_notebooks_of_one_name_are_refused(folder: Path, tmp_path: Path) -> None:
    file = next(folder.glob("*.ipynb"))
    with pytest.raises(ValueError, match="two files of one name"):
        hand_in("Ada", [file, file], tmp_path)


def cell(text: str, *outputs: Any, count: int | None = 1, tags: tuple[str, ...] = ()) -> Notebook:
    return {
        "cell_type": "code", "source": text, "execution_count": count,
        "metadata": {"tags": list(tags)}, "outputs": list(outputs),
    }  # fmt: skip


def text(source: str) -> Notebook:
    return {"cell_type": "markdown", "source": source, "metadata": {}}


def test_a_notebook_of_ones_own_needs_a_heading_for_each_item(tmp_path: Path) -> None:
    box = io.BytesIO()
    Image.fromarray(np.zeros((20, 30), np.uint8)).save(box, "PNG")
    figure = {"data": {"image/png": base64.b64encode(box.getvalue()).decode()}}
    printed = {"name": "stdout", "text": "III.1: not right: no pairs\nIII.1: right\nrow 1\n"}
    cells = [
        text("# My hand-in"),
        text("## II.4 Which decoder?\n\nThe *second*, by 0.01.\n\n## III.1\n> quoted task\n\nNo."),
        cell("def f(): pass", printed, figure, tags=("solution",)),
        text("## And now\n\nSomething else, about II.40 and VIII.2."),
        cell("g()", {"name": "stdout", "text": "III.2: right, the addend first"}),
    ]
    (tmp_path / "own.ipynb").write_text(json.dumps({"cells": cells}))
    items = collect([read_notebook(tmp_path / "own.ipynb")])
    assert items["II.4"].answer == "The *second*, by 0.01." and not items["II.4"].shown
    third = items["III.1"]
    assert (third.answer, third.code, third.said) == ("No.", ["def f(): pass"], "right")
    assert third.shown[0] == "row 1" and third.shown[1][0] == box.getvalue()
    assert items["III.2"].said == "right, the addend first"
    assert {name for name, item in items.items() if item.answer} == {"II.4", "III.1"}


@pytest.mark.parametrize(
    ("cells", "hint"),
    [
        ([cell("a"), cell("b", count=None)], "1 cells were not run"),
        ([cell("a", count=2), cell("b", count=1)], "out of order"),
        ([cell("a", {"output_type": "error", "ename": "NameError"})], "stops with NameError: 'a'"),
        ([cell("a"), cell("hand_in(NAME)", count=None), cell("")], ""),
    ],
)
def test_a_notebook_that_was_not_run_to_its_end_is_named(cells: list[Notebook], hint: str) -> None:
    found = handin.not_executed({"cells": cells})
    assert (hint in found[0]) if hint else not found


NASTY = r"""**Bold *and italic* `raw "quoted" \\ #x`** $\sigma^2 = \frac{1}{n}$ $\undefined{x}$
é ż 数 😀
#let x = 1 @ref

- one ~~gone~~
  1. nested [link](https://example.org/a?b=1) ![picture](missing.png)

| a | b |
|---|---|
| 1 | *2* |

```python
x = "a line that does not end"
```

> quote

$$
\int x
$$

<details><summary>more</summary>

#pagebreak() \u0000 \x1b[31m

---

</details>
"""


def test_whatever_a_student_writes_is_typeset(tmp_path: Path) -> None:
    parts = [text(f"## {item}\n\n{NASTY}{item}\x1b[0m") for item in ITEMS]
    parts.append(cell("x", {"name": "stdout", "text": "#panic() " + 300 * "y" + "\n\tz"}))
    (tmp_path / "own.ipynb").write_text(json.dumps({"cells": parts}))
    missing = hand_in("Nobody", folder=tmp_path)
    assert all("its check says nothing" in line for line in missing), missing
    said = words_of(zipfile.ZipFile(tmp_path / "Nobody_DL_List1.zip"))
    assert said.count("Bold and italic") == len(ITEMS) and "#pagebreak()" in said
    assert said.replace(" ", "").count("y" * 300) == 1 and "#panic()" in said


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("...", "{}", "name is '...'; allowed are letters"),
        ("Ada", "no JSON", "which is no notebook"),
        ("Ada", '{"cells": [{"source": []}]}', "which is no notebook"),
        ("Ada", '{"cells": 3}', "which is no notebook"),
        ("Ada", None, "notebooks is empty"),
    ],
)
def test_what_cannot_be_handed_in_is_one_clear_error_and_leaves_nothing(
    name: str, content: str | None, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if content is not None:
        (tmp_path / "own.ipynb").write_text(content)
    assert main(["handin", name, "--folder", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1
    assert not list(tmp_path.glob("*.zip"))
