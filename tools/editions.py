"""Make the student edition and the key from the notebooks: ``python tools/editions.py student``.

The notebooks are the one source. Cells tagged ``solution`` hold what students write, such as a
class or a loss; what stands under a heading ``### Answer`` is an answer. The student edition has
stubs and blanks in their place, a check behind each stub, and no outputs; what needs a solution
waits until its check says "right". The key is the notebooks with the solutions between nbgrader's
delimiters.
"""

import argparse
import ast
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from learn2add.checkpoints import write_atomically

ROOT = Path(__file__).parents[1]
COURSE = sorted((ROOT / "notebooks").glob("0[1-5]_*.ipynb"))
ITEMS = {
    "block": "II.1", "MyEncoder": "II.1", "MyDecoder": "II.2", "MyUpsamplingDecoder": "II.2",
    "MyAdder": "III.2", "MyAdditionModel": "III.3", "squared_error": "III.4", "my_loss": "III.4",
    "MyGaussianEncoder": "IV.1", "sample": "IV.1", "divergence": "IV.1", "MyGaussianAdder": "IV.3",
}  # fmt: skip
"""To which item belongs what a solution gives."""
CHECKED = {
    "II.1": "MyEncoder", "II.2": "MyDecoder", "III.2": "MyAdder", "III.3": "MyAdditionModel",
    "III.4": "my_loss", "IV.1": "(sample, divergence)", "IV.3": "MyGaussianAdder",
}  # fmt: skip
"""What is given to the check of an item."""
BLANK = "*Write your answer here: at most 120 words, the numbers it rests on, and the reason.*"
STUB = "raise NotImplementedError"
BEGIN, END = "### BEGIN SOLUTION", "### END SOLUTION"
Cell = dict[str, Any]


def is_solution(cell: Cell) -> bool:
    """Whether students write what stands in a cell."""
    return "solution" in cell["metadata"].get("tags", [])


def functions(tree: ast.Module) -> Iterator[ast.FunctionDef]:
    """Yield functions and methods in order."""
    for node in tree.body:
        found = node.body if isinstance(node, ast.ClassDef) else [node]
        yield from (part for part in found if isinstance(part, ast.FunctionDef))


def body_of(function: ast.FunctionDef) -> list[ast.stmt]:
    """Return what is to be written: the statements behind docstring and ``super().__init__``."""
    given = 1 if ast.get_docstring(function) else 0
    calls = (ast.unparse(node) for node in function.body[given:])
    given += sum(1 for call in calls if call.startswith("super().__init__"))
    return function.body[given:]


def bodies(code: str) -> Iterator[tuple[int, int, str]]:
    """Yield each body that is to be written, the last first: lines, from and to, and indent."""
    for function in reversed(list(functions(ast.parse(code)))):
        if body := body_of(function):
            yield body[0].lineno - 1, body[-1].end_lineno, " " * body[0].col_offset


def stub(code: str) -> str:
    """Return a solution with ``raise NotImplementedError`` in place of each body."""
    lines = code.split("\n")
    for first, last, indent in bodies(code):
        lines[first:last] = [indent + STUB]
    return "\n".join(lines)


def delimited(code: str) -> str:
    """Return a solution with each body between nbgrader's delimiters."""
    lines = code.split("\n")
    for first, last, indent in bodies(code):
        lines[first:last] = [indent + BEGIN, *lines[first:last], indent + END]
    return "\n".join(lines)


class Names(ast.NodeVisitor):
    """Which names a cell needs from cells before it, and which it gives to those behind."""

    def __init__(self) -> None:
        self.needs: set[str] = set()
        self.gives: set[str] = set()

    def visit_Name(self, node: ast.Name) -> None:
        """A name is needed unless the cell has given it before."""
        if isinstance(node.ctx, ast.Load):
            self.needs |= {node.id} - self.gives
        else:
            self.gives.add(node.id)

    def visit_Assign(self, node: ast.Assign) -> None:
        """What is assigned is computed first."""
        self.visit(node.value)
        for target in node.targets:
            self.visit(target)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        """What is changed is needed."""
        self.needs |= {n.id for n in ast.walk(node.target) if isinstance(n, ast.Name)} - self.gives
        self.generic_visit(node)

    def visit_For(self, node: ast.For) -> None:
        """What is gone through comes before its parts."""
        self.visit(node.iter)
        self.visit(node.target)
        for part in (*node.body, *node.orelse):
            self.visit(part)

    def comprehension(self, node: Any) -> None:
        """The names of a comprehension are its own."""
        own = {n.id for part in node.generators for n in ast.walk(part.target) if hasattr(n, "id")}
        inner = Names()
        for part in ast.iter_child_nodes(node):
            inner.visit(part)
        self.needs |= inner.needs - own - self.gives

    visit_ListComp = visit_SetComp = visit_DictComp = visit_GeneratorExp = comprehension

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.ClassDef) -> None:
        """A function gives its name; what it uses is needed when it runs."""
        inner = Names()
        for part in node.body:
            inner.visit(part)
        own = {a.arg for n in ast.walk(node) if isinstance(n, ast.arguments) for a in n.args}
        self.needs |= inner.needs - own - self.gives
        self.gives.add(node.name)

    visit_ClassDef = visit_FunctionDef


