"""What the benchmark trains, how its loss is written in coursework, and what it costs.

Autoencoders: the assignment's three, code of 7 numbers, squared error. ``addition``: Part III's
model with the loss of the assignment's own setting, ``l2_orig`` x reconstruction + ``l2_added`` x
image of the sum + ``code`` x difference of the two codes. Source: assignment, Part II item 4 and
Part III item 4.
"""

from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from learn2add.checks import check_choice, check_int
from learn2add.config import RunConfig, Stage
from learn2add.data import Digits, as_float, load_digits
from learn2add.hardware import default_device
from learn2add.losses import rmse, squared_error
from learn2add.network import DECODERS, parameter_count
from learn2add.pairs import AdditionPairs
from learn2add.runs import digits_of
from learn2add.steps import EVALUATION_BATCH
from learn2add.train import build_model

ADDITION = "addition"
NETWORKS = (*DECODERS, ADDITION)
TRAIN_SIZE = 50_000


def benchmark_config(
    network: str = "conv_transpose", batch_size: int = 128, precision: str = "float32"
) -> RunConfig:
    """Return what all contenders train: one of ``NETWORKS``, with Adam at 0.001.

    ``batch_size`` counts input images. For ``addition`` it is rounded up to a multiple of ten, 20
    or more, because the recipes' batches hold every digit equally often.
    """
    check_choice("network", network, NETWORKS)
    check_int("batch_size", batch_size, 1, TRAIN_SIZE)
    if network != ADDITION:
        stage = Stage("autoencoder", 1000, None, batch_size)
        return RunConfig((stage,), decoder=network, precision=precision)
    batch_size = max(20, -(-batch_size // 10) * 10)
    steps = -(-TRAIN_SIZE // batch_size)  # as many input images as there are
    stage = Stage(ADDITION, 1000, steps, batch_size, balance="digits")
    return RunConfig((stage,), ADDITION, precision=precision)


def training_digits(config: RunConfig) -> Digits:
    """Return the training images: all 50,000, or as many as the configuration says, of its size."""
    return digits_of(config, "train", config.train_size)


def usual_loss(config: RunConfig, model: nn.Module, batch: list[Tensor]) -> Tensor:
    """Return the loss of a batch, written as in coursework: summed over pixels, mean over images.

    ``batch`` holds images ``[B, 1, S, S]`` (and labels); for an addition model images, addends
    ``[B]`` and images of the sums.
    """
    if not config.adds:
        return squared_error(model(batch[0]), batch[0])
    x, addend, y = batch
    out, weights = model.training_pass(x, addend, y), config.weights
    return (
        weights.l2_orig * squared_error(out.x_hat, x)
        + weights.l2_added * squared_error(out.y_hat, y)
        + weights.code * squared_error(out.z_sum, out.z_target)
    )


@torch.no_grad()
def validation_rmse(
    config: RunConfig, draw: Callable[..., Tensor], count: int | None = None
) -> float:
    """Return the RMSE on validation images in grey levels, for all contenders in float32.

    Of ``count`` images; None is the configuration's ``validation_size``, or all.

    An autoencoder's is that of the reconstruction; an addition model's that of the image of the
    sum, over one fixed pair per image. The latter is bounded from below by the variety of digits,
    so it tells whether loops learn equally fast, not how many sums are right. ``draw`` makes of
    images ``[B, 1, S, S]`` (and addends ``[B]``) such images.
    """
    digits = load_digits("MNIST", "validation")
    count = count or config.validation_size or len(digits)
    digits = digits.subset(count).resized(config.image_size).to(default_device())
    parts = [digits.images, digits.images]
    if config.adds:
        device = digits.images.device
        generator = torch.Generator(device).manual_seed(0)
        pairs = AdditionPairs(digits.labels, config.stages[0].balance, device)
        pairs = pairs.draw(len(digits), generator)
        parts = [digits.images[pairs.input], digits.images[pairs.target], pairs.addend]
    total = 0.0
    batches = [whole.split(EVALUATION_BATCH) for whole in parts]
    for x, y, *addend in zip(*batches, strict=True):
        total += float((draw(as_float(x), *addend) - as_float(y)).square().sum())
    return rmse(total, count, config.image_size)


@torch.no_grad()
def first_image(config: RunConfig, draw: Callable[..., Tensor]) -> list[float]:
    """Return the pixels of what is drawn for the first validation image (and addend 1)."""
    digits = load_digits("MNIST", "validation").subset(1).resized(config.image_size)
    x = as_float(digits.images).to(default_device())
    addend = (torch.ones(1, device=x.device),) if config.adds else ()
    return draw(x, *addend).flatten().tolist()


@cache
def untrained(config: RunConfig) -> tuple[int, list[float]]:
    """Return the untrained network's number of parameters and its ``first_image``."""
    model = build_model(config).to(default_device()).eval()
    return parameter_count(model), first_image(config, model)


@cache
def flops_per_image(config: RunConfig) -> float:
    """Return the floating-point operations of a training step per input image, as torch counts.

    Of the network as this project computes it: an upsampling folded into its convolution counts as
    that, though another trainer may spend 2.25 times as much on it.
    """
    stage = config.stages[0]
    digits = load_digits("MNIST", "validation").subset(min(max(stage.batch_size, 10), 1000))
    digits = digits.resized(config.image_size)
    step = config.step(stage, build_model(config), digits, digits.subset(10))
    batch = next(iter(step.batches(torch.Generator().manual_seed(0))))
    with FlopCounterMode(display=False) as counter:
        step(batch)[0].backward()
    return counter.get_total_flops() / len(batch[0])
