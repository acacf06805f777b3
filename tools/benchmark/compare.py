"""The comparison: contenders train in turns, and what each reached stands beside the others.

A contender of this environment that fails ends the comparison; a peer that fails is left out of it
and named, with its reason.
"""

import sys
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from pathlib import Path
from statistics import median
from typing import NamedTuple, TypeVar

from learn2add.checks import check_choice, check_int
from learn2add.hardware import describe
from tools.benchmark.contenders import CONTENDERS, RECIPE, USUAL, config_of, contenders_for
from tools.benchmark.machine import matmul_rate
from tools.benchmark.networks import benchmark_config, flops_per_image
from tools.benchmark.peers import PEERS, PeerFailed, Worker, environment

T = TypeVar("T")
WARM_UP = 5
"""Steps before the clock starts: first calls choose kernels and touch fresh memory."""

HEAD = (
    f"{'':21}{'images/s':>9}{'lowest to highest':>19}{'ratio':>7}{'GFLOP/s':>9}{'of matmul':>11}"
    f"{'peak MB':>9}"
)
NOTES = (
    "images/s: input pictures, median of the turns; ratio: to the usual loop in the same turn",
    "of matmul: share of the matrix product's rate in the trainer's precision; the operations are",
    "those of the network as learn2add computes it, counted by torch, the same for all peers",
)


class Speed(NamedTuple):
    """What one contender reached."""

    name: str
    images_per_second: list[float]
    """Input images per second, one number for each turn."""
    ratio: float
    """Median over the turns of its speed relative to the usual loop's in the same turn."""
    flops: float
    """Floating-point operations per input image, forward and backward."""
    precision: str = "float32"
    """In which most of them are done."""
    memory: int = 0
    """Bytes that its process held at most; 0 where the system does not tell."""
    rmse: float | None = None
    """Validation RMSE after equal epochs, in grey levels, where it was asked for."""
    library: str = ""
    """Of a peer: name and version."""


class Comparison(NamedTuple):
    """What all contenders reached with one network."""

    network: str
    batch_size: int
    speeds: list[Speed]
    """The usual loop's, then the others'."""
    missing: dict[str, str]
    """Peers that could not take part, each with its reason in one line."""


class Field:
    """The contenders that still take part, each in its process, and why the others do not."""

    def __init__(self) -> None:
        self.workers: dict[str, Worker] = {}
        self.missing: dict[str, str] = {}

    def ask(self, names: Iterable[str], question: Callable[[str], T]) -> dict[str, T]:
        """Return each one's answer in turn; a peer that fails is out."""
        answers = {}
        for name in list(names):
            try:
                answers[name] = question(name)
            except PeerFailed as error:
                if name in CONTENDERS:
                    raise
                self.missing[name] = str(error)
                if worker := self.workers.pop(name, None):
                    worker.close()
        return answers

    def ask_all(self, question: Callable[[Worker], T]) -> dict[str, T]:
        """Return the answers of those who still take part."""
        return self.ask(self.workers, lambda name: question(self.workers[name]))


