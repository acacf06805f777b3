"""Adders that count: their arithmetic, and that one step learned is all steps learned."""

import json
from pathlib import Path

import pytest
import torch

from learn2add.config import Stage
from learn2add.network import Adder
from learn2add.studies.counting import (
    BEYOND_ONE,
    HELD_OUT,
    CountingAdder,
    CountingConfig,
    MatrixAdder,
)
from learn2add.train import build_model


@pytest.fixture(params=[CountingAdder, MatrixAdder])
def adder(request: pytest.FixtureRequest) -> torch.nn.Module:
    torch.manual_seed(0)
    made = request.param(7).eval()
    if isinstance(made, MatrixAdder):  # as made it is the identity
        torch.nn.init.normal_(made.one_more.weight, std=0.3)
    return made


def at(addend: float, count: int = 5) -> torch.Tensor:
    return torch.full((count,), addend)


def test_adding_two_is_adding_one_twice_whatever_stands_beside_it_in_the_batch(
    adder: torch.nn.Module,
) -> None:
    z = torch.randn(5, 7)
    mixed = adder(z, torch.tensor([0.0, 1, 2, 2.5, 9]))
    for row, addend in enumerate((0.0, 1, 2, 2.5, 9)):
        assert torch.allclose(mixed[row], adder(z, at(addend))[row], atol=1e-5)
    if isinstance(adder, CountingAdder):
        assert torch.equal(adder(z, at(0)), z)
        assert torch.allclose(adder(adder(z, at(1)), at(1)), adder(z, at(2)), atol=1e-6)


def test_a_fraction_is_a_part_of_a_step(adder: torch.nn.Module) -> None:
    z = torch.randn(5, 7)
    if isinstance(adder, CountingAdder):
        halfway = (adder(z, at(1)) + adder(z, at(2))) / 2
        assert torch.allclose(adder(z, at(1.5)), halfway, atol=1e-6)
    assert not torch.allclose(adder(z, at(1.5)), adder(z, at(1)))


def test_the_class_that_notebook_12_shows_is_the_packages() -> None:
    file = Path(__file__).parents[2] / "notebooks" / "12_a_rule_and_your_hand.ipynb"
    cells = ["".join(cell["source"]) for cell in json.loads(file.read_text())["cells"]]
    (shown,) = (text for text in cells if text.startswith("class Counting("))
    exec(shown, names := {"nn": torch.nn})
    own, packages = names["Counting"](7), CountingAdder(7)
    own.load_state_dict(packages.state_dict())
    z, addend = torch.randn(12, 7), torch.tensor([0, 0.5, 1, 1.5, 2, 3, 4, 5, 6, 7, 8, 9])
    assert torch.allclose(own(z, addend), packages(z, addend), atol=1e-6)


def test_the_matrix_undoes_its_steps_below_zero() -> None:
    torch.manual_seed(0)
    adder = MatrixAdder(7)
    torch.nn.init.normal_(adder.one_more.weight, std=0.3)
    h = torch.randn(5, 16)
    assert torch.allclose(adder.one_less(adder.one_more(h)), h, atol=1e-3)
    z = torch.randn(5, 7)
    less = adder.lower(adder.one_less(adder.one_less(adder.lift(z))))
    assert torch.allclose(adder(z, at(-2)), less, rtol=1e-3, atol=1e-3)


def test_one_addend_for_each_code_and_codes_of_one_size_are_asked_for(
    adder: torch.nn.Module,
) -> None:
    with pytest.raises(ValueError, match=r"addend is of shape \[2\]; allowed is \[5\]"):
        adder(torch.randn(5, 7), torch.ones(2))
    with pytest.raises(ValueError, match=r"z is of shape \[5, 6\]; allowed is \[B, 7\]"):
        adder(torch.randn(5, 6), torch.ones(5))


def test_the_configuration_decides_the_adder_and_travels_as_json() -> None:
    stage = Stage("addition", 1, 1)
    for rule, kind in (("assigned", Adder), ("counting", CountingAdder), ("matrix", MatrixAdder)):
        config = CountingConfig((stage,), "addition", rule=rule, held_out=HELD_OUT)
        assert type(build_model(config).adder) is kind
        assert CountingConfig.from_json(config.to_json()) == config
    with pytest.raises(ValueError, match="model is 'generative_addition'"):
        CountingConfig((stage,), "generative_addition")


def test_ten_cells_are_held_out_and_thirty_six_are_beyond_one() -> None:
    assert len(set(HELD_OUT)) == 10 and len(BEYOND_ONE) == 36
