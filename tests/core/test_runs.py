"""Runs as folders: load or train, refuse what does not fit, leave nothing half-written."""

import dataclasses
import errno
import functools
import io
import json
import os
import pickle
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from learn2add import runs
from learn2add.checkpoints import CheckpointError, load_tensors, save_tensors, write_atomically
from learn2add.config import RunConfig, Stage
from learn2add.data import Digits, load_digits
from learn2add.network import Autoencoder
from learn2add.runs import RunError, load, load_or_train, write_result
from learn2add.train import TrainingDiverged

CONFIG = RunConfig((Stage("autoencoder", 2, 3, 32, 3e-3, "one_cycle", "bce"),), train_size=200)
COMPLETE = {
    "config.json", "metrics.csv", "weights.safetensors", "last.safetensors", "result.json",
    "events.out.tfevents.0000000000.learn2add",
}  # fmt: skip


def few_digits(dataset: str, split: str) -> Digits:
    """Real digits, but so few that a validation takes no time."""
    return load_digits(dataset, split).subset(300)


@pytest.fixture(scope="module", autouse=True)
def _few_digits() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs, "load_digits", few_digits)
        yield


def trained(folder: Path, config: RunConfig = CONFIG) -> runs.Run:
    return load_or_train(config, folder, device="cpu", progress=False)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete run, trained once; tests that change it copy it first."""
    return trained(tmp_path_factory.mktemp("runs") / "kept").folder


@pytest.fixture
def copy(kept: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(kept, tmp_path / "run"))


def contents(folder: Path) -> dict[str, bytes]:
    return {f.name: f.read_bytes() for f in folder.iterdir() if f.name != ".lock"}


# Load or train


def test_a_run_is_a_folder(kept: Path) -> None:
    assert set(contents(kept)) == COMPLETE
    run = load(kept)
    assert run.config == CONFIG and run.folder == kept
    assert RunConfig.from_json((kept / "config.json").read_text()) == CONFIG
    assert [row["epoch"] for row in run.history] == [1, 2]
    assert run.result["best_epoch"] in (1, 2) and run.result["seconds"] > 0
    assert run.result["threads"] == torch.get_num_threads()
    curve = run.curve("rmse")
    assert curve["epoch"] == [1, 2]
    assert curve["train"] == [row["rmse/train"] for row in run.history]
    assert curve["validation"] == [row["rmse/validation"] for row in run.history]
    assert run.curve("sum_rmse")["epoch"] == []  # an autoencoder draws no sums


def test_its_model_is_ready_for_use(kept: Path) -> None:
    model = load(kept).model("cpu")
    assert isinstance(model, Autoencoder) and not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())
    stored, _ = load_tensors(kept / "weights.safetensors")
    assert all(torch.equal(tensor, stored[name]) for name, tensor in model.state_dict().items())


def test_a_complete_run_is_loaded(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = contents(copy)
    monkeypatch.setattr(runs, "train", lambda *_, **__: pytest.fail("it was trained again"))
    assert trained(copy).history == load(copy).history
    assert contents(copy) == before


def test_an_interrupted_run_is_resumed(
    kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"
    writes = iter(range(1000))

    def interrupt(path: Path, *content: object) -> None:
        if Path(path).name == "metrics.csv" and next(writes) == 1:  # at the end of epoch 2
            raise KeyboardInterrupt
        write_atomically(path, *content)

    with monkeypatch.context() as patch:
        patch.setattr("learn2add.tensorboard.write_atomically", interrupt)
        with pytest.raises(KeyboardInterrupt):
            trained(folder)
    with pytest.raises(RunError, match="unfinished"):
        load(folder)
    assert load_tensors(folder / "last.safetensors")[1]["epoch"] == 1
    run = trained(folder)
    assert len(run.history) == 2
    for name in ("weights.safetensors", "config.json"):
        assert (folder / name).read_bytes() == (kept / name).read_bytes()


def test_killed_before_the_last_file_it_trains_nothing_more(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = contents(copy)
    (copy / "result.json").unlink()
    monkeypatch.setattr(torch.optim.Adam, "step", lambda *_: pytest.fail("it went on training"))
    run = trained(copy)
    assert (copy / "weights.safetensors").read_bytes() == before["weights.safetensors"]
    assert run.result["best_epoch"] == json.loads(before["result.json"])["best_epoch"]


@pytest.mark.parametrize("unfinished", [False, True])
def test_another_configuration_is_refused_naming_the_fields(copy: Path, unfinished: bool) -> None:
    if unfinished:
        (copy / "result.json").unlink()
    stage = dataclasses.replace(CONFIG.stages[0], epochs=5)
    other = dataclasses.replace(CONFIG, stages=(stage,), code_size=2)
    before = contents(copy)
    with pytest.raises(RunError) as caught:
        trained(copy, other)
    message = str(caught.value)
    assert "code_size: 2, not 7" in message and "stages.0.epochs: 5, not 2" in message
    for same in ("decoder", "seed", "stages.0.loss", "train_size"):
        assert same not in message
    assert contents(copy) == before


def test_another_number_of_stages_is_refused_naming_the_fields(copy: Path) -> None:
    with pytest.raises(RunError, match=r"stages\.1\.task: 'autoencoder', not None"):
        trained(copy, dataclasses.replace(CONFIG, stages=CONFIG.stages * 2))


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(RunError, match=rf"run is '{folder}'; allowed is a run"):
            load(folder)
    assert not (tmp_path / "nowhere").exists()


def test_a_diverged_run_is_not_taken_for_complete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("learn2add.train.learning_rate_at", lambda *_: 1e30)
    for _ in range(2):
        with pytest.raises(TrainingDiverged):
            trained(tmp_path / "run")
        with pytest.raises(RunError, match="unfinished"):
            load(tmp_path / "run")


PREPARE = """
import sys
from pathlib import Path
import torch
from learn2add import runs
from learn2add.config import RunConfig
from learn2add.data import load_digits

