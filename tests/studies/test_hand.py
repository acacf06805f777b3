"""The same hand: measures of shapes that are known, neighbours, and steps towards them."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from learn2add.config import LossWeights, Stage
from learn2add.data import Digits, as_float
from learn2add.measures import SumScores, floors
from learn2add.pairs import CELLS
from learn2add.studies import hand
from learn2add.studies.hand_training import HandConfig
from learn2add.train import build_model


def bar(thickness: float, lean: float = 0.0, length: int = 16) -> np.ndarray:
    """A stroke upright but for its lean (pixels to the right for each up), drawn 16 times finer."""
    fine = np.zeros((28 * 16, 28 * 16), np.uint8)
    half, middle = thickness / 2, 14
    ends = [(-length / 2, 1), (length / 2, -1)]
    corners = [
        (16 * (middle + lean * up + side * half), 16 * (middle - up))
        for up, first in ends
        for side in (first, -first)
    ]
    cv2.fillPoly(fine, [np.array(corners, np.float64).round().astype(np.int32)], 255)
    return cv2.resize(fine, (28, 28), interpolation=cv2.INTER_AREA)


def measured(*images: np.ndarray) -> dict[str, np.ndarray]:
    found = hand.shapes(torch.from_numpy(np.stack(images)))
    return dict(zip(hand.SHAPES, found.T, strict=True))


@pytest.mark.parametrize("lean", [-0.5, -0.2, 0, 0.3, 0.6])
def test_the_slant_of_a_bar_is_its_lean(lean: float) -> None:
    assert measured(bar(3, lean))["slant"][0] == pytest.approx(lean, abs=0.03)


def test_the_thickness_of_a_bar_is_its_width_and_a_slant_changes_little() -> None:
    for thickness in (2, 3, 4, 5.5):
        found = measured(bar(thickness), bar(thickness, 0.3))
        assert found["thickness"][0] == pytest.approx(thickness, abs=0.4)
        across = thickness * np.cos(np.arctan(0.3))  # corners were drawn thickness apart sideways
        assert found["thickness"][1] == pytest.approx(across, abs=0.5)
        assert found["width"] == pytest.approx([thickness] * 2, abs=1.8)


def test_width_and_height_are_those_of_a_frame_and_follow_no_slant() -> None:
    frame = np.zeros((28, 28), np.uint8)
    cv2.rectangle(frame, (8, 4), (19, 23), 255, 1)  # 12 wide, 20 high
    found = measured(frame, bar(3, 0.5, length=20))
    assert found["width"][0] == pytest.approx(12, abs=1)
    assert found["height"] == pytest.approx([20, 20], abs=1)
    assert found["slant"][0] == pytest.approx(0, abs=1e-6)


def test_an_empty_image_has_no_measures() -> None:
    assert np.isnan(measured(np.zeros((28, 28), np.uint8))["slant"]).all()


def test_neighbours_are_of_each_digit_in_a_similar_hand_and_never_the_image_itself(
    mnist_train: Digits,
) -> None:
    digits = mnist_train.subset(2000)
    table = hand.style_neighbours(digits, 5)
    assert table.shape == (2000, 10, 5)
    assert torch.equal(digits.labels[table], torch.arange(10)[None, :, None].expand_as(table))
    assert not (table == torch.arange(2000)[:, None, None]).any()
    slant = hand.hand_of(digits)[:, 0]
    near = slant[table].mean(2)  # [2000, 10]
    for digit in range(10):
        assert np.corrcoef(slant, near[:, digit])[0, 1] > 0.9


def little(**changes) -> HandConfig:
    stages = (
        Stage("adder", 1, 5, 32, 1e-3, balance="cells"),
        Stage("addition", 1, 2, 30, 1e-3, loss="bce", balance="mixed", targets="batch"),
    )
    weights = LossWeights(code=0.0, contrast=10.0)
    return HandConfig(stages, "addition", weights=weights, neighbours=3, **changes)


def test_a_step_is_given_the_mean_of_the_neighbours_and_no_cell_that_is_held_out(
    mnist_train: Digits,
) -> None:
    digits = mnist_train.subset(300)
    config = little(held_out=((0, 1), (3, 4)))
    step = config.step(config.stages[1], build_model(config), digits, digits)
    generator = torch.Generator().manual_seed(0)
    seen = set()
    for _ in range(20):
        for batch in step.batches(generator):
            seen |= {*zip(step.targets.digit.tolist(), batch.addend.long().tolist(), strict=True)}
    assert (0, 1) not in seen and (3, 4) not in seen
    assert len(seen) > 45 and all(digit + addend <= 9 for digit, addend in seen)
    table = hand.style_neighbours(digits, 3)
    x = as_float(digits.images)
    batch = next(step.batches(generator))
    place = (x[:, 0] * 255 == batch.x[7].float()).all((1, 2)).nonzero()[0, 0]
    wanted = x[table[place, int(step.targets.digit[7] + batch.addend[7])]].mean(0)
    assert torch.allclose(batch.y[7], wanted, atol=1e-6)


def test_validation_pairs_are_in_a_similar_hand_too(mnist_train: Digits) -> None:
    digits = mnist_train.subset(300)
    for number in (0, 1):
        config = little()
        step = config.step(config.stages[number], build_model(config), digits, digits)
        table = hand.style_neighbours(digits, 3)
        total = digits.labels[step.fixed.target]
        assert torch.equal(total, digits.labels[step.fixed.input] + step.fixed.addend.long())
        among = table[step.fixed.input, total] == step.fixed.target[:, None]
        assert among.any(1).all()


class Draws(torch.nn.Module):
    """Images are their own codes (their number); the adder looks the sum up."""

    def __init__(self, digits: Digits, images: torch.Tensor) -> None:
        super().__init__()
        self.digits, self.images = digits, images  # [N, 10, S, S] by input and sum

    def encoder(self, x: torch.Tensor) -> torch.Tensor:
        all_images = as_float(self.digits.images).flatten(1)
        same = torch.cdist(x.flatten(1), all_images).argmin(1)
        return torch.stack([same, self.digits.labels[same]], 1).float()

    def adder(self, z: torch.Tensor, addend: torch.Tensor) -> torch.Tensor:
        return torch.stack([z[:, 0], z[:, 1] + addend], 1)

    def decoder(self, z: torch.Tensor) -> torch.Tensor:
        return self.images[z[:, 0].long(), z[:, 1].long()][:, None]


def test_sums_that_are_real_neighbours_keep_the_hand_and_class_means_do_not(
    mnist_test: Digits,
) -> None:
    digits = mnist_test.subset(1500)

    table = hand.style_neighbours(digits, 1)[:, :, 0]
    real = hand.hand_kept(Draws(digits, as_float(digits.images)[table][:, :, 0]), digits, 60)
    assert min(real.slant, real.thickness, real.width) > 0.85
    assert real.variety == pytest.approx(1, abs=0.15)
    assert real.sharpness == pytest.approx(0.074, abs=0.02)
    means = digits.class_means()[None].expand(len(digits), -1, -1, -1)
    mean = hand.hand_kept(Draws(digits, means), digits, 60)
    assert mean.slant == mean.thickness == mean.variety == 0
    assert mean.sharpness == pytest.approx(0.28, abs=0.03)


def test_an_own_is_nearer_as_often_as_counted_by_hand() -> None:
    far = torch.tensor([[1.0, 2, 3, 4], [4, 3, 2, 1], [1, 1, 1, 1]])
    own = torch.tensor([[True, False, True, False], [True, False, False, False], [True] * 4])
    # Row 1: 1 before both others, 3 before one of two; row 2: never; row 3 has no other.
    assert hand.nearer(far, own) == pytest.approx((3 / 4 + 0) / 2)


def test_the_interval_by_writer_is_wider_where_writers_are_wrong_as_a_whole(
    mnist_test: Digits,
) -> None:
    digits = mnist_test.subset(2000)
    digits = replace(digits, writer=2109 - torch.arange(2000) // 10 % 100)
    generator = np.random.default_rng(0)
    wrong_writers = digits.writer.numpy() >= 2100
    wrong_images = generator.random(2000) < 0.1
    found = {}
    for name, wrong in (("writers", wrong_writers), ("images", wrong_images)):
        right = [
            np.repeat(~wrong[members][:, None], 10 - digit, 1)
            for digit, members in enumerate(digits.by_class())
        ]
        scores = SumScores(right, np.zeros((10, 10)), np.zeros((10, 10)))
        told = hand.by_writer(scores, digits)
        low, high = told["cells_mean_interval_by_writer"]
        assert low < 0.9 < high
        found[name] = high - low
        if name == "writers":  # ten of a hundred, each as wrong as the others, number 2100 on
            assert (told["writers"], told["writers_wrong"], told["writers_of_half"]) == (100, 10, 5)
            assert (told["right_students"], told["right_employees"]) == (0, 1)
    assert found["writers"] > 2 * found["images"]


def test_the_writers_own_digits_are_nearest_to_themselves_and_a_mean_knows_no_writer(
    mnist_test: Digits,
) -> None:
    digits = mnist_test.subset(600)
    digits = replace(digits, writer=torch.arange(600) // 10 % 20)  # classes come in turn
    means = digits.class_means()[:, None]
    mean = hand.own_writers(lambda at, a: means[digits.labels[at] + a], digits, CELLS)
    assert mean.retrieval == pytest.approx(0.5, abs=0.02)
    assert mean.mse == pytest.approx(floors(digits)["floor_class_mean"], rel=0.1)

    def one_of_their_own(at: torch.Tensor, addend: int) -> torch.Tensor:
        place = []
        for i in at.tolist():
            same = digits.labels == digits.labels[i] + addend
            place.append((same & (digits.writer == digits.writer[i])).nonzero()[0, 0])
        return as_float(digits.images[torch.stack(place)])

    found = hand.own_writers(one_of_their_own, digits, [(3, 2), (0, 9)])
    # One of three is drawn itself; two random images of a digit are twice the floor apart.
    assert found.retrieval > 0.6 and found.mse == pytest.approx(2 * mean.mse * 2 / 3, rel=0.2)


def test_neighbours_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match=r"neighbours is 0; allowed is an integer from 1 to 100"):
        replace(little(), neighbours=0)
