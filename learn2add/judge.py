"""The judge: an independent classifier that reads the pictures the models draw.

The squared error of a sum picture cannot tell right from wrong: the target is a random picture of
the sum, so the best answer is the *mean* picture of that digit, and a sharp, correct digit scores
worse. A classifier reads the pictures instead. An ordinary one misreads soft pictures (it takes the
mean of the ones for an eight); this one sees means of 2 to 32 digits of one class in a third of
each batch, and reads soft and sharp pictures alike.

Trained on the 50,000 training digits, every choice made on the 10,000 validation digits; the test
digits only give figures to the card, ``weights/judge.json``. ``learn2add judge`` rebuilds it.

Source: assignment, Part III items 5-7 (are the sums right?).
"""

import hashlib
import json
import math
import os
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from tqdm.auto import tqdm

from learn2add.checks import check_choice, check_images, check_int
from learn2add.data import Digits, as_float, load_digits

WEIGHTS = Path(__file__).parent / "weights" / "judge.safetensors"
KIND = "learn2add judge"
SIZE = 28
CHANNELS = (32, 48, 48, 96, 96)
EPOCHS = 16
BATCH = 256
MEANS = BATCH // 3  # how many of a batch are means of several digits of one class
MOST_AVERAGED = 32
PEAK_RATE = 0.1
WEIGHT_DECAY = 5e-4


class Judge(nn.Module):
    """Convolutions with batch normalisation, then global average pooling; 161,386 parameters.

    Its own architecture, so that it shares no habit with the `Encoder` whose work it judges.

    Shapes: ``images`` float ``[B, 1, S, S]`` in [0, 1], any S -> logits ``[B, 10]``. Pictures that
    are not 28 pixels wide are first resized to 28 (bilinear, antialiased).
    """

    def __init__(self) -> None:
        super().__init__()
        a, b, c, d, e = CHANNELS
        self.body = nn.Sequential(
            *_block(1, a, 5, pool=True),  # [B, 32, 14, 14]
            *_block(a, b, 3, pool=False),
            *_block(b, c, 3, pool=True),  # [B, 48, 7, 7]
            *_block(c, d, 3, pool=False),
            *_block(d, e, 3, pool=False),  # [B, 96, 7, 7]
        )
        self.head = nn.Linear(e, 10)
        self.to(memory_format=torch.channels_last)

    def embed(self, images: Tensor) -> Tensor:
        """Pictures ``[B, 1, S, S]`` -> penultimate features ``[B, 96]``."""
        if images.shape[-2:] != (SIZE, SIZE):
            images = F.interpolate(images, (SIZE, SIZE), mode="bilinear", antialias=True)
        return self.body(images.contiguous(memory_format=torch.channels_last)).mean(dim=(2, 3))

    def forward(self, images: Tensor) -> Tensor:
        """Pictures ``[B, 1, S, S]`` -> logits ``[B, 10]``; `read` is the way to read pictures."""
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
        """Penultimate features float32 ``[B, 96]``, for Fréchet distances; otherwise as `read`."""
        return self._in_batches(images, batch_size, embed=True)

    @torch.no_grad()
    def _in_batches(self, images: Tensor, batch_size: int, embed: bool) -> Tensor:
        check_images("images", images)
        check_int("batch_size", batch_size, 1)
        self.eval()
        device, network = self.head.weight.device, self.embed if embed else self
        outputs = []
        for batch in images.split(batch_size):
            with _half_precision(device):
                outputs.append(network(batch.to(device)).float().to(images.device))
        return torch.cat(outputs)


def _block(inputs: int, outputs: int, kernel: int, pool: bool) -> list[nn.Module]:
    layers: list[nn.Module] = [nn.Conv2d(inputs, outputs, kernel, padding="same", bias=False)]
    if pool:  # before the normalisation: a quarter of the values to normalise
        layers.append(nn.MaxPool2d(2))
    return [*layers, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]


def _half_precision(device: torch.device) -> torch.autocast:
    """Bfloat16 autocast where the device has bfloat16 arithmetic; elsewhere no autocast."""
    able = False
    if device.type == "cuda":
        able = torch.cuda.is_bf16_supported(including_emulation=False)
    elif device.type == "cpu":
        able = getattr(torch.cpu, "_is_avx512_bf16_supported", bool)()
    return torch.autocast(device.type, torch.bfloat16, enabled=able)


