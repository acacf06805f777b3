"""Codes as features (notebook 8): a linear layer of ten on an encoder that has never seen a label.

Three ways, from the least to the most that labels may change:

- ``frozen(..., layers=1)``: the linear layer alone, on the code;
- ``frozen(..., layers=2)``: the encoder's last layer too. Report 002 "freezed all layers except the
  last 2";
- ``tune``: everything.

A frozen encoder gives every image the same features each time, so they are computed once, and
what is left is logistic regression: convex, solved in seconds, with no rate to choose.

Source: report 002, section 5.
"""

import copy
import functools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from learn2add.checks import check_choice, check_int, check_number
from learn2add.data import Digits, as_float, in_batches
from learn2add.judge import half_precision
from learn2add.measures import Interval, wilson
from learn2add.network import Encoder
from learn2add.optim import Muon, one_cycle
from learn2add.steps import deformed, shifted, shuffled_passes
from learn2add.train import deterministic


class Classifier(nn.Module):
    """An encoder with a linear layer of ten on its code.

    Shapes: ``x`` float ``[B, 1, S, S]`` in [0, 1] -> logits ``[B, 10]``.

    Args:
        encoder: Of its own; what trains the classifier trains it.
        seed: Decides the linear layer's first weights.
    """

    def __init__(self, encoder: Encoder, seed: int = 0) -> None:
        super().__init__()
        self.encoder = encoder
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(check_int("seed", seed, 0))
            self.head = nn.Linear(encoder.code_size, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Pictures ``[B, 1, S, S]`` -> logits ``[B, 10]``."""
        return self.head(self.encoder(x))


def features(encoder: Encoder, images: Tensor, layers: int = 1) -> Tensor:
    """Return what the last layers are given of images uint8 ``[N, S, S]``, on the encoder's device:
    the code, float32 ``[N, C]``, or with 2 ``layers`` the hidden layer before it, ``[N, U]``.
    """
    check_choice("layers", layers, (1, 2))
    part = encoder if layers == 1 else nn.Sequential(encoder.features, encoder.hidden)
    return in_batches(part, images).float()


def frozen(encoder: Encoder, z: Tensor, labels: Tensor, layers: int = 1) -> Classifier:
    """Fit the last layers by logistic regression, everything before them as it is.

    The code's layer and the one on it are both linear, so two of them are one: where the code has
    ten numbers or more, they can be any map from the hidden layer to the ten logits. That map is
    fitted, and laid down as a code that *is* the logits.

    ``z`` are :func:`features` of the labelled images, of as many ``layers``, and ``labels`` ``[N]``
    have every digit among them. The encoder stays as it is: the classifier, in evaluation mode, has
    a copy.

    Raises:
        ValueError: ``layers`` is 2 and the code has fewer than ten numbers, ``z`` does not fit, or
            a digit is missing.
    """
    size = encoder.code.in_features if check_choice("layers", layers, (1, 2)) == 2 else None
    if layers == 2 and encoder.code_size < 10:
        raise ValueError(f"layers is 2, code_size {encoder.code_size}; allowed is 10 or more")
    allowed = [len(labels), size or encoder.code_size]
    if list(z.shape) != allowed:
        raise ValueError(f"z is of shape {list(z.shape)}; allowed is {allowed}")
    weight, bias = regression(z, labels)
    made = Classifier(copy.deepcopy(encoder)).to(z.device).eval().requires_grad_(False)
    last = made.head if layers == 1 else made.encoder.code
    if layers == 2:
        for part in (made.head, made.encoder.code):
            part.weight.zero_()
            part.bias.zero_()
        made.head.weight.fill_diagonal_(1)
    last.weight[:10], last.bias[:10] = weight.to(z.device), bias.to(z.device)
    return made


def regression(z: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Fit logistic regression on features ``[N, F]`` and labels ``[N]`` of ten digits, the features
    standardised (scikit-learn's, C = 1). Return weights ``[10, F]`` and bias ``[10]`` for the
    features as they are; a ValueError where a digit is missing or a feature is not finite.
    """
    from sklearn.linear_model import LogisticRegression  # takes seconds to import

    check_number("z", z)
    if missing := sorted(set(range(10)) - set(labels.tolist())):
        raise ValueError(f"labels is without {missing}; allowed is labels of every digit")
    z = z.cpu().double()
    mean, spread = z.mean(0), z.std(0).clamp(min=1e-6)
    fitted = LogisticRegression(max_iter=1000)
    fitted.fit(((z - mean) / spread).numpy(), labels.cpu().numpy())
    weight = torch.from_numpy(fitted.coef_) / spread
    return weight.float(), (torch.from_numpy(fitted.intercept_) - weight @ mean).float()


@dataclass(frozen=True)
class Tuning:
    """How :func:`tune` trains. The defaults are for all labels, chosen on the validation split."""

    steps: int = 1000
    batch_size: int = 128
    learning_rate: float = 4e-3
    """Peak of a one-cycle rate: Adam's; Muon's, for the large matrices, follows it."""
    deform: float = 1.5
    """Strength of the deformations of the images, made anew every time."""
    shift: int = 1
    """Pixels by which they are moved each way, at most."""

    def __post_init__(self) -> None:
        check_int("steps", self.steps, 1, 10_000_000)
        check_int("batch_size", self.batch_size, 1, 60_000)
        check_int("shift", self.shift, 0, 8)
        for name in ("learning_rate", "deform"):
            check_number(name, getattr(self, name))
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}; allowed is 0 or more")


