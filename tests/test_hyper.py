"""Plans of settings: what the reports searched, shared by processes, finished after a kill."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from learn2add import figures, plans
from learn2add.hyper import Outcome, best, outcomes, search
from learn2add.importance import NOTHING, importance
from learn2add.plans import BEST_002, GRID, RANGES, Plan, make_plan
from learn2add.runs import RunError
from learn2add.stages import Stage
from learn2add.studies import open_study, quiet

SMALL = {"filters1": 4, "filters2": 4, "filters3": 4, "units": 8}
RATES = (1e-3, 3e-3, 1e-2, 2e-2, 3e-2, 1e-1)


def tiny(stage: Stage, count: int = 6, **fields: object) -> Plan:
    settings = tuple({"learning_rate": rate} | SMALL for rate in RATES[:count])
    return Plan("tiny", settings, stage, train_size=100, validation_size=50, **fields)


# Plans


def test_the_plans_are_the_reports() -> None:
    assert math.prod(len(values) for values in GRID.values()) == 49_152
    assert all(BEST_002[name] in values for name, values in GRID.items())
    whole = make_plan("grid", count=60)
    assert all(setting[name] in GRID[name] for setting in whole.settings for name in GRID)
    drawn = make_plan("draws").settings
    assert len(drawn) == 31
    for name, (low, high) in RANGES.items():
        values = np.array([setting[name] for setting in drawn])
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
    assert config.stages[0].patience == 10 and config.dropout == 0 and config.hidden == "relu"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: make_plan("sobol"), "plan.*grid.*star.*draws"),
        (lambda: make_plan("grid", budget="long"), "budget"),
        (lambda: make_plan("grid", count=0), "count.*1 to 49152"),
        (lambda: make_plan("draws", count=0), "count"),
        (lambda: make_plan("star", count=3), "count.*star"),
        (lambda: Plan("none", ()), "settings"),
        (lambda: Plan("odd", ({"momentum": 0.9},)), "settings.*momentum"),
        (lambda: Plan("mixed", ({"units": 8}, {"decay": 0.0})), "settings"),
        (lambda: Plan("twice", ({"units": 8}, {"units": 8})), "settings.*twice"),
        (lambda: Plan("bad", ({"dropout": 1.0},)), "dropout"),
        (lambda: Plan("bad", ({"learning_rate": 0.0},)), "learning_rate"),
        (lambda: plans.setting_config({"width": 3}, Stage("autoencoder", 1)), "setting.*width"),
    ],
)
def test_bad_plans_are_refused(make, message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        make()


# Studies


def test_a_study_is_trained_once_and_shown(tmp_path: Path) -> None:
    plan = tiny(Stage("autoencoder", 2, 2, 16), 3)
    found = search(plan, tmp_path, progress=False)
    assert [outcome.place for outcome in found] == [0, 1, 2]
    assert [outcome.setting for outcome in found] == list(plan.settings)
    assert all(outcome.state == "complete" and outcome.epochs == 2 for outcome in found)
    assert len({outcome.mse for outcome in found}) == 3
    files = [file for file in (tmp_path / "trials").rglob("*") if file.is_file()]
    written = [file.stat().st_mtime_ns for file in files]
    assert search(plan, tmp_path, progress=False) == found
    assert [file.stat().st_mtime_ns for file in files] == written
    with pytest.raises(RunError, match="another plan.*settings"):
        search(tiny(plan.stage, 2), tmp_path, progress=False)
    with pytest.raises(RunError, match="another plan.*seed.*stage"):
        search(replace(plan, seed=1, stage=Stage("autoencoder", 2)), tmp_path, progress=False)
    for place in range(3):
        events = EventAccumulator(str(tmp_path / "trials" / f"{place:04d}")).Reload()
        assert events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content


def test_a_study_below_a_file_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="cannot write"):
        search(tiny(Stage("autoencoder", 1, 1, 16), 1), tmp_path / "file" / "study", progress=False)


def test_what_falls_behind_is_given_up_and_shown(tmp_path: Path) -> None:
    """Six trainings that learn, then one that stands still."""
    settings = tuple({"learning_rate": 0.02 + 0.001 * i} | SMALL for i in range(6))
    plan = Plan(
        "pruned",
        (*settings, {"learning_rate": 1e-8} | SMALL),
        Stage("autoencoder", 6, 4, 32),
        train_size=200,
        validation_size=50,
        prune=True,
    )
    found = search(plan, tmp_path, progress=False)
    assert found[-1].state == "pruned" and found[-1].epochs < 6
    assert found[0].state == "complete" and best(found).place < 6
    events = EventAccumulator(str(tmp_path / "trials" / "0006")).Reload()
    assert events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    assert events.Scalars("best/rmse/validation")[0].value ** 2 == pytest.approx(found[-1].mse)


PROGRAM = """
import sys
from pathlib import Path
from learn2add.hyper import search
from learn2add.plans import Plan
from learn2add.stages import Stage
import json
settings, epochs, steps = json.loads(sys.argv[1])
plan = Plan("tiny", tuple(settings), Stage("autoencoder", epochs, steps, 16), train_size=100,
            validation_size=50)
