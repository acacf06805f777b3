"""The hand-in: one zip of the executed notebooks, a PDF report and what the checks said.

An item of the assignment is found by its number, in a quoted task or in a heading. What stands
below the heading of its answer, up to the next heading, is the answer. So the student edition
works, and so does a notebook of one's own with a heading such as ``## II.4`` for each item. Source:
assignment, "Submission".
"""

import base64
import binascii
import io
import json
import platform
import re
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from learn2add.checkpoints import write_atomically
from learn2add.course.check import CHECKS
from learn2add.course.report import pdf

ITEMS = (
    *(f"II.{number}" for number in range(1, 8)),
    *(f"III.{number}" for number in range(1, 8)),
    *(f"IV.{number}" for number in range(1, 4)),
)
"""The items that are answered; Part I is the notebook itself."""
NUMBER = r"(?<![\w.])(I{2,3}|IV)\.([1-7])(?![\w.]?\d)"
TASK = re.compile(rf"^> \*\*Task {NUMBER}", re.M)
HEADING = re.compile(r"^#{1,6} .*$", re.M)
SAID = re.compile(rf"^{NUMBER}: (right.*|not yet|not right.*)$", re.M)
BLANK = "*Write your answer here"
"""How the place for an answer begins in the student edition."""


@dataclass
class Item:
    """What the notebooks hold of one item."""

    name: str
    task: str = ""
    answer: str = ""
    code: list[str] = field(default_factory=list)
    """What the student has written: cells that a notebook marks as solution."""
    shown: list[str | tuple[bytes, str]] = field(default_factory=list)
    """What its cells printed or drew: texts, and PNG images with their words."""
    said: str = ""
    """What its check said last; empty where none was asked."""

    def blanks(self) -> list[str]:
        """Say what is missing."""
        found = []
        if not self.answer.strip() or BLANK in self.answer:
            found.append(f"{self.name}: no answer")
        if self.name in CHECKS and not self.said.startswith("right"):
            found.append(f"{self.name}: its check says {self.said or 'nothing, it was not asked'}")
        return found


def hand_in(name: str, notebooks: Sequence[str | Path] = (), folder: str | Path = ".") -> list[str]:
    """Write ``NAME_DL_List1.zip`` into ``folder``; print and return what is missing.

    The zip is written whatever is missing: the notebooks as they are, ``report.pdf``,
    ``checks.txt``. Without notebooks given, all in ``folder`` are taken, in the order of their
    names.

    Raises:
        ValueError: The name has no letter; a file is no notebook, there is none, or a name twice.
        OSError: A file cannot be read or written.
    """
    plain = "_".join(re.findall(r"[^\W_]+(?:[-'’][^\W_]+)*", name))
    if not plain:
        raise ValueError(
            f"name is {name!r}; allowed are letters and digits, such as 'Ada Lovelace'"
        )
    files = [Path(file) for file in notebooks] or sorted(Path(folder).glob("*.ipynb"))
    if not files:
        raise ValueError(f"notebooks is empty; allowed are files .ipynb, and {folder} has none")
    read = {file.name: read_notebook(file) for file in files}
    if len(read) < len(files):
        raise ValueError("notebooks has two files of one name; allowed is each name once")
    items, missing = collect(read.values()), []
    for file, notebook in read.items():
        missing += [f"{file}: {what}" for what in not_executed(notebook)]
    missing += [blank for item in items.values() for blank in item.blanks()]
    made = {file.name: file.read_bytes() for file in files}
    try:
        made["report.pdf"] = pdf(name, list(items.values()))
    except Exception as error:  # whatever fails in it: the zip must not
        missing.append(f"report.pdf: {type(error).__name__}: {error}")
    made["checks.txt"] = report_of_checks(name, items, missing).encode()
    target = Path(folder) / f"{plain}_DL_List1.zip"
    box = io.BytesIO()
    with zipfile.ZipFile(box, "w", zipfile.ZIP_DEFLATED) as archive:
        for file, content in made.items():
            archive.writestr(f"{plain}/{file}", content)
    write_atomically(target, box.getvalue())
    print(*missing, f"wrote {target}: {', '.join(made)}", sep="\n")
    return missing


