"""Print CONTRIBUTING.md's map of the files, a line each, from the first lines of their docstrings.

``python tools/tree.py``; a test compares what it prints with that file.
"""

import ast
import json
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDERS = (
    "learn2add",
    "learn2add/figures",
    "learn2add/studies",
    "learn2add/course",
    "learn2add/drawing",
    "learn2add/page",
    "tools",
    "tools/experiments",
    "tools/campaign",
)
ORDER = (
    "data pairs network losses config optim judge measures steps train runs checkpoints "
    "tensorboard recipes evidence hardware checks __main__"
).split()
"""How the core is read; other files stand in the order of their names."""


def first_line(file: Path) -> str:
    """Return the first line of a module's docstring, or of a script's comment, less its stop."""
    if file.suffix == ".js":
        return file.read_text().split("\n")[0].removeprefix("// ").rstrip(".")
    return (ast.get_docstring(ast.parse(file.read_text())) or "").split("\n")[0].rstrip(".")


def title(notebook: Path) -> str:
    """Return the title of a notebook."""
    cell = json.loads(notebook.read_text())["cells"][0]
    return "".join(cell["source"]).split("\n")[0].lstrip("# ")


def lines() -> list[str]:
    """Return the lines of the map."""
    found = ["notebooks/"]
    found += [f"  {file.name:<40}{title(file)}" for file in sorted(ROOT.glob("notebooks/*.ipynb"))]
    for folder in FOLDERS:
        files = [file for file in (ROOT / folder).glob("*.py") if file.name != "__init__.py"]
        files += (ROOT / folder).glob("*.js")
        known = {f"{name}.py": place for place, name in enumerate(ORDER)}
        files.sort(key=lambda file: (known.get(file.name, len(ORDER)), file.name))
        found.append(f"{folder}/")
        found += [f"  {file.name:<27}{first_line(file)}" for file in files]
    for folder in ("tools/benchmark", "tools/site"):
        found.append(f"{folder + '/':<18}{first_line(ROOT / folder / '__main__.py')}")
    return found


if __name__ == "__main__":
    print("\n".join(lines()))
