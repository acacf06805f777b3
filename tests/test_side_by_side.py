"""Several adders at once learn what each would learn alone, and the best of them stays."""

import copy

import pytest
import torch
from torch import nn
from tqdm import tqdm

from learn2add import Adder, load_digits
from learn2add.adders import GaussianAdder
from learn2add.configs import RunConfig, Stage
from learn2add.side_by_side import SideBySide
from learn2add.tasks import AdderTask, adder_loss
from learn2add.training import Progress, build_model, run_epoch


def batch(count: int = 40, seed: int = 0) -> tuple[torch.Tensor, ...]:
    """Codes, addends, codes of partners."""
    generator = torch.Generator().manual_seed(seed)
    z, z_target = torch.randn(2, count, 7, generator=generator)
    return z, torch.randint(0, 10, (count,), generator=generator).float(), z_target


def taken_out(several: SideBySide, which: int) -> nn.Module:
    """One of them as a part of its own."""
    several.keep(which)
    return copy.deepcopy(several.part)


@pytest.mark.parametrize("kind", [Adder, GaussianAdder])
@pytest.mark.parametrize("embed", [False, True])
def test_each_has_its_own_loss(kind: type, embed: bool) -> None:
    first = kind(7, embed_addend=embed)
    several = SideBySide(first, 4, adder_loss, seed=0)
    own = copy.deepcopy(first)
    losses = several.losses(*batch())
    assert losses.shape == (4,) and len(set(losses.tolist())) == 4
    alone = [adder_loss(taken_out(several, i), *batch()) for i in range(4)]
    torch.testing.assert_close(losses, torch.stack(alone))
    torch.testing.assert_close(losses[0], adder_loss(own, *batch()))  # the part as it was


def test_training_together_is_training_alone() -> None:
    several = SideBySide(Adder(7), 3, adder_loss, seed=0)
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
    made = [SideBySide(first, 3, adder_loss, seed=seed) for seed in (0, 0, 1)]
    assert torch.equal(before, torch.get_rng_state())
    weights = [next(several.parameters()) for several in made]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0][1], weights[2][1])


def test_the_stage_keeps_the_best_on_validation() -> None:
    stage = Stage("adder", 1, 30, 64, 1e-2, balance="cells", starts=5)
    config = RunConfig((stage,), "addition")
    train, validation = (load_digits("MNIST", s).subset(300) for s in ("train", "validation"))
    model = build_model(config)
    task = AdderTask(model, config, stage, train, validation)
    with tqdm(total=1, disable=True) as bar:
        row = run_epoch(config, Progress(), task, task.optimiser(), bar)
    codes, at = task.validation_codes, task.fixed
    pairs = codes[at.input], at.addend, codes[at.target]
    with torch.no_grad():
        losses = task.several.losses(*pairs)
        kept = adder_loss(model.adder, *pairs)
    assert losses.min() < losses.max()
    torch.testing.assert_close(kept, losses.min())
    assert row["loss/validation"] == pytest.approx(kept.item(), rel=1e-4)


@pytest.mark.parametrize(
    "wrong", [{"starts": 0}, {"starts": 2, "epochs": 2}, {"starts": 2, "task": "autoencoder"}]
)
def test_starts_are_checked(wrong: dict) -> None:
    with pytest.raises(ValueError, match="starts"):
        Stage(**{"task": "adder", "epochs": 1} | wrong)
