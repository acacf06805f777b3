"""The judge: an independent classifier that reads the images the models draw.

The squared error of a sum image cannot tell right from wrong: the target is a random image of the
sum, so the best answer is the *mean* image of that digit, and a sharp, correct digit scores worse.
A classifier reads the images instead. An ordinary one misreads soft images (it takes the mean of
the ones for an eight); this one was trained by ``tools/train_judge.py`` to read soft and sharp
images alike. How well it does stands in its card, ``weights/judge.json``.

A second judge of another architecture, trained alike, tells whether a number depends on the judge:
``load_judge(architecture="mlp")``, and ``judges_agree``.

Source: assignment, Part III items 5-7 (are the sums right?).
"""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from learn2add.checkpoints import load_tensors
from learn2add.checks import check_choice, check_int
from learn2add.config import RunConfig
from learn2add.data import DATASETS, check_images, in_batches
from learn2add.hardware import bfloat16_pays

FOLDER = Path(__file__).parent / "weights"
WEIGHTS = {"cnn": FOLDER / "judge.safetensors", "mlp": FOLDER / "judge_mlp.safetensors"}
FASHION = FOLDER / "judge_fashion.safetensors"  # the "cnn" that reads Fashion-MNIST
KIND = "learn2add judge"
SIZE = 28
CHANNELS = (32, 48, 48, 96, 96)
WIDTHS = (320, 256, 128)


