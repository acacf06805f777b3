"""Every loss term against torch.distributions and NumPy, on real digits."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.distributions import Bernoulli, Normal, kl_divergence

from learn2add.data import Digits, as_float
from learn2add.losses import (
    PIXELS,
    binary_cross_entropy,
    gaussian_kl,
    gaussian_kl_between,
    gaussian_kl_from_moments,
    gaussian_kl_of_units,
    gaussian_log_densities,
    gaussian_nll,
    image_loss,
    image_losses,
    rmse,
    squared_error,
)
from learn2add.network import Gaussian

shapes = st.tuples(st.integers(1, 9), st.integers(1, 128))
seeds = st.integers(0, 2**32 - 1)


@pytest.fixture(scope="module")
def x(mnist_test: Digits) -> Tensor:
    return as_float(mnist_test.subset(30).images)


def normal(shape: tuple[int, ...], seed: int, scale: float = 1.0) -> Tensor:
    return scale * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def gaussian(count: int, seed: int = 0) -> Gaussian:
    return Gaussian(normal((count, 7), seed), normal((count, 7), seed + 100))


def distribution(g: Gaussian) -> Normal:
    return Normal(g.mu, torch.exp(0.5 * g.logvar))


@given(shapes, seeds, st.floats(0.01, 5))
@settings(max_examples=40, deadline=None)
def test_kl_is_that_of_torch_distributions(shape: tuple, seed: int, scale: float) -> None:
    mu, logvar = normal(shape, seed, scale), normal(shape, seed + 1, scale)
    reference = kl_divergence(Normal(mu.double(), (logvar.double() / 2).exp()), Normal(0.0, 1.0))
    torch.testing.assert_close(gaussian_kl(mu, logvar), reference.sum(1).mean().float())
    torch.testing.assert_close(gaussian_kl_of_units(mu, logvar), reference.mean(0).float())


def test_kl_is_least_at_the_prior() -> None:
    zero = torch.zeros(4, 7)
    assert gaussian_kl(zero, zero) == 0
    assert gaussian_kl(zero + 0.1, zero) == pytest.approx(7 * 0.1**2 / 2)  # nats per code
    assert gaussian_kl(zero, zero - 0.1) > 0


@given(seeds, st.floats(0.1, 30))
@settings(max_examples=20, deadline=None)
def test_bce_is_that_of_torch_distributions(x: Tensor, seed: int, scale: float) -> None:
    logits = normal(x.shape, seed, scale)
    model = Bernoulli(logits=logits.double(), validate_args=False)  # it forbids grey levels
    reference = -model.log_prob(x.double()).sum((1, 2, 3)).mean()
    torch.testing.assert_close(binary_cross_entropy(logits, x), reference.float())


def test_bce_is_least_where_the_sigmoid_is_the_grey_level(x: Tensor) -> None:
    """Its smallest value is the grey levels' own entropy, not 0: why BCE may be used on grey."""
    p = x.double().clamp(1e-9, 1 - 1e-9)
    entropy = float(-(p * p.log() + (1 - p) * (1 - p).log()).sum((1, 2, 3)).mean())
    best = torch.logit(p).float()
    assert float(binary_cross_entropy(best, x)) == pytest.approx(entropy, rel=1e-5)
    assert entropy > 10  # nats per image: far from 0
    for move in (-0.1, 0.1):
        assert binary_cross_entropy(best + move, x) > entropy


def test_bce_keeps_its_precision_where_the_sigmoid_saturates() -> None:
    logits = torch.full((1, 1, 28, 28), 200.0, requires_grad=True)
    loss = binary_cross_entropy(logits, torch.zeros_like(logits))
    assert loss.item() == pytest.approx(200 * PIXELS)
    assert torch.autograd.grad(loss, logits)[0].mean() == pytest.approx(1)


@pytest.mark.parametrize("image_size", [28, 32, 64])
def test_squared_error_is_summed_over_pixels_and_averaged_over_images(
    mnist_test: Digits, image_size: int
) -> None:
    digits = mnist_test.subset(24).resized(image_size)
    a, b = as_float(digits.images[:12]), as_float(digits.images[12:])
    pixels = digits.images.numpy().astype(np.float64) / 255
    per_image = ((pixels[:12] - pixels[12:]) ** 2).sum(axis=(1, 2))
    assert float(squared_error(a, b)) == pytest.approx(per_image.mean(), rel=1e-5)
    assert float(squared_error(a.repeat(2, 1, 1, 1), b.repeat(2, 1, 1, 1))) == pytest.approx(
        per_image.mean(), rel=1e-5
    ), "a larger batch must not count for more"
    mean_over_elements = ((pixels[:12] - pixels[12:]) ** 2).mean()
    assert float(squared_error(a, b)) == pytest.approx(mean_over_elements * image_size**2, rel=1e-5)


