"""The training loop on few real digits: reproducible, resumable after a kill, true in its books."""

import csv
import json
import math
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from learn2add import training
from learn2add.checkpoints import CheckpointError, load_tensors, load_weights
from learn2add.configs import RunConfig, Stage
from learn2add.data import Digits, as_float, load_digits
from learn2add.tracking import copy_events, read_metrics, rename_event_files, write_metrics
from learn2add.training import Progress, TrainingDiverged, build_model, train

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


@pytest.fixture(scope="module")
def digits() -> tuple[Digits, Digits]:
    """200 training and 130 validation digits; 130 leaves a ragged last batch nowhere but there."""
    return load_digits(split="train").subset(200), load_digits(split="validation").subset(130)


Trainer = Callable[..., tuple[Path, Progress]]


@pytest.fixture
def run(digits: tuple[Digits, Digits], tmp_path: Path) -> Trainer:
    """Train a configuration in a folder of the given name."""

    def run(config: RunConfig, name: str = "run") -> tuple[Path, Progress]:
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        return folder, train(config, *digits, folder, progress=False)

    return run


def changed(config: RunConfig, **fields: object) -> RunConfig:
    """The configuration with fields of its only stage, or its own, replaced."""
    own = {name: value for name, value in fields.items() if name in RunConfig.__dataclass_fields__}
    stage = config.stages[0].__dict__ | {k: v for k, v in fields.items() if k not in own}
    return RunConfig(**(config.__dict__ | {"stages": (Stage(**stage),)} | own))


def weights(folder: Path) -> bytes:
    return (folder / "weights.safetensors").read_bytes()


def books(folder: Path) -> list[dict]:
    """The curves without what depends on the clock."""
    rows = read_metrics(folder / "metrics.csv")
    return [{k: v for k, v in row.items() if k != "seconds"} for row in rows]


# Reproducible


@pytest.mark.parametrize("config", [RECONSTRUCTION, ADDITION], ids=["autoencoder", "addition"])
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
        torch.randperm(50, generator=training.epoch_generator(*place, "cpu")).tolist()
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


def test_seed_everything() -> None:
    import random

    found = []
    for seed in (5, 5, 6):
        training.seed_everything(seed)
        found.append((random.random(), float(np.random.rand()), float(torch.rand(()))))
    assert found[0] == found[1]
    assert all(a != b for a, b in zip(found[0], found[2], strict=True))


# Killed and resumed

KILLED = """
import os, signal, sys
from pathlib import Path
import torch
from learn2add import checkpoints, training
from learn2add.configs import RunConfig
from learn2add.data import load_digits

torch.set_num_threads(int(sys.argv[4]))
folder, place, countdown = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
config = RunConfig.from_json((folder / "config.json").read_text())
kill = lambda: os.kill(os.getpid(), signal.SIGKILL)
remaining = countdown

def counted(original, applies):
    def call(*arguments, **named):
        global remaining
        remaining -= applies(*arguments)
        if remaining < 0:
            kill()
        return original(*arguments, **named)
    return call

if place == "step":
    torch.optim.Adam.step = counted(torch.optim.Adam.step, lambda *_: 1)
else:  # when that file is about to take its place
    checkpoints.os.replace = counted(os.replace, lambda source, target: Path(target).name == place)
digits = load_digits(split="train").subset(200), load_digits(split="validation").subset(130)
training.train(config, *digits, folder, progress=False)
"""


def train_and_be_killed(config: RunConfig, folder: Path, place: str, countdown: int) -> None:
    """Train in another process that SIGKILL ends at its (countdown + 1)-th step, or file."""
    folder.mkdir()
    (folder / "config.json").write_text(config.to_json())
    arguments = [str(folder), place, str(countdown), str(torch.get_num_threads())]
    ended = subprocess.run(
        [sys.executable, "-c", KILLED, *arguments], capture_output=True, text=True, timeout=300
    )
    assert ended.returncode == -signal.SIGKILL, ended.stderr


