"""How the judges are trained: ``learn2add judge`` rebuilds ``weights/judge.safetensors`` with this.

A third of each batch are means of 2 to 32 digits of one class, so that the judge reads the soft
pictures of the models as well as sharp ones; everything is moved and turned a little.

Both architectures are trained by the same steps, with numbers of epochs of their own. Trained on
the 50,000 training digits, every choice made on the 10,000 validation digits; the test digits only
give figures to the cards, ``weights/judge.json`` and ``weights/judge_mlp.json``.
"""

import math
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm.auto import tqdm

from learn2add.augmentation import warped
from learn2add.checks import check_choice, check_int
from learn2add.data import Digits, as_float, load_digits
from learn2add.judge import SIZE, Judge, examine, half_precision, place_of, save_judge

EPOCHS = {"cnn": 16, "mlp": 48}
FASHION_EPOCHS = 8
BATCH = 256
MEANS = {"MNIST": BATCH // 3, "FashionMNIST": BATCH // 16}
"""How many of a batch are means of several pictures of one class."""
MOST_AVERAGED = 32
PEAK_RATE = 0.1
WEIGHT_DECAY = 5e-4


def augment(images: Tensor, generator: torch.Generator) -> Tensor:
    """Move, turn, scale, slant and soften each picture a little, each by an amount of its own.

    One picture in five keeps its geometry, one in two its sharpness.

    Shapes: ``images`` float ``[B, 1, S, S]`` in [0, 1], on the generator's device -> the same.
    """
    count, device = len(images), images.device
    drawn = torch.rand(8, count, device=device, generator=generator)
    turn, slant, wide, high, right, down = 2 * drawn[:6] - 1
    strength = (1.25 * drawn[6] - 0.25).clamp(min=0)
    turn, slant = math.radians(12) * strength * turn, 0.15 * strength * slant
    wide, high = 1 + 0.12 * strength * wide, 1 + 0.12 * strength * high
    shift = 2.5 * 2 / images.shape[-1] * strength  # 2.5 pixels; the picture spans -1 to 1
    amounts = [turn, slant, wide, high, shift * right, shift * down]
    images = warped(images, torch.stack(amounts))
    return softened(images, drawn[7])


def mirrored(images: Tensor, generator: torch.Generator) -> Tensor:
    """For clothes: mirror one picture in two, soften one in four.

    Their classes differ in length and width, which digits do not: nothing is scaled or turned.

    Shapes: ``images`` float ``[B, 1, S, S]`` in [0, 1], on the generator's device -> the same.
    """
    drawn = torch.rand(2, len(images), device=images.device, generator=generator)
    turned = torch.where(drawn[0].view(-1, 1, 1, 1) < 0.5, images.flip(3), images)
    return softened(turned, drawn[1], share=0.25)


def softened(images: Tensor, drawn: Tensor, share: float = 0.5) -> Tensor:
    """Blur a share of the pictures, those with the largest ``drawn`` ``[B]``; fully at 1."""
    kernel = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0], device=images.device) / 16
    blurred = F.conv2d(images, kernel.view(1, 1, 1, 5), padding=(0, 2))
    blurred = F.conv2d(blurred, kernel.view(1, 1, 5, 1), padding=(2, 0))
    softness = ((drawn - (1 - share)) / share).clamp(min=0)
    return torch.lerp(images, blurred, softness.view(-1, 1, 1, 1))


class ClassMeans:
    """Draws mean pictures of random digits of one class.

    Args:
        digits: Digits of which every class has at least one.
    """

    def __init__(self, digits: Digits) -> None:
        self.images = digits.images
        self.by_class = digits.labels.argsort(stable=True)
        self.counts = digits.labels.bincount(minlength=10)
        self.starts = self.counts.cumsum(0) - self.counts

    def draw(self, labels: Tensor, generator: torch.Generator) -> Tensor:
        """For each of ``labels`` ``[B]`` the mean of 2 to 32 digits: float ``[B, 1, H, W]``."""
        shape, device = (len(labels), MOST_AVERAGED + 1), labels.device
        random = torch.rand(shape, device=device, generator=generator)
        members = (random[:, 1:] * self.counts[labels, None]).long()
        chosen = self.by_class[self.starts[labels, None] + members]  # [B, 32]
        averaged = (2 * (MOST_AVERAGED / 2) ** random[:, :1]).round()  # few as likely as many
        weights = (torch.arange(MOST_AVERAGED, device=device) < averaged).float() / averaged
        return torch.einsum("bk,bkhw->bhw", weights, self.images[chosen] / 255).unsqueeze(1)


AUGMENTATIONS = {"MNIST": augment, "FashionMNIST": mirrored}


