"""Auto-decoders: the distributions, the decoder, codes that are found, and what they are worth."""

import math

import pytest
import torch
from torch import distributions as dist

from learn2add.data import Digits, as_float, load_digits
from learn2add.judge import load_judge
from learn2add.measures import ImageErrors, judge_accuracy, squared_errors
from learn2add.network import DecoderConvTranspose
from learn2add.studies import auto_decoder
from learn2add.studies.auto_decoder import (
    FAMILIES,
    HALF_WIDTH,
    CodeLoss,
    DecoderDCGAN,
    Family,
    code_accuracy,
    distance_to_real,
    find_codes,
    report_loss,
)

SAMPLED = [name for name in FAMILIES if FAMILIES[name].sampled]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def rows_of(family: Family, count: int = 4, size: int = 3) -> torch.Tensor:
    start = torch.tensor(family.start, dtype=torch.float64)[:, None]
    return start + torch.randn(count, family.parts, size, generator=seeded(), dtype=torch.float64)


def as_torch(name: str, rows: torch.Tensor) -> tuple[dist.Distribution, dist.Distribution]:
    """The rows' distributions and their prior, by torch."""
    if name == "gaussian":
        return dist.Normal(rows[:, 0], (rows[:, 1] / 2).exp()), dist.Normal(0.0, 1.0)
    if name == "exponential":
        return dist.Exponential(rows[:, 0].exp()), dist.Exponential(1.0)
    centre, half = FAMILIES[name].interval(rows)
    return dist.Uniform(centre - half, centre + half), dist.Uniform(-HALF_WIDTH, HALF_WIDTH)


@pytest.fixture(scope="module")
def clothes() -> tuple[Digits, Digits]:
    """60 training and 40 validation images of Fashion-MNIST."""
    return tuple(
        load_digits("FashionMNIST", split).subset(n)
        for split, n in (("train", 60), ("validation", 40))
    )


# Distributions


@pytest.mark.parametrize("name", SAMPLED)
def test_divergences_are_torchs(name: str) -> None:
    rows = rows_of(FAMILIES[name])
    wanted = dist.kl_divergence(*as_torch(name, rows)).sum(1)
    torch.testing.assert_close(FAMILIES[name].kl(rows), wanted)
    assert (wanted > 0).all() and wanted.isfinite().all()


@pytest.mark.parametrize("name", SAMPLED)
def test_samples_are_of_the_distribution_and_their_divergence_is_the_closed_one(name: str) -> None:
    """By Monte Carlo: moments of the samples, and the mean of ln q(z) - ln p(z)."""
    family, rows = FAMILIES[name], rows_of(FAMILIES[name], 2).repeat_interleave(100_000, 0)
    z = family.sample(rows, family.noise(200_000, 3, seeded(1)).double())
    q, p = as_torch(name, rows)
    inside = z if name != "uniform" else z.clamp(q.low, q.high - 1e-12)
    found = (q.log_prob(inside) - p.log_prob(inside)).sum(1).view(2, -1).mean(1)
    torch.testing.assert_close(found, family.kl(rows)[::100_000], rtol=0.02, atol=0.02)
    means = z.view(2, -1, 3).mean(1)
    torch.testing.assert_close(means, family.mean(rows[::100_000]), rtol=0.03, atol=0.03)
    torch.testing.assert_close(z.view(2, -1, 3).std(1), q.stddev[::100_000], rtol=0.03, atol=0)


@pytest.mark.parametrize("name", FAMILIES)
def test_rows_begin_apart_and_gradients_reach_them(name: str) -> None:
    family = FAMILIES[name]
    rows = family.initial(4, 3).requires_grad_()
    assert rows.shape == (4, family.parts, 3) and (family.mean(rows).std(0) > 0).all()
    family.sample(rows, family.noise(4, 3, seeded()) + 0.1).sum().backward()
    assert (rows.grad != 0).all()
    assert family.prior(9, 3, seeded()).shape == (9, 3)


def test_an_exponential_code_is_never_certain() -> None:
    q, _ = as_torch("exponential", rows_of(FAMILIES["exponential"]))
    torch.testing.assert_close(q.mean, q.stddev)


# The decoder


def test_the_decoder_is_the_reports() -> None:
    decoder = DecoderDCGAN()
    shapes = [list(p.shape) for p in decoder.parameters() if p.dim() > 1]
    assert shapes[:4] == [[8192, 128], [512, 256, 4, 4], [256, 128, 4, 4], [128, 128, 4, 4]]
    drawn = decoder(torch.randn(2, 128))
    assert drawn.shape == (2, 1, 28, 28)
    assert 0 <= drawn.min() < drawn.max() <= 1
    for call in (lambda: decoder(torch.zeros(2, 7)), lambda: DecoderDCGAN(7, 32)):
        with pytest.raises(ValueError, match="z is|image_size"):
            call()


# Finding codes


@pytest.mark.parametrize("name", FAMILIES)
def test_finding_codes_changes_codes_and_not_one_bit_of_the_model(
    name: str, clothes: tuple[Digits, Digits]
) -> None:
    decoder = DecoderDCGAN(8) if name == "gaussian" else DecoderConvTranspose(8)
    decoder.train().layers[2].eval()  # a mode of its own shall come back too
    before = {k: v.clone() for k, v in decoder.state_dict().items()}
    modes = [part.training for part in decoder.modules()]
    family, images = FAMILIES[name], clothes[1].images[:4]
    start = family.initial(4, 8)
    loss = CodeLoss(decoder, family, float(family.sampled), seeded())
    found = find_codes(loss, images, start, steps=3, learning_rate=0.1)
    assert found.curve.shape == (4,) and found.rows.shape == start.shape
    assert (found.rows != start).any(2).any(1).all()
    assert all(torch.equal(v, before[k]) for k, v in decoder.state_dict().items())
    assert all(p.grad is None for p in decoder.parameters())
    assert [part.training for part in decoder.modules()] == modes