def check_resumed(run: Trainer, config: RunConfig, killed_at: tuple[str, int], done: int) -> None:
    """A killed and resumed training, epochs ``done`` at the kill, ends as an uninterrupted one."""
    whole, state = run(config, "whole")
    folder = whole.parent / "killed"
    train_and_be_killed(config, folder, *killed_at)
    last = folder / "last.safetensors"
    finished = load_tensors(last)[1]["history"] if last.exists() else []
    assert len(finished) == done and done < len(state.history)
    _, resumed = run(config, "killed")
    assert resumed.finished
    assert books(folder) == books(whole)
    assert weights(folder) == weights(whole)
    ours, theirs = load_tensors(last)[0], load_tensors(whole / "last.safetensors")[0]
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)  # Adam's moments too


def test_killed_in_mid_epoch_and_resumed(run: Trainer) -> None:
    check_resumed(run, RECONSTRUCTION, ("step", 7), done=2)


def test_killed_in_stage_2_of_3_and_resumed(run: Trainer) -> None:
    config = RunConfig(**(ADDITION.__dict__ | {"precision": "bfloat16"}))
    check_resumed(run, config, ("step", 2 + 4 + 2), done=2)  # in the second epoch of the adder


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("model", ["autoencoder", "addition"])
@pytest.mark.parametrize(
    ("place", "countdown", "done"),
    [
        ("step", 1, {"autoencoder": 0, "addition": 0}),  # before any checkpoint
        ("step", 4, {"autoencoder": 1, "addition": 1}),  # first epoch of a stage
        ("step", 8, {"autoencoder": 2, "addition": 2}),  # a later epoch of a stage
        ("last.safetensors", 2, {"autoencoder": 2, "addition": 2}),  # best weights are ahead of it
        ("metrics.csv", 1, {"autoencoder": 1, "addition": 1}),
    ],
)
def test_killed_anywhere_and_resumed(
    run: Trainer, model: str, precision: str, place: str, countdown: int, done: dict[str, int]
) -> None:
    config = RECONSTRUCTION if model == "autoencoder" else ADDITION
    config = RunConfig(**(config.__dict__ | {"precision": precision}))
    check_resumed(run, config, (place, countdown), done[model])


@pytest.mark.slow
@pytest.mark.parametrize("steps", range(11, 14))
def test_killed_in_the_last_stage_and_resumed(run: Trainer, steps: int) -> None:
    check_resumed(run, ADDITION, ("step", steps), done=3 if steps < 12 else 4)


def test_the_optimisers_moments_come_back(run: Trainer) -> None:
    """Cut off after two of three epochs: the third must not start Adam anew."""
    whole, _ = run(RECONSTRUCTION, "whole")
    folder, _ = run(changed(RECONSTRUCTION, epochs=2), "cut")
    tensors, facts = load_tensors(folder / "last.safetensors")
    assert {float(v) for k, v in tensors.items() if k.endswith(".step")} == {6.0}
    training.save_tensors(
        folder / "last.safetensors", tensors, facts | {"finished": False, "stage": 0, "epoch": 2}
    )
    run(RECONSTRUCTION, "cut")
    assert weights(folder) == weights(whole)


# Divergence


def test_a_nan_loss_stops_naming_epoch_and_step(run: Trainer) -> None:
    good = Stage("autoencoder", 1, 2, 32)
    bad = Stage("autoencoder", 2, 5, 32, learning_rate=1e18, loss="bce")
    only_good, _ = run(changed(RECONSTRUCTION, epochs=1, steps=2), "good")
    with pytest.raises(TrainingDiverged) as caught:
        run(RunConfig((good, bad), train_size=200))
    message = str(caught.value)
    assert "nan" in message or "inf" in message
    assert "at step 2 of epoch 1" in message and "1e+18" in message
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
    monkeypatch.setattr(Stage, "learning_rate_at", lambda self, at, of: 1e-3 if at < 7 else 1e18)
    with pytest.raises(TrainingDiverged, match="at step 3 of epoch 3 of the autoencoder stage"):
        run(RECONSTRUCTION)
    folder = reference.parent / "run"
    assert weights(folder) == weights(reference)
    load_weights(folder / "weights.safetensors", build_model(RECONSTRUCTION))
    assert [row["epoch"] for row in read_metrics(folder / "metrics.csv")] == [1, 2]


