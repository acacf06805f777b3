"""Part IV: codes as distributions, their divergences, and how they are trained."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.distributions import Bernoulli, Normal, kl_divergence

from learn2add import AdditionPairs, recipes
from learn2add.addition_tasks import InBatch, make_task
from learn2add.configs import RunConfig, Stage
from learn2add.data import Digits, as_float, load_digits
from learn2add.encoders import Gaussian, GaussianEncoder
from learn2add.models import MODELS, AdditionModel, code_of, make_model
from learn2add.objectives import (
    gaussian_kl_between,
    gaussian_kl_from_moments,
    gaussian_nll,
)
from learn2add.pairs import CELLS, BatchPartners
from learn2add.training import build_model, train

STAGES = (
    Stage("autoencoder", 1, 2, 32, 3e-3, "one_cycle", "bce"),
    Stage("adder", 1, 4, 64, 1e-2, "one_cycle", balance="cells"),
    Stage("addition", 2, 2, 40, 1e-3, "one_cycle", "bce", "mixed", "batch", reconstruct_every=1),
)
GENERATIVE = RunConfig(
    STAGES, "generative_addition", kld_encoder=0.1, match=1.0, kld_adder=0.01, train_size=200
)


@pytest.fixture(scope="module")
def digits() -> tuple[Digits, Digits]:
    return load_digits(split="train").subset(200), load_digits(split="validation").subset(130)


def gaussian(count: int, size: int = 7, seed: int = 0) -> Gaussian:
    generator = torch.Generator().manual_seed(seed)
    return Gaussian(*(torch.randn(count, size, generator=generator) for _ in range(2)))


def normal(g: Gaussian) -> Normal:
    return Normal(g.mu, torch.exp(0.5 * g.logvar))


# Divergences


def test_divergence_against_torch() -> None:
    q, p = gaussian(50), gaussian(50, seed=1)
    wanted = kl_divergence(normal(q), normal(p)).sum(1).mean()
    torch.testing.assert_close(gaussian_kl_between(q, p), wanted)
    torch.testing.assert_close(gaussian_kl_between(q, q), torch.zeros(()), atol=1e-5, rtol=0)


def test_mean_divergence_from_moments_is_the_mean_of_divergences() -> None:
    many, one = gaussian(40), gaussian(1, seed=1)
    each = kl_divergence(normal(many), normal(one)).sum(1)  # broadcast over the 40
    second = many.mu.square() + many.logvar.exp()
    moments = (part.mean(0, keepdim=True) for part in (many.mu, second, many.logvar))
    torch.testing.assert_close(gaussian_kl_from_moments(*moments, one)[0], each.mean())


def test_likelihood_against_torch() -> None:
    p, z = gaussian(30), torch.randn(30, 7)
    constant = 7 * 0.5 * torch.log(torch.tensor(2 * torch.pi))
    wanted = -normal(p).log_prob(z).sum(1).mean() - constant
    torch.testing.assert_close(gaussian_nll(p, z), wanted)


@pytest.mark.parametrize("call", [gaussian_kl_between, lambda q, p: gaussian_nll(q, p.mu)])
def test_shapes_are_never_broadcast(call: object) -> None:
    with pytest.raises(ValueError, match="shape"):
        call(gaussian(3), gaussian(1))


# Models


@pytest.mark.parametrize("name", [name for name in MODELS if not MODELS[name].table])
@pytest.mark.parametrize("image_size", [28, 32, 64])
def test_every_model_in_every_size(name: str, image_size: int) -> None:
    model = make_model(name, "conv_transpose", 3, image_size).eval()
    x = torch.rand(2, 1, image_size, image_size)
    if name.endswith("autoencoder"):
        assert model(x).shape == x.shape
    else:
        assert model.inference()(x, torch.ones(2)).shape == x.shape
        assert model(x, torch.ones(2), x, torch.randn(2, 6)).y_hat.shape == x.shape
    assert isinstance(model.encoder, GaussianEncoder) == (name not in ("autoencoder", "addition"))


def test_samples_have_the_mean_and_spread_of_the_distribution() -> None:
    g = Gaussian(torch.tensor([[1.0, -2.0]]), torch.tensor([[0.0, 2.0]]))
    noise = torch.randn(200_000, 2, generator=torch.Generator().manual_seed(0))
    drawn = g.sample(noise)
    torch.testing.assert_close(drawn.mean(0), g.mu[0], atol=0.02, rtol=0)
    torch.testing.assert_close(drawn.std(0), torch.exp(0.5 * g.logvar[0]), atol=0.02, rtol=0)


def test_gradients_reach_both_heads_through_the_sample() -> None:
    encoder = GaussianEncoder(3)
    encoder.gaussian(torch.rand(4, 1, 28, 28)).sample(torch.randn(4, 3)).sum().backward()
    assert encoder.code.weight.grad.abs().sum() > 0
    assert encoder.logvar.weight.grad.abs().sum() > 0


def test_embedded_addend_and_relu_are_options() -> None:
    plain = make_model("addition")
    other = make_model("addition", embed_addend=True, hidden="relu")
    assert plain.adder.layers[0].in_features == 8
    assert other.adder.layers[0].in_features == 14
    x = torch.rand(3, 1, 28, 28)
    assert other.inference()(x, torch.tensor([0.0, 1.5, 9.0])).shape == x.shape
    a, b = other.encoder.features(x[:2])
    ends = other.encoder.hidden(torch.stack([a, b])).mean(0)
    assert not torch.allclose(other.encoder.hidden((a + b) / 2), ends)  # no longer linear


# Training


def test_terms_of_a_batch_are_those_of_all_its_pairs(digits: tuple[Digits, Digits]) -> None:
    model = build_model(GENERATIVE)
    task = make_task(model, GENERATIVE, GENERATIVE.stages[2], *digits)
    batch = next(iter(task.batches(torch.Generator().manual_seed(0))))
    assert isinstance(batch, InBatch)
    q = model.encoder.gaussian(as_float(batch.x))
    z = q.sample(batch.noise[:, :7])
    nats, weights = [], []
    for place in range(len(z)):  # four of each digit, in order
        digit = place // 4
        for addend in range(10 - digit):
            p = model.adder.gaussian(z[place : place + 1], torch.tensor([float(addend)]))
            total = digit + addend
            partners = [at for at in range(4 * total, 4 * total + 4) if at != place]
            target = Gaussian(q.mu[partners], q.logvar[partners])
            nats.append(kl_divergence(normal(target), normal(p)).sum(1).mean())
            weights.append((10 - digit) ** -0.5)
    weights = torch.tensor(weights)
    wanted = (torch.stack(nats) * weights).sum() / weights.sum()
    only = RunConfig(STAGES, "generative_addition", l2_orig=0, l2_added=0, code=0, match=1.0)
    loss, _ = make_task(model, only, only.stages[2], *digits).step(batch)
    torch.testing.assert_close(loss, wanted, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("kind", ["generative_addition", "variational_addition"])
def test_contrast_is_the_surprise_at_the_right_digits(
    digits: tuple[Digits, Digits], kind: str
) -> None:
    config = RunConfig(STAGES, kind, l2_orig=0, l2_added=0, code=0, contrast=2.0)
    model = build_model(config)
    task = make_task(model, config, config.stages[2], *digits)
    batch = next(iter(task.batches(torch.Generator().manual_seed(0))))
    z = model.encoder.gaussian(as_float(batch.x)).sample(batch.noise[:, :7])
    nats, weights = [], []
    for place in range(len(z)):
        digit = place // 4  # four of each digit, in order
        for addend in range(10 - digit):
            mean, p = code_of(model.adder, z[place : place + 1], torch.tensor([float(addend)]))
            density = normal(p or Gaussian(mean, torch.zeros_like(mean))).log_prob(z).sum(1).exp()
            right = density[4 * (digit + addend) : 4 * (digit + addend) + 4].sum()
            nats.append(-torch.log(right / density.sum()))
            weights.append((10 - digit) ** -0.5)
    weights = torch.tensor(weights)
    wanted = 2 * (torch.stack(nats) * weights).sum() / weights.sum()
    torch.testing.assert_close(task.step(batch)[0], wanted, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("model", ["variational_addition", "generative_addition"])
def test_training_is_reproducible_and_finite(
    digits: tuple[Digits, Digits], tmp_path: Path, model: str
) -> None:
    fields = GENERATIVE.__dict__ | {"model": model, "held_out": ((3, 4),)}
    if model == "variational_addition":
        fields |= {"match": 0, "kld_adder": 0}
    written = []
    for name in "ab":
        (tmp_path / name).mkdir()
        state = train(RunConfig(**fields), *digits, tmp_path / name, progress=False)
        assert state.finished
        written.append((tmp_path / name / "weights.safetensors").read_bytes())
    assert written[0] == written[1]


def test_drawn_partners_train_the_same_model(digits: tuple[Digits, Digits], tmp_path: Path) -> None:
    stage = Stage("addition", 1, 3, 32, addend_noise=0.2, shift=1)
    config = RunConfig((stage,), "generative_addition", kld_encoder=0.1, match=0.5, kld_adder=0.1)
    row = train(config, *digits, tmp_path, progress=False).history[0]
    assert row["sum_rmse/validation"] < 0.6


def test_variational_autoencoder_pays_for_its_codes(digits: tuple[Digits, Digits]) -> None:
    free = RunConfig((STAGES[0],), "variational_autoencoder", train_size=200)
    paid = RunConfig((STAGES[0],), "variational_autoencoder", kld_encoder=2.0, train_size=200)
    model = build_model(free)
    losses = []
    for config in (free, paid):
        task = make_task(model, config, config.stages[0], *digits)
        batch = next(iter(task.batches(torch.Generator().manual_seed(0))))
        losses.append(task.step(batch)[0])
    q = model.encoder.gaussian(batch[0])
    kl = kl_divergence(normal(q), Normal(0.0, 1.0)).sum(1).mean()
    torch.testing.assert_close(losses[1] - losses[0], 2 * kl, rtol=1e-3, atol=1e-3)


def test_the_variational_recipe_is_the_elbo(digits: tuple[Digits, Digits]) -> None:
    config = replace(recipes.codes(3, variational=True, budget="smoke"), precision="float32")
    model = build_model(config)
    task = make_task(model, config, config.stages[0], *digits)
    x, _, noise = batch = next(iter(task.batches(torch.Generator().manual_seed(0))))
    q = model.encoder.gaussian(x)
    z = q.mu + (0.5 * q.logvar).exp() * noise
    drawn = Bernoulli(logits=model.decoder.logits(z), validate_args=False)  # greys are allowed
    likelihood = drawn.log_prob(x).sum((1, 2, 3)).mean()
    kl = kl_divergence(normal(q), Normal(0.0, 1.0)).sum(1).mean()
    torch.testing.assert_close(task.step(batch)[0], kl - likelihood)


@pytest.mark.parametrize("stage", [STAGES[2], Stage("addition", 1, 3, 32)])
def test_temperature_scales_the_noise_of_the_sums_alone(
    digits: tuple[Digits, Digits], stage: Stage
) -> None:
    noise = {}
    for temperature in (0.0, 0.5, 1.0):
        config = RunConfig((stage,), "generative_addition", temperature=temperature)
        task = make_task(build_model(config), config, stage, *digits)
        noise[temperature] = next(iter(task.batches(torch.Generator().manual_seed(0))))[-1]
    of_code, of_sum = noise[1.0].chunk(2, 1)
    assert of_sum.std() == pytest.approx(1, abs=0.1)
    for temperature, found in noise.items():
        assert torch.equal(found.chunk(2, 1)[0], of_code)
        assert torch.equal(found.chunk(2, 1)[1], temperature * of_sum)


# Held-out cells


HELD_OUT = ((3, 4), (0, 0), (5, 4))


def cells_of(labels: Tensor, pairs: tuple[Tensor, Tensor, Tensor]) -> set[tuple[int, int]]:
    return set(zip(labels[pairs[0]].tolist(), pairs[1].int().tolist(), strict=True))


@pytest.mark.parametrize("balance", ["natural", "sums", "cells", "digits", "mixed"])
def test_held_out_cells_are_never_drawn(digits: tuple[Digits, Digits], balance: str) -> None:
    labels = digits[0].labels
    pairs, generator = AdditionPairs(labels, balance, held_out=HELD_OUT), torch.Generator()
    for drawn in (pairs.draw(20_000, generator), pairs.epoch(generator)):
        assert cells_of(labels, drawn) == set(CELLS) - set(HELD_OUT)


def test_held_out_cells_weigh_nothing_in_a_batch() -> None:
    partners = BatchPartners(2, "cells", held_out=HELD_OUT)
    weight = {}
    for digit, addend, value in zip(
        partners.digit[partners.input], partners.addend, partners.weight, strict=True
    ):
        weight[int(digit), int(addend)] = float(value)
    assert {cell for cell, value in weight.items() if value == 0} == set(HELD_OUT)
    assert sum(weight.values()) == pytest.approx(55)


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"held_out": ((5, 5),)}, "held_out"),
        ({"held_out": ((-1, 2),)}, "held_out"),
        ({"match": 1.0}, "match"),
        ({"kld_adder": 1.0, "model": "variational_addition"}, "kld_adder"),
        ({"kld_encoder": -1.0}, "kld_encoder"),
        ({"hidden": "tanh"}, "hidden"),
        ({"model": "gan"}, "model"),
    ],
)
def test_refuses_what_makes_no_sense(fields: dict[str, object], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        RunConfig((STAGES[2],), **({"model": "addition"} | fields))


def test_contrast_wants_other_pictures_to_compare_with() -> None:
    with pytest.raises(ValueError, match="contrast .* partners"):
        RunConfig((Stage("addition", 1),), "generative_addition", contrast=1.0)
    with pytest.raises(ValueError, match="contrast .* partners"):
        RunConfig((Stage("autoencoder", 1),), "autoencoder", contrast=1.0)


@pytest.mark.parametrize(
    "fields",
    [
        {"beta2": 1.0},
        {"beta2": -0.1},
        {"momentum": 1.0},
        {"rise": 1.5},
        {"addend_noise": -1.0},
        {"reconstruct_every": 0},
    ],
)
def test_stage_refuses_bad_numbers(fields: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(fields))):
        Stage("addition", 1, **fields)


def test_configuration_with_cells_travels_as_json() -> None:
    config = RunConfig((STAGES[2],), "generative_addition", match=0.5, held_out=HELD_OUT)
    assert RunConfig.from_json(config.to_json()) == config
    assert isinstance(build_model(config), AdditionModel)
