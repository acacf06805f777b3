"""How notebooks are tested (nbval); the tests proper have their own settings in tests/."""

import os
from pathlib import Path

import pytest

NOT_COMPARED = ("stderr", "application/vnd.google.colaboratory.intrinsic+json")
OUTPUT_SECONDS = 60
"""nbval's own limit of 5 s for an output to arrive is too short for a busy machine."""


def pytest_configure(config: pytest.Config) -> None:
    """Make folders in the environment absolute: kernels run in the notebooks' folder."""
    if config.getoption("nbval", False) or config.getoption("nbval_lax", False):
        os.environ.pop("MPLBACKEND", None)  # would keep figures out of the notebooks
    for name in ("LEARN2ADD_DATA", "LEARN2ADD_CACHE", "LEARN2ADD_RUNS"):
        if folder := os.environ.get(name):
            os.environ[name] = str(Path(folder).resolve())


def pytest_collectstart(collector: pytest.Collector) -> None:
    """Leave warnings, and what Colab adds, out of the comparison of outputs."""
    if hasattr(collector, "skip_compare"):
        collector.skip_compare += NOT_COMPARED


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give cells more time to hand over their outputs."""
    for item in items:
        if hasattr(item, "output_timeout"):
            item.output_timeout = OUTPUT_SECONDS
