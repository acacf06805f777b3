"""One training step of each stage, term by term against torch, and the steps."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor
from torch.distributions import Bernoulli, Normal, kl_divergence

from learn2add import steps
from learn2add.config import LossWeights, RunConfig, Stage
from learn2add.data import Digits, as_float
from learn2add.judge import load_judge
from learn2add.network import Gaussian, code_of
from learn2add.steps import InBatch, Step, deformed, shifted
from learn2add.train import build_model

AUTOENCODER = Stage("autoencoder", 1, 2, 32, 3e-3, "one_cycle", "bce")
ADDER = Stage("adder", 1, 4, 64, 1e-2, "one_cycle", balance="cells")
BATCH = Stage("addition", 2, 2, 40, 1e-3, "one_cycle", "bce", "mixed", "batch", reconstruct_every=1)
NO_WEIGHTS = LossWeights(l2_orig=0, l2_added=0, code=0)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(g: Gaussian) -> Normal:
    return Normal(g.mu, torch.exp(0.5 * g.logvar))


def step_of(config: RunConfig, digits: tuple[Digits, Digits], number: int = 0) -> Step:
    """What a training step of a configuration's stage is, of an untrained model."""
    return config.step(config.stages[number], build_model(config), *digits)


def first(step: Step) -> tuple[Tensor, ...]:
    return next(iter(step.batches(generator())))


# Part II: reconstruction


def test_a_pass_shows_each_image_once(training_digits: tuple[Digits, Digits]) -> None:
    whole = step_of(RunConfig((Stage("autoencoder", 1, None, 64),)), training_digits)
    batches = [batch[0] for batch in whole.batches(generator())]
    assert [len(batch) for batch in batches] == [64, 64, 64, 8] and whole.steps == 4
    assert sorted(x.numpy().tobytes() for x in torch.cat(batches)) == sorted(
        x.numpy().tobytes() for x in as_float(training_digits[0].images)
    )
    longer = step_of(RunConfig((Stage("autoencoder", 1, 10, 64),)), training_digits)
    batches = [batch[0] for batch in longer.batches(generator())]
    assert [len(batch) for batch in batches] == [64] * 10
    counts: dict[bytes, int] = {}
    for x in torch.cat(batches):
        counts[x.numpy().tobytes()] = counts.get(x.numpy().tobytes(), 0) + 1
    assert len(counts) == 200 and set(counts.values()) == {3, 4}  # 640 images in passes of 200


def test_a_variational_autoencoder_learns_by_the_evidence_lower_bound(
    training_digits: tuple[Digits, Digits],
) -> None:
    config = RunConfig((AUTOENCODER,), "variational_autoencoder", code_size=3)
    for beta in (0.0, 1.0, 2.0):
        config = replace(config, weights=LossWeights(kld_encoder=beta))
        step = step_of(config, training_digits)
        x, _, noise = batch = first(step)
        q = step.model.encoder.gaussian(x)
        z = q.mu + (0.5 * q.logvar).exp() * noise
        drawn = Bernoulli(logits=step.model.decoder.logits(z), validate_args=False)  # of greys
        likelihood = drawn.log_prob(x).sum((1, 2, 3)).mean()
        kl = kl_divergence(normal(q), Normal(0.0, 1.0)).sum(1).mean()
        torch.testing.assert_close(step(batch)[0], beta * kl - likelihood)


# Part III: the adder alone


