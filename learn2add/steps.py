"""What one training step does, for each kind of stage: autoencoder, adder alone, all jointly.

Every step has the members of :class:`Step`, so the loop in :mod:`learn2add.train` knows no model.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from learn2add.config import RunConfig, Stage
from learn2add.data import Digits, as_float, in_batches
from learn2add.judge import Judge, judge_of
from learn2add.losses import (
    gaussian_kl,
    gaussian_kl_between,
    gaussian_kl_from_moments,
    gaussian_log_densities,
    gaussian_nll,
    image_loss,
    squared_error,
)
from learn2add.measures import Health, health
from learn2add.network import Gaussian, code_of
from learn2add.optim import Muon, Restarts
from learn2add.pairs import AdditionPairs, BatchTargets, Pairs

EVALUATION_BATCH = 500

Result = tuple[Tensor, dict[str, Tensor]]
"""Loss of a batch (a mean over it) and, by name, squared pixel errors summed over it."""


@dataclass(eq=False)
class Step:
    """What every stage is given, and what the loop asks of it."""

    model: nn.Module
    config: RunConfig
    stage: Stage
    train: Digits
    validation: Digits

    def __post_init__(self) -> None:
        self.device = self.train.images.device
        self.steps = self.stage.steps or -(-self.examples() // self.stage.batch_size)

    def examples(self) -> int:
        """Return how many examples a pass over the data has."""
        return len(self.train)

    def parameters(self) -> Iterator[nn.Parameter]:
        """Yield what the optimiser changes."""
        return self.model.parameters()

    def optimiser(self) -> torch.optim.Optimizer:
        """Return a fresh one: Adam, all its parameters updated by one kernel, or Muon with it."""
        stage, betas = self.stage, (0.9, self.stage.beta2)
        if stage.optimiser == "muon":
            fast = self.config.precision == "bfloat16"
            return Muon(self.parameters(), stage.learning_rate, betas, stage.momentum, fast=fast)
        return torch.optim.Adam(self.parameters(), stage.learning_rate, betas, fused=True)

    def batches(self, generator: torch.Generator) -> Iterator[tuple[Tensor, ...]]:
        """Yield one epoch of training batches, drawn from the generator alone."""
        raise NotImplementedError

    def validation_batches(self) -> Iterator[tuple[Tensor, ...]]:
        """Yield the same batches every time."""
        raise NotImplementedError

    def __call__(self, batch: tuple[Tensor, ...]) -> Result:
        """Return loss and squared errors of a batch."""
        raise NotImplementedError

    def images(self) -> dict[str, Tensor]:
        """Return what TensorBoard shows each epoch: by tag, a grey image ``[1, H, W]``."""
        return {}

    def health(self) -> Health | None:
        """Return how the model is doing after an epoch; None where the stage draws no sums."""
        return None

    def varied(self, at: Tensor, generator: torch.Generator) -> Tensor:
        """Return training images, uint8, each shifted and deformed anew as the stage says."""
        images = deformed(self.train.images[at], self.stage.deform, generator)
        return shifted(images, self.stage.shift, generator)

    def noise(self, count: int, codes: int, generator: torch.Generator) -> tuple[Tensor, ...]:
        """Return normal noise ``[count, codes * code_size]`` where codes are distributions.

        It is drawn with the batch, so that it depends on seed, stage and epoch alone.
        """
        if not hasattr(self.model.encoder, "gaussian"):
            return ()
        shape = (count, codes * self.config.code_size)
        return (torch.randn(shape, generator=generator, device=self.device),)


class AutoencoderStep(Step):
    """Part II: reconstruct images. Trains E and D, of an autoencoder or an addition model.

    With a variational encoder (Part IV item 1) a sample of the code is decoded, and ``kld_encoder``
    x KL(q(z|x) || N(0, I)) joins the loss; validation decodes the mean.
    """

    def parameters(self) -> Iterator[nn.Parameter]:
        """Yield the encoder's, then the decoder's."""
        yield from self.model.encoder.parameters()
        yield from self.model.decoder.parameters()

    def batches(self, generator: torch.Generator) -> Iterator[tuple[Tensor, ...]]:
        """Yield shuffled training images, what the encoder is shown of them, and noise."""
        wanted = self.steps * self.stage.batch_size if self.stage.steps else len(self.train)
        order = shuffled_passes(len(self.train), wanted, generator)
        for at in order.split(self.stage.batch_size):
            images = self.varied(at, generator)
            x, shown = as_float(images), self.shown(images, generator)
            yield x, shown, *self.noise(len(x), 1, generator)

    def validation_batches(self) -> Iterator[tuple[Tensor, ...]]:
        """Yield the validation images in order."""
        generator = torch.Generator(self.device).manual_seed(0)
        for part in self.validation.images.split(EVALUATION_BATCH):
            yield as_float(part), self.shown(part, generator)

    def shown(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Return what the encoder is shown of images uint8; a study may corrupt them."""
        return as_float(images)

    def __call__(self, batch: tuple[Tensor, ...]) -> Result:
        """Return the reconstruction loss and ``rmse``'s squares."""
        x, shown, *noise = batch
        z, q = code_of(self.model.encoder, shown, noise=noise[0] if noise else None)
        logits = self.model.decoder.logits(z)
        loss = image_loss(self.stage.loss, logits, x)
        if q is not None:
            loss = loss + self.config.weights.kld_encoder * gaussian_kl(*q)
        return loss, {"rmse": squares(logits, x)}

    @torch.no_grad()
    def images(self) -> dict[str, Tensor]:
        """Return ten validation digits above their reconstructions."""
        shown = next(self.validation_batches())[1][:10]
        drawn = self.model.decoder(self.model.encoder(shown))
        return {"input_reconstruction": in_rows(shown, drawn)}


