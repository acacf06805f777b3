"""Measures against brute force, tables and oracles, on the real test digits."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from learn2add import evaluation, runs
from learn2add.configs import RunConfig, Stage
from learn2add.data import Digits, as_float, load_digits
from learn2add.evaluation import (
    SumScores,
    _mean_over,
    add,
    evaluate,
    floors,
    judge_accuracy,
    judge_sums,
    reconstruct,
    reconstruction_rmse,
    summarise,
    wilson,
)
from learn2add.judge import Judge, load_judge
from learn2add.models import AdditionInference, AdditionModel, Autoencoder
from learn2add.pairs import CELLS, transform_data_add
from learn2add.runs import load_or_train
from learn2add.sums import read_sums


@pytest.fixture(scope="module")
def few(mnist_test: Digits) -> Digits:
    """500 test digits in their natural mixture."""
    return Digits(mnist_test.images[:500], mnist_test.labels[:500], "MNIST", "test")


@pytest.fixture(scope="module")
def judge() -> Judge:
    return load_judge()


# Wilson's interval


@pytest.mark.parametrize(
    ("correct", "total", "low", "high"),
    [
        # Newcombe, Statistics in Medicine 17 (1998) 857, table I, method 3.
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
        (29, 29, 0.8830, 1.0),  # the mirror image of his 0 of 29
    ],
)
def test_wilson_against_published_values(correct: int, total: int, low: float, high: float) -> None:
    found = wilson(correct, total)
    assert found.value == pytest.approx(correct / total)
    assert found.low == pytest.approx(low, abs=5e-5)
    assert found.high == pytest.approx(high, abs=5e-5)


@given(st.integers(1, 10_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
@settings(max_examples=100, deadline=None)
def test_wilson_ends_solve_the_score_equation(trial: tuple[int, int]) -> None:
    """At either end, the observed share lies exactly 1.96 standard errors away."""
    correct, total = trial
    share, low, high = wilson(correct, total)
    assert 0 <= low <= share + 1e-12 and share <= high + 1e-12 and high <= 1
    for end in (low, high):
        distance = abs(correct / total - end)
        assert distance == pytest.approx(1.959964 * math.sqrt(end * (1 - end) / total), abs=1e-6)


def test_wilson_takes_arrays_and_no_trials() -> None:
    found = wilson(np.array([[81, 15], [0, 0]]), np.array([[263, 148], [0, 20]]))
    assert found.low[0] == pytest.approx([0.2553, 0.0624], abs=5e-5)
    assert np.isnan([found.value[1, 0], found.low[1, 0], found.high[1, 0]]).all()
    assert found.high[1, 1] == pytest.approx(0.1611, abs=5e-5)


# Floors


def by_the_handouts_pairs(digits: Digits) -> tuple[np.ndarray, np.ndarray]:
    """Sums and target indices of every pair of the handout."""
    numbered = np.arange(len(digits)).reshape(-1, 1, 1)
    _, _, img_out = transform_data_add(numbered, digits.labels.numpy(), (1, 1))
    targets = np.array(img_out).ravel()
    return digits.labels.numpy()[targets], targets


@pytest.mark.parametrize("size", [28, 32])
def test_floors_against_brute_force(few: Digits, size: int) -> None:
    """Every answer against every real picture of the sum, by NumPy."""
    digits = few.resized(size)
    pixels, labels = digits.images.numpy() / 255.0, digits.labels.numpy()
    sums, _ = by_the_handouts_pairs(few)
    share = np.bincount(sums, minlength=10) / len(sums)
    classes = [pixels[labels == d] for d in range(10)]
    one_mean = sum(s * c.mean(0) for s, c in zip(share, classes, strict=True))
    class_mean = sum(s * ((c - c.mean(0)) ** 2).mean() for s, c in zip(share, classes, strict=True))
    one = sum(s * ((c - one_mean) ** 2).mean() for s, c in zip(share, classes, strict=True))
    real = sum(
        s * np.mean([((c - picture) ** 2).mean() for picture in c])
        for s, c in zip(share, classes, strict=True)
    )
    assert floors(digits) == pytest.approx(
        {"floor_class_mean": class_mean, "floor_one_mean": one, "real_digit": real}, rel=1e-6
    )


def test_no_single_picture_beats_the_one_mean(few: Digits) -> None:
    pixels = few.images.numpy() / 255.0
    sums, targets = by_the_handouts_pairs(few)
    share = np.bincount(sums, minlength=10) / len(sums)
    each = sum(s * pixels[few.labels.numpy() == d].mean(0) for d, s in enumerate(share))
    floor = floors(few)["floor_one_mean"]

    def score(picture: np.ndarray) -> float:
        errors = ((pixels - picture) ** 2).mean((1, 2))
        return sum(s * errors[few.labels.numpy() == d].mean() for d, s in enumerate(share))

    assert score(each) == pytest.approx(floor, rel=1e-6)
    rng = np.random.default_rng(0)
    for other in (
        pixels.mean(0),
        np.zeros((28, 28)),
        pixels[targets[0]],
        each * 1.01,
        each + 0.01 * rng.standard_normal((28, 28)),
    ):
        assert score(other) > floor


def test_floors_of_the_test_digits(mnist_test: Digits) -> None:
    found = floors(mnist_test)
    assert found["floor_class_mean"] == pytest.approx(0.0530, abs=5e-4)
    assert found["floor_one_mean"] == pytest.approx(0.0648, abs=5e-4)
    assert found["real_digit"] == pytest.approx(2 * found["floor_class_mean"])


# Sums that an oracle draws


class KnowsTheLabels(nn.Module):
    """An encoder whose code is the true label, looked up by the pixels."""

    def __init__(self, digits: Digits) -> None:
        super().__init__()
        pictures = as_float(digits.images)
        self.labels = {
            p.numpy().tobytes(): float(y) for p, y in zip(pictures, digits.labels, strict=True)
        }

    def forward(self, x: Tensor) -> Tensor:
        return torch.tensor([[self.labels[picture.numpy().tobytes()]] for picture in x])


class Adds(nn.Module):
    def __init__(self, also: int = 0) -> None:
        super().__init__()
        self.also = also

    def forward(self, z: Tensor, addend: Tensor) -> Tensor:
        return (z + addend[:, None] + self.also) % 10


class DrawsClassMeans(nn.Module):
    def __init__(self, digits: Digits) -> None:
        super().__init__()
        classes = [as_float(digits.images[digits.labels == d]) for d in range(10)]
        self.means = torch.stack([pictures.mean(0) for pictures in classes])

    def forward(self, z: Tensor) -> Tensor:
        return self.means[z[:, 0].round().long()]


def oracle(digits: Digits, also: int = 0) -> AdditionInference:
    return AdditionInference(KnowsTheLabels(digits), Adds(also), DrawsClassMeans(digits))


def test_an_oracle_scores_one(few: Digits, judge: Judge) -> None:
    scores = judge_sums(oracle(few), judge, few)
    sizes = np.bincount(few.labels.numpy())
    expected = np.array([[sizes[d] if d + a < 10 else 0 for a in range(10)] for d in range(10)])
    assert np.array_equal(scores.total, expected)
    assert np.array_equal(scores.correct, expected)
    found = summarise(scores, few)
    assert found["cells_mean"] == found["pairs_mean"] == found["cells_worst"] == 1
    assert found["cells_mean_interval"][1] == pytest.approx(1)
    assert 0.98 < found["cells_mean_interval"][0] < 1
    assert np.array_equal(
        scores.confusion, np.diag([sum(sizes[d] for d in range(total + 1)) for total in range(10)])
    )
    # The class means are the best answer there is: the oracle's error is the floor.
    assert found["sum_mse"] == pytest.approx(floors(few)["floor_class_mean"], rel=1e-6)


def test_a_wrong_oracle_scores_nothing(few: Digits, judge: Judge) -> None:
    scores = judge_sums(oracle(few, also=1), judge, few)
    found = summarise(scores, few)
    assert found["cells_mean"] == found["pairs_mean"] == found["cells_worst"] == 0
    assert (
        found["cells_mean_interval"][0] == pytest.approx(0, abs=1e-9)
        and 0 < found["cells_mean_interval"][1] < 0.02
    )
    assert scores.correct.sum() == 0 and scores.total.sum() == scores.confusion.sum() > 0
    for total in range(10):
        assert scores.confusion[total].argmax() == (total + 1) % 10
    assert found["sum_mse"] > floors(few)["floor_class_mean"] + 0.01


def test_one_wrong_cell_is_found(few: Digits, judge: Judge) -> None:
    """An oracle that fails at 3 + 4 alone, for a third of the threes."""

    class Stumbles(Adds):
        def forward(self, z: Tensor, addend: Tensor) -> Tensor:
            right = super().forward(z, addend)
            wrong = (z[:, 0] == 3) & (addend == 4) & (torch.arange(len(z)) % 3 == 0)
            return torch.where(wrong[:, None], 1.0, right)

    model = oracle(few)
    model.adder = Stumbles()
    scores = judge_sums(model, judge, few)
    threes = int((few.labels == 3).sum())
    missed = -(-threes // 3)
    found = summarise(scores, few)
    assert found["cells_worst_cell"] == [3, 4]
    assert found["cells_worst"] == pytest.approx(1 - missed / threes)
    assert found["cells_mean"] == pytest.approx(1 - missed / threes / 55)
    assert found["pairs_mean"] == pytest.approx(1 - missed / scores.total.sum())
    low, high = found["cells_worst_interval"]
    reference = wilson(threes - missed, threes)
    assert (low, high) == pytest.approx((reference.low, reference.high))
    assert scores.confusion[7, 1] == missed


def test_the_error_is_that_to_random_real_pictures(few: Digits, judge: Judge) -> None:
    """``mse`` is an expectation over all real pictures of the sum; here each is tried."""
    torch.manual_seed(0)
    model = AdditionModel().inference()
    scores = judge_sums(model, judge, few)
    pixels = few.images.numpy() / 255.0
    for digit, addend in ((0, 0), (3, 4), (9, 0), (1, 8)):
        inputs = few.images[few.labels == digit]
        drawn = add(model, inputs, addend)[:, 0].numpy()
        real = pixels[few.labels.numpy() == digit + addend]
        expected = np.mean([((real - picture) ** 2).mean() for picture in drawn])
        assert scores.mse[digit, addend] == pytest.approx(expected, rel=1e-5)
    assert np.isfinite(scores.mse).sum() == len(CELLS)


def test_a_digit_is_judged_in_all_its_cells(few: Digits, judge: Judge) -> None:
    scores = judge_sums(oracle(few), judge, few)
    for digit, right in enumerate(scores.right):
        assert right.dtype == bool and right.shape == (int((few.labels == digit).sum()), 10 - digit)


def test_two_judges_read_the_same_drawings(few: Digits, judge: Judge) -> None:
    """Each as if it were alone; every sum is drawn once for both."""
    torch.manual_seed(0)
    model, second, calls = AdditionModel().inference(), load_judge(architecture="mlp"), []
    model.adder.register_forward_hook(lambda *_: calls.append(1))
    together = read_sums(model, (judge, second), few)
    assert len(calls) == len(CELLS)
    for reader, found in zip((judge, second), together, strict=True):
        alone = judge_sums(model, reader, few)
        assert found.causes == alone.causes
        np.testing.assert_array_equal(found.correct, alone.correct)
        np.testing.assert_array_equal(found.confusion, alone.confusion)
        np.testing.assert_array_equal(found.mse, alone.mse)
    assert not np.array_equal(together[0].confusion, together[1].confusion)


# Means over cells


def simulated(rng: np.random.Generator, per_digit: int) -> list[np.ndarray]:
    """Pictures that are bad in most of their cells or good in all, as misread digits are."""
    found = []
    for digit in range(10):
        bad = rng.random((per_digit, 1)) < 0.04 + 0.01 * digit
        miss = rng.random((per_digit, 10 - digit)) < np.where(bad, 0.8, 0.01)
        found.append(~miss)
    return found


def scores_of(right: list[np.ndarray]) -> SumScores:
    return SumScores(right, np.zeros((10, 10)), np.zeros((10, 10), int))


@pytest.mark.parametrize("name", ["cells", "pairs"])
def test_mean_interval_against_the_bootstrap(name: str) -> None:
    """Resampling test pictures, each with all its cells, spreads the mean as the interval says."""
    rng = np.random.default_rng(0)
    right = simulated(rng, 100)
    scores = scores_of(right)
    weights = 1 / np.maximum(scores.total, 1) if name == "cells" else np.ones((10, 10))
    found = _mean_over(scores, weights)

    def mean(of: list[np.ndarray]) -> float:
        if name == "cells":
            return float(np.concatenate([r.mean(0) for r in of]).mean())
        return float(np.concatenate([r.ravel() for r in of]).mean())

    assert found.value == pytest.approx(mean(right))
    bootstrap = [mean([r[rng.integers(0, len(r), len(r))] for r in right]) for _ in range(3000)]
    low, high = np.percentile(bootstrap, [2.5, 97.5])
    width = high - low
    assert found.high - found.low == pytest.approx(width, rel=0.12)
    assert abs(found.low - low) < 0.15 * width and abs(found.high - high) < 0.15 * width
    # Taking every drawn picture for a trial of its own would claim far too much.
    naive = wilson(found.value * scores.total.sum(), scores.total.sum())
    assert naive.high - naive.low < 0.75 * width


def test_mean_interval_covers_the_truth() -> None:
    truth = np.mean([1 - ((0.04 + 0.01 * d) * 0.8 + (0.96 - 0.01 * d) * 0.01) for d, _ in CELLS])
    rng, inside = np.random.default_rng(1), 0
    for _ in range(400):
        scores = scores_of(simulated(rng, 60))
        found = _mean_over(scores, 1 / np.maximum(scores.total, 1))
        inside += found.low <= truth <= found.high
    assert 0.925 <= inside / 400 <= 0.975


# Reconstructions


@pytest.mark.parametrize("size", [28, 64])
def test_rmse_against_numpy(mnist_test: Digits, size: int) -> None:
    """1,030 pictures make a ragged second batch."""
    digits = Digits(mnist_test.images[:1030], mnist_test.labels[:1030], "MNIST", "test")
    digits = digits.resized(size) if size == 28 else digits.subset(60).resized(size)
    torch.manual_seed(0)
    model = Autoencoder(image_size=size)
    drawn = reconstruct(model, digits.images)
    assert drawn.shape == (len(digits), 1, size, size) and not drawn.requires_grad
    error = drawn[:, 0].numpy().astype(np.float64) - digits.images.numpy() / 255.0
    assert reconstruction_rmse(model, digits) == pytest.approx(np.sqrt((error**2).mean()), rel=1e-6)


def test_rmse_of_known_answers(mnist_test: Digits) -> None:
    """Black pictures and perfect copies, through the function itself."""

    class Answers(nn.Module):
        encoder = nn.Identity()

        def __init__(self, factor: float) -> None:
            super().__init__()
            self.decoder = lambda x: factor * x

    assert reconstruction_rmse(Answers(1.0), mnist_test) == 0
    pixels = mnist_test.images.numpy() / 255.0
    black = np.sqrt((pixels**2).mean())
    assert reconstruction_rmse(Answers(0.0), mnist_test) == pytest.approx(black, rel=1e-6)
    assert reconstruction_rmse(Answers(0.5), mnist_test) == pytest.approx(black / 2, rel=1e-6)


def test_add_takes_one_addend_or_one_each(few: Digits) -> None:
    torch.manual_seed(0)
    model = AdditionModel().inference()
    images = few.images[:6]
    each = add(model, images, torch.tensor([0.0, 1, 1.4, 1.5, 1.6, 2]))
    assert each.shape == (6, 1, 28, 28) and not each.requires_grad
    torch.testing.assert_close(each[3:4], add(model, images[3:4], 1.5))
    torch.testing.assert_close(
        add(model, images, 2), model(as_float(images), torch.full((6,), 2.0))
    )
    for bad in (float("nan"), float("inf"), torch.tensor([1.0, float("nan")])):
        with pytest.raises(ValueError, match="addend"):
            add(model, images[:2], bad)
    with pytest.raises(TypeError, match="addend"):
        add(model, images, "2")


def test_judge_accuracy_counts(few: Digits, judge: Judge) -> None:
    read = judge.read(as_float(few.images)).argmax(1).numpy()
    expected = np.mean(read == few.labels.numpy())
    assert judge_accuracy(judge, few) == pytest.approx(expected) and expected > 0.98
    shifted = Digits(few.images, (few.labels + 1) % 10, "MNIST", "test")
    assert judge_accuracy(judge, shifted) < 0.01


# The whole evaluation

STABLE_KEYS = {
    "judge_accuracy", "rmse", "cells_mean", "cells_worst", "pairs_mean", "sum_mse",
    "floor_class_mean", "floor_one_mean",
}  # fmt: skip


def few_digits(dataset: str, split: str) -> Digits:
    return load_digits(dataset, split).subset(300)


def tiny_run(config: RunConfig, folder: Path, monkeypatch: pytest.MonkeyPatch) -> runs.Run:
    monkeypatch.setattr(runs, "load_digits", few_digits)
    return load_or_train(config, folder, device="cpu", progress=False)


def test_evaluation_of_an_addition_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = RunConfig((Stage("addition", 1, 2, 32),), model="addition", train_size=200)
    run = tiny_run(config, tmp_path / "run", monkeypatch)
    monkeypatch.setattr(evaluation, "load_digits", few_digits)
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
    monkeypatch.setattr(evaluation, "load_digits", few_digits)
    found = evaluate(run, "validation")
    assert found.keys() == {"split", "rmse", "judge_accuracy"} and found["split"] == "validation"
    digits = few_digits("MNIST", "validation").resized(32)
    assert found["rmse"] == pytest.approx(reconstruction_rmse(run.model("cpu"), digits))


@pytest.mark.slow
def test_a_full_test_set_oracle(mnist_test: Digits, judge: Judge) -> None:
    """All 10,000 digits in all their cells, as ``learn2add evaluate`` judges them."""
    scores = judge_sums(oracle(mnist_test), judge, mnist_test)
    sizes = np.bincount(mnist_test.labels.numpy())
    assert scores.total.sum() == sum((10 - d) * n for d, n in enumerate(sizes))
    found = summarise(scores, mnist_test)
    assert found["cells_mean"] == 1
    assert found["sum_mse"] == pytest.approx(0.0530, abs=5e-4)
