"""Runs as folders: load or train, refuse what does not fit, leave nothing half-written."""

import dataclasses
import errno
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
from learn2add.configs import BALANCES, RunConfig, Stage
from learn2add.data import Digits, load_digits
from learn2add.models import Autoencoder
from learn2add.runs import RunError, load_or_train, load_run, publish, with_precision
from learn2add.training import TrainingDiverged

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
    run = load_run(kept)
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
    model = load_run(kept).model("cpu")
    assert isinstance(model, Autoencoder) and not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())
    stored, _ = load_tensors(kept / "weights.safetensors")
    assert all(torch.equal(tensor, stored[name]) for name, tensor in model.state_dict().items())


def test_a_complete_run_is_loaded(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = contents(copy)
    monkeypatch.setattr(runs, "train", lambda *_, **__: pytest.fail("it was trained again"))
    assert trained(copy).history == load_run(copy).history
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
        patch.setattr("learn2add.tracking.write_atomically", interrupt)
        with pytest.raises(KeyboardInterrupt):
            trained(folder)
    with pytest.raises(RunError, match="unfinished"):
        load_run(folder)
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
        with pytest.raises(RunError, match=r"not a run.*config\.json"):
            load_run(folder)
    assert not (tmp_path / "nowhere").exists()


def test_a_diverged_run_is_not_taken_for_complete(tmp_path: Path) -> None:
    stage = dataclasses.replace(CONFIG.stages[0], learning_rate=1e30)
    config = dataclasses.replace(CONFIG, stages=(stage,))
    for _ in range(2):
        with pytest.raises(TrainingDiverged):
            trained(tmp_path / "run", config)
        with pytest.raises(RunError, match="unfinished"):
            load_run(tmp_path / "run")


PREPARE = """
import sys
from pathlib import Path
import torch
from learn2add import runs
from learn2add.configs import RunConfig
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
for folder in runs.free_first([root / str(number) for number in range(4)]):
    runs.load_or_train(config, folder, device="cpu", progress=False)
print(len(list(root.glob("*/result.json"))), flush=True)
"""
)


