"""The space of codes (notebook 7): ways through it, what addition does in it, how its size pays.

Projections, mixtures and neighbours are scikit-learn's; here stands what it does not have.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter

from learn2add.checkpoints import write_atomically
from learn2add.checks import check_int
from learn2add.config import LossWeights, RunConfig, Stage
from learn2add.judge import Judge
from learn2add.network import Autoencoder, Decoder, GaussianEncoder
from learn2add.tensorboard import EVENT_PREFIX, rename_event_files


class DenseEncoder(GaussianEncoder):
    """A variational encoder of fully connected layers: 784 - 512 - 256 - code."""

    def __init__(self, code_size: int = 2, image_size: int = 28) -> None:
        nn.Module.__init__(self)
        self.code_size, self.image_size = code_size, image_size
        pixels = nn.Linear(image_size * image_size, 2 * self.units)
        self.features = nn.Sequential(nn.Flatten(), pixels, nn.ReLU())
        self.hidden = nn.Sequential(nn.Linear(2 * self.units, self.units), nn.ReLU())
        self.code = nn.Linear(self.units, code_size)
        self.logvar = nn.Linear(self.units, code_size)


class DenseDecoder(Decoder):
    """Its mirror: code - 256 - 512 - 784."""

    def __init__(self, code_size: int = 2, image_size: int = 28) -> None:
        nn.Module.__init__(self)
        self.code_size, self.image_size, wide = code_size, image_size, 2 * self.units
        self.expand = nn.Sequential(
            nn.Linear(code_size, self.units), nn.ReLU(), nn.Linear(self.units, wide), nn.ReLU()
        )
        pixels = nn.Linear(wide, image_size * image_size)
        self.layers = nn.Sequential(pixels, nn.Unflatten(1, (1, image_size, image_size)))


@dataclass(frozen=True)
class DenseConfig(RunConfig):
    """A run of a variational autoencoder without convolutions."""

    def build(self) -> nn.Module:
        """Return the untrained model."""
        sizes = self.code_size, self.image_size
        return Autoencoder(DenseEncoder(*sizes), DenseDecoder(*sizes))


def dense_variational(code_size: int = 2, *, epochs: int = 30, seed: int = 0) -> DenseConfig:
    """Return a variational autoencoder of fully connected layers (report 002, section 6)."""
    stage = Stage("autoencoder", epochs, None, 128, 3e-3, "one_cycle", "bce")
    how = {"code_size": code_size, "weights": LossWeights(kld_encoder=1.0), "seed": seed}
    return DenseConfig((stage,), "variational_autoencoder", **how)


def plane(decoder: nn.Module, corners: Tensor, steps: int = 16) -> Tensor:
    """Return what a decoder of code size 2 draws on a grid: float ``[steps, steps, S, S]``.

    ``corners`` ``[2, 2]`` are the lowest, then the highest value of each of the two numbers, of
    which the first grows to the right, the second upwards.
    """
    if corners.shape != (2, 2):
        raise ValueError(f"corners is of shape {list(corners.shape)}; allowed is [2, 2]")
    (left, bottom), (right, top) = corners.tolist()
    x = torch.linspace(left, right, check_int("steps", steps, 2))
    across, up = torch.meshgrid(x, torch.linspace(top, bottom, steps), indexing="xy")
    z = torch.stack([across, up], dim=-1).view(-1, 2).to(corners.device)
    with torch.no_grad():
        drawn = decoder(z)
    return drawn.view(steps, steps, *drawn.shape[-2:])


def class_means(z: Tensor, labels: Tensor) -> Tensor:
    """Return the mean code of each digit: codes ``[N, C]``, labels ``[N]`` -> ``[10, C]``."""
    counts = labels.bincount(minlength=10)
    if not counts.all():
        missing = (counts == 0).nonzero().flatten().tolist()
        raise ValueError(f"labels is without {missing}; allowed is labels of every digit")
    return z.new_zeros(10, z.shape[1]).index_add_(0, labels, z) / counts[:, None]


def straight(start: Tensor, end: Tensor, steps: int = 21) -> Tensor:
    """Return codes on the straight line: ``[..., C]`` and ``[..., C]`` -> ``[steps, ..., C]``."""
    if start.shape != end.shape:
        raise ValueError(
            f"end is of shape {list(end.shape)}; allowed is that of start, {list(start.shape)}"
        )
    share = torch.linspace(0, 1, check_int("steps", steps, 2), device=start.device)
    return start + share.view(-1, *[1] * start.dim()) * (end - start)


class Journey(NamedTuple):
    """Smoothness of interpolation paths, by what is drawn on them."""

    clear: float
    """Share of the images that the judge reads with a confidence of 0.9 or more."""
    readings: float
    """How many different digits the judge reads on a path, on average: 2 between two digits is a
    direct change from one to the other."""
    largest: float
    """Largest step between neighbouring images over the mean step, averaged over the paths: 1 is
    an even change, large is a jump."""


@torch.no_grad()
def journey(decoder: nn.Module, judge: Judge, ways: Tensor) -> Journey:
    """Draw what lies on paths ``[steps, W, C]`` and measure how smoothly it changes."""
    steps, count, _ = ways.shape
    drawn = decoder(ways.flatten(0, 1))
    sure, digit = judge.read(drawn).view(steps, count, -1).max(dim=-1)
    moved = drawn.view(steps, count, -1).diff(dim=0).norm(dim=-1)
    readings = torch.nn.functional.one_hot(digit, 10).any(0).sum(1)
    return Journey(
        float((sure >= 0.9).double().mean()),
        float(readings.double().mean()),
        float((moved.amax(0) / moved.mean(0).clamp(min=1e-12)).mean()),
    )


class Arrow(NamedTuple):
    """A simple stand-in for the adder at one addend: code -> code of the sum."""

    explained: float
    """Share of the adder's shifts (squared, summed) that it explains; 1 is all."""
    shifted: Tensor
    """The codes after it, ``[N, C]``."""


