"""Other libraries that train the same network, each in a virtual environment of its own.

Such an environment sees the packages of this one (so torch is the same) and adds the library's own.
What cannot be installed, or fails, is told in one line by :class:`PeerFailed`.

The library trains in a process of its own (:mod:`learn2add.benchmark.peer_loops`), which is sent
lines and answers each with a line of JSON:

- the configuration as JSON -> ``{"library": name and version, "parameters": N, "picture": [...]}``,
  the last being what the untrained network draws, see
  :func:`learn2add.benchmark.networks.first_picture`;
- ``train N`` -> ``{"pictures": N, "seconds": X}`` for that many optimiser steps;
- ``memory`` -> ``{"bytes": N}``.

Instead of that answer it may give ``{"failed": "one line"}``.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import learn2add
from learn2add.benchmark.networks import untrained
from learn2add.checks import check_choice
from learn2add.configs import RunConfig


@dataclass(frozen=True)
class Peer:
    """A library to compare with."""

    requirements: tuple[str, ...]
    """What pip installs for it; also an extra of this package."""
    adds: bool
    """Whether its models can hold an adder."""


PEERS = {
    "lightning": Peer(("lightning",), adds=True),
    "keras": Peer(("keras>=3",), adds=True),  # on torch: no second library of array operations
    "pythae": Peer(("pythae",), adds=False),
}
SAME_GREY = 1e-3
"""Grey levels by which a picture of the same untrained network may differ in two libraries."""


class PeerFailed(RuntimeError):
    """A peer is missing from the comparison; the message is its one-line reason."""


def environment(name: str, folder: Path, say: Callable[[str], None] = lambda line: None) -> Path:
    """The Python of the peer's environment, which is made if it is not there.

    Args:
        name: One of :data:`PEERS`.
        folder: Where the environments lie, each under its peer's name.
        say: Is told if one is made.

    Raises:
        ValueError: Another name.
        PeerFailed: It cannot be installed.
    """
    peer = PEERS[check_choice("peer", name, tuple(PEERS))]
    home = (Path(folder) / name).resolve()
    python = home / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    stamp, facts = (
        home / "made-for.json",
        json.dumps([sys.version, seen_folders(), peer.requirements]),
    )
    if stamp.exists() and stamp.read_text() == facts:
        return python
    say(f"making the environment of {name} in {home}")
    _command("venv", sys.executable, "-m", "venv", "--clear", str(home))
    _share_packages(python)
    constraints = home / "constraints.txt"
    constraints.write_text("".join(f"{line}\n" for line in _kept_versions()))
    options = ("--quiet", "--disable-pip-version-check", "--constraint", str(constraints))
    _command("pip", str(python), "-m", "pip", "install", *options, *peer.requirements)
    stamp.write_text(facts)
    return python


def seen_folders() -> list[str]:
    """Folders of packages that this process sees, this project's among them."""
    own = str(Path(learn2add.__file__).parents[1])
    packages = [p for p in sys.path if Path(p).name in ("site-packages", "dist-packages")]
    return list(dict.fromkeys([own, *packages]))


def _share_packages(python: Path) -> None:
    """Let the environment see the packages of this one, behind its own."""
    place = "import sysconfig; print(sysconfig.get_path('purelib'))"
    purelib = _command("venv", str(python), "-c", place).strip()
    Path(purelib, "parent.pth").write_text("".join(f"{line}\n" for line in seen_folders()))


def _kept_versions() -> list[str]:
    """Constraints that keep pip from replacing what the peers are to share."""
    kept = []
    for name in ("torch", "torchvision"):
        try:
            kept.append(f"{name}=={version(name)}")
        except PackageNotFoundError:  # torch built from source without its record
            continue
    return kept


def _command(step: str, *words: str) -> str:
    """Standard output of a command.

    Raises:
        PeerFailed: It fails; the reason is its last line that names an error.
    """
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False)
    except OSError as error:
        raise PeerFailed(f"{step}: {error}") from error
    if done.returncode:
        raise PeerFailed(f"{step}: {reason(done.stderr) or reason(done.stdout)}")
    return done.stdout


def reason(text: str) -> str:
    """The last line that tells an error, else the last line; at most 160 characters."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if "error" in line.lower()]
    return " ".join([*lines[-1:], *errors[-1:]][-1:])[:160]


class PeerWorker:
    """A peer in a process of its own environment.

    Args:
        name: One of :data:`PEERS`.
        config: What to train.
        python: See :func:`environment`.
        epochs: 0 to take turns; above, it trains for so many whole epochs at once, and ``ready``
            holds the error after them.

    Raises:
        PeerFailed: It does not start, or trains another network than this project's.
    """

    def __init__(self, name: str, config: RunConfig, python: Path, epochs: int = 0) -> None:
        self.name, self.config, self.python = name, config, python
        self.log = tempfile.TemporaryFile("w+")
        # -P: a folder in the working directory must not pass for the library of that name.
        words = [str(python), "-P", "-m", "learn2add.benchmark.peer_loops", name, str(epochs)]
        pipe = subprocess.PIPE
        try:
            self.process = subprocess.Popen(
                words, stdin=pipe, stdout=pipe, stderr=self.log, text=True
            )
        except OSError as error:
            raise PeerFailed(str(error)) from error
        try:
            built = self.ask(json.dumps(json.loads(config.to_json())))
            self.library = built.get("library", name)
            check_same(config, built)
        except PeerFailed:
            self.close()
            raise

    def ask(self, line: str | None = None) -> dict[str, Any]:
        """Send a line, if there is one, and return the answer.

        Raises:
            PeerFailed: It says so, or has ended.
        """
        try:
            if line is not None:
                print(line, file=self.process.stdin, flush=True)
        except BrokenPipeError:
            pass  # why it has ended stands in its log
        answer = self.process.stdout.readline()
        if not answer:
            self.process.wait()
            self.log.seek(0)
            said = reason(self.log.read()) or f"ended with status {self.process.returncode}"
            raise PeerFailed(said)
        found = json.loads(answer)
        if "failed" in found:
            raise PeerFailed(found["failed"])
        return found

    def images_per_second(self, steps: int) -> float:
        """See :class:`learn2add.benchmark.workers.Worker`."""
        answer = self.ask(f"train {steps}")
        return answer["pictures"] / answer["seconds"]

    def validation_rmse(self, epochs: int) -> float:
        """See :class:`learn2add.benchmark.workers.Worker`."""
        anew = PeerWorker(self.name, self.config, self.python, epochs)
        try:
            return anew.ask()["rmse"]
        finally:
            anew.close()

    def peak_memory(self) -> int:
        """See :class:`learn2add.benchmark.workers.Worker`."""
        return self.ask("memory")["bytes"]

    def close(self) -> None:
        """See :class:`learn2add.benchmark.workers.Worker`."""
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout, self.log):
            try:
                pipe.close()
            except BrokenPipeError:
                pass


def check_same(config: RunConfig, answer: dict[str, Any]) -> None:
    """Check that a peer's untrained network is this project's.

    Args:
        config: What both train.
        answer: The peer's number of ``parameters`` and its untrained network's ``picture``.

    Raises:
        PeerFailed: It is another one.
    """
    count, picture = untrained(config)
    if answer["parameters"] != count:
        raise PeerFailed(f"its network has {answer['parameters']:,} parameters, ours {count:,}")
    theirs = answer["picture"]
    off = max((abs(a - b) for a, b in zip(picture, theirs, strict=False)), default=1.0)
    if len(theirs) != len(picture) or not off <= SAME_GREY:
        raise PeerFailed(f"from the same weights its network draws another picture, {off:.3f} off")