@pytest.mark.parametrize("model", ["addition", "generative_addition"])
def test_the_adders_batches_are_codes_of_right_sums(
    training_digits: tuple[Digits, Digits], model: str
) -> None:
    step = step_of(RunConfig((ADDER,), model), training_digits)
    codes = {
        code.numpy().tobytes(): int(label)
        for digits, part in zip(training_digits, (step.codes, step.validation_codes), strict=True)
        for code, label in zip(part, digits.labels, strict=True)
    }
    assert len(codes) == 330
    with torch.no_grad():
        x = as_float(training_digits[0].images)
        torch.testing.assert_close(step.codes, step.model.encoder(x))
    for batches in (step.batches(generator()), step.validation_batches()):
        z, addend, target = batch = next(iter(batches))
        for row in range(len(z)):
            total = codes[z[row].numpy().tobytes()] + float(addend[row])
            assert total == codes[target[row].numpy().tobytes()]
        found, p = code_of(step.model.adder, z, addend)
        if p is None:
            wanted = (found - target).square().sum(1).mean()
        else:
            constant = 7 * 0.5 * torch.log(torch.tensor(2 * torch.pi))
            wanted = -normal(p).log_prob(target).sum(1).mean() - constant
        torch.testing.assert_close(step(batch), (wanted, {}))


# Parts III and IV: everything jointly, with drawn targets


def test_the_loss_of_the_assignment(training_digits: tuple[Digits, Digits]) -> None:
    """0.1 x reconstruction + image of the sum + codes, by NumPy on one batch."""
    step = step_of(RunConfig((Stage("addition", 1, 2, 32),), "addition"), training_digits)
    batch = first(step)
    loss, squares = step(batch)
    x, y, model = as_float(batch[0]), as_float(batch[2]), step.model
    with torch.no_grad():
        z, z_target = model.encoder(x), model.encoder(y)
        z_sum = model.adder(z, batch[1])
        errors = [
            (a - b).double().square().numpy()
            for a, b in ((model.decoder(z), x), (model.decoder(z_sum), y), (z_sum, z_target))
        ]
    original, added, code = (error.sum() / 32 for error in errors)
    assert loss.item() == pytest.approx(0.1 * original + added + code, rel=1e-5)
    assert float(squares["rmse"]) == pytest.approx(errors[0].sum(), rel=1e-5)
    assert float(squares["sum_rmse"]) == pytest.approx(errors[1].sum(), rel=1e-5)


def test_divergences_of_drawn_pairs_join_the_loss(training_digits: tuple[Digits, Digits]) -> None:
    config = RunConfig((Stage("addition", 1, 2, 32),), "generative_addition")
    config = replace(config, weights=replace(NO_WEIGHTS, kld_encoder=0.5, kld_adder=0.2, match=2))
    step = step_of(config, training_digits)
    x, addend, y, noise = batch = first(step)
    q_x, q_y = (step.model.encoder.gaussian(as_float(part)) for part in (x, y))
    p = step.model.adder.gaussian(q_x.sample(noise[:, :7]), addend)
    prior = Normal(0.0, 1.0)
    terms = ((0.5, normal(q_x), prior), (0.2, normal(p), prior), (2, normal(q_y), normal(p)))
    wanted = sum(weight * kl_divergence(q, other).sum(1).mean() for weight, q, other in terms)
    torch.testing.assert_close(step(batch)[0], wanted)


def test_validation_pairs_stay_the_same(training_digits: tuple[Digits, Digits]) -> None:
    config, rounds = RunConfig((Stage("addition", 1, 2, 32),), "addition"), []
    for seed in (0, 1):
        torch.manual_seed(seed)
        step = step_of(config, training_digits)
        rounds += [[part.clone() for b in step.validation_batches() for part in b] for _ in "ab"]
    for other in rounds[1:]:
        assert all(torch.equal(a, b) for a, b in zip(rounds[0], other, strict=True))


def test_addends_are_blurred_by_the_deviation_asked_for(
    training_digits: tuple[Digits, Digits],
) -> None:
    for stage in (Stage("addition", 1, 2, 1000, balance="cells"), replace(BATCH, batch_size=500)):
        step = step_of(RunConfig((replace(stage, addend_noise=0.2),), "addition"), training_digits)
        batch = first(step)
        addend = batch.addends if isinstance(batch, InBatch) else batch[1]
        rest = addend - addend.round()  # whole numbers, but for noise that is seldom above a half
        assert rest.std() == pytest.approx(0.2, rel=0.1)
        exact = next(step.validation_batches())[1]
        assert torch.equal(exact, exact.round())


