"""Print the tables in RESULTS.md: of the runs kept in ``runs/``, adders that count, and reports.

``python tools/results.py``; a test compares what it prints with that file.
"""

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from learn2add.evidence import kept_seeds
from learn2add.runs import Run, load
from learn2add.studies.figures import low_to_high

RUNS = Path(__file__).parents[1] / "runs"
HEAD = ("run", "trained", "minutes", "RMSE", "right sums", "worst cell")


def training(run: Run) -> str:
    """Return how it was trained, in a few words."""
    stages = run.config.stages
    stage, epochs = stages[-1], sum(stage.epochs for stage in stages)
    what = {"autoencoder": "pictures", "addition": "fresh pairs"}[stage.task]
    seen = f" of {stage.steps * stage.batch_size:,} {what}" if stage.steps else ""
    word = "epoch" if epochs == 1 else "epochs"
    length = f"{epochs} {word}{seen}" if len(stages) == 1 else f"{len(stages)} stages"
    optimiser = {"adam": "Adam", "muon": "Muon"}[stage.optimiser]
    rate = f"at {stage.learning_rate:g}" if stage.schedule == "constant" else "one cycle"
    return f"{length}, {optimiser}, {rate}"


def row(folder: Path) -> tuple[str, ...]:
    """Return the cells of one run."""
    run = load(folder)
    found, original = run.evaluation(), run.result.get("same_as")
    cells = [f"`{folder.relative_to(RUNS).as_posix()}`"]
    if original is None:
        cells += [training(run), f"{run.result['seconds'] / 60:.0f}"]
    else:
        cells += [f"a copy: the same function as `{original}`", ""]
    cells.append(f"{found['rmse']:.4f}")
    if "cells_mean" not in found:
        return (*cells, "", "")
    digit, addend = found["cells_worst_cell"]
    return (
        *cells,
        f"{100 * found['cells_mean']:.2f} %",
        f"{100 * found['cells_worst']:.2f} % ({digit} + {addend})",
    )


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return rows of cells as a table in Markdown."""
    rows = head, ("---",) * len(head), *rows
    return "\n".join("| " + " | ".join(cells) + " |" for cells in rows)


def table(root: Path = RUNS) -> str:
    """Return the table as Markdown, a row for each kept run that has been measured."""
    folders = sorted(file.parent for file in root.glob("part*/*/evaluation.json"))
    return markdown(HEAD, map(row, folders))


ADDERS = {"assigned": "assigned adder", "small": "counts, as few weights"}
ADDERS |= {"counting": "counts", "matrix": "one matrix"}
JOINT = {"hand": "counts, similar targets, ten cells held out", "one": "the same, taught +0 and +1"}
HAND = ("slant", "thickness", "width", "variety")


def counting_table() -> str:
    """Return the means of three seeds in ``runs/part3/counting`` as Markdown."""
    found = kept_seeds(RUNS / "part3" / "counting")
    names = {
        f"adders-{rule}-{kind}": f"{title}, {kind} targets"
        for kind in ("random", "similar")
        for rule, title in ADDERS.items()
        if (rule, kind) != ("small", "similar")
    }
    head, rows = ("", "taught", "worst cell", "never taught", *HAND, "sharpness"), []
    for row, title in (names | {f"joint-{n}": t for n, t in JOINT.items()}).items():
        seeds, joint = found[row], "hand_" * row.startswith("joint")
        shares = [f"{100 * seeds[k].mean():.1f} %" for k in ("taught", "taught_worst", "held_out")]
        kept = [f"{seeds[joint + key].mean():.2f}" for key in HAND]
        rows.append((title, *shares, *kept, f"{seeds['sharpness'].mean():.2f}"))
    return markdown(head, rows)


CLEAN, NOISY = ("test", 0), ("test, noise 0.2", 2)
"""Where a narrow run has its figure, and where a wide one."""
REPORTS = {
    "002: ten numbers, clean": ("0.016", "002", "grid-winner", "code10", "code10", *CLEAN),
    "003: four numbers, clean": ("0.02995", "003", "draws-winner", "code4", "code4-noise", *CLEAN),
    "003: four numbers, noise of 0.2": (
        *("0.0305", "003-noise", "", "code4-noise", "code4-noise"),
        *NOISY,
    ),
}
"""What is measured: the report's figure, three runs beside it, the wide one, and where."""


def reports_table() -> str:
    """Return what reports 002 and 003 tell beside what was found here, as Markdown."""
    found = json.loads((RUNS / "narrow" / "figures.json").read_text())
    wide = json.loads((RUNS / "part2" / "long_codes" / "figures.json").read_text())["runs"]
    head = ("squared error", "the report", "its run, repeated", "the winner of its search")
    head = (*head, "its network, our recipe", "a network forty times as wide")
    rows = []
    for title, (told, *runs, name, key, strength) in REPORTS.items():
        cells = [told]
        for run in runs:
            seeds = [
                row[key] for file, row in found.items() if re.fullmatch(rf"{run}(-seed\d+)?", file)
            ]
            cells.append(low_to_high(seeds, ".4f") if seeds else "")
        rows.append((title, *cells, f"{wide[name]['test']['mse'][strength]:.4f}"))
    return markdown(head, rows)


DECODERS = {
    "points (AD)": ("0.06; 0.16", "report-point", "bound-point", "bound-encoder"),
    "Gaussian (VAD)": ("", "report-gaussian", "bound-gaussian", "bound-gaussian-encoder"),
    "Gaussian, fitted further": ("0.116; 0.22", "report-gaussian", "bound-gaussian-wide"),
    "exponential": ("", "report-exponential", "bound-exponential"),
    "uniform": ("", "report-uniform", "bound-uniform"),
}
"""What report 004 tells of each kind of code, and the models beside it."""


def decoders_table() -> str:
    """Return what report 004 tells beside what was found here, as Markdown."""
    found = kept_seeds(RUNS / "auto_decoders")
    rows = []
    for title, (told, *names) in DECODERS.items():
        parts = "further" if "further" in title else "train", "test"
        cells = [
            "; ".join(low_to_high(row["report"] for row in found[name][part]) for part in parts)
            for name in names
        ]
        rows.append((title, told, *cells, *[""] * (3 - len(cells))))
    head = ("training; test images", "the report", "its run, repeated", "one objective")
    return markdown((*head, "the same, with an encoder"), rows)


if __name__ == "__main__":
    print("\n\n".join(make() for make in (table, counting_table, reports_table, decoders_table)))
