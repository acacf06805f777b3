"""How the judges are trained and kept."""

import json
import os
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from learn2add.data import Digits, as_float, load_digits
from learn2add.judge import WEIGHTS, Judge, load_judge
from tools import train_judge as tool
from tools.train_judge import (
    ClassMeans,
    augment,
    examine,
    main,
    rebuild_judge,
    save_judge,
    train_judge,
)


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


def test_save_refuses_an_impossible_place(judge: Judge, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError, match="file"):
        save_judge(judge, tmp_path / "file" / "judge.safetensors", {})


def test_class_means_mix_one_class_only() -> None:
    # Each digit is an image with one bright pixel of its own, so a mean shows who is in it
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


def test_augment_changes_images_within_range(test_digits: Digits) -> None:
    images = as_float(test_digits.images[:500])
    changed = augment(images, torch.Generator().manual_seed(0))
    assert changed.shape == images.shape
    assert changed.min() >= 0
    assert changed.max() <= 1 + 1e-6
    distance = (changed - images).abs().amax(dim=(1, 2, 3))
    assert 0.05 < (distance < 1e-3).float().mean() < 0.2  # 1 in 5 unmoved, half of those unblurred
    mass = changed.sum(dim=(1, 2, 3)) / images.sum(dim=(1, 2, 3))
    assert 0.7 < mass.min() and mass.max() < 1.4  # nobody is pushed out of the image


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
    monkeypatch.setattr(tool, "load_digits", few)
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
        with pytest.raises(ValueError, match="train is"):
            train_judge(bad, test_digits, epochs=1, progress=False)
    with pytest.raises(ValueError, match="epochs"):
        train_judge(good, test_digits, epochs=0, progress=False)
    with pytest.raises(ValueError, match="architecture .*rnn"):
        train_judge(good, test_digits, architecture="rnn", epochs=1, progress=False)


def test_an_unknown_architecture_is_found_before_the_digits(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="architecture .*rnn"):
        rebuild_judge(tmp_path / "new" / "judge.safetensors", architecture="rnn")
    assert not (tmp_path / "new").exists()


@pytest.mark.slow
def test_a_short_training_learns(train_digits: Digits, test_digits: Digits) -> None:
    judge, card = train_judge(
        train_digits.subset(6000),
        load_digits(split="validation").subset(2000),
        epochs=6,
        progress=False,
    )
    read = judge.read(as_float(test_digits.images))
    assert (read.argmax(dim=1) == test_digits.labels).float().mean() >= 0.97
    assert judge.read(test_digits.class_means().unsqueeze(1)).diagonal().min() >= 0.9
    assert card["validation_accuracy"] >= 0.97


def few(dataset: str, split: str) -> Digits:
    return load_digits(dataset, split).subset(256)


@pytest.mark.parametrize("name", WEIGHTS)
def test_the_script_trains_the_architecture_it_is_asked_for(
    name: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tool, "load_digits", few)
    path = tmp_path / "judge.safetensors"
    chosen = ["--architecture", name] if name != "cnn" else []
    assert main([*chosen, "--epochs", "1", "-o", str(path)]) == 0
    said = capsys.readouterr().out
    assert f"wrote {path}" in said and said.count("of the test digits read rightly") == 3
    assert load_judge(path, architecture=name).architecture == name


def test_the_script_refuses_another_format_before_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["-o", str(tmp_path / "judge.pt")]) == 2
    assert ".safetensors" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words", ["--architecture rnn", "--dataset FashionMNIST --architecture mlp"]
)
def test_the_script_knows_no_other_judge(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as leaving:
        raise SystemExit(main(words.split()))
    assert leaving.value.code == 2
    assert words.split()[-1] in capsys.readouterr().err
