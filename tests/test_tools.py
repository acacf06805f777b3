"""The tools that make kept figures, in seconds of training."""

import json
import runpy
import sys
from pathlib import Path

import pytest

TOOLS = Path(__file__).parents[1] / "tools"


@pytest.mark.slow
def test_seeds_are_trained_once_and_differ(tmp_path, monkeypatch):
    monkeypatch.setenv("LEARN2ADD_RUNS", str(tmp_path / "runs"))
    words = [
        "--budget",
        "smoke",
        "--seeds",
        "2",
        "--steps",
        "4",
        "--folder",
        str(tmp_path / "kept"),
    ]
    monkeypatch.setattr(sys, "argv", ["seeds.py", *words])
    runpy.run_path(str(TOOLS / "seeds.py"), run_name="__main__")
    table = json.loads((tmp_path / "kept" / "seeds.json").read_text())
    assert set(table["decoders"]) == {"conv_transpose", "conv_upsample"}
    assert len(table["models"]) == 4
    for first, second in (table["decoders"] | table["models"]).values():
        assert first["rmse"] != second["rmse"]
    assert all("cells_mean" in seed for model in table["models"].values() for seed in model)

    weights = sorted((tmp_path / "runs").rglob("weights.safetensors"))
    written = [file.stat().st_mtime_ns for file in weights]
    assert len(weights) == 2 * 6
    runpy.run_path(str(TOOLS / "seeds.py"), run_name="__main__")
    assert [file.stat().st_mtime_ns for file in weights] == written
    assert json.loads((tmp_path / "kept" / "seeds.json").read_text()) == table


@pytest.mark.slow
def test_time_to_quality_measures_both_splits(tmp_path, monkeypatch, capsys):
    words = ["--budget", "smoke", "--folder", str(tmp_path / "kept")]
    monkeypatch.setattr(sys, "argv", ["time_to_quality.py", *words])
    runpy.run_path(str(TOOLS / "time_to_quality.py"), run_name="__main__")
    (row,) = json.loads((tmp_path / "kept" / "times.json").read_text())
    assert row["goal"] == "95 % of the sums right"
    assert 0 < row["seconds"] < 60 and row["gflops"] > 1
    assert row["validation"] != row["test"]
    assert f"{row['test']:.4f}" in capsys.readouterr().out


@pytest.mark.slow
def test_code_sizes_are_trained_once(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("LEARN2ADD_RUNS", str(tmp_path / "runs"))
    words = ["--sizes", "1", "30", "--budget", "smoke", "--folder", str(tmp_path / "kept")]
    monkeypatch.setattr(sys, "argv", ["code_sizes.py", *words])
    runpy.run_path(str(TOOLS / "code_sizes.py"), run_name="__main__")
    table = json.loads((tmp_path / "kept" / "errors.json").read_text())
    assert table["code_sizes"] == [1, 30] and all(0 < error < 0.3 for error in table["mse"])
    assert f"{table['mse'][1]:.4f}" in capsys.readouterr().out
    weights = sorted((tmp_path / "runs").rglob("weights.safetensors"))
    written = [file.stat().st_mtime_ns for file in weights]
    assert len(weights) == 2
    runpy.run_path(str(TOOLS / "code_sizes.py"), run_name="__main__")
    assert [file.stat().st_mtime_ns for file in weights] == written


@pytest.mark.slow
def test_a_search_is_kept_and_goes_on(tmp_path, monkeypatch, capsys):
    pytest.importorskip("sklearn")
    monkeypatch.setenv("LEARN2ADD_RUNS", str(tmp_path / "runs"))
    words = ["draws", "--count", "9", "--budget", "smoke", "--folder", str(tmp_path / "kept")]
    monkeypatch.setattr(sys, "argv", ["hyper_parameters.py", *words])
    runpy.run_path(str(TOOLS / "hyper_parameters.py"), run_name="__main__")
    table = json.loads((tmp_path / "kept" / "draws-smoke.json").read_text())
    assert [row["place"] for row in table["outcomes"]] == list(range(10))
    assert all(0 < row["mse"] < 0.3 for row in table["outcomes"])
    assert {"learning_rate", "decay", "dropout"} < set(table["importance"])
    assert "best: place" in capsys.readouterr().out
    runpy.run_path(str(TOOLS / "hyper_parameters.py"), run_name="__main__")
    assert json.loads((tmp_path / "kept" / "draws-smoke.json").read_text()) == table
