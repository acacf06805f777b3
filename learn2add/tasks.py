"""What a stage of training does with a batch: its parameters, its loss, its figures.

Every task has the members of :class:`Task`, so the loop in :mod:`learn2add.training` knows no
model.
"""

from collections.abc import Iterator
from typing import Protocol

import torch
from torch import Tensor, nn

from learn2add.configs import RunConfig, Stage
from learn2add.data import Digits, as_float
from learn2add.models import AdditionModel, Autoencoder
from learn2add.objectives import picture_loss, squared_error
from learn2add.pairs import AdditionPairs, BatchPartners, Pairs

EVALUATION_BATCH = 500


class Task(Protocol):
    """One stage's work."""

    device: torch.device
    steps: int
    """Optimiser steps per epoch."""

    def parameters(self) -> Iterator[nn.Parameter]:
        """What the optimiser changes."""

    def batches(self, generator: torch.Generator) -> Iterator[object]:
        """One epoch of training batches, each a tensor or a tuple with a length."""

    def validation_batches(self) -> Iterator[object]:
        """The same fixed batches each time."""

    def step(self, batch: object) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss of a batch (a mean over it) and, by name, squared pixel errors summed over it."""

    def pictures(self) -> dict[str, Tensor]:
        """What TensorBoard shows each epoch: by tag, a grey picture ``[1, H, W]`` in [0, 1]."""


class AutoencoderTask:
    """Part II: reconstruct pictures. Trains E and D, of an autoencoder or an addition model."""

    def __init__(
        self,
        model: Autoencoder | AdditionModel,
        stage: Stage,
        train: Digits,
        validation: Digits,
    ) -> None:
        self.encoder, self.decoder = model.encoder, model.decoder
        self.stage, self.train, self.validation = stage, train, validation
        self.device = train.images.device
        self.steps = stage.steps or -(-len(train) // stage.batch_size)

    def parameters(self) -> Iterator[nn.Parameter]:
        """Encoder's, then decoder's."""
        yield from self.encoder.parameters()
        yield from self.decoder.parameters()

    def batches(self, generator: torch.Generator) -> Iterator[tuple[Tensor]]:
        """Shuffled passes over the training pictures, uint8 ``[B, S, S]``."""
        size, count = self.stage.batch_size, len(self.train)
        wanted = count if self.stage.steps is None else self.steps * size
        passes = [
            torch.randperm(count, generator=generator, device=self.device)
            for _ in range(-(-wanted // count))
        ]
        for indices in torch.cat(passes)[:wanted].split(size):
            yield (self.train.images[indices],)

    def validation_batches(self) -> Iterator[tuple[Tensor]]:
        """The validation pictures in order."""
        return ((part,) for part in self.validation.images.split(EVALUATION_BATCH))

    def step(self, batch: tuple[Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Reconstruction loss of pictures uint8 ``[B, S, S]``, and ``rmse``'s squares."""
        x = as_float(batch[0])
        logits = self.decoder.logits(self.encoder(x))
        return picture_loss(self.stage.loss, logits, x), {"rmse": _squares(logits, x)}

    @torch.no_grad()
    def pictures(self) -> dict[str, Tensor]:
        """Ten validation digits above their reconstructions."""
        x = as_float(self.validation.images[:10])
        return {"input_reconstruction": _rows(x, self.decoder(self.encoder(x)))}


