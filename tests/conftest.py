"""Fixtures shared by all tests."""

import pytest

from learn2add.data import Digits, load_digits


@pytest.fixture(scope="session")
def mnist_train() -> Digits:
    """The 50,000 training digits, 28x28."""
    return load_digits("MNIST", "train")


@pytest.fixture(scope="session")
def mnist_test() -> Digits:
    """The 10,000 test digits, 28x28."""
    return load_digits("MNIST", "test")
