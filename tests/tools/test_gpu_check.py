"""The script for a GPU does on a CPU what can be done there."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tools import gpu_check
from tools.benchmark.networks import benchmark_config


def test_compiled_steps_are_timed_beside_eager_ones() -> None:
    config = replace(benchmark_config("addition", 20), train_size=500)
    for mode in gpu_check.MODES.values():
        found = gpu_check.steps_of(config, mode, 3)
        assert found["first"] > 0 < found["median"]


def test_the_cpu_agrees_with_itself() -> None:
    assert set(gpu_check.agreement(20)) == set(gpu_check.KEPT)
    assert max(gpu_check.agreement(20).values()) < 1e-4  # 0, where there is no GPU


@pytest.mark.slow
def test_everything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_check, "NETWORKS", ())  # the comparison has tests of its own
    file = tmp_path / "gpu.json"
    assert gpu_check.main(["--smoke", "-o", str(file)]) == 0
    found = json.loads(file.read_text())
    assert found["same twice"] is True
    assert found["loops"] == {} and set(found["seconds a step"]) == set(gpu_check.MODES)
    assert all(seconds > 0 for seconds in found["seconds of 100 epochs"].values())
    assert found["matmul GFLOP/s"]["float32"] > 1