def train_judge(
    train: Digits,
    validation: Digits,
    *,
    architecture: str = "cnn",
    seed: int = 0,
    epochs: int | None = None,
    progress: bool = True,
    device: str | torch.device = "cpu",
) -> tuple[Judge, dict[str, Any]]:
    """Train a judge from scratch; the same seed gives the same weights (same CPU and threads).

    SGD with Nesterov momentum under a one-cycle rate, batches of 256. The last weights are kept:
    no epoch is chosen by its score.

    Args:
        train: Digits 28 pixels wide, 256 or more, every class among them.
        validation: Digits whose accuracy is reported; they do not touch the weights.
        architecture: Of the judge, ``"cnn"`` or ``"mlp"``.
        seed: Decides the first weights, the batches and the augmentation.
        epochs: Passes over ``train``, on two CPU cores with bfloat16 about 14 s each for the
            ``"cnn"``, 3 s for the ``"mlp"``. Default: as for the kept weights.
        progress: Show a progress bar.
        device: Where to train.

    Returns:
        The judge, as from ``load_judge``, and its card: ``architecture``, ``seed``, ``epochs``,
        ``seconds``, ``parameters``, ``validation_accuracy``.

    Raises:
        TypeError: ``epochs`` is no integer.
        ValueError: ``epochs`` is below 1; ``train`` is too small, lacks a class or has another
            picture size; there is no such architecture.
    """
    check_choice("architecture", architecture, tuple(EPOCHS))
    usual = EPOCHS[architecture] if train.dataset == "MNIST" else FASHION_EPOCHS
    epochs = usual if epochs is None else check_int("epochs", epochs, 1)
    counts = train.labels.bincount(minlength=10).tolist()
    if train.images.shape[1:] != (SIZE, SIZE) or len(train.labels) < BATCH or 0 in counts:
        raise ValueError(
            f"train must hold {SIZE} x {SIZE} digits, at least {BATCH}, every class among them, "
            f"not {list(train.images.shape)} with {counts} per class"
        )
    device, started = torch.device(device), time.perf_counter()
    with torch.random.fork_rng(devices=[]):  # the caller's random numbers go on as before
        torch.default_generator.manual_seed(seed)
        judge = Judge(architecture).to(device).train()
    _fit(judge, train.to(device), torch.Generator(device).manual_seed(seed), epochs, progress)
    judge.eval().requires_grad_(False)
    return judge, {
        "architecture": architecture,
        "seed": seed,
        "epochs": epochs,
        "seconds": round(time.perf_counter() - started, 1),
        "parameters": sum(p.numel() for p in judge.parameters()),
        "validation_accuracy": examine(judge, validation)["accuracy"],
    }


def _fit(
    judge: Judge, train: Digits, generator: torch.Generator, epochs: int, progress: bool
) -> None:
    """Train ``judge`` in place; everything lies on the generator's device."""
    means, steps = ClassMeans(train), len(train.labels) // BATCH
    change, soft_ones = AUGMENTATIONS[train.dataset], MEANS[train.dataset]
    optimiser = torch.optim.SGD(
        judge.parameters(), PEAK_RATE, momentum=0.9, nesterov=True, weight_decay=WEIGHT_DECAY
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, PEAK_RATE, total_steps=epochs * steps, pct_start=0.25, cycle_momentum=False
    )

    def batches(epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        order = torch.randperm(len(train.labels), device=generator.device, generator=generator)
        parts = order[: steps * BATCH].view(steps, BATCH)
        for rows in tqdm(parts, f"judge, epoch {epoch + 1} of {epochs}", disable=not progress):
            labels = train.labels[rows]
            soft = means.draw(labels[:soft_ones], generator)
            images = torch.cat([soft, as_float(train.images[rows[soft_ones:]])])
            yield change(images, generator), labels

    for epoch in range(epochs):
        learn_labels(judge, batches(epoch), optimiser, schedule)


def learn_labels(
    network: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    optimiser: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
) -> None:
    """Train a classifier in place, one step of cross-entropy for each batch.

    Args:
        network: Pictures ``[B, 1, S, S]`` -> logits ``[B, 10]``.
        batches: Pictures and their labels ``[B]``.
        optimiser: Of the network's parameters.
        schedule: Goes on by one with each batch.
    """
    for images, labels in batches:
        with half_precision(images.device):
            loss = F.cross_entropy(network(images), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()


def rebuild_judge(
    path: str | Path | None = None,
    *,
    architecture: str = "cnn",
    dataset: str = "MNIST",
    seed: int = 0,
    epochs: int | None = None,
    progress: bool = True,
    device: str | torch.device = "cpu",
) -> dict[str, Any]:
    """Train a judge, save it and return its card: what ``learn2add judge`` does.

    The card is that of ``train_judge`` and, as ``test``, what ``examine`` finds on the test digits
    at 28, 32 and 64 pixels. Four minutes on two CPU cores with bfloat16, about eight without; the
    ``"mlp"`` takes two and a half, the one for Fashion-MNIST half of the first.

    Raises:
        OSError: ``path`` cannot be written (found before the training).
        ValueError: ``path`` does not end in ``.safetensors``, or there is no such architecture.
    """
    place = place_of(architecture, dataset)
    path = place if path is None else Path(path)
    check_choice("the suffix of path", path.suffix, [".safetensors"])
    path.parent.mkdir(parents=True, exist_ok=True)
    tempfile.TemporaryFile(dir=path.parent).close()
    train, validation, test = (load_digits(dataset, s) for s in ("train", "validation", "test"))
    options = {"architecture": architecture, "seed": seed, "epochs": epochs}
    judge, card = train_judge(train, validation, **options, progress=progress, device=device)
    card["test"] = {str(size): examine(judge, test.resized(size)) for size in (28, 32, 64)}
    save_judge(judge, path, card)
    return card
