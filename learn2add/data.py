"""Digit images held in memory: loaded, split, resized."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
from torch import Tensor

from learn2add.checks import check_choice, check_digit_arrays, check_int
from learn2add.fetching import DATASETS, TEST_FILES, TRAIN_FILES, find_files

SPLITS = ("train", "validation", "test", "train+validation")
IMAGE_SIZES = (28, 32, 64)


@dataclass(frozen=True, eq=False)
class Digits:
    """Digit pictures in memory with their labels.

    Attributes:
        images: uint8 `[N, H, W]`, 0 = background, N >= 1.
        labels: int64 `[N]`, each 0 to 9.
        dataset: "MNIST" or "FashionMNIST".
        split: "train", "validation", "test" or "train+validation".

    Raises:
        TypeError: `images` is not a uint8 tensor or `labels` not an int64 tensor.
        ValueError: Shapes or lengths do not fit, or a label lies outside 0 to 9.
    """

    images: Tensor
    labels: Tensor
    dataset: str
    split: str

    def __post_init__(self) -> None:
        """Check the fields."""
        for name, dtype in (("images", torch.uint8), ("labels", torch.int64)):
            value = getattr(self, name)
            if not isinstance(value, Tensor) or value.dtype != dtype:
                came = value.dtype if isinstance(value, Tensor) else type(value).__name__
                raise TypeError(f"{name} must be a tensor of {dtype}, not {came}")
        check_digit_arrays(self.images, self.labels, names=("images", "labels"))

    def __len__(self) -> int:
        """Return the number of digits."""
        return len(self.images)

    @property
    def image_size(self) -> int:
        """Height of the pictures in pixels."""
        return self.images.shape[1]

    def resized(self, image_size: int) -> Digits:
        """Return the digits at another size: 28, 32 or 64 pixels.

        Each picture goes through `cv2.resize` with bilinear interpolation, as in the assignment's
        `transform_data_add`.

        Raises:
            ValueError: Another `image_size`.
        """
        check_choice("image_size", image_size, IMAGE_SIZES)
        if tuple(self.images.shape[1:]) == (image_size, image_size):
            return self
        pictures = self.images.cpu().numpy()
        out = np.empty((len(self), image_size, image_size), np.uint8)
        for picture, place in zip(pictures, out, strict=True):
            place[:] = cv2.resize(picture, (image_size, image_size))
        return replace(self, images=torch.from_numpy(out).to(self.images.device))

    def to(self, device: torch.device | str) -> Digits:
        """Return the digits with both tensors on `device`."""
        return replace(self, images=self.images.to(device), labels=self.labels.to(device))

    def subset(self, n: int, seed: int | None = None) -> Digits:
        """Return the first `n` digits of an order that takes the classes in turn.

        A smaller subset is the beginning of a larger one. Classes stay even for as long as the
        smallest class lasts.

        Args:
            n: How many.
            seed: Shuffles each class first; None keeps its order.

        Raises:
            TypeError: `n` or `seed` is not an integer.
            ValueError: `n` is not from 1 to the number of digits, or `seed` is negative.
        """
        check_int("n", n, 1, len(self))
        turn = torch.empty_like(self.labels)  # how many of its class come before each digit
        generator = torch.Generator().manual_seed(check_int("seed", seed or 0, 0))
        for members in self.by_class():
            if seed is not None:
                members = members[torch.randperm(len(members), generator=generator)]
            turn[members] = torch.arange(len(members), device=turn.device)
        first = torch.argsort(turn * 10 + self.labels)[:n]
        return replace(self, images=self.images[first], labels=self.labels[first])

    def by_class(self) -> list[Tensor]:
        """Return for each class 0 to 9 the indices of its digits, int64, in their order."""
        return [torch.nonzero(self.labels == digit).flatten() for digit in range(10)]

    def class_means(self) -> Tensor:
        """Return the mean picture of each class, float32 `[10, H, W]` in [0, 1].

        The mean picture is the best answer in squared error to "draw some 7".

        Raises:
            ValueError: A class has no picture.
        """
        means = []
        for digit, members in enumerate(self.by_class()):
            if len(members) == 0:
                raise ValueError(f"labels must hold every class 0 to 9, but class {digit} is empty")
            means.append(self.images[members].sum(0, dtype=torch.int64) / (255 * len(members)))
        return torch.stack(means)


def as_float(images: Tensor) -> Tensor:
    """Turn uint8 pictures `[B, H, W]` into model images: float32 `[B, 1, H, W]` in [0, 1].

    Raises:
        TypeError: Not a uint8 tensor.
        ValueError: Not of three dimensions.
    """
    if not isinstance(images, Tensor) or images.dtype != torch.uint8:
        came = images.dtype if isinstance(images, Tensor) else type(images).__name__
        raise TypeError(f"images must be a uint8 tensor [B, H, W], not {came}")
    if images.ndim != 3:
        raise ValueError(f"images must be [B, H, W], not of shape {list(images.shape)}")
    return images.unsqueeze(1).float().div_(255)


def load_digits(
    dataset: str = "MNIST", split: str = "train", *, root: str | os.PathLike[str] | None = None
) -> Digits:
    """Load one split of a data set, finding or fetching only the files it needs.

    Files are `<root>/<dataset>/raw/<file>` or `<root>/<dataset>/<file>`, raw or with `.gz`, under
    their official names. Each is checked against the official checksum; a truncated or altered one
    is named in a warning, renamed to `<file>.damaged` and replaced from the next source.

    Args:
        dataset: "MNIST" or "FashionMNIST".
        split: "train" (first 50,000 of the training file), "validation" (its last 10,000), "test"
            (10,000) or "train+validation" (60,000).
        root: Folder to look in first, instead of the one in `LEARN2ADD_DATA`.

    Returns:
        The digits, uint8 `[N, 28, 28]` and int64 `[N]`.

    Raises:
        ValueError: Unknown data set or split.
        RuntimeError: No source could supply a file; the message says what to put where.
    """
    check_choice("dataset", dataset, DATASETS)
    check_choice("split", split, SPLITS)
    files = TEST_FILES if split == "test" else TRAIN_FILES
    raw = find_files(dataset, files, root)
    images = torch.from_numpy(np.frombuffer(raw[files[0]], np.uint8, offset=16).copy())
    labels = torch.from_numpy(np.frombuffer(raw[files[1]], np.uint8, offset=8).astype(np.int64))
    part = {"train": slice(50_000), "validation": slice(50_000, None)}.get(split, slice(None))
    return Digits(images.view(-1, 28, 28)[part], labels[part], dataset, split)
