"""Measures against brute force, tables and oracles, on the real test digits."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import AlwaysNine, Oracle
from torch import Tensor, nn

from learn2add.config import RunConfig, Stage
from learn2add.data import Digits, as_float
from learn2add.judge import Judge, load_judge
from learn2add.measures import (
    ImageErrors,
    SumScores,
    add,
    floors,
    health,
    held_out_mean,
    judge_accuracy,
    judge_sums,
    predictor,
    read_sums,
    reconstruct,
    reconstruction_rmse,
    squared_errors,
    summarise,
    wilson,
)
from learn2add.network import (
    Adder,
    AdditionModel,
    Autoencoder,
    DecoderConvTranspose,
    Encoder,
    GaussianAdder,
    GaussianEncoder,
)
from learn2add.pairs import CELLS, transform_data_add
from learn2add.train import train


@pytest.fixture(scope="module")
def few(mnist_test: Digits) -> Digits:
    """500 test digits in their natural mixture."""
    return Digits(mnist_test.images[:500], mnist_test.labels[:500], "MNIST", "test")


@pytest.fixture(scope="module")
def judge() -> Judge:
    return load_judge()


def untrained(*, generative: bool = False) -> AdditionModel:
    """The same random weights every time."""
    torch.manual_seed(0)
    parts = (GaussianEncoder(), GaussianAdder()) if generative else (Encoder(), Adder())
    return AdditionModel(*parts, DecoderConvTranspose())


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
    """Every answer against every real image of the sum, by NumPy."""
    digits = few.resized(size)
    pixels, labels = digits.images.numpy() / 255.0, digits.labels.numpy()
    sums, _ = by_the_handouts_pairs(few)
    share = np.bincount(sums, minlength=10) / len(sums)
    classes = [pixels[labels == d] for d in range(10)]
    one_mean = sum(s * c.mean(0) for s, c in zip(share, classes, strict=True))
    class_mean = sum(s * ((c - c.mean(0)) ** 2).mean() for s, c in zip(share, classes, strict=True))
    one = sum(s * ((c - one_mean) ** 2).mean() for s, c in zip(share, classes, strict=True))
    real = sum(
        s * np.mean([((c - image) ** 2).mean() for image in c])
        for s, c in zip(share, classes, strict=True)
    )
    assert floors(digits) == pytest.approx(
        {"floor_class_mean": class_mean, "floor_one_mean": one, "real_digit": real}, rel=1e-6
    )


def test_no_single_image_beats_the_one_mean(few: Digits) -> None:
    pixels = few.images.numpy() / 255.0
    sums, targets = by_the_handouts_pairs(few)
    share = np.bincount(sums, minlength=10) / len(sums)
    each = sum(s * pixels[few.labels.numpy() == d].mean(0) for d, s in enumerate(share))
    floor = floors(few)["floor_one_mean"]

    def score(image: np.ndarray) -> float:
        errors = ((pixels - image) ** 2).mean((1, 2))
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


def test_an_oracle_scores_one(few: Digits, judge: Judge) -> None:
    scores = judge_sums(Oracle(few), judge, few)
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
    scores = judge_sums(Oracle(few, also=1), judge, few)
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

    class Stumbles(Oracle):
        def adder(self, z: Tensor, addend: Tensor) -> Tensor:
            wrong = (z.argmax(1) == 3) & (addend == 4) & (torch.arange(len(z)) % 3 == 0)
            return super().adder(z, torch.where(wrong, 8.0, addend))  # 3 + 8 = 1, modulo 10

    scores = judge_sums(Stumbles(few), judge, few)
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
    assert held_out_mean(scores, []) is None
    assert held_out_mean(scores, [(3, 4), (4, 3)]) == pytest.approx(1 - missed / threes / 2)


def test_the_error_is_that_to_random_real_images(few: Digits, judge: Judge) -> None:
    """``mse`` is an expectation over all real images of the sum; here each is tried."""
    model, few = untrained(), few.subset(150)
    scores = judge_sums(model, judge, few)
    pixels = few.images.numpy() / 255.0
    for digit, addend in ((0, 0), (3, 4), (9, 0), (1, 8)):
        inputs = few.images[few.labels == digit]
        drawn = add(model, inputs, addend)[:, 0].numpy()
        real = pixels[few.labels.numpy() == digit + addend]
        expected = np.mean([((real - image) ** 2).mean() for image in drawn])
        assert scores.mse[digit, addend] == pytest.approx(expected, rel=1e-5)
    assert np.isfinite(scores.mse).sum() == len(CELLS)


def test_a_digit_is_judged_in_all_its_cells(few: Digits, judge: Judge) -> None:
    scores = judge_sums(Oracle(few), judge, few)
    for digit, right in enumerate(scores.right):
        assert right.dtype == bool and right.shape == (int((few.labels == digit).sum()), 10 - digit)


def test_two_judges_read_the_same_drawings(few: Digits, judge: Judge) -> None:
    """Each as if it were alone; every sum is drawn once for both."""
    model, second, calls = untrained(), load_judge(architecture="mlp"), []
    few = few.subset(150)
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
    """Images that are bad in most of their cells or good in all, as misread digits are."""
    found = []
    for digit in range(10):
        bad = rng.random((per_digit, 1)) < 0.04 + 0.01 * digit
        miss = rng.random((per_digit, 10 - digit)) < np.where(bad, 0.8, 0.01)
        found.append(~miss)
    return found


def summary(right: list[np.ndarray]) -> dict:
    labels = torch.arange(10).repeat_interleave(len(right[0]))
    digits = Digits(torch.zeros(len(labels), 1, 1, dtype=torch.uint8), labels, "MNIST", "test")
    return summarise(SumScores(right, np.zeros((10, 10)), np.zeros((10, 10), int)), digits)


@pytest.mark.parametrize("name", ["cells", "pairs"])
def test_mean_interval_against_the_bootstrap(name: str) -> None:
    """Resampling test images, each with all its cells, spreads the mean as the interval says."""
    rng = np.random.default_rng(0)
    right = simulated(rng, 100)
    found = summary(right)
    value, (ends_low, ends_high) = found[f"{name}_mean"], found[f"{name}_mean_interval"]

    def mean(of: list[np.ndarray]) -> float:
        if name == "cells":
            return float(np.concatenate([r.mean(0) for r in of]).mean())
        return float(np.concatenate([r.ravel() for r in of]).mean())

    assert value == pytest.approx(mean(right))
    bootstrap = [mean([r[rng.integers(0, len(r), len(r))] for r in right]) for _ in range(3000)]
    low, high = np.percentile(bootstrap, [2.5, 97.5])
    width = high - low
    assert ends_high - ends_low == pytest.approx(width, rel=0.12)
    assert abs(ends_low - low) < 0.15 * width and abs(ends_high - high) < 0.15 * width
    # Taking every drawn image for a trial of its own would claim far too much.
    naive = wilson(value * 5500, 5500)
    assert naive.high - naive.low < 0.75 * width


def test_mean_interval_covers_the_truth() -> None:
    truth = np.mean([1 - ((0.04 + 0.01 * d) * 0.8 + (0.96 - 0.01 * d) * 0.01) for d, _ in CELLS])
    rng, inside = np.random.default_rng(1), 0
    for _ in range(400):
        low, high = summary(simulated(rng, 60))["cells_mean_interval"]
        inside += low <= truth <= high
    assert 0.925 <= inside / 400 <= 0.975


# Reconstructions


@pytest.mark.parametrize("size", [28, 64])
def test_rmse_against_numpy(mnist_test: Digits, size: int) -> None:
    """1,030 images make a ragged second batch."""
    digits = Digits(mnist_test.images[:1030], mnist_test.labels[:1030], "MNIST", "test")
    digits = digits.resized(size) if size == 28 else digits.subset(60).resized(size)
    torch.manual_seed(0)
    model = Autoencoder(Encoder(image_size=size), DecoderConvTranspose(image_size=size))
    drawn = reconstruct(model, digits.images)
    assert drawn.shape == (len(digits), 1, size, size) and not drawn.requires_grad
    error = drawn[:, 0].numpy().astype(np.float64) - digits.images.numpy() / 255.0
    assert reconstruction_rmse(model, digits) == pytest.approx(np.sqrt((error**2).mean()), rel=1e-6)


def test_rmse_of_known_answers(mnist_test: Digits) -> None:
    """Black images and perfect copies, through the function itself."""

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


def test_errors_of_images_against_numpy(few: Digits) -> None:
    x = as_float(few.images[:20])
    drawn = (x + 0.3 * torch.rand(x.shape, generator=torch.Generator().manual_seed(0))).clamp(0, 1)
    each = ((drawn - x).numpy().astype(np.float64) ** 2).mean((1, 2, 3))
    found = ImageErrors.of(squared_errors(drawn, x))
    assert found.mse == pytest.approx(each.mean())
    assert found.rmse == pytest.approx(math.sqrt(each.mean()))
    assert found.psnr == pytest.approx((-10 * np.log10(each)).mean())
    assert ImageErrors.of(torch.from_numpy(each)) == pytest.approx(found)
    assert ImageErrors.of(squared_errors(x, x)) == (0, 100)  # not infinite


def test_add_takes_one_addend_or_one_each(few: Digits) -> None:
    model = untrained()
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


@pytest.mark.parametrize("size", [28, 32])
def test_prediction_is_what_the_handouts_display_calls(few: Digits, size: int) -> None:
    torch.manual_seed(0)
    parts = Encoder(image_size=size), Adder(), DecoderConvTranspose(image_size=size)
    model, images = AdditionModel(*parts), few.resized(size).images
    drawn = predictor(model)(images[0].numpy(), np.int64(2))
    assert drawn.shape == (size, size) and drawn.dtype == np.float32
    np.testing.assert_allclose(drawn, add(model, images[:1], 2)[0, 0].numpy())


def test_judge_accuracy_counts(few: Digits, judge: Judge) -> None:
    read = judge.read(as_float(few.images)).argmax(1).numpy()
    expected = np.mean(read == few.labels.numpy())
    assert judge_accuracy(judge, few) == pytest.approx(expected) and expected > 0.98
    shifted = Digits(few.images, (few.labels + 1) % 10, "MNIST", "test")
    assert judge_accuracy(judge, shifted) < 0.01


# Where wrong sums come from


def test_no_error_no_blame(judge: Judge, few: Digits) -> None:
    found = judge_sums(Oracle(few), judge, few).blame
    assert found.wrong == 0
    assert math.isnan(found.misread)


def test_blame_finds_the_part_that_went_wrong(judge: Judge, few: Digits) -> None:
    counts = few.labels.bincount(minlength=10)
    model = Oracle(few)
    model.misadds = 3
    found = judge_sums(model, judge, few).blame
    assert found[:3] == (0, 1, 0)
    assert found.wrong == counts[:7].sum()  # digits 0 to 6 can take + 3
    model.misdraws = 5
    both = judge_sums(model, judge, few).blame
    drawn = counts[:6].sum() - counts[2] + counts[3]  # sums of 5, and 3 + 3, thought to be 5
    assert both.wrong == found.wrong + counts[:6].sum() - counts[2]
    assert both.misdrawn == pytest.approx(float((drawn - counts[3]) / both.wrong))
    assert sum(both[:3]) == pytest.approx(1)


def test_what_is_misread_is_not_blamed_on_the_adder(judge: Judge, few: Digits) -> None:
    model = Oracle(few)
    model.misreads = 8
    counts = few.labels.bincount(minlength=10)
    found = judge_sums(model, judge, few).blame
    assert found.wrong == counts[:8].sum() + counts[8]  # all sums of 8, and 8 + 0; 8 + 1 is drawn
    assert found.misread == pytest.approx(float(counts[8] / found.wrong))
    assert found.misadded == 0


# The alarm


def test_a_model_that_is_right_raises_no_alarm(judge: Judge, few: Digits) -> None:
    found = health(Oracle(few), judge, few)
    assert (found.right, found.drawn, found.active) == (1, 10, None)
    assert found.read[9] == pytest.approx(10 / 55)  # ten cells of 55 sum to 9
    assert found.alarm() is None


def test_only_nines_raise_the_alarm(judge: Judge, few: Digits) -> None:
    found = health(AlwaysNine(few), judge, few)
    assert found.figures() == {"sums/right": pytest.approx(10 / 55), "sums/digits_drawn": 1}
    assert found.alarm() == "only 1 of 10 digits are drawn (9 in 100% of the sums)"


def test_dead_units_are_counted(judge: Judge, few: Digits) -> None:
    model = untrained(generative=True).eval()
    with torch.no_grad():
        model.encoder.code.weight.mul_(100)
        model.encoder.code.weight[2:5] = 0
    found = health(model, judge, few)
    assert found.active == 4
    assert "3 of 7 code units are dead" in found.alarm()


def test_training_tells_of_a_collapse_while_it_happens(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], mnist_train: Digits
) -> None:
    stage = Stage("addition", 2, 2, 20, balance="sums")
    few = mnist_train.subset(100)
    state = train(RunConfig((stage,), "addition"), few, few, tmp_path)
    assert all(row["sums/digits_drawn"] <= 2 for row in state.history)  # nothing is learned in 4
    told = [line for line in capsys.readouterr().out.splitlines() if "digits are drawn" in line]
    assert [line.split(":")[0] for line in told] == ["epoch 1", "epoch 2"]


@pytest.mark.slow
def test_a_full_test_set_oracle(mnist_test: Digits, judge: Judge) -> None:
    """All 10,000 digits in all their cells, as ``learn2add evaluate`` judges them."""
    scores = judge_sums(Oracle(mnist_test), judge, mnist_test)
    sizes = np.bincount(mnist_test.labels.numpy())
    assert scores.total.sum() == sum((10 - d) * n for d, n in enumerate(sizes))
    found = summarise(scores, mnist_test)
    assert found["cells_mean"] == 1
    assert found["sum_mse"] == pytest.approx(0.0530, abs=5e-4)
