"""The configurations of each part of the assignment, for three budgets.

``LEARN2ADD_BUDGET`` chooses: ``reference`` (the assignment's setting: 100 epochs on full MNIST at a
constant rate), ``quick`` (minutes on two CPU cores, conclusions hold) or ``smoke`` (seconds: every
line runs, figures mean nothing). Epochs, rates and batch sizes were chosen on the validation split.
"""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from learn2add.checks import check_choice, check_int
from learn2add.configs import RunConfig, Stage
from learn2add.decoders import DECODERS, DENSE
from learn2add.hardware import default_device, default_precision
from learn2add.runs import Run, kept_run, load_or_train, runs_root

BUDGETS = ("reference", "quick", "smoke")
LOSSES = ("l2", "bce")
CODE_SIZES = (2, 7)

FRESH_PAIRS = 60_000
"""Addition pairs drawn anew for each epoch of "reference". All 321,802 (``steps=None``) would be
five times the hours on a CPU; over 100 epochs the adder sees 6,000,000 different ones anyway."""

MUON: Any = {"optimiser": "muon", "beta2": 0.99}
"""Fewer steps than Adam alone needs, of longer each; the assignment's own setting has Adam."""
ONE_PASS: Any = MUON | {"momentum": 0.9, "rise": 0.1}
"""For trainings of one pass over the digits or less: forget sooner, start falling sooner."""

MEANING = {
    "reference": "the assignment's 100 epochs on full MNIST",
    "quick": "trained live in minutes; conclusions hold, figures fall short of 100 epochs",
    "smoke": "seconds of training; figures mean nothing",
}


def budget() -> str:
    """The budget in ``LEARN2ADD_BUDGET``; "quick" where it is not set.

    Raises:
        ValueError: It is set to something else.
    """
    return check_choice("LEARN2ADD_BUDGET", os.environ.get("LEARN2ADD_BUDGET", "quick"), BUDGETS)


def part2(
    decoder: str = "conv_transpose",
    loss: str = "l2",
    code_size: int = 2,
    *,
    budget: str = "quick",
    seed: int = 0,
) -> RunConfig:
    """A reconstruction autoencoder. Source: assignment, Part II items 4, 6 and 7.

    Args:
        decoder: "conv_transpose", "conv_upsample" or "interpolation".
        loss: "l2" or "bce".
        code_size: 1 to 128; the assignment's are 2 and 7.
        budget: "reference", "quick" or "smoke".
        seed: Decides initial weights and order of the data.
    """
    stage = {
        "reference": Stage("autoencoder", 100, loss=loss),
        "quick": Stage("autoencoder", 3, 110, 128, 1e-2, "one_cycle", loss, **ONE_PASS),
        "smoke": Stage("autoencoder", 2, 5, 64, 3e-3, "one_cycle", loss),
    }[check_choice("budget", budget, BUDGETS)]
    return RunConfig((stage,), "autoencoder", decoder, code_size, seed=seed, **_common(budget))


