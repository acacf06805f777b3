"""Make the student edition and the key from the notebooks: ``python tools/editions.py student``.

The notebooks are the one source. Cells tagged ``solution`` hold what students write, such as a
class or a loss; a cell behind them checks it; what stands under a heading ``### Answer`` is an
answer. The student edition has stubs and blanks in their place and no outputs; what needs a
solution waits until its check says "right". The key is the notebooks with the solutions between
nbgrader's delimiters, and behind each exercise its solution, from ``tools/solutions/``.

Variants against copying: ``--seed`` changes what is drawn at random and so every number of what is
trained live; with ``--operation subtract`` the samples of III.1 are those of differences.
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
from learn2add.course.handin import BLANK as PLACE

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
COURSE = [file for file in NOTEBOOKS if file.name[:2] in ("01", "02", "03", "04", "05")]
CHECK = re.compile(r'check\("(\S+)", (.*)\);')
"""The cell in which the notebook checks its own solution of an item."""
BLANK = f"{PLACE}: at most 120 words, the numbers it rests on, and the reason.*"
STUB = "raise NotImplementedError"
BEGIN, END = "### BEGIN SOLUTION", "### END SOLUTION"
FENCED = re.compile(r"^```python\n(.*?)^```\n", re.M | re.S)
"""Python in Markdown."""
Cell = dict[str, Any]
Notebook = dict[str, Any]


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


def items_of(cells: list[Cell]) -> dict[str, str]:
    """Return to which item belongs what a solution gives: the one that is checked next."""
    found: dict[str, str] = {}
    waiting_for_check: set[str] = set()
    for cell in cells:
        text = "".join(cell["source"])
        if is_solution(cell):
            waiting_for_check |= names_in(text).gives
        elif check := CHECK.fullmatch(text):
            found |= dict.fromkeys(waiting_for_check, check[1])
            waiting_for_check = set()
    return found


def student(notebook: Notebook, seed: int = 0, operation: str = "add") -> Notebook:
    """Return the student edition of a notebook."""
    made: list[Cell] = []
    items = items_of(notebook["cells"])
    missing: dict[str, set[str]] = {}  # what only solutions give, and the items it waits for
    for cell in notebook["cells"]:
        text = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            made.append(as_cell("markdown", blank(text)))
            if operation == "subtract" and "> **Task III.1**" in text:
                made.append(as_cell("markdown", SUBTRACTION))
            continue
        if is_solution(cell):
            names = names_in(text).gives
            missing |= {name: {items[name]} for name in names}
            made.append(as_cell("code", stub(seeded(text, seed)), "solution"))
            continue
        if check := CHECK.fullmatch(text):
            variant = ', "subtract"' if (check[1], operation) == ("III.1", "subtract") else ""
            text = f'done["{check[1]}"] = check("{check[1]}", {check[2]}{variant})'
            made.append(as_cell("code", text))
            continue
        names, text = names_in(text), seeded(text.removeprefix("# NBVAL_CHECK_OUTPUT\n"), seed)
        wanted = sorted(set().union(*(missing[name] for name in names.needs & set(missing))))
        missing = {name: kept for name, kept in missing.items() if name not in names.gives}
        if wanted:
            missing |= {name: set(wanted) for name in names.gives}
            text = waiting(text, wanted)
        if "google.colab" in text:
            text += SETUP.format(seed=seed)
        made.append(as_cell("code", text))
    if "IV.3" in items.values():  # the last of them
        made += [as_cell("markdown", HANDING_IN), as_cell("code", HAND_IN)]
    return notebook | {"cells": made}


def seeded(code: str, seed: int) -> str:
    """Return code that draws at random with the seed of a variant."""
    return RANDOM.sub(r"\1(SEED)", code) if seed else code


RANDOM = re.compile(r"\b(manual_seed|default_rng|random\.seed)\(0\)")
SETUP = """

