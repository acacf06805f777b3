"""The report's table of weights, and weights found by search."""

import json
import math

import numpy as np
import pytest

from learn2add import runs
from learn2add.data import load_digits
from learn2add.judge import load_judge
from learn2add.runs import load_or_train
from tools.experiments import table1
from tools.experiments.table1 import (
    RANGES,
    TABLE1,
    Weighting,
    main,
    measure,
    search_weights,
    weighting_config,
)


@pytest.fixture(autouse=True)
def _few_digits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Real digits, but so few that a validation takes no time."""
    for module in (runs, table1):
        monkeypatch.setattr(module, "load_digits", lambda *which: load_digits(*which).subset(600))


def test_the_table_is_the_reports() -> None:
    assert len(TABLE1) == 16
    assert len(set(TABLE1)) == 14
    assert [row.verdict for row in TABLE1].count("only fuzzy nines") == 6
    assert TABLE1[-1] == (0.1, 1, 0.00001, 0.00001, "correct")


@pytest.mark.parametrize("reading", ["mean", "summed"])
def test_the_scale_of_the_weights(reading) -> None:
    """Ours times the same factor equals the report's loss, whose images are means over elements."""
    pixels, summed = 784, {"image": 40.0, "kl": 3.5}
    row = Weighting(0.3, 0.7, 0.0001, 0.0002, "")
    config = weighting_config(row, reading=reading)
    weights = config.weights
    ours = (weights.l2_orig + weights.l2_added) * summed["image"]
    ours += (weights.kld_encoder + weights.kld_adder) * summed["kl"]
    theirs = (row.l2_orig + row.l2_added) * summed["image"] / pixels
    kl = {"mean": 1 / 7, "summed": config.stages[0].batch_size}[reading] * summed["kl"]
    theirs += (row.kld_encoder + row.kld_adder) * kl
    assert ours / theirs == pytest.approx(pixels)


def test_the_search_covers_the_table() -> None:
    for row in TABLE1:
        for name, (low, high) in RANGES.items():
            assert low <= getattr(row, name) <= high


def test_a_weighting_is_measured(tmp_path) -> None:
    run = load_or_train(weighting_config(TABLE1[0], steps=8), tmp_path / "run", progress=False)
    found = measure(run, load_judge(), load_digits("MNIST", "validation").subset(300))
    assert 0 <= found["accuracy"] <= 0.4  # nothing is learned in eight steps
    assert found["digits"] <= 3
    assert found["pictures"].shape == (10, 28, 28)
    assert len(found["kl_encoder"]) == len(found["kl_adder"]) == 7
    assert all(math.isfinite(nats) and nats >= 0 for nats in found["kl_encoder"])


def test_a_search_goes_on_where_it_stopped(tmp_path) -> None:
    journal = tmp_path / "studies" / "weights.log"
    first = search_weights(journal, 1, steps=4, progress=False).trials
    again = search_weights(journal, 2, steps=4, progress=False)
    assert [len(first), len(again.trials)] == [1, 2]
    assert again.trials[0].params == first[0].params
    assert again.trials[1].params != first[0].params
    assert again.best_value == max(trial.value for trial in again.trials if trial.value is not None)
    for name, (low, high) in RANGES.items():
        assert low <= again.best_params[name] <= high
    assert len(search_weights(journal, 2, steps=4, progress=False).trials) == 2


@pytest.mark.parametrize("trials", [0, -1, 2.5])
def test_no_search_without_trials(tmp_path, trials) -> None:
    with pytest.raises((ValueError, TypeError), match="trials"):
        search_weights(tmp_path / "weights.log", trials)
    assert not (tmp_path / "weights.log").exists()


@pytest.mark.slow
def test_the_table_is_kept(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setenv("LEARN2ADD_RUNS", str(tmp_path / "runs"))
    some = TABLE1[7:10]  # two of them alike
    monkeypatch.setattr(table1, "TABLE1", some)
    words = ["--steps", "2", "--trials", "1", "--search-steps", "4", "--budget", "smoke"]
    main([*words, "--folder", str(tmp_path / "kept")])
    table = json.loads((tmp_path / "kept" / "table.json").read_text())
    assert [row["weights"] for row in table["rows"][:-1]] == [list(row[:4]) for row in some]
    assert table["rows"][-1]["verdict"] == "found by search"
    assert np.load(tmp_path / "kept" / "pictures.npy").shape == (4, 10, 28, 28)
    assert (table["steps"], table["search_steps"], len(table["trials"])) == (2, 4, 1)
    assert capsys.readouterr().out.count("right") == 4
    assert len(list((tmp_path / "runs").rglob("weights.safetensors"))) == 3
    main(["--steps", "2", "--reading", "summed", *words[-2:], "--folder", str(tmp_path / "kept")])
    summed = json.loads((tmp_path / "kept" / "summed.json").read_text())
    assert [row["weights"] for row in summed["rows"]] == [list(row[:4]) for row in some]
    assert np.load(tmp_path / "kept" / "summed_pictures.npy").shape == (3, 10, 28, 28)
    assert len(list((tmp_path / "runs").rglob("weights.safetensors"))) == 5
