"""The evidence: the turn between whole numbers, fidelity and diversity, seeds, evaluations."""

import json
import math
from itertools import combinations
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from oracle import Oracle

from learn2add import evidence, recipes, runs
from learn2add.config import RunConfig, Stage
from learn2add.data import Digits, as_float, load_digits
from learn2add.evidence import chance, evaluate, kept_seeds
from learn2add.figures import evidence_sheet
from learn2add.judge import Judge, load_judge
from learn2add.measures import floors, judge_sums, reconstruction_rmse
from learn2add.pairs import CELLS


@pytest.fixture(scope="module")
def judge() -> Judge:
    return load_judge()


@pytest.fixture(scope="module")
def digits(mnist_test: Digits, judge: Judge) -> Digits:
    """A few hundred digits, all of which the judge reads right."""
    some = mnist_test.subset(400)
    right = judge.read(as_float(some.images)).argmax(1) == some.labels
    return Digits(some.images[right], some.labels[right], "MNIST", "test")


@pytest.mark.parametrize(("u50", "steepness"), [(1.5, 20), (1.37, 8), (1.9, 60)])
def test_turning_point_of_a_logistic_curve(u50: float, steepness: float) -> None:
    addends = np.linspace(1, 2, 21)
    p = 1 / (1 + np.exp(-steepness * (addends - u50)))
    third = 0.2 * np.sin(addends)  # mass on third digits does not move the turn
    found = evidence.turning_point(addends, (1 - p) * (1 - third), p * (1 - third))
    assert found.u50 == pytest.approx(u50, abs=2e-3)
    ends = [u50 + side * math.log(9) / steepness for side in (-1, 1)]  # where p is 0.1 and 0.9
    assert found.width == pytest.approx(ends[1] - ends[0], rel=2e-2)


def test_no_turn_no_turning_point() -> None:
    addends = np.linspace(1, 2, 21)
    for high in (np.full(21, 0.3), 2 - addends, np.zeros(21), np.ones(21)):
        assert all(math.isnan(v) for v in evidence.turning_point(addends, 1 - high, high))


def test_a_turn_from_one_addend_to_the_next() -> None:
    """Shares of 0 and 1 alone: the curve is as steep as it may be, and halfway between them."""
    addends = np.linspace(1, 2, 21)
    found = evidence.turning_point(addends, 1.0 * (addends < 1.48), 1.0 * (addends > 1.48))
    assert found.u50 == pytest.approx(1.475, abs=1e-3)
    assert found.width == pytest.approx(0.02, abs=5e-3)


def test_sweep_reads_what_is_drawn(judge: Judge, digits: Digits) -> None:
    threes = digits.images[digits.labels == 3]
    p = evidence.sweep(Oracle(digits), judge, threes, [0.0, 1.0, 4.0])
    assert p.shape == (3, 10)
    assert p.argmax(1).tolist() == [3, 4, 7]
    np.testing.assert_allclose(p.sum(1), 1, atol=1e-5)


@pytest.mark.parametrize("bad", [[float("nan")], [float("inf"), 1.0]])
def test_sweep_refuses_what_is_no_number(judge: Judge, digits: Digits, bad: list[float]) -> None:
    with pytest.raises(ValueError, match="addends"):
        evidence.sweep(Oracle(digits), judge, digits.images[:1], bad)


def test_frechet_distance_of_known_distributions() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(500, 6)) @ rng.normal(size=(6, 6)), rng.normal(2, 3, size=(400, 6))
    cov_a, cov_b = np.cov(a.T), np.cov(b.T)
    roots = np.sqrt(np.linalg.eigvals(cov_a @ cov_b).astype(complex)).real.sum()  # by definition
    wanted = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(cov_a + cov_b) - 2 * roots
    assert evidence.frechet_distance(a, b) == pytest.approx(wanted, rel=1e-9)
    assert evidence.frechet_distance(a, a) == pytest.approx(0, abs=1e-8)
    assert evidence.frechet_distance(a, a + 3) == pytest.approx(6 * 9, rel=1e-9)


def test_density_and_coverage_by_counting() -> None:
    rng = np.random.default_rng(1)
    real, made = rng.normal(size=(40, 3)), rng.normal(0.5, 1, size=(30, 3))
    k = 4
    inside = np.zeros((40, 30), bool)
    for i in range(40):
        radius = sorted(np.linalg.norm(real - real[i], axis=1))[k]
        for j in range(30):
            inside[i, j] = np.linalg.norm(made[j] - real[i]) < radius
    density, coverage = evidence.density_coverage(real, made, k)
    assert density == pytest.approx(inside.sum() / (k * 30))
    assert coverage == pytest.approx(inside.any(1).mean())


def test_class_means_are_right_but_not_various(judge: Judge, digits: Digits) -> None:
    [found] = evidence.sampled_sums(Oracle(digits), judge, digits, per_cell=20)
    assert found.accuracy == 1
    assert found.diversity == pytest.approx(0, abs=1e-9)
    assert found.coverage < 0.5


def test_evidence_of_an_untrained_model_is_complete(judge: Judge, mnist_test: Digits) -> None:
    model = RunConfig((Stage("addition", 1),), "generative_addition").build().eval()
    few = mnist_test.subset(200)
    assert sum(judge_sums(model, judge, few).blame[:3]) == pytest.approx(1)
    found = evidence.gather(model, judge, few)
    assert 0 <= found["sampled_cells_mean"] <= 0.5
    assert found["frechet"] > 10
    assert [sample["temperature"] for sample in found["samples"]] == [0, 0.5, 1]
    assert found["samples"][0]["diversity"] < found["samples"][2]["diversity"]
    assert len(CELLS) == 55


