"""The judges read sharp and soft digits alike, the same way whatever stands beside them."""

import json
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

from learn2add import measures, runs
from learn2add.data import Digits, as_float, load_digits
from learn2add.judge import WEIGHTS, Judge, judges_agree, load_judge
from learn2add.pairs import CELLS

ACCURACY = {"cnn": 0.994, "mlp": 0.99}
"""Measured: at least 0.9966 and 0.9918."""


@pytest.fixture(scope="module", params=WEIGHTS)
def judge(request: pytest.FixtureRequest) -> Judge:
    """Each of the two in turn."""
    return load_judge(architecture=request.param)


@pytest.fixture(scope="module")
def reading(judge: Judge, mnist_test: Digits) -> Tensor:
    """What each reads in all test digits."""
    return judge.read(as_float(mnist_test.images))


def mean_images(digits: Digits, image_size: int) -> Tensor:
    """Class means by NumPy, in double precision: float32 [10, 1, S, S]."""
    digits = digits.resized(image_size)
    pixels, labels = digits.images.numpy(), digits.labels.numpy()
    means = [pixels[labels == d].mean(axis=0, dtype=np.float64) / 255 for d in range(10)]
    return torch.from_numpy(np.stack(means)).float().unsqueeze(1)


def test_reads_real_test_digits(judge: Judge, reading: Tensor, mnist_test: Digits) -> None:
    assert reading.shape == (10_000, 10)
    assert reading.dtype == torch.float32
    torch.testing.assert_close(reading.sum(dim=1), torch.ones(10_000))
    right = np.mean(reading.argmax(dim=1).numpy() == mnist_test.labels.numpy())
    assert right >= ACCURACY[judge.architecture]


@pytest.mark.parametrize("image_size", [32, 64])
def test_reads_other_sizes(judge: Judge, mnist_test: Digits, image_size: int) -> None:
    some = mnist_test.subset(2000)
    read = judge.read(as_float(some.resized(image_size).images)).argmax(dim=1)
    assert (read == some.labels).double().mean() >= ACCURACY[judge.architecture] - 0.002


@pytest.mark.parametrize("image_size", [28, 32])
@pytest.mark.parametrize("split", ["train", "test"])
def test_reads_class_means(
    judge: Judge, mnist_train: Digits, mnist_test: Digits, split: str, image_size: int
) -> None:
    digits = mnist_train if split == "train" else mnist_test
    read = judge.read(mean_images(digits, image_size))
    assert read.diagonal().min() >= 0.9, read


def test_is_not_sure_of_a_mean_of_everything(judge: Judge, mnist_test: Digits) -> None:
    everything = mean_images(mnist_test, 28).mean(dim=0, keepdim=True)
    assert judge.read(everything).max() < 0.8


def test_reading_does_not_depend_on_the_batch(judge: Judge, mnist_test: Digits) -> None:
    images = as_float(mnist_test.images[:400])
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


def test_features_lead_to_the_reading(judge: Judge, mnist_test: Digits) -> None:
    images = as_float(mnist_test.resized(32).images[:50])
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


def test_the_card_tells_the_truth(judge: Judge, reading: Tensor, mnist_test: Digits) -> None:
    path = WEIGHTS[judge.architecture]
    card = json.loads(path.with_suffix(".json").read_text())
    assert card["architecture"] == judge.architecture
    confidence = reading.max(dim=1).values.numpy()
    right = (reading.argmax(dim=1) == mnist_test.labels).numpy()
    assert card["test"]["28"]["accuracy"] == pytest.approx(right.mean(), abs=5e-4)
    edges = np.linspace(0, 1, 16)
    inside = [(confidence > low) & (confidence <= high) for low, high in pairwise(edges)]
    gaps = [i.mean() * abs(right[i].mean() - confidence[i].mean()) for i in inside if i.any()]
    assert card["test"]["28"]["calibration_error"] == pytest.approx(sum(gaps), abs=5e-4)
    validation = measures.judge_accuracy(judge, load_digits(split="validation"))
    assert card["validation_accuracy"] == pytest.approx(validation, abs=5e-4)
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


def test_the_judges_agree_on_real_digits(both: tuple[Judge, Judge], mnist_test: Digits) -> None:
    assert judges_agree(*both, as_float(mnist_test.images)) >= 0.99  # measured: 0.9928


def test_the_judges_agree_on_drawn_sums(both: tuple[Judge, Judge], mnist_test: Digits) -> None:
    some, model = mnist_test.subset(800), runs.load("part3/quick").model("cpu")
    drawn = []
    for digit, addend in CELLS:
        drawn.append(measures.add(model, some.images[some.labels == digit], addend))
    assert judges_agree(*both, torch.cat(drawn)) >= 0.997  # measured: 0.9987


def test_agreement_is_the_share_read_alike() -> None:
    class Scripted(Judge):
        def __init__(self, *digits: int) -> None:
            super().__init__()
            self.digits = torch.tensor(digits)

        def read(self, images: Tensor, batch_size: int = 1000) -> Tensor:
            return nn.functional.one_hot(self.digits, 10).float()

    images, one = torch.zeros(4, 1, 28, 28), Scripted(1, 2, 3, 4)
    for digits, share in (((1, 2, 3, 4), 1), ((1, 2, 3, 5), 0.75), ((4, 3, 2, 1), 0)):
        assert judges_agree(one, Scripted(*digits), images) == share
        assert judges_agree(Scripted(*digits), one, images) == share


@pytest.mark.parametrize("use", [Judge, lambda name: load_judge(architecture=name)])
def test_an_unknown_architecture_is_named(use: Callable[[str], Judge]) -> None:
    with pytest.raises(ValueError, match="architecture .*'rnn'"):
        use("rnn")


def test_weights_of_the_other_architecture_are_refused() -> None:
    held = "holds architecture 'mlp', not 'cnn'.*tools/train_judge.py` rebuilds"
    with pytest.raises(ValueError, match=held):
        load_judge(WEIGHTS["mlp"])
    with pytest.raises(ValueError, match="'cnn', not 'mlp'.*train_judge.py --architecture mlp"):
        load_judge(WEIGHTS["cnn"], architecture="mlp")


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
    with pytest.raises(ValueError, match=rf"{re.escape(str(path))}.*tools/train_judge.py"):
        load_judge(path)
    assert not trace.exists()


def test_missing_weights_are_named(tmp_path: Path) -> None:
    path = tmp_path / "none.safetensors"
    with pytest.raises(FileNotFoundError, match=rf"{re.escape(str(path))}.*tools/train_judge.py"):
        load_judge(path)
