"""Train report 004's auto-decoders as it did: ``python tools/experiments/report004.py``.

As it did: Fashion-MNIST, 1,000 training and 1,000 test images, the norm of its course's
``evaluate.py`` as loss, Adam at 0.001 (points) or 0.01 (distributions) for weights and codes alike,
100 epochs; where codes are distributions 100 epochs more without their divergence. Then, the
weights fixed, the codes of test images are found in 100 epochs at 0.01, and the Gaussian ones of
training images go on for as long. The report does not state its batch (here 32), where codes begin
(here N(0, 1), widths those of the prior), how many images it has (its course's loader reads 1,000),
and how much a divergence weighs (here it is a mean over the numbers of a code).

Beside these, by one objective (binary cross-entropy and, where codes have distributions, the whole
divergence), with rates that fall to 0, on the same images for as many epochs: points, the three
distributions, and encoders with the same decoder. Because a table may keep at the end what it began
with, controls begin about as wide as the prior: Gaussians, and uniforms, which take three times as
many epochs from either side. All are measured alike.

The results go to ``runs/auto_decoders``, figures of each and, of seed 0, images; what is there is
not trained again. A training that was stopped goes on where it was. ``--until`` shows what a model
draws on the way.

Source: report 004, sections 1.3.1 and 1.3.2.
"""

import io
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.manifold import TSNE
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parents[2]))

from learn2add.checkpoints import write_atomically
from learn2add.data import Digits, as_float, in_batches, load_digits
from learn2add.hardware import default_device, keep_freed_memory
from learn2add.judge import load_judge
from learn2add.losses import image_losses
from learn2add.measures import ImageErrors
from learn2add.network import Decoder, Encoder, GaussianEncoder
from learn2add.runs import runs_root
from learn2add.studies.auto_decoder import (
    FAMILIES,
    CodeLoss,
    DecoderDCGAN,
    code_accuracy,
    distance_to_real,
    evaluating,
    fast,
    find_codes,
    report_loss,
)
from tools.experiments._keep import claimed, keep, options

CODE_SIZE, BATCH, COUNT, EPOCHS = 128, 32, 1000, 100
TROUSER, SHIRT = 1, 6
WIDE = {"gaussian": 0.0, "uniform": math.log(0.95 / 0.05)}
"""The number of a row that stands for the prior's width; for 0.95 of it in a uniform one, which
is never as wide."""
SAVE_EVERY = 5
"""Epochs between two checkpoints."""


@dataclass(frozen=True)
class Plan:
    """What is trained, and how."""

    codes: str
    """A name of ``FAMILIES``; or "encoder" or "gaussian encoder", which has no table."""
    loss: str = "norm"
    """"norm", the report's of a whole batch, or "bce", nats of an image."""
    kl: float = 0.0
    """Weight of an image's divergence in nats."""
    rate: float = 1e-3
    code_rate: float = 1e-3
    epochs: int = EPOCHS
    wide: bool = False
    """Whether widths begin as the prior's (``WIDE``), not at ``START_SIGMA``."""
    decays: bool = False
    """Whether both rates fall to 0 in a straight line."""
    free: int = 0
    """Epochs that follow without the divergence."""
    further: bool = False
    """Whether the codes alone go on afterwards, without their divergence."""
    steps: int = 100
    """In which the codes of test images, and those that go on, are fitted: epochs, or steps."""
    seed: int = 0
    decoder: type[Decoder] = DecoderDCGAN
    code_size: int = CODE_SIZE

    @property
    def family(self) -> Any:
        """What a row of the table means; with an encoder, what a code is."""
        return FAMILIES["point" if self.codes == "encoder" else self.codes.split()[0]]

    @property
    def encodes(self) -> bool:
        """Whether an encoder makes the codes."""
        return self.codes.endswith("encoder")


