"""The project's address, in one place."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tools import address

ROOT = Path(__file__).parents[2]
FILES = [ROOT / "README.md", *sorted((ROOT / "notebooks").glob("*.ipynb"))]


def made(file: Path, found: str) -> str:
    change = address.with_address if file.suffix == ".md" else address.notebook_with_address
    return change(file.read_text(), found)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_address_is_made_from_the_one(file: Path) -> None:
    assert made(file, address.address()) == file.read_text()


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_fork_changes_one_line(file: Path) -> None:
    text = made(file, "https://github.com/someone/else")
    assert "learn2add/learn2add" not in text
    assert text.count("someone/else") == file.read_text().count("learn2add/learn2add")


@pytest.mark.parametrize(
    ("beside", "installed"),
    [
        ("", f"learn2add @ git+{address.address()}"),
        ("learn2add-0.1.0-py3-none-any.whl", "learn2add-0.1.0-py3-none-any.whl"),
        ("learn2add-main/pyproject.toml", "learn2add-main"),
    ],
)
def test_colab_installs_what_lies_beside_the_notebook_or_from_the_address(
    beside: str, installed: str, tmp_path: Path
) -> None:
    """The first cell, with a stand-in for Colab and for pip."""
    if beside:
        (tmp_path / beside).parent.mkdir(exist_ok=True)
        (tmp_path / beside).touch()
    cell = address.INSTALL.format(address=address.address())
    code = re.sub(r'%pip install -q "(.*)"', r'print(f"\1")', cell)
    code = "import sys\nsys.modules['google.colab'] = sys\n" + code
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == installed
