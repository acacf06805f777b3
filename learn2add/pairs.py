"""Digits -> addition pairs: (image of d, addend a) goes with an image of d + a, for d + a <= 9.

There are 55 valid cells (digit, addend). Source: assignment, Part III item 1 and its starter code.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor

from learn2add.checks import check_choice, check_int
from learn2add.config import BALANCES, check_held_out
from learn2add.data import by_class, check_digit_arrays

CELLS = tuple((digit, addend) for digit in range(10) for addend in range(10 - digit))
"""The 55 valid (digit, addend) cells, by digit, then by addend."""


class Pairs(NamedTuple):
    """Pairs as indices into the digits: each tensor ``[N]``; indices int64, addends float32."""

    input: Tensor
    addend: Tensor
    target: Tensor


def transform_data_add(
    x_train: np.ndarray | Tensor,
    y_train: np.ndarray | Tensor,
    img_size: int | Sequence[int] = (32, 32),
    *,
    seed: int = 0,
) -> tuple[list[np.ndarray], list[int], list[np.ndarray]]:
    """Build the addition pairs of the assignment's starter code, with its three faults mended.

    Cells, their sizes and their order are the handout's: for each sum s from 0 to 9 and each digit
    d from 0 to s, as many pairs as the smaller of the two classes has images (321,802 for
    MNIST's 60,000 training images). What differs:

    1. ``img_in = [], img_out = [], ...`` raises ValueError; here lists are made one by one.
    2. ``random.shuffle`` of a NumPy array of images swaps *views*, so that images are
       duplicated and lost; here indices are permuted, and no image is its own target ("+ 0").
    3. The k-th image of a class always met the k-th image of every other; here targets are
       drawn at random, anew in each cell.

    ``x_train`` is ``[N, H, W]`` of any real dtype, ``y_train`` integer ``[N]``, ``img_size`` width
    and height in pixels, or one number for both. A class without an image makes no pairs. Returned
    are three lists: input images ``[h, w]`` of ``x_train``'s dtype, addends as int, target images.
    An image that occurs in several pairs is one array, not copies; ``np.array(img_in)`` copies.
    """
    images, labels = check_digit_arrays(x_train, y_train, names=("x_train", "y_train"))
    if not isinstance(img_size, Sequence):
        img_size = (img_size, img_size)
    if len(img_size) != 2:
        raise ValueError(f"img_size is {img_size!r}; allowed is one or two sides in pixels")
    width, height = (check_int("img_size", side, 1, 4096) for side in img_size)
    resized = list(_resize(images, width, height))
    generator = torch.Generator().manual_seed(check_int("seed", seed, 0, 2**63 - 1))
    img_in, value_in, img_out = [], [], []
    for digit, total, inputs, targets in _cell_pairs(by_class(torch.from_numpy(labels)), generator):
        img_in += [resized[i] for i in inputs.tolist()]
        img_out += [resized[i] for i in targets.tolist()]
        value_in += [total - digit] * len(inputs)
    return img_in, value_in, img_out


class AdditionPairs:
    """The pairs of :func:`transform_data_add` as indices, with fresh targets whenever asked.

    Balances, that is, how often each cell is drawn:

    - ``"natural"``: the handout's counts (about equal per cell, hence 10 times more nines than
      zeros among the targets);
    - ``"sums"``: each sum 0 to 9 equally often, then each of its digits;
    - ``"cells"``: each of the 55 cells equally often;
    - ``"digits"``: each input digit 0 to 9 equally often, then each of its addends;
    - ``"mixed"``: between the last two, as the square root of their ratio, so that a nine, which
      is input in one cell of 55, is still seen often enough to be told from a four.

    The (digit, addend) cells in ``held_out`` are never drawn.
    """

    def __init__(
        self,
        labels: Tensor,
        balance: str = "natural",
        device: torch.device | str = "cpu",
        held_out: Sequence[tuple[int, int]] = (),
    ) -> None:
        self.held_out = frozenset(check_held_out(held_out))
        self.balance = check_choice("balance", balance, BALANCES)
        classes = _classes(labels)
        sizes = torch.tensor([len(members) for members in classes])
        self._sizes = sizes.to(device)
        self._classes = [members.to(device) for members in classes]
        self._table = torch.nn.utils.rnn.pad_sequence(self._classes, batch_first=True)
        self.cell_counts = cell_counts(sizes)
        for digit, addend in self.held_out:
            self.cell_counts[digit, addend] = 0
        self._cells = torch.tensor(CELLS, device=device)  # [55, 2]
        natural = balance == "natural"
        table = self.cell_counts.float() if natural else cell_weights(balance, held_out)
        self._weights = table.to(device)[tuple(self._cells.T)]

    def __len__(self) -> int:
        return int(self.cell_counts.sum())

    def draw(self, count: int, generator: torch.Generator) -> Pairs:
        """Draw ``count`` pairs, with replacement; no image is its own target."""
        cell = torch.multinomial(self._weights, count, replacement=True, generator=generator)
        digit, addend = self._cells[cell].T
        total = digit + addend
        at = self._position(self._sizes[digit], generator)
        # Within a class, step 1 to n - 1 places on from the input; between classes, anywhere.
        step = 1 + self._position((self._sizes[total] - 1).clamp(min=1), generator)
        other = self._position(self._sizes[total], generator)
        to = torch.where(addend == 0, (at + step) % self._sizes[digit], other)
        return Pairs(self._table[digit, at], addend.float(), self._table[total, to])

    def _position(self, sizes: Tensor, generator: torch.Generator) -> Tensor:
        uniform = torch.rand(len(sizes), generator=generator, device=sizes.device)
        return torch.minimum((uniform * sizes).long(), sizes - 1)  # float32 may round up to `sizes`

    def epoch(self, generator: torch.Generator) -> Pairs:
        """Return all pairs once, shuffled, with fresh targets; if not "natural", as many draws."""
        if self.balance != "natural":
            return self.draw(len(self), generator)
        inputs, addends, targets = [], [], []
        for digit, total, cell_inputs, cell_targets in _cell_pairs(self._classes, generator):
            if (digit, total - digit) in self.held_out:
                continue
            inputs.append(cell_inputs)
            addends.append(torch.full(cell_inputs.shape, float(total - digit)))
            targets.append(cell_targets)
        order = torch.randperm(len(self), generator=generator, device=self._sizes.device)
        addend = torch.cat(addends).to(order.device)
        return Pairs(torch.cat(inputs)[order], addend[order], torch.cat(targets)[order])


def cell_weights(balance: str, held_out: Sequence[tuple[int, int]] = ()) -> Tensor:
    """Return how often each cell is drawn, up to a factor, if the balance is not "natural".
    Float32 ``[10, 10]``, by digit and addend; 0 where held out or where the sum exceeds 9.
    """
    weights = torch.zeros(10, 10)
    for digit, addend in set(CELLS) - set(held_out):
        # How many cells share one even part of the draws; else the balance is "mixed".
        alike = {"sums": digit + addend + 1, "digits": 10 - digit, "cells": 1}
        weights[digit, addend] = 1 / alike.get(balance, (10 - digit) ** 0.5)
    return weights


class BatchTargets:
    """All pairs inside one batch that holds every digit equally often, for all targets at once.

    Every image of the batch is input, with each of its addends, and is a target of every other
    input whose sum it shows. Squared error to all of one input's targets is squared error to their
    mean plus a constant, so the loss of thousands of pairs costs one mean per digit; it has the
    expectation of the loss over drawn pairs and much less noise.

    The batch has ``per_class`` images of each digit, 2 or more, in order of digits. ``balance``
    (not "natural") says how much each cell weighs; those in ``held_out`` weigh nothing.
    """

    def __init__(
        self,
        per_class: int,
        balance: str = "cells",
        device: torch.device | str = "cpu",
        held_out: Sequence[tuple[int, int]] = (),
    ) -> None:
        self.per_class = check_int("per_class", per_class, 2)
        self.digit = torch.arange(10, device=device).repeat_interleave(per_class)
        cells = torch.tensor(CELLS, device=device).repeat_interleave(per_class, 0)  # [55 * n, 2]
        member = torch.arange(per_class, device=device).repeat(len(CELLS))
        self.input = cells[:, 0] * per_class + member
        self.addend = cells[:, 1].float()
        table = cell_weights(balance, held_out)
        self._weights = (table / table.sum()).to(device)  # [digit, addend], sum 1
        self.weight = self._weights[cells[:, 0], cells[:, 1]] * len(CELLS)
        """Weight of each pair, mean 1."""

    def weight_of(self, addend: Tensor) -> Tensor:
        """Return the weight of each image with its drawn addend, mean 1: ``[B]``."""
        # An addend is drawn with probability 1 / (10 - digit); the weight makes up for that.
        return self._weights[self.digit, addend.long()] * (10 - self.digit) * 10

    def draw(self, generator: torch.Generator) -> Tensor:
        """Draw one valid addend for each image of the batch: float32 ``[B]``."""
        uniform = torch.rand(len(self.digit), generator=generator, device=self.digit.device)
        choices = 10 - self.digit
        return torch.minimum((uniform * choices).long(), choices - 1).float()

    def mean_target(self, values: Tensor, index: Tensor, addend: Tensor) -> Tensor:
        """Return the mean over all targets, ``[P, ...]``; no image is its own.

        ``values`` are images or codes of the batch ``[B, ...]``, ``index`` the inputs' places in
        it ``[P]``, ``addend`` their addends ``[P]``.
        """
        count = self.per_class
        means = values.unflatten(0, (10, count)).mean(1)
        found = means[self.digit[index] + addend.long()]
        without_itself = (count * found - values[index]) / (count - 1)
        itself = (addend == 0).view(-1, *[1] * (values.dim() - 1))
        return torch.where(itself, without_itself, found)

    def spread(self, codes: Tensor) -> Tensor:
        """Return the summed variance of codes ``[B, code_size]`` within each digit: ``[10]``."""
        return codes.unflatten(0, (10, self.per_class)).var(1).sum(1)


def cell_counts(class_sizes: Sequence[int] | Tensor) -> Tensor:
    """Return how many pairs the handout makes in each cell: the smaller of two classes' sizes.
    Int64 ``[10, 10]``, by digit and addend; 0 where the sum exceeds 9.
    """
    sizes = torch.as_tensor(class_sizes)
    counts = torch.zeros(10, 10, dtype=torch.int64)
    for digit, addend in CELLS:
        counts[digit, addend] = torch.minimum(sizes[digit], sizes[digit + addend])
    return counts


def _cell_pairs(
    classes: list[Tensor], generator: torch.Generator
) -> Iterator[tuple[int, int, Tensor, Tensor]]:
    """Yield (digit, sum, input indices, target indices) per cell, in the handout's order."""

    def shuffled(members: Tensor) -> Tensor:
        return members[torch.randperm(len(members), generator=generator, device=members.device)]

    for total in range(10):
        for digit in range(total + 1):
            count = min(len(classes[digit]), len(classes[total]))
            inputs = shuffled(classes[digit])[:count]
            # Each meets the next one of the same shuffled row: never itself.
            targets = inputs.roll(1) if digit == total else shuffled(classes[total])[:count]
            yield digit, total, inputs, targets


def _classes(labels: np.ndarray | Tensor) -> list[Tensor]:
    """Return the indices of each digit's images; every digit must have one."""
    labels = torch.as_tensor(labels).cpu()
    if labels.dim() != 1 or labels.is_floating_point():
        raise ValueError(f"labels is {labels.dtype} {list(labels.shape)}; allowed is integer [N]")
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) <= 9:
        raise ValueError(f"labels is from {labels.min()} to {labels.max()}; allowed is 0 to 9")
    classes = by_class(labels)
    if empty := [digit for digit, members in enumerate(classes) if not len(members)]:
        raise ValueError(f"labels has no image of {empty}; allowed is one or more of each digit")
    return classes


def _resize(images: np.ndarray, width: int, height: int) -> np.ndarray:
    if images.shape[1:] == (height, width):
        return images.copy()
    if images.dtype in (np.uint8, np.uint16, np.int16, np.float32, np.float64):
        return np.stack([cv2.resize(image, (width, height)) for image in images])
    resized = _resize(images.astype(np.float64), width, height)  # OpenCV knows no other types
    return (resized if images.dtype.kind == "f" else resized.round()).astype(images.dtype)
