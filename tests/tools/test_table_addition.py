"""Adding without an encoder: codes of a table, codes that are found."""

import json
from dataclasses import replace

import pytest
import torch

from learn2add.data import as_float, load_digits
from tools.experiments.report004 import Model
from tools.experiments.table_addition import PLANS, Search, TableAdderStep, main, with_adder


def test_the_adder_learns_on_the_table_and_nothing_else_is_changed():
    torch.manual_seed(0)
    model = Model(replace(PLANS["sums-table"], steps=1), 60).eval()
    digits = tuple(load_digits("MNIST", split).subset(60) for split in ("train", "validation"))
    before = {key: value.clone() for key, value in model.state_dict().items()}
    adding = with_adder(model, digits, 20)
    assert isinstance(adding.encoder, Search)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    config = type("Config", (), {"held_out": ()})
    stage = type("Stage", (), {"balance": "cells", "steps": 1, "batch_size": 8, "restarts": 1})
    step = TableAdderStep(adding, config, stage, *digits)
    assert torch.equal(step.codes, model.table[:, 0])
    found = step.validation_codes
    torch.testing.assert_close(found, adding.encoder(as_float(digits[1].images)))


@pytest.mark.slow
def test_figures_are_kept_once(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("LEARN2ADD_RUNS", str(tmp_path / "runs"))
    words = ["--budget", "smoke", "--seeds", "1", "--folder", str(tmp_path / "kept")]
    main(words)
    for name in PLANS:
        found = json.loads((tmp_path / "kept" / f"{name}-0.json").read_text())
        assert 0 <= found["cells_mean"] <= 1
        assert sum(found[key] for key in ("misread", "misadded", "misdrawn")) == pytest.approx(1)
        assert ("slow_search" in found) == (name != "sums-encoder")
    assert capsys.readouterr().out.count("right") == 3
    main(words)
    assert capsys.readouterr().out == ""
