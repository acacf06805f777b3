"""Fixtures shared by all tests."""

import os
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from learn2add.data import Digits, load_digits

LONGEST = ("kept_runs", "benchmark", "train", "experiments", "train_judge", "solutions")
LONGEST += ("benchmark_peers", "reference", "runs")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take longest, so that processes that share them end together."""
    items.sort(key=lambda item: item.path.stem.removeprefix("test_") not in LONGEST)


@pytest.fixture(scope="session")
def mnist_train() -> Digits:
    """The 50,000 training digits, 28x28."""
    return load_digits("MNIST", "train")


@pytest.fixture(scope="session")
def mnist_test() -> Digits:
    """The 10,000 test digits, 28x28."""
    return load_digits("MNIST", "test")


@pytest.fixture(scope="session")
def training_digits() -> tuple[Digits, Digits]:
    """200 training and 130 validation digits, for trainings that take a moment."""
    return load_digits(split="train").subset(200), load_digits(split="validation").subset(130)


@pytest.fixture
def in_a_process(tmp_path_factory: pytest.TempPathFactory) -> Callable:
    """Call a function in a process of its own: its exit status (-9: killed), and what it printed.

    The process is a fork of this one, which has imported torch already; that takes seconds.
    """

    def call(function: Callable[[], None]) -> tuple[int, str]:
        said = Path(tmp_path_factory.mktemp("process")) / "said"
        child = os.fork()
        if child == 0:
            with open(said, "wb", buffering=0) as file:
                os.dup2(file.fileno(), 1)
                os.dup2(file.fileno(), 2)
                sys.stdout = sys.stderr = open(1, "w", buffering=1, closefd=False)
                try:
                    function()
                except BaseException:
                    traceback.print_exc()
                    os._exit(1)
                os._exit(0)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        return status, said.read_text()

    return call


@pytest.fixture(autouse=True)
def no_figure_is_left() -> Iterator[None]:
    """Close the figures that a test drew, so that the next one can count its own."""
    yield
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")