def test_weights_ruined_by_an_epochs_last_step_are_not_kept(run: Trainer) -> None:
    """The training losses were finite; only the validation shows the ruin."""
    config = changed(RECONSTRUCTION, epochs=2, steps=1, learning_rate=1e30, loss="bce")
    with pytest.raises(TrainingDiverged, match="validation loss .*at step 1 of epoch 1"):
        run(config)
    with pytest.raises(TrainingDiverged):  # and nothing was left that could be gone on from
        run(config)


# Which epoch's weights are kept, and when training stops


def test_the_best_epochs_weights_are_kept(
    run: Trainer, digits: tuple[Digits, Digits], monkeypatch: pytest.MonkeyPatch
) -> None:
    two, _ = run(changed(RECONSTRUCTION, epochs=2), "two")
    spoil = lambda self, at, of: 1e-3 if at < 6 else 0.3  # noqa: E731
    monkeypatch.setattr(Stage, "learning_rate_at", spoil)
    folder, state = run(RECONSTRUCTION)
    losses = [row["loss/validation"] for row in state.history]
    assert losses[2] > losses[1] and state.best_epoch == 1 + int(np.argmin(losses)) == 2
    assert weights(folder) == weights(two)
    model = build_model(RECONSTRUCTION)
    assert load_weights(folder / "weights.safetensors", model)["epoch"] == 2
    # The row's validation figures are those of these weights, over all pictures at once.
    x = as_float(digits[1].images)
    error = (model(x).detach() - x).double().numpy()
    row = state.history[1]
    assert row["rmse/validation"] == pytest.approx(math.sqrt((error**2).mean()), rel=1e-5)
    assert row["loss/validation"] == pytest.approx((error**2).sum() / len(x), rel=1e-5)


@pytest.mark.parametrize("patience", [1, 3])
def test_early_stopping(run: Trainer, patience: int) -> None:
    """At a rate too small to move float32 weights, no epoch after the first is better."""
    config = changed(RECONSTRUCTION, epochs=9, steps=1, learning_rate=1e-30, patience=patience)
    folder, state = run(config)
    assert state.finished and len(state.history) == 1 + patience
    assert state.best_epoch == 1
    assert len(read_metrics(folder / "metrics.csv")) == 1 + patience
    assert run(config)[1].history == state.history  # nothing left to train


def test_early_stopping_goes_on_with_the_next_stage(run: Trainer) -> None:
    still = Stage("autoencoder", 9, 1, 32, 1e-30, patience=1)
    moving = Stage("autoencoder", 2, 1, 32, 1e-3)
    _, state = run(RunConfig((still, moving), train_size=200))
    assert [row["stage"] for row in state.history] == [0, 0, 1, 1]
    assert state.best_epoch in (3, 4)


def test_improving_epochs_are_not_stopped(run: Trainer) -> None:
    _, state = run(changed(RECONSTRUCTION, epochs=4, steps=2, patience=1, learning_rate=2e-4))
    losses = [row["loss/validation"] for row in state.history]
    assert losses == sorted(losses, reverse=True), "this test needs an improving training"
    assert len(losses) == 4


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
    run: Trainer, digits: tuple[Digits, Digits], monkeypatch: pytest.MonkeyPatch
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


def test_a_pass_shows_each_picture_once(digits: tuple[Digits, Digits]) -> None:
    model = build_model(RECONSTRUCTION)
    whole = training.make_task(model, RECONSTRUCTION, Stage("autoencoder", 1, None, 64), *digits)
    pictures = torch.cat([batch[0] for batch in whole.batches(torch.Generator())])
    assert sorted(p.numpy().tobytes() for p in pictures) == sorted(
        p.numpy().tobytes() for p in as_float(digits[0].images)
    )
    longer = training.make_task(model, RECONSTRUCTION, Stage("autoencoder", 1, 10, 64), *digits)
    batches = [batch[0] for batch in longer.batches(torch.Generator())]
    assert [len(batch) for batch in batches] == [64] * 10
    counts: dict[bytes, int] = {}
    for picture in torch.cat(batches):
        counts[picture.numpy().tobytes()] = counts.get(picture.numpy().tobytes(), 0) + 1
    assert len(counts) == 200 and set(counts.values()) == {3, 4}  # 640 steps in passes of 200


