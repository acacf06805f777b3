"""Print the table in RESULTS.md of the runs kept in ``runs/``.

``python tools/results.py``; a test compares what it prints with that file.
"""

from pathlib import Path

from learn2add.runs import Run, load

RUNS = Path(__file__).parents[1] / "runs"
HEAD = ("run", "trained", "minutes", "RMSE", "right sums", "worst cell")


def training(run: Run) -> str:
    """Return how it was trained, in a few words."""
    stages = run.config.stages
    stage, epochs = stages[-1], sum(stage.epochs for stage in stages)
    what = {"autoencoder": "pictures", "addition": "fresh pairs"}[stage.task]
    seen = f" of {stage.steps * stage.batch_size:,} {what}" if stage.steps else ""
    length = f"{epochs} epochs{seen}" if len(stages) == 1 else f"{len(stages)} stages"
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


def table(root: Path = RUNS) -> str:
    """Return the table as Markdown, a row for each kept run that has been measured."""
    folders = sorted(file.parent for file in root.glob("part*/*/evaluation.json"))
    rows = [HEAD, ("---",) * len(HEAD), *map(row, folders)]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in rows)


if __name__ == "__main__":
    print(table())
