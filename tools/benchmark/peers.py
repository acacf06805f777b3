"""Other libraries that train the same network, each in a virtual environment of its own.

Such an environment sees the packages of this one (so torch is the same) and adds the library's own.
What cannot be installed, or fails, is told in one line by ``PeerFailed``. Every contender, this
project's among them, trains in a process of its own.
"""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

from learn2add.checks import check_choice
from learn2add.config import RunConfig
from tools.benchmark.networks import untrained

ROOT = Path(__file__).parents[2]


class Peer(NamedTuple):
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
"""Grey levels by which an image of the same untrained network may differ in two libraries."""


class PeerFailed(RuntimeError):
    """A peer is missing from the comparison; the message is its one-line reason."""


def environment(name: str, folder: Path, say: Callable[[str], None] = lambda line: None) -> Path:
    """Return the Python of a peer's environment, ``folder/name``, which is made if need be."""
    peer = PEERS[check_choice("peer", name, tuple(PEERS))]
    home = (Path(folder) / name).resolve()
    python = home / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    stamp = home / "made-for.json"
    facts = json.dumps([sys.version, seen_folders(), peer.requirements])
    if stamp.exists() and stamp.read_text() == facts:
        return python
    say(f"making the environment of {name} in {home}")
    _command("venv", sys.executable, "-m", "venv", "--clear", str(home))
    # The environment sees the packages of this one behind its own, and pip leaves them alone.
    place = "import sysconfig; print(sysconfig.get_path('purelib'))"
    purelib = Path(_command("venv", str(python), "-c", place).strip())
    (purelib / "parent.pth").write_text("\n".join(seen_folders()) + "\n")
    constraints = home / "constraints.txt"
    with constraints.open("w") as file:
        for shared in ("torch", "torchvision"):  # one built from source may have no record
            with contextlib.suppress(PackageNotFoundError):
                print(f"{shared}=={version(shared)}", file=file)
    options = ("--quiet", "--disable-pip-version-check", "--constraint", str(constraints))
    _command("pip", str(python), "-m", "pip", "install", *options, *peer.requirements)
    stamp.write_text(facts)
    return python


def seen_folders() -> list[str]:
    """Return the folders of packages that this process sees, after the checkout itself."""
    packages = [p for p in sys.path if Path(p).name in ("site-packages", "dist-packages")]
    return list(dict.fromkeys([str(ROOT), *packages]))


def _command(step: str, *words: str) -> str:
    """Standard output of a command; PeerFailed names the ``step`` if it fails."""
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False)
    except OSError as error:
        raise PeerFailed(f"{step}: {error}") from error
    if done.returncode:
        raise PeerFailed(f"{step}: {reason(done.stderr) or reason(done.stdout)}")
    return done.stdout


def reason(text: str) -> str:
    """Return the last line that tells an error, else the last line; at most 160 characters."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if "error" in line.lower()]
    return " ".join([*lines[-1:], *errors[-1:]][-1:])[:160]


class Worker:
    """A contender in a process of its own; see ``serving`` for what is said to it.

    Args:
        name: One of ``contenders.CONTENDERS`` or of ``PEERS``.
        config: What to train.
        python: The one that runs it; see ``environment``.
        epochs: 0 to take turns; above, it trains for so many whole epochs at once, and ``ask()``
            returns the error after them.

    Raises:
        PeerFailed: It does not start, or trains another network than this project's.
    """

    def __init__(
        self, name: str, config: RunConfig, python: str | Path = sys.executable, epochs: int = 0
    ) -> None:
        self.name, self.config, self.python = name, config, python
        self.log = tempfile.TemporaryFile("w+")
        # -P: a folder in the working directory must not pass for the library of that name.
        words = [str(python), "-P", "-m", "tools.benchmark.serving", name, str(epochs)]
        paths = filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])
        pipe, own = subprocess.PIPE, {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
        try:
            self.process = subprocess.Popen(
                words, stdin=pipe, stdout=pipe, stderr=self.log, text=True, env=own
            )
        except OSError as error:
            raise PeerFailed(str(error)) from error
        try:
            built = self.ask(json.dumps(json.loads(config.to_json())))
            self.library = built["library"]
            check_same(config, built)
        except PeerFailed:
            self.close()
            raise

    def ask(self, line: str | None = None) -> dict[str, Any]:
        """Send a line, if there is one, and return the answer; PeerFailed if it has none."""
        with contextlib.suppress(BrokenPipeError):  # why it has ended stands in its log
            if line is not None:
                print(line, file=self.process.stdin, flush=True)
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
        """Take so many optimiser steps; return the input images per second."""
        answer = self.ask(f"train {steps}")
        return answer["images"] / answer["seconds"]

    def validation_rmse(self, epochs: int) -> float:
        """Train anew for whole epochs; return ``networks.validation_rmse``."""
        with contextlib.closing(Worker(self.name, self.config, self.python, epochs)) as anew:
            return anew.ask()["rmse"]

    def peak_memory(self) -> int:
        """Return the bytes that the process held at most so far."""
        return self.ask("memory")["bytes"]

    def close(self) -> None:
        """End the process."""
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout, self.log):
            with contextlib.suppress(BrokenPipeError):
                pipe.close()


def check_same(config: RunConfig, answer: dict[str, Any]) -> None:
    """Raise PeerFailed unless a peer's untrained network, by its ``answer``, is this project's."""
    count, image = untrained(config)
    if answer["parameters"] != count:
        raise PeerFailed(f"its network has {answer['parameters']:,} parameters, ours {count:,}")
    theirs = answer["image"]
    off = max((abs(a - b) for a, b in zip(image, theirs, strict=False)), default=1.0)
    if len(theirs) != len(image) or not off <= SAME_GREY:
        raise PeerFailed(f"from the same weights its network draws another picture, {off:.3f} off")