REPORT = Plan("gaussian", kl=1 / CODE_SIZE, rate=1e-2, code_rate=1e-2, free=EPOCHS)
BOUND = Plan("gaussian", "bce", kl=1.0, code_rate=0.03, decays=True, steps=60)
PLANS = {
    "report-point": Plan("point"),
    "report-gaussian": replace(REPORT, further=True),
    "report-exponential": replace(REPORT, codes="exponential"),
    "report-uniform": replace(REPORT, codes="uniform"),
    "bound-point": replace(BOUND, codes="point", kl=0.0, code_rate=0.01),
    "bound-gaussian": BOUND,
    "bound-gaussian-wide": replace(BOUND, wide=True, further=True),
    "bound-exponential": replace(BOUND, codes="exponential"),
    "bound-uniform": replace(BOUND, codes="uniform"),
    "bound-uniform-long": replace(BOUND, codes="uniform", epochs=3 * EPOCHS),
    "bound-uniform-wide": replace(BOUND, codes="uniform", epochs=3 * EPOCHS, wide=True),
    "bound-encoder": replace(BOUND, codes="encoder", kl=0.0),
    "bound-gaussian-encoder": replace(BOUND, codes="gaussian encoder"),
}


class Model(nn.Module):
    """A decoder, and an encoder or a row for each training image."""

    def __init__(self, plan: Plan, count: int) -> None:
        super().__init__()
        self.plan, self.decoder = plan, plan.decoder(plan.code_size)
        if plan.encodes:
            self.encoder = (GaussianEncoder if plan.family.sampled else Encoder)(plan.code_size)
        else:
            self.table = nn.Parameter(self.start(count))

    def start(self, count: int) -> Tensor:
        """Return rows before training, ``[count, parts, C]``."""
        family, size = self.plan.family, self.plan.code_size
        if self.plan.loss == "norm":
            rows = torch.zeros(count, family.parts, size)
            rows[:, 0].normal_()
            return rows
        rows = family.initial(count, size)
        if self.plan.wide:
            rows[:, 1] = WIDE[self.plan.codes]
        return rows

    def rows(self, x: Tensor, at: Tensor) -> Tensor:
        """Return the rows of training images, ``[B, parts, C]``."""
        if not self.plan.encodes:
            return self.table[at]
        if self.plan.family.sampled:
            return torch.stack(self.encoder.gaussian(x), 1)
        return self.encoder(x)[:, None]

    def optimiser(self) -> torch.optim.Adam:
        """Return Adam for all; the table has its own rate."""
        weights = [p for name, p in self.named_parameters() if name != "table"]
        groups = [{"params": weights, "lr": self.plan.rate}]
        if not self.plan.encodes:
            groups.append({"params": [self.table], "lr": self.plan.code_rate})
        return torch.optim.Adam(groups)


@dataclass
class Objective:
    """The loss of a batch of rows, and its parts."""

    plan: Plan
    decoder: Decoder
    kl: float
    generator: torch.Generator
    parts: dict[str, float] = field(default_factory=dict)
    """Of the last call: the loss, its image term by itself, the divergence in nats an image."""

    def __call__(self, rows: Tensor, x: Tensor) -> Tensor:
        """Return the loss."""
        family = self.plan.family
        logits = self.decoder.logits(family.draw(rows, self.generator))
        if self.plan.loss == "norm":
            image = 255 * (torch.sigmoid(logits.float()) - x).norm() / x.numel()
        else:
            image = image_losses("bce", logits, x).mean()
        nats = family.kl(rows).mean()
        loss = image + self.kl * nats
        self.parts = {"loss": loss.item(), "image": image.item(), "nats": nats.item()}
        return loss