def test_one_cycle_is_that_of_pytorch(run: Trainer, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = Steps(monkeypatch)
    config = changed(
        RECONSTRUCTION, epochs=4, steps=25, batch_size=1, learning_rate=2e-3, schedule="one_cycle"
    )
    _, state = run(config)
    optimiser = torch.optim.SGD([nn.Parameter(torch.zeros(1))])
    reference = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, max_lr=2e-3, total_steps=100, pct_start=0.3, div_factor=25, final_div_factor=1e9
    )
    expected = []
    for _ in range(100):
        expected.append(reference.get_last_lr()[0])
        optimiser.step()
        if len(expected) < 100:
            reference.step()
    assert len(steps.rates) == 100
    # PyTorch puts the peak one step earlier and reaches 0 in the last step, this in the step after.
    assert np.abs(np.array(steps.rates) - expected).max() < 0.06 * 2e-3
    assert max(steps.rates) == pytest.approx(2e-3) and np.argmax(steps.rates) == 30
    assert [row["learning_rate"] for row in state.history] == steps.rates[24::25]


@given(
    st.floats(1e-6, 1), st.integers(1, 5000), st.sampled_from(["constant", "one_cycle"]), st.data()
)
@settings(max_examples=100, deadline=None)
def test_rates_stay_above_zero_and_under_the_peak(
    peak: float, steps: int, schedule: str, data: st.DataObject
) -> None:
    step, rise = data.draw(st.integers(0, steps - 1)), data.draw(st.floats(0, 0.99))
    stage = Stage("autoencoder", 1, learning_rate=peak, schedule=schedule, rise=rise)
    rate = stage.learning_rate_at(step, steps)
    assert 0 < rate <= peak * (1 + 1e-9)
    assert schedule != "constant" or rate == peak


# What each stage trains