def compare(
    network: str = "conv_transpose",
    *,
    batch_size: int = 128,
    steps: int = 30,
    repeats: int = 7,
    epochs: int = 0,
    peers: Sequence[str] = (),
    folder: Path = Path("build/peers"),
    say: Callable[[str], None] = lambda line: None,
) -> Comparison:
    """Let the contenders train in turns, each ``repeats`` times for so many steps.

    Args:
        network: One of ``NETWORKS``.
        batch_size: Input images per step; for ``addition`` rounded up to tens.
        steps: Steps per turn.
        repeats: Turns of each contender.
        epochs: If above 0, each also trains from scratch for so many, for the validation RMSE.
        peers: Libraries to compare with, of ``PEERS``; each gets an environment in ``folder``.
        folder: Where these lie.
        say: Is told what happens.

    Raises:
        TypeError, ValueError: A number is not an integer, or out of range; another network or peer.
    """
    config = benchmark_config(network, batch_size)
    for name, value, low in (("steps", steps, 1), ("repeats", repeats, 1), ("epochs", epochs, 0)):
        check_int(name, value, low, 10_000)
    for name in peers:
        check_choice("peers", name, tuple(PEERS))
    field = Field()

    def start(name: str) -> None:
        if config.adds and name in PEERS and not PEERS[name].adds:
            raise PeerFailed("none of its models holds an adder")
        python = environment(name, folder, say) if name in PEERS else sys.executable
        field.workers[name] = Worker(name, config, python)

    try:
        field.ask([*contenders_for(config), *dict.fromkeys(peers)], start)
        field.ask_all(lambda worker: worker.images_per_second(WARM_UP))
        turns: list[dict[str, float]] = []
        for repeat in range(repeats):
            turns.append(field.ask_all(lambda worker: worker.images_per_second(steps)))
            row = ", ".join(f"{name} {speed:,.0f}" for name, speed in turns[-1].items())
            say(f"{network}, turn {repeat + 1} of {repeats}, images/s: {row}")
        memory = field.ask_all(lambda worker: worker.peak_memory())
        errors = field.ask_all(lambda worker: worker.validation_rmse(epochs)) if epochs else {}
    finally:
        for worker in field.workers.values():
            worker.close()
    speeds = []
    for name, worker in field.workers.items():
        own = config_of(name if name in CONTENDERS else USUAL, config)
        ratio = median(turn[name] / turn[USUAL] for turn in turns)
        library = worker.library if name in PEERS else ""
        measured = (own.precision, memory[name], errors.get(name), library)
        reached = [turn[name] for turn in turns]
        speeds.append(Speed(name, reached, ratio, flops_per_image(own), *measured))
    return Comparison(network, config.stages[0].batch_size, speeds, field.missing)


def table(comparisons: list[Comparison], epochs: int) -> str:
    """Lay the results out for reading; ``epochs`` as given to ``compare``."""
    rate = cache(matmul_rate)
    machine = describe()
    speeds = [speed for comparison in comparisons for speed in comparison.speeds]
    precisions = sorted({speed.precision for speed in speeds}, reverse=True)
    products = ", ".join(f"{rate(name):,.0f} GFLOP/s in {name}" for name in precisions)
    lines = [
        "The same network trained in different loops: code 7, L2, Adam 0.001",
        f"{machine['device']}, {machine['threads']} threads, torch {machine['torch']}; "
        f"matrix product {products}",
        "",
        HEAD + (f"{'RMSE':>9}" if epochs else ""),
    ]
    for found in comparisons:
        flops = found.speeds[0].flops
        lines.append(
            f"{found.network}, batch {found.batch_size}, {flops / 1e6:.0f} MFLOP a picture"
        )
        lines += [_row(speed, rate(speed.precision)) for speed in found.speeds]
        lines += [f"  {name:19}missing: {why}" for name, why in found.missing.items()]
    return "\n".join([*lines, "", *_notes(comparisons, epochs)])


def _row(speed: Speed, rate: float) -> str:
    middle = median(speed.images_per_second)
    low, high = min(speed.images_per_second), max(speed.images_per_second)
    gflops = middle * speed.flops / 1e9
    line = f"  {speed.name:19}{middle:9,.0f}{f'{low:,.0f} to {high:,.0f}':>19}{speed.ratio:7.2f}"
    line += f"{gflops:9,.0f}{100 * gflops / rate:9.1f} %{speed.memory / 1e6:9,.0f}"
    return line + (f"{speed.rmse:9.4f}" if speed.rmse is not None else "")


def _notes(comparisons: list[Comparison], epochs: int) -> list[str]:
    notes = list(NOTES)
    speeds = [speed for found in comparisons for speed in found.speeds]
    if libraries := sorted({speed.library for speed in speeds if speed.library}):
        notes.append(f"peers, float32, each in its own environment: {', '.join(libraries)}")
    recipes = [speed for speed in speeds if speed.name == RECIPE]
    if recipes:
        notes += [
            f"{RECIPE}: a step compares each input picture with all its partners in the batch and",
            f"reconstructs one in four: {recipes[0].flops / 1e6:.0f} MFLOP a picture; the others "
            "take a second picture for each",
        ]
    if epochs:
        notes.append(
            f"RMSE: on validation pictures after {epochs} epochs from the same weights, in grey "
            "levels (0 to 1); of the addition model that of the sum's picture"
        )
    return notes
