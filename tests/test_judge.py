"""The judges read sharp and soft digits alike, the same way whatever stands beside them."""

import json
import os
import pickle
import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from learn2add import evaluation, judge_training
from learn2add.data import Digits, as_float, load_digits
from learn2add.judge import WEIGHTS, Judge, examine, judges_agree, load_judge, save_judge
from learn2add.judge_training import ClassMeans, augment, rebuild_judge, train_judge
from learn2add.pairs import CELLS
from learn2add.runs import kept_run

ACCURACY = {"cnn": 0.994, "mlp": 0.99}
"""Measured: at least 0.9966 and 0.9918."""


@pytest.fixture(scope="module", params=WEIGHTS)
def judge(request: pytest.FixtureRequest) -> Judge:
    """Each of the two in turn."""
    return load_judge(architecture=request.param)


@pytest.fixture(scope="module")
def test_digits() -> Digits:
    return load_digits(split="test")


@pytest.fixture(scope="module")
def train_digits() -> Digits:
    return load_digits(split="train")


def mean_pictures(digits: Digits, image_size: int) -> Tensor:
    """Class means by NumPy, in double precision: float32 [10, 1, S, S]."""
    digits = digits.resized(image_size)
    pixels, labels = digits.images.numpy(), digits.labels.numpy()
    means = [pixels[labels == d].mean(axis=0, dtype=np.float64) / 255 for d in range(10)]
    return torch.from_numpy(np.stack(means)).float().unsqueeze(1)


@pytest.mark.parametrize("image_size", [28, 32, 64])
def test_reads_real_test_digits(judge: Judge, test_digits: Digits, image_size: int) -> None:
    read = judge.read(as_float(test_digits.resized(image_size).images))
    assert read.shape == (10_000, 10)
    assert read.dtype == torch.float32
    torch.testing.assert_close(read.sum(dim=1), torch.ones(10_000))
    right = np.mean(read.argmax(dim=1).numpy() == test_digits.labels.numpy())
    assert right >= ACCURACY[judge.architecture]


@pytest.mark.parametrize("image_size", [28, 32])
@pytest.mark.parametrize("split", ["train", "test"])
def test_reads_class_means(
    judge: Judge, train_digits: Digits, test_digits: Digits, split: str, image_size: int
) -> None:
    digits = train_digits if split == "train" else test_digits
    read = judge.read(mean_pictures(digits, image_size))
    assert read.diagonal().min() >= 0.9, read


def test_is_not_sure_of_a_mean_of_everything(judge: Judge, test_digits: Digits) -> None:
    everything = mean_pictures(test_digits, 28).mean(dim=0, keepdim=True)
    assert judge.read(everything).max() < 0.8


def test_reading_does_not_depend_on_the_batch(judge: Judge, test_digits: Digits) -> None:
    images = as_float(test_digits.images[:400])
    judge.train()  # read must not be misled by this
    norm = next(layer for layer in judge.body if hasattr(layer, "running_mean"))
    counted = norm.running_mean.clone()
    whole = judge.read(images)
    order = torch.randperm(400, generator=torch.Generator().manual_seed(0))
    beside_zeros = judge.read(torch.cat([images[:5], torch.zeros(300, 1, 28, 28)]))[:5]
    for other in (judge.read(images, 1), judge.read(images, 7)):
        torch.testing.assert_close(other, whole, atol=1e-3, rtol=0)
    torch.testing.assert_close(judge.read(images[order]), whole[order], atol=1e-3, rtol=0)
    torch.testing.assert_close(beside_zeros, whole[:5], atol=1e-3, rtol=0)
    assert torch.equal(norm.running_mean, counted)


def test_features_lead_to_the_reading(judge: Judge, test_digits: Digits) -> None:
    images = as_float(test_digits.resized(32).images[:50])
    features = judge.features(images)
    assert features.shape == (50, judge.head.in_features)
    assert features.dtype == torch.float32
    read = judge.head(features).softmax(dim=1)
    torch.testing.assert_close(read, judge.read(images), atol=0.02, rtol=0)  # bfloat16 at most


