"""The configurations of each part of the assignment, for three budgets.

``LEARN2ADD_BUDGET`` chooses: ``reference`` (the assignment's setting: 100 epochs on full MNIST at a
constant rate), ``quick`` (minutes on two CPU cores, conclusions hold) or ``smoke`` (seconds: every
line runs, results mean nothing). Epochs, rates and batch sizes were chosen on the validation split.
"""

import os
from dataclasses import replace
from typing import Any, Literal, get_args

from learn2add.checks import check_choice, check_int
from learn2add.config import LossWeights, RunConfig, Stage
from learn2add.hardware import default_device, default_precision
from learn2add.network import DECODERS

Budget = Literal["reference", "quick", "smoke"]
BUDGETS = get_args(Budget)
LOSSES = ("l2", "bce")
CODE_SIZES = (2, 7)

FRESH_PAIRS = 60_000
"""Addition pairs drawn anew for each epoch of "reference". All 321,802 (``steps=None``) would be
five times the hours on a CPU; over 100 epochs the adder sees 6,000,000 different ones anyway."""

MUON: Any = {"optimiser": "muon", "beta2": 0.99}
"""Fewer steps than Adam alone needs, of longer each; the assignment's own setting has Adam."""
ONE_PASS: Any = MUON | {"momentum": 0.9, "pct_start": 0.1}
"""For trainings of one pass over the digits or less: forget sooner, start falling sooner."""

MEANING = {
    "reference": "the assignment's 100 epochs on full MNIST",
    "quick": "trained live in minutes; conclusions hold, figures fall short of 100 epochs",
    "smoke": "seconds of training; figures mean nothing",
}


def budget() -> str:
    """Return the budget in ``LEARN2ADD_BUDGET``; "quick" where it is not set."""
    return check_choice("LEARN2ADD_BUDGET", os.environ.get("LEARN2ADD_BUDGET", "quick"), BUDGETS)


def place(part: str, name: str, budget: str) -> str:
    """Return the name of a run: ``part2/NAME`` for reference, ``quick/part2/NAME`` for quick."""
    return f"{part}/{name}" if budget == "reference" else f"{budget}/{part}/{name}"


def common(budget: str) -> dict[str, Any]:
    """Return what all configurations of a budget have in common on this machine."""
    few, fewer = (1000, 250) if budget == "smoke" else (None, None)
    precision = default_precision(default_device())
    return {"precision": precision, "train_size": few, "validation_size": fewer}


def part2(
    decoder: str = "conv_transpose",
    loss: str = "l2",
    code_size: int = 2,
    *,
    budget: str = "quick",
    seed: int = 0,
) -> RunConfig:
    """Return a reconstruction autoencoder. Source: assignment, Part II items 4, 6 and 7."""
    stage = {
        "reference": Stage("autoencoder", 100, loss=loss),
        "quick": Stage("autoencoder", 3, 110, 128, 1e-2, "one_cycle", loss, **ONE_PASS),
        "smoke": Stage("autoencoder", 2, 5, 64, 3e-3, "one_cycle", loss),
    }[check_choice("budget", budget, BUDGETS)]
    return RunConfig((stage,), "autoencoder", decoder, code_size, seed=seed, **common(budget))


def all_part2(budget: str = "quick") -> dict[str, RunConfig]:
    """Return Part II's twelve runs by name: three decoders x two losses x code size 2 and 7."""
    return {
        f"{decoder}-{loss}-code{code_size}": part2(decoder, loss, code_size, budget=budget)
        for code_size in CODE_SIZES
        for loss in LOSSES
        for decoder in DECODERS
    }