torch.set_num_threads(1)
runs.load_digits = lambda dataset, split: load_digits(dataset, split).subset(300)
train = runs.train
def counted(*arguments, **named):
    print("trained", flush=True)
    return train(*arguments, **named)
runs.train = counted
print("ready", flush=True)
sys.stdin.readline()
"""
ASK = (
    PREPARE
    + """
config = RunConfig.from_json(sys.argv[2])
try:
    run = runs.load_or_train(config, Path(sys.argv[1]), device="cpu", progress=False)
    print("seed", run.config.seed, len(run.history), flush=True)
except runs.RunError as error:
    print("refused", error, flush=True)
"""
)
SHARE = (
    PREPARE
    + """
root, config = Path(sys.argv[1]), RunConfig.from_json(sys.argv[2])
def first(*arguments, **named):
    runs.train = counted
    print("begun", flush=True)
    sys.stdin.readline()
    return counted(*arguments, **named)
runs.train = first
for folder in runs.free_first([root / str(number) for number in range(4)]):
    runs.load_or_train(config, folder, device="cpu", progress=False)
print(len(list(root.glob("*/result.json"))), flush=True)
"""
)


def ready(folder: Path, configs: list[RunConfig], script: str) -> list[subprocess.Popen]:
    """Processes that have imported everything and wait for a line."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(folder), config.to_json()],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for config in configs
    ]  # fmt: skip
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    return processes


def ask_at_once(folder: Path, configs: list[RunConfig]) -> list[list[str]]:
    """What processes print that ask for one folder at the same moment."""
    processes = ready(folder, configs, ASK)
    for process in processes:
        go_on(process)
    return outputs_of(processes)


def go_on(process: subprocess.Popen) -> None:
    process.stdin.write("go\n")
    process.stdin.flush()


def outputs_of(processes: list[subprocess.Popen]) -> list[list[str]]:
    outputs = [process.communicate(timeout=100)[0].splitlines() for process in processes]
    assert [process.returncode for process in processes] == [0] * len(processes)
    return outputs


def test_two_processes_train_a_run_once(tmp_path: Path) -> None:
    config = dataclasses.replace(CONFIG, stages=(dataclasses.replace(CONFIG.stages[0], steps=20),))
    outputs = ask_at_once(tmp_path / "run", [config, config])
    assert sorted(outputs, key=len) == [["seed 0 2"], ["trained", "seed 0 2"]]


def test_two_processes_share_a_list_of_runs_and_repeat_nothing(tmp_path: Path) -> None:
    config = dataclasses.replace(CONFIG, stages=(dataclasses.replace(CONFIG.stages[0], steps=20),))
    processes = ready(tmp_path, [config, config], SHARE)
    for process in processes:  # the second looks for a free run while the first has one in hand
        go_on(process)
        assert process.stdout.readline() == "begun\n"
    for process in processes:
        go_on(process)
    outputs = outputs_of(processes)
    trained = [lines.count("trained") for lines in outputs]
    assert sum(trained) == 4 and min(trained) >= 1
    assert [lines[-1] for lines in outputs] == ["4", "4"]


