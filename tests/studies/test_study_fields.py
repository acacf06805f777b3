"""What studies add to a training travels as JSON, is the reports', trains and is measured."""

from dataclasses import replace
from pathlib import Path

from torch import nn

from learn2add.config import RunConfig
from learn2add.data import Digits, as_float, load_digits
from learn2add.measures import reconstruct, reconstruction_rmse
from learn2add.network import code_of, parameter_count
from learn2add.runs import Run
from learn2add.studies.corrupted import CorruptedConfig, CorruptedStage
from learn2add.studies.latent import dense_variational
from learn2add.train import build_model, train


def test_a_corrupted_stage_travels_as_json() -> None:
    config = CorruptedConfig((CorruptedStage("autoencoder", 1, noise=0.3, occlude=8),))
    read = RunConfig.from_json(config.to_json())
    assert read == config and type(read) is CorruptedConfig
    assert type(read.stages[0]) is CorruptedStage


def test_the_dense_model_is_the_reports() -> None:
    model = build_model(dense_variational())
    assert not any(isinstance(part, nn.Conv2d | nn.ConvTranspose2d) for part in model.modules())
    encoder = 784 * 512 + 512 + 512 * 256 + 256 + 2 * (256 * 2 + 2)
    decoder = 2 * 256 + 256 + 256 * 512 + 512 + 512 * 784 + 784
    assert parameter_count(model.encoder) == encoder
    assert parameter_count(model.decoder) == decoder


def test_the_dense_model_trains_and_is_measured(
    training_digits: tuple[Digits, Digits], tmp_path: Path
) -> None:
    config = dense_variational(epochs=1)
    (stage,) = config.stages
    sizes = {"train_size": 200, "validation_size": 100}
    config = replace(config, stages=(replace(stage, steps=120),), **sizes)
    state = train(config, *training_digits, tmp_path, progress=False)
    model = Run(tmp_path, config, state.history, {}).model("cpu")
    validation = training_digits[1]
    mean = load_digits(split="train").images.float().mean(0) / 255
    floor = (as_float(validation.images) - mean).square().mean().sqrt()
    assert reconstruction_rmse(model, validation) < floor
    assert reconstruct(model, validation.images[:3]).shape == (3, 1, 28, 28)
    _, q = code_of(model.encoder, as_float(validation.images))
    assert q.mu.shape == q.logvar.shape == (130, 2)