def test_a_stage_trains_its_parts_only(
    digits: tuple[Digits, Digits], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
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
    train(config, *digits, tmp_path, progress=False)
    moved = []
    for now in after:
        moved.append({n.split(".")[0] for n in now if not torch.equal(now[n], before[n])})
        before = now
    assert moved == [{"encoder", "decoder"}, {"adder"}, {"encoder", "adder", "decoder"}]


def test_the_loss_of_the_assignment(digits: tuple[Digits, Digits]) -> None:
    """0.1 x reconstruction + picture of the sum + codes, by NumPy on one batch."""
    config = RunConfig((Stage("addition", 1, 2, 32),), model="addition")
    model = build_model(config)
    task = training.make_task(model, config, config.stages[0], *digits)
    batch = next(iter(task.batches(torch.Generator())))
    loss, squares = task.step(batch)
    x, y = as_float(batch[0]), as_float(batch[2])
    with torch.no_grad():
        z, z_target = model.encoder(x), model.encoder(y)
        z_sum = model.adder(z, batch[1])
        errors = [
            (a - b).double().square().numpy()
            for a, b in ((model.decoder(z), x), (model.decoder(z_sum), y), (z_sum, z_target))
        ]
    original, added, code = (error.sum() / 32 for error in errors)
    assert loss.item() == pytest.approx(0.1 * original + added + code, rel=1e-5)
    assert float(squares["rmse"]) == pytest.approx(errors[0].sum(), rel=1e-5)
    assert float(squares["sum_rmse"]) == pytest.approx(errors[1].sum(), rel=1e-5)


def test_the_adders_batches_are_codes_of_right_sums(digits: tuple[Digits, Digits]) -> None:
    model = build_model(ADDITION)
    task = training.make_task(model, ADDITION, ADDITION.stages[1], *digits)
    codes = {
        code.numpy().tobytes(): int(label)
        for part in digits
        for code, label in zip(
            model.encoder(as_float(part.images)).detach(), part.labels, strict=True
        )
    }
    for batches in (task.batches(torch.Generator()), task.validation_batches()):
        z, addend, target = next(iter(batches))
        for row in range(len(z)):
            total = codes[z[row].numpy().tobytes()] + float(addend[row])
            assert total == codes[target[row].numpy().tobytes()]


def test_validation_pairs_stay_the_same(digits: tuple[Digits, Digits]) -> None:
    config = ADDITION
    rounds = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        task = training.make_task(build_model(config), config, config.stages[2], *digits)
        rounds += [
            [part.clone() for b in task.validation_batches() for part in b] for _ in range(2)
        ]
    for other in rounds[1:]:
        assert all(torch.equal(a, b) for a, b in zip(rounds[0], other, strict=True))


def test_training_learns(run: Trainer) -> None:
    _, state = run(RunConfig((Stage("autoencoder", 2, 60, 64, 3e-3, loss="bce"),), train_size=5000))
    first, last = state.history[0], state.history[-1]
    assert last["rmse/validation"] < first["rmse/train"]
    assert last["rmse/validation"] < 0.28  # all black scores 0.33


# The curves


def event_files(folder: Path) -> list[Path]:
    return [file for file in folder.iterdir() if "tfevents" in file.name]


def accumulated(folder: Path) -> EventAccumulator:
    everything = {"scalars": 0, "images": 0, "tensors": 0}
    return EventAccumulator(str(folder), size_guidance=everything).Reload()


def test_tensorboard_shows_curves_pictures_hyper_parameters_and_size(run: Trainer) -> None:
    folder, state = run(changed(RECONSTRUCTION, loss="bce"))
    assert len(event_files(folder)) == 1
    events = accumulated(folder)
    for tag in ("loss/train", "loss/validation", "rmse/train", "rmse/validation", "learning_rate"):
        points = events.Scalars(tag)
        assert [point.step for point in points] == [1, 2, 3]
        expected = [row[tag] for row in state.history]
        assert [point.value for point in points] == pytest.approx(expected)
    pictures = events.Images("input_reconstruction")
    assert [(p.step, p.height, p.width) for p in pictures] == [(n, 56, 280) for n in (1, 2, 3)]
    text = events.Tensors("model/parameters/text_summary")[0].tensor_proto.string_val[0].decode()
    sizes = {
        name: sum(p.numel() for p in part.parameters())
        for name, part in build_model(RECONSTRUCTION).named_children()
    }
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
    assert events.Scalars("best/rmse/validation")[0].value == pytest.approx(best["rmse/validation"])


def test_a_copy_of_the_events_has_fewer_pictures_and_all_else(run: Trainer, tmp_path: Path) -> None:
    folder, _ = run(changed(RECONSTRUCTION, epochs=5, steps=1))
    (source,) = event_files(folder)
    (tmp_path / "copy").mkdir()
    copy_events(source, tmp_path / "copy" / source.name, pictures=2)
    own, copied = accumulated(folder), accumulated(tmp_path / "copy")
    assert copied.Tags() == own.Tags()
    for tag in own.Tags()["scalars"]:
        assert copied.Scalars(tag) == own.Scalars(tag)
    pictures = own.Images("input_reconstruction")
    assert copied.Images("input_reconstruction") == [pictures[1], pictures[4]]
    assert copied.PluginTagToContent("hparams") == own.PluginTagToContent("hparams")


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
    pictures = accumulated(added).Images("input_reconstruction_sum_target")[0]
    assert (pictures.height, pictures.width) == (4 * 28, 280)


def test_no_file_bears_the_machines_name(run: Trainer) -> None:
    folder, _ = run(changed(RECONSTRUCTION, epochs=1, steps=1))
    names = [file.name for file in folder.rglob("*")]
    assert len(names) == 4  # weights, last, metrics, events
    for name in names:
        assert socket.gethostname() not in name and str(os.getpid()) not in name
    assert not any(name.startswith(".") for name in names)


def test_a_resumed_runs_events_show_each_epoch_once(run: Trainer, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    train_and_be_killed(RECONSTRUCTION, folder, "step", 7)
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
        }[kind]
    )