def arrows(z: Tensor, z_sum: Tensor, labels: Tensor) -> dict[str, Arrow]:
    """Fit three stand-ins to the adder at one addend: how far is its work a direction?

    They are the same shift for all codes ``z`` ``[N, C]``, one for each digit of ``labels``, and an
    affine map; ``z_sum`` is what the adder makes of the codes.
    """
    shift = z_sum - z
    by_digit = torch.zeros_like(shift)
    for digit in labels.unique():
        members = labels == digit
        by_digit[members] = shift[members].mean(0)
    with_one = torch.cat([z, torch.ones_like(z[:, :1])], dim=1)
    affine = with_one @ torch.linalg.lstsq(with_one, shift).solution
    fits = {
        "one arrow": shift.mean(0).expand_as(shift),
        "an arrow per digit": by_digit,
        "an affine map": affine,
    }
    total = shift.square().sum()
    return {
        name: Arrow(1 - float((shift - fit).square().sum() / total), z + fit)
        for name, fit in fits.items()
    }


class Decay(NamedTuple):
    """A falling curve fitted to errors."""

    parameters: tuple[float, ...]
    off: float
    """Root mean squared relative distance of the errors from the curve."""
    beyond: float
    """What the curve predicts at the size asked for."""


def decays(sizes: ArrayLike, errors: ArrayLike, beyond: float) -> dict[str, Decay]:
    """Fit an exponential and a power of the code size to errors, and ask both for a larger size.

    "exponential" is ``a exp(-k / b) + c`` and "power" ``a k**-b + c``, with c >= 0, of four or more
    code sizes k ``[N]``.
    """
    from scipy.optimize import curve_fit  # takes a second to import

    k, e = np.asarray(sizes, float), np.asarray(errors, float)
    if k.ndim != 1 or k.shape != e.shape or len(k) < 4:
        raise ValueError(
            f"sizes and errors are of shapes {k.shape} and {e.shape}; allowed is two rows of one "
            "length, 4 or more"
        )
    if not (np.isfinite([k, e]).all() and k.min() > 0 and e.min() > 0):
        raise ValueError(f"sizes is {sizes} and errors {errors}; allowed is numbers above 0")
    curves = {
        "exponential": (lambda k, a, b, c: a * np.exp(-k / b) + c, (e[0], 3.0, e[-1] / 2)),
        "power": (lambda k, a, b, c: a * k**-b + c, (e[0], 1.0, e[-1] / 10)),
    }
    found = {}
    for name, (curve, start) in curves.items():
        # sigma makes the distance relative: small errors count as much as large ones.
        fitted, _ = curve_fit(curve, k, e, start, sigma=e, bounds=(0, np.inf))
        off = float(np.sqrt(np.mean((curve(k, *fitted) / e - 1) ** 2)))
        found[name] = Decay(tuple(map(float, fitted)), off, float(curve(beyond, *fitted)))
    return found


PROJECTOR = """embeddings {{
  tensor_name: "codes"
  tensor_path: "codes.tsv"
  metadata_path: "digits.tsv"
  sprite {{
    image_path: "pictures.png"
    single_image_dim: {size}
    single_image_dim: {size}
  }}
}}
"""


def write_projector(folder: str | Path, z: Tensor, labels: Tensor, images: Tensor) -> Path:
    """Write codes, digits and images for TensorBoard's projector.

    ``SummaryWriter.add_embedding`` fails where TensorFlow is installed, on Colab for example
    (PyTorch issue 30966), so the four plain files that the projector reads are written here.
    Return the path of ``projector_config.pbtxt``.
    """
    if not 0 < len(z) == len(labels) == len(images):
        raise ValueError(
            f"z, labels and images are of lengths {len(z)}, {len(labels)}, {len(images)}; "
            "allowed is one length above 0"
        )
    images = images.cpu().numpy()
    if images.dtype != np.uint8 or images.ndim != 3:
        raise ValueError(
            f"images is {images.dtype} of shape {list(images.shape)}; allowed is uint8 [N, S, S]"
        )
    folder, size = Path(folder), images.shape[-1]
    rows = ("\t".join(f"{value:.6g}" for value in code) for code in z.tolist())
    digits = (str(label) for label in labels.tolist())
    ok, sprite = cv2.imencode(".png", mosaic(images))
    if not ok:
        raise OSError(f"{folder}: the images could not be packed as PNG")
    write_atomically(folder / "codes.tsv", "\n".join(rows) + "\n")
    write_atomically(folder / "digits.tsv", "\n".join(digits) + "\n")
    write_atomically(folder / "pictures.png", sprite.tobytes())
    write_atomically(folder / "projector_config.pbtxt", PROJECTOR.format(size=size))
    if not any(folder.glob(f"{EVENT_PREFIX}*")):  # TensorBoard looks only where it finds events
        with SummaryWriter(str(folder)) as writer:
            writer.add_text("codes", f"{len(z):,} codes of {z.shape[1]} numbers")
        rename_event_files(folder)
    return folder / "projector_config.pbtxt"


def mosaic(images: np.ndarray) -> np.ndarray:
    """Lay images ``[N, S, S]`` out row by row on the smallest square sheet that holds them all."""
    count, size, _ = images.shape
    side = int(np.ceil(np.sqrt(count)))
    sheet = np.zeros((side * side, size, size), images.dtype)
    sheet[:count] = images
    return sheet.reshape(side, side, size, size).swapaxes(1, 2).reshape(side * size, side * size)
