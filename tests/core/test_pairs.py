"""Addition pairs: the handout's behaviour against ours, its counts, and how pairs are drawn."""

import random
import time

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from learn2add.config import BALANCES
from learn2add.data import Digits, load_digits
from learn2add.pairs import (
    CELLS,
    AdditionPairs,
    BatchTargets,
    Pairs,
    cell_counts,
    transform_data_add,
)

Handout = tuple[list[np.ndarray], list[list[int]], list[np.ndarray]]


@pytest.fixture(scope="module")
def all_digits() -> Digits:
    """The 60,000 training digits of the assignment."""
    return load_digits("MNIST", "train+validation")


@pytest.fixture(scope="module")
def digits(mnist_test: Digits) -> Digits:
    """A thousand digits in their natural mixture, so that no two classes are equally large."""
    return Digits(mnist_test.images[:1000], mnist_test.labels[:1000], "MNIST", "test")


@pytest.fixture(scope="module")
def natural(all_digits: Digits) -> AdditionPairs:
    return AdditionPairs(all_digits.labels)


def handout(x_train: np.ndarray, y_train: np.ndarray) -> Handout:
    """Lines 3 to 40 of the assignment's code; only the list line is mended, so that it runs."""
    img_in, img_out, value_in = [], [], []
    for number in range(10):
        for index in range(number + 1):
            max_number_ele = sum(y_train == number)
            input_imgs = x_train[y_train == index]
            output_imgs = x_train[y_train == number]
            if len(input_imgs) >= max_number_ele:
                input_imgs = input_imgs[:max_number_ele]
            else:
                output_imgs = output_imgs[: len(input_imgs)]
            img_in.append(input_imgs)
            if number - index == 0:
                random.shuffle(output_imgs)
            img_out.append(output_imgs)
            value_in.append([number - index] * len(output_imgs))
    return img_in, value_in, img_out


def numbered(labels: torch.Tensor) -> np.ndarray:
    """One-pixel images that hold their own index, so that each can be recognised."""
    return np.arange(len(labels), dtype=np.int32).reshape(-1, 1, 1)


