"""Muon, the one-cycle rate and restarts, against torch's own and against training each alone."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from tqdm import tqdm

from learn2add.checkpoints import CheckpointError, pack_state, unpack_optimiser
from learn2add.config import RunConfig, Stage
from learn2add.data import Digits
from learn2add.network import Adder, GaussianAdder
from learn2add.optim import (
    MATRIX_RATE,
    Muon,
    Restarts,
    is_matrix,
    learning_rate_at,
    one_cycle,
    orthogonalised,
    rounded_products,
)
from learn2add.steps import AdderStep, adder_loss
from learn2add.train import Progress, build_model, run_epoch

# Muon


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


# The learning rate


def test_one_cycle_is_that_of_torch() -> None:
    optimiser = torch.optim.SGD([nn.Parameter(torch.zeros(1))])
    reference = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, max_lr=1, total_steps=100, pct_start=0.3, div_factor=25, final_div_factor=1e9
    )
    expected = []
    for _ in range(100):
        expected.append(reference.get_last_lr()[0])
        optimiser.step()
        if len(expected) < 100:
            reference.step()
    rates = [one_cycle(step, 100) for step in range(100)]
    # torch puts the peak one step earlier and reaches 0 in the last step, this in the step after.
    assert np.abs(np.array(rates) - expected).max() < 0.06
    assert max(rates) == pytest.approx(1) and np.argmax(rates) == 30


@given(
    st.floats(1e-6, 1), st.integers(1, 5000), st.sampled_from(["constant", "one_cycle"]), st.data()
)
@settings(max_examples=100, deadline=None)
def test_rates_stay_above_zero_and_under_the_peak(
    peak: float, steps: int, schedule: str, data: st.DataObject
) -> None:
    step, pct_start = data.draw(st.integers(0, steps - 1)), data.draw(st.floats(0, 0.99))
    stage = Stage("autoencoder", 1, learning_rate=peak, schedule=schedule, pct_start=pct_start)
    rate = learning_rate_at(stage, step, steps)
    assert 0 < rate <= peak * (1 + 1e-9)
    assert schedule != "constant" or rate == peak


# Several adders at once learn what each would learn alone, and the best of them stays


def batch(count: int = 40, seed: int = 0) -> tuple[Tensor, ...]:
    """Codes, addends, codes of targets."""
    generator = torch.Generator().manual_seed(seed)
    z, z_target = torch.randn(2, count, 7, generator=generator)
    return z, torch.randint(0, 10, (count,), generator=generator).float(), z_target


def taken_out(several: Restarts, which: int) -> nn.Module:
    """One of them as a part of its own."""
    several.keep(which)
    return copy.deepcopy(several.part)


@pytest.mark.parametrize("kind", [Adder, GaussianAdder])
@pytest.mark.parametrize("embed", [False, True])
def test_each_has_its_own_loss(kind: type, embed: bool) -> None:
    first = kind(7, embed_addend=embed)
    several = Restarts(first, 4, adder_loss, seed=0)
    own = copy.deepcopy(first)
    losses = several.losses(*batch())
    assert losses.shape == (4,) and len(set(losses.tolist())) == 4
    alone = [adder_loss(taken_out(several, i), *batch()) for i in range(4)]
    torch.testing.assert_close(losses, torch.stack(alone))
    torch.testing.assert_close(losses[0], adder_loss(own, *batch()))  # the part as it was


def test_training_together_is_training_alone() -> None:
    several = Restarts(Adder(7), 3, adder_loss, seed=0)
    alone = [taken_out(several, i) for i in range(3)]
    optimiser = torch.optim.Adam(several.parameters(), 1e-2)
    optimisers = [torch.optim.Adam(part.parameters(), 1e-2) for part in alone]
    for step in range(20):
        loss = several.loss(*batch(seed=step))
        each = [adder_loss(part, *batch(seed=step)) for part in alone]
        assert loss.item() == pytest.approx(min(e.item() for e in each), rel=1e-5)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        for own, part_loss in zip(optimisers, each, strict=True):
            own.zero_grad()
            part_loss.backward()
            own.step()
    for i, part in enumerate(alone):
        for a, b in zip(taken_out(several, i).parameters(), part.parameters(), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5)


def test_new_weights_are_decided_by_the_seed_alone() -> None:
    first = Adder(7)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    made = [Restarts(first, 3, adder_loss, seed=seed) for seed in (0, 0, 1)]
    assert torch.equal(before, torch.get_rng_state())
    weights = [next(several.parameters()) for several in made]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0][1], weights[2][1])


def test_the_stage_keeps_the_best_on_validation(training_digits: tuple[Digits, Digits]) -> None:
    stage = Stage("adder", 1, 30, 64, 1e-2, balance="cells", restarts=5)
    config = RunConfig((stage,), "addition")
    model = build_model(config)
    step = AdderStep(model, config, stage, *training_digits)
    with tqdm(total=1, disable=True) as bar:
        row = run_epoch(config, Progress(), step, step.optimiser(), bar)
    codes, at = step.validation_codes, step.fixed
    pairs = codes[at.input], at.addend, codes[at.target]
    with torch.no_grad():
        losses = step.restarts.losses(*pairs)
        kept = adder_loss(model.adder, *pairs)
    assert losses.min() < losses.max()
    torch.testing.assert_close(kept, losses.min())
    assert row["loss/validation"] == pytest.approx(kept.item(), rel=1e-4)
