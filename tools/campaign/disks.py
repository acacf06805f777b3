"""Trainings on a disk that fills up, or in a folder that may not be written to."""

import errno
import os
import random
import shutil
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from tqdm import tqdm

from learn2add.config import RunConfig
from learn2add.runs import load_or_train

NOBODY = 65534


def disks(count: int, folder: Path, configs: dict[str, RunConfig]) -> dict[str, Counter]:
    """Train ``count`` times while writing fails, then once more while it works.

    A file may grow to a random size and no further, as on a disk that is full; or, where the
    process may give up its rights, the folder is not its own. Right is: one OSError that names the
    file, nothing half-written, and afterwards the bytes of a training that nothing disturbed.
    """
    import resource

    rng, found = random.Random(0), {}
    for name, config in configs.items():
        whole = folder / f"{name}-whole"
        load_or_train(config, whole, progress=False)
        wanted = (whole / "weights.safetensors").read_bytes()
        largest = max(file.stat().st_size for file in whole.iterdir())
        for kind in ("full disk", "no rights")[: 1 if os.geteuid() else 2]:
            found[f"{name}, {kind}"] = counted = Counter()
            for number in tqdm(range(count // 4), unit=" disks"):
                run, size = folder / f"{name}-{number}", rng.randrange(largest)

                def spoil(run: Path = run, size: int = size, kind: str = kind) -> None:
                    if kind == "full disk":
                        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
                        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
                    else:
                        run.mkdir(mode=0o755)
                        os.setuid(NOBODY)

                said = _said(spoil, config, run)
                left = [file for file in run.glob(".*") if file.name != ".lock"]
                load_or_train(config, run, progress=False)
                same = (run / "weights.safetensors").read_bytes() == wanted
                verdict = "right" if same and not left and said else "wrong"
                counted[verdict + ("" if said != "ended" else ", had room")] += 1
                shutil.rmtree(run)
    return found


def _said(spoil: Callable[[], None], config: RunConfig, run: Path) -> str:
    """Train in a fork after ``spoil``; "error" for one that names a file, "ended", or nothing."""
    child = os.fork()
    if child:
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        return {0: "ended", 3: "error"}.get(code, "")
    code = 4
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        spoil()
        load_or_train(config, run, progress=False)
        code = 0
    except OSError as error:
        known = {errno.EFBIG, errno.ENOSPC, errno.EACCES, errno.EPERM}
        cause = error.__cause__ or error
        code = 3 if run.name in str(error) and getattr(cause, "errno", None) in known else 4
    finally:
        os._exit(code)