# ... and with all targets of a batch


@pytest.mark.parametrize("term", ["code", "match", "l2_added"])
def test_terms_of_a_batch_are_those_of_all_its_pairs(
    training_digits: tuple[Digits, Digits], term: str
) -> None:
    config = RunConfig((BATCH,), "generative_addition", weights=replace(NO_WEIGHTS, **{term: 1}))
    step = step_of(config, training_digits)
    batch, model = first(step), step.model
    assert isinstance(batch, InBatch)
    x = as_float(batch.x)
    q = model.encoder.gaussian(x)
    z, noise = q.sample(batch.noise[:, :7]), batch.noise[:, 7:]
    losses, weights = [], []
    for place in range(len(z)):  # four of each digit, in order
        digit, drawn = place // 4, int(batch.addend[place])
        for addend in [drawn] if term == "l2_added" else range(10 - digit):
            p = model.adder.gaussian(z[place : place + 1], torch.tensor([float(addend)]))
            total = digit + addend
            targets = [at for at in range(4 * total, 4 * total + 4) if at != place]
            if term == "match":
                target = Gaussian(q.mu[targets], q.logvar[targets])
                each = kl_divergence(normal(target), normal(p)).sum(1)
            elif term == "code":
                each = (p.mu - q.mu[targets]).square().sum(1)
            else:  # binary cross-entropy is linear in the target
                logits = model.decoder.logits(p.sample(noise[place : place + 1]))
                found = Bernoulli(logits=logits, validate_args=False)
                each = -found.log_prob(x[targets]).sum((1, 2, 3))
            losses.append(each.mean())
            # Of cells, by "mixed"; a drawn addend stands for all 10 - digit of its image.
            weights.append((10 - digit) ** (0.5 if term == "l2_added" else -0.5))
    weights = torch.tensor(weights)
    cells = torch.tensor([(10 - digit) ** -0.5 for digit in range(10) for _ in range(10 - digit)])
    wanted = (torch.stack(losses) * weights).sum() / (4 * cells.sum())
    torch.testing.assert_close(step(batch)[0], wanted, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("kind", ["addition", "variational_addition", "generative_addition"])
def test_contrast_is_the_surprise_at_the_right_digits(
    training_digits: tuple[Digits, Digits], kind: str
) -> None:
    config = RunConfig((BATCH,), kind, weights=replace(NO_WEIGHTS, contrast=2.0))
    step = step_of(config, training_digits)
    batch, model = first(step), step.model
    noise = None if batch.noise is None else batch.noise[:, :7]
    z, _ = code_of(model.encoder, as_float(batch.x), noise=noise)
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
    torch.testing.assert_close(step(batch)[0], wanted, rtol=1e-3, atol=1e-3)


def test_one_image_in_so_many_is_reconstructed(training_digits: tuple[Digits, Digits]) -> None:
    stage = replace(BATCH, loss="l2", reconstruct_every=4)
    config = RunConfig((stage,), "addition", weights=replace(NO_WEIGHTS, l2_orig=1))
    step = step_of(config, training_digits)
    loss, squares = step(batch := first(step))
    x = as_float(batch.x)[::4]
    with torch.no_grad():
        error = (step.model.decoder(step.model.encoder(x)) - x).square().sum()
    torch.testing.assert_close(loss.detach(), error / 10)
    assert float(squares["rmse"]) == pytest.approx(4 * float(error), rel=1e-5)  # as if all were


# Augmentation


def test_each_image_is_moved_as_numpy_moves_it(mnist_test: Digits) -> None:
    images = mnist_test.images[:400]
    moved = shifted(images, 2, generator())
    assert moved.shape == images.shape
    assert moved.dtype == torch.uint8
    seen = set()
    for before, after in zip(images.numpy(), moved.numpy(), strict=True):
        padded = np.pad(before, 4)  # two for the shift, two for what is moved out
        found = {
            (down, right)
            for down in range(-2, 3)
            for right in range(-2, 3)
            if np.array_equal(padded[4 - down : 32 - down, 4 - right : 32 - right], after)
        }
        assert len(found) == 1
        seen |= found
    assert len(seen) == 25  # every shift occurs


def test_shifts_are_equally_likely(mnist_test: Digits) -> None:
    dot = torch.zeros(9000, 28, 28, dtype=torch.uint8)
    dot[:, 14, 14] = 255
    places = shifted(dot, 1, generator()).flatten(1).float().mean(0).view(28, 28)[13:16, 13:16]
    assert places.sum() == pytest.approx(255)
    assert (places / 255 - 1 / 9).abs().max() < 4 * (1 / 9 * 8 / 9 / 9000) ** 0.5


def test_no_shift_leaves_images_and_generator_alone(mnist_test: Digits) -> None:
    drawn = generator()

    torch.testing.assert_close(shifted(mnist_test.images[:5], 0, drawn), mnist_test.images[:5])
    assert torch.equal(drawn.get_state(), generator().get_state())


def test_same_seed_same_shifts(mnist_test: Digits) -> None:
    images = mnist_test.images[:50]
    a, b, c = (shifted(images, 3, generator(seed)) for seed in (5, 5, 6))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)


