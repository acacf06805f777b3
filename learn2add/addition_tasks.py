"""The joint stage: encoder, adder and decoder trained together (Parts III and IV)."""

from collections.abc import Iterator
from functools import cached_property
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from learn2add import parallel
from learn2add.auto_decoder_tasks import AutoDecoderTask, TableAdderTask
from learn2add.collapse import Health, examine
from learn2add.configs import RunConfig, Stage
from learn2add.data import Digits, as_float
from learn2add.encoders import Gaussian
from learn2add.judge import Judge, load_judge
from learn2add.models import code_of
from learn2add.objectives import (
    gaussian_kl,
    gaussian_kl_between,
    gaussian_kl_from_moments,
    gaussian_log_densities,
    picture_loss,
    squared_error,
)
from learn2add.pairs import BatchPartners, Pairs
from learn2add.tasks import (
    EVALUATION_BATCH,
    AdderTask,
    AutoencoderTask,
    PairsTask,
    Task,
    noise_for,
    pair_batches,
    rows,
    split,
    squares,
)


class AdditionTask(PairsTask):
    """Parts III and IV: the whole training model and its loss.

    ``l2_orig`` x reconstruction of the input + ``l2_added`` x picture of the sum + ``code`` x
    difference of the two codes of the sum; with distributions also ``kld_encoder`` and
    ``kld_adder`` x KL to N(0, I), and ``match`` x KL(q(z|y) || p(z'|z, addend)). Training decodes
    samples, validation means. Source: assignment, Part III item 4, Part IV.
    """

    def parameters(self) -> Iterator[nn.Parameter]:
        """All of them: encoder, adder, decoder."""
        return self.model.parameters()

    def batches(self, generator: torch.Generator) -> Iterator[tuple[Tensor, ...]]:
        """Input pictures uint8 ``[B, S, S]``, addends ``[B]``, target pictures; noise if needed."""
        for pairs in pair_batches(self.pairs, self.stage, generator):
            x, y = (self.varied(at, generator) for at in (pairs.input, pairs.target))
            addend = self.blurred(pairs.addend, generator)
            yield x, addend, y, *self.noise(len(x), generator)

    def blurred(self, addend: Tensor, generator: torch.Generator) -> Tensor:
        """The addends with the stage's ``addend_noise``."""
        if not self.stage.addend_noise:
            return addend
        noise = torch.randn(addend.shape, generator=generator, device=addend.device)
        return addend + self.stage.addend_noise * noise

    def noise(self, count: int, generator: torch.Generator) -> tuple[Tensor, ...]:
        """Noise of the codes and, times ``temperature``, of the sums; nothing if not needed."""
        drawn = noise_for(self.model.encoder, count, 2, generator)
        for noise in drawn:
            noise[:, noise.shape[1] // 2 :] *= self.config.temperature
        return drawn

    def validation_batches(self) -> Iterator[tuple[Tensor, ...]]:
        """Fixed pairs of the validation pictures."""
        images = self.validation.images
        for pairs in split(self.fixed, EVALUATION_BATCH):
            yield images[pairs.input], pairs.addend, images[pairs.target]

    def step(self, batch: tuple[Tensor, ...]) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss; squares of reconstruction (``rmse``) and sum (``sum_rmse``)."""
        x, addend, y, *noise = batch
        x, y = as_float(x), as_float(y)
        out = self.model(x, addend, y, *noise)
        config = self.config
        loss = (
            config.l2_orig * picture_loss(self.stage.loss, out.x_logits, x)
            + config.l2_added * picture_loss(self.stage.loss, out.y_logits, y)
            + config.code * squared_error(out.z_sum, out.z_target)
        )
        loss = self.with_prior(loss, out.q_x, out.p_sum)
        if config.match:
            loss = loss + config.match * gaussian_kl_between(out.q_y, out.p_sum)
        return loss, {"rmse": squares(out.x_logits, x), "sum_rmse": squares(out.y_logits, y)}

    def with_prior(
        self, loss: Tensor | float, q: Gaussian | None, p: Gaussian | None
    ) -> Tensor | float:
        """The loss plus the weighted divergences of codes and sums from N(0, I)."""
        config = self.config
        if config.kld_encoder:
            loss = loss + config.kld_encoder * gaussian_kl(*q)
        if config.kld_adder:
            loss = loss + config.kld_adder * gaussian_kl(*p)
        return loss

    @torch.no_grad()
    def pictures(self) -> dict[str, Tensor]:
        """For ten validation pairs: input, reconstruction, picture of the sum, target."""
        images, pairs = self.validation.images, Pairs(*(part[:10] for part in self.fixed))
        x, y = as_float(images[pairs.input]), as_float(images[pairs.target])
        out = self.model(x, pairs.addend, y)
        return {"input_reconstruction_sum_target": rows(x, out.x_hat, out.y_hat, y)}

    def examine(self) -> Health | None:
        """What a judge reads in a few sums; None for data that it cannot read."""
        if self.config.dataset != "MNIST":
            return None
        return examine(self.model, self.judge, self.validation)

    @cached_property
    def judge(self) -> Judge:
        """Reads the sums after every epoch."""
        return load_judge(device=self.device)


class InBatch(NamedTuple):
    """Pictures that are each other's partners."""

    x: Tensor
    """uint8 ``[B, S, S]`` in order of digits."""
    addend: Tensor
    """One valid addend for each, ``[B]``: it decides which sum the picture is to show."""
    told: Tensor
    """What the adder is told for that picture: the same, blurred if the stage wants it."""
    addends: Tensor
    """What it is told for every pair in the batch, for the codes, ``[P]``."""
    noise: Tensor | None = None
    """Standard normal ``[B, 2 * code_size]``, where codes are distributions."""


class BatchAdditionTask(AdditionTask):
    """The same with all partners in the batch at once: equal in expectation, and less noise.

    A batch holds every digit equally often. Each picture is encoded once; its sum with one drawn
    addend is drawn as a picture, and all its sums are made as codes. Pictures, codes and
    distributions alike are compared with the mean over all partners in the batch (see
    :class:`learn2add.pairs.BatchPartners`). The reconstruction is taken from one picture in
    ``stage.reconstruct_every``. Validation is that of the parent class.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        self.classes = self.train.by_class()
        self.partners = BatchPartners(
            self.stage.batch_size // 10, self.stage.balance, self.device, self.config.held_out
        )

    def batches(self, generator: torch.Generator) -> Iterator[InBatch]:
        """Batches of each digit equally often."""
        shape, partners = (self.partners.per_class,), self.partners
        for _ in range(self.steps):
            at = [
                members[torch.randint(len(members), shape, generator=generator, device=self.device)]
                for members in self.classes
            ]
            x = self.varied(torch.cat(at), generator)
            addends = self.blurred(partners.addend, generator)
            addend = partners.draw(generator)
            noise = self.noise(len(x), generator)
            yield InBatch(x, addend, self.blurred(addend, generator), addends, *noise)

    def mine(self, batch: tuple[Tensor, ...]) -> tuple[tuple[Tensor, ...], float]:
        """As in the parent class; a batch of this class stays whole, as its codes are compared."""
        return (batch, 1.0) if isinstance(batch, InBatch) else super().mine(batch)

    def step(self, batch: tuple[Tensor, ...]) -> tuple[Tensor, dict[str, Tensor]]:
        """As in the parent class; of validation triples, or of a batch of this class."""
        if not isinstance(batch, InBatch):
            return super().step(batch)
        x, addend, config, partners = as_float(batch.x), batch.addend, self.config, self.partners
        processes = parallel.world()
        rows = processes.rows(len(x))  # encoded and drawn here; the codes of all are compared
        noise = (None, None) if batch.noise is None else batch.noise[rows].chunk(2, 1)
        z, q = code_of(self.model.encoder, x[rows], noise=noise[0])
        every = self.stage.reconstruct_every
        some = slice(-rows.start % every, None, every)  # pictures of a digit are shuffled
        codes, found = [z[some]], {}
        if config.l2_added:
            codes.append(code_of(self.model.adder, z, batch.told[rows], noise=noise[1])[0])
        x_logits, *y_logits = self.model.decoder.logits(torch.cat(codes)).split(
            [len(part) for part in codes]
        )
        seen = -(-len(x) // every)
        share = len(x_logits) * processes.size / seen
        loss = config.l2_orig * share * picture_loss(self.stage.loss, x_logits, x[rows][some])
        found["rmse"] = squares(x_logits, x[rows][some]) * (len(x) / seen)
        if y_logits:
            at = torch.arange(len(x), device=x.device)[rows]
            y = partners.mean_partner(x, at, addend[rows])
            weight = partners.weight_of(addend)[rows]
            drawn = picture_loss(self.stage.loss, y_logits[0], y, weight)
            loss = loss + config.l2_added * processes.share(len(x)) * drawn
            found["sum_rmse"] = squares(y_logits[0], y)
        z = parallel.together(z, len(x))
        if q is not None:
            q = Gaussian(*(parallel.together(part, len(x)) for part in q))
        return loss + self._code_terms(z, q, batch.addends), found

    def _code_terms(self, z: Tensor, q: Gaussian | None, addends: Tensor) -> Tensor | float:
        """All terms on codes, over all pairs in the batch."""
        partners, config = self.partners, self.config
        z_sum, p = code_of(self.model.adder, z[partners.input], addends)
        loss = 0.0
        if config.code:
            loss = config.code * self._code_loss(z_sum, (z if q is None else q.mu).float())
        loss = self.with_prior(loss, q, p)
        if config.match:
            parts = torch.cat([q.mu, q.mu.square() + q.logvar.exp(), q.logvar], 1)
            moments = partners.mean_partner(parts, partners.input, partners.addend).chunk(3, 1)
            nats = gaussian_kl_from_moments(*moments, p)
            loss = loss + config.match * (partners.weight * nats).mean()
        if config.contrast:
            around = Gaussian(z_sum.float(), torch.zeros_like(z_sum)) if p is None else p
            loss = loss + config.contrast * self._contrast(z, around)
        return loss

    def _contrast(self, z: Tensor, p: Gaussian) -> Tensor:
        """Nats short of certainty with which p tells right pictures from the others' codes."""
        partners = self.partners
        shares = gaussian_log_densities(p, z).unflatten(1, (10, -1)).logsumexp(2)  # [P, digits]
        total = partners.digit[partners.input] + partners.addend.long()
        nats = F.cross_entropy(shares, total, reduction="none")
        return (partners.weight * nats).mean()

    def _code_loss(self, z_sum: Tensor, z_target: Tensor) -> Tensor:
        """Mean over all pairs in the batch of the squared difference of the two codes."""
        partners = self.partners
        mean = partners.mean_partner(z_target, partners.input, partners.addend)
        total = partners.digit[partners.input] + partners.addend.long()
        spread = partners.spread(z_target)[total] @ partners.weight / len(total)
        return squared_error(z_sum, mean, partners.weight) + spread


def make_task(
    model: nn.Module, config: RunConfig, stage: Stage, train: Digits, validation: Digits
) -> Task:
    """The task of one stage, over digits already on the training device."""
    kinds = {"autoencoder": AutoencoderTask, "adder": AdderTask, "addition": AdditionTask}
    if config.kind.table:
        kinds = {"auto_decoder": AutoDecoderTask, "adder": TableAdderTask}
    kind = BatchAdditionTask if stage.partners == "batch" else kinds[stage.task]
    return kind(model, config, stage, train, validation)
