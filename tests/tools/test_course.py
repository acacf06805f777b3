"""The course as it is read: how long, how plain, how well described; its links lead somewhere."""

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from learn2add.course.handin import ITEMS
from tools.notebooks import METADATA

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
SHOWS = {
    "print",
    "plt",
    "figures",
    "figure",
    "axes",
    "panel",
    "code_maps",
    "side_by_side",
    "scheme",
}
HANDOUT = "def prediction_different_numbers"
"""In the cell that shows the handout's own display."""
by_name = pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.stem)


def cells(file: Path, kind: str) -> Iterator[str]:
    for cell in json.loads(file.read_text())["cells"]:
        if cell["cell_type"] == kind:
            yield "".join(cell["source"])


def prose(text: str) -> str:
    """What is read as sentences: no tables, formulas, code, link targets, badges or markup."""
    text = re.sub(r"```.*?```|\$\$.*?\$\$|\$[^$]+\$|`[^`]*`", " x ", text, flags=re.S)
    text = re.sub(r"\[!\[.*?\]\(.*?\)\]\(.*?\)", "", text)
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text)
    lines = [line for line in text.split("\n") if not line.lstrip().startswith("|")]
    return re.sub(r"<[^>]+>|[#>*]", " ", "\n".join(lines))


def words(text: str) -> int:
    return len(re.findall(r"\S*\w\S*", text))


@by_name
def test_prose_is_short(file: Path) -> None:
    assert sum(words(prose(text)) for text in cells(file, "markdown")) <= 3000
    for text in cells(file, "markdown"):
        for paragraph in re.split(r"\n\s*\n|\n(?=\s*(?:- |\d+\. ))", prose(text)):
            assert words(paragraph) <= 100, paragraph


@by_name
def test_prose_has_few_numbers(file: Path) -> None:
    """Labels of items, sections and notebooks are none."""
    text = "\n".join(map(prose, cells(file, "markdown")))
    text = re.sub(r"\b(?:I+V?\.\d|(?:[Ss]ection|[Nn]otebook) \d+|\d+\. |^\s*\d+ )", " ", text)
    found = re.findall(r"(?<![\w.])\d[\d,.]*", text)
    assert len(found) / words(text) <= 0.045, len(found) / words(text)


def shows(node: ast.stmt) -> bool:
    """Whether a statement prints or plots: a call of one of these names, or of a part of it."""
    value = getattr(node, "value", None)
    if isinstance(node, ast.For):  # a loop that does nothing else
        return all(map(shows, node.body))
    while isinstance(value, ast.Call | ast.Attribute):
        value = value.func if isinstance(value, ast.Call) else value.value
    return isinstance(value, ast.Name) and value.id in SHOWS


@by_name
def test_code_is_not_mostly_layout(file: Path) -> None:
    every, layout = 0, 0
    for text in cells(file, "code"):
        if HANDOUT in text:
            continue
        code = re.sub(r"^(\s*)%.*$", r"\1pass", text, flags=re.M)
        shown = set()
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.stmt) and shows(node):
                shown |= set(range(node.lineno, node.end_lineno + 1))
        full = {n for n, line in enumerate(code.split("\n"), 1) if line.strip()}
        every, layout = every + len(full), layout + len(full & shown)
    assert layout / every <= 0.2, layout / every


@by_name
def test_nothing_is_told_of_who_executed_it(file: Path) -> None:
    assert json.loads(file.read_text())["metadata"] == METADATA


@by_name
def test_images_have_words(file: Path) -> None:
    outputs = [
        output
        for cell in json.loads(file.read_text())["cells"]
        for output in cell.get("outputs", [])
        if "image/png" in output.get("data", {})
    ]
    assert outputs
    for output in outputs:
        said = output["metadata"].get("image/png", {}).get("alt", "")
        assert len(said) >= 20 and not said.startswith("<Figure"), said


def test_the_absent_report_is_seldom_spoken_of() -> None:
    text = "\n".join(prose(text) for file in NOTEBOOKS[:5] for text in cells(file, "markdown"))
    assert len(re.findall(r"\breport\b", text, re.I)) <= 25


def test_each_item_is_asked_before_it_is_answered() -> None:
    assignment = (ROOT / "ASSIGNMENT.md").read_text()
    for item in ITEMS:
        points, minutes = re.search(rf"\*\*{item}\*\* \| (\d+) \| (\d+) \|", assignment).groups()
        file = {"II": "02", "III": "03", "IV": "04"}[item.partition(".")[0]]
        text = "\n".join(
            text for path in NOTEBOOKS if path.name[:2] == file for text in cells(path, "markdown")
        )
        if text:
            task = text.index(f"**Task {item}** ({points} points, {minutes} minutes)")
            assert task < text.index(f"### Answer {item}\n")


def test_points_make_a_hundred() -> None:
    text = (ROOT / "ASSIGNMENT.md").read_text()
    items = re.findall(r"\*\*I[IV]+\.\d\*\* \| (\d+) \|", text)
    parts = re.findall(r"^## Part .*\((\d+) points\)", text, re.M)
    assert len(items) == len(ITEMS) == 17
    assert sum(map(int, items)) + 5 == sum(map(int, parts)) == 100


def test_the_readme_fits_on_a_screen_and_tells_what_was_measured() -> None:
    text = (ROOT / "README.md").read_text()
    head = prose(text[: text.index("| notebook |")])
    assert words(head) <= 200 and len(re.findall(r"\d[\d,.]*", head)) <= 20
    assert words(prose(re.sub(r"```.*?```", "", text, flags=re.S))) <= 600
    rows = [line for line in text.split("\n") if line.startswith("| [")]
    assert [re.search(r"notebooks/([\w.]+)", row)[1] for row in rows] == [f.name for f in NOTEBOOKS]
    for row, file in zip(rows, NOTEBOOKS, strict=True):
        (hours,) = re.findall(r"(\w+) hours? to work", next(cells(file, "markdown")))
        assert ["one", "two", "three", "four", "five", "six"][int(row.split("|")[4]) - 1] == hours
    for name in ("part3/reference", "part3/scheduled"):
        kept = json.loads((ROOT / "runs" / name / "evaluation.json").read_text())
        for key in ("cells_mean", "cells_worst"):
            assert f"{100 * kept[key]:.2f} %" in text, (name, key)
    for name in ("variational", "generative"):
        kept = json.loads((ROOT / "runs" / "part4" / name / "evaluation.json").read_text())
        assert f"{100 * kept['cells_mean']:.2f} %" in text, name
    kept = json.loads((ROOT / "runs" / "part3" / "hand" / "evaluation.json").read_text())
    assert f"{100 * kept['counting_held_out']:.1f} %" in text


def anchors(file: Path) -> set[str]:
    """Where links into a file may lead: Jupyter and GitHub make them of headings."""
    texts = cells(file, "markdown") if file.suffix == ".ipynb" else [file.read_text()]
    heads = [head for text in texts for head in re.findall(r"^#+ (.*)$", text, re.M)]
    plain = {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}
    return {head.replace(" ", "-") for head in heads} | plain


@pytest.mark.parametrize(
    "file", [*NOTEBOOKS, *ROOT.glob("*.md")], ids=lambda file: file.name.partition(".")[0]
)
def test_links_lead_somewhere(file: Path) -> None:
    text = "\n".join(cells(file, "markdown")) if file.suffix == ".ipynb" else file.read_text()
    for link in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"```.*?```", "", text, flags=re.S)):
        if link.startswith("https://"):
            continue
        place, _, anchor = link.partition("#")
        target = (file.parent / place).resolve() if place else file
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link