def test_a_code_is_found_from_its_own_image_alone(
    clothes: tuple[Digits, Digits], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever stands beside it: no batch normalisation, no shared moments, no shared loss.

    In float64: convolutions of three images and of four are rounded differently, and Adam's first
    steps are of one length, however small a gradient.
    """
    loss = CodeLoss(DecoderDCGAN(8).double(), FAMILIES["point"])
    start = torch.zeros(4, 1, 8, dtype=torch.float64)
    images, others = (as_float(clothes[1].images[at]).double() for at in (slice(4), slice(4, 8)))
    others[2] = images[2]
    how = {"steps": 3, "learning_rate": 0.1}
    one, other = (find_codes(loss, part, start, **how).rows for part in (images, others))
    torch.testing.assert_close(one[2], other[2])
    assert not torch.allclose(one[1], other[1])
    monkeypatch.setattr(auto_decoder, "FIT_BATCH", 3)
    parts = find_codes(loss, images, start, **how).rows
    torch.testing.assert_close(parts, one)


def test_the_search_comes_nearer_and_goes_on_where_it_was(clothes: tuple[Digits, Digits]) -> None:
    loss = CodeLoss(DecoderConvTranspose(8), FAMILIES["point"])
    images, start = clothes[1].images[:20], torch.randn(20, 1, 8, generator=seeded())
    found = find_codes(loss, images, start, steps=30, learning_rate=0.05)
    assert found.curve[-1] < found.curve[0]
    on = find_codes(loss, as_float(images), found.rows, steps=0)
    torch.testing.assert_close(on.curve[0], found.curve[-1])


def test_a_loss_is_of_the_mean_or_of_a_sample_and_its_divergence(
    clothes: tuple[Digits, Digits],
) -> None:
    decoder, family = DecoderConvTranspose(8), FAMILIES["uniform"]
    rows, x = family.initial(5, 8), as_float(clothes[1].images[:5])
    logits = decoder.logits(family.mean(rows))
    of_mean = torch.nn.functional.binary_cross_entropy_with_logits(logits, x, reduction="none")
    torch.testing.assert_close(CodeLoss(decoder, family)(rows, x), of_mean.sum((1, 2, 3)))
    light, heavy = (CodeLoss(decoder, family, kl, seeded())(rows, x) for kl in (1.0, 3.0))
    torch.testing.assert_close(heavy - light, 2 * family.kl(rows))


@pytest.mark.parametrize(
    ("options", "error", "word"),
    [
        ({"start": torch.zeros(2, 3)}, ValueError, "start"),
        ({"start": torch.zeros(1, 1, 4)}, ValueError, "start"),
        ({"start": torch.zeros(2, 1, 9)}, ValueError, "z is"),
        ({"steps": -1}, ValueError, "steps"),
        ({"steps": 1.5}, TypeError, "steps"),
        ({"learning_rate": math.nan}, ValueError, "learning_rate"),
        ({"images": torch.zeros(2, 28, 28)}, ValueError, "images"),
    ],
)
def test_a_search_refuses_what_does_not_fit(
    options: dict, error: type[Exception], word: str
) -> None:
    usual = {"images": torch.zeros(2, 28, 28, dtype=torch.uint8), "start": torch.zeros(2, 1, 4)}
    with pytest.raises(error, match=word):
        find_codes(CodeLoss(DecoderConvTranspose(4), FAMILIES["point"]), **usual | options)


def test_a_weight_below_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="kl"):
        CodeLoss(DecoderConvTranspose(4), FAMILIES["gaussian"], -1.0)


# Measures


def test_the_reports_loss_is_its_norm() -> None:
    x, y = torch.rand(2, 16, 1, 28, 28, generator=seeded())
    wanted = torch.linalg.vector_norm(255 * (x - y)) / x.numel()
    rmse = ImageErrors.of(squared_errors(x, y)).rmse
    assert report_loss(rmse, 16) == pytest.approx(float(wanted), rel=1e-5)
    assert report_loss(0.1, 64) == pytest.approx(report_loss(0.1, 16) / 2)
    with pytest.raises(ValueError, match="batch_size"):
        report_loss(0.1, 0)


def test_codes_that_hold_the_class_are_told_apart() -> None:
    pytest.importorskip("sklearn")
    labels = torch.arange(200) % 10
    z = torch.eye(10)[labels] + 0.1 * torch.randn(200, 10, generator=seeded())
    assert min(code_accuracy(z[:100], labels[:100], z[100:], labels[100:]).values()) > 0.95
    noise = torch.randn(200, 10, generator=seeded())
    assert max(code_accuracy(noise[:100], labels[:100], noise[100:], labels[100:]).values()) < 0.35


def test_real_images_are_nearer_to_real_ones_than_noise_is(clothes: tuple[Digits, Digits]) -> None:
    judge, images = load_judge(dataset="FashionMNIST"), clothes[0].images
    assert distance_to_real(judge, as_float(images), images) == pytest.approx(0, abs=1e-3)
    noise = torch.rand(60, 1, 28, 28, generator=seeded())
    assert distance_to_real(judge, noise, images) > 10


def test_the_judge_of_clothes_reads_92_per_cent() -> None:
    judge = load_judge(dataset="FashionMNIST")
    assert round(judge_accuracy(judge, load_digits("FashionMNIST", "test")), 3) >= 0.92
    with pytest.raises(ValueError, match="architecture"):
        load_judge(architecture="mlp", dataset="FashionMNIST")
