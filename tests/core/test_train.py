"""The training loop on few real digits: reproducible, resumable after a kill, true in its books."""

import csv
import json
import math
import os
import signal
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from learn2add import train as training
from learn2add.checkpoints import CheckpointError, load_tensors, load_weights, save_tensors
from learn2add.config import LossWeights, RunConfig, Stage
from learn2add.data import Digits, as_float
from learn2add.hardware import default_precision
from learn2add.losses import squared_error
from learn2add.network import parameter_count
from learn2add.optim import learning_rate_at
from learn2add.tensorboard import Tracker, read_metrics, rename_event_files, write_metrics
from learn2add.train import Meter, Progress, TrainingDiverged, build_model, train

RECONSTRUCTION = RunConfig((Stage("autoencoder", 3, 3, 32),), train_size=200)
ADDITION = RunConfig(
    (
        Stage("autoencoder", 1, 2, 32, 3e-3, "one_cycle", "bce"),
        Stage("adder", 2, 4, 64, 1e-2, "one_cycle", balance="cells"),
        Stage("addition", 2, 2, 32, 1e-3, "one_cycle", balance="sums"),
    ),
    model="addition",
    decoder="conv_upsample",
    train_size=200,
)
GENERATIVE = RunConfig(
    (
        Stage("autoencoder", 1, 2, 32, 3e-3, "one_cycle", "bce", optimiser="muon"),
        Stage("adder", 1, 4, 64, 1e-2, "one_cycle", balance="cells", restarts=3),
        Stage(
            "addition", 2, 2, 40, 1e-3, "one_cycle", "bce", "mixed", "batch", "muon",
            shift=1, deform=0.5, addend_noise=0.2,
        ),
    ),
    model="generative_addition",
    weights=LossWeights(kld_encoder=0.1, kld_adder=0.01, match=1.0, contrast=3.0),
    held_out=((3, 4),),
    train_size=200,
)  # fmt: skip
CONFIGS = {"autoencoder": RECONSTRUCTION, "addition": ADDITION, "generative": GENERATIVE}


Trainer = Callable[..., tuple[Path, Progress]]


@pytest.fixture
def run(training_digits: tuple[Digits, Digits], tmp_path: Path) -> Trainer:
    """Train a configuration in a folder of the given name."""

    def run(config: RunConfig, name: str = "run") -> tuple[Path, Progress]:
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        return folder, train(config, *training_digits, folder, progress=False)

    return run


def changed(config: RunConfig, **fields: object) -> RunConfig:
    """The configuration with fields of its only stage, or its own, replaced."""
    own = {name: value for name, value in fields.items() if name in RunConfig.__dataclass_fields__}
    others = {name: value for name, value in fields.items() if name not in own}
    return replace(config, stages=(replace(config.stages[0], **others),), **own)


def weights(folder: Path) -> bytes:
    return (folder / "weights.safetensors").read_bytes()


def books(folder: Path) -> list[dict]:
    """The curves without what depends on the clock."""
    rows = read_metrics(folder / "metrics.csv")
    return [{k: v for k, v in row.items() if k != "seconds"} for row in rows]


# Reproducible


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_same_seed_same_bytes(run: Trainer, config: RunConfig) -> None:
    torch.manual_seed(1)
    np.random.seed(1)
    a, _ = run(config, "a")
    torch.manual_seed(2)
    torch.rand(5)
    b, _ = run(config, "b")
    assert weights(a) == weights(b)
    assert books(a) == books(b)


def test_another_seed_other_weights_and_another_order(run: Trainer) -> None:
    models = [build_model(changed(RECONSTRUCTION, seed=seed)).state_dict() for seed in (0, 0, 1)]
    for name in models[0]:
        assert torch.equal(models[0][name], models[1][name])
        assert not torch.equal(models[0][name], models[2][name])
    orders = [
        torch.randperm(50, generator=training.epoch_generator(place, "cpu")).tolist()
        for place in ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (0, 0, 0))
    ]
    assert orders[0] == orders[4]
    assert len({tuple(order) for order in orders}) == 4


