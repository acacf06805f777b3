"""Hyper-parameters: what the reports searched, shared by processes, finished after a kill."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from learn2add import runs
from learn2add.config import RunConfig
from learn2add.data import Digits, as_float, in_batches, load_digits
from learn2add.network import parameter_count
from learn2add.runs import RunError
from learn2add.studies.sweeps import (
    BEST_002,
    GRID,
    LOGARITHMIC,
    NOTHING,
    RANGES,
    Outcome,
    Plan,
    SweepConfig,
    SweepStage,
    behind,
    best,
    importance,
    make_plan,
    search,
    setting_config,
)
from learn2add.tensorboard import read_metrics
from learn2add.train import Progress, build_model, train

SMALL = {"filters1": 4, "filters2": 4, "filters3": 4, "units": 8}
RATES = (1e-3, 3e-3, 1e-2, 2e-2, 3e-2, 1e-1)
CONFIG = SweepConfig(
    (SweepStage("autoencoder", 3, 4, 32),), channels=(4, 8, 16), units=32, train_size=200
)


def tiny(stage: SweepStage, count: int = 6, **fields: object) -> Plan:
    settings = tuple({"learning_rate": rate} | SMALL for rate in RATES[:count])
    return Plan("tiny", settings, stage, train_size=100, validation_size=50, **fields)


# Configuration: widths, dropout, weight decay, early stopping


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


@pytest.mark.parametrize("decoder", ["conv_transpose", "conv_upsample", "interpolation"])
def test_widths_are_counted_by_hand(decoder: str) -> None:
    config = replace(CONFIG, decoder=decoder, code_size=10, channels=(8, 16, 32), units=64)
    assert RunConfig.from_json(config.to_json()) == config
    model = config.build()
    convolutions = 9 * 8 + 8 + 9 * 8 * 16 + 16 + 9 * 16 * 32 + 32
    assert parameter_count(model.encoder) == convolutions + 9 * 32 * 64 + 64 + 64 * 10 + 10
    mirrored = 9 * 32 * 16 + 16 + 9 * 16 * 8 + 8 + 9 * 8 + 1
    linear = 10 * 64 + 64 + 64 * 49 * 32 + 49 * 32
    assert parameter_count(model.decoder) == linear + mirrored
    assert model(torch.rand(3, 1, 28, 28)).shape == (3, 1, 28, 28)


@pytest.mark.parametrize(
    ("part", "fields", "message"),
    [
        (CONFIG, {"channels": (8, 16)}, "channels.*three"),
        (CONFIG, {"channels": (8, 16, 0)}, "channels.*0"),
        (CONFIG, {"units": 0}, "units"),
        (CONFIG, {"dropout": 1.0}, "dropout.*below 1"),
        (CONFIG, {"dropout": -0.1}, "dropout"),
        (CONFIG, {"dropout": math.nan}, "dropout"),
        (CONFIG.stages[0], {"weight_decay": -1e-3}, "weight_decay.*0 or more"),
        (CONFIG.stages[0], {"weight_decay": math.inf}, "weight_decay"),
        (CONFIG.stages[0], {"optimiser": "muon"}, "optimiser.*adam"),
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
    stage = SweepStage("autoencoder", 1, 1, 32, rate, weight_decay=decay)
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


def patient(patience: int, *stage: object) -> SweepConfig:
    return replace(CONFIG, stages=(SweepStage("autoencoder", *stage, patience=patience),))


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
    config = replace(CONFIG, stages=(still, SweepStage("autoencoder", 2, 1, 32, 1e-3)))
    state = trained(config, digits, tmp_path / "run")
    assert [row["stage"] for row in state.history] == [0, 0, 1, 1]
    assert state.best_epoch in (3, 4)


def test_improving_epochs_are_not_stopped(digits, tmp_path: Path) -> None:
    state = trained(patient(1, 4, 4, 32, 2e-4), digits, tmp_path / "run")
    losses = [row["loss/validation"] for row in state.history]
    assert losses == sorted(losses, reverse=True), "this test needs an improving training"
    assert len(losses) == 4


# Plans


def test_the_plans_are_the_reports() -> None:
    assert math.prod(len(values) for values in GRID.values()) == 49_152
    assert all(BEST_002[name] in values for name, values in GRID.items())
    whole = make_plan("grid", count=60)
    assert len({tuple(setting.values()) for setting in whole.settings}) == 60
    assert all(setting[name] in GRID[name] for setting in whole.settings for name in GRID)
    drawn = make_plan("draws").settings
    assert len(drawn) == 31
    for name, (low, high) in RANGES.items():
        values = np.array([setting[name] for setting in drawn])
        values = np.log10(values) if name in LOGARITHMIC else values
        assert (low <= values).all() and (values <= high).all()
    assert make_plan("draws", count=5).settings == drawn[:6]
    star = make_plan("star").settings
    assert star[0] == BEST_002 and len(star) == 24
    for setting in star[1:]:
        assert sum(setting[name] != BEST_002[name] for name in GRID) == 1


def test_a_settings_configuration() -> None:
    config = make_plan("star").config(0)
    assert config.channels == (8, 16, 32) and config.units == 64 and config.code_size == 10
    assert config.stages[0].learning_rate == 0.001
    # The report's loss is a mean over 784 pixels, ours their sum: the same balance of both terms.
    assert config.stages[0].weight_decay == pytest.approx(784 * 1e-5)
    assert config.stages[0].patience == 10 and config.dropout == 0 and config.activation == "relu"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: make_plan("sobol"), "grid.*star.*draws"),
        (lambda: make_plan("grid", budget="long"), "budget"),
        (lambda: make_plan("grid", count=0), "count.*1 to 49152"),
        (lambda: make_plan("draws", count=0), "count"),
        (lambda: make_plan("star", count=3), "count.*star"),
        (lambda: Plan("none", ()), "settings"),
        (lambda: Plan("odd", ({"momentum": 0.9},)), "setting.*momentum"),
        (lambda: Plan("mixed", ({"units": 8}, {"decay": 0.0})), "settings"),
        (lambda: Plan("bad", ({"dropout": 1.0},)), "dropout"),
        (lambda: Plan("bad", ({"learning_rate": 0.0},)), "learning_rate"),
        (lambda: setting_config({"width": 3}, SweepStage("autoencoder", 1)), "setting.*width"),
    ],
)
def test_bad_plans_are_refused(make, message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        make()


# Sweeps


def test_a_sweep_is_trained_once_and_shown(tmp_path: Path) -> None:
    plan = tiny(SweepStage("autoencoder", 2, 2, 16), 3)
    found = search(plan, tmp_path, progress=False)
    assert [outcome.place for outcome in found] == [0, 1, 2]
    assert [outcome.setting for outcome in found] == list(plan.settings)
    assert all(outcome.state == "complete" and outcome.epochs == 2 for outcome in found)
    assert len({outcome.mse for outcome in found}) == 3
    files = [f for f in tmp_path.rglob("*") if f.is_file() and f.name != ".lock"]
    written = [file.stat().st_mtime_ns for file in files]
    assert search(plan, tmp_path, progress=False) == found
    assert [file.stat().st_mtime_ns for file in files] == written
    with pytest.raises(RunError, match="another plan.*settings"):
        search(tiny(plan.stage, 2), tmp_path, progress=False)
    with pytest.raises(RunError, match="another plan.*prune.*stage"):
        search(replace(plan, prune=True, stage=SweepStage("autoencoder", 2)), tmp_path)
    for outcome in found:
        home = tmp_path / "trials" / f"{outcome.place:04d}"
        run = runs.load(home)
        assert run.config == plan.config(outcome.place)
        assert run.result["best_epoch"] == outcome.best_epoch
        assert run.curve("rmse")["validation"] == pytest.approx(np.sqrt(outcome.errors), rel=1e-5)
        events = EventAccumulator(str(home)).Reload()
        assert events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content


def test_a_sweep_below_a_file_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    plan = tiny(SweepStage("autoencoder", 1, 1, 16), 1)
    with pytest.raises(OSError, match="cannot write"):
        search(plan, tmp_path / "file" / "sweep", progress=False)


def test_a_sweep_lies_where_runs_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEARN2ADD_RUNS", str(tmp_path))
    (found,) = search(tiny(SweepStage("autoencoder", 1, 1, 16), 1), progress=False)
    assert found.epochs == 1
    assert (tmp_path / "studies" / "tiny" / "trials" / "0000" / "metrics.csv").exists()


def test_what_falls_behind_is_given_up_and_shown(tmp_path: Path) -> None:
    """Six trainings that learn, then one that stands still."""
    settings = tuple({"learning_rate": 0.02 + 0.001 * i} | SMALL for i in range(6))
    plan = Plan(
        "pruned",
        (*settings, {"learning_rate": 1e-8} | SMALL),
        SweepStage("autoencoder", 6, 4, 32),
        train_size=200,
        validation_size=50,
        prune=True,
    )
    found = search(plan, tmp_path, progress=False)
    assert found[-1].state == "pruned" and found[-1].epochs < 6
    assert found[0].state == "complete" and best(found).place < 6
    events = EventAccumulator(str(tmp_path / "trials" / "0006")).Reload()
    assert events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    assert events.Scalars("summary/best_rmse")[0].value ** 2 == pytest.approx(found[-1].mse)


def test_what_diverges_is_not_trained_again(tmp_path: Path) -> None:
    settings = tuple({"learning_rate": rate} | SMALL for rate in (1e36, 1e-3))
    stage = SweepStage("autoencoder", 2, 4, 16)
    plan = Plan("wild", settings, stage, train_size=100, validation_size=50)
    found = search(plan, tmp_path, progress=False)
    assert [outcome.state for outcome in found] == ["diverged", "complete"]
    assert (found[0].mse, found[0].epochs, found[0].best_epoch) == (math.inf, 0, 0)
    assert best(found) == found[1]
    assert search(plan, tmp_path, progress=False) == found


def test_the_rule_is_optunas_median_pruner() -> None:
    optuna = pytest.importorskip("optuna")
    generator, answers = np.random.default_rng(0), []
    for _ in range(60):
        study = optuna.create_study(
            pruner=optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=1)
        )
        others = []
        for place in range(int(generator.integers(4, 12))):
            errors = generator.random(int(generator.integers(1, 6))).round(1).tolist()
            state = str(generator.choice(["complete", "complete", "pruned"]))
            others.append(Outcome(place, {}, state, min(errors), len(errors), 1, 1.0, errors))
            trial = optuna.create_trial(
                state=optuna.trial.TrialState[state.upper()],
                value=min(errors),
                intermediate_values=dict(enumerate(errors, 1)),
            )
            study.add_trial(trial)
        trial, errors = study.ask(), []
        for epoch, error in enumerate(generator.random(5).round(1).tolist(), 1):
            trial.report(error, epoch)
            errors.append(error)
            answers.append(behind(errors, others))
            assert answers[-1] == trial.should_prune()
    assert 15 < sum(answers) < 285  # of 300


PROGRAM = """
import json, sys
from pathlib import Path
from learn2add.studies.sweeps import Plan, SweepStage, search
settings, epochs, steps = json.loads(sys.argv[1])
plan = Plan("tiny", tuple(settings), SweepStage("autoencoder", epochs, steps, 16), train_size=100,
            validation_size=50)
