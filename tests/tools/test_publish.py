"""Runs kept in git: weights in eight bits, few images, nothing half-written."""

import errno
import os
import shutil
import tracemalloc
import zlib
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from learn2add.checkpoints import CheckpointError, load_tensors, save_tensors
from learn2add.config import RunConfig, Stage
from learn2add.runs import Run, RunError, load, load_or_train
from tools.publish import copy_events, publish

CONFIG = RunConfig(
    (Stage("autoencoder", 2, 3, 32, 3e-3, "one_cycle", "bce"),), train_size=200, validation_size=300
)
PUBLISHED = {"config.json", "metrics.csv", "weights.safetensors", "result.json"}
PUBLISHED |= {"events.out.tfevents.0000000000.learn2add"}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("runs") / "kept"
    return load_or_train(CONFIG, folder, device="cpu", progress=False)


def test_publishing_quarters_the_weights(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "published" / "run"
    published = publish(run, folder)
    assert set(f.name for f in folder.iterdir()) == PUBLISHED
    assert [f.name for f in folder.parent.iterdir()] == ["run"]
    sizes = [(f / "weights.safetensors").stat().st_size for f in (folder, run.folder)]
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
    again = load_or_train(CONFIG, folder)  # it is complete: loaded, not trained
    assert again.result == published.result


def test_a_run_can_be_kept_without_its_weights(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    published = publish(run, folder, weights=False)
    assert set(f.name for f in folder.iterdir()) == PUBLISHED - {"weights.safetensors"}
    assert published.history == run.history and published.result == run.result
    with pytest.raises(CheckpointError, match=r"weights\.safetensors"):
        published.model("cpu")


@pytest.mark.parametrize("part", ["deflated", "scale", "shape"])
def test_packed_weights_that_do_not_fit_are_damaged(run: Run, tmp_path: Path, part: str) -> None:
    folder = publish(run, tmp_path / "run").folder
    tensors, facts = load_tensors(folder / "weights.safetensors")
    name = next(name for name in tensors if name.endswith(f"|{part}"))
    rest = {other: tensor for other, tensor in tensors.items() if other != name}
    for broken in ({name: tensors[name][1:]}, {name: tensors[name] + 1}, {}):
        if part == "scale" and broken and len(broken[name]) == len(tensors[name]):
            continue  # other scales are other weights
        save_tensors(folder / "weights.safetensors", rest | broken, facts)
        problem = "holds another model" if part == "shape" else "is damaged: .* cannot be unpacked"
        with pytest.raises(CheckpointError, match=rf"weights\.safetensors .*{problem}"):
            load(folder).model("cpu")


def test_publishing_overwrites_nothing(run: Run, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="exists already"):
        publish(run, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_publishing_leaves_nothing_half_written(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(shutil, "copy", full)
    with pytest.raises(OSError, match="No space left"):
        publish(run, tmp_path / "published")
    assert list(tmp_path.iterdir()) == []


def test_a_copy_of_the_events_has_fewer_images_and_all_else(tmp_path: Path) -> None:
    stages = (replace(CONFIG.stages[0], epochs=5, steps=1),)
    config = replace(CONFIG, stages=stages)
    folder = load_or_train(config, tmp_path / "run", device="cpu", progress=False).folder
    (source,) = folder.glob("events.out.tfevents.*")
    (tmp_path / "copy").mkdir()
    copy_events(source, tmp_path / "copy" / source.name, images=2)
    own, copied = (
        EventAccumulator(str(place), size_guidance={"images": 0}).Reload()
        for place in (folder, tmp_path / "copy")
    )
    assert copied.Tags() == own.Tags()
    for tag in own.Tags()["scalars"]:
        assert copied.Scalars(tag) == own.Scalars(tag)
    images = own.Images("input_reconstruction")
    assert copied.Images("input_reconstruction") == [images[1], images[4]]
    assert copied.PluginTagToContent("hparams") == own.PluginTagToContent("hparams")


def test_a_small_file_cannot_fill_the_memory(run: Run, tmp_path: Path) -> None:
    folder = publish(run, tmp_path / "run").folder
    tensors, facts = load_tensors(folder / "weights.safetensors")
    name = next(name for name in tensors if name.endswith("|deflated"))
    bomb = torch.frombuffer(bytearray(zlib.compress(bytes(300_000_000))), dtype=torch.uint8)
    save_tensors(folder / "weights.safetensors", tensors | {name: bomb}, facts)
    tracemalloc.start()
    with pytest.raises(CheckpointError, match=r"weights\.safetensors is damaged"):
        load(folder).model("cpu")
    assert tracemalloc.get_traced_memory()[1] < 50_000_000
    tracemalloc.stop()
