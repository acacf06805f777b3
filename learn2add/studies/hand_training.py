"""Training towards the same hand (notebook 12): targets are style neighbours of the input."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from learn2add import recipes
from learn2add.checks import check_choice
from learn2add.config import HELD_OUT, LossWeights, Stage
from learn2add.data import Digits, as_float
from learn2add.judge import Judge
from learn2add.losses import image_loss, squared_error
from learn2add.measures import SumScores
from learn2add.pairs import Pairs, cell_weights
from learn2add.steps import AdderStep, BatchStep, PairsStep, Result, Step, squares
from learn2add.studies.counting import CountingConfig
from learn2add.studies.hand import hand_evidence, style_neighbours


class InSimilarHand(PairsStep):
    """Pairs whose targets are style neighbours of their inputs."""

    def __post_init__(self) -> None:
        super().__post_init__()
        generator = torch.Generator(self.device).manual_seed(0)
        self.fixed = self.similar(self.fixed, self.validation, generator)

    def similar(self, pairs: Pairs, digits: Digits, generator: torch.Generator) -> Pairs:
        """Return the pairs with targets of the same digits in similar hands."""
        options = {"generator": generator, "device": self.device}
        which = torch.randint(self.config.neighbours, pairs.input.shape, **options)
        total = digits.labels[pairs.target]
        near = style_neighbours(digits, self.config.neighbours)
        return pairs._replace(target=near[pairs.input, total, which])


class SimilarAdderStep(InSimilarHand, AdderStep):
    """The adder alone, on cached codes: from the code of the input to that of a similar hand."""

    def batches(self, generator: torch.Generator) -> Iterator[tuple[Tensor, ...]]:
        """Yield codes, addends and the targets' codes."""
        for pairs in self.pair_batches(generator):
            pairs = self.similar(pairs, self.train, generator)
            yield self.codes[pairs.input], pairs.addend, self.codes[pairs.target]


class SimilarBatch(NamedTuple):
    """Images, an addend for each, and the mean image of its neighbours among the sums."""

    x: Tensor  # uint8 [B, S, S] in order of digits
    addend: Tensor  # [B]
    addends: Tensor  # what the adder is given for every pair in the batch, for the codes, [P]
    y: Tensor  # float32 [B, 1, S, S] in [0, 1]
    one: Tensor  # of the neighbours, uint8 [B, S, S]
    weight: Tensor  # of each sum's image, [B], mean 1