print(len(search(plan, Path(sys.argv[2]), progress=False)))
"""


def process(plan: Plan, folder: Path) -> subprocess.Popen:
    what = json.dumps([plan.settings, plan.stage.epochs, plan.stage.steps])
    command = [sys.executable, "-c", PROGRAM, what, str(folder)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    )


def epochs_of(folder: Path) -> list[list[int]]:
    """Of each place the epochs in its event files, in the order they were written."""
    return [
        [event.step for event in EventAccumulator(str(home)).Reload().Scalars("rmse/validation")]
        for home in sorted((folder / "trials").iterdir())
    ]


@pytest.mark.slow
def test_two_processes_share_a_sweep(tmp_path: Path) -> None:
    plan = tiny(SweepStage("autoencoder", 4, 6, 16))
    workers = [process(plan, tmp_path) for _ in range(2)]
    for worker in workers:
        out, errors = worker.communicate(timeout=600)
        assert (worker.returncode, out.split()) == (0, [b"6"]), errors.decode()[-2000:]
    assert epochs_of(tmp_path) == [[1, 2, 3, 4]] * 6  # each trained once
    shared = search(plan, tmp_path, progress=False)
    assert [(o.place, o.state) for o in shared] == [(place, "complete") for place in range(6)]
    alone = search(plan, tmp_path.with_name("alone"), progress=False)
    assert [o.mse for o in shared] == pytest.approx([o.mse for o in alone], rel=1e-3)


@pytest.mark.slow
def test_a_killed_sweep_is_finished_without_repeating(tmp_path: Path) -> None:
    plan = tiny(SweepStage("autoencoder", 16, 4, 16), 2)
    worker, deadline = process(plan, tmp_path), time.monotonic() + 300
    second = tmp_path / "trials" / "0001" / "metrics.csv"
    while not (second.exists() and second.read_text().count("\n") > 5):  # the head and 5 epochs
        assert worker.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    os.killpg(worker.pid, signal.SIGKILL)
    worker.wait()
    first = [f for f in (tmp_path / "trials" / "0000").iterdir() if f.name != ".lock"]
    written = [file.stat().st_mtime_ns for file in first]
    assert not second.with_name("result.json").exists()

    found = search(plan, tmp_path, progress=False)
    assert [(outcome.state, outcome.epochs) for outcome in found] == [("complete", 16)] * 2
    assert [file.stat().st_mtime_ns for file in first] == written
    assert [sorted(set(epochs)) for epochs in epochs_of(tmp_path)] == [list(range(1, 17))] * 2
    again = search(plan, tmp_path.with_name("whole"), progress=False)
    assert [o.mse for o in again] == pytest.approx([o.mse for o in found], rel=1e-3)


# Importance


def made(count: int = 40) -> list[Outcome]:
    """Errors that hang on the rate alone."""
    generator = np.random.default_rng(3)
    found = []
    for place in range(count):
        setting = {
            "learning_rate": float(10 ** generator.uniform(-4, -1)),
            "dropout": float(generator.uniform(0, 0.5)),
            "units": int(generator.choice([32, 64])),
        }
        error = 0.02 + 0.01 * abs(math.log10(setting["learning_rate"]) + 2.5)
        found.append(Outcome(place, setting, "complete", error, 5, 5, 1.0, [error]))
    return found


def test_importance_finds_what_decides() -> None:
    pytest.importorskip("sklearn")
    diverged = Outcome(40, made()[0].setting, "diverged", math.inf, 0, 0, 0.0, [])
    shares = importance([*made(), diverged], seeds=2, trees=12)
    assert set(shares) == {"learning_rate", "dropout", "units", NOTHING}
    assert next(iter(shares)) == "learning_rate"
    assert min(shares["learning_rate"]) > 0.8
    assert all(len(row) == 2 for row in shares.values())
    for row in zip(*shares.values(), strict=True):
        assert sum(row) == pytest.approx(1)


@pytest.mark.parametrize("found", [made(9), [made(1)[0]._replace(place=i) for i in range(12)]])
def test_importance_wants_enough_outcomes(found: list[Outcome]) -> None:
    with pytest.raises(ValueError, match="found is.*10 or more"):
        importance(found)
