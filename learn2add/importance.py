"""Which of a study's parameters decide its errors.

Source: F. Hutter et al., "An Efficient Approach for Assessing Hyperparameter Importance", 2014.
"""

import math
from typing import Any

import numpy as np

from learn2add.hyper import Outcome
from learn2add.plans import LOGARITHMIC
from learn2add.studies import quiet

NOTHING = "(drawn at random)"
"""A parameter that decides nothing: what is no more important than it may be chance."""


def importance(found: list[Outcome], *, seeds: int = 4, trees: int = 32) -> dict[str, list[float]]:
    """How much of the spread of the errors' logarithm each parameter explains, by fANOVA.

    A random forest is fitted to the settings, and its variance divided among the parameters. A
    setting that was given up counts with the lowest error it had until then. :data:`NOTHING` is
    ranked beside the parameters.

    Args:
        found: Ten outcomes or more.
        seeds: How many forests.
        trees: In each.

    Returns:
        Per parameter its share under each seed; the most important first.

    Raises:
        ValueError: Too few outcomes with an error, or all errors the same.
        ImportError: Optuna or scikit-learn is not installed.
    """
    import optuna

    measured = [outcome for outcome in found if not math.isnan(outcome.mse)]
    if len(measured) < 10 or len({outcome.mse for outcome in measured}) < 2:
        raise ValueError(
            f"found holds {len(measured)} outcomes with an error; allowed are 10 or more, not all "
            "the same"
        )
    ranges = {
        name: scale(name, [o.setting[name] for o in measured]) for name in measured[0].setting
    }
    ranges = {name: scaled for name, scaled in ranges.items() if scaled is not None}
    shares: dict[str, list[float]] = {name: [] for name in (*ranges, NOTHING)}
    for seed in range(seeds):
        drawn = np.random.default_rng(seed).random(len(measured))
        columns = ranges | {NOTHING: (drawn, optuna.distributions.FloatDistribution(0, 1))}
        with quiet():
            study = optuna.create_study()
            for row, outcome in enumerate(measured):
                params = {name: values[row].item() for name, (values, _) in columns.items()}
                kinds = {name: kind for name, (_, kind) in columns.items()}
                value = math.log10(max(outcome.mse, 1e-12))
                study.add_trial(
                    optuna.create_trial(params=params, distributions=kinds, value=value)
                )
            evaluator = optuna.importance.FanovaImportanceEvaluator(n_trees=trees, seed=seed)
            for name, share in optuna.importance.get_param_importances(
                study, evaluator=evaluator
            ).items():
                shares[name].append(float(share))
    return dict(sorted(shares.items(), key=lambda item: -float(np.mean(item[1]))))


def scale(name: str, values: list[float]) -> tuple[np.ndarray, Any] | None:
    """A parameter's values as the forest is to see them, and their range; None where all are equal.

    Few different values are numbered in their order; of the others, those of :data:`LOGARITHMIC`
    are taken by their logarithms.
    """
    from optuna.distributions import FloatDistribution, IntDistribution

    array = np.array(values, dtype=float)
    levels, numbers = np.unique(array, return_inverse=True)
    if len(levels) < 2:
        return None
    if len(levels) <= 8:
        return numbers, IntDistribution(0, len(levels) - 1)
    low, high = float(levels[0]), float(levels[-1])
    return array, FloatDistribution(low, high, log=name in LOGARITHMIC and low > 0)
