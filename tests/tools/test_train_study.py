"""The command that trains one model of a study."""

import runpy
import sys
from pathlib import Path

import pytest

from learn2add import runs

TOOL = Path(__file__).parents[2] / "tools/train_study.py"


@pytest.mark.parametrize(
    ("options", "name"),
    [
        (
            "narrow --units 8 --channels 2 2 2 --patience 3",
            "narrow-channels-2-2-2-units-8-patience-3",
        ),
        ("narrow --noise 0.2 --steps 2", "narrow-steps-2-noise-0.2"),
        ("report --distort 4 --code-size 3", "report-code_size-3-distort-4.0"),
        ("mirror --steps 2", "mirror-steps-2"),
        ("hand --rule matrix", "hand-rule-matrix"),
    ],
)
def test_options_are_the_fields_of_the_study(
    options: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LEARN2ADD_BUDGET", "smoke")
    monkeypatch.setenv("LEARN2ADD_RUNS", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["train_study.py", *options.split()])
    runpy.run_path(str(TOOL), run_name="__main__")
    config = runs.load(f"smoke/studies/{name}").config
    for option in options.split(" --")[1:]:
        field, *values = option.replace("-", "_").split()
        value = getattr(config, field, None) or getattr(config.stages[0], field)
        value = value if isinstance(value, tuple) else (value,)
        assert [f"{part:g}" if isinstance(part, float) else str(part) for part in value] == values
