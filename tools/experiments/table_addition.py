"""Add without an encoder: ``python tools/experiments/table_addition.py``.

A Gaussian auto-decoder of 5,000 MNIST digits (16 numbers a code, the assignment's first decoder)
is the space of codes; then an adder learns on the table, the decoder untouched, the best of sixteen
that learn side by side. To add to a test digit its code is found first. Beside it an adder on
a table that was visited a third as often, and one on the codes of an encoder that learned with the
same decoder, from the same digits, by the same objective.

The results go to ``runs/auto_decoders``; what is there is not trained again.

Source: report 004, section 1.3.2, for the auto-decoder; to add in it is not the report's.
"""

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).parents[2]))

from learn2add import recipes
from learn2add.config import LossWeights, Stage
from learn2add.data import Digits, as_float, load_digits
from learn2add.hardware import default_device, keep_freed_memory
from learn2add.judge import load_judge
from learn2add.measures import judge_sums, summarise
from learn2add.network import Adder, AdditionModel, DecoderConvTranspose
from learn2add.runs import runs_root
from learn2add.steps import AdderStep
from learn2add.studies.auto_decoder import CodeLoss, find_codes
from learn2add.train import Progress, run_epoch
from tools.experiments._keep import claimed, digits_of, keep, options
from tools.experiments.report004 import Model, Plan, Training

CODE_SIZE, BATCH, COUNT, PASSES = 16, 100, 5000, 40
SEARCH_RATE = 0.05
TABLE = Plan(
    "gaussian",
    "bce",
    kl=1.0,
    rate=2e-3,
    code_rate=0.03,
    epochs=PASSES,
    decays=True,
    decoder=DecoderConvTranspose,
    code_size=CODE_SIZE,
)
PLANS = {
    "sums-table": TABLE,
    "sums-table-third": replace(TABLE, epochs=-(-PASSES // 3)),
    "sums-encoder": replace(TABLE, codes="gaussian encoder"),
}


class Search(nn.Module):
    """What stands where other models have an encoder: a search for each image."""

    def __init__(self, model: Model, rate: float = SEARCH_RATE) -> None:
        super().__init__()
        self.model, self.rate = model, rate

    def forward(self, x: Tensor) -> Tensor:
        """Find mean codes ``[B, C]`` of images ``[B, 1, 28, 28]``, from the mean of the table's."""
        plan, start = self.model.plan, self.model.table.detach().mean(0, keepdim=True)
        generator = torch.Generator(x.device).manual_seed(plan.seed)
        loss = CodeLoss(self.model.decoder, plan.family, plan.kl, generator)
        how = {"steps": plan.steps, "learning_rate": self.rate}
        return plan.family.mean(find_codes(loss, x, start.expand(len(x), -1, -1), **how).rows)


class TableAdderStep(AdderStep):
    """P alone, on codes that are given: the table's, and for validation those that are found."""

    def all_codes(self) -> tuple[Tensor, Tensor]:
        """Return the codes of training and validation images."""
        table = self.model.encoder.model.table.detach()
        return table[:, 0], self.model.encoder(as_float(self.validation.images))


def with_adder(model: Model, digits: tuple[Digits, Digits], steps: int) -> AdditionModel:
    """Return encoder or search, a new adder trained between it and the decoder, and the decoder."""
    encoder = model.encoder if model.plan.encodes else Search(model)
    stage = Stage("adder", 1, steps, 512, 3e-2, "one_cycle", balance="cells", restarts=16)
    config = replace(
        recipes.part3(seed=model.plan.seed),
        stages=(stage,),
        weights=LossWeights(),
        code_size=CODE_SIZE,
        precision="float32",
    )
    adding = AdditionModel(encoder, Adder(CODE_SIZE), model.decoder).eval()
    adding.adder.to(digits[0].images.device)
    step = (AdderStep if model.plan.encodes else TableAdderStep)(adding, config, stage, *digits)
    with tqdm(total=1, disable=True) as bar:
        run_epoch(config, Progress(), step, step.optimiser(), bar)
    return adding.eval()


@torch.no_grad()
def sums_of(adding: AdditionModel, digits: Digits) -> dict[str, Any]:
    """Return the right sums, and what went wrong first in the others."""
    scores = judge_sums(adding, load_judge(device=digits.images.device), digits)
    sums = summarise(scores, digits)
    first = {key: getattr(scores.blame, key) for key in ("misread", "misadded", "misdrawn")}
    return {key: sums[key] for key in ("cells_mean", "cells_mean_interval")} | first


def measured(
    plan: Plan, digits: tuple[Digits, Digits], test: Digits, file: Path, steps: int
) -> dict[str, Any]:
    """Train and measure one plan; return its figures."""
    train = digits[0]
    torch.manual_seed(plan.seed)
    model = Model(plan, len(train)).to(train.images.device)
    curve = Training(plan, model, train.images, file, BATCH).run()
    adding = with_adder(model.eval(), digits, steps)
    found = {"curve": curve, "images": len(train), "test": len(test)} | sums_of(adding, test)
    if not plan.encodes:
        adding.encoder.rate = 1e-2
        found["slow_search"] = sums_of(adding, test)["cells_mean"]
    return found


def folder_of(name: str) -> Path:
    """Return where the state of a training lies while it is not done."""
    return runs_root() / "quick" / "table_addition" / name


def main(argv: Sequence[str] | None = None) -> None:
    """Train, measure, keep, print."""
    parser = options(__doc__, "auto_decoders")
    parser.add_argument("--seeds", type=int, default=3, help="of each; default: 3")
    arguments = parser.parse_args(argv)
    keep_freed_memory()
    smoke, device = arguments.budget == "smoke", default_device()
    validation = load_digits("MNIST", "validation").to(device).subset(30 if smoke else 100)
    digits = digits_of("train", arguments.budget).subset(100 if smoke else COUNT), validation
    test = digits_of("test", arguments.budget).subset(20 if smoke else 1000)
    plans = {
        folder_of(f"{name}-{seed}"): replace(plan, seed=seed)
        for seed in range(arguments.seeds)
        for name, plan in PLANS.items()
    }
    for folder in claimed(plans, arguments.folder):
        plan = replace(plans[folder], epochs=1, steps=2) if smoke else plans[folder]
        row = measured(plan, digits, test, folder / "state.pt", 10 if smoke else 2000)
        keep(arguments.folder / f"{folder.name}.json", row)
        print(folder.name, f"{row['cells_mean']:.1%} of the sums right", flush=True)


if __name__ == "__main__":
    main()
