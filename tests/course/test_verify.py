"""Whether kept figures come out again, and what is said where they do not."""

import json
import shutil
from pathlib import Path

import pytest

from learn2add import runs
from learn2add.__main__ import main
from learn2add.course import verify

NAME = "part2/conv_transpose-l2-code2"


def test_a_kept_run_is_the_same_here(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", NAME]) == 0
    said = capsys.readouterr().out
    assert said.startswith("This machine: device ")
    assert f"{NAME}: " in said and ", 0 different" in said


def test_what_differs_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "part2" / "mine"
    shutil.copytree(runs.load(NAME).folder, folder)
    file = folder / "evaluation.json"
    kept = json.loads(file.read_text())
    file.write_text(json.dumps(kept | {"rmse": kept["rmse"] - 0.02}))
    assert verify.verify([str(folder)]) == 1
    said = capsys.readouterr()
    assert "1 different" in said.out + said.err
    assert f"rmse: kept {kept['rmse'] - 0.02:.4f}, here {kept['rmse']:.4f}" in said.out + said.err


def test_seeds_say_how_far_apart_is_near() -> None:
    run = runs.load(NAME)
    kept = run.evaluation()
    spread = verify.kept_seeds()["conv_transpose"]["rmse"]
    for off, word in ((0.0, "equal"), (0.9, "within"), (1.1, "different")):
        here = kept | {"rmse": kept["rmse"] + off * float(spread.max() - spread.min())}
        found = {row.figure: row.verdict for row in verify.compared(run, here)}
        assert found.pop("rmse") == word and set(found.values()) <= {"equal"}


def test_all_that_have_figures_and_weights_are_meant() -> None:
    names = verify.kept_names()
    assert {"part3/reference", "part4/generative", NAME} < set(names)
    assert "part4/table1" not in names


def test_what_cannot_be_compared_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", "part2/scheduled-code2"]) == 2
    assert "runs holds part2/scheduled-code2" in capsys.readouterr().err
    assert main(["verify", "part3/nothing"]) == 2
    assert "run is 'part3/nothing'" in capsys.readouterr().err