@dataclass
class Training:
    """A training that can be stopped and gone on with."""

    plan: Plan
    model: Model
    images: Tensor
    file: Path
    batch_size: int = BATCH
    curve: list[dict[str, float]] = field(default_factory=list)

    def run(self) -> dict[str, list[float]]:
        """Train to the end; return the loss and its parts, the mean of each epoch."""
        optimiser = self.model.optimiser()
        if self.file.exists():
            state = torch.load(self.file, weights_only=True, map_location=self.images.device)
            self.model.load_state_dict(state["model"])
            optimiser.load_state_dict(state["optimiser"])
            self.curve = state["curve"]
        rates = self.plan.rate, self.plan.code_rate
        for epoch in range(len(self.curve), self.plan.epochs + self.plan.free):
            left = 1 - epoch / self.plan.epochs if self.plan.decays else 1.0
            for group, rate in zip(optimiser.param_groups, rates, strict=False):
                group["lr"] = left * rate
            self.curve.append(self.epoch(epoch, optimiser))
            if len(self.curve) % SAVE_EVERY == 0:
                state = {"model": self.model.state_dict(), "optimiser": optimiser.state_dict()}
                packed = io.BytesIO()
                torch.save(state | {"curve": self.curve}, packed)
                write_atomically(self.file, packed.getvalue())
        return {key: [float(f"{row[key]:.4g}") for row in self.curve] for key in self.curve[0]}

    def epoch(self, epoch: int, optimiser: torch.optim.Adam) -> dict[str, float]:
        """Pass over the training images once."""
        generator = torch.Generator(self.images.device).manual_seed(1000 * self.plan.seed + epoch)
        kl = self.plan.kl if epoch < self.plan.epochs else 0.0
        objective = Objective(self.plan, self.model.decoder, kl, generator)
        order = torch.randperm(len(self.images), generator=generator, device=generator.device)
        seen = []
        self.model.train()
        for at in order.split(self.batch_size):
            x = as_float(self.images[at])
            with fast(x.device):
                loss = objective(self.model.rows(x, at).float(), x)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            seen.append(objective.parts)
        return {key: float(np.mean([each[key] for each in seen])) for key in seen[0]}


def fitted(
    plan: Plan, decoder: Decoder, rows: Tensor, images: Tensor, *, kl: float, rate: float
) -> Tensor:
    """Return rows found for images by Adam, the decoder fixed."""
    generator = torch.Generator(images.device).manual_seed(plan.seed)
    if plan.loss == "norm":
        return in_epochs(Objective(plan, decoder, kl, generator), rows, images, rate)
    loss = CodeLoss(decoder, plan.family, kl, generator)
    return find_codes(loss, images, rows, steps=plan.steps, learning_rate=rate).rows


def in_epochs(loss: Objective, rows: Tensor, images: Tensor, rate: float) -> Tensor:
    """Return rows found as the report says, in epochs over batches, one Adam for all rows.

    Between two visits a row goes on by what is left of its momentum, so it comes several times as
    far as by :func:`find_codes`.
    """
    table = rows.detach().clone().requires_grad_()
    adam = torch.optim.Adam([table], rate)
    with evaluating(loss.decoder), fast(images.device):
        for _ in range(loss.plan.steps):
            order = torch.randperm(len(table), generator=loss.generator, device=table.device)
            for at in order.split(BATCH):
                now = loss(table[at], as_float(images[at]))
                (table.grad,) = torch.autograd.grad(now, [table])
                adam.step()
    return table.detach()


@torch.no_grad()
def errors(decoder: Decoder, z: Tensor, images: Tensor) -> dict[str, float]:
    """Return the report's loss (mean over batches), and the RMSE in grey levels from 0 to 1."""
    with evaluating(decoder):
        wrong = in_batches(decoder, z, 250) - as_float(images)
    rmse = ImageErrors.of(wrong.square().mean((1, 2, 3))).rmse
    of_batches = [part.square().mean().sqrt().item() for part in wrong.split(BATCH)]
    return {"report": report_loss(float(np.mean(of_batches)), BATCH), "rmse": rmse}