class SimilarStep(InSimilarHand, BatchStep):
    """Encoder, adder and decoder together, on batches that hold every digit equally often.

    The loss is ``l2_orig`` x reconstruction + ``l2_added`` x image of the sum, against the mean
    image of all neighbours (equal in expectation to one of them, and less noise), + ``code`` x
    difference from the code of one neighbour + ``contrast``.
    """

    def batches(self, generator: torch.Generator) -> Iterator[SimilarBatch]:
        """Yield batches; every digit's addends are drawn as often as the balance says."""
        targets, table = self.targets, style_neighbours(self.train, self.config.neighbours)
        cells = cell_weights(self.stage.balance, self.config.held_out).to(self.device)
        of_digit = (cells.sum(1) / cells.sum() * 10)[targets.digit]
        # A digit none of whose cells is trained is not an input; which is drawn for it is the same.
        odds = torch.where(cells.sum(1, keepdim=True) > 0, cells, 1.0)[targets.digit]
        for _ in range(self.steps):
            at = self.drawn(generator)
            addend = torch.multinomial(odds, 1, generator=generator)[:, 0]
            total = (targets.digit + addend).clamp(max=9)
            near = self.train.images[table[at, total]]  # [B, neighbours, S, S]
            y = near.float().mean(1, keepdim=True) / 255
            which = torch.randint(near.shape[1], at.shape, generator=generator, device=self.device)
            one = near[torch.arange(len(at), device=self.device), which]
            yield SimilarBatch(
                self.varied(at, generator), addend.float(), targets.addend, y, one, of_digit
            )

    def varied(self, at: Tensor, generator: torch.Generator) -> Tensor:
        """Return training images, a quarter as they are, the others varied as the stage says.

        A deformed image is softer, and an encoder can tell: trained on such inputs alone, it
        redraws no other.
        """
        varied, images = super().varied(at, generator), self.train.images[at]
        plain = torch.rand(len(at), generator=generator, device=self.device) < 0.25
        return torch.where(plain[:, None, None], images, varied)

    def __call__(self, batch: tuple[Tensor, ...]) -> Result:
        """Return the loss; squares of reconstruction (``rmse``) and sum (``sum_rmse``)."""
        if not isinstance(batch, SimilarBatch):
            return super().__call__(batch)
        x, weights, loss = as_float(batch.x), self.config.weights, self.stage.loss
        shown = [x, as_float(batch.one)] if weights.code else [x]
        z, *of_one = self.model.encoder(torch.cat(shown)).split(len(x))
        z_sum = self.model.adder(z, batch.addend)
        some = slice(None, None, self.stage.reconstruct_every)
        codes = [z[some], z_sum] if weights.l2_added else [z[some]]
        logits = self.model.decoder.logits(torch.cat(codes)).split([len(part) for part in codes])
        total = weights.l2_orig * image_loss(loss, logits[0], x[some])
        found = {"rmse": squares(logits[0], x[some]) * (len(x) / len(x[some]))}
        if weights.code:
            total = total + weights.code * squared_error(z_sum, of_one[0], batch.weight)
        if weights.l2_added:
            total = total + weights.l2_added * image_loss(loss, logits[1], batch.y, batch.weight)
            found["sum_rmse"] = squares(logits[1], batch.y)
        if weights.contrast:
            pairs = self.model.adder(z[self.targets.input], batch.addends)
            total = total + weights.contrast * self.contrast(z, pairs)
        return total, found


@dataclass(frozen=True)
class HandConfig(CountingConfig):
    """A run of Part III whose targets are in the hand of the input."""

    neighbours: int = 12
    """Images of the sum that are near enough to be a target."""
    RANGES: ClassVar[dict[str, tuple[float, float]]] = CountingConfig.RANGES | {
        "neighbours": (1, 100)
    }

    def step(self, stage: Stage, model: nn.Module, train: Digits, validation: Digits) -> Step:
        """Return what a training step is."""
        kinds = {"adder": SimilarAdderStep, "addition": SimilarStep}
        if stage.task not in kinds:
            return super().step(stage, model, train, validation)
        return kinds[stage.task](model, self, stage, train, validation)

    def evidence(
        self, model: nn.Module, judge: Judge, digits: Digits, scores: SumScores
    ) -> dict[str, Any]:
        """Return :func:`hand_evidence` besides."""
        found = super().evidence(model, judge, digits, scores)
        return found | hand_evidence(model, digits, scores)


def same_hand(
    *,
    rule: str = "counting",
    held_out: tuple[tuple[int, int], ...] = HELD_OUT,
    budget: str = "quick",
    seed: int = 0,
) -> HandConfig:
    """Return the model that counts and keeps the hand: three stages, code size 32."""
    first = Stage("autoencoder", 1, 500, 128, 4e-3, "one_cycle", "bce", **recipes.MUON)
    joint = replace(first, task="addition", epochs=9, batch_size=100, deform=1.0)
    joint = replace(joint, balance="mixed", targets="batch")
    stages = {
        "quick": (first, Stage("adder", 1, 1200, 512, 5e-3, "one_cycle", balance="cells"), joint),
        "smoke": (
            Stage("autoencoder", 1, 5, 64, 3e-3, "one_cycle", "bce"),
            Stage("adder", 1, 20, 256, 1e-2, "one_cycle", balance="cells"),
            Stage("addition", 2, 3, 60, 1e-3, "one_cycle", balance="mixed", targets="batch"),
        ),
    }[check_choice("budget", budget, ("quick", "smoke"))]
    weights = LossWeights(l2_orig=1.0, l2_added=0.0, code=4.0, contrast=40.0)
    options = {"code_size": 32, "activation": "relu", "weights": weights} | recipes.common(budget)
    return HandConfig(stages, "addition", rule=rule, held_out=held_out, seed=seed, **options)
