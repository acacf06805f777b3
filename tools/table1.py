"""Train the report's Table 1 again, and search better weights: ``python tools/table1.py``.

Every row is a run under ``LEARN2ADD_RUNS`` (or ``runs``), so a second call goes on where the first
was stopped, and several at once share the work. The figures go to ``runs/part4/table1``, laid out
for :func:`learn2add.figures.weightings_table`.
"""

import argparse
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from learn2add import load_digits
from learn2add.checkpoints import write_atomically
from learn2add.hardware import default_device
from learn2add.judge import load_judge
from learn2add.runs import free_first, load_or_train, load_run, runs_root
from learn2add.search import search_weights
from learn2add.weightings import PLACE, STEPS, TABLE1, Weighting, measure, weighting_config

KEPT = Path(__file__).parents[1] / "runs" / PLACE


def main() -> None:
    """Train, measure, keep."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=STEPS, help=f"of each run; default: {STEPS}")
    parser.add_argument("--trials", type=int, default=14, help="of the search; default: 14")
    parser.add_argument("--search-steps", type=int, help="of a trial; default: those of a run")
    parser.add_argument("--folder", type=Path, default=KEPT, help="where the figures go")
    arguments = parser.parse_args()
    steps, root = arguments.steps, runs_root() / "quick" / "table1"

    def trained(*weightings: Weighting) -> dict[Path, Weighting]:
        """Each in its folder; two rows of the table stand there twice."""
        places = {
            root / f"{steps}-{'-'.join(f'{weight:.3g}' for weight in weighting[:4])}": weighting
            for weighting in weightings
        }
        for folder in tqdm(free_first(places), total=len(places), unit=" rows"):
            config = weighting_config(places[folder], steps=steps, epochs=1)
            load_or_train(config, folder, progress=False)
        return places

    places = trained(*TABLE1)
    trial_steps = arguments.search_steps or steps
    study = search_weights(root / f"search-{trial_steps}.log", arguments.trials, steps=trial_steps)
    found = Weighting(**study.best_params, verdict="found by search")
    places |= trained(found)
    judge, validation = load_judge(), load_digits("MNIST", "validation").to(default_device())
    known = {
        weighting[:4]: measure(load_run(folder), judge, validation)
        for folder, weighting in places.items()
    }
    rows, pictures = [], []
    for weighting in (*TABLE1, found):
        weights = weighting[:4]
        row: dict[str, Any] = dict(known[weights])
        pictures.append(row.pop("pictures"))
        rows.append({"weights": weights, "verdict": weighting.verdict} | row)
    trials = [
        {"weights": list(trial.params.values()), "state": trial.state.name, "right": trial.value}
        for trial in study.trials
    ]
    table = {"steps": steps, "rows": rows, "search_steps": trial_steps, "trials": trials}
    packed = io.BytesIO()
    np.save(packed, np.stack(pictures))
    arguments.folder.mkdir(parents=True, exist_ok=True)
    write_atomically(arguments.folder / "pictures.npy", packed.getvalue())
    write_atomically(arguments.folder / "table.json", json.dumps(table, indent=1) + "\n")
    for row in rows:
        print(f"{row['weights']}: right {row['accuracy']:.1%}, digits {row['digits']}")


if __name__ == "__main__":
    main()
