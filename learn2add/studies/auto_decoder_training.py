"""Training auto-decoders, and what their codes and reconstructions are worth (notebook 10).

Few images, seen forty times: one costs the report's decoder 0.8 GFLOP, eight times as much as the
assignment's. Passes and rates were chosen on the validation split.

Source: report 004, sections 1.3.1 and 1.3.2.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn

from learn2add.checks import check_choice, check_int
from learn2add.config import LossWeights, RunConfig, Stage
from learn2add.data import Digits, as_float, in_batches
from learn2add.evidence import frechet_distance
from learn2add.judge import Judge
from learn2add.losses import PIXELS, image_loss
from learn2add.network import DECODERS, Adder, Autoencoder, GaussianEncoder
from learn2add.recipes import common
from learn2add.steps import (
    EVALUATION_BATCH,
    AdderStep,
    Result,
    Step,
    in_rows,
    shuffled_passes,
    squares,
)
from learn2add.studies.auto_decoder import FAMILIES, AutoDecoder, CodeTable, DecoderDCGAN, Found


class CodeAdam(torch.optim.Adam):
    """Adam for the weights; for tables, Adam on the rows that have a gradient alone.

    Torch's dense Adam would also move the codes of images that are not in the batch, by what is
    left of their momentum, and read and write the whole table three times at each step;
    ``torch.optim.SparseAdam`` corrects the bias of its moments by the number of *steps*, where a
    row has been seen as often as there were *passes*: its first updates are three times as long as
    Adam's. Here every row counts its own, and other rows stay unchanged. ``tables`` are weights
    ``[N, D]`` of sparse embeddings, ``code_rate`` their learning rate over that of the others.

    Source: D. P. Kingma and J. Ba, arXiv 1412.6980.
    """

    def __init__(
        self,
        weights: Iterable[nn.Parameter],
        tables: Iterable[nn.Parameter],
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        code_rate: float = 1.0,
    ) -> None:
        tables = list(tables)
        super().__init__([{"params": list(weights)}, {"params": tables}], lr, betas, fused=True)
        self.tables, self.code_rate = tables, code_rate

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        """Update everything that has a gradient; set ``.grad`` of tables to None."""
        if closure is not None:
            raise ValueError(f"closure is {closure!r}; allowed is None")
        waiting = [(table, table.grad) for table in self.tables if table.grad is not None]
        for table, _ in waiting:
            table.grad = None  # which Adam then leaves alone
        super().step()
        for table, gradient in waiting:
            self._update(table, gradient.coalesce())

    def _update(self, table: Tensor, gradient: Tensor) -> None:
        group, state = self.param_groups[1], self.state[table]
        if not state:
            state["step"] = torch.zeros(())  # Adam asks every parameter for one when loaded
            state["visits"] = torch.zeros(len(table), 1, device=table.device)
            state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(table), torch.zeros_like(table)
        at, g = gradient.indices()[0], gradient.values()
        (beta1, beta2), rate = group["betas"], self.code_rate * group["lr"]
        state["step"] += 1
        state["visits"][at] += 1
        visits = state["visits"][at]
        first = state["exp_avg"][at].lerp_(g, 1 - beta1)
        second = state["exp_avg_sq"][at].lerp_(g.square(), 1 - beta2)
        state["exp_avg"][at], state["exp_avg_sq"][at] = first, second
        spread = (second / (1 - beta2**visits)).sqrt_().add_(group["eps"])
        table[at] -= rate * first / (1 - beta1**visits) / spread


@dataclass(frozen=True)
class AutoDecoderStage(Stage):
    """Decoder and table of codes, learned together by :class:`CodeAdam`."""

    task: Literal["auto_decoder"]
    optimiser: Literal["adam"] = "adam"
    code_rate: float = 1.0
    """Learning rate of the codes over that of the weights. Codes are seen as often as there are
    passes, weights as often as there are steps: so it has to be a high one."""
    fit_steps: int = 20
    """Steps in which the codes of validation images are found, after each epoch."""

    RANGES: ClassVar[dict[str, tuple[float, float]]] = Stage.RANGES | {
        "code_rate": (1e-12, 1000.0),
        "fit_steps": (1, 10_000),
    }


@dataclass(frozen=True)
class AutoDecoderConfig(RunConfig):
    """An auto-decoder; with an adder on its codes, the second stage is the core's adder stage."""

    model: Literal["auto_decoder", "auto_decoder_addition"] = "auto_decoder"
    decoder: Literal["dcgan", "conv_transpose", "conv_upsample", "interpolation"] = "dcgan"
    dataset: Literal["MNIST", "FashionMNIST"] = "FashionMNIST"
    code_distribution: str = "point"
    """A name of :data:`learn2add.studies.auto_decoder.FAMILIES`: points (AD), or distributions."""
    kld_code: float = 0.0
    """Weight of the divergence of the table's distributions from their prior."""

    variational = False  # no encoder makes distributions
    RANGES: ClassVar[dict[str, tuple[float, float]]] = RunConfig.RANGES | {"kld_code": (0.0, 1e12)}

    def check_model(self) -> None:
        """Raise ValueError where stages or weights ask for a part that the model has not."""
        check_choice("code_distribution", self.code_distribution, tuple(FAMILIES))
        tasks = [stage.task for stage in self.stages]
        allowed = ("auto_decoder", "adder") if self.adds else ("auto_decoder",)
        if tasks[0] != "auto_decoder" or not set(tasks) <= set(allowed):
            raise ValueError(
                f"stages is {tasks}; allowed for model {self.model!r} is {' and '.join(allowed)}, "
                "auto_decoder first"
            )
        if self.embed_addend and not self.adds:
            raise ValueError(f"embed_addend is True; allowed is False for model {self.model!r}")
        if self.weights != LossWeights():
            raise ValueError(
                f"weights is {self.weights}; allowed is the default, as the loss has kld_code alone"
            )
        if self.kld_code and self.code_distribution == "point":
            raise ValueError(
                f"kld_code is {self.kld_code}; allowed is 0 for code_distribution 'point'"
            )

    def build(self) -> AutoDecoder:
        """Return the untrained model, with a row in the table for each training image."""
        size, family = self.code_size, FAMILIES[self.code_distribution]
        codes = CodeTable(self.train_size or 50_000, size, family)
        adder = Adder(size, embed_addend=self.embed_addend) if self.adds else None
        decoder = DecoderDCGAN if self.decoder == "dcgan" else DECODERS[self.decoder]
        return AutoDecoder(codes, decoder(size, self.image_size), adder)

    def step(self, stage: Stage, model: AutoDecoder, train: Digits, validation: Digits) -> Step:
        """Return what a training step is."""
        kind = AutoDecoderStep if stage.task == "auto_decoder" else TableAdderStep
        return kind(model, self, stage, train, validation)

    @classmethod
    def stage_of(cls, fields: dict[str, Any]) -> Stage:
        """Return the stage with these fields."""
        return (AutoDecoderStage if fields["task"] == "auto_decoder" else Stage)(**fields)