def test_training_leaves_the_callers_settings(run: Trainer) -> None:
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        run(changed(RECONSTRUCTION, epochs=1, steps=1))
        assert torch.are_deterministic_algorithms_enabled()
        assert torch.is_deterministic_algorithms_warn_only_enabled()
    finally:
        torch.use_deterministic_algorithms(False)
    assert torch.equal(torch.rand(4), expected)
    run(changed(RECONSTRUCTION, epochs=1, steps=1), "again")
    assert not torch.are_deterministic_algorithms_enabled()


# Killed and resumed


def kill_at(place: str, countdown: int) -> None:
    """SIGKILL this process at its (countdown + 1)-th step or curves, or when that file would take
    its place that often."""
    remaining = countdown

    def counted(original: Callable, applies: Callable[..., bool]) -> Callable:
        def call(*arguments: object, **named: object) -> object:
            nonlocal remaining
            remaining -= applies(*arguments)
            if remaining < 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return original(*arguments, **named)

        return call

    if place == "step":
        torch.optim.Adam.step = counted(torch.optim.Adam.step, lambda *_: True)
    elif place == "curves":
        Tracker.epoch = counted(Tracker.epoch, lambda *_: True)
    else:
        os.replace = counted(os.replace, lambda source, target: Path(target).name == place)


@pytest.fixture(scope="module")
def whole(
    training_digits: tuple[Digits, Digits], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[RunConfig], tuple[Path, Progress]]:
    """A training that nothing interrupts, done once for all kills of the same."""
    done: dict[RunConfig, tuple[Path, Progress]] = {}

    def whole(config: RunConfig) -> tuple[Path, Progress]:
        if config not in done:
            folder = tmp_path_factory.mktemp("whole")
            done[config] = folder, train(config, *training_digits, folder, progress=False)
        return done[config]

    return whole


Checker = Callable[[RunConfig, tuple[str, int], int], None]


@pytest.fixture
def killed(run: Trainer, in_a_process: Callable) -> Callable[[RunConfig, str, str, int], None]:
    """Train in another process, which SIGKILL ends at a place."""

    def killed(config: RunConfig, name: str, place: str, countdown: int) -> None:
        def begin() -> None:
            kill_at(place, countdown)
            run(config, name)

        status, said = in_a_process(begin)
        assert status == -signal.SIGKILL, said

    return killed


@pytest.fixture
def check_resumed(run: Trainer, whole: Callable, killed: Callable, tmp_path: Path) -> Checker:
    """A killed and resumed training, epochs ``done`` at the kill, ends as an uninterrupted one."""

    def check(config: RunConfig, killed_at: tuple[str, int], done: int) -> None:
        (untouched, state), folder = whole(config), tmp_path / "killed"
        killed(config, "killed", *killed_at)
        last = folder / "last.safetensors"
        finished = load_tensors(last)[1]["history"] if last.exists() else []
        assert len(finished) == done and done < len(state.history)
        _, resumed = run(config, "killed")
        assert resumed.finished
        assert books(folder) == books(untouched)
        assert weights(folder) == weights(untouched)
        ours, theirs = load_tensors(last)[0], load_tensors(untouched / "last.safetensors")[0]
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)  # Adam's moments too
        epochs = list(range(1, len(state.history) + 1))
        mine, other = accumulated(folder), accumulated(untouched)
        assert [point.step for point in mine.Scalars("loss/train")] == epochs
        assert mine.Tags()["images"] == other.Tags()["images"]
        for tag in mine.Tags()["images"]:
            assert [i.step for i in mine.Images(tag)] == [i.step for i in other.Images(tag)]

    return check


@pytest.mark.parametrize("place", ["curves", "last.safetensors"])
def test_killed_at_the_end_of_an_epoch_and_resumed(check_resumed: Checker, place: str) -> None:
    check_resumed(RECONSTRUCTION, (place, 1), done=1)


