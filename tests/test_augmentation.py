"""Shifts of training pictures."""

import numpy as np
import pytest
import torch

from learn2add.augmentation import shifted
from learn2add.configs import Stage
from learn2add.data import Digits


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_each_picture_is_moved_as_numpy_moves_it(mnist_test: Digits) -> None:
    images = mnist_test.images[:400]
    moved = shifted(images, 2, generator())
    assert moved.shape == images.shape
    assert moved.dtype == torch.uint8
    seen = set()
    for before, after in zip(images.numpy(), moved.numpy(), strict=True):
        padded = np.pad(before, 4)  # two for the shift, two for what is moved out
        found = {
            (down, right)
            for down in range(-2, 3)
            for right in range(-2, 3)
            if np.array_equal(padded[4 - down : 32 - down, 4 - right : 32 - right], after)
        }
        assert len(found) == 1
        seen |= found
    assert len(seen) == 25  # every shift occurs


def test_shifts_are_equally_likely(mnist_test: Digits) -> None:
    dot = torch.zeros(9000, 28, 28, dtype=torch.uint8)
    dot[:, 14, 14] = 255
    places = shifted(dot, 1, generator()).flatten(1).float().mean(0).view(28, 28)[13:16, 13:16]
    assert places.sum() == pytest.approx(255)
    assert (places / 255 - 1 / 9).abs().max() < 4 * (1 / 9 * 8 / 9 / 9000) ** 0.5


def test_no_shift_leaves_pictures_and_generator_alone(mnist_test: Digits) -> None:
    drawn = generator()

    torch.testing.assert_close(shifted(mnist_test.images[:5], 0, drawn), mnist_test.images[:5])
    assert torch.equal(drawn.get_state(), generator().get_state())


def test_same_seed_same_shifts(mnist_test: Digits) -> None:
    images = mnist_test.images[:50]
    a, b, c = (shifted(images, 3, generator(seed)) for seed in (5, 5, 6))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)


@pytest.mark.parametrize("shift", [-1, 9, 1.5, True])
def test_stage_refuses_bad_shifts(shift: object) -> None:
    with pytest.raises((ValueError, TypeError), match="shift"):
        Stage("autoencoder", 1, shift=shift)


def test_stage_refuses_to_shift_cached_codes() -> None:
    with pytest.raises(ValueError, match="cached codes"):
        Stage("adder", 1, shift=1)
