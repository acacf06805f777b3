"""The configurations of the auto-decoders, for the budgets of :mod:`learn2add.recipes`.

``reference`` is the report's: 100 passes, Adam at 0.001 (variational: 0.01), here on all 50,000
training pictures. ``quick`` is few pictures, seen forty times: one costs the report's decoder
0.8 GFLOP, eight times as much as the assignment's. Passes and rates were chosen on the validation
split.

Source: report 004, sections 1.3.1 and 1.3.2.
"""

from dataclasses import replace
from typing import Any

from learn2add.checks import check_choice
from learn2add.code_distributions import FAMILIES
from learn2add.configs import RunConfig, Stage
from learn2add.recipes import BUDGETS, fast_precision

QUICK_PICTURES, QUICK_DIGITS = 500, 5000
"""A digit costs :func:`table_addition` an eighth of what a picture costs the report's decoder."""
CODE_SIZE = 128
"""The report's."""
PASSES = 40
"""How often ``quick`` sees every picture. A code moves once in a pass, so passes matter to it more
than pictures."""


def auto_decoder(distribution: str = "point", *, budget: str = "quick", seed: int = 0) -> RunConfig:
    """An auto-decoder, or a variational one, of Fashion-MNIST.

    Args:
        distribution: "point" (AD), "gaussian", "exponential" or "uniform" (VAD).
        budget: "reference", "quick" or "smoke".
        seed: Decides initial weights and codes, order of the data, and noise.
    """
    check_choice("distribution", distribution, tuple(FAMILIES))
    rate = 1e-3 if distribution == "point" else 1e-2
    steps = PASSES * QUICK_PICTURES // (3 * 25)
    stage = {
        "reference": Stage("auto_decoder", 100, None, 64, rate, loss="bce"),
        "quick": Stage("auto_decoder", 3, steps, 25, fit_steps=10, **_QUICK),
        "smoke": Stage("auto_decoder", 2, 2, 10, fit_steps=1, **_QUICK),
    }[check_choice("budget", budget, BUDGETS)]
    return RunConfig(
        (stage,),
        "auto_decoder",
        code_distribution=distribution,
        kld_code=0.0 if distribution == "point" else 1.0,
        seed=seed,
        **_fashion(budget),
    )


def variational_autoencoder(*, budget: str = "quick", seed: int = 0) -> RunConfig:
    """An ordinary VAE with the same decoder, to be set beside the Gaussian auto-decoder.

    Args:
        budget: "reference", "quick" or "smoke".
        seed: Decides initial weights, order of the data and noise.
    """
    base = auto_decoder("gaussian", budget=budget, seed=seed)
    (stage,) = base.stages
    usual = Stage("autoencoder", 1)  # it has no codes to learn or to search for
    only_codes = {name: getattr(usual, name) for name in ("code_rate", "fit_steps")}
    stage = replace(stage, task="autoencoder", **only_codes)
    if budget == "reference":
        stage = replace(stage, learning_rate=1e-3)
    return replace(
        base,
        stages=(stage,),
        model="variational_autoencoder",
        code_distribution="point",
        kld_code=0.0,
        kld_encoder=1.0,
    )


def table_addition(*, budget: str = "quick", seed: int = 0) -> RunConfig:
    """A Gaussian auto-decoder of MNIST, and then an adder on its codes.

    The decoder is Part II's first, an eighth as costly as the report's.

    Args:
        budget: "reference", "quick" or "smoke".
        seed: Decides initial weights and codes, order of the data, and noise.
    """
    steps = PASSES * QUICK_DIGITS // (3 * 100)
    table, adder = {
        "reference": (
            Stage("auto_decoder", 100, None, 128, 1e-3, loss="bce", code_rate=10.0),
            Stage("adder", 10, 1000, 1024, 1e-2, "one_cycle", balance="cells"),
        ),
        "quick": (
            Stage("auto_decoder", 3, steps, 100, fit_steps=20, **_QUICK | {"learning_rate": 2e-3}),
            Stage("adder", 1, 2000, 512, 3e-2, "one_cycle", balance="cells", starts=16),
        ),
        "smoke": (
            Stage("auto_decoder", 2, 3, 20, fit_steps=1, **_QUICK),
            Stage("adder", 1, 10, 64, 1e-2, "one_cycle", balance="cells"),
        ),
    }[check_choice("budget", budget, BUDGETS)]
    sizes = {"reference": (None, 1000), "quick": (QUICK_DIGITS, 100), "smoke": (100, 30)}[budget]
    return RunConfig(
        (table, adder),
        "auto_decoder_addition",
        "conv_transpose",
        16,
        train_size=sizes[0],
        validation_size=sizes[1],
        code_distribution="gaussian",
        kld_code=1.0,
        seed=seed,
        precision=fast_precision(),
    )


_QUICK: Any = {
    "learning_rate": 1e-3,
    "schedule": "one_cycle",
    "loss": "bce",
    "beta2": 0.99,
    "rise": 0.15,
    "code_rate": 60.0,
}
"""Codes are seen as often as there are passes, weights as often as there are steps: so the codes'
rate has to be the higher one."""


def _fashion(budget: str) -> dict[str, Any]:
    sizes = {"reference": (None, 1000), "quick": (QUICK_PICTURES, 30), "smoke": (60, 10)}[budget]
    return {
        "decoder": "dcgan",
        "code_size": CODE_SIZE,
        "dataset": "FashionMNIST",
        "train_size": sizes[0],
        "validation_size": sizes[1],
        "precision": fast_precision(),
    }
