"""The tools that make kept figures, in seconds of training."""

import json
import runpy
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from learn2add.data import load_digits
from learn2add.evidence import kept_seeds
from learn2add.judge import load_judge
from learn2add.runs import load
from tools.experiments import (
    blur,
    code_sizes,
    counting,
    folds,
    hyper_parameters,
    long_codes,
    reports,
    seeds,
    time_to_quality,
)

TOOLS = Path(__file__).parents[2] / "tools"


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
    seeds.main(words)
    rows = {file.stem: json.loads(file.read_text()) for file in (tmp_path / "kept").iterdir()}
    assert len(rows) == 2 * 10
    drawn = "conv_transpose", "conv_upsample", "addition", "generative_addition"
    for name in (*drawn, "scratch", "scratch_embedded"):
        assert rows[f"{name}-0"]["rmse"] != rows[f"{name}-1"]["rmse"]
    for name in ("adder", "adder_embedded"):
        assert rows[f"{name}-0"]["cells_mean"] != rows[f"{name}-1"]["cells_mean"]

    weights = sorted((tmp_path / "runs").rglob("weights.safetensors"))
    assert len(weights) == 2 * 8
    (tmp_path / "kept" / "addition-1.json").unlink()
    (tmp_path / "runs" / "quick").rename(tmp_path / "runs" / "elsewhere")
    seeds.main(words)
    (again,) = (tmp_path / "runs" / "quick").rglob("weights.safetensors")
    assert again.parent.name == "addition-1"
    row = json.loads((tmp_path / "kept" / "addition-1.json").read_text())
    assert row | {"seconds": 0} == rows["addition-1"] | {"seconds": 0}


@pytest.mark.slow
@pytest.mark.parametrize("embed", [False, True])
def test_an_adder_learns_between_the_kept_encoder_and_decoder(embed):
    given = {"steps": 300, "judge": load_judge(), "test": load_digits("MNIST", "test").subset(300)}
    assert seeds.adder_alone(0, embed, **given)["cells_mean"] > 0.8


@pytest.mark.slow
@pytest.mark.parametrize(("extra", "name"), [([], "times"), (["--counting"], "counting")])
def test_time_to_quality_measures_both_splits(extra, name, tmp_path, capsys):
    words = ["--budget", "smoke", "--folder", str(tmp_path / "kept"), *extra]
    time_to_quality.main(words)
    (file,) = (tmp_path / "kept").iterdir()
    assert file.stem.removesuffix("-float32") == name
    (row,) = json.loads(file.read_text())
    assert row["goal"] == "95 % of the sums right"
    assert 0 < row["seconds"] < 60 and row["gflops"] > 1
    assert row["validation"] != row["test"]
    assert f"{row['test']:.4f}" in capsys.readouterr().out


@pytest.mark.slow
def test_adders_and_hands_are_measured_once(tmp_path, monkeypatch):
    monkeypatch.setenv("LEARN2ADD_RUNS", str(tmp_path / "runs"))
    words = ["--budget", "smoke", "--seeds", "1", "--folder", str(tmp_path / "kept")]
    counting.main(words)
    rows = kept_seeds(tmp_path / "kept")
    assert set(rows) == {
        *(f"adders-{rule}-random" for rule in counting.RULES),
        *(f"adders-{rule}-similar" for rule in counting.RULES if rule != "small"),
        *(f"cells-{rule}-6" for rule in ("assigned", "counting")),
        *("joint-hand", "joint-one"),
        *(f"dead-{name}" for name in counting.DEAD),
    }
    row = rows["adders-matrix-similar"]
    assert {"parameters", "held_out", "dead", "one_less", "slant", "sharpness"} < set(row)
    assert rows["joint-hand"]["cells"].shape == (1, 10, 10)
    assert {"counting_held_out", "hand_slant", "sharpness"} < set(rows["joint-hand"])
    assert "taught_one" in rows["joint-one"]
    written = {file: file.stat().st_mtime_ns for file in (tmp_path / "kept").iterdir()}
    counting.main(words)
    assert written == {file: file.stat().st_mtime_ns for file in (tmp_path / "kept").iterdir()}


