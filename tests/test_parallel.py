"""One training by two processes: the same losses as by one."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from learn2add.checkpoints import load_tensors
from learn2add.parallel import World, average_gradients, joined, together, total, world

SMOKE = ["--budget", "smoke", "--precision", "float32"]
RUNS = {
    "part2": ["part2", "--decoder", "conv_upsample", *SMOKE],
    "part3": ["part3", *SMOKE],
    "part4": ["part4", "--model", "generative_addition", *SMOKE],
    "drawn": ["part3", *SMOKE, "--partners", "drawn", "--contrast", "0", "--batch-size", "31"],
}


def train(folder: Path, words: list[str], processes: int) -> subprocess.CompletedProcess[str]:
    alone = [sys.executable, "-m", "learn2add"]
    several = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    several += ["--nproc-per-node", str(processes), "-m", "learn2add"]
    command = [*(alone if processes == 1 else several), "train", *words, "--folder", str(folder)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=600)


def losses(folder: Path) -> list[dict[str, float]]:
    with open(folder / "metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    return [
        {
            key: float(value)
            for key, value in row.items()
            if value and key.startswith(("loss", "rm"))
        }
        for row in rows
    ]


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_two_processes_have_the_losses_of_one(name: str, tmp_path: Path) -> None:
    for processes in (1, 2):
        done = train(tmp_path / str(processes), RUNS[name], processes)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("best epoch") == 1  # the first process alone speaks
    one, two = losses(tmp_path / "1"), losses(tmp_path / "2")
    assert len(one) == len(two) > 1
    for alone, shared in zip(one, two, strict=True):
        assert alone == pytest.approx(shared, rel=2e-4)
    assert json.loads((tmp_path / "2" / "result.json").read_text())["processes"] == 2
    # Rounding apart, also the weights: more than a few steps would drift.
    mine, theirs = (load_tensors(tmp_path / n / "weights.safetensors")[0] for n in ("1", "2"))
    apart = [float((mine[key] - theirs[key]).abs().max()) for key in mine]
    assert 0 < max(apart) < 1e-2


@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("status", [0, 2])
def test_one_of_several_processes_ends_at_once(processes: int, status: int) -> None:
    """Nothing of the interpreter's own end, which Gloo's threads may disturb, is gone through."""
    program = (
        "import atexit; from learn2add.__main__ import leave; "
        f"atexit.register(print, 'taken apart'); print('done'); leave({status})"
    )
    environment = os.environ | {"WORLD_SIZE": str(processes)}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=environment
    )
    assert done.returncode == status
    assert done.stdout.split("\n")[:-1] == ["done", "taken apart"][: 3 - processes]


def test_alone_nothing_happens() -> None:
    assert world() == World(0, 1)
    with joined() as processes:
        assert processes.first
    weight = torch.nn.Parameter(torch.ones(2))
    (3 * weight).sum().backward()
    average_gradients([weight])
    assert weight.grad.tolist() == [3, 3]
    assert together(weight, 2) is weight and total(weight) is weight


@pytest.mark.parametrize("size", [1, 2, 3, 7])
@pytest.mark.parametrize("count", [1, 2, 7, 31, 128])
def test_rows_of_all_processes_are_the_batch(size: int, count: int) -> None:
    parts = [World(rank, size).rows(count) for rank in range(size)]
    places = [place for part in parts for place in range(count)[part]]
    values = torch.arange(count).double()
    means = [World(r, size).share(count) * float(values[parts[r]].mean()) for r in range(size)]
    assert sum(means) / size == pytest.approx(float(values.mean()))
    if count >= size:
        assert places == list(range(count))
