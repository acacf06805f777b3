"""Report 004's auto-decoders, trained as it did and beside others."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from learn2add.data import as_float, load_digits
from learn2add.studies.auto_decoder import DecoderDCGAN
from tools.experiments import report004
from tools.experiments.report004 import PLANS, Model, Objective, Training, fitted, main


@pytest.fixture(scope="module")
def clothes():
    return load_digits("FashionMNIST", "train").subset(40)


def test_the_loss_is_that_of_the_courses_script(clothes):
    """``torch.norm(x - x_rec) / torch.prod(torch.tensor(x.shape))``, grey levels from 0 to 255."""
    torch.manual_seed(0)
    plan, x = PLANS["report-point"], as_float(clothes.images)
    model = Model(plan, len(x)).eval()
    generator = torch.Generator().manual_seed(0)
    objective = Objective(plan, model.decoder, plan.kl, generator)
    loss = objective(model.table, x)
    drawn = 255 * model.decoder(model.table[:, 0])
    theirs = torch.norm(255 * x - drawn) / torch.prod(torch.tensor(x.shape))
    assert loss.item() == pytest.approx(theirs.item(), rel=1e-4)
    assert objective.parts["nats"] == 0


@pytest.mark.parametrize(("name", "share"), [("report-gaussian", 1 / 128), ("bound-uniform", 1)])
def test_the_divergence_counts_as_a_mean_or_a_sum(name, share):
    plan, x = PLANS[name], torch.rand(3, 1, 28, 28)
    torch.manual_seed(0)
    model = Model(plan, 3).eval()
    generator = torch.Generator().manual_seed(0)
    objective = Objective(plan, model.decoder, plan.kl, generator)
    loss, parts = objective(model.table, x), objective.parts
    assert loss.item() - parts["image"] == pytest.approx(share * parts["nats"], rel=1e-3)
    assert parts["nats"] > 10


@pytest.mark.parametrize(
    ("narrow", "wide", "nats"),
    [
        ("bound-gaussian", "bound-gaussian-wide", (0.0, 0.1)),
        ("bound-uniform-long", "bound-uniform-wide", (6.5, 6.6)),  # of 128 times -ln 0.95
    ],
)
def test_a_control_begins_with_the_priors_widths_and_the_same_means(narrow, wide, nats):
    tables = []
    for name in (narrow, wide):
        torch.manual_seed(0)
        tables.append(Model(PLANS[name], 3).table)
    assert torch.equal(tables[0][:, 0], tables[1][:, 0])
    many, few = (PLANS[narrow].family.kl(table) for table in tables)
    assert nats[0] < few.min() and few.max() < nats[1]
    assert many.min() > 90


def test_a_training_that_was_stopped_goes_on(clothes, tmp_path, monkeypatch):
    monkeypatch.setattr(report004, "SAVE_EVERY", 1)
    plan, ends = replace(PLANS["report-gaussian"], epochs=1), []
    for stops in ((2,), (0, 1, 2)):
        for free in stops:
            torch.manual_seed(0)
            model = Model(plan, len(clothes))
            file = tmp_path / f"{len(stops)}.pt"
            curve = Training(replace(plan, free=free), model, clothes.images, file).run()
        ends.append((curve, model.state_dict()))
    assert ends[0][0] == ends[1][0] and len(ends[0][0]["loss"]) == 3
    assert all(torch.equal(ends[0][1][key], ends[1][1][key]) for key in ends[0][1])
    assert curve["loss"][0] > curve["image"][0] and curve["loss"][1] == curve["image"][1]


@pytest.mark.parametrize("name", ["bound-point", "report-point"])
def test_fitting_draws_nearer_and_leaves_the_decoder(name, clothes):
    torch.manual_seed(0)
    plan, decoder = replace(PLANS[name], steps=8), DecoderDCGAN()
    before = {key: value.clone() for key, value in decoder.state_dict().items()}
    start, few = torch.zeros(6, 1, 128), clothes.images[:6]
    rows = fitted(plan, decoder, start, few, kl=0.0, rate=0.05)
    errors = [report004.errors(decoder, each[:, 0], few)["rmse"] for each in (start, rows)]
    assert errors[1] < errors[0]
    assert all(torch.equal(value, before[key]) for key, value in decoder.state_dict().items())


@pytest.mark.slow
def test_figures_and_images_are_kept_once(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("LEARN2ADD_RUNS", str(tmp_path / "runs"))
    words = ["--budget", "smoke", "--folder", str(tmp_path / "kept")]
    words += ["--only", "report-gaussian", "bound-gaussian-encoder"]
    main(words)
    found = json.loads((tmp_path / "kept" / "report-gaussian-0.json").read_text())
    assert len(found["curve"]["nats"]) == 3
    assert {"train", "further", "test", "classes", "samples"} <= found.keys()
    assert found["train"]["report"] == pytest.approx(
        255 * found["train"]["rmse"] / (784 * 32) ** 0.5, rel=0.05
    )
    with np.load(tmp_path / "kept" / "bound-gaussian-encoder-0.npz") as drawn:
        assert drawn["way"].shape == drawn["test, drawn"].shape == (10, 28, 28)
        assert drawn["test, map"].shape == (60, 2)
    assert capsys.readouterr().out.count("train") == 2
    main(words)
    assert capsys.readouterr().out == ""


def test_what_is_drawn_on_the_way_is_kept_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("LEARN2ADD_RUNS", str(tmp_path / "runs"))
    words = ["--budget", "smoke", "--folder", str(tmp_path / "kept"), "--only", "bound-encoder"]
    for until in (1, 3):
        main([*words, "--until", str(until)])
    first, third = (np.load(tmp_path / "kept" / f"bound-encoder-0-epoch{n}.npz") for n in (1, 3))
    assert first["train, drawn"].shape == (10, 28, 28)
    assert (first["train, drawn"] != third["train, drawn"]).any()
    assert len(list((tmp_path / "kept").iterdir())) == 2
    with pytest.raises(SystemExit):
        main([*words, "--until", "0"])
