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
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from learn2add import runs
from learn2add.data import load_digits
from learn2add.runs import RunError
from learn2add.studies.narrow import (
    BEST_002,
    BEST_003,
    GRID,
    LOGARITHMIC,
    RANGES,
    NarrowStage,
    setting_config,
)
from learn2add.studies.sweeps import (
    NOTHING,
    Outcome,
    Plan,
    importance,
    make_plan,
    outcomes,
    search,
    train_setting,
)

STAGE = NarrowStage("autoencoder", 6, 4, 32)
SMALL = {"filters1": 4, "filters2": 4, "filters3": 4, "units": 8}
RATES = (1e-3, 3e-3, 1e-2, 2e-2, 3e-2, 1e-1)


def tiny(stage: NarrowStage, count: int = 6, **fields: object) -> Plan:
    settings = tuple({"learning_rate": rate} | SMALL for rate in RATES[:count])
    return Plan("tiny", settings, stage, train_size=100, validation_size=50, **fields)


# Plans


def test_the_plans_are_the_reports() -> None:
    assert math.prod(len(values) for values in GRID.values()) == 49_152
    whole = make_plan("grid", count=60)
    assert whole.settings[0] == BEST_002
    assert len({tuple(setting.values()) for setting in whole.settings[1:]}) == 60
    assert all(setting[name] in GRID[name] for setting in whole.settings for name in GRID)
    assert {setting["code_size"] for setting in whole.settings} == {10}
    drawn = make_plan("draws").settings
    assert len(drawn) == 31 and drawn[0] == BEST_003
    for name, (low, high) in RANGES.items():
        values = np.array([setting[name] for setting in drawn])
        values = np.log10(values) if name in LOGARITHMIC else values
        assert (low <= values).all() and (values <= high).all()
    assert make_plan("draws", count=5).settings == drawn[:6]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: make_plan("sobol"), "grid.*draws"),
        (lambda: make_plan("grid", count=0), "count.*1 to 12288"),
        (lambda: make_plan("draws", count=0), "count"),
        (lambda: Plan("none", (), STAGE), "settings"),
        (lambda: Plan("odd", ({"momentum": 0.9},), STAGE), "setting.*momentum"),
        (lambda: Plan("mixed", ({"units": 8}, {"decay": 0.0}), STAGE), "settings"),
        (lambda: Plan("bad", ({"dropout": 1.0},), STAGE), "dropout"),
        (lambda: Plan("bad", ({"learning_rate": 0.0},), STAGE), "learning_rate"),
        (lambda: Plan("bad", ({"units": 8},), STAGE, (2, 2)), "rounds.*rising below 6"),
        (lambda: Plan("bad", ({"units": 8},), STAGE, (6,)), "rounds"),
        (lambda: Plan("bad", ({"units": 8},), STAGE, (0, 3)), "rounds"),
        (lambda: setting_config({"width": 3}, NarrowStage("autoencoder", 1)), "setting.*width"),
    ],
)
def test_bad_plans_are_refused(make, message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        make()


# Sweeps


def test_a_sweep_is_trained_once_and_shown(tmp_path: Path) -> None:
    plan = tiny(NarrowStage("autoencoder", 2, 2, 16), 3)
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
    with pytest.raises(RunError, match="another plan.*rounds.*stage"):
        search(replace(plan, rounds=(1,), stage=NarrowStage("autoencoder", 2)), tmp_path)
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
    plan = tiny(NarrowStage("autoencoder", 1, 1, 16), 1)
    with pytest.raises(OSError, match="cannot write"):
        search(plan, tmp_path / "file" / "sweep", progress=False)


def test_a_sweep_lies_where_runs_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEARN2ADD_RUNS", str(tmp_path))
    (found,) = search(tiny(NarrowStage("autoencoder", 1, 1, 16), 1), progress=False)
    assert found.epochs == 1
    assert (tmp_path / "studies" / "tiny" / "trials" / "0000" / "metrics.csv").exists()


HALVING = Plan(
    "halving",
    tuple({"learning_rate": 1e-8 if i in (0, 3) else 0.02 + 0.001 * i} | SMALL for i in range(7)),
    STAGE,
    (1, 3),
    train_size=200,
    validation_size=50,
)
"""Seven settings, then two, then one; the first and the fourth stand still."""


def test_the_best_third_goes_on_where_it_stood(tmp_path: Path) -> None:
    found = search(HALVING, tmp_path, progress=False)
    errors = [outcome.errors for outcome in found]
    second = sorted(range(7), key=lambda at: errors[at][0])[:2]
    third = min(second, key=lambda at: min(errors[at][:3]))
    wanted = [6 if at == third else 3 if at in second else 1 for at in range(7)]
    assert [outcome.epochs for outcome in found] == wanted
    assert [outcome.state == "complete" for outcome in found] == [at == third for at in range(7)]
    assert wanted[0] == wanted[3] == 1
    assert not list(tmp_path.rglob("last.safetensors"))
    whole = search(replace(HALVING, rounds=()), tmp_path.with_name("all"), progress=False)
    for one, other in zip(errors, whole, strict=True):
        assert one == pytest.approx(other.errors[: len(one)], rel=1e-6)
    for place in (0, third):
        events = EventAccumulator(str(tmp_path / "trials" / f"{place:04d}")).Reload()
        assert events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
        lowest = events.Scalars("summary/best_rmse")[-1].value ** 2
        assert lowest == pytest.approx(found[place].mse, rel=1e-5)


def test_a_round_that_was_cut_off_after_its_last_epoch_is_not_trained_on(tmp_path: Path) -> None:
    digits = [load_digits(split=split) for split in ("train", "validation")]
    home = tmp_path / "trials" / "0001"
    train_setting(HALVING, home, 1, *digits)
    whole = outcomes(tmp_path)
    (home / "outcome.json").unlink()  # as if killed before it was written
    train_setting(HALVING, home, 1, *digits)
    assert outcomes(tmp_path) == whole and whole[0].epochs == 1 and whole[0].state == "halted"


def test_a_training_cut_off_between_its_two_results_is_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = tiny(NarrowStage("autoencoder", 2, 2, 16), 1)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr("learn2add.studies.sweeps.write_result", killed)
        search(plan, tmp_path, progress=False)
    home = tmp_path / "trials" / "0000"
    before, weights = outcomes(tmp_path), (home / "weights.safetensors").read_bytes()
    assert before[0].state == "complete" and not (home / "result.json").exists()
    assert search(plan, tmp_path, progress=False) == before
    assert runs.load(home).result["best_epoch"] == before[0].best_epoch
    assert (home / "weights.safetensors").read_bytes() == weights


def test_what_diverges_is_not_trained_again(tmp_path: Path) -> None:
    settings = tuple({"learning_rate": rate} | SMALL for rate in (1e36, 1e-3))
    stage = NarrowStage("autoencoder", 2, 4, 16)
    plan = Plan("wild", settings, stage, train_size=100, validation_size=50)
    found = search(plan, tmp_path, progress=False)
    assert [outcome.state for outcome in found] == ["diverged", "complete"]
    assert (found[0].mse, found[0].epochs, found[0].best_epoch) == (math.inf, 0, 0)
    assert search(plan, tmp_path, progress=False) == found


PROGRAM = """
import json, sys
from pathlib import Path
from learn2add.studies.narrow import NarrowStage
from learn2add.studies.sweeps import Plan, search
settings, epochs, steps = json.loads(sys.argv[1])
plan = Plan("tiny", tuple(settings), NarrowStage("autoencoder", epochs, steps, 16), train_size=100,
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
    plan = tiny(NarrowStage("autoencoder", 4, 6, 16))
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
    plan = tiny(NarrowStage("autoencoder", 16, 4, 16), 2)
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
    shares = importance([*made(), diverged], 1, seeds=2, trees=12)
    assert set(shares) == {"learning_rate", "dropout", "units", NOTHING}
    assert next(iter(shares)) == "learning_rate"
    assert min(shares["learning_rate"]) > 0.8
    assert all(len(row) == 2 for row in shares.values())
    for row in zip(*shares.values(), strict=True):
        assert sum(row) == pytest.approx(1)


@pytest.mark.parametrize("found", [made(9), [made(1)[0]._replace(place=i) for i in range(12)]])
def test_importance_wants_enough_outcomes(found: list[Outcome]) -> None:
    with pytest.raises(ValueError, match="found is.*10 or more"):
        importance(found, 1)