def test_deformed_turns_scales_and_moves_as_opencv_does(
    mnist_test: Digits, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = mnist_test.images[:200]
    monkeypatch.setattr(steps, "WOBBLE", 0.0)
    found = deformed(images, 1.5, generator(3)).float().numpy()
    turn, wide, high, slant, right, down = 1.5 * torch.randn(6, 200, generator=generator(3)).numpy()
    turn *= steps.TURN
    for i, image in enumerate(images.numpy()):
        cos, sin = np.cos(turn[i]), np.sin(turn[i])
        back = np.array(
            [
                [(1 + 0.03 * wide[i]) * cos, 0.03 * slant[i] - sin, 0.15 * right[i]],
                [sin, (1 + 0.03 * high[i]) * cos, 0.15 * down[i]],
            ]
        )
        back[:, 2] += 13.5 - back[:, :2] @ [13.5, 13.5]  # about the middle of the image
        expected = cv2.warpAffine(
            image.astype(np.float32),
            back,
            (28, 28),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        )
        assert np.abs(found[i] - expected).max() < 9  # OpenCV counts places in 32nds of a pixel


def test_wobble_moves_points_by_its_deviation() -> None:
    ramp = torch.arange(28).mul(8).byte().expand(4000, 28, 28)  # 8 grey levels a pixel
    moved = deformed(ramp, 0.5, generator()).float()[:, 8:20, 8:20] - ramp[:, 8:20, 8:20].float()
    by_net = 0.5 * steps.WOBBLE
    # Between its points the net is smoother than at them, turns and slants add a little.
    assert 0.5 * by_net < moved.std() / 8 < 2 * by_net
    assert moved.mean().abs() / 8 < 0.02


def test_strength_0_leaves_images_and_generator_alone(mnist_test: Digits) -> None:
    drawn = generator()
    assert torch.equal(
        shifted(deformed(mnist_test.images[:5], 0, drawn), 0, drawn), mnist_test.images[:5]
    )
    assert torch.equal(drawn.get_state(), generator().get_state())


@pytest.mark.parametrize("side", [28, 32, 64])
def test_deformed_digits_stay_the_digits_they_are(mnist_test: Digits, side: int) -> None:
    judge = load_judge()
    digits = mnist_test.subset(1000).resized(side)
    drawn = generator()
    images = shifted(deformed(digits.images, 1.0, drawn), 1, drawn)
    read = judge.read(as_float(images)).argmax(1)
    assert (read == digits.labels).float().mean() > 0.985