def tune(
    classifier: Classifier,
    digits: Digits,
    how: Tuning | None = None,
    *,
    seed: int = 0,
    progress: bool = True,
) -> Classifier:
    """Train a copy of a classifier, encoder and all, on labelled digits.

    Args:
        classifier: Where it starts, such as one of :func:`frozen`; or ``Classifier(Encoder(...))``,
            the same network without pre-training. It stays as it is.
        digits: The labelled ones, on its device.
        how: Steps, rate, deformations.
        seed: Decides order and deformations.
        progress: Show a progress bar.

    Returns:
        The trained one, in evaluation mode. The last weights are kept: no step is chosen by its
        score.
    """
    how = how or Tuning()
    tuned = copy.deepcopy(classifier).train().requires_grad_(True)
    tuned = tuned.to(memory_format=torch.channels_last)
    optimiser = Muon(tuned.parameters(), how.learning_rate, betas=(0.9, 0.99))
    rate = functools.partial(one_cycle, steps=how.steps)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, rate)
    device = digits.images.device
    generator = torch.Generator(device).manual_seed(check_int("seed", seed, 0))

    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        wanted = how.steps * how.batch_size
        rows = shuffled_passes(len(digits), wanted, generator).split(how.batch_size)
        for at in tqdm(rows, f"{len(digits):,} labels", disable=not progress):
            images = deformed(digits.images[at], how.deform, generator)
            yield as_float(shifted(images, how.shift, generator)), digits.labels[at]

    with deterministic():
        learn_labels(tuned, batches(), optimiser, schedule)
    return tuned.eval().requires_grad_(False)


def accuracy(classifier: nn.Module, digits: Digits) -> Interval:
    """Return the share of digits that a classifier reads rightly, with its 95 % interval."""
    read = in_batches(classifier, digits.images).argmax(1)
    return wilson(int((read == digits.labels).sum()), len(digits))


def learn_labels(
    network: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    optimiser: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
) -> None:
    """Train a classifier in place, one step of cross-entropy for each batch of images
    ``[B, 1, S, S]`` and labels ``[B]``; the schedule goes on by one with each.
    """
    for images, labels in batches:
        with half_precision(images.device):
            loss = F.cross_entropy(network(images), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
