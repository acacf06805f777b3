"""Train the report's Table 1 again, search weights: ``python tools/experiments/table1.py``.

Every row is a run under ``LEARN2ADD_RUNS`` (or ``runs``), so a second call goes on where the first
was stopped, and several at once share the work. The results go to ``runs/part4/table1``, laid out
for ``learn2add.studies.table1.weightings_table``.

The report does not say whether a KL is averaged or summed over batch and code. ``--reading summed``
trains the sixteen rows once more in that sense, without a search, and keeps ``summed.json`` and
``summed_pictures.npy``.

The report found its weights by trying sixteen; each trial of the search is one short training, and
one that falls behind the others half-way is given up. Optuna chooses what to try next and keeps the
study in a journal, so a search that was stopped goes on where it was.

Source: report, section 5.2; T. Akiba et al., arXiv 1907.10902.
"""

import io
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import optuna
import torch
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[2]))

from learn2add import recipes
from learn2add.checkpoints import write_atomically
from learn2add.checks import check_int
from learn2add.config import LossWeights, RunConfig, Stage
from learn2add.data import Digits, as_float, load_digits
from learn2add.evidence import sampled_sums
from learn2add.hardware import default_device, keep_freed_memory
from learn2add.judge import Judge, load_judge
from learn2add.losses import PIXELS, gaussian_kl_of_units
from learn2add.measures import health
from learn2add.runs import Run, runs_root
from learn2add.studies.table1 import READINGS
from learn2add.train import TrainingDiverged, train
from tools.experiments._keep import digits_of, keep, options, trained


class Weighting(NamedTuple):
    """One row of the report's Table 1: weights for means over elements, and a verdict by eye."""

    l2_orig: float
    l2_added: float
    kld_encoder: float
    kld_adder: float
    verdict: str


NINES, A_NUMBER = "only fuzzy nines", "just a number with fuzzy nines"
OTHERS, CORRECT = "numbers different from the target", "correct"

TABLE1 = (
    Weighting(0.1, 0.5, 0.00001, 0.00001, NINES),
    Weighting(0.1, 0.5, 0.0001, 0.0001, NINES),
    Weighting(0.3, 0.7, 0.0001, 0.0002, NINES),
    Weighting(0.5, 0.5, 0.0005, 0.0005, NINES),
    Weighting(0.7, 0.7, 0.0002, 0.0002, NINES),
    Weighting(1, 1, 0.0005, 0.0005, NINES),
    Weighting(0.5, 0.5, 0.0001, 0.0002, A_NUMBER),
    Weighting(0.6, 0.8, 0.00015, 0.00015, A_NUMBER),
    Weighting(1, 1, 0.0001, 0.0001, A_NUMBER),
    Weighting(1, 1, 0.0001, 0.0001, A_NUMBER),
    Weighting(1.2, 0.8, 0.00005, 0.00005, A_NUMBER),
    Weighting(1, 0.2, 0.0001, 0.0001, OTHERS),
    Weighting(1, 0.4, 0.0001, 0.0005, OTHERS),
    Weighting(1, 0.4, 0.0001, 0.0005, OTHERS),
    Weighting(0.9, 0.1, 0.0002, 0.0002, OTHERS),
    Weighting(0.1, 1, 0.00001, 0.00001, CORRECT),
)
"""Sixteen rows, fourteen different ones: two stand there twice. Source: report, section 5.2."""

RANGES = {
    "l2_orig": (0.05, 2.0),
    "l2_added": (0.05, 2.0),
    "kld_encoder": (1e-6, 1e-3),
    "kld_adder": (1e-6, 1e-3),
}
"""Of each weight, in the report's scale; tried evenly in their logarithms. They hold all of its
Table 1."""
PER_DIGIT = 40
STEPS = 1500
BATCH = 64