def test_what_one_was_given_no_other_is_though_it_has_not_begun(tmp_path: Path) -> None:
    places = [tmp_path / "a", tmp_path / "b"]
    mine = runs.free_first(places)
    assert next(mine) == places[0]
    script = """
import sys
from pathlib import Path
from learn2add.runs import free_first
print(next(free_first(map(Path, sys.argv[1:]))))
"""
    words = [sys.executable, "-c", script, *map(str, places)]
    print_first = functools.partial(subprocess.check_output, words, text=True, timeout=100)
    assert print_first() == f"{places[1]}\n"
    trained(places[0])  # who holds the lock already does not wait for itself
    mine.close()
    (places[0] / "result.json").unlink()
    assert print_first() == f"{places[0]}\n"


def test_a_run_whose_process_was_killed_is_given_to_another(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / ".lock").touch()  # nobody holds it
    trained(tmp_path / "b")
    assert list(runs.free_first([tmp_path / "a", tmp_path / "b"])) == [tmp_path / "a"]


@pytest.mark.slow
def test_two_processes_with_two_configurations_never_mix(tmp_path: Path) -> None:
    other = dataclasses.replace(CONFIG, seed=1)
    for attempt in range(2):
        folder = tmp_path / str(attempt)
        outputs = ask_at_once(folder, [CONFIG, other])
        refused = [n for n, lines in enumerate(outputs) if lines[-1].startswith("refused")]
        assert len(refused) == 1
        winner = 1 - refused[0]
        assert outputs[winner] == ["trained", f"seed {winner} 2"]
        assert load(folder).config.seed == winner


# Names


