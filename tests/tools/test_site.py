"""The site is whole: every page, numbered figures, the page to draw on; a broken link ends it."""

import html
import re
from pathlib import Path

import pytest
from sphinx.cmd.build import main as sphinx

from tools import site
from tools.site.__main__ import OPTIONS, main, with_captions

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.filterwarnings("ignore")  # of what is deprecated inside Sphinx


def links_of(page: str) -> set[tuple[str, str]]:
    """Links to a place in a page: which page of the site, and which place there."""
    found = re.findall(r'<a [^>]*href="([^"#:]*\.html|)#([^"]+)"', page)
    return {(path, html.unescape(place)) for path, place in found}


@pytest.mark.slow
def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    assert main(["-o", str(tmp_path / "site"), "--source", str(tmp_path / "source")]) == 0
    pages = {file.stem for file in (tmp_path / "site/notebooks").glob("*.html")}
    assert pages == {file.stem for file in ROOT.glob("notebooks/*.ipynb")}
    fourth = (tmp_path / "site/notebooks/04_generative_addition.html").read_text("utf-8")
    assert 'class="caption-number">Fig. 4.1 ' in fourth
    assert ("05_what_the_pictures_are_worth.html", "another-seed") in links_of(fourth)
    for file in (tmp_path / "site").rglob("*.html"):
        for path, place in links_of(file.read_text("utf-8")):
            other = (file.parent / path) if path else file
            assert other.exists(), (file, path)
            assert f'id="{place}"' in other.read_text("utf-8"), (file, path, place)
    index = (tmp_path / "site/index.html").read_text("utf-8")
    assert 'href="page.html"' in index and (tmp_path / "site/page.html").stat().st_size > 1e6
    assert "learn2add.network.Encoder" in (tmp_path / "site/api/learn2add.network.html").read_text()
    assert (tmp_path / "site/searchindex.js").exists()


@pytest.mark.parametrize("text", ["[gone](02_gone.ipynb)", "[gone](#nowhere)", "![gone](gone.png)"])
def test_a_broken_link_is_an_error(text: str, tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "_extra").mkdir(parents=True)
    conf = Path(site.__file__).with_name("conf.py").read_text("utf-8")
    (source / "conf.py").write_text(conf, "utf-8")
    (source / "index.md").write_text("# Title\n\nSound.\n", "utf-8")
    assert sphinx([*OPTIONS, str(source), str(tmp_path / "site")]) == 0
    (source / "index.md").write_text(f"# Title\n\n{text}\n", "utf-8")
    assert sphinx([*OPTIONS, str(source), str(tmp_path / "site")]) == 1


def test_what_a_figure_says_becomes_its_caption() -> None:
    output = {"data": {"image/png": "x", "text/plain": "Figure: It turns. At 1.5."}}
    cells = [{"source": ["# 3 · Adding\n", "\n", "One."]}, {"outputs": [output], "metadata": {}}]
    head, cell = with_captions({"cells": cells})["cells"]
    assert head["source"] == "# Adding\n\nOne."
    told = cell["metadata"]["mystnb"]
    assert told == {"figure": {"caption": "It turns"}, "image": {"alt": "It turns. At 1.5."}}