def read_notebook(file: Path) -> dict[str, Any]:
    """Read a notebook, or raise a ValueError that names the file."""
    try:
        notebook = json.loads(file.read_text(encoding="utf-8"))
        for cell in notebook["cells"]:
            cell["source"] = "".join(cell["source"])
            assert cell["cell_type"] in ("code", "markdown", "raw")
        return notebook
    except (ValueError, TypeError, KeyError, AssertionError) as error:
        kind = type(error).__name__
        raise ValueError(f"notebooks has {file}, which is no notebook ({kind}: {error})") from error


def not_executed(notebook: dict[str, Any]) -> list[str]:
    """Say what shows that a notebook was not run from top to bottom."""
    cells = [c for c in notebook["cells"] if c["cell_type"] == "code" and c["source"].strip()]
    cells = [cell for cell in cells if "hand_in(" not in cell["source"]]  # it is just running
    for cell in cells:
        for output in cell.get("outputs", []):
            if output.get("output_type") == "error":
                return [f"a cell stops with {output.get('ename')}: {cell['source'][:50]!r}"]
    counts = [cell.get("execution_count") for cell in cells]
    if None in counts:
        return [f"{counts.count(None)} cells were not run"]
    if counts != sorted(counts):
        return ["its cells were run out of order; restart the kernel and run all"]
    return []


def collect(notebooks: Any) -> dict[str, Item]:
    """Gather what notebooks, read, hold of each item."""
    items = {name: Item(name) for name in ITEMS}
    for notebook in notebooks:
        current = None
        for cell in notebook["cells"]:
            if cell["cell_type"] == "markdown":
                current = read_text(cell["source"], items, current)
            elif cell["cell_type"] == "code":
                if current and "solution" in cell.get("metadata", {}).get("tags", []):
                    current.code.append(cell["source"])
                for output in cell.get("outputs", []):
                    read_output(output, items, current)
    return items


def read_text(text: str, items: dict[str, Item], current: Item | None) -> Item | None:
    """Take tasks and answers out of a text; return the item that it leaves off with."""
    cuts = sorted({0, len(text), *(found.start() for found in HEADING.finditer(text))})
    for first, last in zip(cuts, cuts[1:], strict=False):
        part = text[first:last]
        heading = HEADING.match(part)
        title = heading[0] if heading else ""
        number = re.search(NUMBER, title)
        if number and (item := items.get(".".join(number.groups()))):
            current = item
            # Both may stand below one heading: a task in quotes, then its answer.
            body = part.removeprefix(title)
            own = [line for line in body.splitlines() if not line.startswith(">")]
            item.answer = f"{item.answer}\n\n".lstrip() + "\n".join(own).strip()
        for task in TASK.finditer(part):
            if item := items.get(".".join(task.groups())):
                quoted = re.match(r"(?:>.*(?:\n|$))+", part[task.start() :])[0]
                item.task = " ".join(re.sub(r"^> ?", "", quoted, flags=re.M).split())
                current = item
    return current


def read_output(output: dict[str, Any], items: dict[str, Item], current: Item | None) -> None:
    """Give an output to its item, and what checks said in it to theirs."""
    data = output.get("data", {})
    text = "".join(output.get("text", "") or data.get("text/plain", ""))
    if output.get("name") == "stderr":  # progress bars and warnings
        return
    for part, number, said in SAID.findall(text):
        if item := items.get(f"{part}.{number}"):
            item.said = said
    text = SAID.sub("", text).strip("\n")
    if current is None:
        return
    if "image/png" in data:
        words = output.get("metadata", {}).get("image/png", {}).get("alt", "") or text
        try:
            image = base64.b64decode("".join(data["image/png"]), validate=False)
        except binascii.Error:
            return
        current.shown.append((image, words))
    elif text.strip():
        current.shown.append(text)


def report_of_checks(name: str, items: dict[str, Item], missing: list[str]) -> str:
    """Return as text what each check said, how long each answer is, and what is missing."""
    lines = [f"{name}: what the checks said, and the words of each answer", ""]
    for item in items.values():
        said = item.said or ("not asked" if item.name in CHECKS else "-")
        words = len(item.answer.split()) if BLANK not in item.answer else 0
        lines.append(f"{item.name:<6} {words:>5} words   {said}")
    lines += ["", "missing:", *(missing or ["nothing"]), ""]
    kinds = ("torch", "torchvision", "numpy", "learn2add")
    versions = ", ".join(f"{kind} {version(kind)}" for kind in kinds)
    lines.append(f"Python {platform.python_version()}, {versions}")
    return "\n".join(lines) + "\n"