def test_loaded_judge_is_frozen_but_lets_gradients_through(judge: Judge) -> None:
    assert not any(parameter.requires_grad for parameter in judge.parameters())
    images = torch.full((2, 1, 32, 32), 0.5, requires_grad=True)
    judge(images).sum().backward()
    assert images.grad.abs().sum() > 0
    assert not judge.read(images).requires_grad


@pytest.mark.parametrize(
    ("images", "error"),
    [
        (np.zeros((1, 1, 28, 28), np.float32), TypeError),
        (torch.zeros(1, 1, 28, 28, dtype=torch.uint8), TypeError),
        (torch.zeros(3, 28, 28), ValueError),
        (torch.zeros(1, 3, 28, 28), ValueError),
        (torch.full((1, 1, 28, 28), 1.5), ValueError),
        (torch.full((1, 1, 28, 28), torch.nan), ValueError),
    ],
)
def test_bad_images_are_named(judge: Judge, images: object, error: type[Exception]) -> None:
    for read in (judge.read, judge.features):
        with pytest.raises(error, match="images"):
            read(images)


def test_bad_batch_size_is_named(judge: Judge) -> None:
    with pytest.raises(ValueError, match="batch_size"):
        judge.read(torch.zeros(1, 1, 28, 28), 0)


def test_the_card_tells_the_truth(judge: Judge, test_digits: Digits) -> None:
    path = WEIGHTS[judge.architecture]
    card = json.loads(path.with_suffix(".json").read_text())
    assert card["architecture"] == judge.architecture
    read = judge.read(as_float(test_digits.images))
    confidence = read.max(dim=1).values.numpy()
    right = (read.argmax(dim=1) == test_digits.labels).numpy()
    assert card["test"]["28"]["accuracy"] == pytest.approx(right.mean(), abs=5e-4)
    edges = np.linspace(0, 1, 16)
    inside = [(confidence > low) & (confidence <= high) for low, high in pairwise(edges)]
    gaps = [i.mean() * abs(right[i].mean() - confidence[i].mean()) for i in inside if i.any()]
    assert card["test"]["28"]["calibration_error"] == pytest.approx(sum(gaps), abs=5e-4)
    validation = load_digits(split="validation")
    assert card["validation_accuracy"] == pytest.approx(
        examine(judge, validation)["accuracy"], abs=5e-4
    )
    assert card["parameters"] == sum(p.numel() for p in judge.parameters())
    assert path.stat().st_size < 1_500_000


def test_the_default_is_the_first() -> None:
    assert load_judge().architecture == "cnn"


def test_the_second_has_no_convolution() -> None:
    kinds = {name: {type(part) for part in Judge(name).modules()} for name in WEIGHTS}
    assert nn.Conv2d in kinds["cnn"] and nn.Conv2d not in kinds["mlp"]


@pytest.fixture(scope="module")
def both() -> tuple[Judge, Judge]:
    return load_judge(), load_judge(architecture="mlp")


def test_the_judges_agree_on_real_digits(both: tuple[Judge, Judge], test_digits: Digits) -> None:
    assert judges_agree(*both, as_float(test_digits.images)) >= 0.99  # measured: 0.9928


def test_the_judges_agree_on_drawn_sums(both: tuple[Judge, Judge], test_digits: Digits) -> None:
    some, model = test_digits.subset(2000), kept_run("part3/quick").model("cpu").inference()
    drawn = []
    for digit, addend in CELLS:
        drawn.append(evaluation.add(model, some.images[some.labels == digit], addend))
    assert judges_agree(*both, torch.cat(drawn)) >= 0.997  # measured: 0.9987


def test_agreement_is_the_share_read_alike() -> None:
    class Scripted(Judge):
        def __init__(self, *digits: int) -> None:
            super().__init__()
            self.digits = torch.tensor(digits)

        def read(self, images: Tensor, batch_size: int = 1000) -> Tensor:
            return nn.functional.one_hot(self.digits, 10).float()

    pictures, one = torch.zeros(4, 1, 28, 28), Scripted(1, 2, 3, 4)
    for digits, share in (((1, 2, 3, 4), 1), ((1, 2, 3, 5), 0.75), ((4, 3, 2, 1), 0)):
        assert judges_agree(one, Scripted(*digits), pictures) == share
        assert judges_agree(Scripted(*digits), one, pictures) == share
    with pytest.raises(ValueError, match="pictures"):
        judges_agree(one, one, pictures[0])


