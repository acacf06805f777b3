"""The evidence: causes of errors, the turn between whole numbers, fidelity and diversity."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from learn2add import evidence
from learn2add.data import Digits, as_float
from learn2add.judge import Judge, load_judge
from learn2add.models import AdditionInference, AdditionModel
from learn2add.pairs import CELLS


@pytest.fixture(scope="module")
def judge() -> Judge:
    return load_judge()


@pytest.fixture(scope="module")
def digits(mnist_test: Digits, judge: Judge) -> Digits:
    """A few hundred digits, all of which the judge reads rightly."""
    some = mnist_test.subset(400)
    right = judge.read(as_float(some.images)).argmax(1) == some.labels
    return Digits(some.images[right], some.labels[right], "MNIST", "test")


class Oracle(nn.Module):
    """An addition model that is right, but for what it is told to spoil.

    Codes are one-hot, of length 1 for pictures and of length 2 for sums.
    """

    def __init__(self, judge: Judge, digits: Digits) -> None:
        super().__init__()
        self.judge, self.means = judge, digits.class_means()[:, None]
        self.misreads = self.misadds = self.misdraws = None

    def encoder(self, x: Tensor) -> Tensor:
        return nn.functional.one_hot(self.judge.read(x).argmax(1), 10).float()

    def adder(self, z: Tensor, addend: Tensor) -> Tensor:
        total = z.argmax(1) + addend.long()
        if self.misadds is not None:
            total = torch.where(addend == self.misadds, total - 1, total)
        return 2 * nn.functional.one_hot(total.clamp(0, 9), 10).float()

    def decoder(self, z: Tensor) -> Tensor:
        shown = z.argmax(1)
        if self.misreads is not None:
            shown = torch.where(shown == self.misreads, 1, shown)
        if self.misdraws is not None:
            shown = torch.where((shown == self.misdraws) & (z.sum(1) == 2), 1, shown)
        return self.means[shown]

    def sample(self, x: Tensor, addend: Tensor, **_: object) -> Tensor:
        return self.decoder(self.adder(self.encoder(x), addend))


def test_no_error_no_blame(judge: Judge, digits: Digits) -> None:
    found = evidence.blame(Oracle(judge, digits), judge, digits)
    assert found.wrong == 0
    assert math.isnan(found.misread)


def test_blame_finds_the_part_that_went_wrong(judge: Judge, digits: Digits) -> None:
    counts = digits.labels.bincount(minlength=10)
    model = Oracle(judge, digits)
    model.misadds = 3
    found = evidence.blame(model, judge, digits)
    assert found[:3] == (0, 1, 0)
    assert found.wrong == counts[:7].sum()  # digits 0 to 6 can take + 3
    model.misdraws = 5
    both = evidence.blame(model, judge, digits)
    drawn = counts[:6].sum() - counts[2] + counts[3]  # sums of 5, and 3 + 3, thought to be 5
    assert both.wrong == found.wrong + counts[:6].sum() - counts[2]
    assert both.misdrawn == pytest.approx(float((drawn - counts[3]) / both.wrong))
    assert sum(both[:3]) == pytest.approx(1)


def test_what_is_misread_is_not_blamed_on_the_adder(judge: Judge, digits: Digits) -> None:
    model = Oracle(judge, digits)
    model.misreads = 8
    counts = digits.labels.bincount(minlength=10)
    found = evidence.blame(model, judge, digits)
    assert found.wrong == counts[:8].sum() + counts[8]  # all sums of 8, and 8 + 0; 8 + 1 is drawn
    assert found.misread == pytest.approx(float(counts[8] / found.wrong))
    assert found.misadded == 0


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
    for high in (np.full(21, 0.3), 2 - addends):
        assert all(math.isnan(v) for v in evidence.turning_point(addends, 1 - high, high))


def test_sweep_reads_what_is_drawn(judge: Judge, digits: Digits) -> None:
    threes = digits.images[digits.labels == 3]
    p = evidence.sweep(Oracle(judge, digits), judge, threes, [0.0, 1.0, 4.0])
    assert p.shape == (3, 10)
    assert p.argmax(1).tolist() == [3, 4, 7]
    np.testing.assert_allclose(p.sum(1), 1, atol=1e-5)


@pytest.mark.parametrize("bad", [[float("nan")], [float("inf"), 1.0]])
def test_sweep_refuses_what_is_no_number(judge: Judge, digits: Digits, bad: list[float]) -> None:
    with pytest.raises(ValueError, match="addends"):
        evidence.sweep(Oracle(judge, digits), judge, digits.images[:1], bad)


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
    found = evidence.sampled_sums(Oracle(judge, digits), judge, digits, per_cell=20)
    assert found.accuracy == 1
    assert found.diversity == pytest.approx(0, abs=1e-9)
    assert found.coverage < 0.5


def test_sample_at_temperature_0_is_the_mean(digits: Digits) -> None:
    torch.manual_seed(0)
    model = AdditionModel(variational=True, generative=True).inference().eval()
    x, addend = as_float(digits.images[:6]), torch.arange(6.0)
    with torch.no_grad():
        at_mean = model(x, addend)
    torch.testing.assert_close(model.sample(x, addend, temperature=0), at_mean)
    a, b, c = (
        model.sample(x, addend, generator=torch.Generator().manual_seed(s)) for s in (1, 1, 2)
    )
    assert torch.equal(a, b)
    assert not torch.equal(a, c)


def test_models_without_distributions_sample_their_only_answer(digits: Digits) -> None:
    model: AdditionInference = AdditionModel().inference().eval()
    x = as_float(digits.images[:6])
    with torch.no_grad():
        torch.testing.assert_close(model.sample(x, torch.ones(6)), model(x, torch.ones(6)))


def test_evidence_of_an_untrained_model_is_complete(judge: Judge, mnist_test: Digits) -> None:
    torch.manual_seed(0)
    model = AdditionModel(variational=True, generative=True).inference().eval()
    found = evidence.gather(model, judge, mnist_test.subset(200))
    assert found["misread"] + found["misadded"] + found["misdrawn"] == pytest.approx(1)
    assert 0 <= found["sampled_cells_mean"] <= 0.5
    assert found["frechet"] > 10
    assert len(CELLS) == 55
