"""What the benchmark trains, how its loss is written in coursework, and what it costs.

Autoencoders: the assignment's three, code of 7 numbers, squared error. ``addition``: Part III's
model with the loss of the assignment's own setting, ``l2_orig`` x reconstruction + ``l2_added`` x
picture of the sum + ``code`` x difference of the two codes. Source: assignment, Part II item 4 and
Part III item 4.
"""

from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from learn2add.addition_tasks import make_task
from learn2add.checks import check_choice, check_int
from learn2add.configs import RunConfig, Stage
from learn2add.data import Digits, as_float, load_digits
from learn2add.decoders import DECODERS
from learn2add.hardware import default_device
from learn2add.models import AdditionModel
from learn2add.objectives import rmse, squared_error
from learn2add.tasks import EVALUATION_BATCH, fixed_pairs
from learn2add.training import build_model

ADDITION = "addition"
NETWORKS = (*DECODERS, ADDITION)
TRAIN_SIZE = 50_000


def benchmark_config(
    network: str = "conv_transpose", batch_size: int = 128, precision: str = "float32"
) -> RunConfig:
    """What all contenders train: one network, Adam at 0.001.

    Args:
        network: One of :data:`NETWORKS`.
        batch_size: Input pictures per step. For ``addition`` it is rounded up to a multiple of ten,
            20 or more, because the recipes' batches hold every digit equally often.
        precision: "float32" or "bfloat16".

    Raises:
        TypeError: ``batch_size`` is no integer.
        ValueError: An argument is not allowed.
    """
    check_choice("network", network, NETWORKS)
    check_int("batch_size", batch_size, 1, TRAIN_SIZE)
    if network != ADDITION:
        stage = Stage("autoencoder", 1000, None, batch_size)
        return RunConfig((stage,), decoder=network, precision=precision)
    batch_size = max(20, -(-batch_size // 10) * 10)
    steps = -(-TRAIN_SIZE // batch_size)  # as many input pictures as there are
    stage = Stage(ADDITION, 1000, steps, batch_size, balance="digits")
    return RunConfig((stage,), ADDITION, precision=precision)


def training_digits(config: RunConfig) -> Digits:
    """The training pictures: all 50,000, or as many as the configuration says, of its size."""
    digits = load_digits("MNIST", "train")
    if config.train_size is not None:
        digits = digits.subset(config.train_size)
    return digits.resized(config.image_size)


def usual_loss(config: RunConfig, model: nn.Module, batch: list[Tensor]) -> Tensor:
    """The loss of a batch, written as in coursework.

    Args:
        config: Its weights.
        model: An autoencoder or an addition model.
        batch: Pictures float ``[B, 1, S, S]`` in [0, 1] (and labels); for an addition model
            pictures, addends float ``[B]`` and pictures of the sum.

    Returns:
        A scalar: squared error summed over pixels (or code), averaged over the batch.
    """
    if not config.kind.adder:
        return squared_error(model(batch[0]), batch[0])
    x, addend, y = batch
    out = model(x, addend, y)
    return (
        config.l2_orig * squared_error(out.x_hat, x)
        + config.l2_added * squared_error(out.y_hat, y)
        + config.code * squared_error(out.z_sum, out.z_target)
    )


def drawn_by(model: nn.Module) -> Callable[..., Tensor]:
    """What draws the picture whose error is measured: the autoencoder, or the inference model."""
    return model.inference() if isinstance(model, AdditionModel) else model


@torch.no_grad()
def validation_rmse(config: RunConfig, draw: Callable[..., Tensor], count: int = 10_000) -> float:
    """Error on validation pictures, for all contenders in float32.

    An autoencoder's is that of the reconstruction; an addition model's that of the picture of the
    sum, over one fixed pair per picture. The latter is bounded from below by the variety of digits,
    so it tells whether loops learn equally fast, not how many sums are right.

    Args:
        config: Network and image size.
        draw: ``x`` float ``[B, 1, S, S]`` (and addends ``[B]``) to pictures of the same shape.
        count: How many validation pictures.

    Returns:
        RMSE in grey levels, 0 to 1.
    """
    digits = load_digits("MNIST", "validation").subset(count).resized(config.image_size)
    digits = digits.to(default_device())
    inputs, targets = digits.images, digits.images
    addends: tuple[Tensor, ...] = ()
    if config.kind.adder:
        pairs = fixed_pairs(digits, config.stages[0], config)
        inputs, targets = digits.images[pairs.input], digits.images[pairs.target]
        addends = (pairs.addend,)
    total = 0.0
    parts = [whole.split(EVALUATION_BATCH) for whole in (inputs, targets, *addends)]
    for x, y, *addend in zip(*parts, strict=True):
        total += float((draw(as_float(x), *addend) - as_float(y)).square().sum())
    return rmse(total, count, config.image_size)


@torch.no_grad()
def first_picture(config: RunConfig, draw: Callable[..., Tensor]) -> list[float]:
    """Pixels of what is drawn for the first validation picture, and addend 1 if there is one."""
    digits = load_digits("MNIST", "validation").subset(1).resized(config.image_size)
    x = as_float(digits.images).to(default_device())
    addend = (torch.ones(1, device=x.device),) if config.kind.adder else ()
    return draw(x, *addend).flatten().tolist()


@cache
def untrained(config: RunConfig) -> tuple[int, list[float]]:
    """Number of parameters of the untrained network, and its :func:`first_picture`."""
    model = build_model(config).to(default_device()).eval()
    return parameters(model), first_picture(config, drawn_by(model))


def parameters(model: nn.Module) -> int:
    """How many numbers the network learns."""
    return sum(parameter.numel() for parameter in model.parameters())


@cache
def flops_per_image(config: RunConfig) -> float:
    """Floating-point operations of one training step, per input picture, as torch counts them.

    Forward and backward, of the network as this project computes it: an upsampling folded into its
    convolution counts as that, though another trainer may spend 2.25 times as much on it. With
    partners "drawn" an addition model encodes and draws two pictures per input picture; with
    partners "batch" it encodes one and draws one and a part.
    """
    stage = config.stages[0]
    digits = load_digits("MNIST", "validation").subset(min(max(stage.batch_size, 10), 1000))
    digits = digits.resized(config.image_size)
    task = make_task(build_model(config), config, stage, digits, digits.subset(10))
    batch = next(iter(task.batches(torch.Generator().manual_seed(0))))
    with FlopCounterMode(display=False) as counter:
        task.step(batch)[0].backward()
    return counter.get_total_flops() / len(batch[0])