class Measurement:
    """All that is measured of a trained model, and what it draws."""

    def __init__(self, plan: Plan, model: Model, train: Digits, test: Digits) -> None:
        self.plan, self.model, self.decoder = plan, model.eval(), model.decoder
        self.train, self.test = train, test
        self.generator = torch.Generator(train.images.device).manual_seed(plan.seed)
        self.found: dict[str, Any] = {}
        self.arrays: dict[str, np.ndarray] = {}
        with torch.no_grad():
            self.rows = {"train": self.trained_rows()}

    def trained_rows(self) -> Tensor:
        """Return the rows of the training images."""
        at = torch.arange(len(self.train), device=self.train.images.device)
        parts = zip(self.train.images.split(250), at.split(250), strict=True)
        return torch.cat([self.model.rows(as_float(x), some).float() for x, some in parts])

    def fit(self) -> None:
        """Find the rows of test images; where the report goes on, those of training images too."""
        plan, images = self.plan, self.test.images
        if plan.encodes:
            with torch.no_grad():
                parts = [self.model.rows(as_float(x), x).float() for x in images.split(250)]
            self.rows["test"] = torch.cat(parts)
            return
        kl, rate = (0.0, 1e-2) if plan.loss == "norm" else (plan.kl, 0.05)
        if plan.further:
            trained = self.rows["train"], self.train.images
            self.rows["further"] = fitted(plan, self.decoder, *trained, kl=0.0, rate=rate)
        if plan.loss == "norm":
            torch.manual_seed(plan.seed)
            start = self.model.start(len(images)).to(images.device)
        else:  # what all training images have in common, widths too
            start = self.rows["train"].mean(0, keepdim=True).expand(len(images), -1, -1)
        self.rows["test"] = fitted(plan, self.decoder, start, images, kl=kl, rate=rate)

    @torch.no_grad()
    def measure(self, start: Tensor) -> None:
        """Measure errors, nats, codes as features and samples of the prior; seed 0 draws too."""
        family, z = self.plan.family, {}
        for name, rows in self.rows.items():
            images = (self.test if name == "test" else self.train).images
            z[name] = family.mean(rows)
            self.found[name] = errors(self.decoder, z[name], images)
            self.found[name]["nats"] = family.kl(rows).mean().item()
        self.found["nats_before_training"] = family.kl(start).mean().item()
        self.found["classes"] = code_accuracy(
            z["train"], self.train.labels, z["test"], self.test.labels
        )
        prior = family.prior(1000, CODE_SIZE, self.generator)
        judge = load_judge(device=prior.device, dataset="FashionMNIST")
        drawn = in_batches(self.decoder, prior, 250)
        self.found["samples"] = {
            "frechet": distance_to_real(judge, drawn, self.test.images),
            "frechet_of_training_images": distance_to_real(
                judge, self.train.images, self.test.images
            ),
            "sure": (judge.read(drawn).max(1).values >= 0.9).float().mean().item(),
        }
        if not self.plan.seed:
            self.draw(z, prior)

    def draw(self, z: dict[str, Tensor], prior: Tensor) -> None:
        """Keep ten images of each kind, and a map of the codes."""
        ten = {name: firsts(self.test if name == "test" else self.train) for name in z}
        trouser, shirt = ten["train"][[TROUSER, SHIRT]]
        way = torch.linspace(0, 1, 10, device=prior.device)[:, None]
        codes = {f"{name}, drawn": z[name][ten[name]] for name in z}
        if self.plan.family.sampled:
            rows = self.rows["train"][ten["train"]]
            codes["train, sampled"] = self.plan.family.draw(rows, self.generator)
        codes |= {
            "samples": prior[:10],
            "ones and zeros": torch.stack([torch.ones_like(prior[0])] * 5 + [0 * prior[0]] * 5),
            "test, half": 0.5 * z["test"][ten["test"]],
            "test, one and a half": 1.5 * z["test"][ten["test"]],
            "way": torch.lerp(z["train"][trouser], z["train"][shirt], way),
        }
        for name, each in codes.items():
            self.arrays[name] = as_bytes(self.decoder(each))
        for name, each in z.items():
            flat = TSNE(random_state=0).fit_transform(each.cpu().numpy())
            self.arrays[f"{name}, map"] = flat.astype(np.float16)


