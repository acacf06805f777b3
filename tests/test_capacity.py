"""Widths, dropout and weight decay: what they do to a model, and what they leave as it was."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from learn2add import Autoencoder, as_float, recipes
from learn2add.capacity import Capacity
from learn2add.configs import RunConfig, Stage
from learn2add.data import Digits, load_digits
from learn2add.evaluation import reconstruct, reconstruction_rmse
from learn2add.models import code_of, encode
from learn2add.runs import Run
from learn2add.tracking import parameter_count
from learn2add.training import Progress, build_model, epoch_generator, train

KEPT = sorted((Path(__file__).parents[1] / "runs").glob("*/*/config.json"))
SMALL = {"channels": (4, 8, 16), "units": 32}
CONFIG = RunConfig((Stage("autoencoder", 3, 4, 32),), train_size=200, **SMALL)
ADDITION = RunConfig(
    (Stage("adder", 2, 4, 64, balance="cells"), Stage("addition", 1, 2, 32, balance="sums")),
    model="addition",
    dropout=0.5,
    **SMALL,
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


# What was before


@pytest.mark.parametrize("file", KEPT, ids=lambda file: "/".join(file.parts[-3:-1]))
def test_kept_configurations_mean_what_they_meant(file: Path) -> None:
    config = RunConfig.from_json(file.read_text())
    assert config.capacity == Capacity((32, 64, 128), 256, 0.0)
    assert {stage.weight_decay for stage in config.stages} == {0.0}
    assert config.differences(RunConfig.from_json(config.to_json())) == []


@pytest.mark.parametrize("hidden", ["linear", "relu"])
def test_layers_are_drawn_in_the_order_they_always_were(hidden: str) -> None:
    torch.manual_seed(4)
    sizes = [(1, 32), (32, 64), (64, 128)]
    layers = [nn.Conv2d(i, o, 3) for i, o in sizes]
    layers += [nn.Linear(1152, 256), nn.Linear(256, 7), nn.Linear(7, 256), nn.Linear(256, 6272)]
    layers += [nn.ConvTranspose2d(o, i, 3) for i, o in reversed(sizes)]
    config = RunConfig((Stage("autoencoder", 1),), seed=4, hidden=hidden)
    expected = [parameter for layer in layers for parameter in layer.parameters()]
    found = list(build_model(config).parameters())
    assert len(found) == len(expected)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


# Widths


@pytest.mark.parametrize("decoder", ["conv_transpose", "conv_upsample", "interpolation"])
def test_widths_are_counted_by_hand(decoder: str) -> None:
    model = Autoencoder(decoder, 10, capacity=Capacity((8, 16, 32), 64))
    convolutions = 9 * 8 + 8 + 9 * 8 * 16 + 16 + 9 * 16 * 32 + 32
    assert parameter_count(model.encoder) == convolutions + 9 * 32 * 64 + 64 + 64 * 10 + 10
    mirrored = 9 * 32 * 16 + 16 + 9 * 16 * 8 + 8 + 9 * 8 + 1
    linear = 10 * 64 + 64 + 64 * 49 * 32 + 49 * 32
    assert parameter_count(model.decoder) == linear + mirrored
    assert model(torch.rand(3, 1, 28, 28)).shape == (3, 1, 28, 28)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"channels": (8, 16)}, "channels"),
        ({"channels": (8, 16, 0)}, "channels.*1 to 1024.*0"),
        ({"channels": 8}, "channels"),
        ({"channels": ()}, "channels.*conv_transpose"),
        ({"decoder": "dense"}, "channels.*dense"),
        ({"units": 0}, "units"),
        ({"dropout": 1.0}, "dropout.*below 1"),
        ({"dropout": -0.1}, "dropout"),
        ({"dropout": float("nan")}, "dropout"),
    ],
)
def test_bad_capacities_are_refused(fields: dict, message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        replace(CONFIG, **fields)


def test_a_decoder_with_convolutions_wants_filters() -> None:
    with pytest.raises(ValueError, match="channels"):
        Autoencoder("conv_upsample", capacity=Capacity(()))


# Dropout


def test_dropout_is_noise_in_training_alone(digits) -> None:
    model = build_model(replace(CONFIG, dropout=0.5)).train()
    images = digits[1].images
    assert not torch.equal(encode(model, images), encode(model, images))
    model.eval()
    assert torch.equal(encode(model, images), encode(model, images))


@pytest.mark.parametrize("config", [replace(CONFIG, dropout=0.5), ADDITION], ids=["E, D", "P"])
def test_dropout_is_the_same_after_a_kill(config: RunConfig, digits, tmp_path: Path) -> None:
    torch.manual_seed(1)
    trained(config, digits, tmp_path / "whole")
    torch.manual_seed(2)
    trained(config, digits, tmp_path / "cut", stop_after=1)
    assert weights(tmp_path / "whole") == weights(tmp_path / "cut")


def test_figures_are_taken_without_dropout(digits, tmp_path: Path) -> None:
    config, folder = replace(CONFIG, dropout=0.5), tmp_path / "run"
    state = trained(config, digits, folder)
    found = reconstruction_rmse(Run(folder, config, state.history, {}).model("cpu"), digits[1])
    best = state.history[state.best_epoch - 1]
    assert found == pytest.approx(best["rmse/validation"], abs=1e-5)
    trained(CONFIG, digits, tmp_path / "without")
    assert weights(tmp_path / "without") != weights(folder)


# Weight decay


def test_weight_decay_is_adams_l2(digits) -> None:
    from learn2add.addition_tasks import make_task

    stage, rate, decay = Stage("autoencoder", 1, 1, 32, 1e-2, weight_decay=3.0), 1e-2, 3.0
    model = build_model(CONFIG)
    task = make_task(model, CONFIG, stage, *digits)
    before = [parameter.detach().clone() for parameter in task.parameters()]
    optimiser = task.optimiser()
    loss, _ = task.step(next(iter(task.batches(epoch_generator(0, 0, 0, "cpu")))))
    loss.backward()
    optimiser.step()
    for old, new in zip(before, task.parameters(), strict=True):
        gradient = new.grad + decay * old
        # Adam's first step: the gradient over its own size.
        expected = old - rate * gradient / (gradient.abs() + 1e-8)
        torch.testing.assert_close(new.detach(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"weight_decay": -1e-3}, "weight_decay.*0 or more"),
        ({"weight_decay": float("inf")}, "weight_decay"),
        ({"weight_decay": 1e-3, "optimiser": "muon"}, "weight_decay.*muon"),
    ],
)
def test_bad_decays_are_refused(fields: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Stage("autoencoder", 1, **fields)


# Fully connected


def test_the_dense_model_is_the_reports() -> None:
    model = build_model(recipes.dense_variational())
    assert not any(isinstance(part, nn.Conv2d | nn.ConvTranspose2d) for part in model.modules())
    encoder = 784 * 512 + 512 + 512 * 256 + 256 + 2 * (256 * 2 + 2)
    decoder = 2 * 256 + 256 + 256 * 512 + 512 + 512 * 784 + 784
    assert parameter_count(model.encoder) == encoder
    assert parameter_count(model.decoder) == decoder


def test_the_dense_model_trains_and_is_measured(digits, tmp_path: Path) -> None:
    config = recipes.dense_variational(budget="smoke")
    (stage,) = config.stages
    config = replace(config, stages=(replace(stage, epochs=1, steps=120),))
    state = trained(config, digits, tmp_path / "run")
    model = Run(tmp_path / "run", config, state.history, {}).model("cpu")
    validation = digits[1]
    mean = load_digits(split="train").images.float().mean(0) / 255
    floor = (as_float(validation.images) - mean).square().mean().sqrt()
    assert reconstruction_rmse(model, validation) < floor
    assert reconstruct(model, validation.images[:3]).shape == (3, 1, 28, 28)
    _, q = code_of(model.encoder, as_float(validation.images))
    assert q.mu.shape == q.logvar.shape == (100, 2)