class Judge(nn.Module):
    """A classifier of digits in one of two architectures, neither of them the ``Encoder``'s.

    So a judge shares no habit with the network whose work it reads, nor with the other judge.

    - ``"cnn"``: convolutions with batch normalisation, then global average pooling; 161,386
      parameters, 96 features.
    - ``"mlp"``: fully connected layers with batch normalisation; 368,266 parameters, 128 features.
      It does not even know which pixels are neighbours.

    Images that are not 28 pixels wide are first resized to 28 (bilinear, antialiased).
    """

    def __init__(self, architecture: str = "cnn") -> None:
        super().__init__()
        self.architecture = check_choice("architecture", architecture, tuple(WEIGHTS))
        self.mirrored = False  # whether it reads a 0 as 9, as subtraction sees digits
        self.body, features = _cnn() if architecture == "cnn" else _mlp()
        self.head = nn.Linear(features, 10)
        self.to(memory_format=torch.channels_last)

    def embed(self, images: Tensor) -> Tensor:
        """Return the penultimate features ``[B, F]`` of images ``[B, 1, S, S]``, F 96 or 128."""
        if images.shape[-2:] != (SIZE, SIZE):
            images = F.interpolate(images, (SIZE, SIZE), mode="bilinear", antialias=True)
        return self.body(images.contiguous(memory_format=torch.channels_last))

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits ``[B, 10]`` of images ``[B, 1, S, S]``; to read images use ``read``."""
        return self.head(self.embed(images))

    def read(self, images: Tensor, batch_size: int = 1000) -> Tensor:
        """Return the probabilities float32 ``[B, 10]`` of images ``[B, 1, S, S]``, on their device.

        Images are float32 in [0, 1], 0 = background. Puts the judge in evaluation mode: each image
        is read by itself, and ``batch_size`` is a matter of memory alone.
        """
        read = self._in_batches(self, images, batch_size).softmax(dim=1)
        return read.flip(1) if self.mirrored else read

    def features(self, images: Tensor, batch_size: int = 1000) -> Tensor:
        """Return penultimate features float32 ``[B, F]``, for Fréchet distances; see ``read``."""
        return self._in_batches(self.embed, images, batch_size)

    def read_features(self, features: Tensor) -> Tensor:
        """Return what ``read`` does, from ``features`` that are there already."""
        with half_precision(features.device):
            read = self.head(features).float().softmax(dim=1)
        return read.flip(1) if self.mirrored else read

    def _in_batches(self, network: Callable, images: Tensor, batch_size: int) -> Tensor:
        check_images("images", images)
        check_int("batch_size", batch_size, 1)
        self.eval()
        device = self.head.weight.device

        def through(batch: Tensor) -> Tensor:
            with half_precision(device):
                return network(batch.to(device)).float().to(images.device)

        return in_batches(through, images, batch_size)


class Mean(nn.Module):
    """Global average pooling: ``[B, C, H, W]`` -> ``[B, C]``."""

    def forward(self, x: Tensor) -> Tensor:
        """Average over the places."""
        return x.mean(dim=(2, 3))


def _cnn() -> tuple[nn.Sequential, int]:
    a, b, c, d, e = CHANNELS
    body = nn.Sequential(
        *_block(1, a, 5, pool=True),  # [B, 32, 14, 14]
        *_block(a, b, 3, pool=False),
        *_block(b, c, 3, pool=True),  # [B, 48, 7, 7]
        *_block(c, d, 3, pool=False),
        *_block(d, e, 3, pool=False),  # [B, 96, 7, 7]
        Mean(),
    )
    return body, e


def _block(inputs: int, outputs: int, kernel: int, pool: bool) -> list[nn.Module]:
    layers: list[nn.Module] = [nn.Conv2d(inputs, outputs, kernel, padding="same", bias=False)]
    if pool:  # before the normalisation: a quarter of the values to normalise
        layers.append(nn.MaxPool2d(2))
    return [*layers, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]


def _mlp() -> tuple[nn.Sequential, int]:
    layers: list[nn.Module] = [nn.Flatten()]
    for inputs, outputs in pairwise((SIZE * SIZE, *WIDTHS)):
        layers += [nn.Linear(inputs, outputs, bias=False), nn.BatchNorm1d(outputs)]
        layers += [nn.ReLU(inplace=True)]
    return nn.Sequential(*layers), WIDTHS[-1]


def half_precision(device: torch.device) -> torch.autocast:
    """Autocast to bfloat16 where it pays on the device; elsewhere do nothing."""
    return torch.autocast(device.type, torch.bfloat16, enabled=bfloat16_pays(device.type))


def judges_agree(a: Judge, b: Judge, images: Tensor) -> float:
    """Return the share of images, float32 ``[B, 1, S, S]`` in [0, 1], read alike by both judges."""
    return float((a.read(images).argmax(1) == b.read(images).argmax(1)).double().mean())


def load_judge(
    path: str | Path | None = None,
    device: str | torch.device = "cpu",
    architecture: str = "cnn",
    dataset: str = "MNIST",
) -> Judge:
    """Load a judge kept in the package, or one made by ``tools/train_judge.py``, without pickle.

    It comes in evaluation mode, and its weights take no gradient (images still can). For a second
    opinion ``architecture`` is ``"mlp"``; for Fashion-MNIST only a ``"cnn"`` is kept. A damaged
    file, or one that holds something else, is a ValueError.
    """
    judge = Judge(architecture)
    path = place_of(architecture, dataset) if path is None else Path(path)
    option = "" if architecture == "cnn" else f" --architecture {architecture}"
    option += "" if dataset == "MNIST" else f" --dataset {dataset}"
    remedy = f"`python tools/train_judge.py{option}` rebuilds the judge"
    if not path.is_file():
        raise FileNotFoundError(f"no judge weights at {path}; {remedy}")
    try:
        judge.load_state_dict(_checked_weights(path, architecture))
    except (RuntimeError, TypeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"{path} does not hold a whole judge ({reason}); {remedy}") from None
    return judge.to(device).eval().requires_grad_(False)


def judge_of(config: RunConfig, device: torch.device | str = "cpu") -> Judge:
    """Return the judge that reads what a run draws: digits as the run sees them."""
    judge = load_judge(device=device)
    judge.mirrored = config.operation == "subtract"
    return judge


def place_of(architecture: str, dataset: str) -> Path:
    """Return where the weights of a kept judge lie; a ValueError if no such judge is kept."""
    check_choice("dataset", dataset, DATASETS)
    if dataset == "MNIST":
        return WEIGHTS[check_choice("architecture", architecture, tuple(WEIGHTS))]
    check_choice(f"architecture (for {dataset})", architecture, ("cnn",))
    return FASHION


def _checked_weights(path: Path, architecture: str) -> dict[str, Tensor]:
    weights, facts = load_tensors(path)
    if facts.get("kind") != KIND:
        raise ValueError("it is not marked as a judge")
    if (held := facts.get("architecture")) != architecture:
        raise ValueError(f"it holds architecture {held!r}, not {architecture!r}")
    return weights