def firsts(digits: Digits) -> Tensor:
    """Return the places of the first image of each class."""
    return torch.stack([members[0] for members in digits.by_class()])


def untrained(plan: Plan, train: Digits) -> Model:
    """Return a model as its seed begins it."""
    torch.manual_seed(plan.seed)
    model = Model(plan, len(train))
    return model.to(train.images.device, memory_format=torch.channels_last)  # an eighth faster


def glimpse(name: str, plan: Plan, train: Digits, folder: Path) -> None:
    """Train for a plan's epochs; keep what the model draws of each class's first image by then."""
    name, model = f"{name}-epoch{plan.epochs}", untrained(plan, train)
    Training(plan, model, train.images, folder_of(name) / "state.pt").run()
    at = firsts(train)
    with torch.no_grad(), evaluating(model):
        drawn = model.decoder(plan.family.mean(model.rows(as_float(train.images[at]), at)))
    save_images(folder / f"{name}.npz", {"train, drawn": as_bytes(drawn)})


def as_bytes(images: Tensor) -> np.ndarray:
    """Return images ``[N, 1, S, S]`` in grey levels from 0 to 255, ``[N, S, S]``."""
    return (255 * images[:, 0]).round().byte().cpu().numpy()


def save_images(file: Path, arrays: dict[str, np.ndarray]) -> None:
    """Write arrays by name, whole or not at all."""
    packed = io.BytesIO()
    np.savez_compressed(packed, **arrays)
    write_atomically(file, packed.getvalue())


def measured(name: str, plan: Plan, train: Digits, test: Digits, folder: Path) -> dict[str, Any]:
    """Train, fit, measure and keep one plan; return its figures."""
    model = untrained(plan, train)
    with torch.no_grad():
        at = torch.arange(len(train), device=train.images.device)
        start = model.rows(as_float(train.images), at).clone()
    curve = Training(plan, model, train.images, folder_of(name) / "state.pt").run()
    found = Measurement(plan, model, train, test)
    found.fit()
    found.measure(start)
    plain = {key: value for key, value in vars(plan).items() if key != "decoder"}
    row = {"plan": plain, "images": len(train), "curve": curve} | found.found
    if found.arrays:
        save_images(folder / f"{name}.npz", found.arrays)
    keep(folder / f"{name}.json", row)
    return row


def folder_of(name: str) -> Path:
    """Return where the state of a training lies while it is not done."""
    return runs_root() / "quick" / "report004" / name


def main(argv: Sequence[str] | None = None) -> None:
    """Train, measure, keep, print."""
    parser = options(__doc__, "auto_decoders")
    parser.add_argument("--only", nargs="*", choices=PLANS, help="of these; default: all")
    parser.add_argument("--seed", type=int, default=0, help="default: 0")
    parser.add_argument(
        "--until",
        type=int,
        choices=range(1, EPOCHS + 1),
        metavar="EPOCHS",
        help="train no longer, and keep ten images alone",
    )
    arguments = parser.parse_args(argv)
    keep_freed_memory()
    count, device = (60 if arguments.budget == "smoke" else COUNT), default_device()
    train, test = (
        load_digits("FashionMNIST", s).to(device).subset(count) for s in ("train", "test")
    )
    plans = {}
    for name in arguments.only or PLANS:
        plan = replace(PLANS[name], seed=arguments.seed)
        if arguments.budget == "smoke":
            plan = replace(plan, epochs=2, free=min(plan.free, 1), steps=2)
        plans[folder_of(f"{name}-{arguments.seed}")] = plan
    if arguments.until:
        for folder, plan in plans.items():
            plan = replace(plan, epochs=arguments.until, free=0)
            glimpse(folder.name, plan, train, arguments.folder)
        return
    for folder in claimed(plans, arguments.folder):
        row = measured(folder.name, plans[folder], train, test, arguments.folder)
        errors = {part: round(row[part]["rmse"], 4) for part in ("train", "test")}
        print(folder.name, errors, flush=True)


if __name__ == "__main__":
    main()