def part2_long(
    code_size: int = 2,
    *,
    epochs: int = 30,
    plain: int | None = None,
    deform: float = 1.0,
    noise: float = 0.0,
    seed: int = 0,
) -> RunConfig:
    """A longer reconstruction run, to set beside the reports' best after 100 epochs.

    Muon for the large layers, a ReLU between the encoder's two linear layers. Trained to the end on
    plain pictures, the encoder misplaces digits it has not seen (code size 2: an RMSE of 0.1771 on
    training, 0.1817 on validation pictures); so all but the last epochs learn from deformed ones.

    Args:
        code_size: 1 to 128.
        epochs: 2 or more, in all.
        plain: How many of them, the last, have plain pictures, 1 or more; None is a sixth.
        deform: Strength of the deformations before that; the longer, the more of it pays.
        noise: Largest standard deviation of the noise on the pictures shown; see :func:`denoising`.
        seed: Decides initial weights and order of the data.

    Raises:
        ValueError: An argument is not allowed.
    """
    check_int("epochs", epochs, 2, 100_000)
    last = max(1, epochs // 6) if plain is None else check_int("plain", plain, 1, epochs - 1)
    deformed = Stage(
        "autoencoder",
        epochs - last,
        None,
        128,
        4e-3,
        "one_cycle",
        "l2",
        **MUON,
        deform=deform,
        noise=noise,
    )
    undeformed = replace(deformed, epochs=last, learning_rate=1e-3, deform=0.0)
    return RunConfig(
        (deformed, undeformed),
        "autoencoder",
        "conv_transpose",
        code_size,
        hidden="relu",
        seed=seed,
        **_common("quick"),
    )


def codes(
    code_size: int = 10,
    *,
    variational: bool = False,
    distort: float = 0.0,
    budget: str = "quick",
    seed: int = 0,
) -> RunConfig:
    """An autoencoder whose codes are to be looked at, or to be features. It never sees a label.

    With ``distort`` it is shown turned, stretched, moved and wobbled pictures and redraws them as
    they were. How a digit lies is then worth none of the code, and which digit it is takes up more
    of it: a linear layer reads 97 % of such codes of ten numbers, 93 % of others (validation).

    Args:
        code_size: 1 to 128; report 002 has 10.
        variational: Whether the code is a distribution; both terms of the loss then weigh 1 (the
            ELBO).
        distort: Strength of the deformations to be undone; 4 where they are wanted.
        budget: "reference", "quick" or "smoke".
        seed: Decides initial weights, order of the data, noise and deformations.

    Source: reports 002 and 003; D. P. Kingma and M. Welling, arXiv 1312.6114.
    """
    base = part2(loss="bce", code_size=code_size, budget=budget, seed=seed)
    stage = replace(base.stages[0], distort=distort)
    if budget == "quick":
        stage = replace(stage, steps=120)
    base = replace(base, stages=(stage,), hidden="relu")
    return replace(base, model="variational_autoencoder", kld_encoder=1.0) if variational else base


def dense_variational(code_size: int = 2, *, budget: str = "quick", seed: int = 0) -> RunConfig:
    """A variational autoencoder of fully connected layers: 784 - 512 - 256 - code, and mirrored.

    Args:
        code_size: 1 to 128; report 002 has 2.
        budget: "reference", "quick" or "smoke".
        seed: Decides initial weights, order of the data and noise.

    Source: report 002, section 6.
    """
    base = codes(code_size, variational=True, budget=budget, seed=seed)
    if budget == "quick":  # Muon's own products of these large matrices would outweigh the model's
        stage = Stage("autoencoder", 3, 110, 128, 3e-3, "one_cycle", "bce")
        base = replace(base, stages=(stage,))
    return replace(base, decoder=DENSE, channels=())


def denoising(
    noise: float = 0.0,
    occlude: int = 0,
    *,
    code_size: int = 4,
    budget: str = "quick",
    seed: int = 0,
) -> RunConfig:
    """An autoencoder that is shown corrupted pictures and redraws the clean ones.

    Args:
        noise: Largest standard deviation of the noise on the pictures shown.
        occlude: Largest side of the square blacked out of them; with neither, a plain autoencoder.
        code_size: 1 to 128; report 003 has 4.
        budget: "reference", "quick" or "smoke".
        seed: Decides initial weights, order of the data and corruptions.

    Source: report 002, section 4; report 003, section 4.2.
    """
    base = part2(code_size=code_size, budget=budget, seed=seed)
    (stage,) = base.stages
    if budget == "quick":
        stage = replace(stage, steps=120)
    hidden = "linear" if budget == "reference" else "relu"
    return replace(base, stages=(replace(stage, noise=noise, occlude=occlude),), hidden=hidden)


def part3(decoder: str = "conv_transpose", *, budget: str = "quick", seed: int = 0) -> RunConfig:
    """The addition model with code 7. Source: assignment, Part III items 4 and 5.

    ``reference`` is the assignment's: everything at once from scratch, 60,000 fresh pairs an
    epoch. The others go in three stages: autoencoder, adder on its codes, everything jointly.

    Args:
        decoder: "conv_transpose", "conv_upsample" or "interpolation".
        budget: "reference", "quick" or "smoke".
        seed: Decides initial weights and order of the data.
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
            Stage("adder", 1, 20, 256, 1e-2, "one_cycle", balance="cells", starts=2),
            Stage("addition", 2, 3, 60, 1e-3, "one_cycle", balance="mixed", partners="batch"),
        ),
    }[check_choice("budget", budget, BUDGETS)]
    # With random partners the code term is mostly their spread; a third of it leaves more to
    # the pictures and tells the digits apart better (validation split).
    code = 1.0 if budget == "reference" else 0.3
    # The adder's code shall be nearer to codes of the right digit than to others: with that and
    # Muon a quarter of the steps reaches the same accuracy (validation split).
    contrast = 0.0 if budget == "reference" else 10.0
    # The assignment's encoder ends in two linear layers without activation, which are one. A ReLU
    # between them lets the quick run go from 98.4 to 98.8 % on validation in equal steps.
    hidden = "linear" if budget == "reference" else "relu"
    return RunConfig(
        stages,
        "addition",
        decoder,
        code=code,
        contrast=contrast,
        hidden=hidden,
        seed=seed,
        **_common(budget),
    )


def part3_long(*, epochs: int = 16, seed: int = 0) -> RunConfig:
    """Part III's quick recipe, its joint stage four times as long and on deformed pictures.

    Args:
        epochs: Of the joint stage, 500 steps each, 1 or more.
        seed: Decides initial weights, order of the data and deformations.

    Raises:
        ValueError: An argument is not allowed.
    """
    base = part3(seed=seed)
    autoencoder, adder, joint = base.stages
    autoencoder = replace(autoencoder, epochs=4, steps=390)
    return replace(base, stages=(autoencoder, adder, replace(joint, epochs=epochs, deform=1.0)))


def beside() -> dict[str, RunConfig]:
    """By name, the runs that stand beside the assignment's hundred epochs at a constant rate.

    "scheduled": their rate has a schedule, their pictures are deformed, their large layers are
    Muon's. Those of Part II were held against shorter ones of weaker deformation, on the validation
    split. "relu": the hundred epochs at a constant rate, but for a ReLU between the encoder's two
    linear layers; and once more with batches of 32, four times as many steps.
    """
    relu = replace(part2(budget="reference"), hidden="relu")
    small_batches = replace(relu.stages[0], batch_size=32)
    runs = {
        "part3/scheduled": part3_long(),
        "part2/scheduled-code7": part2_long(7, epochs=80, plain=10, deform=2.5),
        "part2/scheduled-code2": part2_long(2, epochs=100, plain=10, deform=2.0),
        "part2/relu-code2": relu,
        "part2/relu-batch32-code2": replace(relu, stages=(small_batches,)),
    }
    precision = fast_precision()
    return {name: replace(config, precision=precision) for name, config in runs.items()}


def part4(
    model: str = "generative_addition",
    decoder: str = "conv_transpose",
    *,
    budget: str = "quick",
    seed: int = 0,
    held_out: tuple[tuple[int, int], ...] = (),
) -> RunConfig:
    """A model of Part IV with code 7. Source: assignment, Part IV.

    The stages are those of :func:`part3`; all partners in the batch are seen under
    every budget, 60,000 pictures an epoch in ``reference``. In ``quick`` the addends of the
    training pairs are blurred a little, so that the turn from one digit to the next is learned at
    the half between them.

    Args:
        model: "variational_addition" (item 1) or "generative_addition" (item 3).
        decoder: "conv_transpose", "conv_upsample" or "interpolation".
        budget: "reference", "quick" or "smoke".
        seed: Decides initial weights and order of the data.
        held_out: (digit, addend) cells that are never trained.

    Raises:
        ValueError: Another model.
    """
    check_choice("model", model, tuple(PART4))
    base = part3(decoder, budget=budget, seed=seed)
    stages = base.stages
    if budget == "quick":
        autoencoder, adder, joint = stages
        # From most first weights so small a network never finds one sum or more of the 55, and the
        # joint stage does not always mend it: so several, and a rate that leaves bad places.
        adder = replace(adder, learning_rate=3e-2, steps=2000, starts=8)
        if model == "variational_addition":
            joint = replace(joint, balance="digits", addend_noise=0.3)
        else:  # a distribution is more to learn than a mean
            joint = replace(joint, addend_noise=0.2, reconstruct_every=1)
        stages = (autoencoder, adder, joint)
    if budget == "reference":  # contrast needs whole batches
        stages = (
            Stage("addition", 100, FRESH_PAIRS // 130, 130, balance="mixed", partners="batch"),
        )
    return replace(base, model=model, stages=stages, held_out=held_out, **PART4[model])


PART4 = {
    "variational_addition": {
        "l2_orig": 0.1,
        "l2_added": 1.0,
        "code": 0.3,
        "kld_encoder": 0.1,
        "contrast": 10.0,
    },
    "generative_addition": {
        "l2_orig": 1.0,
        "l2_added": 0.0,
        "code": 0.0,
        "kld_encoder": 0.05,
        "match": 3.0,
        "contrast": 30.0,
    },
}
"""The weights of each model's loss, chosen on the validation split."""


def fast_precision() -> str:
    """The machine's fast precision: nothing forces bfloat16 where it would be emulated."""
    return default_precision(default_device())


def _common(budget: str) -> dict[str, str | int | None]:
    few = 1000 if budget == "smoke" else None
    return {"precision": fast_precision(), "train_size": few, "validation_size": few}


def all_part2(budget: str = "quick") -> dict[str, RunConfig]:
    """Part II's twelve runs by name: three decoders x two losses x code size 2 and 7."""
    return {
        f"{decoder}-{loss}-code{code_size}": part2(decoder, loss, code_size, budget=budget)
        for code_size in CODE_SIZES
        for loss in LOSSES
        for decoder in DECODERS
    }


def run_folder(part: str, name: str, budget: str) -> Path:
    """Where a run lies: ``runs/part2/NAME`` for reference, ``runs/quick/part2/NAME`` for quick."""
    root = runs_root()
    return root / part / name if budget == "reference" else root / budget / part / name


def kept_reference(part: str, name: str, config: RunConfig) -> Run | None:
    """The run of the budget "reference" that came with the project, or None.

    It may have been trained in another precision than this machine's.
    """
    kept = kept_run(f"{part}/{name}")
    if kept is None or replace(kept.config, precision=config.precision) != config:
        return None
    return kept


def run(part: str, name: str, config: RunConfig, budget: str, *, progress: bool = True) -> Run:
    """Load or train one run in its place. See :func:`learn2add.runs.load_or_train`.

    Under "reference" one that came with the project is loaded, wherever runs are written.
    """
    kept = kept_reference(part, name, config) if budget == "reference" else None
    return kept or load_or_train(config, run_folder(part, name, budget), progress=progress)
