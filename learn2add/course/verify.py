"""Is it the same on this machine? The kept runs measured again, figure by figure.

``learn2add verify`` is first aid: it tells a broken installation from a bad idea.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from tqdm import tqdm

from learn2add import runs
from learn2add.evidence import evaluate, kept_seeds
from learn2add.hardware import default_device, describe
from learn2add.runs import Run, kept_file

LOOSE = dict.fromkeys(("misread", "misadded", "misdrawn"), 0.02)
LOOSE |= dict.fromkeys(("frechet", "frechet_at_mean", "density"), 0.02)
"""How far a figure may lie off where no seeds tell: shares of a few hundred wrong sums are coarse,
a Fréchet distance and a density are none at all. Others: 0.002, in grey levels or as a share."""


class Compared(NamedTuple):
    """One figure of a run."""

    figure: str
    kept: float
    here: float
    verdict: str
    """"equal" to the last bit; "within" what five seeds differ by; or "different"."""


def verify(names: Sequence[str] = ()) -> int:
    """Measure runs again and print what came out; return how many figures are different.

    Raises:
        ValueError: A run came without figures or without weights.
        RunError: There is no such run.
    """
    loaded = [checked(name) for name in names or kept_names()]
    device, different = default_device(), 0
    print("This machine: " + ", ".join(f"{key} {value}" for key, value in describe().items()))
    for run in tqdm(loaded, unit=" runs", leave=False):
        rows = list(compared(run, evaluate(run, "test", device)))
        count = {word: sum(row.verdict == word for row in rows) for word in WORDS}
        said = ", ".join(f"{number} {word}" for word, number in count.items())
        tqdm.write(f"{run.folder.parent.name}/{run.folder.name}: {said}")
        for row in rows:
            if row.verdict == "different":
                tqdm.write(f"  {row.figure}: kept {row.kept:.4f}, here {row.here:.4f}")
        different += count["different"]
    same = "The same, or as near as two seeds of one recipe are."
    print(f"{different} figures are different here." if different else same)
    return different


WORDS = ("equal", "within", "different")


def kept_names() -> list[str]:
    """Return the runs that came with figures and weights, by name."""
    home = kept_file("part3")
    files = sorted(home.parent.glob("*/*/evaluation.json")) if home else []
    folders = [file.parent for file in files if (file.parent / "weights.safetensors").exists()]
    return [f"{folder.parent.name}/{folder.name}" for folder in folders]


def checked(name: str) -> Run:
    """Return a run that can be measured and compared."""
    run = runs.load(name)
    if not all((run.folder / file).exists() for file in ("evaluation.json", "weights.safetensors")):
        raise ValueError(f"runs holds {name}, without figures or weights; allowed: {kept_names()}")
    return run


def compared(run: Run, here: dict) -> Iterator[Compared]:
    """Yield each figure kept with a run beside what was measured here."""
    config = run.config
    seeds = kept_seeds().get(config.model if config.adds else config.decoder, {})
    for figure, kept in run.evaluation().items():
        if isinstance(kept, float):
            off = abs(here[figure] - kept)
            spread = float(seeds[figure].max() - seeds[figure].min()) if figure in seeds else 0.0
            near = off <= max(spread, LOOSE.get(figure, 0.002))
            verdict = "equal" if off == 0 else "within" if near else "different"
            yield Compared(figure, kept, here[figure], verdict)
