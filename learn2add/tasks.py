"""What a stage of training does with a batch: its parameters, its loss, its figures.

Every task has the members of :class:`Task`, so the loop in :mod:`learn2add.training` knows no
model. Here: the autoencoder's stage and the adder's; the joint one is in
:mod:`learn2add.addition_tasks`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from learn2add import captured, parallel
from learn2add.adders import Adder
from learn2add.augmentation import deformed, shifted
from learn2add.collapse import Health
from learn2add.configs import RunConfig, Stage
from learn2add.corruptions import corrupted
from learn2add.data import Digits, as_float
from learn2add.encoders import GaussianEncoder
from learn2add.models import AdditionModel, Autoencoder, code_of, encode
from learn2add.objectives import gaussian_kl, gaussian_nll, picture_loss, squared_error
from learn2add.optimisers import Muon
from learn2add.pairs import AdditionPairs, Pairs
from learn2add.side_by_side import SideBySide

EVALUATION_BATCH = 500


class Task(Protocol):
    """One stage's work."""

    model: nn.Module
    device: torch.device
    steps: int
    """Optimiser steps per epoch."""

    def parameters(self) -> Iterator[nn.Parameter]:
        """What the optimiser changes."""

    def optimiser(self) -> torch.optim.Optimizer:
        """A fresh one."""

    def batches(self, generator: torch.Generator) -> Iterator[object]:
        """One epoch of training batches, each a tensor or a tuple with a length."""

    def validation_batches(self) -> Iterator[object]:
        """The same fixed batches each time."""

    def mine(self, batch: object) -> tuple[object, float]:
        """What this process sees of a batch, and what its mean loss weighs."""

    def step(self, batch: object) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss of a batch (a mean over it) and, by name, squared pixel errors summed over it."""

    def pictures(self) -> dict[str, Tensor]:
        """What TensorBoard shows each epoch: by tag, a grey picture ``[1, H, W]`` in [0, 1]."""

    def examine(self) -> Health | None:
        """How the model is doing after an epoch; None where the stage does not draw sums."""


@dataclass(eq=False)
class StageTask:
    """What every stage is given."""

    model: Autoencoder | AdditionModel
    config: RunConfig
    stage: Stage
    train: Digits
    validation: Digits

    def __post_init__(self) -> None:
        self.device = self.train.images.device

    def varied(self, at: Tensor, generator: torch.Generator) -> Tensor:
        """Training pictures ``at`` these places, uint8, each changed anew as the stage says."""
        pictures = deformed(self.train.images[at], self.stage.deform, generator)
        return shifted(pictures, self.stage.shift, generator)

    def optimiser(self) -> torch.optim.Optimizer:
        """Adam, all its parameters updated by one kernel, or Muon with it."""
        stage, betas = self.stage, (0.9, self.stage.beta2)
        if stage.optimiser == "muon":
            fast = self.config.precision == "bfloat16"
            return Muon(self.parameters(), stage.learning_rate, betas, stage.momentum, fast=fast)
        options: dict[str, Any] = {"weight_decay": stage.weight_decay, "fused": True}
        rate: Any = stage.learning_rate
        if captured.wanted(self.device, stage):
            rate, options["capturable"] = torch.tensor(rate, device=self.device), True
        return torch.optim.Adam(self.parameters(), rate, betas, **options)

    def mine(self, batch: tuple[Tensor, ...]) -> tuple[tuple[Tensor, ...], float]:
        """This process's rows, and their weight; all rows where there is one process."""
        processes, count = parallel.world(), len(batch[0])
        if processes.size == 1:
            return batch, 1.0
        rows = processes.rows(count)
        return tuple(part[rows] for part in batch), processes.share(count)

    def examine(self) -> Health | None:
        """Nothing to examine: this stage draws no sums."""
        return None


