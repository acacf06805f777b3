"""Try accidents by the hundred, and count what comes out: ``python -m tools.campaign``.

``photographs``: photographs of test digits in each kind that a phone takes; how many are read
rightly, refused, read with a warning, or wrongly without a word (allowed: 1 %). ``flips``: a bit at
a random place of each file of a run that is complete; how many are noticed. ``kills``: SIGKILL at a
random moment of a training, then the same training again; how many end in the same bytes.
``disks``: the same on a full disk and in a folder without rights. ``inputs``: bad values for
fields, options and functions. Status 1 if more was silently wrong or lost.
"""

import argparse
import functools
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from tqdm import tqdm

from learn2add.checkpoints import CheckpointError
from learn2add.config import RunConfig, Stage
from learn2add.data import as_float, load_digits
from learn2add.drawing.photo import read_digit
from learn2add.drawing.sums import SURE
from learn2add.judge import load_judge
from learn2add.runs import RunError, load, load_or_train
from tools.campaign.disks import disks
from tools.campaign.inputs import inputs
from tools.campaign.photographs import KINDS, photograph, several_digits

SMALL = RunConfig((Stage("autoencoder", 3, 4, 32),), train_size=200, validation_size=100)
ADDING = RunConfig(
    (Stage("addition", 2, 3, 32, balance="cells"),), "addition", train_size=200, validation_size=100
)
FILES = ("weights.safetensors", "config.json", "metrics.csv", "result.json")


def photographs(count: int, folder: Path) -> dict[str, Counter]:
    """Read ``count`` photographs, the kinds in turn, and as many of several digits by the way."""
    digits, judge, file = load_digits(split="test"), load_judge(), folder / "photo.jpg"
    found = {name: Counter() for name in (*KINDS, "several digits")}
    names = [list(found)[i % len(found)] for i in range(count)]
    for number, name in enumerate(tqdm(names, unit=" photographs")):
        at = (37 * number) % (len(digits) - 3)
        right = int(digits.labels[at])
        if name in KINDS:
            content = photograph(digits.images[at].numpy(), name, number)
        else:
            content, right = several_digits(digits.images[at : at + 2].numpy(), number), -1
        file.write_bytes(content)
        try:
            read = judge.read(as_float(read_digit(file)[None]))[0]
        except ValueError:
            found[name]["refused"] += 1
            continue
        kind = "right" if int(read.argmax()) == right else "wrong"
        found[name][kind if read.max() >= SURE else f"{kind}, warned"] += 1
    return found


def flips(count: int, folder: Path) -> dict[str, Counter]:
    """Flip ``count`` bits, one at a time, and load the run and its model."""
    load_or_train(SMALL, folder / "run", progress=False)
    rng, found = random.Random(0), {name: Counter() for name in FILES}
    whole = load(folder / "run")
    state = whole.model("cpu").state_dict()
    for number in tqdm(range(count), unit=" flips"):
        name = list(found)[number % len(found)]
        file = folder / "run" / name
        content = file.read_bytes()
        broken = bytearray(content)
        broken[rng.randrange(len(broken))] ^= 1 << rng.randrange(8)
        file.write_bytes(broken)
        try:
            run = load(folder / "run")
            same = all(torch.equal(a, state[n]) for n, a in run.model("cpu").state_dict().items())
            books = (run.config, run.history, run.result)
            same = same and books == (whole.config, whole.history, whole.result)
            found[name]["harmless" if same else "wrong"] += 1
        except (CheckpointError, RunError):
            found[name]["refused"] += 1
        file.write_bytes(content)
    return found


def kills(count: int, folder: Path) -> dict[str, Counter]:
    """Train ``count`` times, killed at a random moment and resumed until it ends."""
    found, rng = {}, random.Random(0)
    for name, config in (("autoencoder", SMALL), ("addition", ADDING)):
        times = []
        for run in (folder / f"{name}-whole", folder / f"{name}-timed"):
            began = time.monotonic()
            load_or_train(config, run, progress=False)
            times.append(time.monotonic() - began)
        wanted, found[name] = (run / "weights.safetensors").read_bytes(), Counter()
        for number in tqdm(range(count // 2), unit=" kills"):
            run = folder / f"{name}-{number}"
            begin = functools.partial(load_or_train, config, run, progress=False)
            killed = _killed_after(rng.uniform(0, times[-1]), begin)
            begin()
            same = (run / "weights.safetensors").read_bytes() == wanted
            left = [file for file in run.glob(".*") if file.name != ".lock"]
            verdict = ("right" if same else "wrong") + ("" if killed else ", ended before")
            found[name][verdict + (", half a file left" if left else "")] += 1
            shutil.rmtree(run)
    return found


def _killed_after(seconds: float, function: Callable[[], object]) -> bool:
    """Run a function in a fork that is killed after so long; whether it was still running."""
    child = os.fork()
    if child == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        function()
        os._exit(0)
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != 0


ALLOWED = {"photographs": 0.01}
CAMPAIGNS = {
    "photographs": (photographs, 1160),
    "flips": (flips, 500),
    "kills": (kills, 100),
    "disks": (functools.partial(disks, configs={"autoencoder": SMALL, "addition": ADDING}), 60),
    "inputs": (inputs, 1000),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Try, count, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", nargs="*", default=list(CAMPAIGNS), help=", ".join(CAMPAIGNS))
    parser.add_argument("--count", type=int, help="of each; default: 1160, 500, 100, 60, 1000")
    arguments = parser.parse_args(argv)
    if odd := [name for name in arguments.what if name not in CAMPAIGNS]:
        parser.error(f"what is {odd[0]!r}; allowed is {', '.join(CAMPAIGNS)}")
    if arguments.count is not None and arguments.count < 1:
        parser.error(f"--count is {arguments.count}; allowed is 1 or more")
    failed = False
    for name in arguments.what:
        campaign, usual = CAMPAIGNS[name]
        with tempfile.TemporaryDirectory() as folder:
            found = campaign(arguments.count or usual, Path(folder))
        print(f"\n{name}: {sum(map(Counter.total, found.values())):,}")
        for kind, counted in found.items():
            told = ", ".join(f"{n} {verdict}" for verdict, n in sorted(counted.items()))
            print(f"  {kind:<26}{told}")
        total, lost = (sum(c[k] if k else c.total() for c in found.values()) for k in ("", "wrong"))
        print(f"  silently wrong or lost: {lost} of {total:,}")
        failed |= lost > ALLOWED.get(name, 0) * total
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