class PairsStep(Step):
    """A stage that learns from addition pairs."""

    def __post_init__(self) -> None:
        device = self.train.images.device
        drawn = self.stage.balance, device, self.config.held_out
        self.pairs = AdditionPairs(self.train.labels, *drawn)
        # One pair per validation image, on average, drawn as the training pairs are.
        fixed = AdditionPairs(self.validation.labels, *drawn)
        self.fixed = fixed.draw(len(self.validation), torch.Generator(device).manual_seed(0))
        super().__post_init__()

    def examples(self) -> int:
        """Return how many pairs the handout makes of the training digits."""
        return len(self.pairs)

    def pair_batches(self, generator: torch.Generator) -> Iterator[Pairs]:
        """Yield one epoch of training pairs."""
        if self.stage.steps is None:
            drawn = self.pairs.epoch(generator)
        else:
            drawn = self.pairs.draw(self.steps * self.stage.batch_size, generator)
        yield from split(drawn, self.stage.batch_size)


class AdderStep(PairsStep):
    """P alone: codes of the inputs to codes of random targets, E and D untouched.

    Codes are computed once, so a step is a few small matrix products. The best answer to random
    targets is the mean code of the sum's class; a generative adder learns the distribution of the
    class's codes, by maximum likelihood. Of ``stage.restarts`` the best on validation stays.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        self.codes, self.validation_codes = self.all_codes()

    def all_codes(self) -> tuple[Tensor, Tensor]:
        """Return the codes of training and validation images."""
        digits = self.train, self.validation
        return tuple(in_batches(self.model.encoder, part.images) for part in digits)

    @cached_property
    def restarts(self) -> Restarts | None:
        """The adders that learn side by side; None where there is one."""
        if self.stage.restarts == 1:
            return None
        return Restarts(self.model.adder, self.stage.restarts, adder_loss, self.config.seed)

    def parameters(self) -> Iterator[nn.Parameter]:
        """Yield the adder's, or those of several."""
        return (self.restarts or self.model.adder).parameters()

    def batches(self, generator: torch.Generator) -> Iterator[tuple[Tensor, ...]]:
        """Yield codes, addends and the targets' codes."""
        for pairs in self.pair_batches(generator):
            yield self.codes[pairs.input], pairs.addend, self.codes[pairs.target]

    def validation_batches(self) -> Iterator[tuple[Tensor, ...]]:
        """Yield the same of fixed validation pairs; of several adders the best is chosen first."""
        codes = self.validation_codes
        if self.restarts:
            at = self.fixed
            losses = self.restarts.losses(codes[at.input], at.addend, codes[at.target])
            self.restarts.keep(int(losses.argmin()))
        for pairs in split(self.fixed, EVALUATION_BATCH):
            yield codes[pairs.input], pairs.addend, codes[pairs.target]

    def __call__(self, batch: tuple[Tensor, ...]) -> Result:
        """Return :func:`adder_loss`; while several learn, the least of theirs."""
        if self.restarts and self.model.training:
            return self.restarts.loss(*batch), {}
        return adder_loss(self.model.adder, *batch), {}


def adder_loss(adder: nn.Module, z: Tensor, addend: Tensor, z_target: Tensor) -> Tensor:
    """Return squared error, or negative log-likelihood, of the target's code: a scalar."""
    z_sum, p = code_of(adder, z, addend)
    return squared_error(z_sum, z_target) if p is None else gaussian_nll(p, z_target)


