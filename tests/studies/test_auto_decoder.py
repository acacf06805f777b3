"""Auto-decoders: codes in a table, codes found, the distributions, and runs like any other."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import distributions as dist

from learn2add.checkpoints import load_tensors
from learn2add.config import LossWeights, RunConfig, Stage
from learn2add.data import Digits, as_float, load_digits
from learn2add.judge import load_judge
from learn2add.measures import image_errors, judge_accuracy, judge_sums
from learn2add.network import AdditionModel, DecoderConvTranspose
from learn2add.runs import load_or_train
from learn2add.studies import auto_decoder_training as own
from learn2add.studies.auto_decoder import (
    FAMILIES,
    HALF_WIDTH,
    AutoDecoder,
    CodeTable,
    DecoderDCGAN,
    Family,
    FittedEncoder,
    find_codes,
)
from learn2add.studies.auto_decoder_training import (
    AutoDecoderConfig,
    AutoDecoderStage,
    CodeAdam,
    code_accuracy,
    distance_to_real,
    report_loss,
)
from learn2add.train import train

SAMPLED = [name for name in FAMILIES if FAMILIES[name].sampled]
POINT = FAMILIES["point"]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def rows_of(family: Family, count: int = 4, size: int = 3) -> torch.Tensor:
    return family.neutral(count, size) + torch.randn(
        count, family.parts, size, generator=seeded(), dtype=torch.float64
    )


def auto_decoder(decoder: str, name: str = "point") -> AutoDecoder:
    kind = DecoderDCGAN if decoder == "dcgan" else DecoderConvTranspose
    return AutoDecoder(CodeTable(5, 8, FAMILIES[name]), kind(8))


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
def test_rows_can_be_put_at_codes_and_gradients_reach_them(name: str) -> None:
    family = FAMILIES[name]
    z = torch.tensor([[0.2, 0.5, 1.0]])
    rows = family.at(z).requires_grad_()
    torch.testing.assert_close(family.mean(rows), z)
    family.sample(rows, family.noise(1, 3, seeded()) + 0.1).sum().backward()
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
    decoder = "dcgan" if name == "gaussian" else "conv_transpose"
    model = auto_decoder(decoder, name).train()
    model.decoder.layers[2].eval()  # a mode of its own shall come back too
    before = {k: v.clone() for k, v in model.state_dict().items()}
    modes = [part.training for part in model.modules()]
    images = clothes[1].images[:4]
    start = model.find(images, steps=0)
    found = model.find(images, steps=3, learning_rate=0.1, kl=float(model.family.sampled))
    assert found.curve.shape == (4,) and found.rows.shape == (4, model.family.parts, 8)
    assert (found.rows != start.rows).any(2).any(1).all()
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
    assert [part.training for part in model.modules()] == modes


def test_a_code_is_found_from_its_own_image_alone(clothes: tuple[Digits, Digits]) -> None:
    """Whatever stands beside it: no batch normalisation, no shared moments, no shared loss."""
    model = auto_decoder("dcgan")
    images, others = clothes[1].images[:4], clothes[1].images[4:8].clone()
    others[2] = images[2]
    one, other = (model.find(part, steps=3, learning_rate=0.1) for part in (images, others))
    torch.testing.assert_close(one.z[2], other.z[2])
    assert not torch.allclose(one.z[1], other.z[1])


def test_the_search_comes_nearer_and_each_image_starts_where_it_is_best(
    clothes: tuple[Digits, Digits],
) -> None:
    decoder, images = DecoderConvTranspose(8), clothes[1].images[:20]
    means = torch.randn(30, 8, generator=seeded())
    options = {"means": means, "learning_rate": 0.05}
    found = {
        start: find_codes(decoder, POINT, images, start=start, steps=0, **options)
        for start in ("zero", "mean", "prior")
    }
    best = find_codes(decoder, POINT, images, start=list(found), steps=30, **options)
    least = torch.stack([each.curve[0] for each in found.values()]).min()
    assert best.curve[0] <= least and best.curve[-1] < best.curve[0]
    on = find_codes(decoder, POINT, images, start=best.rows, steps=0, **options)
    torch.testing.assert_close(on.curve[0], best.curve[-1])
    wanted = (decoder(best.z) - as_float(images)).square().mean((1, 2, 3))
    torch.testing.assert_close(best.mse, wanted.detach())


@pytest.mark.parametrize(
    ("options", "error", "word"),
    [
        ({"start": "middle"}, ValueError, "start"),
        ({"start": []}, ValueError, "start"),
        ({"start": torch.zeros(2, 1, 3)}, ValueError, "start"),
        ({"steps": -1}, ValueError, "steps"),
        ({"steps": 1.5}, TypeError, "steps"),
        ({"learning_rate": math.nan}, ValueError, "learning_rate"),
        ({"kl": -1.0}, ValueError, "kl"),
        ({"loss": "l1"}, ValueError, "loss"),
        ({"means": torch.zeros(3, 9)}, ValueError, "means"),
        ({"images": torch.zeros(2, 28, 28)}, ValueError, "images"),
    ],
)
def test_a_search_refuses_what_does_not_fit(
    options: dict, error: type[Exception], word: str
) -> None:
    images = torch.zeros(2, 28, 28, dtype=torch.uint8)
    usual = {"family": POINT, "images": images, "means": torch.zeros(3, 4)}
    with pytest.raises(error, match=word):
        find_codes(DecoderConvTranspose(4), **usual | options)


# The optimiser


def test_rows_that_are_always_seen_have_adams_updates_and_others_rest() -> None:
    first = torch.randn(6, 4, generator=seeded())
    target = torch.randn(6, 4, generator=seeded(1))
    dense = first.clone().requires_grad_()
    table = torch.nn.Embedding(6, 4, sparse=True, _weight=first.clone())
    weight = torch.nn.Parameter(torch.ones(2))
    adam, own = (
        torch.optim.Adam([dense], 0.1),
        CodeAdam([weight], [table.weight], 0.01, (0.9, 0.999), 10),
    )
    seen = torch.tensor([4, 0, 2])
    for _ in range(5):
        for optimiser, picked in ((adam, dense[seen]), (own, table(seen))):
            optimiser.zero_grad()
            (picked - target[seen]).square().sum().backward()
            optimiser.step()
    torch.testing.assert_close(table.weight[seen], dense[seen])
    rest = torch.tensor([1, 3, 5])
    assert torch.equal(table.weight[rest], first[rest])
    assert torch.equal(weight, torch.ones(2))


# Runs


def tiny(name: str = "gaussian", decoder: str = "dcgan") -> AutoDecoderConfig:
    stage = AutoDecoderStage("auto_decoder", 2, 2, 8, 1e-3, loss="bce", code_rate=10.0, fit_steps=1)
    return AutoDecoderConfig(
        (stage,),
        decoder=decoder,
        code_size=4,
        train_size=20,
        validation_size=10,
        code_distribution=name,
        kld_code=float(FAMILIES[name].sampled),
    )


@pytest.mark.parametrize("name", FAMILIES)
def test_every_distribution_trains_and_its_run_is_loaded_again(name: str, tmp_path: Path) -> None:
    config = tiny(name, "dcgan" if name == "point" else "conv_transpose")
    run = load_or_train(config, tmp_path, device="cpu", progress=False)
    assert len(run.history) == 2 and all(math.isfinite(r["loss/validation"]) for r in run.history)
    model = load_or_train(config, tmp_path).model("cpu")
    assert len(model.codes) == 20 and not model.training
    assert model(torch.arange(3)).shape == (3, 1, 28, 28)
    assert model.codes.means().std(0).min() > 0


def test_a_run_that_was_cut_off_goes_on_to_the_same_bytes(
    clothes: tuple[Digits, Digits], tmp_path: Path
) -> None:
    digits = clothes[0].subset(20), clothes[1].subset(10)
    train(tiny(), *digits, tmp_path / "whole", progress=False)

    def cut(row: dict) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(tiny(), *digits, tmp_path / "cut", progress=False, after_epoch=cut)
    _, facts = load_tensors(tmp_path / "cut" / "last.safetensors")
    assert facts["epoch"] == 1 and not facts["finished"]
    train(tiny(), *digits, tmp_path / "cut", progress=False)
    cut_off, whole = (tmp_path / name / "weights.safetensors" for name in ("cut", "whole"))
    assert cut_off.read_bytes() == whole.read_bytes()


def test_an_adder_learns_on_the_table_and_its_sums_are_judged(tmp_path: Path) -> None:
    run = load_or_train(own.table_addition(smoke=True), tmp_path, progress=False)
    model = run.model("cpu")
    adding = AdditionModel(FittedEncoder(model, steps=2), model.adder, model.decoder)
    digits = load_digits("MNIST", "test").subset(20)
    scores = judge_sums(adding, load_judge(), digits)
    assert int(scores.total.sum()) == 110 and not adding.stochastic


def test_the_vae_beside_them_has_their_decoder(tmp_path: Path) -> None:
    run = load_or_train(own.variational_autoencoder(smoke=True), tmp_path, progress=False)
    model = run.model("cpu")
    assert isinstance(model.decoder, DecoderDCGAN) and hasattr(model.encoder, "gaussian")


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"code_distribution": "normal"}, "code_distribution"),
        ({"code_distribution": "point"}, "kld_code"),
        ({"model": "autoencoder"}, "auto_decoder"),
        ({"stages": (Stage("autoencoder", 1),)}, "stages"),
        ({"stages": (AutoDecoderStage("auto_decoder", 1), Stage("adder", 1))}, "stages"),
        ({"model": "auto_decoder_addition", "stages": (Stage("adder", 1),)}, "stages"),
        ({"kld_code": -1.0}, "kld_code"),
        ({"weights": LossWeights(kld_encoder=1.0)}, "weights"),
        ({"embed_addend": True}, "embed_addend"),
        ({"decoder": "gan"}, "decoder"),
    ],
)
def test_configurations_that_make_no_sense_are_refused(changes: dict, word: str) -> None:
    with pytest.raises(ValueError, match=word):
        replace(tiny(), **changes)


def test_a_family_of_ones_own_can_be_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    """Exercise 3 of notebook 10 adds one."""
    monkeypatch.setitem(FAMILIES, "own", type(FAMILIES["gaussian"])())
    model = replace(tiny(), code_distribution="own").build()
    assert model.family is FAMILIES["own"]


@pytest.mark.parametrize(
    "option", [{"code_rate": 0.0}, {"fit_steps": 0}, {"optimiser": "muon"}, {"task": "adder"}]
)
def test_stages_that_make_no_sense_are_refused(option: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(option))):
        replace(tiny().stages[0], **option)


def test_models_with_an_encoder_have_no_such_stage() -> None:
    with pytest.raises(ValueError, match="auto_decoder"):
        RunConfig(tiny().stages)


@pytest.mark.parametrize("smoke", [False, True])
def test_recipes_survive_json(smoke: bool) -> None:
    made = [own.auto_decoder(name, smoke=smoke) for name in FAMILIES]
    made += [own.variational_autoencoder(smoke=smoke), own.table_addition(smoke=smoke)]
    assert all(RunConfig.from_json(config.to_json()) == config for config in made)


# Measures


def test_the_reports_loss_is_its_norm() -> None:
    x, y = torch.rand(2, 16, 1, 28, 28, generator=seeded())
    wanted = torch.linalg.vector_norm(255 * (x - y)) / x.numel()
    rmse = image_errors(x, y).rmse
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