def test_killed_in_stage_2_of_3_and_resumed(check_resumed: Checker) -> None:
    check_resumed(ADDITION, ("step", 2 + 4 + 2), done=2)  # in the second epoch of the adder


def test_killed_while_muon_trains_on_all_targets_of_a_batch_and_resumed(
    check_resumed: Checker,
) -> None:
    check_resumed(GENERATIVE, ("step", 2 + 4 + 2 + 1), done=3)


@pytest.mark.slow
@pytest.mark.parametrize("precision", sorted({"float32", default_precision()}))
@pytest.mark.parametrize("model", ["autoencoder", "addition"])
@pytest.mark.parametrize(
    ("place", "countdown", "done"),
    [
        ("step", 1, 0),  # before any checkpoint
        ("step", 4, 1),  # first epoch of a stage
        ("step", 8, 2),  # a later epoch of a stage
        ("last.safetensors", 2, 2),  # best weights are ahead of it
        ("metrics.csv", 1, 1),
    ],
)
def test_killed_anywhere_and_resumed(
    check_resumed: Checker, model: str, precision: str, place: str, countdown: int, done: int
) -> None:
    config = replace(CONFIGS[model], precision=precision)
    check_resumed(config, (place, countdown), done)


@pytest.mark.slow
@pytest.mark.parametrize("steps", range(11, 14))
def test_killed_in_the_last_stage_and_resumed(check_resumed: Checker, steps: int) -> None:
    check_resumed(ADDITION, ("step", steps), done=3 if steps < 12 else 4)


def resumable(facts: dict[str, Any]) -> dict[str, Any]:
    """Of two complete epochs, as if RECONSTRUCTION's three had been cut off after two."""
    config = RECONSTRUCTION.flat() | {"precision": None}
    return facts | {"finished": False, "stage": 0, "epoch": 2, "config": config}


def test_the_optimisers_moments_come_back(run: Trainer) -> None:
    """Cut off after two of three epochs: the third must not start Adam anew."""
    whole, _ = run(RECONSTRUCTION, "whole")
    folder, _ = run(changed(RECONSTRUCTION, epochs=2), "cut")
    tensors, facts = load_tensors(folder / "last.safetensors")
    assert {float(v) for k, v in tensors.items() if k.endswith(".step")} == {6.0}
    save_tensors(folder / "last.safetensors", tensors, resumable(facts))
    run(RECONSTRUCTION, "cut")
    assert weights(folder) == weights(whole)


# Divergence


def rates(monkeypatch: pytest.MonkeyPatch, rate: Callable[[Stage, int], float]) -> None:
    """Train at rates that no configuration allows."""
    monkeypatch.setattr(training, "learning_rate_at", lambda stage, at, of: rate(stage, at))