class AdderTask:
    """P alone: codes of the inputs to codes of random partners, E and D untouched.

    Codes are computed once, so a step costs a few matrix products of the small adder. The best
    answer to random partners is the mean code of the sum's class.
    """

    def __init__(
        self, model: AdditionModel, stage: Stage, train: Digits, validation: Digits
    ) -> None:
        self.adder, self.stage = model.adder, stage
        self.device = train.images.device
        with torch.no_grad():
            self.codes = _encode(model.encoder, train)
            self.validation_codes = _encode(model.encoder, validation)
        self.pairs = AdditionPairs(train.labels, stage.balance, self.device)
        self.fixed = _fixed_pairs(validation, stage)
        self.steps = stage.steps or -(-len(self.pairs) // stage.batch_size)

    def parameters(self) -> Iterator[nn.Parameter]:
        """The adder's."""
        return self.adder.parameters()

    def batches(self, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Codes, addends and partners' codes."""
        for pairs in _pair_batches(self.pairs, self.stage, generator):
            yield self.codes[pairs.input], pairs.addend, self.codes[pairs.target]

    def validation_batches(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Fixed pairs of the validation pictures."""
        for pairs in _split(self.fixed, EVALUATION_BATCH):
            codes = self.validation_codes
            yield codes[pairs.input], pairs.addend, codes[pairs.target]

    def step(self, batch: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Squared error between the adder's code and the partner's."""
        z, addend, z_target = batch
        return squared_error(self.adder(z, addend), z_target), {}

    def pictures(self) -> dict[str, Tensor]:
        """None: this stage draws nothing."""
        return {}


class AdditionTask:
    """Part III: the whole training model and its loss of three terms.

    ``l2_orig`` x reconstruction of the input + ``l2_added`` x picture of the sum + ``code`` x
    difference of the two codes of the sum. Source: assignment, Part III item 4.
    """

    def __init__(
        self,
        model: AdditionModel,
        config: RunConfig,
        stage: Stage,
        train: Digits,
        validation: Digits,
    ) -> None:
        self.model, self.config, self.stage = model, config, stage
        self.train, self.validation = train, validation
        self.device = train.images.device
        self.pairs = AdditionPairs(train.labels, stage.balance, self.device)
        self.fixed = _fixed_pairs(validation, stage)
        self.steps = stage.steps or -(-len(self.pairs) // stage.batch_size)

    def parameters(self) -> Iterator[nn.Parameter]:
        """All of them: encoder, adder, decoder."""
        return self.model.parameters()

    def batches(self, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Input pictures uint8 ``[B, S, S]``, addends ``[B]`` and target pictures."""
        for pairs in _pair_batches(self.pairs, self.stage, generator):
            yield self.train.images[pairs.input], pairs.addend, self.train.images[pairs.target]

    def validation_batches(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Fixed pairs of the validation pictures."""
        images = self.validation.images
        for pairs in _split(self.fixed, EVALUATION_BATCH):
            yield images[pairs.input], pairs.addend, images[pairs.target]

    def step(self, batch: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of three terms; squares of reconstruction (``rmse``) and sum (``sum_rmse``)."""
        x, y = as_float(batch[0]), as_float(batch[2])
        out = self.model(x, batch[1], y)
        loss = (
            self.config.l2_orig * picture_loss(self.stage.loss, out.x_logits, x)
            + self.config.l2_added * picture_loss(self.stage.loss, out.y_logits, y)
            + self.config.code * squared_error(out.z_sum, out.z_target)
        )
        squares = {"rmse": _squares(out.x_logits, x), "sum_rmse": _squares(out.y_logits, y)}
        return loss, squares

    @torch.no_grad()
    def pictures(self) -> dict[str, Tensor]:
        """For ten validation pairs: input, reconstruction, picture of the sum, target."""
        images, pairs = self.validation.images, Pairs(*(part[:10] for part in self.fixed))
        x, y = as_float(images[pairs.input]), as_float(images[pairs.target])
        out = self.model(x, pairs.addend, y)
        return {"input_reconstruction_sum_target": _rows(x, out.x_hat, out.y_hat, y)}


class BatchAdditionTask(AdditionTask):
    """Part III with all partners in the batch at once: the same loss in expectation, less noise.

    A batch holds every digit equally often. Each picture is encoded once; its sum with one drawn
    addend is drawn as a picture, and all its sums are made as codes. Pictures and codes alike are
    compared with the mean over all partners in the batch (see
    :class:`learn2add.pairs.BatchPartners`). The reconstruction, a tenth of the loss but half of the
    drawing, is taken from every fourth picture. Validation is that of the parent class.
    """

    RECONSTRUCTED = 4
    """One picture in so many is reconstructed."""

    def __init__(
        self,
        model: AdditionModel,
        config: RunConfig,
        stage: Stage,
        train: Digits,
        validation: Digits,
    ) -> None:
        super().__init__(model, config, stage, train, validation)
        self.classes = train.by_class()
        self.partners = BatchPartners(stage.batch_size // 10, stage.balance, self.device)

    def batches(self, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        """Pictures uint8 ``[B, S, S]`` in order of digits, and one addend for each."""
        count = self.partners.per_class
        for _ in range(self.steps):
            picks = [
                members[
                    torch.randint(len(members), (count,), generator=generator, device=self.device)
                ]
                for members in self.classes
            ]
            yield self.train.images[torch.cat(picks)], self.partners.draw(generator)

    def step(self, batch: tuple[Tensor, ...]) -> tuple[Tensor, dict[str, Tensor]]:
        """As in the parent class; of validation triples, or of a batch of this class."""
        if len(batch) == 3:
            return super().step(batch)
        x, addend, partners = as_float(batch[0]), batch[1], self.partners
        z = self.model.encoder(x)
        z_sum = self.model.adder(z, addend)
        some = slice(None, None, self.RECONSTRUCTED)  # within a digit, pictures stand at random
        parts = [len(z[some]), len(z_sum)]
        x_logits, y_logits = self.model.decoder.logits(torch.cat([z[some], z_sum])).split(parts)
        weight = partners.weight_of(addend)
        y = partners.mean_partner(x, torch.arange(len(x), device=x.device), addend)
        loss = (
            self.config.l2_orig * picture_loss(self.stage.loss, x_logits, x[some])
            + self.config.l2_added * picture_loss(self.stage.loss, y_logits, y, weight)
            + self.config.code * self._code_loss(z)
        )
        squares = _squares(x_logits, x[some]) * len(x) / parts[0]
        return loss, {"rmse": squares, "sum_rmse": _squares(y_logits, y)}

    def _code_loss(self, z: Tensor) -> Tensor:
        """Mean over all pairs in the batch of the squared difference of the two codes."""
        partners, z_float = self.partners, z.float()
        made = self.model.adder(z[partners.input], partners.addend)
        mean = partners.mean_partner(z_float, partners.input, partners.addend)
        total = partners.digit[partners.input] + partners.addend.long()
        spread = partners.spread(z_float)[total] @ partners.weight / len(total)
        return squared_error(made, mean, partners.weight) + spread


def make_task(
    model: nn.Module, config: RunConfig, stage: Stage, train: Digits, validation: Digits
) -> Task:
    """The task of one stage, over digits already on the training device."""
    if stage.task == "autoencoder":
        return AutoencoderTask(model, stage, train, validation)
    if stage.task == "adder":
        return AdderTask(model, stage, train, validation)
    kind = BatchAdditionTask if stage.partners == "batch" else AdditionTask
    return kind(model, config, stage, train, validation)


def _squares(logits: Tensor, x: Tensor) -> Tensor:
    with torch.no_grad():
        return (torch.sigmoid(logits.float()) - x).square().sum()


def _rows(*rows: Tensor) -> Tensor:
    """Lay rows of pictures ``[N, 1, S, S]`` out as one picture ``[1, rows * S, N * S]``."""
    return torch.cat([torch.cat(list(row.float()), dim=2) for row in rows], dim=1)


def _pair_batches(
    pairs: AdditionPairs, stage: Stage, generator: torch.Generator
) -> Iterator[Pairs]:
    if stage.steps is None:
        drawn = pairs.epoch(generator)
    else:
        drawn = pairs.draw(stage.steps * stage.batch_size, generator)
    return _split(drawn, stage.batch_size)


def _split(pairs: Pairs, size: int) -> Iterator[Pairs]:
    return (Pairs(*parts) for parts in zip(*(part.split(size) for part in pairs), strict=True))


def _fixed_pairs(validation: Digits, stage: Stage) -> Pairs:
    """One pair per validation picture, on average, drawn as the stage draws its training pairs."""
    device = validation.images.device
    generator = torch.Generator(device).manual_seed(0)
    pairs = AdditionPairs(validation.labels, stage.balance, device)
    return pairs.draw(len(validation), generator)


def _encode(encoder: nn.Module, digits: Digits) -> Tensor:
    return torch.cat([encoder(as_float(part)) for part in digits.images.split(1000)])
