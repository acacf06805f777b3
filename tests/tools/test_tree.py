"""The map in CONTRIBUTING.md."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_map_is_what_the_tool_prints() -> None:
    command = [sys.executable, str(ROOT / "tools" / "tree.py")]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert printed in (ROOT / "CONTRIBUTING.md").read_text()
    for line in printed.splitlines():
        name, _, told = line.strip().partition(" ")
        assert name.endswith("/") or told.strip(), f"{name} does not say what it is"
        assert len(line) <= 140
