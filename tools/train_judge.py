"""Train a judge anew: ``python tools/train_judge.py``.

It replaces the judge's weights in the package, ``learn2add/weights/judge.safetensors``, and its
card beside them: 3 to 5 minutes.

A third of each batch are means of 2 to 32 digits of one class, so that the judge reads the soft
images of the models as well as sharp ones; everything is moved and turned a little.

Both architectures are trained by the same steps, with numbers of epochs of their own. Trained on
the 50,000 training digits, every choice made on the 10,000 validation digits; the test digits only
give numbers to the cards.
"""

import argparse
import json
import math
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from learn2add.checkpoints import save_tensors, write_atomically
from learn2add.checks import check_choice, check_int
from learn2add.data import DATASETS, Digits, as_float, load_digits
from learn2add.hardware import default_device
from learn2add.judge import KIND, SIZE, Judge, place_of
from learn2add.network import parameter_count
from learn2add.steps import warped
from learn2add.studies.features import learn_labels

EPOCHS = {"cnn": 16, "mlp": 48}
FASHION_EPOCHS = 8
BATCH = 256
MEANS = {"MNIST": BATCH // 3, "FashionMNIST": BATCH // 16}
"""How many of a batch are means of several pictures of one class."""
MOST_AVERAGED = 32
PEAK_RATE = 0.1
WEIGHT_DECAY = 5e-4


def augment(images: Tensor, generator: torch.Generator) -> Tensor:
    """Move, turn, scale, slant and soften images ``[B, 1, S, S]`` a little, each by its own amount.

    One image in five keeps its geometry, one in two its sharpness.
    """
    count, device = len(images), images.device
    drawn = torch.rand(8, count, device=device, generator=generator)
    turn, slant, wide, high, right, down = 2 * drawn[:6] - 1
    strength = (1.25 * drawn[6] - 0.25).clamp(min=0)
    turn, slant = math.radians(12) * strength * turn, 0.15 * strength * slant
    wide, high = 1 + 0.12 * strength * wide, 1 + 0.12 * strength * high
    shift = 2.5 * 2 / images.shape[-1] * strength  # 2.5 pixels; the image spans -1 to 1
    amounts = [turn, slant, wide, high, shift * right, shift * down]
    images = warped(images, torch.stack(amounts))
    return softened(images, drawn[7])


def mirrored(images: Tensor, generator: torch.Generator) -> Tensor:
    """Mirror one image ``[B, 1, S, S]`` in two, soften one in four: for clothes.

    Their classes differ in length and width, which digits do not: nothing is scaled or turned.
    """
    drawn = torch.rand(2, len(images), device=images.device, generator=generator)
    turned = torch.where(drawn[0].view(-1, 1, 1, 1) < 0.5, images.flip(3), images)
    return softened(turned, drawn[1], share=0.25)


def softened(images: Tensor, drawn: Tensor, share: float = 0.5) -> Tensor:
    """Blur a share of the images, those with the largest ``drawn`` ``[B]``; fully at 1."""
    kernel = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0], device=images.device) / 16
    blurred = F.conv2d(images, kernel.view(1, 1, 1, 5), padding=(0, 2))
    blurred = F.conv2d(blurred, kernel.view(1, 1, 5, 1), padding=(2, 0))
    softness = ((drawn - (1 - share)) / share).clamp(min=0)
    return torch.lerp(images, blurred, softness.view(-1, 1, 1, 1))


class ClassMeans:
    """Draws mean images of random digits of one class; every class has at least one."""

    def __init__(self, digits: Digits) -> None:
        self.images = digits.images
        self.by_class = digits.labels.argsort(stable=True)
        self.counts = digits.labels.bincount(minlength=10)
        self.starts = self.counts.cumsum(0) - self.counts

    def draw(self, labels: Tensor, generator: torch.Generator) -> Tensor:
        """Return for each label ``[B]`` the mean of 2 to 32 digits: float ``[B, 1, H, W]``."""
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
        TypeError, ValueError: An argument is not allowed.
    """
    check_choice("architecture", architecture, tuple(EPOCHS))
    usual = EPOCHS[architecture] if train.dataset == "MNIST" else FASHION_EPOCHS
    epochs = usual if epochs is None else check_int("epochs", epochs, 1)
    counts = train.labels.bincount(minlength=10).tolist()
    if train.images.shape[1:] != (SIZE, SIZE) or len(train) < BATCH or 0 in counts:
        raise ValueError(
            f"train is {list(train.images.shape)} with {counts} per class; allowed is {BATCH} or "
            f"more digits of {SIZE} x {SIZE}, every class among them"
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
        "parameters": parameter_count(judge),
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


def examine(judge: Judge, digits: Digits) -> dict[str, Any]:
    """Measure how a judge reads real digits and their ten mean images, at the digits' own size.

    Returns:
        ``accuracy``, 0 to 1; ``calibration_error``, the mean gap between confidence and accuracy
        over 15 bins of confidence (ECE: Guo et al. 2017, "On Calibration of Modern Neural
        Networks"); ``class_means``, the probability of the right digit on each mean image.
    """
    images, labels = as_float(digits.images), digits.labels
    confidence, choice = judge.read(images).max(dim=1)
    right = choice == labels
    bins = (confidence * 15).long().clamp(max=14)
    gaps = torch.zeros(15, device=bins.device).index_add(0, bins, right.float() - confidence)
    means = digits.class_means().unsqueeze(1)
    return {
        "accuracy": int(right.sum()) / len(labels),
        "calibration_error": round(gaps.abs().sum().item() / len(labels), 5),
        "class_means": [round(p, 4) for p in judge.read(means).diagonal().tolist()],
    }


def save_judge(judge: Judge, path: str | Path, card: Mapping[str, Any]) -> None:
    """Write the weights (safetensors, float32) and beside them ``card`` as JSON, each atomically.

    Raises:
        OSError: ``path`` cannot be written.
        ValueError: ``card`` holds NaN.
    """
    path = Path(path)
    weights = {
        name: tensor
        for name, tensor in judge.state_dict().items()
        if not name.endswith("num_batches_tracked")  # counts steps, decides nothing
    }
    text = json.dumps(dict(card), indent=2, allow_nan=False) + "\n"
    save_tensors(path, weights, {"kind": KIND, "architecture": judge.architecture})
    write_atomically(path.with_suffix(".json"), text)


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
    """Train a judge, save it (by default in its place in the package) and return its card.

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


def main(argv: Sequence[str] | None = None) -> int:
    """Train and print what came of it; status 0 if it worked, 2 if it could not."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[1])
    add = parser.add_argument
    which = "cnn: the judge of all figures (default); mlp: the second opinion"
    add("--architecture", choices=tuple(EPOCHS), default="cnn", help=which)
    add("--dataset", choices=DATASETS, default="MNIST", help="what it reads; default: MNIST")
    add("--seed", type=int, default=0, help="default: 0, as for the kept weights")
    add("--epochs", type=int, help="default: as for the kept weights")
    add("-o", "--output", type=Path, metavar="FILE.safetensors", help="write here")
    options = vars(parser.parse_args(argv))
    path = options.pop("output")
    try:
        path = path or place_of(options["architecture"], options["dataset"])
        card = rebuild_judge(path, **options, device=default_device())
    except (ValueError, OSError) as error:
        print(f"{parser.prog}: error: {error}", file=sys.stderr)
        return 2
    for size, found in card["test"].items():
        print(
            f"{size} x {size}: {100 * found['accuracy']:.2f} % of the test digits read rightly; "
            f"class means with a confidence of {min(found['class_means']):.2f} or more"
        )
    print(f"wrote {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
