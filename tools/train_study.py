"""Train one model of a study: ``python tools/train_study.py sweep --units 32``.

What ``learn2add train`` is for the assignment. LEARN2ADD_BUDGET chooses the recipe; all fields of
the study's configuration are options, which ``--help`` after its name lists with their defaults.
"""

import sys

import tyro

from learn2add import recipes, runs
from learn2add.__main__ import differing, train
from learn2add.config import RunConfig
from learn2add.studies import corrupted, counting, hand_training, latent, mirror, sweeps


def studies(budget: str) -> dict[str, tuple[str, RunConfig]]:
    """Return what each study is, and its recipe."""
    sizes = dict(zip(("train_size", "validation_size"), sweeps.SUBSETS[budget], strict=True))
    setting = sweeps.setting_config({}, sweeps.STAGES[budget], **sizes)
    hand = hand_training.same_hand(budget="smoke" if budget == "smoke" else "quick")
    return {
        "sweep": ("An autoencoder of any widths, as report 002 found it best.", setting),
        "denoising": ("Redraw corrupted images as they were.", corrupted.denoising(budget=budget)),
        "codes": ("Codes to be looked at, or to be features.", latent.codes(budget=budget)),
        "mirror": ("The encoder's exact mirror; unpooling smuggles.", mirror.mirror()),
        "counting": ("Add by counting, after half a minute.", counting.in_seconds()),
        "hand": ("Add by counting, in the hand of the input.", hand),
    }


def main() -> None:
    """Train the study that the command line names, in a folder that tells what it changes."""
    budget = recipes.budget()
    known = studies(budget)
    _, recipe = known.get(sys.argv[1] if sys.argv[1:] else "", known["sweep"])
    # Of several stages the fields have the same names, so that their options need the stage's.
    flat = (tyro.conf.OmitArgPrefixes,) if len(recipe.stages) == 1 else ()
    config = tyro.extras.overridable_config_cli(known, prog="train_study.py", config=flat)
    study = sys.argv[1]
    name = study + differing(config, known[study][1])
    folder = runs.runs_root() / recipes.place("studies", name, budget)
    train(config, folder, f"budget {budget}: {recipes.MEANING[budget]}")


if __name__ == "__main__":
    main()