@pytest.fixture(scope="module")
def unfinished(
    digits: tuple[Digits, Digits], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, bytes]:
    """The files of a training that stopped after two of three epochs."""
    folder = tmp_path_factory.mktemp("unfinished")
    train(changed(RECONSTRUCTION, epochs=2), *digits, folder, progress=False)
    last = folder / "last.safetensors"
    tensors, facts = load_tensors(last)
    training.save_tensors(last, tensors, facts | {"finished": False, "stage": 0, "epoch": 2})
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def unpack(files: dict[str, bytes], folder: Path) -> Path:
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


@pytest.mark.parametrize("kind", ["empty", "half", "one byte short", "noise", "no header"])
def test_a_damaged_state_is_one_clear_error(
    digits: tuple[Digits, Digits], unfinished: dict[str, bytes], tmp_path: Path, kind: str
) -> None:
    folder = unpack(unfinished, tmp_path)
    damage(folder / "last.safetensors", kind)
    with pytest.raises(CheckpointError, match=r"last\.safetensors"):
        train(RECONSTRUCTION, *digits, folder, progress=False)


def test_a_state_of_another_kind_is_one_clear_error(
    digits: tuple[Digits, Digits], unfinished: dict[str, bytes], tmp_path: Path
) -> None:
    folder = unpack(unfinished, tmp_path)
    last = folder / "last.safetensors"
    tensors, facts = load_tensors(last)
    transposed = {k: v.T if k == "optimiser.6.exp_avg" else v for k, v in tensors.items()}
    for other in (
        (tensors, {}),  # no progress
        (tensors, facts | {"surprise": 1}),
        (tensors, [1, 2]),
        ({k: v for k, v in tensors.items() if not k.startswith("optimiser.3")}, facts),
        ({k: v for k, v in tensors.items() if not k.endswith("exp_avg")}, facts),
        ({k: v for k, v in tensors.items() if k.startswith("model.")}, facts),
        ({k: v for k, v in tensors.items() if not k.startswith("model.enc")}, facts),
        ({k: v[..., None, :3] if v.dim() else v for k, v in transposed.items()}, facts),
    ):
        training.save_tensors(last, *other)
        with pytest.raises(CheckpointError, match=r"last\.safetensors"):
            train(RECONSTRUCTION, *digits, folder, progress=False)
    # The same tensors, undamaged, are taken.
    training.save_tensors(last, tensors, facts)
    assert len(train(RECONSTRUCTION, *digits, folder, progress=False).history) == 3


def test_a_state_of_another_model_is_one_clear_error(
    digits: tuple[Digits, Digits], unfinished: dict[str, bytes], tmp_path: Path
) -> None:
    folder = unpack(unfinished, tmp_path)
    with pytest.raises(CheckpointError, match=r"last\.safetensors holds another model"):
        train(changed(RECONSTRUCTION, code_size=2), *digits, folder, progress=False)


def test_facts_are_readable_json(unfinished: dict[str, bytes]) -> None:
    """Nothing of a run needs this package, or unpickling, to be read."""
    content = unfinished["last.safetensors"]
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    assert json.loads(header["__metadata__"]["facts"])["epoch"] == 2


def test_subnormal_numbers_are_zero_while_training_and_only_then(tmp_path: Path) -> None:
    tiny = torch.full((8,), 1e-40)
    with training.flushing_subnormals():
        assert not (tiny * 1).any()
    assert (tiny * 1).all()
    seen = []
    digits = load_digits("MNIST", "train").subset(100)
    config = RunConfig((Stage("autoencoder", 1, 2, 10),), "autoencoder")

    def after_epoch(row: dict) -> None:
        seen.append(bool((tiny * 1).any()))

    train(config, digits, digits, tmp_path, progress=False, after_epoch=after_epoch)
    assert seen == [False] and (tiny * 1).all()
