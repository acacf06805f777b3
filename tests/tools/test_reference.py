"""All runs of a budget, one after the other, through a kill."""

import json

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from learn2add import recipes, runs
from learn2add.runs import load, load_or_train
from learn2add.tensorboard import write_metrics
from tools import reference
from tools.publish import publish


@pytest.fixture(autouse=True)
def _runs(tmp_path, monkeypatch):
    """None is there yet, not even those that came with the project."""
    monkeypatch.setenv("LEARN2ADD_RUNS", str(tmp_path))
    monkeypatch.setattr(runs, "kept", lambda config, name: None)


def test_the_plan_is_where_the_notebooks_look():
    names = [planned.name for planned in reference.plan()]
    assert len(names) == len(set(names)) == 15
    assert names[:3] == [
        "part3/reference",
        "part4/variational_addition-conv_transpose",
        "part4/generative_addition-conv_transpose",
    ]
    assert all(name.endswith("code7") for name in names[3:7])
    assert all("interpolation" in name for name in names[-4:])  # copies
    for planned in reference.plan():
        part, name = planned.name.split("/")
        assert planned.folder == runs.runs_root() / part / name
        assert [stage.epochs for stage in planned.config.stages] == [100]


def test_runs_that_came_with_the_project_are_done(tmp_path, monkeypatch):
    monkeypatch.setenv("LEARN2ADD_RUNS", str(tmp_path / "kept"))
    config = recipes.part2(budget="smoke")
    folder = tmp_path / "kept" / "part2" / "conv_transpose-l2-code2"
    there = load_or_train(config, folder, progress=False)
    monkeypatch.setenv("LEARN2ADD_RUNS", str(tmp_path / "elsewhere"))
    kept = lambda asked, name: there if (asked, name) == (config, at) else None  # noqa: E731
    monkeypatch.setattr(runs, "kept", kept)
    monkeypatch.setattr(recipes, "all_part2", lambda budget: {"conv_transpose-l2-code2": config})
    at = "part2/conv_transpose-l2-code2"
    assert load_or_train(config, recipes.place(*at.split("/"), "reference")) == there
    planned = {planned.name: planned for planned in reference.plan()}
    assert planned[at].folder == folder
    assert reference.progress(planned[at]).complete
    assert not (tmp_path / "elsewhere").exists()


def rows(count, seconds):
    return [{"stage": 0, "epoch": epoch + 1, "seconds": seconds} for epoch in range(count)]


def test_time_left_goes_by_the_epochs_there_are():
    plan = reference.plan()
    assert reference.seconds_left(plan) is None
    assert "unknown" in reference.status(plan)
    for planned, count, seconds in ((plan[0], 10, 30.0), (plan[3], 100, 20.0)):
        planned.folder.mkdir(parents=True)
        write_metrics(planned.folder / "metrics.csv", rows(count, seconds))
    (plan[3].folder / "result.json").write_text(json.dumps({}))
    # 90 epochs of Part III; Part IV, of which nothing is known, at the mean of the two; the
    # seven other trainings of Part II as the one that is complete; its four copies take no time.
    assert reference.seconds_left(plan) == pytest.approx(90 * 30 + 200 * 25 + 700 * 20)
    status = reference.status(plan).splitlines()
    assert status[0].split()[1:] == ["epoch", "10", "of", "100"]
    assert status[3].endswith("complete")
    assert status[-1] == "time left: about 6 h 02 min"


def test_list_trains_nothing(tmp_path, capsys):
    assert reference.main(["--list"]) == 0
    assert capsys.readouterr().out.count("epoch 0 of 100") == 15
    assert not list(tmp_path.iterdir())


def test_the_runs_beside_are_a_list_of_their_own(tmp_path, capsys):
    plan = reference.plan(beside=True)
    assert not {run.name for run in plan} & {run.name for run in reference.plan()}
    assert len({run.folder for run in plan}) == len(plan)
    assert reference.main(["--beside", "--list"]) == 0
    said = capsys.readouterr().out
    assert all(run.name in said for run in plan) and "part3/reference" not in said
    with pytest.raises(SystemExit):
        reference.main(["--beside", "--budget", "smoke"])
    assert "not allowed with argument --beside" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_runs_beside_are_trained_in_their_place(tmp_path, capsys, monkeypatch):
    config = recipes.part2(budget="smoke")
    monkeypatch.setattr(reference, "runs_beside", lambda: {"part2/scheduled-code2": config})
    assert reference.main(["--beside"]) == 0
    assert load(tmp_path / "part2" / "scheduled-code2").config == config
    assert capsys.readouterr().out.splitlines()[-1] == "time left: about 0 min"


@pytest.mark.slow
def test_what_is_missing_is_trained_and_what_is_there_is_not(tmp_path, capsys, monkeypatch):
    trained = []
    train = reference.train

    def stopped(planned):
        if len(trained) == 2:
            raise KeyboardInterrupt
        trained.append(planned.name)
        return train(planned, show=False)

    monkeypatch.setattr(reference, "train", stopped)
    assert reference.main(["--budget", "smoke"]) == 130
    assert len(list(tmp_path.rglob("result.json"))) == 2
    monkeypatch.setattr(
        reference, "train", lambda p: trained.append(p.name) or train(p, show=False)
    )
    assert reference.main(["--budget", "smoke"]) == 0
    assert trained == [planned.name for planned in reference.plan("smoke")]
    assert len(list(tmp_path.rglob("result.json"))) == 15
    assert capsys.readouterr().out.splitlines()[-1] == "time left: about 0 min"


@pytest.mark.slow
def test_decoder_3_repeats_decoder_2_to_the_last_bit_and_is_copied(tmp_path, monkeypatch):
    planned = {p.name.split("/")[1]: p for p in reference.plan("smoke") if "part2" in p.name}
    second, third = (planned[f"{name}-bce-code2"] for name in ("conv_upsample", "interpolation"))
    assert reference.original_of(third) == second
    trained = load_or_train(third.config, tmp_path / "trained", progress=False)
    copied = reference.train(third, show=False)  # the other is trained on the way
    original = load(second.folder)
    assert copied.config == third.config and copied.result["same_as"] == second.folder.name
    assert copied.history == original.history
    curves = EventAccumulator(str(copied.folder)).Reload().Scalars("rmse/validation")
    assert [e.value for e in curves] == pytest.approx(copied.curve("rmse")["validation"])
    own, other = (run.model("cpu").state_dict() for run in (copied, trained))
    assert all(torch.equal(own[name], other[name]) for name in own)

    kept = [publish(run, tmp_path / "kept" / run.folder.name) for run in (original, copied)]
    assert not (kept[1].folder / "weights.safetensors").exists()
    own, other = (run.model("cpu").state_dict() for run in kept)
    assert all(torch.equal(own[name], other[name]) for name in own)
    assert (publish(copied, tmp_path / "alone" / "run").folder / "weights.safetensors").exists()