def weighting_config(
    weighting: Weighting,
    *,
    steps: int = STEPS,
    epochs: int = 4,
    seed: int = 0,
    reading: str = "mean",
) -> RunConfig:
    """Return the generative model from scratch under the report's objective with these weights.

    Its balanced data, its embedded addend, squared error, Adam at 0.001; 64 pairs a step. The
    report's weights are for means; a term here is a sum over an image or a code, the mean of the
    batch. Adam does not mind a common factor, so only the ratio remains: a weight of 1 on its KL is
    784 / 7 = 112 here, and 784 * 64 = 50,176 by the reading "summed".
    """
    kl = PIXELS / 7 if reading == "mean" else PIXELS * BATCH
    stage = Stage("addition", epochs, -(-steps // epochs), BATCH, balance="sums")
    weights = LossWeights(
        l2_orig=weighting.l2_orig,
        l2_added=weighting.l2_added,
        code=0.0,
        kld_encoder=kl * weighting.kld_encoder,
        kld_adder=kl * weighting.kld_adder,
    )
    return RunConfig(
        (stage,),
        "generative_addition",
        embed_addend=True,
        weights=weights,
        seed=seed,
        **recipes.common("quick"),
    )


@torch.no_grad()
def measure(run: Run, judge: Judge, digits: Digits) -> dict[str, Any]:
    """Measure a run of ``weighting_config`` on validation digits.

    Returns:
        ``accuracy``, ``digits`` (how many are drawn at all), ``active`` units of ``code_size``,
        ``kl_encoder`` and ``kl_adder`` (nats per code dimension, sorted), ``sampled`` and
        ``diversity`` at temperature 1, and ``pictures``, those of :func:`ten_sums`.
    """
    device = digits.images.device
    model = run.model(device)
    found = health(model, judge, digits, per_digit=50)
    [sampled] = sampled_sums(model, judge, digits, per_cell=50)
    some = as_float(digits.images[:1000])
    q = model.encoder.gaussian(some)
    p = model.adder.gaussian(q.mu, torch.zeros(len(some), device=device))
    nats = [sorted(gaussian_kl_of_units(*g).tolist()) for g in (q, p)]
    return {
        "accuracy": found.right,
        "digits": found.drawn,
        "active": found.active,
        "code_size": run.config.code_size,
        "kl_encoder": [round(value, 4) for value in nats[0]],
        "kl_adder": [round(value, 4) for value in nats[1]],
        "sampled": sampled.accuracy,
        "diversity": sampled.diversity,
        "pictures": ten_sums(model, digits),
    }


@torch.no_grad()
def ten_sums(model: nn.Module, digits: Digits) -> np.ndarray:
    """Draw the sums 0 to 9, each from a digit that is half of it: uint8 ``[10, S, S]``."""
    total = torch.arange(10, device=digits.images.device)
    first = torch.stack([members[0] for members in digits.by_class()])
    x, addend = as_float(digits.images[first[total // 2]]), (total - total // 2).float()
    return (255 * model(x, addend)[:, 0]).round().byte().cpu().numpy()


def open_study(journal: Path, seed: int = 0) -> optuna.Study:
    """Return the study kept in a journal file, or a new one."""
    journal.parent.mkdir(parents=True, exist_ok=True)
    study = optuna.create_study(
        storage=JournalStorage(
            # The usual lock is a symbolic link, which Windows and some file systems refuse.
            JournalFileBackend(str(journal), lock_obj=JournalFileOpenLock(str(journal)))
        ),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=3),
        study_name="weights",
        direction="maximize",
        load_if_exists=True,
    )
    # A sampler begins its random numbers anew: with the same seed it would try the same again.
    study.sampler = optuna.samplers.TPESampler(seed=seed + len(study.trials), n_startup_trials=6)
    return study


def search_weights(
    journal: Path, trials: int, *, steps: int = STEPS, seed: int = 0, progress: bool = True
) -> optuna.Study:
    """Search the four weights of the report's loss for the most right sums.

    Args:
        journal: File of the study; an existing one is continued.
        trials: How many trials it is to hold in the end, those given up included.
        steps: Length of one training.
        seed: Decides what is tried and every training.
        progress: Whether to show a progress bar.

    Returns:
        The study; ``study.best_params`` are the weights, ``study.best_value`` the share of right
        sums of validation digits.
    """
    check_int("trials", trials, 1)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = open_study(journal, seed)
    over = [trial for trial in study.trials if trial.state.is_finished()]
    study.optimize(
        _objective(steps, seed),
        n_trials=max(0, trials - len(over)),
        catch=TrainingDiverged,
        show_progress_bar=progress,
    )
    return study


def _objective(steps: int, seed: int) -> Callable[[optuna.Trial], float]:
    """One training with the weights of a trial: its share of right sums."""
    keep_freed_memory()
    device = default_device()
    digits, validation = (load_digits("MNIST", split) for split in ("train", "validation"))
    judge = load_judge(device=device)

    def objective(trial: optuna.Trial) -> float:
        weights = {
            name: trial.suggest_float(name, *ends, log=True) for name, ends in RANGES.items()
        }
        config = weighting_config(Weighting(**weights, verdict=""), steps=steps, seed=seed)

        def report(row: dict[str, Any]) -> None:
            trial.report(row["sums/right"], row["epoch"])
            if trial.should_prune():
                raise optuna.TrialPruned

        options = {"device": device, "progress": False, "after_epoch": report}
        with tempfile.TemporaryDirectory() as folder:
            state = train(config, digits, validation, Path(folder), **options)
            model = Run(Path(folder), config, state.history, {}).model(device)
            found = health(model, judge, validation.to(device), PER_DIGIT)
        trial.set_user_attr("digits", found.drawn)
        trial.set_user_attr("active", found.active)
        return found.right

    return objective


def runs_of(
    weightings: Sequence[Weighting], steps: int, reading: str = "mean"
) -> dict[tuple[float, ...], Run]:
    """Return the run of each four weights; two rows of the table stand there twice."""
    places, kind = {}, "" if reading == "mean" else f"{reading}-"
    for weighting in weightings:
        name = "-".join(f"{weight:.3g}" for weight in weighting[:4])
        places[folder_of(f"{kind}{steps}-{name}")] = weighting
    configs = {
        folder: weighting_config(weighting, steps=steps, epochs=1, reading=reading)
        for folder, weighting in places.items()
    }
    return {places[folder][:4]: run for folder, run in trained(configs).items()}


def folder_of(name: str) -> Path:
    """Return where a run or the journal of a search lies."""
    return runs_root() / "quick" / "table1" / name


def main(argv: Sequence[str] | None = None) -> None:
    """Train, search, measure, keep."""
    parser = options(__doc__, "part4/table1")
    length = {"type": int, "default": STEPS}
    parser.add_argument("--steps", **length, help=f"of each run; default: {STEPS}")
    parser.add_argument("--trials", type=int, default=14, help="of the search; default: 14")
    parser.add_argument("--search-steps", type=int, help="of a trial; default: those of a run")
    parser.add_argument(
        "--reading", choices=tuple(READINGS), default="mean", help="of the report's KL"
    )
    arguments = parser.parse_args(argv)
    runs, table = runs_of(TABLE1, arguments.steps, arguments.reading), {"steps": arguments.steps}
    if arguments.reading == "summed":
        weightings = TABLE1
    else:
        trial_steps = arguments.search_steps or arguments.steps
        study = search_weights(
            folder_of(f"search-{trial_steps}.log"), arguments.trials, steps=trial_steps
        )
        best = Weighting(**study.best_params, verdict="found by search")
        weightings, runs = (*TABLE1, best), runs | runs_of([best], arguments.steps)
        trials = [
            {
                "weights": list(trial.params.values()),
                "state": trial.state.name,
                "right": trial.value,
            }
            for trial in study.trials
        ]
        table |= {"search_steps": trial_steps, "trials": trials}
    rows, pictures = rows_of(weightings, runs, digits_of("validation", arguments.budget))
    name, images = READINGS[arguments.reading]
    keep(arguments.folder / f"{name}.json", table | {"rows": rows})
    packed = io.BytesIO()
    np.save(packed, pictures)
    write_atomically(arguments.folder / f"{images}.npy", packed.getvalue())
    for row in rows:
        print(f"{row['weights']}: right {row['accuracy']:.1%}, digits {row['digits']}")


def rows_of(
    weightings: Sequence[Weighting], runs: dict[tuple[float, ...], Run], validation: Digits
) -> tuple[list[dict[str, Any]], np.ndarray]:
    """Return the rows of a table, and ten pictures of each."""
    judge = load_judge(device=default_device())
    known = {weights: measure(run, judge, validation) for weights, run in runs.items()}
    rows, pictures = [], []
    for weighting in weightings:
        row = dict(known[weighting[:4]])
        pictures.append(row.pop("pictures"))
        rows.append({"weights": weighting[:4], "verdict": weighting.verdict} | row)
    return rows, np.stack(pictures)


if __name__ == "__main__":
    main()