class PairsTask(StageTask):
    """A stage that learns from addition pairs."""

    def __post_init__(self) -> None:
        super().__post_init__()
        stage, held_out = self.stage, self.config.held_out
        self.pairs = AdditionPairs(self.train.labels, stage.balance, self.device, held_out)
        self.fixed = fixed_pairs(self.validation, stage, self.config)
        self.steps = stage.steps or -(-len(self.pairs) // stage.batch_size)


class AutoencoderTask(StageTask):
    """Part II: reconstruct pictures. Trains E and D, of an autoencoder or an addition model.

    With a variational encoder (Part IV item 1) a sample of the code is decoded, and ``kld_encoder``
    x KL(q(z|x) || N(0, I)) joins the loss; validation decodes the mean.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        self.encoder, self.decoder = self.model.encoder, self.model.decoder
        self.steps = self.stage.steps or -(-len(self.train) // self.stage.batch_size)

    def parameters(self) -> Iterator[nn.Parameter]:
        """Encoder's, then decoder's."""
        yield from self.encoder.parameters()
        yield from self.decoder.parameters()

    def batches(self, generator: torch.Generator) -> Iterator[tuple[Tensor, ...]]:
        """Shuffled passes over the training pictures: clean and as shown; noise where needed."""
        for indices in shuffled(len(self.train), self.stage, generator):
            images = self.varied(indices, generator)
            seen, x = self._seen(images, generator), as_float(images)
            yield x, seen, *noise_for(self.encoder, len(x), 1, generator)

    def validation_batches(self) -> Iterator[tuple[Tensor, ...]]:
        """The validation pictures in order, corrupted the same way each time."""
        generator = torch.Generator(self.device).manual_seed(0)
        for part in self.validation.images.split(EVALUATION_BATCH):
            yield as_float(part), self._seen(part, generator)

    def _seen(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """What the encoder is shown of pictures uint8: they themselves, or spoiled ones."""
        stage = self.stage
        images = deformed(images, stage.distort, generator)
        # The deformation moves a picture little; a digit's place says nothing of what it is.
        images = shifted(images, round(stage.distort / 2), generator)
        return corrupted(as_float(images), stage.noise, stage.occlude, generator)

    def step(self, batch: tuple[Tensor, ...]) -> tuple[Tensor, dict[str, Tensor]]:
        """Reconstruction loss of pictures float ``[B, 1, S, S]``, and ``rmse``'s squares."""
        x, seen, *noise = batch
        z, q = code_of(self.encoder, seen, noise=noise[0] if noise else None)
        logits = self.decoder.logits(z)
        loss = picture_loss(self.stage.loss, logits, x)
        if q is not None:
            loss = loss + self.config.kld_encoder * gaussian_kl(q.mu, q.logvar)
        return loss, {"rmse": squares(logits, x)}

    @torch.no_grad()
    def pictures(self) -> dict[str, Tensor]:
        """Ten validation digits above their reconstructions."""
        seen = next(self.validation_batches())[1][:10]
        return {"input_reconstruction": rows(seen, self.decoder(self.encoder(seen)))}


class AdderTask(PairsTask):
    """P alone: codes of the inputs to codes of random partners, E and D untouched.

    Codes are computed once, so a step costs a few matrix products of the small adder. The best
    answer to random partners is the mean code of the sum's class; a generative adder learns the
    distribution of the class's codes, by maximum likelihood. With ``stage.starts`` several learn
    side by side; the best on validation is put into the model.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        with torch.no_grad():
            self.codes = encode(self.model, self.train.images)
            self.validation_codes = encode(self.model, self.validation.images)

    @cached_property
    def several(self) -> SideBySide | None:
        """The adders that learn side by side; None where there is one."""
        if self.stage.starts == 1:
            return None
        adder, seed = self.model.adder, self.config.seed
        return SideBySide(adder, self.stage.starts, adder_loss, seed)

    def parameters(self) -> Iterator[nn.Parameter]:
        """The adder's, or those of several."""
        return (self.several or self.model.adder).parameters()

    def batches(self, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Codes, addends and partners' codes."""
        for pairs in pair_batches(self.pairs, self.stage, generator):
            yield self.codes[pairs.input], pairs.addend, self.codes[pairs.target]

    def validation_batches(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Fixed pairs of the validation pictures; of several adders the best is chosen first."""
        codes = self.validation_codes
        if self.several:
            at = self.fixed
            losses = self.several.losses(codes[at.input], at.addend, codes[at.target])
            self.several.keep(int(losses.argmin()))
        for pairs in split(self.fixed, EVALUATION_BATCH):
            yield codes[pairs.input], pairs.addend, codes[pairs.target]

    def step(self, batch: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """See :func:`adder_loss`; while several learn, the least of theirs."""
        if self.several and self.model.training:
            return self.several.loss(*batch), {}
        return adder_loss(self.model.adder, *batch), {}

    def pictures(self) -> dict[str, Tensor]:
        """None: this stage draws nothing."""
        return {}


def adder_loss(adder: Adder, z: Tensor, addend: Tensor, z_target: Tensor) -> Tensor:
    """Squared error, or negative log-likelihood, between the adder's code and the partner's.

    Args:
        adder: Makes a code or a distribution of codes.
        z: Codes of the inputs, ``[B, code_size]``.
        addend: The numbers added, ``[B]``.
        z_target: Codes of the partners, ``[B, code_size]``.

    Returns:
        A scalar, mean over the batch.
    """
    z_sum, p = code_of(adder, z, addend)
    return squared_error(z_sum, z_target) if p is None else gaussian_nll(p, z_target)


def shuffled(count: int, stage: Stage, generator: torch.Generator) -> Iterator[Tensor]:
    """One epoch of shuffled places below ``count``, in batches: a pass, or so many steps."""
    wanted = count if stage.steps is None else stage.steps * stage.batch_size
    yield from shuffled_passes(count, wanted, generator).split(stage.batch_size)


def shuffled_passes(count: int, wanted: int, generator: torch.Generator) -> Tensor:
    """``wanted`` indices below ``count``, int64, in passes that are each shuffled anew."""
    options = {"generator": generator, "device": generator.device}
    passes = [torch.randperm(count, **options) for _ in range(-(-wanted // count))]
    return torch.cat(passes)[:wanted]


def squares(logits: Tensor, x: Tensor) -> Tensor:
    """Squared error of the pictures, summed over the batch, without gradient."""
    with torch.no_grad():
        return (torch.sigmoid(logits.float()) - x).square().sum()


def rows(*rows: Tensor) -> Tensor:
    """Lay rows of pictures ``[N, 1, S, S]`` out as one picture ``[1, rows * S, N * S]``."""
    return torch.cat([torch.cat(list(row.float()), dim=2) for row in rows], dim=1)


def pair_batches(pairs: AdditionPairs, stage: Stage, generator: torch.Generator) -> Iterator[Pairs]:
    """One epoch of pairs in batches, as the stage wants them."""
    if stage.steps is None:
        drawn = pairs.epoch(generator)
    else:
        drawn = pairs.draw(stage.steps * stage.batch_size, generator)
    return split(drawn, stage.batch_size)


def split(pairs: Pairs, size: int) -> Iterator[Pairs]:
    """Pairs in parts of ``size``."""
    return (Pairs(*parts) for parts in zip(*(part.split(size) for part in pairs), strict=True))


def fixed_pairs(validation: Digits, stage: Stage, config: RunConfig) -> Pairs:
    """One pair per validation picture, on average, drawn as the stage draws its training pairs."""
    device = validation.images.device
    generator = torch.Generator(device).manual_seed(0)
    pairs = AdditionPairs(validation.labels, stage.balance, device, config.held_out)
    return pairs.draw(len(validation), generator)


def noise_for(
    encoder: nn.Module, count: int, codes: int, generator: torch.Generator
) -> tuple[Tensor, ...]:
    """Standard normal ``[count, codes * code_size]`` for a variational encoder; else nothing.

    It is drawn with the batch, so that it depends on seed, stage and epoch alone.
    """
    if not isinstance(encoder, GaussianEncoder):
        return ()
    shape = (count, codes * encoder.code_size)
    return (torch.randn(shape, generator=generator, device=generator.device),)
