"""The evidence: causes of errors, the turn between whole numbers, fidelity and diversity."""

import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from learn2add import collapse, evidence, evidence_figures, recipes
from learn2add.configs import RunConfig, Stage
from learn2add.data import Digits, as_float
from learn2add.evaluation import judge_sums
from learn2add.judge import Judge, load_judge
from learn2add.models import AdditionInference, AdditionModel
from learn2add.pairs import CELLS
from learn2add.training import train


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
    found = judge_sums(Oracle(judge, digits), judge, digits).blame
    assert found.wrong == 0
    assert math.isnan(found.misread)


def test_blame_finds_the_part_that_went_wrong(judge: Judge, digits: Digits) -> None:
    counts = digits.labels.bincount(minlength=10)
    model = Oracle(judge, digits)
    model.misadds = 3
    found = judge_sums(model, judge, digits).blame
    assert found[:3] == (0, 1, 0)
    assert found.wrong == counts[:7].sum()  # digits 0 to 6 can take + 3
    model.misdraws = 5
    both = judge_sums(model, judge, digits).blame
    drawn = counts[:6].sum() - counts[2] + counts[3]  # sums of 5, and 3 + 3, thought to be 5
    assert both.wrong == found.wrong + counts[:6].sum() - counts[2]
    assert both.misdrawn == pytest.approx(float((drawn - counts[3]) / both.wrong))
    assert sum(both[:3]) == pytest.approx(1)


def test_what_is_misread_is_not_blamed_on_the_adder(judge: Judge, digits: Digits) -> None:
    model = Oracle(judge, digits)
    model.misreads = 8
    counts = digits.labels.bincount(minlength=10)
    found = judge_sums(model, judge, digits).blame
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
    [found] = evidence.sampled_sums(Oracle(judge, digits), judge, digits, per_cell=20)
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
    assert not model.stochastic
    assert AdditionModel(variational=True).inference().stochastic
    assert AdditionModel(generative=True).inference().stochastic


def test_evidence_of_an_untrained_model_is_complete(judge: Judge, mnist_test: Digits) -> None:
    torch.manual_seed(0)
    model = AdditionModel(variational=True, generative=True).inference().eval()
    few = mnist_test.subset(200)
    assert sum(judge_sums(model, judge, few).blame[:3]) == pytest.approx(1)
    found = evidence.gather(model, judge, few)
    assert 0 <= found["sampled_cells_mean"] <= 0.5
    assert found["frechet"] > 10
    assert [sample["temperature"] for sample in found["samples"]] == [0, 0.5, 1]
    assert found["samples"][0]["diversity"] < found["samples"][2]["diversity"]
    assert len(CELLS) == 55


def test_a_model_that_is_right_raises_no_alarm(judge: Judge, digits: Digits) -> None:
    health = collapse.examine(Oracle(judge, digits), judge, digits)
    assert (health.right, health.drawn, health.active) == (1, 10, None)
    assert health.read[9] == pytest.approx(10 / 55)  # ten cells of 55 sum to 9
    assert health.alarm() is None


class AlwaysNine(Oracle):
    """What the report's table calls "only fuzzy nines"."""

    def decoder(self, z: Tensor) -> Tensor:
        return self.means[torch.full((len(z),), 9)]


def test_only_nines_raise_the_alarm(judge: Judge, digits: Digits) -> None:
    health = collapse.examine(AlwaysNine(judge, digits), judge, digits)
    assert health.figures() == {"sums/right": pytest.approx(10 / 55), "sums/digits_drawn": 1}
    assert health.alarm() == "only 1 of 10 digits are drawn (9 in 100% of the sums)"


def test_dead_units_are_counted(judge: Judge, digits: Digits) -> None:
    torch.manual_seed(0)
    model = AdditionModel(variational=True, generative=True).eval()
    with torch.no_grad():
        model.encoder.code.weight.mul_(100)
        model.encoder.code.weight[2:5] = 0
    health = collapse.examine(model, judge, digits)
    assert health.active == 4
    assert "3 of 7 code units are dead" in health.alarm()


def test_training_tells_of_a_collapse_while_it_happens(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], mnist_train: Digits
) -> None:
    stage = Stage("addition", 2, 2, 20, balance="sums")
    few = mnist_train.subset(100)
    state = train(RunConfig((stage,), "addition"), few, few, tmp_path)
    assert all(row["sums/digits_drawn"] <= 2 for row in state.history)  # nothing is learned in 4
    told = [line for line in capsys.readouterr().out.splitlines() if "digits are drawn" in line]
    assert [line.split(":")[0] for line in told] == ["epoch 1", "epoch 2"]


def test_evidence_figures_draw_what_the_model_does(
    judge: Judge, digits: Digits, monkeypatch: pytest.MonkeyPatch
) -> None:
    oracle = Oracle(judge, digits)
    oracle.stochastic = True
    run = SimpleNamespace(
        folder=Path("oracle"),
        config=recipes.part4(),
        model=lambda _: SimpleNamespace(inference=lambda: oracle),
    )
    monkeypatch.setattr(evidence_figures, "load_digits", lambda *_: digits)
    samples = [{"temperature": 1.0, "accuracy": 0.9, "diversity": 0.4}]
    found = {"split": "test", "u50": None, "samples": samples}
    drawn = dict(evidence_figures.evidence_figures(run, found, progress=False))
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
        next(evidence_figures.evidence_figures(run, {"split": "test"}))
