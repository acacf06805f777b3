"""Subtraction, the second operation: addition of mirrored digits, from the pairs to the judge."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from learn2add import runs
from learn2add.config import RunConfig, Stage
from learn2add.data import Digits, as_float, load_digits
from learn2add.judge import judge_of, load_judge
from learn2add.pairs import transform_data_add
from learn2add.runs import digits_of, load, load_or_train

CONFIG = RunConfig(
    (
        Stage("autoencoder", 1, 4, 32, 3e-3, "one_cycle", "bce"),
        Stage("adder", 1, 4, 64, 3e-3, "one_cycle", balance="cells"),
        Stage("addition", 1, 2, 40, 3e-3, "one_cycle", "bce", "mixed", "batch"),
    ),
    model="addition",
    code_size=7,
    operation="subtract",
)


def test_mirrored_sums_are_differences(mnist_test: Digits) -> None:
    digits = mnist_test.subset(100)
    of = {i.numpy().tobytes(): int(y) for i, y in zip(digits.images, digits.labels, strict=True)}
    mirrored = CONFIG.seen(digits)
    assert torch.equal(mirrored.mirrored().labels, digits.labels)
    images, values, results = transform_data_add(mirrored.images, mirrored.labels, (28, 28))
    pairs = zip(images, values, results, strict=True)
    told = [(of[i.tobytes()], value, of[r.tobytes()]) for i, value, r in pairs]
    assert all(digit - value == result for digit, value, result in told)
    assert {cell[:2] for cell in told} == {(d, v) for d in range(10) for v in range(d + 1)}


def test_it_trains_as_addition_of_mirrored_digits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = load_digits(split="validation").subset(200)
    monkeypatch.setattr(runs, "load_digits", lambda *_: few)
    run = load_or_train(CONFIG, tmp_path / "subtract", device="cpu", progress=False)
    assert load(run.folder).config.operation == "subtract"
    monkeypatch.setattr(runs, "load_digits", lambda *_: few.mirrored())
    adding = replace(CONFIG, operation="add")
    other = load_or_train(adding, tmp_path / "add", device="cpu", progress=False)
    weights = other.model("cpu").state_dict()
    for name, value in run.model("cpu").state_dict().items():
        assert torch.equal(value, weights[name]), name


def test_its_measures_read_digits_as_it_does() -> None:
    """Where the judge reads a 3, the run that subtracts sees a 6, in labels and in readings."""
    plain, mirrored = (digits_of(c, "test") for c in (replace(CONFIG, operation="add"), CONFIG))
    assert torch.equal(mirrored.labels, 9 - plain.labels)
    images = as_float(plain.images[:20])
    read = judge_of(CONFIG, "cpu").read(images)
    assert torch.equal(read.flip(1), load_judge().read(images))
    assert read.argmax(1).eq(mirrored.labels[:20]).float().mean() > 0.9