def ask_at_once(folder: Path, configs: list[RunConfig], script: str = ASK) -> list[list[str]]:
    """What processes print that ask for one folder at the same moment."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(folder), config.to_json()],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for config in configs
    ]  # fmt: skip
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    outputs = [process.communicate(timeout=300)[0].splitlines() for process in processes]
    assert [process.returncode for process in processes] == [0] * len(processes)
    return outputs


def test_two_processes_train_a_run_once(tmp_path: Path) -> None:
    config = dataclasses.replace(CONFIG, stages=(dataclasses.replace(CONFIG.stages[0], steps=20),))
    outputs = ask_at_once(tmp_path / "run", [config, config])
    assert sorted(outputs, key=len) == [["seed 0 2"], ["trained", "seed 0 2"]]


def test_two_processes_share_a_list_of_runs_and_repeat_nothing(tmp_path: Path) -> None:
    config = dataclasses.replace(CONFIG, stages=(dataclasses.replace(CONFIG.stages[0], steps=20),))
    outputs = ask_at_once(tmp_path, [config, config], SHARE)
    trained = [lines.count("trained") for lines in outputs]
    assert sum(trained) == 4 and min(trained) >= 1
    assert [lines[-1] for lines in outputs] == ["4", "4"]


def test_a_run_whose_process_was_killed_is_given_to_another(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / ".lock").touch()  # nobody holds it
    trained(tmp_path / "b")
    assert list(runs.free_first([tmp_path / "a", tmp_path / "b"])) == [tmp_path / "a"]


@pytest.mark.slow
def test_two_processes_with_two_configurations_never_mix(tmp_path: Path) -> None:
    other = dataclasses.replace(CONFIG, seed=1)
    for attempt in range(3):
        folder = tmp_path / str(attempt)
        outputs = ask_at_once(folder, [CONFIG, other])
        refused = [n for n, lines in enumerate(outputs) if lines[-1].startswith("refused")]
        assert len(refused) == 1
        winner = 1 - refused[0]
        assert outputs[winner] == ["trained", f"seed {winner} 2"]
        assert load_run(folder).config.seed == winner


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
    for ask in (lambda: load_run(copy), lambda: trained(copy)):
        with pytest.raises(CheckpointError, match=name.replace(".", r"\.")):
            ask()
    assert contents(copy) == before


@pytest.mark.parametrize("name", ["config.json", "metrics.csv"])
def test_missing_books_are_one_clear_error(copy: Path, name: str) -> None:
    (copy / name).unlink()
    with pytest.raises(CheckpointError, match=name.replace(".", r"\.")):
        trained(copy)
    with pytest.raises((CheckpointError, RunError), match=name.replace(".", r"\.")):
        load_run(copy)


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
            load_run(copy)
    finally:
        (copy / name).write_bytes(whole)
    load_run(copy)


@pytest.mark.parametrize("kind", ["empty", "half", "noise", "another file", "missing"])
def test_damaged_weights_are_one_clear_error(copy: Path, kind: str) -> None:
    file = copy / "weights.safetensors"
    if kind == "missing":
        file.unlink()
    else:
        file.write_bytes(damaged(file.read_bytes(), kind))
    run = load_run(copy)  # the curves can still be drawn
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
        load_run(copy).model("cpu")


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
    for other in (Autoencoder("conv_transpose", 2), Autoencoder("conv_upsample", 7)):
        save_tensors(copy / "weights.safetensors", other.state_dict(), {})
        with pytest.raises(CheckpointError, match=r"weights\.safetensors holds another model"):
            load_run(copy).model("cpu")


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


# Publishing


def test_publishing_quarters_the_weights(kept: Path, tmp_path: Path) -> None:
    run, folder = load_run(kept), tmp_path / "published" / "run"
    published = publish(run, folder)
    assert set(f.name for f in folder.iterdir()) == COMPLETE - {"last.safetensors"}
    assert [f.name for f in folder.parent.iterdir()] == ["run"]
    sizes = [(f / "weights.safetensors").stat().st_size for f in (folder, kept)]
    assert sizes[0] / sizes[1] == pytest.approx(0.26, abs=0.01)
    assert published.history == run.history and published.config == run.config
    assert published.result["weights"] == "int8"
    own, packed = run.model("cpu").state_dict(), published.model("cpu").state_dict()
    for name, tensor in own.items():
        assert packed[name].dtype == torch.float32
        if tensor.numel() < 50_000:
            torch.testing.assert_close(packed[name], tensor, rtol=2**-11, atol=2**-25)
        else:  # half a step, of which the largest weight of a row is 127
            step = tensor.flatten(1).abs().amax(1) / 127
            worst = (packed[name] - tensor).flatten(1).abs().amax(1)
            assert (worst <= 0.501 * step).all()
    again = trained(folder)  # it is complete: loaded, not trained
    assert again.result == published.result


def test_a_run_can_be_kept_without_its_weights(kept: Path, tmp_path: Path) -> None:
    run, folder = load_run(kept), tmp_path / "run"
    published = publish(run, folder, weights=False)
    left_out = {"last.safetensors", "weights.safetensors"}
    assert set(f.name for f in folder.iterdir()) == COMPLETE - left_out
    assert published.history == run.history and published.result == run.result
    with pytest.raises(CheckpointError, match=r"weights\.safetensors"):
        published.model("cpu")


@pytest.mark.parametrize("part", ["deflated", "scale", "shape"])
def test_packed_weights_that_do_not_fit_are_damaged(kept: Path, tmp_path: Path, part: str) -> None:
    folder = publish(load_run(kept), tmp_path / "run").folder
    tensors, facts = load_tensors(folder / "weights.safetensors")
    name = next(name for name in tensors if name.endswith(f"|{part}"))
    rest = {other: tensor for other, tensor in tensors.items() if other != name}
    for broken in ({name: tensors[name][1:]}, {name: tensors[name] + 1}, {}):
        if part == "scale" and broken and len(broken[name]) == len(tensors[name]):
            continue  # other scales are other weights
        save_tensors(folder / "weights.safetensors", rest | broken, facts)
        # Without its bytes, a tensor is missing.
        problem = "cannot be unpacked" if broken or part != "deflated" else "holds another model"
        with pytest.raises(CheckpointError, match=rf"weights\.safetensors .*{problem}"):
            load_run(folder).model("cpu")


def test_publishing_overwrites_nothing(kept: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="exists already"):
        publish(load_run(kept), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_publishing_leaves_nothing_half_written(
    kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(shutil, "copy", full)
    with pytest.raises(OSError, match="No space left"):
        publish(load_run(kept), tmp_path / "published")
    assert list(tmp_path.iterdir()) == []


# Configurations

stages = st.builds(
    Stage,
    task=st.just("autoencoder"),
    epochs=st.integers(1, 200),
    steps=st.none() | st.integers(1, 1000),
    batch_size=st.integers(1, 60_000),
    learning_rate=st.floats(1e-8, 10),
    schedule=st.sampled_from(["constant", "one_cycle"]),
    loss=st.sampled_from(["l2", "bce"]),
    balance=st.sampled_from(BALANCES),
    patience=st.none() | st.integers(1, 50),
)
configs = st.builds(
    RunConfig,
    stages=st.lists(stages, min_size=1, max_size=3).map(tuple),
    model=st.sampled_from(["autoencoder", "addition"]),
    decoder=st.sampled_from(["conv_transpose", "conv_upsample", "interpolation"]),
    code_size=st.integers(1, 128),
    image_size=st.sampled_from([28, 32, 64]),
    train_size=st.none() | st.integers(10, 60_000),
    l2_orig=st.floats(0, 10),
    seed=st.integers(0, 2**32 - 1),
    precision=st.sampled_from(["float32", "bfloat16"]),
)


@given(configs, configs)
@settings(max_examples=100, deadline=None)
def test_configurations_travel_as_json(config: RunConfig, other: RunConfig) -> None:
    assert RunConfig.from_json(config.to_json()) == config
    assert config.differences(config) == []
    assert bool(config.differences(other)) == (config != other)
    assert len(config.differences(other)) == len(other.differences(config))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"decoder": "unpooling"}, "decoder.*conv_transpose.*'unpooling'"),
        ({"code_size": 0}, "code_size.*1 to 128.*0"),
        ({"code_size": 129}, "code_size.*129"),
        ({"code_size": 7.0}, "code_size.*7.0"),
        ({"image_size": 27}, "image_size.*28, 32, 64"),
        ({"model": "gan"}, "model"),
        ({"dataset": "CIFAR10"}, "dataset"),
        ({"train_size": 9}, "train_size"),
        ({"seed": -1}, "seed"),
        ({"precision": "float16"}, "precision"),
        ({"l2_orig": -0.1}, "l2_orig"),
        ({"l2_added": float("nan")}, "l2_added"),
        ({"code": float("inf")}, "code"),
        ({"stages": ()}, "stages"),
        ({"stages": (Stage("adder", 1),)}, "adder"),
    ],
)
def test_bad_configurations_are_refused(fields: dict, message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        dataclasses.replace(CONFIG, **fields)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"task": "decoder"}, "task"),
        ({"epochs": 0}, "epochs"),
        ({"epochs": 1.5}, "epochs"),
        ({"steps": 0}, "steps"),
        ({"batch_size": 0}, "batch_size"),
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"learning_rate": float("nan")}, "learning_rate"),
        ({"learning_rate": "1e-3"}, "learning_rate"),
        ({"schedule": "cosine"}, "schedule"),
        ({"loss": "mse"}, "loss.*l2.*bce"),
        ({"balance": "even"}, "balance"),
        ({"patience": 0}, "patience"),
        ({"task": "auto_decoder", "optimiser": "muon"}, "muon.*auto_decoder"),
        ({"task": "auto_decoder", "weight_decay": 0.1}, "0.1.*auto_decoder"),
    ],
)
def test_bad_stages_are_refused(fields: dict, message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        dataclasses.replace(CONFIG.stages[0], **fields)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "3", "{}", '{"stages": 3}', '{"stages": []}', '{"stages": [{}]}',
             '{"stages": [{"task": "autoencoder", "epochs": 1}], "colour": "red"}',
             '{"stages": [{"task": "autoencoder", "epochs": 1}], "code_size": "7"}'],
)  # fmt: skip
def test_texts_that_are_no_configuration_are_refused(text: str) -> None:
    with pytest.raises(ValueError):
        RunConfig.from_json(text)


def test_with_precision_changes_nothing_else() -> None:
    assert CONFIG.differences(with_precision(CONFIG, "bfloat16")) == [
        "precision: 'float32', not 'bfloat16'"
    ]
