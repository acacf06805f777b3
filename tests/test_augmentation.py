"""Shifts and deformations of training pictures."""

import cv2
import numpy as np
import pytest
import torch

from learn2add import augmentation
from learn2add.augmentation import deformed, shifted
from learn2add.configs import Stage
from learn2add.data import Digits, as_float
from learn2add.judge import load_judge


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


@pytest.mark.parametrize("change", [{"shift": 1}, {"deform": 0.5}])
def test_stage_refuses_to_move_cached_codes(change: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="cached codes"):
        Stage("adder", 1, **change)


def test_deformed_turns_scales_and_moves_as_opencv_does(
    mnist_test: Digits, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = mnist_test.images[:200]
    monkeypatch.setattr(augmentation, "WOBBLE", 0.0)
    found = deformed(images, 1.5, generator(3)).float().numpy()
    turn, wide, high, slant, right, down = 1.5 * torch.randn(6, 200, generator=generator(3)).numpy()
    turn *= augmentation.TURN
    for i, picture in enumerate(images.numpy()):
        cos, sin = np.cos(turn[i]), np.sin(turn[i])
        back = np.array(
            [
                [(1 + 0.03 * wide[i]) * cos, 0.03 * slant[i] - sin, 0.15 * right[i]],
                [sin, (1 + 0.03 * high[i]) * cos, 0.15 * down[i]],
            ]
        )
        back[:, 2] += 13.5 - back[:, :2] @ [13.5, 13.5]  # about the middle of the picture
        expected = cv2.warpAffine(
            picture.astype(np.float32),
            back,
            (28, 28),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        )
        assert np.abs(found[i] - expected).max() < 9  # OpenCV counts places in 32nds of a pixel


def test_wobble_moves_points_by_its_deviation() -> None:
    ramp = torch.arange(28).mul(8).byte().expand(4000, 28, 28)  # 8 grey levels a pixel
    moved = deformed(ramp, 0.5, generator()).float()[:, 8:20, 8:20] - ramp[:, 8:20, 8:20].float()
    by_net = 0.5 * augmentation.WOBBLE
    # Between its points the net is smoother than at them, turns and slants add a little.
    assert 0.5 * by_net < moved.std() / 8 < 2 * by_net
    assert moved.mean().abs() / 8 < 0.02


def test_strength_0_leaves_pictures_and_generator_alone(mnist_test: Digits) -> None:
    drawn = generator()
    assert torch.equal(
        shifted(deformed(mnist_test.images[:5], 0, drawn), 0, drawn), mnist_test.images[:5]
    )
    assert torch.equal(drawn.get_state(), generator().get_state())


@pytest.mark.parametrize("side", [28, 32, 64])
def test_deformed_digits_stay_the_digits_they_are(mnist_test: Digits, side: int) -> None:
    judge = load_judge()
    digits = mnist_test.subset(1000).resized(side)
    drawn = generator()
    pictures = shifted(deformed(digits.images, 1.0, drawn), 1, drawn)
    read = judge.read(as_float(pictures)).argmax(1)
    assert (read == digits.labels).float().mean() > 0.985


@pytest.mark.parametrize("deform", [-0.1, float("nan"), 11, "much"])
def test_stage_refuses_bad_deformations(deform: object) -> None:
    with pytest.raises((ValueError, TypeError), match="deform"):
        Stage("autoencoder", 1, deform=deform)