print(len(search(plan, Path(sys.argv[2]), device="cpu", progress=False)))
"""


def process(plan: Plan, folder: Path) -> subprocess.Popen:
    what = json.dumps([plan.settings, plan.stage.epochs, plan.stage.steps])
    command = [sys.executable, "-c", PROGRAM, what, str(folder)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    )


def trials_of(plan: Plan, folder: Path) -> list:
    with quiet():
        return open_study(plan, folder).get_trials()


def epochs_of(folder: Path) -> list[list[int]]:
    """Of each place the epochs in its event files, in the order they were written."""
    return [
        [event.step for event in EventAccumulator(str(home)).Reload().Scalars("rmse/validation")]
        for home in sorted((folder / "trials").iterdir())
    ]


@pytest.mark.slow
def test_two_processes_share_a_study(tmp_path: Path) -> None:
    plan = tiny(Stage("autoencoder", 4, 6, 16))
    workers = [process(plan, tmp_path) for _ in range(2)]
    for worker in workers:
        out, errors = worker.communicate(timeout=600)
        assert (worker.returncode, out.split()) == (0, [b"6"]), errors.decode()[-2000:]
    trials = trials_of(plan, tmp_path)
    assert Counter(trial.state.name for trial in trials) == {"COMPLETE": 6}
    assert sorted(trial.user_attrs["place"] for trial in trials) == list(range(6))
    assert epochs_of(tmp_path) == [[1, 2, 3, 4]] * 6
    alone = search(plan, tmp_path.with_name("alone"), device="cpu", progress=False)
    with quiet():
        shared = outcomes(open_study(plan, tmp_path))
    assert [o.mse for o in shared] == pytest.approx([o.mse for o in alone], rel=1e-3)


@pytest.mark.slow
def test_a_killed_study_is_finished_without_repeating(tmp_path: Path) -> None:
    plan = tiny(Stage("autoencoder", 16, 4, 16), 2)
    worker, deadline = process(plan, tmp_path), time.monotonic() + 300
    second = tmp_path / "trials" / "0001" / "metrics.csv"
    while not (second.exists() and second.read_text().count("\n") > 5):  # the head and 5 epochs
        assert worker.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    os.killpg(worker.pid, signal.SIGKILL)
    worker.wait()
    first = tmp_path / "trials" / "0000"
    written = {f: f.stat().st_mtime_ns for f in first.iterdir()}
    assert [trial.state.name for trial in trials_of(plan, tmp_path)] == ["COMPLETE", "RUNNING"]

    found = search(plan, tmp_path, device="cpu", progress=False)
    assert [(outcome.state, outcome.epochs) for outcome in found] == [("complete", 16)] * 2
    assert {f: f.stat().st_mtime_ns for f in first.iterdir()} == written
    states = [trial.state.name for trial in trials_of(plan, tmp_path)]
    assert states == ["COMPLETE", "FAIL", "COMPLETE"]
    assert [sorted(set(epochs)) for epochs in epochs_of(tmp_path)] == [list(range(1, 17))] * 2
    again = search(plan, tmp_path.with_name("whole"), device="cpu", progress=False)
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
        found.append(Outcome(place, setting, "complete", error, 5, 5, 1.0))
    return found


def test_importance_finds_what_decides() -> None:
    pytest.importorskip("sklearn")
    diverged = Outcome(40, made()[0].setting, "diverged", math.nan, 0, 0, 0.0)
    shares = importance([*made(), diverged], seeds=2, trees=12)
    assert set(shares) == {"learning_rate", "dropout", "units", NOTHING}
    assert next(iter(shares)) == "learning_rate"
    assert min(shares["learning_rate"]) > 0.8
    assert all(len(row) == 2 for row in shares.values())
    for row in zip(*shares.values(), strict=True):
        assert sum(row) == pytest.approx(1)


@pytest.mark.parametrize("found", [made(9), [made(1)[0]._replace(place=i) for i in range(12)]])
def test_importance_wants_enough_outcomes(found: list[Outcome]) -> None:
    with pytest.raises(ValueError, match="found holds.*10 or more"):
        importance(found)


def test_the_best_of_none_is_refused() -> None:
    with pytest.raises(ValueError, match="found"):
        best([])


# Figures


def test_importance_is_drawn() -> None:
    figure = figures.importance_bars({"rate": [0.5, 0.6], "units": [0.3, 0.2], "(nothing)": [0.1]})
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels == ["rate", "units", "(nothing)"]
    widths = [bar.get_width() for bar in figure.axes[0].patches]
    assert widths == pytest.approx([55, 25, 10])


def test_slices_show_every_setting() -> None:
    found = made()
    settings = {name: [o.setting[name] for o in found] for name in found[0].setting}
    errors, up = [o.mse for o in found], [o.place % 4 == 0 for o in found]
    figure = figures.slices(settings, errors, logarithmic=["learning_rate"], given_up=up)
    shown = [axes for axes in figure.axes if axes.get_visible() and axes.collections]
    assert [axes.get_xlabel() for axes in shown] == ["learning_rate", "dropout", "units"]
    for axes in shown:
        assert sum(len(dots.get_offsets()) for dots in axes.collections) == len(found)
    assert shown[0].get_xscale() == "log" and shown[1].get_xscale() == "linear"


@pytest.mark.parametrize(
    ("draw", "word"),
    [
        (lambda: figures.importance_bars({}), "shares"),
        (lambda: figures.importance_bars({"a": [1.2]}), "shares"),
        (lambda: figures.slices({}, [1.0]), "settings"),
        (lambda: figures.slices({"a": [1, 2]}, [1.0]), "settings"),
        (lambda: figures.slices({"a": [1.0]}, [0.0]), "errors"),
        (lambda: figures.slices({"a": [1, 2]}, [1, 2], given_up=[True]), "given_up"),
        (lambda: figures.slices({"a": [1, 2]}, [1, 2], marked={"b": 1}), "marked"),
        (lambda: figures.slices({"a": range(7)}, [1] * 7, logarithmic=["a"]), "logarithmic"),
    ],
)
def test_figures_refuse_what_does_not_fit(draw, word: str) -> None:
    with pytest.raises(ValueError, match=word):
        draw()