def augment(images: Tensor, generator: torch.Generator) -> Tensor:
    """Move, turn, scale, slant and soften each picture a little, each by an amount of its own.

    One picture in five keeps its geometry, one in two its sharpness.

    Shapes: ``images`` float ``[B, 1, S, S]`` in [0, 1], on the generator's device -> the same.
    """
    count, device = len(images), images.device
    amounts = torch.rand(8, count, device=device, generator=generator)
    turn, slant, wide, high, right, down = 2 * amounts[:6] - 1
    strength = (1.25 * amounts[6] - 0.25).clamp(min=0)
    turn, slant = math.radians(12) * strength * turn, 0.15 * strength * slant
    wide, high = 1 + 0.12 * strength * wide, 1 + 0.12 * strength * high
    shift = 2.5 * 2 / images.shape[-1] * strength  # 2.5 pixels; the picture spans -1 to 1
    across = torch.stack([wide * turn.cos(), slant - turn.sin(), shift * right], dim=1)
    along = torch.stack([turn.sin(), high * turn.cos(), shift * down], dim=1)
    affine = torch.stack([across, along], dim=1)  # [B, 2, 3]
    grid = F.affine_grid(affine, list(images.shape), align_corners=False)
    images = F.grid_sample(images, grid, align_corners=False)
    kernel = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0], device=device) / 16
    blurred = F.conv2d(images, kernel.view(1, 1, 1, 5), padding=(0, 2))
    blurred = F.conv2d(blurred, kernel.view(1, 1, 5, 1), padding=(2, 0))
    softness = (2 * amounts[7] - 1).clamp(min=0)
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


def train_judge(
    train: Digits,
    validation: Digits,
    *,
    seed: int = 0,
    epochs: int = EPOCHS,
    progress: bool = True,
    device: str | torch.device = "cpu",
) -> tuple[Judge, dict[str, Any]]:
    """Train a judge from scratch; the same seed gives the same weights (same CPU and threads).

    SGD with Nesterov momentum under a one-cycle rate, batches of 256. The last weights are kept:
    no epoch is chosen by its score.

    Args:
        train: Digits 28 pixels wide, 256 or more, every class among them.
        validation: Digits whose accuracy is reported; they do not touch the weights.
        seed: Decides the first weights, the batches and the augmentation.
        epochs: Passes over ``train``, about 14 s each on two CPU cores with bfloat16.
        progress: Show a progress bar.
        device: Where to train.

    Returns:
        The judge, as from `load_judge`, and its card: ``seed``, ``epochs``, ``seconds``,
        ``parameters``, ``validation_accuracy``.

    Raises:
        TypeError: ``epochs`` is no integer.
        ValueError: ``epochs`` is below 1; ``train`` is too small, lacks a class or has another
            picture size.
    """
    check_int("epochs", epochs, 1)
    counts = train.labels.bincount(minlength=10).tolist()
    if train.images.shape[1:] != (SIZE, SIZE) or len(train.labels) < BATCH or 0 in counts:
        raise ValueError(
            f"train must hold {SIZE} x {SIZE} digits, at least {BATCH}, every class among them, "
            f"not {list(train.images.shape)} with {counts} per class"
        )
    device, started = torch.device(device), time.perf_counter()
    with torch.random.fork_rng(devices=[]):  # the caller's random numbers go on as before
        torch.default_generator.manual_seed(seed)
        judge = Judge().to(device).train()
    train, generator = train.to(device), torch.Generator(device).manual_seed(seed)
    means, steps = ClassMeans(train), len(train.labels) // BATCH
    optimiser = torch.optim.SGD(
        judge.parameters(), PEAK_RATE, momentum=0.9, nesterov=True, weight_decay=WEIGHT_DECAY
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, PEAK_RATE, total_steps=epochs * steps, pct_start=0.25, cycle_momentum=False
    )
    for epoch in range(epochs):
        order = torch.randperm(len(train.labels), device=device, generator=generator)
        batches = order[: steps * BATCH].view(steps, BATCH)
        bar = tqdm(batches, f"judge, epoch {epoch + 1} of {epochs}", disable=not progress)
        for rows in bar:
            labels = train.labels[rows]
            soft = means.draw(labels[:MEANS], generator)
            images = augment(torch.cat([soft, as_float(train.images[rows[MEANS:]])]), generator)
            with _half_precision(device):
                loss = F.cross_entropy(judge(images), labels)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    judge.eval().requires_grad_(False)
    return judge, {
        "seed": seed,
        "epochs": epochs,
        "seconds": round(time.perf_counter() - started, 1),
        "parameters": sum(p.numel() for p in judge.parameters()),
        "validation_accuracy": examine(judge, validation)["accuracy"],
    }


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


