"""The comparison itself: contenders train in turns, and what each reached is put beside the others.

A contender of this environment that fails ends the comparison; a peer that fails is left out of it
and named, with its reason.
"""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median
from typing import TypeVar

from learn2add.benchmark.contenders import CONTENDERS, USUAL, config_of, contenders_for
from learn2add.benchmark.networks import benchmark_config, flops_per_image
from learn2add.benchmark.peers import PEERS, PeerFailed, PeerWorker, environment
from learn2add.benchmark.workers import LocalWorker, Worker
from learn2add.checks import check_choice, check_int
from learn2add.configs import RunConfig

T = TypeVar("T")
WARM_UP = 5
"""Steps before the clock starts: first calls choose kernels and touch fresh memory."""
PEERS_FOLDER = Path("build/peers")
"""Where peers' environments are made, in the working directory."""


@dataclass(frozen=True)
class Speed:
    """What one contender reached."""

    name: str
    images_per_second: list[float]
    """Input pictures per second, one figure per repeat."""
    ratio: float
    """Median over the repeats of its speed relative to the usual loop's in the same repeat."""
    flops: float
    """Floating-point operations per input picture, forward and backward."""
    precision: str = "float32"
    """In which most of them are done."""
    memory: int = 0
    """Bytes that its process held at most; 0 where the system does not tell."""
    rmse: float | None = None
    """Validation RMSE after equal epochs, in grey levels, where it was asked for."""


@dataclass(frozen=True)
class Comparison:
    """What all contenders reached with one network."""

    network: str
    batch_size: int
    speeds: list[Speed]
    """The usual loop's, then the others'."""
    missing: dict[str, str] = field(default_factory=dict)
    """Peers that could not take part, each with its reason in one line."""
    libraries: dict[str, str] = field(default_factory=dict)
    """Those that did, each with its version."""


class Field:
    """Those who still take part, and those who do not, with reasons."""

    def __init__(self) -> None:
        self.workers: dict[str, Worker] = {}
        self.missing: dict[str, str] = {}

    def enter(self, name: str, start: Callable[[], Worker]) -> None:
        """Let one in, if it starts."""
        try:
            self.workers[name] = start()
        except PeerFailed as error:
            self.missing[name] = str(error)

    def ask(self, question: Callable[[Worker], T]) -> dict[str, T]:
        """Each one's answer in turn; who fails is out."""
        answers = {}
        for name, worker in list(self.workers.items()):
            try:
                answers[name] = question(worker)
            except PeerFailed as error:
                self.missing[name] = str(error)
                self.workers.pop(name).close()
        return answers

    def close(self) -> None:
        """End all processes."""
        for worker in self.workers.values():
            worker.close()


def compare(
    network: str = "conv_transpose",
    *,
    batch_size: int = 128,
    steps: int = 30,
    repeats: int = 7,
    epochs: int = 0,
    peers: Sequence[str] = (),
    folder: Path = PEERS_FOLDER,
    say: Callable[[str], None] = lambda line: None,
) -> Comparison:
    """Let the contenders train in turns.

    Args:
        network: One of :data:`learn2add.benchmark.networks.NETWORKS`.
        batch_size: Input pictures per step; for ``addition`` rounded up to tens.
        steps: Steps per turn.
        repeats: Turns of each contender.
        epochs: If above 0, also train each from scratch for so many epochs and take the validation
            RMSE; see :func:`learn2add.benchmark.networks.validation_rmse`.
        peers: Libraries to compare with, of :data:`learn2add.benchmark.peers.PEERS`; each gets an
            environment, which is made if it is not there.
        folder: Where these lie.
        say: Is told what happens.

    Returns:
        All speeds, and the peers that are missing.

    Raises:
        TypeError, ValueError: A number is not an integer, or out of range; another network or peer.
    """
    config = benchmark_config(network, batch_size)
    for name, value, low in (("steps", steps, 1), ("repeats", repeats, 1), ("epochs", epochs, 0)):
        check_int(name, value, low, 10_000)
    for name in peers:
        check_choice("peers", name, tuple(PEERS))
    with ExitStack() as stack:
        found = Field()
        stack.callback(found.close)
        for name in contenders_for(config):
            found.enter(name, partial(LocalWorker, name, config))
        for name in dict.fromkeys(peers):
            found.enter(name, partial(start_peer, name, config, folder, say))
        found.ask(lambda worker: worker.images_per_second(WARM_UP))
        turns: list[dict[str, float]] = []
        for repeat in range(repeats):
            turns.append(found.ask(lambda worker: worker.images_per_second(steps)))
            row = ", ".join(f"{name} {speed:,.0f}" for name, speed in turns[-1].items())
            say(f"{network}, turn {repeat + 1} of {repeats}, images/s: {row}")
        memory = found.ask(lambda worker: worker.peak_memory())
        errors = found.ask(lambda worker: worker.validation_rmse(epochs)) if epochs else {}
        speeds = [
            speed_of(name, config, turns, memory[name], errors.get(name)) for name in found.workers
        ]
        workers = found.workers.items()
        libraries = {name: w.library for name, w in workers if isinstance(w, PeerWorker)}
    return Comparison(network, config.stages[0].batch_size, speeds, found.missing, libraries)


def start_peer(
    name: str, config: RunConfig, folder: Path, say: Callable[[str], None]
) -> PeerWorker:
    """A peer's process, in its environment.

    Raises:
        PeerFailed: It cannot be installed, does not start, or has no such network.
    """
    if config.kind.adder and not PEERS[name].adds:
        raise PeerFailed("none of its models holds an adder")
    return PeerWorker(name, config, environment(name, folder, say))


def speed_of(
    name: str,
    config: RunConfig,
    turns: list[dict[str, float]],
    memory: int,
    error: float | None,
) -> Speed:
    """One contender's figures, from all turns."""
    own = config_of(name if name in CONTENDERS else USUAL, config)
    ratio = median(turn[name] / turn[USUAL] for turn in turns)
    speeds = [turn[name] for turn in turns]
    return Speed(name, speeds, ratio, flops_per_image(own), own.precision, memory, error)
