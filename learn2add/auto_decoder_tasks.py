"""An auto-decoder's stages: decoder and table of codes together, then an adder on the codes."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

from learn2add import parallel
from learn2add.code_fitting import Found
from learn2add.code_optimiser import CodeAdam
from learn2add.data import as_float
from learn2add.objectives import picture_loss
from learn2add.tasks import AdderTask, PairsTask, StageTask, rows, shuffled, squares

FIT_RATE = 0.05
"""Adam's learning rate for codes of validation pictures."""


class Shown(NamedTuple):
    """A batch: pictures, and where their codes come from."""

    x: Tensor
    """Float ``[B, 1, S, S]``."""
    at: Tensor | None = None
    """Their places in the table, int64 ``[B]``, while training."""
    noise: Tensor | None = None
    """For samples of their codes, ``[B, C]``."""
    rows: Tensor | None = None
    """Rows found for them, ``[B, parts, C]``, in validation."""


class AutoDecoderTask(StageTask):
    """Report 004: D and the codes of the training pictures, learned together.

    The loss is the reconstruction's and ``kld_code`` x KL(the code's distribution || its prior).
    Training decodes samples, validation means; as there is no encoder, the codes of the validation
    pictures are searched for after every epoch.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        if parallel.world().size > 1:
            raise ValueError(
                "an auto_decoder stage trains in one process; start it without torchrun"
            )
        self.family = self.model.family
        self.steps = self.stage.steps or -(-len(self.train) // self.stage.batch_size)
        self.found: Found | None = None

    def weights(self) -> Iterator[nn.Parameter]:
        """The decoder's."""
        return self.model.decoder.parameters()

    def tables(self) -> Iterator[nn.Parameter]:
        """The table's rows."""
        return self.model.codes.parameters()

    def parameters(self) -> Iterator[nn.Parameter]:
        """The decoder's, then the table's."""
        yield from self.weights()
        yield from self.tables()

    def optimiser(self) -> CodeAdam:
        """Adam that touches only the rows of the pictures in the batch."""
        stage, betas = self.stage, (0.9, self.stage.beta2)
        rates = stage.learning_rate, betas, stage.code_rate
        return CodeAdam(self.weights(), self.tables(), *rates)

    def batches(self, generator: torch.Generator) -> Iterator[Shown]:
        """Shuffled passes over the training pictures."""
        for at in shuffled(len(self.train), self.stage, generator):
            at = at.unique()  # two passes may meet within a batch
            x, noise = as_float(self.varied(at, generator)), None
            if self.family.sampled:
                shape = torch.Size((len(at), self.config.code_size))
                noise = self.family.noise(shape, generator)
            yield Shown(x, at, noise)

    def validation_batches(self) -> Iterator[Shown]:
        """The validation pictures, with codes found anew from the mean code."""
        options = {"steps": self.stage.fit_steps, "learning_rate": FIT_RATE}
        images, kl = self.validation.images, self.config.kld_code
        self.found = self.model.find(images, loss=self.stage.loss, kl=kl, **options)
        for part, found in zip(images.split(500), self.found.rows.split(500), strict=True):
            yield Shown(as_float(part), rows=found)

    def step(self, batch: Shown) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss, and ``rmse``'s squares."""
        found = self.model.codes(batch.at) if batch.rows is None else batch.rows
        drawn = self.family.mean(found)
        if batch.noise is not None:
            drawn = self.family.sample(found, batch.noise)
        logits = self.model.decoder.logits(drawn)
        loss = picture_loss(self.stage.loss, logits, batch.x)
        if self.config.kld_code:
            loss = loss + self.config.kld_code * self.family.kl(found).mean()
        return loss, {"rmse": squares(logits, batch.x)}

    @torch.no_grad()
    def pictures(self) -> dict[str, Tensor]:
        """Ten validation pictures above what was found for them."""
        z = self.found.z[:10]
        seen = as_float(self.validation.images[:10])
        return {"input_reconstruction": rows(seen, self.model.decoder(z))}


class TableAdderTask(AdderTask):
    """P alone, on an auto-decoder's codes: the table's, and for validation codes that are found."""

    def __post_init__(self) -> None:
        PairsTask.__post_init__(self)
        self.codes = self.model.codes.means()
        self.validation_codes = self.model.encoder(as_float(self.validation.images))