@dataclass(frozen=True)
class DCGANAutoencoderConfig(RunConfig):
    """A variational autoencoder with the auto-decoders' decoder, to be set beside them."""

    model: Literal["variational_autoencoder"] = "variational_autoencoder"
    decoder: Literal["dcgan"] = "dcgan"
    dataset: Literal["MNIST", "FashionMNIST"] = "FashionMNIST"

    def build(self) -> Autoencoder:
        """Return the untrained model."""
        encoder = GaussianEncoder(self.code_size, self.image_size, self.activation)
        return Autoencoder(encoder, DecoderDCGAN(self.code_size, self.image_size))


FIT_RATE = 0.05
"""Adam's learning rate for codes of validation images."""


class Shown(NamedTuple):
    """A batch: images, and where their codes come from."""

    x: Tensor
    """Float ``[B, 1, S, S]``."""
    at: Tensor | None = None
    """Their places in the table, int64 ``[B]``, while training."""
    noise: Tensor | None = None
    """For samples of their codes, ``[B, C]``."""
    rows: Tensor | None = None
    """Rows found for them, ``[B, parts, C]``, in validation."""


class AutoDecoderStep(Step):
    """Report 004: D and the codes of the training images, learned together.

    The loss is the reconstruction's and ``kld_code`` x KL(the code's distribution || its prior).
    Training decodes samples, validation means; as there is no encoder, the codes of the validation
    images are searched for after every epoch.
    """

    found: Found

    def optimiser(self) -> CodeAdam:
        """Return Adam that touches only the rows of the images in the batch."""
        model, stage = self.model, self.stage
        rates = stage.learning_rate, (0.9, stage.beta2), stage.code_rate
        return CodeAdam(model.decoder.parameters(), model.codes.parameters(), *rates)

    def batches(self, generator: torch.Generator) -> Iterator[Shown]:
        """Yield shuffled training images, each at most once in a batch."""
        wanted = self.steps * self.stage.batch_size if self.stage.steps else len(self.train)
        order = shuffled_passes(len(self.train), wanted, generator)
        for at in order.split(self.stage.batch_size):
            at = at.unique()  # two passes may meet within a batch
            x, noise = as_float(self.varied(at, generator)), None
            if self.model.family.sampled:
                noise = self.model.family.noise(len(at), self.config.code_size, generator)
            yield Shown(x, at, noise)

    def validation_batches(self) -> Iterator[Shown]:
        """Yield the validation images, their codes found from the mean code each time."""
        self.found = self.model.find(
            self.validation.images,
            steps=self.stage.fit_steps,
            learning_rate=FIT_RATE,
            loss=self.stage.loss,
            kl=self.config.kld_code,
        )
        parts = self.validation.images, self.found.rows
        for x, rows in zip(*(part.split(EVALUATION_BATCH) for part in parts), strict=True):
            yield Shown(as_float(x), rows=rows)

    def __call__(self, batch: Shown) -> Result:
        """Return the loss, and ``rmse``'s squares."""
        family, kld_code = self.model.family, self.config.kld_code
        rows = self.model.codes(batch.at) if batch.rows is None else batch.rows
        z = family.mean(rows) if batch.noise is None else family.sample(rows, batch.noise)
        logits = self.model.decoder.logits(z)
        loss = image_loss(self.stage.loss, logits, batch.x)
        if kld_code:
            loss = loss + kld_code * family.kl(rows).mean()
        return loss, {"rmse": squares(logits, batch.x)}

    @torch.no_grad()
    def images(self) -> dict[str, Tensor]:
        """Return ten validation images above what was found for them."""
        drawn = self.model.decoder(self.found.z[:10])
        return {"input_reconstruction": in_rows(as_float(self.validation.images[:10]), drawn)}


