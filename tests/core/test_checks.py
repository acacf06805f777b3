"""The argument checks: what they accept, and the one way in which they say what they do not."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from learn2add.checks import check_array, check_choice, check_int, check_number


@given(st.one_of(st.integers(), st.floats(), st.booleans(), st.text(), st.none()))
def test_check_int_accepts_integers_in_range_alone(value: object) -> None:
    if type(value) is int and 1 <= value <= 128:
        assert check_int("code_size", value, 1, 128) == value
        assert type(check_int("code_size", np.int64(value), 1, 128)) is int
    else:
        wanted = "code_size is (?s:.)*; allowed is an integer from 1 to 128"
        with pytest.raises((TypeError, ValueError), match=wanted):
            check_int("code_size", value, 1, 128)


def test_check_choice_tells_true_from_one() -> None:
    check_choice("loss", "bce", ("l2", "bce"))
    check_choice("image_size", np.int64(32), (28, 32))
    for value in (True, 1.0, "1", None, [1], np.ones(2), torch.ones(1)):
        with pytest.raises(ValueError, match="which is .*; allowed is one of 1, 2"):
            check_choice("which", value, (1, 2))


@pytest.mark.parametrize("wrap", [float, np.float64, np.float32, np.array, torch.tensor])
@pytest.mark.parametrize("shape", [(), (3,)])
def test_check_number_takes_numbers_arrays_and_tensors(wrap: type, shape: tuple) -> None:
    if shape and wrap not in (np.array, torch.tensor):
        return

    def make(value: float) -> object:
        return wrap([0.5, value, 0.5]) if shape else wrap(value)

    for value in (0.0, 0.5, 1.0):
        check_number("noise", make(value), 0, 1)
    for value in (-0.1, 1.1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="noise is .*; allowed is a number from 0 to 1"):
            check_number("noise", make(value), 0, 1)
    for value in (float("nan"), float("inf"), -float("inf")):
        with pytest.raises(ValueError, match="noise is .*; allowed is a finite number$"):
            check_number("noise", make(value))


@pytest.mark.parametrize(
    ("value", "bounds", "allowed"),
    [
        (0, {"above": 0}, "a finite number above 0"),
        (1.0, {"low": 0, "below": 1}, "a number from 0 to below 1"),
        (0.0, {"above": 0, "high": 1000}, "a number above 0 to 1000"),
        (-1, {"low": 0}, "a finite number of 0 or more"),
    ],
)
def test_check_number_says_what_is_allowed(value: float, bounds: dict, allowed: str) -> None:
    assert check_number("rate", 0.5, **bounds) == 0.5
    with pytest.raises(ValueError) as caught:
        check_number("rate", value, **bounds)
    assert str(caught.value) == f"rate is {value}; allowed is {allowed}"


@pytest.mark.parametrize(
    "value", ["1", None, True, [1.0], 1j, torch.tensor([True]), torch.zeros(1).to(torch.complex64)]
)
def test_check_number_refuses_what_is_no_number(value: object) -> None:
    with pytest.raises(TypeError, match="addend is .*; allowed is a finite number"):
        check_number("addend", value)


def test_check_array_names_type_and_shape() -> None:
    check_array("x", torch.zeros(2, 1, 8, 8), "torch.float32", "B 1 S S")
    check_array("x", np.zeros((2, 8, 9), np.uint16), "numbers", "N H W")
    check_array("z", torch.zeros(2, 7, dtype=torch.bfloat16), "numbers", "B 7")
    for value, kind in (
        (torch.zeros(2, 1, 8, 9), ValueError),
        (torch.zeros(2, 3, 8, 8), ValueError),
        (torch.zeros(2, 8, 8), ValueError),
        (torch.zeros(2, 1, 8, 8, 1), ValueError),
        (torch.zeros(2, 1, 8, 8).double(), TypeError),
        (np.zeros((2, 1, 8, 8), np.float32), TypeError),
        ([0.0], TypeError),
        (None, TypeError),
    ):
        with pytest.raises(kind, match=r"^x is .*; allowed is torch.float32 \[B, 1, S, S\]$"):
            check_array("x", value, "torch.float32", "B 1 S S")


def test_long_values_are_cut() -> None:
    with pytest.raises(ValueError) as caught:
        check_choice("name", "a" * 1000, ("b",))
    assert len(str(caught.value)) < 110


def test_checks_need_neither_torch_nor_numpy() -> None:
    script = "import sys, learn2add.checks; print(sys.modules.keys() & {'torch', 'numpy'})"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout == "set()\n", done.stderr