@pytest.mark.slow
def test_models_differ_in_nothing_but_the_blur(tmp_path, monkeypatch):
    monkeypatch.setenv("LEARN2ADD_RUNS", str(tmp_path / "runs"))
    sharp, blurred = (blur.config_of("addition", b, 1, "quick", 800) for b in (False, True))
    joint = replace(blurred.stages[-1], addend_noise=0.0)
    assert blurred != sharp == replace(blurred, stages=(*blurred.stages[:-1], joint))
    words = ["--budget", "smoke", "--seeds", "1", "--steps", "3"]
    blur.main([*words, "--folder", str(tmp_path / "kept")])
    rows = kept_seeds(tmp_path / "kept")
    kinds = [f"{model}_{kind}" for model in blur.MODELS for kind in ("blurred", "sharp")]
    assert sorted(rows) == sorted(kinds)
    assert rows["addition_blurred"]["width"].shape == (1,)


@pytest.mark.slow
def test_code_sizes_are_trained_once(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("LEARN2ADD_RUNS", str(tmp_path / "runs"))
    words = ["--sizes", "1", "30", "--budget", "smoke", "--folder", str(tmp_path / "kept")]
    code_sizes.main(words)
    table = json.loads((tmp_path / "kept" / "errors.json").read_text())
    assert table["code_sizes"] == [1, 30] and all(0 < error < 0.3 for error in table["mse"])
    assert f"{table['mse'][1]:.4f}" in capsys.readouterr().out
    weights = sorted((tmp_path / "runs").rglob("weights.safetensors"))
    written = [file.stat().st_mtime_ns for file in weights]
    assert len(weights) == 2
    code_sizes.main(words)
    assert [file.stat().st_mtime_ns for file in weights] == written


@pytest.mark.slow
def test_long_codes_are_measured_at_every_strength(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("LEARN2ADD_RUNS", str(tmp_path / "runs"))
    words = ["--passes", "2", "--budget", "smoke", "--names", "code4-noise", "code64-noise"]
    long_codes.main([*words, "--folder", str(tmp_path / "kept")])
    table = json.loads((tmp_path / "kept" / "figures.json").read_text())
    assert list(table["runs"]) == ["code4-noise", "code64-noise"]
    printed = capsys.readouterr().out
    for name, row in table["runs"].items():
        for split in ("validation", "test"):
            assert len(row[split]["mse"]) == len(row[split]["psnr"]) == len(table["strengths"])
        assert row["validation"]["mse"] != row["test"]["mse"]
        assert f"{name}: squared error {row['test']['mse'][0]:.5f}" in printed
    weights = sorted((tmp_path / "runs").rglob("weights.safetensors"))
    assert [file.parent.name for file in weights] == ["code4-noise", "code64-noise"]


@pytest.mark.slow
def test_the_reports_runs_are_kept_and_measured(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("LEARN2ADD_RUNS", str(tmp_path / "runs"))
    kept = tmp_path / "kept"
    words = ["--budget", "smoke", "--folder", str(kept), "--seeds", "2", "--names"]
    reports.main([*words, "003-noise", "code2-variational"])
    table = json.loads((kept / "figures.json").read_text())
    assert list(table) == [
        *("003-noise", "003-noise-seed1", "code2-variational", "code2-variational-seed1")
    ]
    assert table["003-noise"]["test"] != table["003-noise-seed1"]["test"]
    assert f"{table['003-noise']['test']:.5f}" in capsys.readouterr().out
    for name in ("003-noise", "code2-variational"):
        found = json.loads((kept / name / "evaluation.json").read_text())
        assert found["rmse"] ** 2 == pytest.approx(table[name]["test"], rel=0.05)  # of eight bits
    assert load(kept / "003-noise").config.stages[0].exact
    written = {file: file.stat().st_mtime_ns for file in kept.rglob("*.*") if file.parent != kept}
    reports.main([*words[:-3], "--names", "003-noise", "002", "grid-winner"])
    again = json.loads((kept / "figures.json").read_text())
    assert list(again) == ["002", *table, "grid-winner"]
    assert again["grid-winner"]["weights"] > 1.5 * again["002"]["weights"]
    assert not (kept / "grid-winner").exists()
    assert written.items() <= {f: f.stat().st_mtime_ns for f in kept.rglob("*.*")}.items()


@pytest.mark.slow
def test_folds_leave_each_digit_out_once(tmp_path, monkeypatch):
    monkeypatch.setenv("LEARN2ADD_RUNS", str(tmp_path / "runs"))
    digits = folds.everything("smoke")
    parts = [folds.part(digits, fold, left_out=True) for fold in range(folds.FOLDS)]
    assert [len(part) for part in parts] == [60] * 5
    held = torch.cat([part.images.flatten(1) for part in parts]).unique(dim=0)
    assert torch.equal(held, digits.images.flatten(1).unique(dim=0))
    assert len(folds.part(digits, 2, left_out=False)) == 240
    folds.main(["--budget", "smoke", "--epochs", "2", "--folder", str(tmp_path / "kept")])
    found = json.loads((tmp_path / "kept" / "folds.json").read_text())
    assert len(set(found["errors"])) == 5 and all(0 < error < 0.3 for error in found["errors"])


@pytest.mark.slow
def test_a_search_is_kept_and_goes_on(tmp_path, monkeypatch, capsys):
    pytest.importorskip("sklearn")
    monkeypatch.setenv("LEARN2ADD_RUNS", str(tmp_path / "runs"))
    words = ["draws", "--count", "9", "--budget", "smoke", "--folder", str(tmp_path / "kept")]
    hyper_parameters.main(words)
    table = json.loads((tmp_path / "kept" / "draws-smoke.json").read_text())
    assert [row["place"] for row in table["outcomes"]] == list(range(10))
    assert all(0 < row["mse"] < 0.3 for row in table["outcomes"])
    assert {"learning_rate", "decay", "dropout"} < set(table["importance"])
    assert "best: place" in capsys.readouterr().out
    hyper_parameters.main(words)
    assert json.loads((tmp_path / "kept" / "draws-smoke.json").read_text()) == table


def test_results_have_the_tables_of_the_kept_runs(capsys):
    runpy.run_path(str(TOOLS / "results.py"), run_name="__main__")
    tables = capsys.readouterr().out.strip().split("\n\n")
    runs, *others = (table.count("\n") + 1 for table in tables)
    assert runs > 2 + 12 + 4  # head, Part II, Parts III and IV
    assert others == [2 + 7 + 2, 2 + 3, 2 + 5]  # adders that count, reports 002 and 003, 004
    text = (TOOLS.parent / "RESULTS.md").read_text()
    assert all(table in text for table in tables)


SCRIPTS = [
    file.relative_to(TOOLS).as_posix()
    for folder in (TOOLS, TOOLS / "experiments")
    for file in sorted(folder.glob("*.py"))
    if "ArgumentParser" in (text := file.read_text()) or "options(__doc__" in text
]


HELPED = """
import runpy, sys
for script in sys.argv[1:]:
    sys.argv = [script, "--help"]
    try:
        runpy.run_path(script, run_name="__main__")
    except SystemExit as end:
        assert not end.code, script
"""


@pytest.mark.slow
def test_tools_run_from_any_folder(tmp_path):
    """All in one process, which imports torch once."""
    scripts = [str(TOOLS / name) for name in SCRIPTS if not name.endswith("_keep.py")]
    words = [sys.executable, "-c", HELPED, *scripts]
    done = subprocess.run(words, cwd=tmp_path, check=True, capture_output=True, text=True)
    assert done.stdout.count("usage:") == len(scripts) > 10