@pytest.mark.parametrize("use", [Judge, lambda name: load_judge(architecture=name)])
def test_an_unknown_architecture_is_named(use: Callable[[str], Judge]) -> None:
    with pytest.raises(ValueError, match="architecture must be one of 'cnn', 'mlp', not 'rnn'"):
        use("rnn")


def test_weights_of_the_other_architecture_are_refused() -> None:
    held = "holds architecture 'mlp', not 'cnn'.*learn2add judge"
    with pytest.raises(ValueError, match=held):
        load_judge(WEIGHTS["mlp"])
    with pytest.raises(ValueError, match="'cnn', not 'mlp'.*learn2add judge --architecture mlp"):
        load_judge(WEIGHTS["cnn"], architecture="mlp")


def test_saved_judge_comes_back_and_its_card_beside_it(judge: Judge, tmp_path: Path) -> None:
    path = tmp_path / "new" / "mine.safetensors"
    save_judge(judge, path, {"seed": 7})
    again = load_judge(path, architecture=judge.architecture)
    for name, tensor in judge.state_dict().items():
        if not name.endswith("num_batches_tracked"):
            assert torch.equal(again.state_dict()[name], tensor), name
    assert json.loads(path.with_suffix(".json").read_text()) == {"seed": 7}
    assert sorted(p.name for p in path.parent.iterdir()) == ["mine.json", "mine.safetensors"]


def test_a_failed_save_leaves_the_old_file(
    judge: Judge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "mine.safetensors"
    save_judge(judge, path, {"seed": 7})
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}

    def full_disk(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full_disk)
    with pytest.raises(OSError, match="mine.safetensors.*No space"):
        save_judge(Judge(), path, {"seed": 8})
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_save_refuses_impossible_places(judge: Judge, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="safetensors"):
        save_judge(judge, tmp_path / "judge.json", {})
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError, match="file"):
        save_judge(judge, tmp_path / "file" / "judge.safetensors", {})


