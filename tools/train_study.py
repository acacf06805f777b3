"""Train one model of a study: ``python tools/train_study.py narrow --units 32``.

What ``learn2add train`` is for the assignment. LEARN2ADD_BUDGET chooses the recipe; all fields of
the study's configuration are options, which ``--help`` after its name lists with their defaults.
"""

import sys
from pathlib import Path

import tyro

sys.path.insert(0, str(Path(__file__).parents[1]))

from learn2add import recipes, runs
from learn2add.__main__ import differing, train
from learn2add.config import RunConfig
from learn2add.studies import counting, hand_training, mirror, narrow
from tools.experiments._keep import in_seconds


def studies(budget: str) -> dict[str, tuple[str, RunConfig]]:
    """Return what each study is, and its recipe."""
    stage = narrow.NarrowStage("autoencoder", 3000, None, narrow.BATCH_SIZE, patience=10)
    own = {"report": narrow.setting_config({}, stage), "narrow": narrow.narrow()}
    if budget == "smoke":
        own = {name: in_seconds(config) for name, config in own.items()}
    hand = hand_training.same_hand(budget="smoke" if budget == "smoke" else "quick")
    return {
        "report": ("As report 002 found it best.", own["report"]),
        "narrow": ("The same network under our recipe.", own["narrow"]),
        "mirror": ("The encoder's exact mirror; unpooling smuggles.", mirror.mirror()),
        "counting": ("Add by counting, after half a minute.", counting.in_seconds()),
        "hand": ("Add by counting, in the hand of the input.", hand),
    }


def main() -> None:
    """Train the study that the command line names, in a folder that tells what it changes."""
    budget = recipes.budget()
    known = studies(budget)
    _, recipe = known.get(sys.argv[1] if sys.argv[1:] else "", known["narrow"])
    # Of several stages the fields have the same names, so that their options need the stage's.
    flat = (tyro.conf.OmitArgPrefixes,) if len(recipe.stages) == 1 else ()
    config = tyro.extras.overridable_config_cli(known, prog="train_study.py", config=flat)
    study = sys.argv[1]
    name = study + differing(config, known[study][1])
    folder = runs.runs_root() / recipes.place("studies", name, budget)
    train(config, folder, f"budget {budget}: {recipes.MEANING[budget]}")


if __name__ == "__main__":
    main()
