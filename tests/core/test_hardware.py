"""What other machines have, and have not."""

from dataclasses import replace

import pytest
import torch

from learn2add import hardware, recipes
from learn2add.hardware import bfloat16_pays, default_precision, multiplies_bfloat16
from learn2add.runs import kept, load_or_train


@pytest.fixture(autouse=True)
def tried_anew():
    bfloat16_pays.cache_clear()
    yield
    bfloat16_pays.cache_clear()


class Stopwatch:
    """What is timed first is float32; each later reading of the clock is later."""

    def __init__(self, fast):
        self.at, self.readings, self.fast = 0.0, 0, fast

    def __call__(self):
        self.readings += 1
        second_half = self.readings > 14  # seven pairs of readings for each precision
        self.at += 1.0 if second_half == self.fast else 5.0
        return self.at


class Without:
    """A namespace of operations that this build of torch does not have."""

    def __getattr__(self, name):
        raise AttributeError(f"'_OpNamespace' object has no attribute {name!r}")


@pytest.fixture
def mac(monkeypatch):
    """macOS on arm64: oneDNN's operations and the questions about x86 are missing."""
    monkeypatch.setattr(torch.ops, "mkldnn", Without(), raising=False)
    for name in [name for name in vars(torch.cpu) if name.startswith("_is_")]:
        monkeypatch.delattr(torch.cpu, name)


def test_training_works_where_torch_was_built_without_onednn(mac, tmp_path):
    assert default_precision() == "float32"
    config = recipes.part2(budget="smoke")
    assert config.precision == "float32"
    run = load_or_train(config, tmp_path / "run", progress=False)
    assert len(run.history) == 2


def test_bfloat16_is_chosen_by_what_the_processor_multiplies(monkeypatch):
    for able in (True, False):
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda a=able: a, raising=False)
        monkeypatch.setattr(hardware.time, "perf_counter", Stopwatch(fast=True))
        bfloat16_pays.cache_clear()
        assert multiplies_bfloat16() is able
        # "reference" is the budget of the kept runs; it must not force what is emulated either.
        for budget in recipes.BUDGETS:
            precision = recipes.part2(budget=budget).precision
            assert precision == ("bfloat16" if able else "float32")
    assert not multiplies_bfloat16("mps")


def test_bfloat16_is_left_where_it_is_slower(monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True, raising=False)
    monkeypatch.setattr(hardware.time, "perf_counter", Stopwatch(fast=False))
    assert default_precision() == "float32"


def test_bfloat16_is_left_where_it_is_wrong(monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True, raising=False)
    monkeypatch.setattr(hardware.time, "perf_counter", Stopwatch(fast=True))
    linear = torch.nn.functional.linear
    monkeypatch.setattr(
        torch.nn.functional,
        "linear",
        lambda x, *rest: linear(x, *rest) * (1.02 if torch.is_autocast_enabled("cpu") else 1),
    )
    assert default_precision() == "float32"


def test_what_asks_for_bfloat16_is_trained_in_float32_where_that_is_emulated(
    monkeypatch, tmp_path, capsys
):
    config = replace(recipes.part2(budget="smoke"), precision="float32")
    exact = load_or_train(config, tmp_path / "exact", progress=False)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False, raising=False)
    bfloat16_pays.cache_clear()
    found = load_or_train(replace(config, precision="bfloat16"), tmp_path / "asked")
    assert "this machine only emulates bfloat16: training in float32" in capsys.readouterr().err
    weights = [(run.folder / "weights.safetensors").read_bytes() for run in (exact, found)]
    assert weights[0] == weights[1]


def test_a_kept_run_is_found_whatever_precision_the_machine_has(monkeypatch):
    for able in (True, False):
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda a=able: a, raising=False)
        config = recipes.part2(budget="reference")
        assert kept(config, "part2/conv_transpose-l2-code2") is not None
