"""Recorded steps, as far as a CPU can tell: a recorder that only replays stands in for CUDA's.

What CUDA itself does is tested where there is a GPU.
"""

import pytest
import torch

from learn2add import captured, training
from learn2add.captured import Captured
from learn2add.configs import RunConfig, Stage
from learn2add.data import load_digits

CPU = torch.device("cpu")
SMALL = {"code_size": 2, "channels": (4, 8, 16), "units": 16, "train_size": 200}
CONFIGS = {
    "autoencoder": RunConfig((Stage("autoencoder", 2, None, 45, 1e-3, "one_cycle"),), **SMALL),
    "addition": RunConfig((Stage("addition", 2, 6, 64),), "addition", **SMALL),
    "in a batch": RunConfig(
        (Stage("addition", 2, 6, 60, balance="mixed", partners="batch"),),
        "generative_addition",
        match=1.0,
        kld_encoder=0.1,
        **SMALL,
    ),
}


class Recorder:
    """Records as CUDA does: what is recorded runs when replayed, on the inputs it was made with."""

    def __init__(self):
        self.replays = 0

    def __call__(self, step):
        def replay():
            self.replays += 1
            return step()

        return replay


def losses(config, folder, device="cpu"):
    digits = load_digits("MNIST", "train").subset(200)
    state = training.train(config, digits, digits, folder, device=device, progress=False)
    return [row[f"loss/{split}"] for row in state.history for split in ("train", "validation")]


@pytest.mark.parametrize("name", CONFIGS)
def test_recorded_steps_train_as_others_do(name, tmp_path, monkeypatch):
    """Rates change from step to step and the last batch of 200 digits is shorter; both count."""
    plain = losses(CONFIGS[name], tmp_path / "plain")
    recorders = []

    def recording(update):
        recorders.append(Recorder())
        return Captured(update, recorders[-1], lambda step: step())

    monkeypatch.setattr(training.captured, "wanted", lambda *_: True)
    monkeypatch.setattr(training.captured, "Captured", recording)
    adam = torch.optim.Adam  # on a CPU it has no capturable steps
    monkeypatch.setattr(
        torch.optim, "Adam", lambda *args, capturable, **options: adam(*args, **options)
    )
    # The rate is float32 on the device, float64 elsewhere.
    assert losses(CONFIGS[name], tmp_path / "recorded") == pytest.approx(plain, rel=1e-5)
    # Of 5 batches (45, 45, 45, 45, 20), three are seen first and the last is too short.
    assert [r.replays for r in recorders] == ([1, 1] if name == "autoencoder" else [3, 3])


def test_what_a_step_gives_is_not_overwritten_by_the_next():
    place = torch.zeros(())

    def step(batch):
        place.copy_(batch[0].sum())
        return place, {"sum": place}

    update = Captured(step, Recorder(), lambda step: step())
    found = [update((torch.full((2,), float(n)),)) for n in range(6)]
    assert [float(loss) for loss, _ in found[3:]] == [6, 8, 10]
    assert [float(squares["sum"]) for _, squares in found[3:]] == [6, 8, 10]


def test_a_rate_on_the_device_stays_where_it_is():
    weight = torch.nn.Parameter(torch.zeros(2))
    rate = torch.tensor(0.1)
    optimiser = torch.optim.Adam([weight], rate, fused=True)
    captured.set_rate(optimiser, 0.25)
    assert optimiser.param_groups[0]["lr"] is rate and float(rate) == 0.25
    optimiser = torch.optim.Adam([weight], 0.1, fused=True)
    captured.set_rate(optimiser, 0.25)
    assert optimiser.param_groups[0]["lr"] == 0.25


def test_only_what_can_be_recorded_is(monkeypatch):
    cuda, stage = torch.device("cuda"), Stage("autoencoder", 1)
    assert not captured.wanted(cuda, stage)
    monkeypatch.setenv("LEARN2ADD_CUDA_GRAPHS", "1")
    assert captured.wanted(cuda, stage) and not captured.wanted(CPU, stage)
    assert not captured.wanted(cuda, Stage("autoencoder", 1, optimiser="muon"))
    assert not captured.wanted(cuda, Stage("auto_decoder", 1))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("name", CONFIGS)
def test_cuda_graphs_train_as_other_steps_do(name, tmp_path, monkeypatch):
    plain = losses(CONFIGS[name], tmp_path / "plain", "cuda")
    monkeypatch.setenv("LEARN2ADD_CUDA_GRAPHS", "1")
    recorded = losses(CONFIGS[name], tmp_path / "recorded", "cuda")
    assert recorded == pytest.approx(plain, rel=1e-3)
