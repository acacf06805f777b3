"""Other libraries in the benchmark: the same network, their own environments, who is missing."""

import io
import json
import subprocess
import sys
import tomllib
import zipfile
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from learn2add.config import RunConfig
from tools.benchmark import peers
from tools.benchmark.compare import compare
from tools.benchmark.contenders import CONTENDERS, USUAL
from tools.benchmark.networks import benchmark_config, untrained
from tools.benchmark.peers import PEERS, Peer, PeerFailed, Worker, check_same, environment
from tools.benchmark.serving import serve
from tools.benchmark.usual_loop import UsualLoop

ROOT = Path(__file__).parents[2]
CONFIG = benchmark_config("conv_transpose", 8)


def served(lines: str) -> list[dict]:
    answers = io.StringIO()
    try:
        serve(UsualLoop, io.StringIO(lines), answers)
    except SystemExit:
        pass
    return [json.loads(line) for line in answers.getvalue().splitlines()]


def line_of(config: RunConfig) -> str:
    return json.dumps(json.loads(config.to_json())) + "\n"


def test_turns_are_taken_in_one_training() -> None:
    built, first, memory, second = served(line_of(CONFIG) + "train 2\nmemory\ntrain 3\n")
    check_same(CONFIG, built)
    assert built["library"] == USUAL
    assert (first["images"], second["images"]) == (16, 24)
    assert first["seconds"] > 0 < second["seconds"]
    assert memory["bytes"] > 50e6


@pytest.mark.parametrize("line", ["jump 3\n", "train\n", "train few\n"])
def test_a_line_that_is_not_understood_is_answered(line: str) -> None:
    _, failed = served(line_of(CONFIG) + line)
    assert failed["failed"].startswith("ValueError: ")
    assert set(failed) == {"failed"}


def test_another_configuration_is_answered_too() -> None:
    (failed,) = served(line_of(CONFIG).replace('"code_size": 7', '"code_size": 0'))
    assert "code_size" in failed["failed"]


def test_another_network_is_refused() -> None:
    count, image = untrained(CONFIG)
    answer = {"parameters": count, "image": image}
    check_same(CONFIG, answer)
    with pytest.raises(PeerFailed, match=f"{count + 1:,} parameters, ours {count:,}"):
        check_same(CONFIG, answer | {"parameters": count + 1})
    shifted = torch.tensor(image).view(28, 28).roll(1, 0).flatten().tolist()
    for other in (shifted, image[:-1], []):
        with pytest.raises(PeerFailed, match="another picture"):
            check_same(CONFIG, answer | {"image": other})


def test_extras_are_what_the_benchmark_installs() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    for name, peer in PEERS.items():
        assert extras[name] == list(peer.requirements)


def test_the_reason_is_the_last_error() -> None:
    said = "WARNING: slow\nERROR: no matching distribution for x\n\nnotice: a new pip\n"
    assert peers.reason(said) == "ERROR: no matching distribution for x"
    assert peers.reason("one\ntwo\n") == "two"
    assert peers.reason("") == ""


def test_a_library_that_cannot_be_imported_is_told() -> None:
    absent = [name for name in PEERS if find_spec(name) is None]
    if not absent:
        pytest.skip("all peers are installed here")
    with pytest.raises(PeerFailed, match=f"ModuleNotFoundError: .*{absent[0]}"):
        Worker(absent[0], CONFIG, Path(sys.executable))


def test_a_python_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(PeerFailed, match="No such file"):
        Worker("keras", CONFIG, tmp_path / "python")


def test_unknown_peer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="peer .*'lightning'"):
        environment("theano", tmp_path)


def wheel(folder: Path) -> Path:
    """A library of one line."""
    path, facts = folder / "tiny_peer-1.0-py3-none-any.whl", "tiny_peer-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("tiny_peer.py", "import torch\n")
        archive.writestr(
            f"{facts}/METADATA", "Metadata-Version: 2.1\nName: tiny-peer\nVersion: 1.0\n"
        )
        archive.writestr(f"{facts}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr(f"{facts}/RECORD", "")
    return path


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in CONTENDERS if "bfloat16" not in name])
def test_this_projects_loops_take_turns_in_processes_of_their_own(name: str) -> None:
    worker = Worker(name, replace(benchmark_config("addition", 20), train_size=500))
    try:
        assert worker.images_per_second(1) > 0
        assert worker.images_per_second(40) > 0
        assert worker.peak_memory() > 50e6
    finally:
        worker.close()


@pytest.mark.slow
def test_environment_is_made_once_and_shares_torch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PEERS, "keras", Peer((str(wheel(tmp_path)),), adds=True))
    said: list[str] = []
    python = environment("keras", tmp_path / "peers", said.append)
    assert environment("keras", tmp_path / "peers", said.append) == python
    assert len(said) == 1
    code = "import tiny_peer, torch, learn2add, tools; print(tiny_peer.__file__, torch.__file__)"
    done = subprocess.run([python, "-P", "-c", code], capture_output=True, text=True, check=True)
    tiny, same = map(Path, done.stdout.split())
    assert tmp_path in tiny.parents
    assert same == Path(torch.__file__)


@pytest.mark.slow
def test_who_cannot_be_installed_is_missing_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PEERS, "keras", Peer((str(tmp_path / "absent.whl"),), adds=True))
    found = compare(
        "addition", batch_size=20, steps=1, repeats=1, peers=["pythae", "keras"], folder=tmp_path
    )
    assert found.missing["pythae"] == "none of its models holds an adder"
    assert found.missing["keras"].startswith("pip: ")
    assert "absent.whl" in found.missing["keras"]
    assert found.speeds[0].name == USUAL
    assert all(speed.images_per_second[0] > 0 for speed in found.speeds)


@pytest.mark.slow
@pytest.mark.parametrize("network", ["conv_transpose", "conv_upsample", "addition"])
@pytest.mark.parametrize("name", list(PEERS))
def test_installed_peers_train_the_same_network(name: str, network: str) -> None:
    home = ROOT / "build" / "peers" / name
    if not (home / "made-for.json").exists():
        pytest.skip(f"`python -m tools.benchmark --peers {name}` has not been run here")
    config = benchmark_config(network, 20)
    if config.adds and not PEERS[name].adds:
        pytest.skip(f"{name} has no such model")
    worker = Worker(name, config, home / "bin" / "python")  # refuses another network
    try:
        assert worker.library.startswith(name)
        assert worker.images_per_second(1) > 0
        assert worker.images_per_second(2) > 0
        assert worker.peak_memory() > 50e6
        if network == "conv_upsample":
            worker.config = replace(config, train_size=500)
            assert worker.validation_rmse(1) < 0.45  # untrained: 0.48
    finally:
        worker.close()
