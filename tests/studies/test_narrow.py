"""The narrow autoencoder of two reports: its layers, dropout, weight decay and early stopping."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from learn2add import runs
from learn2add.config import RunConfig
from learn2add.data import Digits, as_float, in_batches, load_digits
from learn2add.network import code_of, parameter_count
from learn2add.studies.narrow import (
    BEST_002,
    GRID,
    NarrowConfig,
    NarrowStage,
    narrow,
    setting_config,
)
from learn2add.tensorboard import read_metrics
from learn2add.train import Progress, build_model, train

CONFIG = NarrowConfig(
    (NarrowStage("autoencoder", 3, 4, 32),), channels=(4, 8, 16), units=32, train_size=200
)


@pytest.fixture(scope="module")
def digits() -> tuple[Digits, Digits]:
    return load_digits(split="train").subset(200), load_digits(split="validation").subset(100)


class Stopped(Exception):
    pass


def trained(config, digits, folder: Path, *, stop_after: int | None = None) -> Progress:
    """Train; or be cut off after an epoch and go on."""
    folder.mkdir()

    def cut(row: dict) -> None:
        if row["epoch"] == stop_after:
            raise Stopped

    if stop_after:
        with pytest.raises(Stopped):
            train(config, *digits, folder, progress=False, after_epoch=cut)
    return train(config, *digits, folder, progress=False)


def weights(folder: Path) -> bytes:
    return (folder / "weights.safetensors").read_bytes()


def test_weights_are_counted_by_hand() -> None:
    config = setting_config(BEST_002, CONFIG.stages[0])
    assert RunConfig.from_json(config.to_json()) == config
    model = config.build()
    convolutions = 9 * 8 + 8 + 9 * 8 * 16 + 16 + 9 * 16 * 32 + 32
    assert parameter_count(model.encoder) == convolutions + 9 * 32 * 64 + 64 + 64 * 10 + 10
    mirrored = 9 * 32 * 16 + 16 + 9 * 16 * 8 + 8 + 9 * 8 + 1
    assert parameter_count(model.decoder) == 10 * 64 + 64 + 64 * 288 + 288 + mirrored


def test_sides_are_those_of_stride_2() -> None:
    model = NarrowConfig((NarrowStage("autoencoder", 1),), channels=(3, 4, 5), units=6).build()
    sides = []
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            layer.register_forward_hook(lambda *arguments: sides.append(arguments[2].shape[1:]))
    assert model(torch.rand(2, 1, 28, 28)).shape == (2, 1, 28, 28)
    inward = [(3, 14, 14), (4, 7, 7), (5, 3, 3)]
    assert sides == [*inward, (4, 7, 7), (3, 14, 14), (1, 28, 28)]


def test_dropout_is_behind_every_layer_but_the_last() -> None:
    model = replace(CONFIG, dropout=0.3).build()
    assert sum(isinstance(part, nn.Dropout) for part in model.encoder.modules()) == 3 + 1
    assert sum(isinstance(part, nn.Dropout) for part in model.decoder.modules()) == 2 + 2
    assert not [part for part in CONFIG.build().modules() if isinstance(part, nn.Dropout)]


def test_a_variational_one_has_a_second_head() -> None:
    plain, variational = narrow(3).build(), narrow(3, variational=True).build()
    more = parameter_count(variational) - parameter_count(plain)
    assert more == 64 * 3 + 3
    z, q = code_of(variational.encoder, torch.rand(2, 1, 28, 28))
    assert z is q.mu and q.logvar.shape == (2, 3)


@pytest.mark.parametrize(
    ("part", "fields", "message"),
    [
        (CONFIG, {"channels": (8, 16)}, "channels.*three"),
        (CONFIG, {"channels": (8, 16, 0)}, "channels.*0"),
        (CONFIG, {"units": 0}, "units"),
        (CONFIG, {"dropout": 1.0}, "dropout"),
        (CONFIG, {"dropout": -0.1}, "dropout"),
        (CONFIG, {"dropout": math.nan}, "dropout"),
        (CONFIG.stages[0], {"weight_decay": -1e-3}, "weight_decay"),
        (CONFIG.stages[0], {"weight_decay": math.inf}, "weight_decay"),
        (CONFIG.stages[0], {"optimiser": "muon", "weight_decay": 0.1}, "optimiser.*adam"),
        (CONFIG, {"image_size": 32}, "image_size.*28"),
        (CONFIG, {"decoder": "interpolation"}, "decoder.*conv_transpose"),
        (CONFIG, {"activation": "linear"}, "activation.*relu"),
        (CONFIG.stages[0], {"patience": 0}, "patience"),
    ],
)
def test_bad_values_are_refused(part, fields: dict, message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        replace(part, **fields)


def test_dropout_is_noise_in_training_alone(digits) -> None:
    encoder = build_model(replace(CONFIG, dropout=0.5)).train().encoder
    images = digits[1].images
    assert not torch.equal(in_batches(encoder, images), in_batches(encoder, images))
    encoder.eval()
    assert torch.equal(in_batches(encoder, images), in_batches(encoder, images))


def test_dropout_is_the_same_after_a_kill(digits, tmp_path: Path) -> None:
    config = replace(CONFIG, dropout=0.5)
    torch.manual_seed(1)
    trained(config, digits, tmp_path / "whole")
    torch.manual_seed(2)
    trained(config, digits, tmp_path / "cut", stop_after=1)
    assert weights(tmp_path / "whole") == weights(tmp_path / "cut")


def test_figures_are_taken_without_dropout(digits, tmp_path: Path) -> None:
    config, folder = replace(CONFIG, dropout=0.5), tmp_path / "run"
    state = trained(config, digits, folder)
    model = runs.Run(folder, config, state.history, {}).model("cpu")
    x = as_float(digits[1].images)
    found = float((model(x) - x).square().mean().sqrt())
    assert found == pytest.approx(state.history[state.best_epoch - 1]["rmse/validation"], abs=1e-5)
    trained(CONFIG, digits, tmp_path / "without")
    assert weights(tmp_path / "without") != weights(folder)


def test_weight_decay_is_adams_l2(digits) -> None:
    rate, decay = 1e-2, 3.0
    stage = NarrowStage("autoencoder", 1, 1, 32, rate, weight_decay=decay)
    step = CONFIG.step(stage, build_model(CONFIG), *digits)
    before = [parameter.detach().clone() for parameter in step.parameters()]
    optimiser = step.optimiser()
    loss, _ = step(next(iter(step.batches(torch.Generator().manual_seed(0)))))
    loss.backward()
    optimiser.step()
    for old, new in zip(before, step.parameters(), strict=True):
        gradient = new.grad + decay * old
        # Adam's first step: the gradient over its own size.
        expected = old - rate * gradient / (gradient.abs() + 1e-8)
        torch.testing.assert_close(new.detach(), expected, rtol=1e-4, atol=1e-5)


def patient(patience: int, *stage: object) -> NarrowConfig:
    return replace(CONFIG, stages=(NarrowStage("autoencoder", *stage, patience=patience),))


@pytest.mark.parametrize("patience", [1, 3])
def test_early_stopping(digits, tmp_path: Path, patience: int) -> None:
    """At a rate too small to move float32 weights, no epoch after the first is better."""
    config, folder = patient(patience, 9, 1, 32, 1e-30), tmp_path / "run"
    state = trained(config, digits, folder)
    assert state.finished and len(state.history) == 1 + patience
    assert state.best_epoch == 1
    assert len(read_metrics(folder / "metrics.csv")) == 1 + patience
    again = train(config, *digits, folder, progress=False)
    assert again.history == state.history  # nothing left to train


def test_early_stopping_goes_on_with_the_next_stage(digits, tmp_path: Path) -> None:
    (still,) = patient(1, 9, 1, 32, 1e-30).stages
    config = replace(CONFIG, stages=(still, NarrowStage("autoencoder", 2, 1, 32, 1e-3)))
    state = trained(config, digits, tmp_path / "run")
    assert [row["stage"] for row in state.history] == [0, 0, 1, 1]
    assert state.best_epoch in (3, 4)


def test_improving_epochs_are_not_stopped(digits, tmp_path: Path) -> None:
    state = trained(patient(1, 4, 4, 32, 2e-4), digits, tmp_path / "run")
    losses = [row["loss/validation"] for row in state.history]
    assert losses == sorted(losses, reverse=True), "this test needs an improving training"
    assert len(losses) == 4


def test_a_setting_is_the_reports() -> None:
    config = setting_config({}, NarrowStage("autoencoder", 5, patience=10))
    assert config.channels == (8, 16, 32) and config.units == 64 and config.code_size == 10
    assert all(BEST_002[name] in values for name, values in GRID.items())
    assert config.stages[0].learning_rate == 0.001
    # The report's loss is a mean over 784 pixels, ours their sum: the same balance of both terms.
    assert config.stages[0].weight_decay == pytest.approx(784 * 1e-5)
    assert config.stages[0].patience == 10 and config.dropout == 0


def test_our_recipe_is_the_evidence_lower_bound_where_variational() -> None:
    config = narrow(3, variational=True)
    assert config.model == "variational_autoencoder" and config.weights.kld_encoder == 1
    assert [stage.loss for stage in config.stages] == ["bce"]


def test_autoencoders_that_are_compared_differ_in_the_task_alone() -> None:
    assert narrow().differences(narrow(distort=4.0)) == ["stages.0.distort: 0.0, not 4.0"]