def rebuild_judge(
    path: str | Path | None = None,
    *,
    seed: int = 0,
    epochs: int = EPOCHS,
    progress: bool = True,
    device: str | torch.device = "cpu",
) -> dict[str, Any]:
    """Train the judge on MNIST, save it and return its card: what ``learn2add judge`` does.

    The card is that of `train_judge` with ``test``: the findings of `examine` on the test digits
    at 28, 32 and 64 pixels. Four minutes on two CPU cores with bfloat16, about eight without.

    Raises:
        OSError: ``path`` cannot be written (found before the training).
        ValueError: ``path`` does not end in ``.safetensors``.
    """
    path = _writable(WEIGHTS if path is None else Path(path))
    train, validation, test = (load_digits(split=s) for s in ("train", "validation", "test"))
    options = {"seed": seed, "epochs": epochs, "progress": progress, "device": device}
    judge, card = train_judge(train, validation, **options)
    card["test"] = {str(size): examine(judge, test.resized(size)) for size in (28, 32, 64)}
    save_judge(judge, path, card)
    return card


def save_judge(judge: Judge, path: str | Path, card: Mapping[str, Any]) -> None:
    """Write the weights (safetensors, float32) and beside them ``card`` as JSON, each atomically.

    Raises:
        OSError: ``path`` cannot be written.
        ValueError: ``path`` does not end in ``.safetensors``, or ``card`` holds NaN.
    """
    path = _writable(Path(path))
    weights = {
        name: tensor.cpu().contiguous()
        for name, tensor in judge.state_dict().items()
        if not name.endswith("num_batches_tracked")  # counts steps, decides nothing
    }
    text = json.dumps(dict(card), indent=2, allow_nan=False) + "\n"
    labels = {"kind": KIND, "sha256": _fingerprint(weights)}
    contents = {path: safetensors.torch.save(weights, labels), path.with_suffix(".json"): text}
    for target, content in contents.items():
        _write(target, content if isinstance(content, bytes) else content.encode())


def _write(path: Path, content: bytes) -> None:
    """Write the whole file or, with an error that names it, nothing."""
    handle, part = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        os.chmod(part, 0o644)  # mkstemp makes it private
        os.replace(part, path)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None
    finally:
        Path(part).unlink(missing_ok=True)


def _writable(path: Path) -> Path:
    check_choice("the suffix of path", path.suffix, [".safetensors"])
    path.parent.mkdir(parents=True, exist_ok=True)
    tempfile.TemporaryFile(dir=path.parent).close()
    return path


def _fingerprint(weights: Mapping[str, Tensor]) -> str:
    """Safetensors carries no checksum of its own: a flipped bit would pass unseen."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        digest.update(name.encode())
        digest.update(weights[name].numpy().tobytes())
    return digest.hexdigest()


def load_judge(path: str | Path | None = None, device: str | torch.device = "cpu") -> Judge:
    """Load the judge kept in the package, or one written by `save_judge`. Nothing is unpickled.

    Returns:
        A `Judge` in evaluation mode whose weights take no gradient (pictures still can).

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is damaged or holds something else.
    """
    path = WEIGHTS if path is None else Path(path)
    remedy = "`learn2add judge` rebuilds the judge"
    if not path.is_file():
        raise FileNotFoundError(f"no judge weights at {path}; {remedy}")
    judge = Judge()
    try:
        with safe_open(path, "pt") as file:
            labels = file.metadata() or {}
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if labels.get("kind") != KIND:
            raise ValueError("it is not marked as a judge")
        if labels.get("sha256") != _fingerprint(weights):
            raise ValueError("its checksum is wrong")
        judge.load_state_dict(weights)
    except (SafetensorError, RuntimeError, TypeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"{path} does not hold a whole judge ({reason}); {remedy}") from None
    return judge.to(device).eval().requires_grad_(False)