def ours_by_index(labels: torch.Tensor, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Input index, addend and target index of every pair of ``transform_data_add``."""
    img_in, value_in, img_out = transform_data_add(numbered(labels), labels, (1, 1), seed=seed)
    return np.array(img_in).ravel(), np.array(value_in), np.array(img_out).ravel()


def cells_of(labels: np.ndarray, inputs: np.ndarray, addends: np.ndarray) -> np.ndarray:
    """How many pairs each (digit, addend) has, by NumPy."""
    counts = np.zeros((10, 10), int)
    np.add.at(counts, (labels[inputs], addends), 1)
    return counts


# The handout's three faults, and none of them here


def test_fault_1_the_handouts_lists_cannot_be_made(digits: Digits) -> None:
    with pytest.raises(ValueError, match="not enough values to unpack"):
        exec("img_in = [], img_out = [], value_in = [], samples_count = []")
    img_in, value_in, img_out = transform_data_add(digits.images.numpy(), digits.labels.numpy())
    assert len(img_in) == len(value_in) == len(img_out) > 0
    assert len({id(found) for found in (img_in, value_in, img_out)}) == 3


def test_fault_2_the_handouts_shuffle_loses_images(all_digits: Digits) -> None:
    """``random.shuffle`` swaps rows that are views: what is overwritten first is gone."""
    labels = all_digits.labels.numpy()
    random.seed(0)
    _, _, img_out = handout(numbered(all_digits.labels), labels)
    inputs, addends, targets = ours_by_index(all_digits.labels)
    for digit in range(10):
        members = np.flatnonzero(labels == digit)
        theirs = img_out[CELLS_IN_HANDOUTS_ORDER.index((digit, 0))].ravel()
        assert len(theirs) == len(members)
        assert len(np.unique(theirs)) < 0.8 * len(members)  # a fifth and more lost
        ours = targets[(labels[inputs] == digit) & (addends == 0)]
        assert np.array_equal(np.sort(ours), members)  # each exactly once


def test_fault_2_on_images(digits: Digits) -> None:
    """The same on the pixels themselves, and the caller's images stay as they are."""
    images, labels = digits.images.numpy().copy(), digits.labels.numpy()
    fives = [image.tobytes() for image in images[labels == 5]]
    random.seed(0)
    _, _, theirs = handout(images.copy(), labels)
    lost = {image.tobytes() for image in theirs[CELLS_IN_HANDOUTS_ORDER.index((5, 0))]}
    assert len(lost) < len(set(fives))
    img_in, value_in, img_out = transform_data_add(images, labels, (28, 28))
    kept = [
        out.tobytes()
        for x, value, out in zip(img_in, value_in, img_out, strict=True)
        if value == 0 and x.tobytes() in set(fives)
    ]
    assert sorted(kept) == sorted(fives)
    assert np.array_equal(images, digits.images.numpy())


def test_fault_3_the_handouts_targets_are_fixed(all_digits: Digits) -> None:
    labels = all_digits.labels.numpy()
    x = numbered(all_digits.labels)
    random.seed(0)
    img_in, _, img_out = handout(x, labels)
    random.seed(1)
    _, _, again = handout(x, labels)
    order = np.empty(len(labels), int)  # the how-manyeth of its class each image is
    for digit in range(10):
        order[labels == digit] = np.arange((labels == digit).sum())
    for number, (_, addend) in enumerate(CELLS_IN_HANDOUTS_ORDER):
        if addend > 0:
            assert np.array_equal(order[img_in[number].ravel()], order[img_out[number].ravel()])
            assert np.array_equal(img_out[number], again[number])
    inputs, addends, targets = ours_by_index(all_digits.labels)
    for digit, addend in CELLS:
        cell = (labels[inputs] == digit) & (addends == addend)
        assert np.mean(order[inputs[cell]] == order[targets[cell]]) < 0.01
    # One image of a 3 meets other targets in other cells and under another seed.
    ranks = {a: dict(zip(inputs[addends == a], targets[addends == a], strict=True)) for a in (0, 4)}
    threes = [i for i in np.flatnonzero(labels == 3) if i in ranks[4]]
    assert np.mean([order[ranks[0][i]] == order[ranks[4][i]] for i in threes]) < 0.01
    other_inputs, _, other_targets = ours_by_index(all_digits.labels, seed=1)
    assert np.mean((other_inputs == inputs) & (other_targets == targets)) < 0.01


CELLS_IN_HANDOUTS_ORDER = [
    (digit, total - digit) for total in range(10) for digit in range(total + 1)
]


# What stays the handout's: counts, order, values, sizes


def test_321_802_pairs_in_the_handouts_cells_and_order(all_digits: Digits) -> None:
    labels = all_digits.labels.numpy()
    random.seed(0)
    img_in, value_in, img_out = handout(numbered(all_digits.labels), labels)
    inputs, addends, targets = ours_by_index(all_digits.labels)
    assert len(inputs) == 321_802
    assert np.array_equal(addends, [value for cell in value_in for value in cell])
    assert np.array_equal(labels[inputs], labels[np.concatenate(img_in).ravel()])
    assert np.array_equal(labels[targets], labels[np.concatenate(img_out).ravel()])
    assert np.array_equal(labels[inputs] + addends, labels[targets])
    sizes = np.bincount(labels)
    expected = [
        [min(sizes[d], sizes[d + a]) if d + a < 10 else 0 for a in range(10)] for d in range(10)
    ]
    assert np.array_equal(cells_of(labels, inputs, addends), expected)
    assert cell_counts(sizes).tolist() == expected


def test_an_input_occurs_at_most_once_in_a_cell(all_digits: Digits) -> None:
    inputs, addends, targets = ours_by_index(all_digits.labels)
    labels = all_digits.labels.numpy()
    for picked in (inputs, targets):
        cell = picked.astype(np.int64) * 100 + labels[inputs] * 10 + addends
        assert len(np.unique(cell)) == len(cell)
    assert not np.any(inputs == targets), "a image met itself"


@pytest.mark.parametrize(
    ("arguments", "shape"), [((), (32, 32)), (([28, 28],), (28, 28)), (((40, 20),), (20, 40))]
)
def test_images_are_resized_as_in_the_handout(
    digits: Digits, arguments: tuple, shape: tuple[int, int]
) -> None:
    """``img_size`` is (width, height), as cv2.resize takes it; the default is 32 x 32."""
    import cv2

    images = digits.images.numpy()
    img_in, value_in, img_out = transform_data_add(images, digits.labels.numpy(), *arguments)
    height, width = shape
    resized = {cv2.resize(image, (width, height)).tobytes() for image in images}
    for made in (img_in, img_out):
        assert isinstance(made, list)
        assert {(type(p), p.shape, p.dtype) for p in made} == {(np.ndarray, shape, images.dtype)}
        assert {image.tobytes() for image in made} <= resized
    assert {type(value) for value in value_in} == {int} and set(value_in) == set(range(10))


def test_usable_as_in_the_handout(digits: Digits) -> None:
    """Three lists that become arrays; a student's call, without keyword, on NumPy arrays."""
    x_train, y_train = digits.images.numpy(), digits.labels.numpy()
    img_in, value_in, img_out = transform_data_add(x_train, y_train, img_size=(32, 32))
    assert np.array(img_in).shape == np.array(img_out).shape == (len(value_in), 32, 32)
    assert np.array(img_in).dtype == np.uint8


def test_an_image_in_several_pairs_is_one_array(digits: Digits) -> None:
    img_in, _, img_out = transform_data_add(digits.images, digits.labels)
    distinct = {image.ctypes.data for image in img_in + img_out}
    assert len(distinct) <= len(digits) < len(img_in)


@pytest.mark.parametrize("size", [(28, 28), (32, 32)])
def test_result_shares_nothing_with_the_callers_images(digits: Digits, size: tuple) -> None:
    images = digits.images.numpy()
    img_in, _, img_out = transform_data_add(images, digits.labels, size)
    assert not any(np.shares_memory(image, images) for image in (img_in[0], img_out[-1]))


@pytest.mark.parametrize(
    "dtype", [np.uint8, np.uint16, np.int32, np.int64, np.float16, np.float32, np.float64]
)
def test_the_dtype_is_kept(digits: Digits, dtype: type) -> None:
    images = digits.images.numpy()
    scaled = (images / 255).astype(dtype) if np.dtype(dtype).kind == "f" else images.astype(dtype)
    img_in, _, _ = transform_data_add(scaled, digits.labels)
    reference, _, _ = transform_data_add(images, digits.labels)
    assert img_in[0].dtype == dtype
    found, expected = np.array(img_in[::500], float), np.array(reference[::500], float)
    scale = 255 if np.dtype(dtype).kind == "f" else 1
    assert np.abs(found * scale - expected).max() <= 1  # rounding


def test_the_seed_decides_who_meets_whom(digits: Digits) -> None:
    torch.manual_seed(1)
    first = ours_by_index(digits.labels, seed=5)
    torch.manual_seed(2)
    random.seed(2)
    second = ours_by_index(digits.labels, seed=5)
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
    assert not np.array_equal(first[2], ours_by_index(digits.labels, seed=6)[2])


# Indices for training


def check(pairs: Pairs, labels: torch.Tensor) -> None:
    assert pairs.input.dtype == pairs.target.dtype == torch.int64
    assert pairs.addend.dtype == torch.float32
    assert pairs.input.shape == pairs.addend.shape == pairs.target.shape
    assert torch.equal(labels[pairs.input] + pairs.addend, labels[pairs.target].float())


@pytest.mark.parametrize("balance", BALANCES)
def test_pairs_add_up_and_nothing_meets_itself(all_digits: Digits, balance: str) -> None:
    pairs = AdditionPairs(all_digits.labels, balance)
    assert len(pairs) == 321_802
    generator = torch.Generator().manual_seed(0)
    for drawn, count in ((pairs.epoch(generator), 321_802), (pairs.draw(5000, generator), 5000)):
        check(drawn, all_digits.labels)
        assert len(drawn.input) == count
        assert not (drawn.input == drawn.target).any()


def test_an_epoch_is_the_handouts_cells_in_random_order(
    all_digits: Digits, natural: AdditionPairs
) -> None:
    labels = all_digits.labels.numpy()
    inputs, addends, targets = (part.numpy() for part in natural.epoch(torch.Generator()))
    expected_inputs, expected_addends, _ = ours_by_index(all_digits.labels)
    expected = cells_of(labels, expected_inputs, expected_addends)
    assert np.array_equal(cells_of(labels, inputs, addends.astype(int)), expected)
    key = inputs * 10 + addends.astype(int)
    assert len(np.unique(key)) == len(key)
    # Random order: the first tenth holds about a tenth of each sum, not the small sums alone.
    tenth = np.bincount(labels[targets[:32_180]], minlength=10)
    whole = np.bincount(labels[targets], minlength=10)
    assert np.abs(tenth / whole - 0.1).max() < 0.02


def test_targets_are_fresh_every_epoch(natural: AdditionPairs) -> None:
    generator = torch.Generator().manual_seed(0)
    first, second = (natural.epoch(generator) for _ in range(2))
    keys = [(drawn.input * 10 + drawn.addend.long()).numpy() for drawn in (first, second)]
    shared, a, b = np.intersect1d(*keys, return_indices=True)
    assert len(shared) > 250_000
    assert np.mean(first.target.numpy()[a] == second.target.numpy()[b]) < 0.001


def test_the_generator_decides(natural: AdditionPairs) -> None:
    for draw in (natural.epoch, lambda generator: natural.draw(1000, generator)):
        torch.manual_seed(1)
        a = draw(torch.Generator().manual_seed(7))
        torch.manual_seed(2)
        b = draw(torch.Generator().manual_seed(7))
        c = draw(torch.Generator().manual_seed(8))
        assert all(torch.equal(first, second) for first, second in zip(a, b, strict=True))
        assert not torch.equal(a.input, c.input)


def test_indices_take_less_than_10_megabytes(all_digits: Digits, natural: AdditionPairs) -> None:
    tensors = [*natural.epoch(torch.Generator())]
    for value in vars(natural).values():
        tensors += [
            v for v in (value if isinstance(value, list) else [value]) if torch.is_tensor(v)
        ]
    assert sum(tensor.numel() * tensor.element_size() for tensor in tensors) < 10e6


def test_an_epoch_of_pairs_is_made_in_no_time(natural: AdditionPairs) -> None:
    start = time.perf_counter()
    natural.epoch(torch.Generator())
    assert time.perf_counter() - start < 2  # a training epoch takes a minute


def chi_square(found: np.ndarray, expected_share: np.ndarray) -> float:
    expected = expected_share / expected_share.sum() * found.sum()
    assert expected.min() > 5
    return float(((found - expected) ** 2 / expected).sum())


SHARES = {
    "natural": lambda d, a, sizes: min(sizes[d], sizes[d + a]),
    "sums": lambda d, a, sizes: 1 / (10 * (d + a + 1)),
    "cells": lambda d, a, sizes: 1 / 55,
    "digits": lambda d, a, sizes: 1 / (10 * (10 - d)),
    "mixed": lambda d, a, sizes: (10 - d) ** -0.5,
}
CRITICAL_54 = 105.0  # one in 30,000 draws with 54 degrees of freedom lies beyond


@pytest.mark.parametrize("balance", SHARES)
def test_balances_draw_each_cell_as_often_as_they_say(digits: Digits, balance: str) -> None:
    labels = digits.labels.numpy()
    pairs = AdditionPairs(digits.labels, balance)
    drawn = pairs.draw(200_000, torch.Generator().manual_seed(0))
    counts = cells_of(labels, drawn.input.numpy(), drawn.addend.numpy().astype(int))
    found = np.array([counts[cell] for cell in CELLS])
    sizes = np.bincount(labels)
    for other, share in SHARES.items():
        expected = np.array([share(*cell, sizes) for cell in CELLS])
        assert (chi_square(found, expected) < CRITICAL_54) == (other == balance), other


def test_sums_and_digits_are_even_where_asked(digits: Digits) -> None:
    """The marginals that the balances are named for, by NumPy."""
    labels = digits.labels.numpy()
    for balance, side in (("sums", "target"), ("digits", "input")):
        drawn = AdditionPairs(digits.labels, balance).draw(
            100_000, torch.Generator().manual_seed(1)
        )
        shares = np.bincount(labels[getattr(drawn, side)], minlength=10) / 100_000
        assert np.abs(shares - 0.1).max() < 0.005
    drawn = AdditionPairs(digits.labels).draw(100_000, torch.Generator().manual_seed(1))
    shares = np.bincount(labels[drawn.target], minlength=10) / 100_000
    assert shares[9] > 8 * shares[0]  # the handout's are not balanced


@pytest.mark.parametrize("cell", [(3, 0), (3, 4)])
def test_every_member_of_a_class_is_drawn_alike(cell: tuple[int, int]) -> None:
    labels = torch.arange(10).repeat(40)
    drawn = AdditionPairs(labels, "cells").draw(1_000_000, torch.Generator().manual_seed(0))
    digit, addend = cell
    picked = (labels[drawn.input] == digit) & (drawn.addend == addend)
    for side in (drawn.input, drawn.target):
        counts = np.unique(side[picked], return_counts=True)[1]
        assert len(counts) == 40
        assert chi_square(counts, np.ones(40)) < 85  # one in 30,000 with 39 degrees of freedom
    meetings = np.unique(drawn.input[picked] * 1000 + drawn.target[picked], return_counts=True)[1]
    assert len(meetings) == (40 * 39 if addend == 0 else 40 * 40)  # all who may meet do


class_sizes = st.lists(st.integers(1, 6), min_size=10, max_size=10)


@given(class_sizes, st.integers(0, 2**32 - 1), st.sampled_from(BALANCES))
@settings(max_examples=60, deadline=None)
def test_any_class_sizes(sizes: list[int], seed: int, balance: str) -> None:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.repeat_interleave(torch.arange(10), torch.tensor(sizes))
    labels = labels[torch.randperm(len(labels), generator=generator)]
    pairs = AdditionPairs(labels, balance)
    expected = sum(min(sizes[d], sizes[s]) for s in range(10) for d in range(s + 1))
    assert len(pairs) == expected
    drawn = pairs.epoch(generator)
    check(drawn, labels)
    assert len(drawn.input) == expected
    alone = torch.tensor(sizes)[labels[drawn.input]] == 1  # has no one else to meet at "+ 0"
    assert not ((drawn.input == drawn.target) & ~alone).any()
    inputs, addends, targets = ours_by_index(labels, seed)
    assert np.array_equal(labels.numpy()[inputs] + addends, labels.numpy()[targets])
    assert len(inputs) == expected


# Held-out cells

HELD_OUT = ((3, 4), (0, 0), (5, 4))


@pytest.mark.parametrize("balance", BALANCES)
def test_held_out_cells_are_never_drawn(digits: Digits, balance: str) -> None:
    labels = digits.labels
    pairs, generator = AdditionPairs(labels, balance, held_out=HELD_OUT), torch.Generator()
    for drawn in (pairs.draw(20_000, generator), pairs.epoch(generator)):
        cells = zip(labels[drawn.input].tolist(), drawn.addend.int().tolist(), strict=True)
        assert set(cells) == set(CELLS) - set(HELD_OUT)


# All pairs of a batch


def test_held_out_cells_weigh_nothing_in_a_batch() -> None:
    targets = BatchTargets(2, "cells", held_out=HELD_OUT)
    digits = targets.digit[targets.input].tolist()
    cells = zip(digits, targets.addend.int().tolist(), strict=True)
    weight = dict(zip(cells, targets.weight.tolist(), strict=True))
    assert {cell for cell, value in weight.items() if value == 0} == set(HELD_OUT)
    assert sum(weight.values()) == pytest.approx(55)


@pytest.mark.parametrize("balance", ["sums", "cells", "digits", "mixed"])
def test_a_batch_counts_each_cell_as_often_as_it_would_be_drawn(balance: str) -> None:
    targets = BatchTargets(3, balance)
    share = np.array([SHARES[balance](*cell, None) for cell in CELLS])
    found = targets.weight.view(55, 3)  # by cell, three images each
    np.testing.assert_allclose(found, (55 * share / share.sum())[:, None].repeat(3, 1), rtol=1e-5)
    # Of an image's drawn addend: the same in expectation, as often as it is drawn.
    images, generator, counted = (
        torch.arange(30),
        torch.Generator().manual_seed(0),
        np.zeros((10, 10)),
    )
    for _ in range(3000):
        addend = targets.draw(generator)
        assert (addend <= 9 - targets.digit).all()
        np.add.at(counted, (images // 3, addend.long()), targets.weight_of(addend).numpy())
    by_cell = np.array([counted[cell] for cell in CELLS])
    np.testing.assert_allclose(by_cell / by_cell.sum(), share / share.sum(), rtol=0.12)


def test_the_mean_target_is_that_of_all_others_that_show_the_sum() -> None:
    targets, values = BatchTargets(4), torch.randn(40, 2, 3)
    found = targets.mean_target(values, targets.input, targets.addend)
    for place, addend, mean in zip(targets.input, targets.addend, found, strict=True):
        total = place // 4 + int(addend)
        others = [at for at in range(4 * total, 4 * total + 4) if at != place]
        torch.testing.assert_close(mean, values[others].mean(0))


# Bad input

ten = np.arange(10)


@pytest.mark.parametrize(
    ("x", "y", "error", "message"),
    [
        (np.zeros((10, 28, 28)), ten[:9], ValueError, "y_train.*9.*10"),
        (np.zeros((10, 28)), ten, ValueError, "x_train.*N, H, W"),
        (np.zeros((10, 28, 28, 1)), ten, ValueError, "x_train.*N, H, W"),
        (np.zeros((0, 28, 28)), ten[:0], ValueError, "x_train"),
        (np.zeros((10, 28, 28)), ten[:, None], ValueError, "y_train"),
        (np.zeros((10, 28, 28)), ten + 1, ValueError, "y_train.*10.*0 to 9"),
        (np.zeros((10, 28, 28)), ten - 1, ValueError, "y_train.*-1.*0 to 9"),
        (np.zeros((10, 28, 28)), ten.astype(float), TypeError, "y_train.*integer"),
        (np.zeros((10, 28, 28)), ten.astype(str), TypeError, "y_train.*integer"),
        (np.zeros((10, 28, 28)), ten > 4, TypeError, "y_train.*integer"),
        (np.zeros((10, 28, 28), complex), ten, TypeError, "x_train"),
        (np.zeros((10, 28, 28), object), ten, TypeError, "x_train"),
        (np.full((10, 28, 28), np.nan), ten, ValueError, "x_train.*nan"),
        (np.zeros((10, 28, 28)).tolist(), ten, TypeError, "x_train"),
        (np.zeros((10, 28, 28)), list(range(10)), TypeError, "y_train"),
    ],
)
def test_bad_digits_are_refused(x: object, y: object, error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        transform_data_add(x, y)


@pytest.mark.parametrize("missing", [4, 9])
def test_a_class_without_an_image_makes_no_pairs(missing: int) -> None:
    """As the handout's function has it."""
    labels = np.delete(np.arange(10).repeat(2), [2 * missing, 2 * missing + 1])
    images = np.zeros((18, 4, 4)) + labels[:, None, None]
    given, added, wanted = transform_data_add(images, labels, 4)
    found = {(int(x[0, 0]), a, int(y[0, 0])) for x, a, y in zip(given, added, wanted, strict=True)}
    cells = {(d, a, d + a) for d, a in CELLS if missing not in (d, d + a)}
    assert found == cells and len(given) == 2 * len(cells)


def test_one_side_and_a_seed_of_numpy_are_taken() -> None:
    digits = np.zeros((10, 28, 28), np.uint8), np.arange(10)
    given, _, _ = transform_data_add(*digits, 32, seed=np.int64(3))
    assert given[0].shape == (32, 32)
    for seed in (None, 1.5, "a"):
        with pytest.raises(TypeError, match="seed is .*; allowed is an integer"):
            transform_data_add(*digits, seed=seed)
    with pytest.raises(ValueError, match="seed is -1; allowed is an integer"):
        transform_data_add(*digits, seed=-1)


@pytest.mark.parametrize(
    "img_size", [(28,), (28, 28, 1), (0, 28), (28, -1), (28.0, 28), ("a", "b")]
)
def test_bad_sizes_are_refused(img_size: tuple) -> None:
    with pytest.raises((ValueError, TypeError), match="img_size"):
        transform_data_add(np.zeros((10, 28, 28)), ten, img_size)


def test_the_addition_pairs_refuse_bad_labels() -> None:
    with pytest.raises(ValueError, match=r"no image of \[0, 1\]"):
        AdditionPairs(torch.arange(2, 10))
    with pytest.raises(ValueError, match=r"from 0 to 10.*0 to 9"):
        AdditionPairs(torch.arange(11))
    with pytest.raises(ValueError, match=r"from -1 to 9.*0 to 9"):
        AdditionPairs(torch.arange(-1, 10))
    with pytest.raises(ValueError, match=r"float32.*integer"):
        AdditionPairs(torch.arange(10.0))
    with pytest.raises(ValueError, match="integer"):
        AdditionPairs(torch.arange(10)[:, None])
    with pytest.raises(ValueError, match="no image"):
        AdditionPairs(torch.zeros(0, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"balance is 'even'.*natural.*sums.*cells.*digits.*mixed"):
        AdditionPairs(torch.arange(10), "even")


@given(
    arrays.arrays(
        dtype=st.sampled_from([np.int8, np.int64, np.uint8]),
        shape=st.integers(1, 40),
        elements=st.integers(0, 12),
    )
)
@settings(max_examples=100, deadline=None)
def test_labels_are_taken_or_refused_in_one_clear_error(labels: np.ndarray) -> None:
    """Either the classes are digits (and, to draw from, all are there), or one ValueError."""
    digits = set(range(10))
    for make, good in (
        (
            lambda: transform_data_add(np.zeros((len(labels), 2, 2)), labels, (2, 2)),
            set(labels.tolist()) <= digits,
        ),
        (lambda: AdditionPairs(torch.from_numpy(labels)), set(labels.tolist()) == digits),
    ):
        if good:
            make()
            continue
        with pytest.raises(ValueError, match="labels|y_train"):
            make()