SEED = {seed}
done = {{}}  # the items whose check has said that they are right"""
SUBTRACTION = """**Your variant: subtraction.** The pairs are (digit, number) whose *difference* \
is the result: digit - number = 0 to 9. Make the samples for it, and say of what they are \
balanced. All other items stay as they are; their kept runs add."""
HANDING_IN = """## Hand in

Run all notebooks from top to bottom and save them. Then write your name into the cell, or call \
`learn2add handin "Your Name"` in this folder: both make `Your_Name_DL_List1.zip` with the \
notebooks, a PDF report of your answers and figures, and what the checks said. What is still \
missing is named."""
HAND_IN = """from learn2add.course.handin import hand_in

NAME = ""
hand_in(NAME) if NAME else print("not yet: write your name into the cell")"""


def blank(text: str) -> str:
    """Return a text with its answers, each up to the next heading, taken out."""
    answer = re.compile(r"### Answer (\S+)\n.*?(?=\n##|\Z)", re.S)
    return answer.sub(lambda match: f"### Your answer to {match[1]}\n\n{BLANK}\n", text)


def key(notebook: Notebook, solutions: str = "", seed: int = 0) -> Notebook:
    """Return the key of a notebook: its solutions between delimiters, and those of its exercises.

    Its outputs are those of seed 0; under another it has none, until it is executed.
    """
    cells = []
    for cell in notebook["cells"]:
        text = "".join(cell["source"])
        text = delimited(text) if is_solution(cell) else text
        text = seeded(text, seed) if cell["cell_type"] == "code" else text
        cells.append(cell | {"source": text.splitlines(keepends=True)})
        if seed and cell["cell_type"] == "code":
            cells[-1] |= {"outputs": [], "execution_count": None}
            if "google.colab" in text:
                cells[-1]["source"] += [f"\n\nSEED = {seed}"]
    return notebook | {"cells": cells + solution_cells(solutions)}


def solution_cells(solutions: str) -> list[Cell]:
    """Return solutions of exercises, in Markdown, as cells; fenced Python is code."""
    parts = FENCED.split(solutions)
    kinds = ("markdown", "code")
    texts = ((kinds[place % 2], part.strip("\n")) for place, part in enumerate(parts))
    return [as_cell(kind, text) for kind, text in texts if text]


def as_cell(kind: str, text: str, *tags: str) -> Cell:
    """Return a cell without outputs."""
    metadata = {"tags": list(tags)} if tags else {}
    cell = {"cell_type": kind, "metadata": metadata, "source": text.splitlines(keepends=True)}
    return cell | ({"execution_count": None, "outputs": []} if kind == "code" else {})


def main() -> None:
    """Write an edition: for students notebooks 1 to 5, the key of all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("edition", choices=("student", "solutions"))
    parser.add_argument("--out", type=Path, help="default: build/student or build/solutions")
    parser.add_argument("--seed", type=int, default=0, help="a student's own; default: 0")
    parser.add_argument("--operation", choices=("add", "subtract"), default="add")
    arguments = parser.parse_args()
    folder = arguments.out or ROOT / "build" / arguments.edition
    files = COURSE if arguments.edition == "student" else NOTEBOOKS
    for file in files:
        notebook = json.loads(file.read_text())
        if arguments.edition == "student":
            notebook = student(notebook, arguments.seed, arguments.operation)
        else:
            notebook = key(notebook, solutions_of(file), arguments.seed)
        for number, cell in enumerate(notebook["cells"]):
            cell["id"] = f"cell-{number:03d}"
        text = json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"
        write_atomically(folder / file.name, text)
    print(f"{len(files)} notebooks in {folder}")


def solutions_of(file: Path) -> str:
    """Return the solutions of a notebook's exercises, in Markdown."""
    return (ROOT / "tools" / "solutions" / f"{file.stem}.md").read_text()


if __name__ == "__main__":
    sys.exit(main())