class _Mischief:
    """Unpickling this makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return (Path.touch, (self.path,))


def _damage(kind: str, path: Path, trace: Path) -> None:
    whole = WEIGHTS["cnn"].read_bytes()
    if kind == "truncated":
        path.write_bytes(whole[: len(whole) // 2])
    elif kind == "one bit flipped":
        path.write_bytes(whole[:-1000] + bytes([whole[-1000] ^ 1]) + whole[-999:])
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "text":
        path.write_text("version https://git-lfs.github.com/spec/v1\n")
    elif kind == "other weights":
        safetensors.torch.save_file({"weight": torch.zeros(3)}, path)
    elif kind == "pickle":
        path.write_bytes(pickle.dumps({"weights": _Mischief(trace)}))
    elif kind == "torch.save":
        torch.save({"weights": _Mischief(trace)}, path)


@pytest.mark.parametrize(
    "kind",
    ["truncated", "one bit flipped", "empty", "text", "other weights", "pickle", "torch.save"],
)
def test_damaged_weights_are_refused_by_name(kind: str, tmp_path: Path) -> None:
    path, trace = tmp_path / "bad.safetensors", tmp_path / "trace"
    _damage(kind, path, trace)
    with pytest.raises(ValueError, match=rf"{re.escape(str(path))}.*learn2add judge"):
        load_judge(path)
    assert not trace.exists()


def test_missing_weights_are_named(tmp_path: Path) -> None:
    path = tmp_path / "none.safetensors"
    with pytest.raises(FileNotFoundError, match=rf"{re.escape(str(path))}.*learn2add judge"):
        load_judge(path)


def test_class_means_mix_one_class_only() -> None:
    # Each digit is a picture with one bright pixel of its own, so a mean shows who is in it
    count = 100
    labels = torch.arange(count) % 10
    images = (torch.eye(count) * 255).to(torch.uint8).view(count, 10, 10)
    means = ClassMeans(Digits(images, labels, "MNIST", "train"))
    asked = torch.arange(10).repeat(50)
    drawn = means.draw(asked, torch.Generator().manual_seed(0)).view(500, count)
    torch.testing.assert_close(drawn.sum(dim=1), torch.ones(500))
    shares = torch.zeros(500, 10).index_add(1, labels, drawn)
    torch.testing.assert_close(shares[torch.arange(500), asked], torch.ones(500))
    smallest = drawn.masked_fill(drawn == 0, 2).amin(dim=1)  # a digit drawn once weighs 1 / number
    assert smallest.min() >= 1 / 32 - 1e-6
    assert (drawn.max(dim=1).values <= 0.2).any()
    assert (smallest >= 0.5 - 1e-6).any()


def test_augment_changes_pictures_within_range(test_digits: Digits) -> None:
    images = as_float(test_digits.images[:500])
    changed = augment(images, torch.Generator().manual_seed(0))
    assert changed.shape == images.shape
    assert changed.min() >= 0
    assert changed.max() <= 1 + 1e-6
    distance = (changed - images).abs().amax(dim=(1, 2, 3))
    assert 0.05 < (distance < 1e-3).float().mean() < 0.2  # 1 in 5 unmoved, half of those unblurred
    mass = changed.sum(dim=(1, 2, 3)) / images.sum(dim=(1, 2, 3))
    assert 0.7 < mass.min() and mass.max() < 1.4  # nobody is pushed out of the picture


def test_same_seed_same_weights(train_digits: Digits, test_digits: Digits) -> None:
    few, check = train_digits.subset(1024), test_digits.subset(100)

    def train(seed: int) -> dict[str, Tensor]:
        return train_judge(few, check, seed=seed, epochs=2, progress=False)[0].state_dict()

    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first = train(1)
    assert torch.equal(torch.rand(3), expected), "training must not touch the caller's numbers"
    second, other = train(1), train(2)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["head.weight"], other["head.weight"])


@pytest.mark.parametrize("architecture", WEIGHTS)
def test_rebuilding_writes_weights_and_card(
    architecture: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def few(dataset: str, split: str) -> Digits:
        return load_digits(dataset, split).subset(512)

    monkeypatch.setattr(judge_training, "load_digits", few)
    path = tmp_path / "judge.safetensors"
    card = rebuild_judge(path, architecture=architecture, seed=3, epochs=1, progress=False)
    assert json.loads(path.with_suffix(".json").read_text()) == card
    assert (card["seed"], card["epochs"], set(card["test"])) == (3, 1, {"28", "32", "64"})
    assert card["architecture"] == architecture
    stored = examine(load_judge(path, architecture=architecture), few("MNIST", "test").resized(32))
    assert stored == card["test"]["32"]  # the figures are those of the weights on disk


def test_training_refuses_what_cannot_work(train_digits: Digits, test_digits: Digits) -> None:
    good = train_digits.subset(1024)
    no_nine = good.labels != 9
    lacking = Digits(good.images[no_nine], good.labels[no_nine], "MNIST", "train")
    for bad in (train_digits.subset(100), good.resized(32), lacking):
        with pytest.raises(ValueError, match="train must hold"):
            train_judge(bad, test_digits, epochs=1, progress=False)
    with pytest.raises(ValueError, match="epochs"):
        train_judge(good, test_digits, epochs=0, progress=False)
    with pytest.raises(ValueError, match="architecture .* 'cnn', 'mlp', not 'rnn'"):
        train_judge(good, test_digits, architecture="rnn", epochs=1, progress=False)


def test_an_unknown_architecture_is_found_before_the_digits(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="architecture .* 'cnn', 'mlp', not 'rnn'"):
        rebuild_judge(tmp_path / "new" / "judge.safetensors", architecture="rnn")
    assert not (tmp_path / "new").exists()


@pytest.mark.slow
def test_a_short_training_learns(train_digits: Digits, test_digits: Digits) -> None:
    judge, card = train_judge(
        train_digits.subset(10_000), load_digits(split="validation"), epochs=8, progress=False
    )
    read = judge.read(as_float(test_digits.images))
    assert (read.argmax(dim=1) == test_digits.labels).float().mean() >= 0.97
    assert judge.read(mean_pictures(test_digits, 28)).diagonal().min() >= 0.9
    assert card["validation_accuracy"] >= 0.97
