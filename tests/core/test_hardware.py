"""What other machines have, and have not."""

import pytest
import torch

from learn2add import recipes
from learn2add.hardware import default_precision, multiplies_bfloat16
from learn2add.runs import kept, load_or_train


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
        assert multiplies_bfloat16() is able
        # "reference" is the budget of the kept runs; it must not force what is emulated either.
        for budget in recipes.BUDGETS:
            precision = recipes.part2(budget=budget).precision
            assert precision == ("bfloat16" if able else "float32")
    assert not multiplies_bfloat16("mps")


def test_a_kept_run_is_found_whatever_precision_the_machine_has(monkeypatch):
    for able in (True, False):
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda a=able: a, raising=False)
        config = recipes.part2(budget="reference")
        assert kept(config, "part2/conv_transpose-l2-code2") is not None
