"""Configurations: they travel as JSON, and what makes no sense is refused in one sentence."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from learn2add.config import BALANCES, LossWeights, RunConfig, Stage
from learn2add.pairs import CELLS

KEPT = sorted((Path(__file__).parents[2] / "runs").glob("part*/*/config.json"))
CONFIG = RunConfig((Stage("autoencoder", 2, 3, 32, 3e-3, "one_cycle", "bce"),), train_size=200)
HELD_OUT = ((3, 4), (0, 0), (5, 4))

stages = st.builds(
    Stage,
    task=st.just("autoencoder"),
    epochs=st.integers(1, 200),
    steps=st.none() | st.integers(1, 1000),
    batch_size=st.integers(1, 60_000),
    learning_rate=st.floats(1e-8, 10),
    schedule=st.sampled_from(["constant", "one_cycle"]),
    loss=st.sampled_from(["l2", "bce"]),
    balance=st.sampled_from(BALANCES),
    shift=st.integers(0, 8),
    deform=st.floats(0, 10),
)
configs = st.builds(
    RunConfig,
    stages=st.lists(stages, min_size=1, max_size=3).map(tuple),
    model=st.sampled_from(["variational_addition", "generative_addition"]),
    decoder=st.sampled_from(["conv_transpose", "conv_upsample", "interpolation"]),
    code_size=st.integers(1, 128),
    image_size=st.sampled_from([28, 32, 64]),
    train_size=st.none() | st.integers(10, 60_000),
    weights=st.builds(LossWeights, l2_orig=st.floats(0, 10), kld_encoder=st.floats(0, 10)),
    held_out=st.sampled_from([(), HELD_OUT]),
    seed=st.integers(0, 2**32 - 1),
    precision=st.sampled_from(["float32", "bfloat16"]),
)


@given(configs, configs)
@settings(max_examples=100, deadline=None)
def test_configurations_travel_as_json(config: RunConfig, other: RunConfig) -> None:
    assert RunConfig.from_json(config.to_json()) == config
    assert config.differences(config) == []
    assert bool(config.differences(other)) == (config != other)
    assert len(config.differences(other)) == len(other.differences(config))


def test_differences_are_named_by_their_fields() -> None:
    other = replace(CONFIG, code_size=2, weights=LossWeights(code=0.5), stages=CONFIG.stages * 2)
    found = CONFIG.differences(replace(other, validation_size=34))
    assert found[:3] == [
        "code_size: 7, not 2",
        "validation_size: None, not 34",
        "weights.code: 1.0, not 0.5",
    ]
    assert "stages.1.task: None, not 'autoencoder'" in found


@pytest.mark.parametrize("file", KEPT, ids=lambda file: "/".join(file.parts[-3:-1]))
def test_kept_configurations_are_read(file: Path) -> None:
    config = RunConfig.from_json(file.read_text())
    study = json.loads(file.read_text())["class"].startswith("learn2add.studies.")
    assert isinstance(config, RunConfig) and (type(config) is RunConfig) != study
    assert config.differences(RunConfig.from_json(config.to_json())) == []
    again = json.loads(config.to_json())  # may have fields that came later
    assert all(again[name] == value for name, value in json.loads(file.read_text()).items())


READ = json.loads(CONFIG.to_json())


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "3", "{}"]
    + [
        json.dumps(READ | change)
        for change in (
            {"stages": 3},
            {"stages": []},
            {"stages": [{}]},
            {"weights": None},
            {"colour": "red"},
            {"code_size": "7"},
            {"class": 3},
            {"class": "learn2add.nothing.RunConfig"},
            {"class": "learn2add.config.Nothing"},
            {"class": "learn2add.config.Stage"},
            {"class": "subprocess.Popen"},
        )
    ],
)
def test_texts_that_are_no_configuration_are_refused(text: str) -> None:
    with pytest.raises(ValueError):
        RunConfig.from_json(text)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"code_size": 0}, "code_size is 0; .*1 to 128"),
        ({"code_size": 129}, "code_size is 129"),
        ({"code_size": 7.0}, "code_size is 7.0"),
        ({"image_size": 27}, "image_size is 27.*28, 32, 64"),
        ({"model": "gan"}, "model is 'gan'.*generative_addition"),
        ({"activation": "tanh"}, "activation is 'tanh'.*linear.*relu"),
        ({"train_size": 9}, "train_size is 9"),
        ({"validation_size": 20_000}, "validation_size is 20000"),
        ({"seed": -1}, "seed is -1"),
        ({"precision": "float16"}, "precision is 'float16'"),
        ({"stages": ()}, "stages"),
        ({"stages": (Stage("adder", 1),)}, r"stages is \['adder'\].*no adder"),
        ({"embed_addend": True}, "embed_addend True.*no adder"),
        ({"held_out": ((5, 5),)}, r"held_out is \(\(5, 5\),\); allowed is"),
        ({"held_out": ((-1, 2),)}, r"held_out is \(\(-1, 2\),\); allowed is"),
        ({"held_out": ((1.9, 2),)}, r"held_out is \(\(1.9, 2\),\); allowed is"),
        ({"held_out": ((1,),)}, r"held_out is \(\(1,\),\); allowed is"),
        ({"held_out": CELLS}, "held_out is .*; allowed is .* not all 55"),
        ({"held_out": ((1, 2),), "model": "autoencoder"}, "held_out 1 cells; allowed for model"),
        ({"stages": CONFIG.stages[0]}, "stages is .*; allowed is a tuple of stages"),
    ],
)
def test_bad_configurations_are_refused(fields: dict, message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        replace(CONFIG, **fields)


def test_an_unknown_decoder_is_refused() -> None:
    with pytest.raises(ValueError, match="decoder is 'unpooling'.*conv_transpose.*interpolation"):
        replace(CONFIG, decoder="unpooling").build()


@pytest.mark.parametrize(
    ("field", "value"),
    [("l2_orig", -0.1), ("l2_added", float("nan")), ("code", float("inf")), ("match", "much")],
)
def test_bad_weights_are_refused(field: str, value: object) -> None:
    with pytest.raises((ValueError, TypeError), match=f"{field} is {value!r}"):
        LossWeights(**{field: value})


@pytest.mark.parametrize(
    ("model", "weights"),
    [
        ("addition", {"kld_encoder": 1.0}),
        ("addition", {"match": 1.0}),
        ("variational_addition", {"kld_adder": 1.0}),
        ("variational_autoencoder", {"match": 1.0}),
    ],
)
def test_divergences_want_distributions(model: str, weights: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(weights))} is 1.0; .*{model}"):
        RunConfig((Stage("autoencoder", 1),), model, weights=LossWeights(**weights))


def test_contrast_wants_other_images_to_compare_with() -> None:
    for task, model in (("addition", "generative_addition"), ("autoencoder", "autoencoder")):
        with pytest.raises(ValueError, match="contrast .* targets"):
            RunConfig((Stage(task, 1),), model, weights=LossWeights(contrast=1.0))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("task", "decoder"),
        ("epochs", 0),
        ("epochs", 1.5),
        ("steps", 0),
        ("batch_size", 0),
        ("learning_rate", 0.0),
        ("learning_rate", float("nan")),
        ("learning_rate", "1e-3"),
        ("schedule", "cosine"),
        ("loss", "mse"),
        ("balance", "even"),
        ("targets", "all"),
        ("optimiser", "sgd"),
        ("beta2", 1.0),
        ("beta2", -0.1),
        ("momentum", 1.0),
        ("pct_start", 1.5),
        ("shift", -1),
        ("shift", 9),
        ("shift", 1.5),
        ("shift", True),
        ("deform", -0.1),
        ("deform", float("nan")),
        ("deform", 11),
        ("deform", "much"),
        ("restarts", 0),
        ("addend_noise", -1.0),
        ("reconstruct_every", 0),
    ],
)
def test_bad_stages_are_refused(field: str, value: object) -> None:
    with pytest.raises((ValueError, TypeError), match=f"{field} is {value!r}; allowed is"):
        Stage(**{"task": "addition", "epochs": 1} | {field: value})


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"task": "adder", "shift": 1}, "cached codes"),
        ({"task": "adder", "deform": 0.5}, "cached codes"),
        ({"task": "adder", "restarts": 2, "epochs": 2}, "restarts is 2"),
        ({"task": "autoencoder", "restarts": 2}, "restarts is 2"),
        ({"targets": "batch", "steps": None}, "targets is 'batch'.*steps None"),
        ({"targets": "batch", "batch_size": 128}, "targets is 'batch'.*multiple of 10"),
        ({"targets": "batch", "balance": "natural"}, "targets is 'batch'.*natural"),
        ({"targets": "batch", "task": "autoencoder"}, "targets is 'batch'.*autoencoder"),
    ],
)
def test_fields_that_do_not_go_together_are_refused(fields: dict, message: str) -> None:
    good = {"task": "addition", "epochs": 1, "steps": 5, "batch_size": 60, "balance": "cells"}
    with pytest.raises(ValueError, match=message):
        Stage(**good | fields)