class JointStep(PairsStep):
    """Parts III and IV: E, P and D together.

    The loss: ``l2_orig`` x reconstruction of the input + ``l2_added`` x image of the sum + ``code``
    x difference of the two codes of the sum; with distributions also ``kld_encoder`` and
    ``kld_adder`` x KL to N(0, I), and ``match`` x KL(q(z|y) || p(z_sum|z, addend)). Training
    decodes samples, validation means. Source: assignment, Part III item 4, Part IV.
    """

    def batches(self, generator: torch.Generator) -> Iterator[tuple[Tensor, ...]]:
        """Yield input images uint8 ``[B, S, S]``, addends ``[B]``, target images, and noise."""
        for pairs in self.pair_batches(generator):
            x, y = (self.varied(at, generator) for at in (pairs.input, pairs.target))
            yield x, self.blurred(pairs.addend, generator), y, *self.noise(len(x), 2, generator)

    def blurred(self, addend: Tensor, generator: torch.Generator) -> Tensor:
        """Return the addends with the stage's ``addend_noise``."""
        if not self.stage.addend_noise:
            return addend
        noise = torch.randn(addend.shape, generator=generator, device=addend.device)
        return addend + self.stage.addend_noise * noise

    def validation_batches(self) -> Iterator[tuple[Tensor, ...]]:
        """Yield fixed pairs of the validation images."""
        images = self.validation.images
        for pairs in split(self.fixed, EVALUATION_BATCH):
            yield images[pairs.input], pairs.addend, images[pairs.target]

    def __call__(self, batch: tuple[Tensor, ...]) -> Result:
        """Return the loss; squares of reconstruction (``rmse``) and sum (``sum_rmse``)."""
        x, addend, y, *noise = batch
        x, y, weights, loss = as_float(x), as_float(y), self.config.weights, self.stage.loss
        out = self.model.training_pass(x, addend, y, *noise)
        total = (
            weights.l2_orig * image_loss(loss, out.x_logits, x)
            + weights.l2_added * image_loss(loss, out.y_logits, y)
            + weights.code * squared_error(out.z_sum, out.z_target)
        )
        total = self.with_prior(total, out.q_x, out.p_sum)
        if weights.match:
            total = total + weights.match * gaussian_kl_between(out.q_y, out.p_sum)
        return total, {"rmse": squares(out.x_logits, x), "sum_rmse": squares(out.y_logits, y)}

    def with_prior(
        self, loss: Tensor | float, q: Gaussian | None, p: Gaussian | None
    ) -> Tensor | float:
        """Return the loss plus the weighted divergences of codes and sums from N(0, I)."""
        weights = self.config.weights
        if weights.kld_encoder:
            loss = loss + weights.kld_encoder * gaussian_kl(*q)
        if weights.kld_adder:
            loss = loss + weights.kld_adder * gaussian_kl(*p)
        return loss

    @torch.no_grad()
    def images(self) -> dict[str, Tensor]:
        """Return, for ten validation pairs: input, reconstruction, image of the sum, target."""
        images, pairs = self.validation.images, Pairs(*(part[:10] for part in self.fixed))
        x, y = as_float(images[pairs.input]), as_float(images[pairs.target])
        out = self.model.training_pass(x, pairs.addend, y)
        addends = written([f"+{addend:g}" for addend in pairs.addend.tolist()], x.shape[-1])
        rows = in_rows(x, out.x_hat, out.y_hat, y)
        return {"addend_input_reconstruction_sum_target": torch.cat([addends.to(rows), rows], 1)}

    def health(self) -> Health | None:
        """Return what a judge reads in a few sums."""
        return health(self.model, self.judge, self.validation)

    @cached_property
    def judge(self) -> Judge:
        """Reads the sums after every epoch."""
        return judge_of(self.config, self.device)


class InBatch(NamedTuple):
    """Images that are each other's targets."""

    x: Tensor  # uint8 [B, S, S] in order of digits
    addend: Tensor  # one valid addend for each, [B]: which sum the image is to show
    drawn_addend: Tensor  # what the adder is given for it: the same, blurred if the stage wants it
    addends: Tensor  # what it is given for every pair in the batch, for the codes, [P]
    noise: Tensor | None = None  # standard normal [B, 2 * code_size], if codes are distributions


