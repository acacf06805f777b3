"""How Sphinx makes the site; ``tools.site`` lays the sources out and calls it."""

from importlib import metadata
from typing import Any

from learn2add.page.build import address

project = "learn2add"
copyright = "the authors of learn2add, MIT licence"
release = metadata.version("learn2add")
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
html_theme = "furo"
html_title = "learn2add"
html_theme_options = {
    "source_repository": address(),
    "source_branch": "main",
}
html_copy_source = False
html_extra_path = ["_extra"]
exclude_patterns = ["_extra"]

nb_execution_mode = "off"  # the notebooks are kept as executed
nb_merge_streams = True
myst_enable_extensions = ["dollarmath", "amsmath"]
myst_heading_anchors = 3
myst_heading_slug_func = "tools.site.__main__.anchor"
numfig = True
numfig_secnum_depth = 1

autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "undoc-members": True, "exclude-members": "set"}


def setup(app: Any) -> None:
    """Take what is indented in a module's docstring as it stands: it is a drawing."""

    def drawn(app: Any, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
        for place in range(len(lines) - 1, 0, -1):
            begins = lines[place].startswith("    ") and not lines[place - 1]
            if what == "module" and begins and lines[max(0, place - 2)][-1:] != ":":
                lines[place:place] = ["::", ""]

    app.connect("autodoc-process-docstring", drawn)
