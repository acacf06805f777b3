"""Encoders as classifiers, on real digits."""

import copy
import dataclasses

import pytest
import torch

from learn2add import runs
from learn2add.data import Digits, as_float, in_batches
from learn2add.network import Encoder
from learn2add.studies.features import (
    Classifier,
    Tuning,
    accuracy,
    features,
    frozen,
    learn_labels,
    tune,
)


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    """One that has learned to add: its codes tell digits apart."""
    return runs.load("part3/quick").model("cpu").encoder


def untrained(code_size: int = 10, seed: int = 0) -> Encoder:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Encoder(code_size, activation="relu")


def test_features_are_what_the_last_layers_are_given(mnist_test: Digits) -> None:
    part, made = mnist_test.subset(30), untrained()
    with torch.no_grad():
        z, hidden = (features(made, part.images, layers) for layers in (1, 2))
        torch.testing.assert_close(z, made(as_float(part.images)))
        torch.testing.assert_close(made.code(hidden), z)
    with pytest.raises(ValueError, match="layers"):
        features(made, part.images, 3)


def test_a_linear_layer_reads_codes_that_tell_digits_apart(
    encoder: Encoder, mnist_train: Digits, mnist_test: Digits
) -> None:
    before = copy.deepcopy(encoder.state_dict())
    known, unknown = mnist_train.subset(500), mnist_test.subset(1000)
    made = frozen(encoder, features(encoder, known.images), known.labels)
    found = accuracy(made, unknown)
    assert found.low < found.value < found.high and found.value > 0.95
    z = torch.stack([made.head(code) for code in features(encoder, unknown.images)])
    assert found.value == float((z.argmax(1) == unknown.labels).double().mean())
    after = made.encoder.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert all(torch.equal(before[name], encoder.state_dict()[name]) for name in before)


def test_two_linear_layers_are_logistic_regression_on_the_layer_before(
    mnist_train: Digits, mnist_test: Digits
) -> None:
    linear_model = pytest.importorskip("sklearn.linear_model")
    preprocessing = pytest.importorskip("sklearn.preprocessing")
    known, unknown, made = mnist_train.subset(300), mnist_test.subset(500), untrained(12)
    z = features(made, known.images, 2)
    classifier = frozen(made, z, known.labels, 2)
    assert all(
        torch.equal(a, b)
        for a, b in zip(
            classifier.encoder.features.parameters(), made.features.parameters(), strict=True
        )
    )
    scaler = preprocessing.StandardScaler().fit(z)
    wanted = linear_model.LogisticRegression(max_iter=1000)
    wanted.fit(scaler.transform(z), known.labels)
    wanted = wanted.predict(scaler.transform(features(made, unknown.images, 2)))
    found = classifier(as_float(unknown.images)).argmax(1)
    # scikit-learn divides by N for the deviation, torch by N - 1
    assert (found.numpy() == wanted).mean() > 0.99


def test_labels_alone_change_the_first_weights_and_only_in_the_copy(mnist_train: Digits) -> None:
    start, few = Classifier(untrained()), mnist_train.subset(100, seed=3)
    before = copy.deepcopy(start.state_dict())
    tuned = tune(start, few, Tuning(steps=30, batch_size=50, deform=0.5), progress=False)
    assert all(torch.equal(before[name], start.state_dict()[name]) for name in before)
    assert accuracy(tuned, few).value > accuracy(start, few).value + 0.3
    brief = Tuning(steps=2, batch_size=10)
    tuned, again, other = (tune(start, few, brief, seed=s, progress=False) for s in (0, 0, 1))
    same, differ = (
        [torch.equal(a, b) for a, b in zip(tuned.parameters(), m.parameters(), strict=True)]
        for m in (again, other)
    )
    assert all(same) and not any(differ)
    assert not tuned.training and not any(p.requires_grad for p in tuned.parameters())


def test_the_seed_decides_the_linear_layer() -> None:
    first, again, other = (Classifier(untrained(), seed).head.weight for seed in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_steps_of_learning_are_torchs() -> None:
    x, labels = torch.rand(8, 4), torch.arange(8) % 3
    nets = [torch.nn.Linear(4, 3) for _ in range(2)]
    nets[1].load_state_dict(nets[0].state_dict())
    optimisers = [torch.optim.SGD(net.parameters(), 0.5) for net in nets]
    halving = torch.optim.lr_scheduler.ExponentialLR(optimisers[0], 0.5)
    learn_labels(nets[0], [(x, labels)] * 3, optimisers[0], halving)
    for rate in (0.5, 0.25, 0.125):
        torch.nn.functional.cross_entropy(nets[1](x), labels).backward()
        with torch.no_grad():
            for p in nets[1].parameters():
                p -= rate * p.grad
                p.grad = None
    torch.testing.assert_close(nets[0].weight, nets[1].weight, atol=2e-2, rtol=0)


def test_bad_input_is_refused(mnist_train: Digits) -> None:
    few, made = mnist_train.subset(20), untrained(7)
    z = features(made, few.images)
    with pytest.raises(ValueError, match="layers is 2, code_size 7"):
        frozen(made, features(made, few.images, 2), few.labels, 2)
    with pytest.raises(ValueError, match=r"z is of shape \[20, 256\]; allowed is \[20, 7\]"):
        frozen(made, features(made, few.images, 2), few.labels)
    with pytest.raises(ValueError, match=r"labels is without \[9\]"):
        frozen(made, z[few.labels != 9], few.labels[few.labels != 9])
    with pytest.raises(ValueError, match="z is .* allowed is a finite number"):
        frozen(made, z.log(), few.labels)


@pytest.mark.parametrize(
    ("field", "value"),
    [("steps", 0), ("batch_size", 0), ("shift", 9), ("learning_rate", -1.0), ("deform", -0.1)],
)
def test_bad_tuning_is_refused(field: str, value: float) -> None:
    with pytest.raises(ValueError, match=field):
        dataclasses.replace(Tuning(), **{field: value})


def test_codes_are_the_features_of_one_layer(encoder: Encoder, mnist_test: Digits) -> None:
    part = mnist_test.subset(10)
    torch.testing.assert_close(features(encoder, part.images), in_batches(encoder, part.images))
