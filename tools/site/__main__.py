"""Make the site of the notebooks, the other texts and the API: ``python -m tools.site``.

The sources are laid out under build/site-source as Sphinx wants them, and become build/site. A
broken link, a heading out of order or a docstring that cannot be read ends it with status 1.
"""

import argparse
import json
import re
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from learn2add.__main__ import main as learn2add
from tools.tree import ORDER

ROOT = Path(__file__).parents[2]
TEXTS = ("ASSIGNMENT", "RESULTS", "TEACHING", "CONTRIBUTING")
PAGE = (
    '\n\n<p><a href="page.html">Draw a digit and see sums drawn</a>, here in the browser.</p>\n\n'
)
OPTIONS = ("-W", "--keep-going", "-q", "-E", "-b", "html")
"""Of Sphinx: a warning is an error, but all of them are told."""
CAPTION = 120
"""Characters of a figure's caption."""


def anchor(heading: str) -> str:
    """Return what a link to a heading ends in, as Jupyter and the notebooks have it."""
    return heading.strip().replace(" ", "-")


def contents(title: str, pages: Sequence[str], *options: str) -> str:
    """Return a table of contents for Sphinx."""
    return "\n".join(["", "```{toctree}", f":caption: {title}", *options, "", *pages, "```", ""])


def stage(folder: Path) -> None:
    """Lay all sources out in an empty folder."""
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "notebooks").mkdir(parents=True)
    (folder / "runs").mkdir()
    (folder / "api").mkdir()
    shutil.copy(ROOT / "tools/site/conf.py", folder)
    for picture in ROOT.glob("runs/*.png"):
        shutil.copy(picture, folder / "runs")
    shutil.copy(ROOT / "LICENSE", folder)
    for name in TEXTS:
        shutil.copy(ROOT / f"{name}.md", folder)
    notebooks = sorted(ROOT.glob("notebooks/*.ipynb"))
    for notebook in notebooks:
        captioned = with_captions(json.loads(notebook.read_text("utf-8")))
        (folder / "notebooks" / notebook.name).write_text(json.dumps(captioned), "utf-8")
    modules = write_api(folder / "api")
    readme = (ROOT / "README.md").read_text("utf-8").replace("\n\n", PAGE, 1)
    readme += contents(
        "Notebooks", [f"notebooks/{n.stem}" for n in notebooks], ":numbered: 1", ":maxdepth: 1"
    )
    readme += contents("More", TEXTS, ":maxdepth: 1")
    readme += contents("API", [f"api/{name}" for name in modules], ":maxdepth: 1")
    (folder / "index.md").write_text(readme, "utf-8")
    (folder / "_extra").mkdir()


def with_captions(notebook: dict[str, Any]) -> dict[str, Any]:
    """Return a notebook whose figures have captions, to be numbered, and words for their images.

    Its own number leaves its title, for Sphinx counts too.
    """
    head = notebook["cells"][0]
    head["source"] = re.sub(r"^# \d+ · ", "# ", "".join(head["source"]))
    for cell in notebook["cells"]:
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            said = "".join(data.get("text/plain", "")).removeprefix("Figure: ")
            if "image/png" in data and said[0] != "<":  # as a figure is shown that says nothing
                caption = said.partition(". ")[0].strip().rstrip(".")[:CAPTION]
                render = {"figure": {"caption": caption}, "image": {"alt": said}}
                cell.setdefault("metadata", {})["mystnb"] = render
    return notebook


def write_api(folder: Path) -> list[str]:
    """Write a page for each module of the package; return their names in the order of reading."""
    package = ROOT / "learn2add"
    core = [f"learn2add.{name}" for name in ORDER if name != "__main__"]
    rest = sorted(
        ".".join(file.relative_to(ROOT).with_suffix("").parts)
        for file in package.glob("*/*.py")
        if file.name != "__init__.py"
    )
    for name in (modules := [*core, *rest]):
        head = f"{name.partition('.')[2]}\n{'=' * len(name)}\n\n"
        (folder / f"{name}.rst").write_text(f"{head}.. automodule:: {name}\n", "utf-8")
    return modules


def main(argv: Sequence[str] | None = None) -> int:
    """Lay out, build the page, run Sphinx; return its status."""
    from sphinx.cmd.build import main as sphinx

    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("-o", "--output", type=Path, default=ROOT / "build/site", help="the site")
    add("--source", type=Path, default=ROOT / "build/site-source", help="emptied, for the sources")
    options = parser.parse_args(argv)
    stage(options.source)
    if status := learn2add(["page", "-o", str(options.source / "_extra/page.html")]):
        return status
    return sphinx([*OPTIONS, str(options.source), str(options.output)])


if __name__ == "__main__":
    sys.exit(main())
