"""The judge: an independent classifier that reads the pictures the models draw.

The squared error of a sum picture cannot tell right from wrong: the target is a random picture of
the sum, so the best answer is the *mean* picture of that digit, and a sharp, correct digit scores
worse. A classifier reads the pictures instead. An ordinary one misreads soft pictures (it takes the
mean of the ones for an eight); this one was trained to read soft and sharp pictures alike, by
``learn2add.judge_training``. What it is worth stands in its card, ``weights/judge.json``.

A second judge of another architecture, trained alike, tells whether a figure hangs on the judge:
``load_judge(architecture="mlp")``, and ``judges_agree``.

Source: assignment, Part III items 5-7 (are the sums right?).
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor, nn

from learn2add.checkpoints import write_atomically
from learn2add.checks import check_choice, check_images, check_int
from learn2add.data import Digits, as_float
from learn2add.fetching import DATASETS
from learn2add.hardware import multiplies_bfloat16

FOLDER = Path(__file__).parent / "weights"
WEIGHTS = {"cnn": FOLDER / "judge.safetensors", "mlp": FOLDER / "judge_mlp.safetensors"}
FASHION = FOLDER / "judge_fashion.safetensors"
"""The ``"cnn"`` that reads Fashion-MNIST."""
KIND = "learn2add judge"
SIZE = 28
CHANNELS = (32, 48, 48, 96, 96)
WIDTHS = (320, 256, 128)


class Judge(nn.Module):
    """A classifier of digits in one of two architectures, neither of them the ``Encoder``'s.

    So a judge shares no habit with the network whose work it reads, nor with the other judge.

    ``"cnn"``: convolutions with batch normalisation, then global average pooling; 161,386
    parameters, 96 features.

    ``"mlp"``: fully connected layers with batch normalisation; 368,266 parameters, 128 features. It
    does not even know which pixels are neighbours.

    Args:
        architecture: ``"cnn"`` or ``"mlp"``.

    Shapes: ``images`` float ``[B, 1, S, S]`` in [0, 1], any S -> logits ``[B, 10]``. Pictures that
    are not 28 pixels wide are first resized to 28 (bilinear, antialiased).

    Raises:
        ValueError: There is no such architecture.
    """

    def __init__(self, architecture: str = "cnn") -> None:
        super().__init__()
        self.architecture = check_choice("architecture", architecture, tuple(BODIES))
        self.body, features = BODIES[architecture]()
        self.head = nn.Linear(features, 10)
        self.to(memory_format=torch.channels_last)

    def embed(self, images: Tensor) -> Tensor:
        """Pictures ``[B, 1, S, S]`` -> penultimate features ``[B, F]``, F 96 or 128."""
        if images.shape[-2:] != (SIZE, SIZE):
            images = F.interpolate(images, (SIZE, SIZE), mode="bilinear", antialias=True)
        return self.body(images.contiguous(memory_format=torch.channels_last))

    def forward(self, images: Tensor) -> Tensor:
        """Pictures ``[B, 1, S, S]`` -> logits ``[B, 10]``; ``read`` is the way to read pictures."""
        return self.head(self.embed(images))

    def read(self, images: Tensor, batch_size: int = 1000) -> Tensor:
        """Read pictures of digits. Puts the judge in evaluation mode: each picture by itself.

        Args:
            images: Float32 ``[B, 1, S, S]`` in [0, 1], 0 = background, S 28, 32 or 64.
            batch_size: How many pictures go through the network at once; a matter of memory.

        Returns:
            Float32 probabilities ``[B, 10]``, on the device of ``images``.

        Raises:
            TypeError: ``images`` is no float32 tensor, or ``batch_size`` no integer.
            ValueError: ``images`` has another shape or range, or ``batch_size`` is below 1.
        """
        return self._in_batches(images, batch_size, embed=False).softmax(dim=1)

    def features(self, images: Tensor, batch_size: int = 1000) -> Tensor:
        """Penultimate features float32 ``[B, F]``, for Fréchet distances; else as ``read``."""
        return self._in_batches(images, batch_size, embed=True)

    @torch.no_grad()
    def _in_batches(self, images: Tensor, batch_size: int, embed: bool) -> Tensor:
        check_images("images", images)
        check_int("batch_size", batch_size, 1)
        self.eval()
        device, network = self.head.weight.device, self.embed if embed else self
        outputs = []
        for batch in images.split(batch_size):
            with half_precision(device):
                outputs.append(network(batch.to(device)).float().to(images.device))
        return torch.cat(outputs)


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


def _mlp() -> tuple[nn.Sequential, int]:
    layers: list[nn.Module] = [nn.Flatten()]
    for inputs, outputs in pairwise((SIZE * SIZE, *WIDTHS)):
        layers += [nn.Linear(inputs, outputs, bias=False), nn.BatchNorm1d(outputs)]
        layers += [nn.ReLU(inplace=True)]
    return nn.Sequential(*layers), WIDTHS[-1]


BODIES: dict[str, Callable[[], tuple[nn.Sequential, int]]] = {"cnn": _cnn, "mlp": _mlp}
"""Architecture -> what makes its layers, pictures to features, and the number of features."""


def _block(inputs: int, outputs: int, kernel: int, pool: bool) -> list[nn.Module]:
    layers: list[nn.Module] = [nn.Conv2d(inputs, outputs, kernel, padding="same", bias=False)]
    if pool:  # before the normalisation: a quarter of the values to normalise
        layers.append(nn.MaxPool2d(2))
    return [*layers, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]


def half_precision(device: torch.device) -> torch.autocast:
    """Bfloat16 autocast where the device has bfloat16 arithmetic; elsewhere no autocast."""
    return torch.autocast(device.type, torch.bfloat16, enabled=multiplies_bfloat16(device))


def examine(judge: Judge, digits: Digits) -> dict[str, Any]:
    """How well a judge reads real digits and their ten mean pictures, at the digits' own size.

    Returns:
        ``accuracy``, 0 to 1; ``calibration_error``, the mean gap between confidence and accuracy
        over 15 bins of confidence (ECE: Guo et al. 2017, "On Calibration of Modern Neural
        Networks"); ``class_means``, the probability of the right digit on each mean picture.
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
        ValueError: ``path`` does not end in ``.safetensors``, or ``card`` holds NaN.
    """
    path = Path(path)
    check_choice("the suffix of path", path.suffix, [".safetensors"])
    weights = {
        name: tensor.cpu().contiguous()
        for name, tensor in judge.state_dict().items()
        if not name.endswith("num_batches_tracked")  # counts steps, decides nothing
    }
    text = json.dumps(dict(card), indent=2, allow_nan=False) + "\n"
    labels = {"kind": KIND, "architecture": judge.architecture, "sha256": _fingerprint(weights)}
    write_atomically(path, to_bytes(weights, labels))
    write_atomically(path.with_suffix(".json"), text)


def _fingerprint(weights: Mapping[str, Tensor]) -> str:
    """Safetensors carries no checksum of its own: a flipped bit would pass unseen."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        digest.update(name.encode())
        digest.update(weights[name].numpy().tobytes())
    return digest.hexdigest()


def judges_agree(a: Judge, b: Judge, pictures: Tensor) -> float:
    """Share of pictures, float32 ``[B, 1, S, S]`` in [0, 1], that both judges read as one digit.

    Raises:
        TypeError: ``pictures`` is no float32 tensor.
        ValueError: ``pictures`` has another shape or range.
    """
    check_images("pictures", pictures)
    return float((a.read(pictures).argmax(1) == b.read(pictures).argmax(1)).double().mean())


def place_of(architecture: str, dataset: str) -> Path:
    """Where the weights of a kept judge lie.

    Raises:
        ValueError: No such judge is kept.
    """
    check_choice("dataset", dataset, DATASETS)
    if dataset == "MNIST":
        return WEIGHTS[check_choice("architecture", architecture, tuple(WEIGHTS))]
    check_choice(f"architecture (for {dataset})", architecture, ("cnn",))
    return FASHION


def load_judge(
    path: str | Path | None = None,
    device: str | torch.device = "cpu",
    architecture: str = "cnn",
    dataset: str = "MNIST",
) -> Judge:
    """Load a judge kept in the package, or one written by ``save_judge``. Nothing is unpickled.

    Args:
        path: The weights; default: those kept for ``architecture``.
        device: Where it is to read.
        architecture: ``"cnn"`` or, for a second opinion, ``"mlp"``.
        dataset: What it reads, ``"MNIST"`` or ``"FashionMNIST"`` (only a ``"cnn"`` is kept).

    Returns:
        A ``Judge`` in evaluation mode whose weights take no gradient (pictures still can).

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is damaged, or holds another architecture or something else; or there
            is no such architecture.
    """
    judge = Judge(architecture)
    path = place_of(architecture, dataset) if path is None else Path(path)
    option = "" if architecture == "cnn" else f" --architecture {architecture}"
    option += "" if dataset == "MNIST" else f" --dataset {dataset}"
    remedy = f"`learn2add judge{option}` rebuilds the judge"
    if not path.is_file():
        raise FileNotFoundError(f"no judge weights at {path}; {remedy}")
    try:
        with safe_open(path, "pt") as file:
            labels = file.metadata() or {}
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if labels.get("kind") != KIND:
            raise ValueError("it is not marked as a judge")
        held = labels.get("architecture", "cnn")  # the first judge's file has no such mark
        if held != architecture:
            raise ValueError(f"it holds architecture {held!r}, not {architecture!r}")
        if labels.get("sha256") != _fingerprint(weights):
            raise ValueError("its checksum is wrong")
        judge.load_state_dict(weights)
    except (SafetensorError, RuntimeError, TypeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"{path} does not hold a whole judge ({reason}); {remedy}") from None
    return judge.to(device).eval().requires_grad_(False)