def test_a_nan_loss_stops_naming_epoch_and_step(
    run: Trainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = Stage("autoencoder", 1, 2, 32)
    bad = Stage("autoencoder", 2, 5, 32, learning_rate=0.125, loss="bce")
    rates(monkeypatch, lambda stage, at: 1e18 if stage == bad else 1e-3)
    only_good, _ = run(changed(RECONSTRUCTION, epochs=1, steps=2), "good")
    with pytest.raises(TrainingDiverged) as caught:
        run(RunConfig((good, bad), train_size=200))
    message = str(caught.value)
    assert "nan" in message or "inf" in message
    assert "at step 2 of epoch 1" in message and "learning rate 0.125" in message
    last = only_good.parent / "run" / "last.safetensors"
    kept, facts = load_tensors(last)
    reference, _ = load_tensors(only_good / "last.safetensors")
    assert len(facts["history"]) == 1
    for name, tensor in reference.items():
        assert torch.equal(kept[name], tensor)


def test_divergence_keeps_the_best_weights_so_far(
    run: Trainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference, _ = run(changed(RECONSTRUCTION, epochs=2), "two")
    rates(monkeypatch, lambda _, at: 1e-3 if at < 7 else 1e18)
    with pytest.raises(TrainingDiverged, match="at step 3 of epoch 3 of the autoencoder stage"):
        run(RECONSTRUCTION)
    folder = reference.parent / "run"
    assert weights(folder) == weights(reference)
    load_weights(folder / "weights.safetensors", build_model(RECONSTRUCTION))
    assert [row["epoch"] for row in read_metrics(folder / "metrics.csv")] == [1, 2]


def test_weights_ruined_by_an_epochs_last_step_are_not_kept(
    run: Trainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The training losses were finite; only the validation shows the ruin."""
    config = changed(RECONSTRUCTION, epochs=2, steps=1, loss="bce")
    rates(monkeypatch, lambda *_: 1e30)
    with pytest.raises(TrainingDiverged, match="validation loss .*at step 1 of epoch 1"):
        run(config)
    with pytest.raises(TrainingDiverged):  # and nothing was left that could be gone on from
        run(config)


# Which epoch's weights are kept


def test_the_best_epochs_weights_are_kept(
    run: Trainer, training_digits: tuple[Digits, Digits], monkeypatch: pytest.MonkeyPatch
) -> None:
    two, _ = run(changed(RECONSTRUCTION, epochs=2), "two")
    rates(monkeypatch, lambda _, at: 1e-3 if at < 6 else 0.3)
    folder, state = run(RECONSTRUCTION)
    losses = [row["loss/validation"] for row in state.history]
    assert losses[2] > losses[1] and state.best_epoch == 1 + int(np.argmin(losses)) == 2
    assert weights(folder) == weights(two)
    model = build_model(RECONSTRUCTION)
    assert load_weights(folder / "weights.safetensors", model)["epoch"] == 2
    # The row's validation figures are those of these weights, over all images at once.
    x = as_float(training_digits[1].images)
    error = (model(x).detach() - x).double().numpy()
    row = state.history[1]
    assert row["rmse/validation"] == pytest.approx(math.sqrt((error**2).mean()), rel=1e-5)
    assert row["loss/validation"] == pytest.approx((error**2).sum() / len(x), rel=1e-5)


# Steps and rates


class Steps:
    """Records the learning rate and batch length of each of Adam's steps."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.rates: list[float] = []
        step, recorder = torch.optim.Adam.step, self

        def recorded(optimiser: torch.optim.Adam, *arguments: object) -> object:
            recorder.rates.append(optimiser.param_groups[0]["lr"])
            return step(optimiser, *arguments)

        monkeypatch.setattr(torch.optim.Adam, "step", recorded)


def test_no_steps_means_one_pass_over_the_data(
    run: Trainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[torch.Tensor] = []
    original = training.Meter.add

    def add(meter: object, loss: object, squares: object, length: int) -> None:
        seen.append(length)
        original(meter, loss, squares, length)

    monkeypatch.setattr(training.Meter, "add", add)
    steps = Steps(monkeypatch)
    run(changed(RECONSTRUCTION, epochs=2, steps=None, batch_size=64))
    assert steps.rates == [1e-3] * 8
    assert seen == [64, 64, 64, 8, 130] * 2


def test_each_step_has_its_own_rate_and_the_row_tells_the_last(
    run: Trainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = Steps(monkeypatch)
    config = changed(RECONSTRUCTION, epochs=4, steps=25, batch_size=1, schedule="one_cycle")
    _, state = run(config)
    assert steps.rates == [learning_rate_at(config.stages[0], step, 100) for step in range(100)]
    assert [row["learning_rate"] for row in state.history] == steps.rates[24::25]


# What each stage trains


def test_a_stage_trains_its_parts_only(
    training_digits: tuple[Digits, Digits], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    after: list[dict[str, torch.Tensor]] = []
    original = training.save_epoch

    def save(config: RunConfig, state: Progress, model: nn.Module, *rest: object) -> None:
        after.append({name: tensor.clone() for name, tensor in model.state_dict().items()})
        original(config, state, model, *rest)

    monkeypatch.setattr(training, "save_epoch", save)
    one_epoch_each = tuple(Stage(task, 1, 2, 32) for task in ("autoencoder", "adder", "addition"))
    config = RunConfig(one_epoch_each, model="addition", train_size=200)
    before = build_model(config).state_dict()
    train(config, *training_digits, tmp_path, progress=False)
    moved = []
    for now in after:
        moved.append({n.split(".")[0] for n in now if not torch.equal(now[n], before[n])})
        before = now
    assert moved == [{"encoder", "decoder"}, {"adder"}, {"encoder", "adder", "decoder"}]


def test_training_learns(run: Trainer) -> None:
    _, state = run(RunConfig((Stage("autoencoder", 2, 20, 32, 3e-3, loss="bce"),)))
    first, last = state.history[0], state.history[-1]
    assert last["rmse/validation"] < first["rmse/train"]
    assert last["rmse/validation"] < 0.28  # all black scores 0.33


def test_drawn_targets_train_the_generative_model(run: Trainer) -> None:
    stage = Stage("addition", 1, 3, 32, addend_noise=0.2, shift=1)
    weights = LossWeights(kld_encoder=0.1, match=0.5, kld_adder=0.1)
    _, state = run(RunConfig((stage,), "generative_addition", weights=weights))
    assert state.history[0]["sum_rmse/validation"] < 0.6


def test_a_collapse_is_told_while_it_happens(
    training_digits: tuple[Digits, Digits], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = RunConfig((Stage("addition", 2, 2, 20, balance="sums"),), "addition")
    state = train(config, *training_digits, tmp_path)
    assert all(row["sums/digits_drawn"] <= 2 for row in state.history)  # nothing is learned in 4
    told = [line for line in capsys.readouterr().out.splitlines() if "digits are drawn" in line]
    assert [line.split(":")[0] for line in told] == ["epoch 1", "epoch 2"]


# The curves


def event_files(folder: Path) -> list[Path]:
    return [file for file in folder.iterdir() if "tfevents" in file.name]


def accumulated(folder: Path) -> EventAccumulator:
    everything = {"scalars": 0, "images": 0, "tensors": 0}
    return EventAccumulator(str(folder), size_guidance=everything).Reload()


def test_tensorboard_shows_curves_images_hyper_parameters_and_size(run: Trainer) -> None:
    folder, state = run(changed(RECONSTRUCTION, loss="bce"))
    assert len(event_files(folder)) == 1
    events = accumulated(folder)
    for tag in ("loss/train", "loss/validation", "rmse/train", "rmse/validation", "learning_rate"):
        points = events.Scalars(tag)
        assert [point.step for point in points] == [1, 2, 3]
        expected = [row[tag] for row in state.history]
        assert [point.value for point in points] == pytest.approx(expected)
    images = events.Images("input_reconstruction")
    assert [(p.step, p.height, p.width) for p in images] == [(n, 56, 280) for n in (1, 2, 3)]
    text = events.Tensors("model/parameters/text_summary")[0].tensor_proto.string_val[0].decode()
    parts = build_model(RECONSTRUCTION).named_children()
    sizes = {name: parameter_count(part) for name, part in parts}
    for name, size in [*sizes.items(), ("total", sum(sizes.values()))]:
        assert f"| {name} | {size:,} |" in text
    assert events.Scalars("model/parameters")[0].value == sum(sizes.values())
    found = {}
    for content in events.PluginTagToContent("hparams").values():
        from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

        start = HParamsPluginData.FromString(content).session_start_info
        found |= {k: v.string_value or v.number_value for k, v in start.hparams.items()}
    assert found["stages.0.loss"] == "bce" and found["code_size"] == 7 and found["seed"] == 0
    assert found["decoder"] == "conv_transpose" and found["stages.0.learning_rate"] == 1e-3
    best = state.history[state.best_epoch - 1]
    assert events.Scalars("summary/best_rmse")[0].value == pytest.approx(best["rmse/validation"])


def test_runs_share_their_tags(run: Trainer) -> None:
    """So that TensorBoard lays them over one another; Part III adds curves and renames none."""
    one_step = {"epochs": 1, "steps": 1}
    l2, _ = run(changed(RECONSTRUCTION, **one_step), "l2")
    bce, _ = run(changed(RECONSTRUCTION, **one_step, loss="bce", decoder="interpolation"), "bce")
    stage = Stage("addition", 1, 1, 32)
    added, _ = run(RunConfig((stage,), model="addition", train_size=200), "addition")
    tags = [accumulated(folder).Tags() for folder in (l2, bce, added)]
    assert tags[0]["scalars"] == tags[1]["scalars"] and tags[0]["images"] == tags[1]["images"]
    assert set(tags[0]["scalars"]) < set(tags[2]["scalars"])
    assert {"sum_rmse/train", "sum_rmse/validation"} <= set(tags[2]["scalars"])
    images = accumulated(added).Images("addend_input_reconstruction_sum_target")[0]
    assert (images.height, images.width) == (14 + 4 * 28, 280)


def test_no_file_bears_the_machines_name(run: Trainer) -> None:
    folder, _ = run(changed(RECONSTRUCTION, epochs=1, steps=1))
    names = [file.name for file in folder.rglob("*")]
    assert len(names) == 4  # weights, last, metrics, events
    for name in names:
        assert socket.gethostname() not in name and str(os.getpid()) not in name
    assert not any(name.startswith(".") for name in names)


def test_a_resumed_runs_events_show_each_epoch_once(
    run: Trainer, killed: Callable, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    killed(RECONSTRUCTION, "run", "step", 7)
    run(RECONSTRUCTION)
    assert [file.suffix for file in event_files(folder)] == [".learn2add"] * 2
    assert not any(socket.gethostname() in file.name for file in event_files(folder))
    points = accumulated(folder).Scalars("loss/train")
    assert [point.step for point in points] == [1, 2, 3]


def test_renaming_event_files_loses_none(tmp_path: Path) -> None:
    """Copying a folder may turn the files' times about, and later parts follow earlier ones."""
    for number, text in enumerate(["first", "second"]):
        file = tmp_path / f"events.out.tfevents.{1700000000 + number}.somebox.12.{number}"
        file.write_text(text)
        os.utime(file, (1000 + number, 1000 + number))
    rename_event_files(tmp_path)
    named = sorted(event_files(tmp_path))
    assert [file.read_text() for file in named] == ["first", "second"]
    os.utime(named[0], (5000, 5000))
    (tmp_path / "events.out.tfevents.1600000000.somebox.13.0").write_text("third")
    rename_event_files(tmp_path)
    rename_event_files(tmp_path)
    found = sorted(event_files(tmp_path))
    assert [file.read_text() for file in found] == ["first", "second", "third"]
    assert all("somebox" not in file.name for file in found)


def test_metrics_round_trip(run: Trainer) -> None:
    folder, state = run(ADDITION)
    rows = read_metrics(folder / "metrics.csv")
    assert len(rows) == 5
    for row, original in zip(rows, state.history, strict=True):
        assert row.keys() == original.keys()
        assert [type(value) for value in row.values()] == [type(v) for v in original.values()]
        for name, value in row.items():
            same = value == original[name]
            assert same or value == pytest.approx(original[name], rel=1e-5)
    assert "rmse/train" not in rows[1] and "sum_rmse/validation" in rows[4]
    with open(folder / "metrics.csv", newline="") as file:  # a student's spreadsheet reads it too
        assert [row["task"] for row in csv.DictReader(file)] == [
            "autoencoder",
            "adder",
            "adder",
            "addition",
            "addition",
        ]


figures = st.dictionaries(
    st.sampled_from(["seconds", "loss/train", "loss/validation", "rmse/train"]),
    st.floats(allow_nan=False, allow_infinity=False, width=32),
)


@given(st.lists(figures, min_size=1, max_size=5))
@settings(max_examples=40, deadline=None)
def test_any_metrics_round_trip(tmp_path_factory: pytest.TempPathFactory, rows: list[dict]) -> None:
    history = [{"stage": 0, "task": "adder", "epoch": n + 1} | row for n, row in enumerate(rows)]
    path = tmp_path_factory.mktemp("metrics") / "metrics.csv"
    write_metrics(path, history)
    for row, original in zip(read_metrics(path), history, strict=True):
        assert row == {
            k: pytest.approx(v, rel=1e-5) if k in figures_names else v for k, v in original.items()
        }


figures_names = {"seconds", "loss/train", "loss/validation", "rmse/train"}


# An epoch's figures


@given(st.lists(st.integers(1, 30), min_size=1, max_size=6))
@settings(max_examples=30, deadline=None)
def test_epoch_figures_weight_each_batch_by_its_length(lengths: list[int]) -> None:
    """Whatever the batches, ragged ones too, the figures are those of all images at once."""
    count = sum(lengths)
    a, b = torch.randn(2, count, 1, 28, 28)
    meter = Meter(28)
    for x, y in zip(a.split(lengths), b.split(lengths), strict=True):
        meter.add(squared_error(x, y), {"rmse": (x - y).square().sum()}, len(x))
    errors = (a.numpy().astype(np.float64) - b.numpy()) ** 2
    figures = meter.figures("validation")
    assert figures["loss/validation"] == pytest.approx(errors.sum() / count, rel=1e-5)
    assert figures["rmse/validation"] == pytest.approx(math.sqrt(errors.mean()), rel=1e-5)
    assert set(figures) == {"loss/validation", "rmse/validation"}


def test_a_ragged_last_batch_counts_for_its_length_only() -> None:
    meter = Meter(28)
    meter.add(torch.tensor(1.0), {}, 127)
    meter.add(torch.tensor(129.0), {}, 1)
    assert meter.figures("train") == {"loss/train": pytest.approx(2.0)}  # not the means' mean, 65


# Damaged states


def damage(path: Path, kind: str) -> None:
    whole = path.read_bytes()
    path.write_bytes(
        {
            "empty": b"",
            "half": whole[: len(whole) // 2],
            "one byte short": whole[:-1],
            "noise": np.random.default_rng(0).bytes(5000),
            "no header": whole[8:],
            "one bit": whole[:-40] + bytes([whole[-40] ^ 1]) + whole[-39:],
        }[kind]
    )


@pytest.fixture(scope="module")
def unfinished(
    training_digits: tuple[Digits, Digits], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, bytes]:
    """The files of a training that stopped after two of three epochs."""
    folder = tmp_path_factory.mktemp("unfinished")
    train(changed(RECONSTRUCTION, epochs=2), *training_digits, folder, progress=False)
    last = folder / "last.safetensors"
    tensors, facts = load_tensors(last)
    save_tensors(last, tensors, resumable(facts))
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def unpack(files: dict[str, bytes], folder: Path) -> Path:
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


@pytest.mark.parametrize(
    "kind", ["empty", "half", "one byte short", "noise", "no header", "one bit"]
)
def test_a_damaged_state_is_one_clear_error(
    training_digits: tuple[Digits, Digits], unfinished: dict[str, bytes], tmp_path: Path, kind: str
) -> None:
    folder = unpack(unfinished, tmp_path)
    damage(folder / "last.safetensors", kind)
    with pytest.raises(CheckpointError, match=r"last\.safetensors"):
        train(RECONSTRUCTION, *training_digits, folder, progress=False)


def test_a_state_of_another_kind_is_one_clear_error(
    training_digits: tuple[Digits, Digits], unfinished: dict[str, bytes], tmp_path: Path
) -> None:
    folder = unpack(unfinished, tmp_path)
    last = folder / "last.safetensors"
    tensors, facts = load_tensors(last)
    transposed = {k: v.T if k == "optimiser.6.exp_avg" else v for k, v in tensors.items()}
    for other in (
        (tensors, {}),  # no progress
        (tensors, facts | {"surprise": 1}),
        ({k: v for k, v in tensors.items() if not k.startswith("optimiser.3")}, facts),
        ({k: v for k, v in tensors.items() if not k.endswith("exp_avg")}, facts),
        ({k: v for k, v in tensors.items() if k.startswith("model.")}, facts),
        ({k: v for k, v in tensors.items() if not k.startswith("model.enc")}, facts),
        ({k: v[..., None, :3] if v.dim() else v for k, v in transposed.items()}, facts),
    ):
        save_tensors(last, *other)
        with pytest.raises(CheckpointError, match=r"last\.safetensors"):
            train(RECONSTRUCTION, *training_digits, folder, progress=False)
    # The same tensors, undamaged, are taken.
    save_tensors(last, tensors, facts)
    assert len(train(RECONSTRUCTION, *training_digits, folder, progress=False).history) == 3


def test_a_state_of_another_model_is_one_clear_error(
    training_digits: tuple[Digits, Digits], unfinished: dict[str, bytes], tmp_path: Path
) -> None:
    folder = unpack(unfinished, tmp_path)
    last = folder / "last.safetensors"
    other = changed(RECONSTRUCTION, code_size=2)
    with pytest.raises(CheckpointError, match=r"last\.safetensors holds .*another configuration"):
        train(other, *training_digits, folder, progress=False)
    tensors, facts = load_tensors(last)
    save_tensors(last, tensors, facts | {"config": other.flat() | {"precision": None}})
    with pytest.raises(CheckpointError, match=r"last\.safetensors holds another model"):
        train(other, *training_digits, folder, progress=False)


def test_a_state_of_another_seed_is_refused(
    training_digits: tuple[Digits, Digits], unfinished: dict[str, bytes], tmp_path: Path
) -> None:
    """As where ``config.json`` was lost: the curves would be of two trainings."""
    folder = unpack(unfinished, tmp_path)
    with pytest.raises(CheckpointError, match="another configuration.*delete it to train again"):
        train(replace(RECONSTRUCTION, seed=5), *training_digits, folder, progress=False)


@pytest.mark.parametrize(
    "facts",
    [{"stage": 7}, {"stage": -1}, {"stage": "0"}, {"epoch": -5}, {"epoch": 9}, {"epoch": 1.5}],
    ids=str,
)
def test_a_state_of_no_such_place_is_refused(
    training_digits: tuple[Digits, Digits],
    unfinished: dict[str, bytes],
    tmp_path: Path,
    facts: dict[str, Any],
) -> None:
    folder = unpack(unfinished, tmp_path)
    last = folder / "last.safetensors"
    tensors, there = load_tensors(last)
    save_tensors(last, tensors, there | facts)
    with pytest.raises(CheckpointError, match=r"last\.safetensors holds no state"):
        train(RECONSTRUCTION, *training_digits, folder, progress=False)


def test_facts_are_readable_json(unfinished: dict[str, bytes]) -> None:
    """Nothing of a run needs this package, or unpickling, to be read."""
    content = unfinished["last.safetensors"]
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    assert json.loads(header["__metadata__"]["facts"])["epoch"] == 2


def test_subnormal_numbers_are_zero_while_training_and_only_then(
    training_digits: tuple[Digits, Digits], tmp_path: Path
) -> None:
    tiny = torch.full((8,), 1e-40)
    with training.flushing_subnormals():
        assert not (tiny * 1).any()
    assert (tiny * 1).all()
    seen = []
    config = RunConfig((Stage("autoencoder", 1, 2, 10),))

    def after_epoch(row: dict) -> None:
        seen.append(bool((tiny * 1).any()))

    train(config, *training_digits, tmp_path, progress=False, after_epoch=after_epoch)
    assert seen == [False] and (tiny * 1).all()