def part2_long(
    code_size: int = 2,
    *,
    epochs: int = 30,
    plain: int | None = None,
    deform: float = 1.0,
    seed: int = 0,
) -> RunConfig:
    """Return a longer reconstruction run, to set beside the reports' best after 100 epochs.

    Muon for the large layers, a ReLU between the encoder's two linear layers. Trained to the end on
    plain images, the encoder misplaces digits it has not seen (code size 2: an RMSE of 0.1771 on
    training, 0.1817 on validation images); so all but the last epochs learn from deformed ones.

    Of ``epochs`` in all, 2 or more, the last ``plain`` have plain images; None is a sixth.
    ``deform`` is the strength before that; the longer the training, the more of it pays.
    """
    check_int("epochs", epochs, 2, 100_000)
    last = max(1, epochs // 6) if plain is None else check_int("plain", plain, 1, epochs - 1)
    first = Stage("autoencoder", epochs - last, None, 128, 4e-3, "one_cycle", **MUON, deform=deform)
    stages = first, replace(first, epochs=last, learning_rate=1e-3, deform=0.0)
    return RunConfig(stages, code_size=code_size, activation="relu", seed=seed, **common("quick"))


def part3(decoder: str = "conv_transpose", *, budget: str = "quick", seed: int = 0) -> RunConfig:
    """Return the addition model with code 7. Source: assignment, Part III items 4 and 5.

    ``reference`` is the assignment's: everything at once from scratch, 60,000 fresh pairs an
    epoch. The others go in three stages: autoencoder, adder on its codes, everything jointly.
    """
    stages = {
        "reference": (Stage("addition", 100, FRESH_PAIRS // 128, 128),),
        "quick": (
            Stage("autoencoder", 2, 300, 128, 4e-3, "one_cycle", "bce", **MUON),
            Stage("adder", 1, 1000, 1024, 1e-2, "one_cycle", balance="cells"),
            Stage(
                "addition", 4, 500, 130, 4e-3, "one_cycle", "bce", "mixed", "batch", **MUON, shift=1
            ),
        ),
        "smoke": (
            Stage("autoencoder", 1, 5, 64, 3e-3, "one_cycle", "bce"),
            Stage("adder", 1, 20, 256, 1e-2, "one_cycle", balance="cells", restarts=2),
            Stage("addition", 2, 3, 60, 1e-3, "one_cycle", balance="mixed", targets="batch"),
        ),
    }[check_choice("budget", budget, BUDGETS)]
    base = RunConfig(stages, "addition", decoder, seed=seed, **common(budget))
    if budget == "reference":
        return base
    # With random targets the code term is mostly their spread; a third of it leaves more to the
    # images and tells the digits apart better. With contrast and Muon a quarter of the steps
    # reaches the same accuracy. A ReLU between the encoder's two linear layers lets the quick run
    # go from 98.4 to 98.8 % in equal steps (all on the validation split).
    return replace(base, weights=LossWeights(code=0.3, contrast=10.0), activation="relu")


def part3_in_a_minute(
    autoencoder: int = 400, adder: int = 1000, joint: tuple[int, int] = (2, 350), *, seed: int = 0
) -> RunConfig:
    """Return Part III's staged recipe with so many steps a stage; the last has (epochs, each).

    With the steps as they are, more than 98.5 % of the sums are right after 70 s on two CPU cores
    that multiply bfloat16 matrices at 940 GFLOP/s.
    """
    config = part3(seed=seed)
    first, second, third = config.stages
    first = replace(first, epochs=1, steps=autoencoder)
    third = replace(third, epochs=joint[0], steps=joint[1])
    return replace(config, stages=(first, replace(second, steps=adder), third))


def part4(
    model: str = "generative_addition",
    decoder: str = "conv_transpose",
    *,
    budget: str = "quick",
    seed: int = 0,
    held_out: tuple[tuple[int, int], ...] = (),
) -> RunConfig:
    """Return a model of Part IV with code 7. Source: assignment, Part IV items 1 and 3.

    The stages are those of :func:`part3`. ``reference`` adds the divergences to Part III's loss.
    The others see all targets in the batch; in ``quick`` the addends of the training pairs are
    blurred a little, so that the turn from one digit to the next is learned at the half between.
    """
    check_choice("model", model, tuple(PART4))
    base = part3(decoder, budget=budget, seed=seed)
    stages = base.stages
    if budget == "quick":
        autoencoder, adder, joint = stages
        # From most initial weights so small a network never finds one sum or more of the 55, and
        # the joint stage does not always mend it: so several, and a rate that leaves bad places.
        adder = replace(adder, learning_rate=3e-2, steps=2000, restarts=8)
        if model == "variational_addition":
            joint = replace(joint, balance="digits", addend_noise=0.3)
        else:  # a distribution is more to learn than a mean
            joint = replace(joint, addend_noise=0.2, reconstruct_every=1)
        stages = (autoencoder, adder, joint)
    weights = (ASSIGNED if budget == "reference" else PART4)[model]
    return replace(base, model=model, stages=stages, held_out=held_out, weights=weights)


PART4 = {
    "variational_addition": LossWeights(code=0.3, kld_encoder=0.1, contrast=10.0),
    "generative_addition": LossWeights(
        l2_orig=1.0, l2_added=0.0, code=0.0, kld_encoder=0.05, match=3.0, contrast=30.0
    ),
}
"""The weights of each model's loss in stages, chosen on the validation split."""
ASSIGNED = {
    "variational_addition": LossWeights(kld_encoder=0.01),
    "generative_addition": LossWeights(kld_encoder=0.01, kld_adder=0.01),
}
"""Those of ``reference``: Part III's 0.1 : 1 : 1, and so little of the divergences that the code
lives. At 0.1, the proportion of the bound, one or two of its seven numbers are left in use."""