def test_report_weights_convert_by_the_number_of_elements(x: Tensor) -> None:
    """A weight w on the report's per-element mean is w / PIXELS on this project's sum."""
    a, b = x[:15], x[15:]
    report = torch.nn.functional.mse_loss(a, b)
    assert float(squared_error(a, b) / PIXELS) == pytest.approx(float(report), rel=1e-5)


def test_image_loss_chooses(x: Tensor) -> None:
    logits = normal(x.shape, 0)
    sigmoid = 1 / (1 + np.exp(-logits.numpy().astype(np.float64)))
    l2 = ((sigmoid - x.numpy()) ** 2).sum(axis=(1, 2, 3)).mean()
    assert float(image_loss("l2", logits, x)) == pytest.approx(l2, rel=1e-5)
    assert torch.equal(image_loss("bce", logits, x), binary_cross_entropy(logits, x))
    for loss in (image_loss, image_losses):
        with pytest.raises(ValueError, match=r"loss is 'mse'.*'l2'.*'bce'"):
            loss("mse", logits, x)


@pytest.mark.parametrize("name", ["l2", "bce"])
def test_weights_are_of_images_and_losses_of_each_by_itself(name: str, x: Tensor) -> None:
    logits, weight = normal(x.shape, 0), torch.rand(len(x))
    each = torch.stack([image_loss(name, a[None], b[None]) for a, b in zip(logits, x, strict=True)])
    torch.testing.assert_close(image_losses(name, logits, x), each)
    torch.testing.assert_close(image_loss(name, logits, x, weight), (weight * each).mean())


@pytest.mark.parametrize("term", [squared_error, binary_cross_entropy, gaussian_kl])
def test_bfloat16_is_summed_in_float32(term: object, x: Tensor) -> None:
    """Summed in bfloat16, 12,000 pixels would stop growing after three digits."""
    half = normal(x.shape, 1).bfloat16()
    other = x.bfloat16()
    loss = term(half, other)
    assert loss.dtype == torch.float32
    assert float(loss) == pytest.approx(float(term(half.double(), other.double())), rel=1e-5)


@pytest.mark.parametrize("term", [squared_error, binary_cross_entropy, gaussian_kl])
@pytest.mark.parametrize(
    "shapes", [((4, 7), (1, 7)), ((4, 7), (4, 1)), ((4, 7), (7,)), ((2, 3), (3, 2))]
)
def test_shapes_are_never_broadcast(term: object, shapes: tuple) -> None:
    first, second = shapes
    with pytest.raises(ValueError, match="the shapes are"):
        term(torch.zeros(first), torch.zeros(second))


@pytest.mark.parametrize("image_size", [28, 64])
def test_rmse_against_numpy(mnist_test: Digits, image_size: int) -> None:
    images = mnist_test.subset(50).resized(image_size).images.numpy() / 255
    a, b = images[:25], images[25:]
    reference = np.sqrt(np.mean((a - b) ** 2))
    assert rmse(float(((a - b) ** 2).sum()), 25, image_size) == pytest.approx(reference)


# Two distributions


def test_divergence_against_torch() -> None:
    q, p = gaussian(50), gaussian(50, seed=1)
    wanted = kl_divergence(distribution(q), distribution(p)).sum(1).mean()
    torch.testing.assert_close(gaussian_kl_between(q, p), wanted)
    torch.testing.assert_close(gaussian_kl_between(q, q), torch.zeros(()), atol=1e-5, rtol=0)


def test_mean_divergence_from_moments_is_the_mean_of_divergences() -> None:
    many, one = gaussian(40), gaussian(1, seed=1)
    each = kl_divergence(distribution(many), distribution(one)).sum(1)  # broadcast over the 40
    second = many.mu.square() + many.logvar.exp()
    moments = (part.mean(0, keepdim=True) for part in (many.mu, second, many.logvar))
    torch.testing.assert_close(gaussian_kl_from_moments(*moments, one)[0], each.mean())


def test_likelihood_against_torch() -> None:
    p, z = gaussian(30), torch.randn(30, 7)
    constant = 7 * 0.5 * torch.log(torch.tensor(2 * torch.pi))
    wanted = -distribution(p).log_prob(z).sum(1).mean() - constant
    torch.testing.assert_close(gaussian_nll(p, z), wanted)


def test_densities_of_all_codes_under_all_gaussians_against_torch() -> None:
    p, z = gaussian(5), torch.randn(30, 7)
    constant = 7 * 0.5 * torch.log(torch.tensor(2 * torch.pi))
    each = [
        distribution(Gaussian(mu, logvar)).log_prob(z).sum(1) for mu, logvar in zip(*p, strict=True)
    ]
    torch.testing.assert_close(gaussian_log_densities(p, z), torch.stack(each) + constant)


@pytest.mark.parametrize("call", [gaussian_kl_between, lambda q, p: gaussian_nll(q, p.mu)])
def test_gaussians_are_never_broadcast(call: object) -> None:
    with pytest.raises(ValueError, match="the shapes are"):
        call(gaussian(3), gaussian(1))