def names_in(code: str) -> Names:
    """Return the names of a cell; lines for Jupyter itself, ``%pip``, have none."""
    found = Names()
    found.visit(ast.parse(re.sub(r"^(\s*)%.*$", r"\1pass", code, flags=re.M)))
    return found


def waiting(code: str, items: list[str]) -> str:
    """Return a cell that runs once the checks of some items have said "right"."""
    lines = code.removeprefix("# NBVAL_CHECK_OUTPUT\n").split("\n")
    condition = " and ".join(f'done.get("{item}")' for item in items)
    inside = "\n".join("    " + line if line else line for line in lines)
    return f"if {condition}:  # waits for your answer\n{inside}"


def student(notebook: dict[str, Any]) -> dict[str, Any]:
    """Return the student edition of a notebook."""
    made: list[Cell] = []
    missing: dict[str, set[str]] = {}  # what only solutions give, and the items it waits for
    for cell in notebook["cells"]:
        text = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            made.append(as_cell("markdown", blank(text)))
            continue
        names = names_in(text)
        if is_solution(cell):
            made.append(as_cell("code", stub(text)))
            missing |= {name: {ITEMS[name]} for name in names.gives}
            for item, answer in CHECKED.items():
                if names.gives & names_in(answer).needs and names_in(answer).needs <= set(missing):
                    made.append(as_cell("code", f'done["{item}"] = check("{item}", {answer})'))
            continue
        items = sorted(set().union(*(missing[name] for name in names.needs & set(missing))))
        missing = {name: kept for name, kept in missing.items() if name not in names.gives}
        if items:
            missing |= {name: set(items) for name in names.gives}
            text = waiting(text, items)
        if "google.colab" in text:
            text += CHECKING
        made.append(as_cell("code", text))
    return notebook | {"cells": made}


CHECKING = """

from learn2add.course.check import check

done = {}  # the items whose check has said that they are right"""


def blank(text: str) -> str:
    """Return a text with its answers, each up to the next heading, taken out."""
    answer = re.compile(r"### Answer (\S+)\n.*?(?=\n##|\Z)", re.S)
    return answer.sub(lambda match: f"### Your answer to {match[1]}\n\n{BLANK}\n", text)


def key(notebook: dict[str, Any]) -> dict[str, Any]:
    """Return the key of a notebook: its solutions between delimiters, its outputs as they are."""
    cells = [
        cell | {"source": delimited("".join(cell["source"])).splitlines(keepends=True)}
        if is_solution(cell)
        else cell
        for cell in notebook["cells"]
    ]
    return notebook | {"cells": cells}


def as_cell(kind: str, text: str) -> Cell:
    """Return a cell without outputs."""
    cell = {"cell_type": kind, "metadata": {}, "source": text.splitlines(keepends=True)}
    return cell | ({"execution_count": None, "outputs": []} if kind == "code" else {})


def main() -> None:
    """Write an edition of notebooks 1 to 5."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("edition", choices=("student", "solutions"))
    parser.add_argument("--out", type=Path, help="default: build/student or build/solutions")
    arguments = parser.parse_args()
    folder = arguments.out or ROOT / "build" / arguments.edition
    make = {"student": student, "solutions": key}[arguments.edition]
    for file in COURSE:
        notebook = make(json.loads(file.read_text()))
        for number, cell in enumerate(notebook["cells"]):
            cell["id"] = f"cell-{number:03d}"
        text = json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"
        write_atomically(folder / file.name, text)
    print(f"{len(COURSE)} notebooks in {folder}")


if __name__ == "__main__":
    sys.exit(main())
