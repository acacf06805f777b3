"""Corrupted pictures and what is left of them, on real digits."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from learn2add import runs
from learn2add.data import Digits, as_float
from learn2add.judge import load_judge
from learn2add.measures import judge_sums, summarise
from learn2add.studies.corrupted import (
    CorruptedConfig,
    CorruptedStage,
    corrupted,
    noisy,
    occluded,
    redrawn,
    sums_despite,
    then_redrawn,
)
from learn2add.train import build_model


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def x(mnist_test: Digits) -> torch.Tensor:
    return as_float(mnist_test.images[:500])


def test_noise_has_the_deviation_asked_for(x):
    sigma = torch.linspace(0, 1, len(x))
    added = noisy(x, sigma, seeded(), clip=False) - x
    found = added.flatten(1).std(1)
    # 784 draws leave the deviation uncertain by 1 / sqrt(2 x 784), 2.5 %
    assert ((found - sigma).abs() <= 0.1 * sigma + 1e-6).all()
    assert abs(float(added.mean())) < 0.005


def test_clipped_noise_is_the_other_within_bounds(x):
    free, clipped = (noisy(x, 0.5, seeded(), clip=clip) for clip in (False, True))
    assert free.min() < 0 < 1 < free.max()
    np.testing.assert_array_equal(clipped.numpy(), np.clip(free.numpy(), 0, 1))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 28), st.integers(0, 2**31))
def test_occlusion_blacks_out_one_whole_square(side, seed):
    white = torch.ones(20, 1, 28, 28)
    for picture in occluded(white, side, seeded(seed))[:, 0]:
        rows, columns = (picture == 0).any(1).nonzero(), (picture == 0).any(0).nonzero()
        assert int((picture == 0).sum()) == side**2
        assert len(rows) == len(columns) == side
        if side:  # contiguous
            assert rows[-1] - rows[0] == columns[-1] - columns[0] == side - 1


def test_squares_come_to_every_place():
    gone = occluded(torch.ones(4000, 1, 28, 28), 20, seeded()) == 0
    corners = {tuple(picture.nonzero()[0].tolist()) for picture in gone[:, 0]}
    assert corners == {(row, column) for row in range(9) for column in range(9)}


def test_the_generator_decides(x):
    for corrupt in (lambda g: noisy(x, 0.3, g), lambda g: occluded(x, 9, g)):
        assert torch.equal(corrupt(seeded(1)), corrupt(seeded(1)))
        assert not torch.equal(corrupt(seeded(1)), corrupt(seeded(2)))


def test_training_corruption_has_every_strength_up_to_the_largest(x):
    assert corrupted(x, 0.0, 0, seeded()) is x
    white = torch.ones(600, 1, 28, 28)
    sides = (corrupted(white, 0.0, 12, seeded()) == 0).flatten(1).sum(1).double().sqrt()
    assert set(sides.tolist()) == set(range(13))
    grey = torch.full((600, 1, 28, 28), 0.5)
    spread = corrupted(grey, 0.1, 0, seeded()).flatten(1).std(1)
    assert spread.min() < 0.01 and 0.09 < spread.max() < 0.12


def test_training_corruption_may_be_exact_and_not_clipped(x):
    white = torch.ones(200, 1, 28, 28)
    sides = (corrupted(white, 0.0, 7, seeded(), exact=True) == 0).flatten(1).sum(1)
    assert set(sides.tolist()) == {49}
    seen = corrupted(white, 0.2, 0, seeded(), exact=True, clip=False) - 1
    assert 0.17 < seen.flatten(1).std(1).min() and seen.flatten(1).std(1).max() < 0.23
    assert 0.45 < float((seen > 0).float().mean()) < 0.55
    assert corrupted(white, 0.2, 0, seeded(), exact=True).max() == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: noisy(x, -0.1, seeded()), "sigma is -0.1; allowed is 0 or more"),
        (lambda x: noisy(x, float("nan"), seeded()), "sigma is nan; allowed is a finite number"),
        (
            lambda x: noisy(x, torch.ones(3), seeded()),
            r"sigma is of shape \[3\]",
        ),
        (lambda x: noisy(x[:, 0], 0.1, seeded()), "x is torch.float32"),
        (lambda x: occluded(x, 29, seeded()), "side is .* allowed is whole numbers from 0 to 28"),
        (lambda x: occluded(x, 2.5, seeded()), "side is .* allowed is whole numbers from 0 to 28"),
        (lambda x: occluded(x, -1, seeded()), "side is -1; allowed is 0 or more"),
        (lambda _: CorruptedStage("autoencoder", 1, noise=-1.0), "noise is -1.0"),
        (lambda _: CorruptedStage("addition", 1, noise=0.1), "task is 'addition'"),
        (lambda _: CorruptedStage("autoencoder", 1, occlude=29), "occlude is 29"),
        (lambda _: CorruptedStage("autoencoder", 1, distort=11.0), "distort is 11.0"),
    ],
)
def test_bad_corruptions_are_refused(x, change, message):
    with pytest.raises(ValueError, match=message):
        change(x)


def test_a_denoising_stage_shows_corrupted_pictures_and_asks_for_clean_ones(mnist_test):
    stage = CorruptedStage("autoencoder", 1, 2, 50, noise=0.3, occlude=8)
    config = CorruptedConfig((stage,), precision="float32")
    task = config.step(stage, build_model(config), mnist_test, mnist_test.subset(100))
    clean, seen = next(task.batches(seeded()))
    index = torch.randperm(len(mnist_test), generator=seeded())[:50]
    assert torch.equal(clean, as_float(mnist_test.images[index]))
    assert not torch.equal(clean, seen)
    loss, squares = task((clean, seen))
    with torch.no_grad():
        x_hat = task.model.decoder(task.model.encoder(seen))
    error = (x_hat - clean).square()
    assert loss.item() == pytest.approx(float(error.sum()) / 50, rel=1e-4)
    assert float(squares["rmse"]) == pytest.approx(float(error.sum()), rel=1e-4)
    first, again = ([b[1] for b in task.validation_batches()] for _ in range(2))
    assert all(map(torch.equal, first, again))


def test_a_distorting_stage_asks_for_pictures_as_they_were(mnist_test):
    stage = CorruptedStage("autoencoder", 1, 2, 50, distort=4.0)
    config = CorruptedConfig((stage,), precision="float32")
    task = config.step(stage, build_model(config), mnist_test, mnist_test.subset(100))
    clean, seen = next(task.batches(seeded()))
    index = torch.randperm(len(mnist_test), generator=seeded())[:50]
    assert torch.equal(clean, as_float(mnist_test.images[index]))
    assert (clean - seen).flatten(1).norm(dim=1).min() > 2  # every one is another picture
    ink = seen.sum((1, 2, 3)) / clean.sum((1, 2, 3))
    assert 0.9 < float(ink.median()) < 1.1  # of the same digit
    first, again = ([b[1] for b in task.validation_batches()] for _ in range(2))
    assert all(map(torch.equal, first, again))


class Echo(torch.nn.Module):
    """Redraws exactly what it is shown."""

    encoder = decoder = torch.nn.Identity()


def test_redrawing_is_measured_against_the_clean_pictures(mnist_test):
    some, judge = mnist_test.subset(600), load_judge()
    found = redrawn(Echo(), judge, some, noisy, (0.0, 0.2, 0.8))
    assert found == redrawn(None, judge, some, noisy, (0.0, 0.2, 0.8))
    assert found[0].errors.mse == 0 and found[0].accuracy > 0.99
    x = as_float(some.images)
    seen = noisy(x, 0.2, seeded())
    error = (seen - x).double().square().mean((1, 2, 3)).numpy()
    assert found[1].errors.mse == pytest.approx(error.mean(), rel=1e-6)
    assert found[1].errors.rmse == pytest.approx(error.mean() ** 0.5, rel=1e-6)
    assert found[1].errors.psnr == pytest.approx((-10 * np.log10(error)).mean(), rel=1e-6)
    assert found[2].accuracy < found[1].accuracy


def test_redrawing_comes_after_the_corruption(x):
    class Negative(torch.nn.Module):
        encoder = torch.nn.Identity()

        def decoder(self, z):
            return 1 - z

    cleaned = then_redrawn(occluded, Negative())(x, 9, seeded())
    assert torch.equal(cleaned, 1 - occluded(x, 9, seeded()))


def test_sums_of_untouched_pictures_are_those_of_the_evaluation(mnist_test):
    model, judge = runs.load("part3/quick").model("cpu"), load_judge()
    some = mnist_test.subset(300)
    clean, black = sums_despite(model, judge, some, occluded, (0, 28))
    assert clean.value == summarise(judge_sums(model, judge, some), some)["cells_mean"]
    nothing = replace(some, images=torch.zeros_like(some.images))
    assert black.value == summarise(judge_sums(model, judge, nothing), nothing)["cells_mean"]