class BatchStep(JointStep):
    """The same with all targets in the batch at once: equal in expectation, and less noise.

    A batch holds every digit equally often. Each image is encoded once; its sum with one drawn
    addend is drawn as an image, and all its sums are made as codes. Images, codes and distributions
    alike are compared with the mean over all targets in the batch (see
    :class:`learn2add.pairs.BatchTargets`). The reconstruction is taken from one image in
    ``stage.reconstruct_every``. Validation is that of the parent class.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        self.classes = self.train.by_class()
        per_class, held_out = self.stage.batch_size // 10, self.config.held_out
        self.targets = BatchTargets(per_class, self.stage.balance, self.device, held_out)

    def batches(self, generator: torch.Generator) -> Iterator[InBatch]:
        """Yield batches of each digit equally often."""
        targets = self.targets
        for _ in range(self.steps):
            x = self.varied(self.drawn(generator), generator)
            addends = self.blurred(targets.addend, generator)
            addend = targets.draw(generator)
            noise = self.noise(len(x), 2, generator)
            yield InBatch(x, addend, self.blurred(addend, generator), addends, *noise)

    def drawn(self, generator: torch.Generator) -> Tensor:
        """Return which images make a batch: of each digit equally many, in order of digits."""
        shape, options = (self.targets.per_class,), {"generator": generator, "device": self.device}
        return torch.cat([m[torch.randint(len(m), shape, **options)] for m in self.classes])

    def __call__(self, batch: tuple[Tensor, ...]) -> Result:
        """As in the parent class; of validation pairs, or of a batch of this class."""
        if not isinstance(batch, InBatch):
            return super().__call__(batch)
        x, weights, targets = as_float(batch.x), self.config.weights, self.targets
        for_x, for_sum = (None, None) if batch.noise is None else batch.noise.chunk(2, 1)
        z, q = code_of(self.model.encoder, x, noise=for_x)
        some = slice(None, None, self.stage.reconstruct_every)  # images of a digit are shuffled
        codes = [z[some]]
        if weights.l2_added:
            codes.append(code_of(self.model.adder, z, batch.drawn_addend, noise=for_sum)[0])
        logits = self.model.decoder.logits(torch.cat(codes)).split([len(part) for part in codes])
        loss = weights.l2_orig * image_loss(self.stage.loss, logits[0], x[some])
        found = {"rmse": squares(logits[0], x[some]) * (len(x) / len(x[some]))}
        if weights.l2_added:
            at = torch.arange(len(x), device=x.device)
            y = targets.mean_target(x, at, batch.addend)
            of_image = targets.weight_of(batch.addend)
            loss = loss + weights.l2_added * image_loss(self.stage.loss, logits[1], y, of_image)
            found["sum_rmse"] = squares(logits[1], y)
        return loss + self.code_terms(z, q, batch.addends), found

    def code_terms(self, z: Tensor, q: Gaussian | None, addends: Tensor) -> Tensor | float:
        """Return all terms on codes, over all pairs in the batch."""
        targets, weights = self.targets, self.config.weights
        z_sum, p = code_of(self.model.adder, z[targets.input], addends)
        loss = 0.0
        if weights.code:
            loss = weights.code * self.code_loss(z_sum, (z if q is None else q.mu).float())
        loss = self.with_prior(loss, q, p)
        if weights.match:
            parts = torch.cat([q.mu, q.mu.square() + q.logvar.exp(), q.logvar], 1)
            moments = targets.mean_target(parts, targets.input, targets.addend).chunk(3, 1)
            nats = gaussian_kl_from_moments(*moments, p)
            loss = loss + weights.match * (targets.weight * nats).mean()
        if weights.contrast:
            loss = loss + weights.contrast * self.contrast(z, z_sum, p)
        return loss

    def contrast(self, z: Tensor, z_sum: Tensor, p: Gaussian | None = None) -> Tensor:
        """Return -ln of the share that p gives to right codes among all: InfoNCE, in nats."""
        targets = self.targets
        p = Gaussian(z_sum.float(), torch.zeros_like(z_sum)) if p is None else p
        shares = gaussian_log_densities(p, z).unflatten(1, (10, -1)).logsumexp(2)  # [P, digits]
        total = targets.digit[targets.input] + targets.addend.long()
        nats = F.cross_entropy(shares, total, reduction="none")
        return (targets.weight * nats).mean()

    def code_loss(self, z_sum: Tensor, z_target: Tensor) -> Tensor:
        """Return the mean over all pairs in the batch of the squared difference of two codes."""
        targets = self.targets
        mean = targets.mean_target(z_target, targets.input, targets.addend)
        total = targets.digit[targets.input] + targets.addend.long()
        spread = targets.spread(z_target)[total] @ targets.weight / len(total)
        return squared_error(z_sum, mean, targets.weight) + spread


def shuffled_passes(count: int, wanted: int, generator: torch.Generator) -> Tensor:
    """Return ``wanted`` indices below ``count``, int64, in passes that are each shuffled anew."""
    options = {"generator": generator, "device": generator.device}
    passes = [torch.randperm(count, **options) for _ in range(-(-wanted // count))]
    return torch.cat(passes)[:wanted]


def squares(logits: Tensor, x: Tensor) -> Tensor:
    """Return the squared error of images, summed over the batch, without gradient."""
    with torch.no_grad():
        return (torch.sigmoid(logits.float()) - x).square().sum()


def in_rows(*rows: Tensor) -> Tensor:
    """Lay rows of images ``[N, 1, S, S]`` out as one image ``[1, rows * S, N * S]``."""
    return torch.cat([torch.cat(list(row.float()), dim=2) for row in rows], dim=1)


def written(texts: Sequence[str], side: int) -> Tensor:
    """Write one line, a text in every ``side`` pixels: ``[1, 14, N * side]``."""
    line = np.zeros((14, side * len(texts)), np.uint8)
    for place, text in enumerate(texts):
        cv2.putText(line, text, (side * place + 4, 11), cv2.FONT_HERSHEY_PLAIN, 0.8, 255)
    return torch.from_numpy(line)[None] / 255


def split(pairs: Pairs, size: int) -> Iterator[Pairs]:
    """Return pairs in parts of ``size``."""
    return (Pairs(*parts) for parts in zip(*(part.split(size) for part in pairs), strict=True))


# Augmentation: changes of training images that leave the digit what it is.


def shifted(images: Tensor, pixels: int, generator: torch.Generator) -> Tensor:
    """Move each image, uint8 ``[B, S, S]``, by up to ``pixels`` each way, padded with 0."""
    if pixels == 0:
        return images
    count, side, _ = images.shape
    padded = F.pad(images, (pixels,) * 4)
    corner = torch.randint(2 * pixels + 1, (2, count, 1), generator=generator, device=images.device)
    rows, columns = corner + torch.arange(side, device=images.device)  # each [B, S]
    image = torch.arange(count, device=images.device)[:, None, None]
    return padded[image, rows[:, :, None], columns[:, None, :]]


def warped(images: Tensor, amounts: Tensor, wobble: Tensor | None = None) -> Tensor:
    """Turn, slant, scale and move images ``[B, 1, S, S]``; what is moved in is 0.

    ``amounts`` ``[6, B]`` are angle in radians, slant, scale across and along, move across and
    along (an image spans -1 to 1); ``wobble`` ``[B, S, S, 2]`` displaces single pixels further.
    """
    turn, slant, wide, high, right, down = amounts
    across = torch.stack([wide * turn.cos(), slant - turn.sin(), right], dim=1)
    along = torch.stack([turn.sin(), high * turn.cos(), down], dim=1)
    affine = torch.stack([across, along], dim=1)  # [B, 2, 3]
    grid = F.affine_grid(affine, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid if wobble is None else grid + wobble, align_corners=False)


TURN, STRETCH, MOVE, WOBBLE = math.radians(3), 0.03, 0.15, 0.3
"""Standard deviations of a deformation of strength 1: radians; shares of the side, for scales and
slant; pixels; and pixels for the wobble of each point of a 5 x 5 net."""


def deformed(images: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Turn, scale, slant, move and wobble each image, uint8 ``[B, S, S]``, by small normal amounts.

    Source: P. Simard, D. Steinkraus and J. Platt, ICDAR 2003, for the wobble.
    """
    if strength == 0:
        return images
    count, side, _ = images.shape
    options = {"generator": generator, "device": images.device}
    turn, wide, high, slant, right, down = strength * torch.randn(6, count, **options)
    pixel = 2 / side  # the image spans -1 to 1
    wide, high, slant = 1 + STRETCH * wide, 1 + STRETCH * high, STRETCH * slant
    right, down = MOVE * pixel * right, MOVE * pixel * down
    amounts = torch.stack([TURN * turn, slant, wide, high, right, down])
    net = WOBBLE * pixel * strength * torch.randn(count, 2, 5, 5, **options)
    wobble = F.interpolate(net, (side, side), mode="bicubic", align_corners=True)
    moved = warped(images[:, None].float(), amounts, wobble.permute(0, 2, 3, 1))
    return moved[:, 0].round().byte()