class TableAdderStep(AdderStep):
    """P alone, on an auto-decoder's codes: the table's, and for validation codes that are found."""

    def all_codes(self) -> tuple[Tensor, Tensor]:
        """Return the codes of training and validation images."""
        return self.model.codes.means(), self.model.encoder(as_float(self.validation.images))


# Recipes

QUICK_IMAGES, QUICK_DIGITS = 500, 5000
"""A digit costs :func:`table_addition` an eighth of what an image costs the report's decoder."""
PASSES = 40
"""How often every image is seen. A code moves once in a pass, so passes matter to it more
than images."""
SCHEDULED: Any = {"schedule": "one_cycle", "loss": "bce", "beta2": 0.99, "pct_start": 0.15}
"""Of all stages."""


def fashion(smoke: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what configurations, and what stages, of Fashion-MNIST have in common."""
    train_size, validation_size = (60, 10) if smoke else (QUICK_IMAGES, 30)
    sizes = {"train_size": train_size, "validation_size": validation_size}
    stage = {"epochs": 3, "steps": PASSES * QUICK_IMAGES // (3 * 25), "batch_size": 25}
    if smoke:
        stage = {"epochs": 2, "steps": 2, "batch_size": 10}
    return {"code_size": 128} | common("quick") | sizes, stage | SCHEDULED


def auto_decoder(
    distribution: str = "point", *, smoke: bool = False, seed: int = 0
) -> AutoDecoderConfig:
    """Return an auto-decoder ("point"), or a variational one, of Fashion-MNIST."""
    settings, stage = fashion(smoke)
    how = {"code_rate": 60.0, "fit_steps": 1 if smoke else 10}
    kld_code = 0.0 if distribution == "point" else 1.0
    table = {"code_distribution": distribution, "kld_code": kld_code}
    stages = (AutoDecoderStage("auto_decoder", **stage, **how),)
    return AutoDecoderConfig(stages, **table, seed=seed, **settings)


def variational_autoencoder(*, smoke: bool = False, seed: int = 0) -> DCGANAutoencoderConfig:
    """Return an ordinary VAE with the same decoder, to be set beside the Gaussian auto-decoder."""
    settings, stage = fashion(smoke)
    stages, weights = (Stage("autoencoder", **stage),), LossWeights(kld_encoder=1.0)
    return DCGANAutoencoderConfig(stages, weights=weights, seed=seed, **settings)


def table_addition(*, smoke: bool = False, seed: int = 0) -> AutoDecoderConfig:
    """Return a Gaussian auto-decoder of MNIST, and then an adder on its codes.

    The decoder is Part II's first, an eighth as costly as the report's.
    """
    quick = SCHEDULED | {"code_rate": 60.0}
    steps = PASSES * QUICK_DIGITS // (3 * 100)
    table = AutoDecoderStage("auto_decoder", 3, steps, 100, 2e-3, fit_steps=20, **quick)
    adder = Stage("adder", 1, 2000, 512, 3e-2, "one_cycle", balance="cells", restarts=16)
    sizes = {"train_size": QUICK_DIGITS, "validation_size": 100}
    if smoke:
        table = AutoDecoderStage("auto_decoder", 2, 3, 20, fit_steps=1, **quick)
        adder = Stage("adder", 1, 10, 64, 1e-2, "one_cycle", balance="cells")
        sizes = {"train_size": 100, "validation_size": 30}
    return AutoDecoderConfig(
        (table, adder),
        "auto_decoder_addition",
        "conv_transpose",
        16,
        dataset="MNIST",
        code_distribution="gaussian",
        kld_code=1.0,
        seed=seed,
        **common("quick") | sizes,
    )


# Measures


def report_loss(rmse: float, batch_size: int) -> float:
    """Return an RMSE in grey levels of 0 to 1 as report 004's loss.

    The report's ``evaluate.py`` is its course's: the norm of the difference of a whole batch, in
    grey levels of 0 to 255, over the number of its elements, ``||x - x_hat|| / (B * 784)``. That
    falls with the root of the batch, which the report does not state.
    """
    return 255 * rmse / (PIXELS * check_int("batch_size", batch_size, 1)) ** 0.5


def code_accuracy(z: Tensor, labels: Tensor, z_new: Tensor, labels_new: Tensor) -> dict[str, float]:
    """Return which share of new codes simple classifiers assign to their class.

    "logistic regression" and the "5 nearest neighbours" learn from codes ``z`` ``[N, C]`` and
    labels ``[N]``, and classify ``z_new`` ``[M, C]``.
    """
    from sklearn.linear_model import LogisticRegression  # a part of the notebooks' extra
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    kinds = {
        "logistic regression": LogisticRegression(max_iter=1000, C=0.1),
        "5 nearest neighbours": KNeighborsClassifier(5),
    }
    z, labels, z_new, labels_new = (t.numpy(force=True) for t in (z, labels, z_new, labels_new))
    fitted = {k: make_pipeline(StandardScaler(), kind).fit(z, labels) for k, kind in kinds.items()}
    return {name: float(kind.score(z_new, labels_new)) for name, kind in fitted.items()}


def distance_to_real(judge: Judge, images: Tensor, real: Tensor) -> float:
    """Return the Fréchet distance between two sets of images in a judge's features.

    Each is uint8 ``[N, S, S]`` or float ``[N, 1, S, S]`` in [0, 1].
    """
    features = (in_batches(judge.features, each).numpy(force=True) for each in (images, real))
    return frechet_distance(*features)