def test_a_name_is_a_place_under_the_root(
    kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LEARN2ADD_RUNS", str(tmp_path))
    with pytest.raises(RunError, match=r"'part3/quick' is near; allowed is .*, part3/quick"):
        load("part3/quik")
    shutil.copytree(kept, tmp_path / "part2" / "mine")
    for run in (load("part2/mine"), load_or_train(CONFIG, "part2/mine", progress=False)):
        assert run.folder == tmp_path / "part2" / "mine"
    with pytest.raises(RunError, match=r"run is 'other'; allowed is .*: .*, part2/mine, "):
        load("other")


def test_a_run_that_came_with_the_project_is_loaded_where_its_configuration_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also one that was trained in another precision than this machine's."""
    monkeypatch.setenv("LEARN2ADD_RUNS", str(tmp_path))
    name, other = "part3/quick", {"float32": "bfloat16", "bfloat16": "float32"}
    config = load(name).config
    for precision in other:
        asked = dataclasses.replace(config, precision=precision)
        assert load_or_train(asked, name).folder == load(name).folder
    assert runs.kept(dataclasses.replace(config, seed=1), name) is None
    assert runs.kept(config, "part3/nothing") is None
    assert list(tmp_path.iterdir()) == []


def test_a_complete_run_of_another_precision_is_loaded_and_an_unfinished_one_is_not(
    copy: Path,
) -> None:
    other = dataclasses.replace(CONFIG, precision="bfloat16")
    assert trained(copy, other).config == CONFIG
    (copy / "result.json").unlink()
    with pytest.raises(RunError, match="precision: 'bfloat16', not 'float32'"):
        trained(copy, other)


def test_weights_kept_once_for_two_runs_are_found(copy: Path) -> None:
    twin = Path(shutil.copytree(copy, copy.with_name("twin")))
    (twin / "weights.safetensors").unlink()
    result = json.loads((twin / "result.json").read_text()) | {"same_as": copy.name}
    del result["sha256"]
    write_result(twin, result)
    ours, theirs = (load(folder).model("cpu").state_dict() for folder in (twin, copy))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


# Damage


def damaged(whole: bytes, kind: str) -> bytes:
    return {
        "empty": b"",
        "half": whole[: len(whole) // 2],
        "noise": bytes(range(256)) * 20,
        "another file": b'{"hello": "world"}\n',
    }[kind]


@pytest.mark.parametrize("kind", ["empty", "half", "noise", "another file"])
@pytest.mark.parametrize("name", ["config.json", "metrics.csv", "result.json"])
def test_damaged_books_are_one_clear_error(copy: Path, name: str, kind: str) -> None:
    file = copy / name
    file.write_bytes(damaged(file.read_bytes(), kind))
    before = contents(copy)
    for ask in (lambda: load(copy), lambda: trained(copy)):
        with pytest.raises(CheckpointError, match=name.replace(".", r"\.")):
            ask()
    assert contents(copy) == before


@pytest.mark.parametrize("name", ["config.json", "metrics.csv"])
def test_missing_books_are_one_clear_error(copy: Path, name: str) -> None:
    (copy / name).unlink()
    with pytest.raises(CheckpointError, match=name.replace(".", r"\.")):
        trained(copy)
    with pytest.raises((CheckpointError, RunError), match=name.replace(".", r"\.")):
        load(copy)


@given(st.data())
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_books_cut_anywhere_are_one_clear_error(
    copy: Path, kept: Path, data: st.DataObject
) -> None:
    name = data.draw(st.sampled_from(["config.json", "metrics.csv", "result.json"]))
    whole = (kept / name).read_bytes()
    rows = whole.splitlines(keepends=True)
    best = json.loads((kept / "result.json").read_text())["best_epoch"]
    # A cut that takes only white space, or only epochs after the best, takes nothing needed.
    needed = sum(map(len, rows[: best + 1])) if name == "metrics.csv" else len(whole.rstrip())
    cut = data.draw(st.integers(0, needed - 1))
    (copy / name).write_bytes(whole[:cut])
    try:
        with pytest.raises(CheckpointError, match=name.replace(".", r"\.")):
            load(copy)
    finally:
        (copy / name).write_bytes(whole)
    load(copy)


@pytest.mark.parametrize("kind", ["empty", "half", "noise", "another file", "missing"])
def test_damaged_weights_are_one_clear_error(copy: Path, kind: str) -> None:
    file = copy / "weights.safetensors"
    if kind == "missing":
        file.unlink()
    else:
        file.write_bytes(damaged(file.read_bytes(), kind))
    run = load(copy)  # the curves can still be drawn
    with pytest.raises(CheckpointError, match=r"weights\.safetensors"):
        run.model("cpu")


@given(st.integers(0))
@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_weights_cut_anywhere_are_one_clear_error(copy: Path, kept: Path, cut: int) -> None:
    whole = (kept / "weights.safetensors").read_bytes()
    (copy / "weights.safetensors").write_bytes(whole[: cut % len(whole)])
    with pytest.raises(CheckpointError, match=r"weights\.safetensors"):
        load(copy).model("cpu")


@given(st.integers(0), st.integers(0, 7))
@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_a_flipped_bit_is_one_clear_error(copy: Path, kept: Path, place: int, bit: int) -> None:
    """Anywhere in the file; numbers have no syntax of their own that would give it away."""
    whole = bytearray((kept / "weights.safetensors").read_bytes())
    whole[place % len(whole)] ^= 1 << bit
    (copy / "weights.safetensors").write_bytes(whole)
    with pytest.raises(CheckpointError, match=r"weights\.safetensors .*delete its folder"):
        load(copy).model("cpu")


@given(st.sampled_from(["config.json", "metrics.csv", "result.json"]), st.integers(0), st.data())
@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_a_flipped_bit_in_the_books_is_one_clear_error(
    copy: Path, kept: Path, name: str, place: int, data: st.DataObject
) -> None:
    """A readable figure is one digit away from another."""
    whole = bytearray((kept / name).read_bytes())
    whole[place % len(whole)] ^= 1 << data.draw(st.integers(0, 7))
    (copy / name).write_bytes(whole)
    try:
        with pytest.raises(CheckpointError, match=r"is damaged"):
            load(copy)
    finally:
        (copy / name).write_bytes((kept / name).read_bytes())


def test_deleting_the_folder_is_advice_that_works(copy: Path, kept: Path) -> None:
    (copy / "weights.safetensors").write_bytes(b"")
    with pytest.raises(CheckpointError, match="delete its folder to train again"):
        trained(copy).model("cpu")
    shutil.rmtree(copy)
    trained(copy).model("cpu")
    assert (copy / "weights.safetensors").read_bytes() == (
        kept / "weights.safetensors"
    ).read_bytes()


def test_what_a_killed_writer_left_is_removed(copy: Path) -> None:
    (copy / "result.json").unlink()
    (copy / ".last.safetensors.0123abcd").write_bytes(b"half")
    (copy / ".mine").write_bytes(b"stays")
    trained(copy)
    assert not (copy / ".last.safetensors.0123abcd").exists()
    assert (copy / ".mine").exists()


@pytest.mark.parametrize("kind", ["empty", "half", "noise"])
def test_a_damaged_state_is_one_clear_error(copy: Path, kind: str) -> None:
    (copy / "result.json").unlink()
    file = copy / "last.safetensors"
    file.write_bytes(damaged(file.read_bytes(), kind))
    with pytest.raises(CheckpointError, match=r"last\.safetensors"):
        trained(copy)
    assert not (copy / "result.json").exists()


class Trap:
    """Unpickled, it makes a folder."""

    def __init__(self, mark: Path) -> None:
        self.mark = str(mark)

    def __reduce__(self) -> tuple:
        return os.mkdir, (self.mark,)


@pytest.mark.parametrize("name", ["weights.safetensors", "last.safetensors"])
@pytest.mark.parametrize("protocol", ["torch", "old torch", "pickle"])
def test_pickled_code_is_refused_and_never_run(copy: Path, name: str, protocol: str) -> None:
    mark, file = copy.parent / "executed", copy / name
    trap = {"encoder": Trap(mark)}
    if protocol == "pickle":
        file.write_bytes(pickle.dumps(trap))
    else:
        torch.save(trap, file, _use_new_zipfile_serialization=protocol == "torch")
    if name == "last.safetensors":
        (copy / "result.json").unlink()
    with pytest.raises(CheckpointError, match=name.replace(".", r"\.")):
        trained(copy).model("cpu")
    assert not mark.exists()
    content = file.read_bytes()  # torch.load goes by the ending of a file's name
    if protocol == "pickle":
        pickle.loads(content)
    else:
        torch.load(io.BytesIO(content), weights_only=False)
    assert mark.exists(), "the trap is harmless, so this test shows nothing"


def test_weights_of_another_model_are_refused(copy: Path, tmp_path: Path) -> None:
    for fields in ({"code_size": 2}, {"decoder": "conv_upsample"}):
        other = dataclasses.replace(CONFIG, **fields).build()
        save_tensors(copy / "weights.safetensors", other.state_dict(), {})
        with pytest.raises(CheckpointError, match=r"weights\.safetensors holds another model"):
            load(copy).model("cpu")


# Disks that cannot be written


def temporary_files(folder: Path) -> list[str]:
    return [f.name for f in folder.rglob("*") if f.name not in COMPLETE | {".lock"}]


def test_a_folder_below_a_file_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    folder = tmp_path / "file" / "run"
    with pytest.raises(OSError, match="cannot write .*file/run") as caught:
        trained(folder)
    assert "\n" not in str(caught.value)
    assert [f.name for f in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_text() == "in the way"


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_disk_is_one_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, call, full)
    with pytest.raises(OSError, match=r"cannot write .*config\.json: No space left on device"):
        trained(tmp_path / "run")
    assert temporary_files(tmp_path / "run") == []
    assert not (tmp_path / "run" / "config.json").exists()


@pytest.fixture
def small_files() -> Iterator[None]:
    """The kernel refuses files beyond 100 kB; the weights need more than 8 MB."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_weights_that_do_not_fit_on_the_disk(tmp_path: Path, small_files: None) -> None:
    with pytest.raises(OSError, match=r"cannot write .*weights\.safetensors: File too large"):
        trained(tmp_path / "run")
    assert "weights.safetensors" not in contents(tmp_path / "run")
    assert temporary_files(tmp_path / "run") == []


def test_a_disk_that_fills_up_keeps_the_last_good_state(
    kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, replace, lasts = tmp_path / "run", os.replace, iter(range(1000))

    def fill_up(source: Path, target: Path) -> None:
        if Path(target).name == "last.safetensors" and next(lasts) == 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", fill_up)
        with pytest.raises(OSError, match=r"last\.safetensors: No space left"):
            trained(folder)
    assert temporary_files(folder) == []
    assert load_tensors(folder / "last.safetensors")[1]["epoch"] == 1
    trained(folder)  # there is room again
    assert (folder / "weights.safetensors").read_bytes() == (
        kept / "weights.safetensors"
    ).read_bytes()


def test_a_write_that_is_interrupted_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "config.json"
    write_atomically(file, "old")

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(file, "new")
    assert file.read_text() == "old"
    assert [f.name for f in tmp_path.iterdir()] == ["config.json"]


def test_a_complete_run_is_loaded_from_a_disk_that_cannot_be_written(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "replace", lambda *_: pytest.fail("it wrote"))
    monkeypatch.setattr(runs, "write_atomically", lambda *_: pytest.fail("it wrote"))
    (copy / ".lock").unlink(missing_ok=True)
    trained(copy).model("cpu")
    assert set(f.name for f in copy.iterdir()) == COMPLETE
