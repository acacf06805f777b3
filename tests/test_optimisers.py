"""Muon against torch's own, against the singular value decomposition, and through a kill."""

from pathlib import Path

import pytest
import torch
from torch import nn

from learn2add.checkpoints import CheckpointError, pack_state, unpack_optimiser
from learn2add.optimisers import MATRIX_RATE, Muon, is_matrix, orthogonalised, rounded_products


@pytest.mark.parametrize("shape", [(64, 288), (300, 40), (32, 32)])
def test_orthogonalised_keeps_singular_directions(shape: tuple[int, int]) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    u, _, v = torch.linalg.svd(matrix, full_matrices=False)
    found = u.T @ orthogonalised(matrix) @ v.T
    values = found.diagonal()
    assert values.min() > 0.65 and values.max() < 1.25
    assert (found - torch.diag(values)).abs().max() < 1e-3


@pytest.mark.parametrize("shape", [(64, 288), (300, 40), (6272, 64)])
def test_fast_products_change_little_and_leave_the_setting_as_it_was(
    shape: tuple[int, int],
) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    matrix *= torch.logspace(0, -3, shape[1])  # some directions are a thousand times weaker
    exact = orthogonalised(matrix)
    before = torch.get_float32_matmul_precision()
    found = orthogonalised(matrix, fast=True)
    assert torch.get_float32_matmul_precision() == before
    assert (found - exact).norm() < 0.01 * exact.norm()
    with pytest.raises(RuntimeError), rounded_products(True):
        raise RuntimeError
    assert torch.get_float32_matmul_precision() == before


def test_no_gradient_at_all_moves_nothing() -> None:
    assert torch.equal(orthogonalised(torch.zeros(40, 50)), torch.zeros(40, 50))


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="this torch has no Muon")
@pytest.mark.parametrize("shape", [(64, 200), (200, 64)])
@pytest.mark.parametrize("momentum", [0.95, 0.8])
def test_ten_steps_are_those_of_torch(shape: tuple[int, int], momentum: float) -> None:
    start, target = torch.randn(2, *shape, generator=torch.Generator().manual_seed(0))
    ours, theirs = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    mine = Muon([ours], 0.01, (0.9, 0.99), momentum)
    peer = torch.optim.Muon([theirs], MATRIX_RATE * 0.01, weight_decay=0.0, momentum=momentum)
    for _ in range(10):
        for weight, optimiser in ((ours, mine), (theirs, peer)):
            optimiser.zero_grad()
            (weight - target).square().sum().backward()
            optimiser.step()
    moved = (theirs - start).norm()
    # torch's iterates in bfloat16, so it is the same to two digits.
    assert (ours - theirs).norm() < 0.02 * moved


def test_a_convolution_is_the_matrix_of_its_rows_and_the_rest_is_adams() -> None:
    torch.manual_seed(0)
    convolution, bias = torch.randn(40, 8, 3, 3), torch.randn(40)
    flat = nn.Parameter(convolution.reshape(40, -1).clone())
    weight = nn.Parameter(convolution.clone(memory_format=torch.channels_last))
    ours, adams = nn.Parameter(bias.clone()), nn.Parameter(bias.clone())
    for parameters, kind in (([weight, ours], Muon), ([flat], Muon), ([adams], torch.optim.Adam)):
        optimiser = kind(parameters, 0.01, (0.9, 0.99))
        for step in range(3):
            for parameter in parameters:
                parameter.grad = torch.sin(parameter.detach() * (step + 1))
            optimiser.step()
    assert is_matrix(weight) and not is_matrix(ours)
    torch.testing.assert_close(weight.detach().reshape(40, -1), flat.detach())
    assert torch.equal(ours, adams)


def test_its_state_survives_and_adams_is_refused() -> None:
    model = nn.Linear(40, 50)
    file = Path("last.safetensors")

    def trained(optimiser: torch.optim.Optimizer, steps: int) -> torch.optim.Optimizer:
        for step in range(steps):
            for parameter in model.parameters():
                parameter.grad = torch.cos(parameter.detach() * (step + 1))
            optimiser.step()
        return optimiser

    state = pack_state(model, trained(Muon(model.parameters(), 0.01, (0.9, 0.99)), 2))
    model.load_state_dict({k[6:]: v for k, v in state.items() if k.startswith("model.")})
    before = {name: value.clone() for name, value in state.items()}
    fresh = Muon(model.parameters(), 0.01, (0.9, 0.99))
    unpack_optimiser(file, before, fresh)
    after = pack_state(model, fresh)
    assert all(torch.equal(after[name], before[name]) for name in before)
    adam = torch.optim.Adam(model.parameters(), 0.01)
    with pytest.raises(CheckpointError, match="another optimiser"):
        unpack_optimiser(file, before, adam)
