"""Print the main figures of the runs that the notebooks show: how ``make run`` ends."""

import math
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from learn2add import recipes
from learn2add.evidence import sampled_sums, turn_of_sevens
from learn2add.hardware import default_device, default_precision, describe
from learn2add.judge import judge_of
from learn2add.measures import floors, judge_sums, reconstruction_rmse, summarise
from learn2add.runs import Run, digits_of, load, runs_root
from tools import reference
from tools.benchmark.machine import matmul_rate

FEW = 5000
"""Test digits that measure a run without kept figures; two trainings differ by more than that."""


def runs_of(part: str, budget: str) -> dict[str, Run]:
    """Return the complete runs of a part, by name; of "reference" also those that are kept."""
    if budget == "reference":
        folders = [run.folder for run in reference.plan() if run.name.startswith(f"{part}/")]
    else:
        folders = sorted((runs_root() / recipes.place(part, "any", budget)).parent.glob("*"))
    complete = (folder for folder in folders if (folder / "result.json").exists())
    return {folder.name: load(folder) for folder in complete}


def part2(runs: dict[str, Run]) -> list[str]:
    """Return the test RMSE of each run, laid out by decoder, code size and loss."""
    device = default_device()
    found: dict[tuple[str, str], str] = {}
    for run in runs.values():
        config = run.config
        column = f"code {config.code_size} {config.stages[-1].loss.upper()}"
        if (known := run.evaluation()) is not None:
            error = f"{known['rmse']:.4f}"
        else:
            digits = digits_of(config, "test").to(device)
            error = f"{reconstruction_rmse(run.model(device), digits):.4f}"
        before = found.get((config.decoder, column))
        found[config.decoder, column] = f"{before}, {error}" if before else error
    columns = sorted({column for _, column in found}, key=lambda c: (int(c.split()[1]), c[-2:]))
    lines = [f"{'decoder':16}" + "".join(f"{column:>14}" for column in columns)]
    for decoder in dict.fromkeys(decoder for decoder, _ in found):
        cells = (found.get((decoder, column), "") for column in columns)
        lines.append(f"{decoder:16}" + "".join(f"{cell:>14}" for cell in cells))
    return lines


def measure(run: Run) -> dict[str, Any]:
    """Measure the same of a model that adds, now, on :data:`FEW` digits."""
    device = default_device()
    test, judge = digits_of(run.config, "test", FEW).to(device), judge_of(run.config, device)
    model = run.model(device)
    found = summarise(judge_sums(model, judge, test), test) | floors(test)
    found["rmse"] = reconstruction_rmse(model, test)
    if run.config.variational:
        [sampled], turn = sampled_sums(model, judge, test), turn_of_sevens(model, judge, test)[0]
        found |= {"sampled_cells_mean": sampled.accuracy, "diversity_ratio": sampled.diversity}
        found["u50"] = turn.u50
    return found


def sums(runs: dict[str, Run]) -> list[str]:
    """Return right sums and errors of each run on the test digits; samples where it has any."""
    lines = [f"{'run':44}{'mean of 55 cells':>16}{'worst cell':>18}{'RMSE':>9}{'sum MSE':>9}"]
    for name, run in runs.items():
        known = run.evaluation()
        found, on = known or measure(run), "" if known else f"; {FEW:,} digits"
        digit, addend = found["cells_worst_cell"]
        mean = f"{100 * found['cells_mean']:.2f} %"
        worst = f"{100 * found['cells_worst']:.2f} % ({digit} + {addend})"
        lines.append(
            f"{name:44}{mean:>16}{worst:>18}{found['rmse']:9.4f}"
            f"{found['sum_mse']:9.4f}   (floors {found['floor_class_mean']:.4f}, "
            f"{found['floor_one_mean']:.4f}{on})"
        )
        if run.config.variational:
            turn = found["u50"]
            at = "nowhere" if turn is None or math.isnan(turn) else f"at 7 + {turn:.3f}"
            lines.append(
                f"{'':6}sampled: {100 * found['sampled_cells_mean']:.2f} % right, variety "
                f"{found['diversity_ratio']:.3f} of real digits'; turns from 8 to 9 {at}"
            )
    return lines


def figures_of(budget: str) -> list[str]:
    """Return the figures of all parts under one budget, or of what was trained "live"."""
    meaning = recipes.MEANING | {"live": "trained now, while the notebooks were executed"}
    lines = [f"Main figures, {budget}: {meaning[budget]}"]
    for part, title, layout in (
        ("part2", "Part II: RMSE of reconstruction, test digits, grey levels 0 to 1", part2),
        ("part3", "Part III: right sums as the judge reads them, test digits", sums),
        ("part4", "Part IV: the same with distributions, drawn at their means", sums),
    ):
        if runs := runs_of(part, budget):
            trained = [run.result for run in runs.values() if "same_as" not in run.result]
            seconds = sum(result["seconds"] for result in trained)
            lines += ["", f"{title} ({len(trained)} trained in {seconds:.0f} s)", *layout(runs)]
    return lines


def main() -> None:
    """Print the table: of the kept runs of a hundred epochs, then of what was trained live."""
    budgets = ["reference", "smoke" if recipes.budget() == "smoke" else "live"]
    lines = [line for budget in budgets for line in (*figures_of(budget), "")]
    machine = describe()
    precision = default_precision(default_device())
    lines += [
        f"{machine['device']}, {machine['threads']} threads, torch {machine['torch']}, matrix "
        f"product {matmul_rate(precision):,.0f} GFLOP/s in {precision}",
    ]
    for folder, what in (("notebooks", "executed notebooks"), ("pictures", "their pictures")):
        if (Path("build") / folder).is_dir():
            lines.append(f"{what}: build/{folder}/")
    rule = "=" * max(map(len, lines))
    print(rule, *lines, rule, sep="\n")


if __name__ == "__main__":
    sys.exit(main())