# Seeds


def test_seeds_come_back_in_their_order(tmp_path: Path) -> None:
    for seed in (10, 2, 0):
        row = {"rmse": seed / 100, "cells_mean": 1.0}
        (tmp_path / f"conv_transpose-{seed}.json").write_text(json.dumps(row))
    (tmp_path / "adder-0.json").write_text('{"cells_mean": 0.5}')
    found = kept_seeds(tmp_path)
    assert list(found) == ["adder", "conv_transpose"]
    assert found["conv_transpose"]["rmse"].tolist() == [0.0, 0.02, 0.1]
    assert found["adder"]["cells_mean"].tolist() == [0.5]


def test_the_project_comes_with_seeds() -> None:
    found = kept_seeds()
    assert {"conv_transpose", "conv_upsample", "addition", "adder"} <= set(found)
    assert all((values["cells_mean"] > 0.9).all() for n, values in found.items() if "add" in n)


def test_chance_is_the_share_of_splits_that_differ_as_much() -> None:
    a, b = [1.0, 2.5, 3.0, 9.0], [4.0, 5.0, 7.5]
    both = np.array(a + b)
    seen = abs(np.mean(a) - np.mean(b))
    differences = [
        abs(both[list(some)].mean() - np.delete(both, some).mean())
        for some in combinations(range(len(both)), len(a))
    ]
    assert chance(a, b) == pytest.approx(np.mean(np.array(differences) >= seen - 1e-12))


def test_chance_of_nothing_in_common_and_of_no_difference() -> None:
    assert chance(range(5), range(5, 10)) == pytest.approx(2 / 252)
    assert chance([1.0, 2.0], [1.0, 2.0]) == 1


@pytest.mark.parametrize("bad", [[1.0], [1.0, np.nan], [[1.0, 2.0]], 3.0])
def test_chance_refuses(bad: object) -> None:
    with pytest.raises(ValueError, match="b .*two or more finite numbers"):
        chance([1.0, 2.0], bad)


# The whole evaluation

STABLE_KEYS = {
    "judge_accuracy", "rmse", "cells_mean", "cells_worst", "pairs_mean", "sum_mse",
    "floor_class_mean", "floor_one_mean",
}  # fmt: skip


def few_digits(dataset: str, split: str) -> Digits:
    return load_digits(dataset, split).subset(300)


def tiny_run(config: RunConfig, folder: Path, monkeypatch: pytest.MonkeyPatch) -> runs.Run:
    monkeypatch.setattr(runs, "load_digits", few_digits)
    return runs.load_or_train(config, folder, device="cpu", progress=False)


def test_evaluation_of_an_addition_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = RunConfig((Stage("addition", 1, 2, 32),), model="addition", train_size=200)
    run = tiny_run(config, tmp_path / "run", monkeypatch)
    found = json.loads(json.dumps(evaluate(run)))  # all of it travels as JSON
    assert STABLE_KEYS <= found.keys()
    digits = few_digits("MNIST", "test")
    assert found["floor_class_mean"] == pytest.approx(floors(digits)["floor_class_mean"])
    assert found["rmse"] == pytest.approx(reconstruction_rmse(run.model("cpu"), digits), rel=1e-6)
    for name in ("cells_mean", "pairs_mean", "cells_worst"):
        low, high = found[f"{name}_interval"]
        assert 0 <= low <= found[name] <= high <= 1
    assert found["floor_class_mean"] < found["sum_mse"] < 0.3
    assert found["cells_worst"] <= found["cells_mean"] < 0.5  # two steps of training teach nothing
    assert found["judge_accuracy"] > 0.97


def test_evaluation_of_a_reconstruction_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = RunConfig((Stage("autoencoder", 1, 2, 32),), image_size=32, train_size=200)
    run = tiny_run(config, tmp_path / "run", monkeypatch)
    found = evaluate(run, "validation")
    assert found.keys() == {"split", "rmse", "judge_accuracy"} and found["split"] == "validation"
    digits = few_digits("MNIST", "validation").resized(32)
    assert found["rmse"] == pytest.approx(reconstruction_rmse(run.model("cpu"), digits))


# Its figures


def test_evidence_figures_draw_what_the_model_does(
    judge: Judge, digits: Digits, monkeypatch: pytest.MonkeyPatch
) -> None:
    oracle = Oracle(digits)
    oracle.stochastic = True
    run = SimpleNamespace(
        folder=Path("oracle"),
        config=recipes.part4(),
        model=lambda _: oracle,
    )
    monkeypatch.setattr(runs, "load_digits", lambda *_: digits)
    samples = [{"temperature": 1.0, "accuracy": 0.9, "diversity": 0.4}]
    found = {"split": "test", "u50": None, "samples": samples}
    drawn = dict(evidence_sheet.evidence_figures(run, found, progress=False))
    assert list(drawn) == ["cells", "causes", "between", "variety", "staircase"]
    (mesh,) = drawn["staircase"].axes[0].collections
    p = mesh.get_array().reshape(10, -1)
    assert p.shape == (10, 181)
    # The oracle adds the whole part of a number: from every digit the sum's whole part is read.
    assert (p.argmax(0) == np.arange(181) // 20).all()
    np.testing.assert_allclose(p.max(0), 1, atol=1e-2)


def test_evidence_figures_are_of_runs_that_add() -> None:
    run = SimpleNamespace(folder=Path("here"), config=recipes.part2())
    with pytest.raises(ValueError, match="here is an autoencoder"):
        next(evidence_sheet.evidence_figures(run, {"split": "test"}))
