"""Several seeds: what is kept of them, and the test of a difference."""

import json
from itertools import combinations

import numpy as np
import pytest

from learn2add.seeds import chance, kept_seeds


def test_seeds_come_back_in_their_order(tmp_path):
    for seed in (10, 2, 0):
        row = {"rmse": seed / 100, "cells_mean": 1.0}
        (tmp_path / f"conv_transpose-{seed}.json").write_text(json.dumps(row))
    (tmp_path / "adder-0.json").write_text('{"cells_mean": 0.5}')
    found = kept_seeds(tmp_path)
    assert list(found) == ["adder", "conv_transpose"]
    assert found["conv_transpose"]["rmse"].tolist() == [0.0, 0.02, 0.1]
    assert found["adder"]["cells_mean"].tolist() == [0.5]


def test_the_project_comes_with_seeds():
    found = kept_seeds()
    assert {"conv_transpose", "conv_upsample", "addition", "adder"} <= set(found)
    assert all((values["cells_mean"] > 0.9).all() for n, values in found.items() if "add" in n)


def test_chance_is_the_share_of_splits_that_differ_as_much():
    a, b = [1.0, 2.5, 3.0, 9.0], [4.0, 5.0, 7.5]
    both = np.array(a + b)
    seen = abs(np.mean(a) - np.mean(b))
    differences = [
        abs(both[list(some)].mean() - np.delete(both, some).mean())
        for some in combinations(range(len(both)), len(a))
    ]
    assert chance(a, b) == pytest.approx(np.mean(np.array(differences) >= seen - 1e-12))


def test_chance_of_nothing_in_common_and_of_no_difference():
    assert chance(range(5), range(5, 10)) == pytest.approx(2 / 252)
    assert chance([1.0, 2.0], [1.0, 2.0]) == 1


@pytest.mark.parametrize("bad", [[1.0], [1.0, np.nan], [[1.0, 2.0]], 3.0])
def test_chance_refuses(bad):
    with pytest.raises(ValueError, match="b must be two or more finite numbers"):
        chance([1.0, 2.0], bad)
