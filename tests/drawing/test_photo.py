"""Photographs of digits, painted from real MNIST test digits and from pen strokes."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from learn2add.data import Digits
from learn2add.drawing.photo import read_digit

# Side of the painted digit's 28x28 field, and height and width of the picture around it.
SIZES = [
    (14, 20, 20),
    (20, 40, 60),
    (28, 28, 28),
    (28, 64, 64),
    (56, 100, 100),
    (100, 200, 120),
    (150, 600, 800),
    (300, 400, 500),
    (600, 1000, 800),
    (700, 3000, 4000),
]


def paint(
    digit: np.ndarray, size: tuple[int, int, int], rng: np.random.Generator, dark: bool, rough: bool
) -> np.ndarray:
    """Paint a digit off-centre, uint8; rough: in slanting light and with noise."""
    side, height, width = size
    shrink = side < 28
    ink = cv2.resize(
        digit.astype(np.float32) / 255,
        (side, side),
        interpolation=cv2.INTER_AREA if shrink else cv2.INTER_LINEAR,
    )
    top, left = rng.integers(0, height - side + 1), rng.integers(0, width - side + 1)
    field = np.zeros((height, width), np.float32)
    field[top : top + side, left : left + side] = ink
    picture = 0.9 - 0.75 * field if dark else 0.1 + 0.75 * field
    if rough:
        y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j].astype(np.float32)
        picture *= 1 - 0.25 * (x + y)
        picture += 0.03 * rng.standard_normal(picture.shape, np.float32)
    return np.rint(255 * np.clip(picture, 0, 1)).astype(np.uint8)


def read(folder: Path, picture: np.ndarray, name: str = "digit.png") -> np.ndarray:
    assert cv2.imwrite(str(folder / name), picture)
    return read_digit(folder / name).numpy()


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.corrcoef(a.reshape(-1).astype(float), b.reshape(-1).astype(float))[0, 1])


def nearest_class(pictures: list[np.ndarray], known: Digits) -> list[int]:
    """Class of the nearest of 10,000 known digits by angle: no network of ours has a say."""
    few = known.subset(10_000)
    table = torch.nn.functional.normalize(few.images.flatten(1).float())
    seen = torch.from_numpy(np.stack(pictures)).flatten(1).float()
    return few.labels[(seen @ table.T).argmax(1)].tolist()


@pytest.mark.parametrize("rough", [False, True], ids=["clean", "rough"])
@pytest.mark.parametrize("dark", [True, False], ids=["dark-on-light", "light-on-dark"])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_the_digit_painted_is_the_digit_read(
    tmp_path: Path, mnist_test: Digits, size: tuple[int, int, int], dark: bool, rough: bool
) -> None:
    rng = np.random.default_rng(0)
    height = size[1]
    digits = mnist_test.subset(20 if height < 400 else 10 if height < 2000 else 2).images.numpy()
    recovered = [read(tmp_path, paint(digit, size, rng, dark, rough)) for digit in digits]
    agreement = [correlation(a, b) for a, b in zip(recovered, digits, strict=True)]
    limit = 0.9 if size[0] > 14 else 0.88  # the digit proper is 10 pixels high there
    assert np.mean(agreement) > limit
    assert np.min(agreement) > 0.65  # half a pixel beside a thin stroke costs that much


def test_pictures_read_are_recognised(
    tmp_path: Path, mnist_train: Digits, mnist_test: Digits
) -> None:
    rng = np.random.default_rng(1)
    some = mnist_test.subset(150)
    recovered = [
        read(tmp_path, paint(digit, SIZES[i % 9], rng, bool(i % 2), rough=True))
        for i, digit in enumerate(some.images.numpy())
    ]
    labels = np.array(some.labels.tolist())
    before = (np.array(nearest_class(list(some.images.numpy()), mnist_train)) == labels).mean()
    after = (np.array(nearest_class(recovered, mnist_train)) == labels).mean()
    assert before > 0.93  # else the measure would say nothing
    assert after > before - 0.02


def test_what_is_read_is_laid_out_as_mnist(tmp_path: Path, mnist_test: Digits) -> None:
    """Twenty pixels high or wide, the mass in the middle, an empty background (LeCun et al.)."""
    rng = np.random.default_rng(2)
    for digit in mnist_test.subset(50).images.numpy():
        picture = read(tmp_path, paint(digit, (100, 200, 120), rng, True, True)).astype(float)
        rows, columns = (np.flatnonzero((picture > 60).any(axis)) for axis in (1, 0))
        assert 18 <= max(np.ptp(rows), np.ptp(columns)) + 1 <= 21
        middle = [np.arange(28) @ picture.sum(axis) / picture.sum() for axis in (1, 0)]
        assert middle == pytest.approx([14, 14], abs=0.3)
        assert picture.max() == 255
        assert (picture == 0).mean() > 0.5


@pytest.mark.parametrize("image_size", [28, 32, 64])
def test_image_size(tmp_path: Path, mnist_test: Digits, image_size: int) -> None:
    digit = mnist_test.images[0].numpy()
    picture = paint(digit, SIZES[5], np.random.default_rng(0), True, False)
    small = read(tmp_path, picture)
    big = read_digit(tmp_path / "digit.png", image_size)
    assert big.shape == (image_size, image_size) and big.dtype == torch.uint8
    assert np.array_equal(big.numpy(), cv2.resize(small, (image_size, image_size)))


@pytest.mark.parametrize("image_size", [0, 27, 64.0, "28"])
def test_other_image_sizes_are_refused(image_size: object) -> None:
    with pytest.raises(ValueError, match="image_size is .*; allowed is one of 28, 32, 64"):
        read_digit("any.png", image_size)


# File formats


def rgba(colour: int, alpha: np.ndarray) -> np.ndarray:
    return np.dstack([np.full_like(alpha, colour)] * 3 + [alpha])


FORMATS = {
    "colour": lambda p: np.dstack([p // 2 + 60, p, p]),
    "16 bits": lambda p: p.astype(np.uint16) * 257,
    "12 of 16 bits": lambda p: p.astype(np.uint16) * 16,
    "opaque alpha": lambda p: np.dstack([p, p, p, np.full_like(p, 255)]),
    "black on nothing": lambda p: rgba(0, 255 - p),
    "white on nothing": lambda p: rgba(255, 255 - p),
    "grey on nothing": lambda p: rgba(128, 255 - p),
    "rounded card": lambda p: np.dstack(
        [p, p, p, cv2.circle(np.zeros_like(p), (60, 100), 110, 255, -1)]
    ),
    "16-bit alpha": lambda p: np.dstack([p, p, p, np.full_like(p, 255)]).astype(np.uint16) * 257,
}


@pytest.mark.parametrize("form", FORMATS)
def test_formats_give_the_same_digit(tmp_path: Path, mnist_test: Digits, form: str) -> None:
    digit = mnist_test.images[3].numpy()
    plain = paint(digit, (100, 200, 120), np.random.default_rng(0), dark=True, rough=False)
    expected = read(tmp_path, plain)
    assert correlation(expected, digit) > 0.9
    assert correlation(read(tmp_path, FORMATS[form](plain)), expected) > 0.99


@pytest.mark.parametrize("name", ["digit.jpg", "digit.tiff", "digit.bmp", "zwölf neun.png"])
def test_file_types_and_names(tmp_path: Path, mnist_test: Digits, name: str) -> None:
    digit = mnist_test.images[3].numpy()
    picture = paint(digit, (100, 200, 120), np.random.default_rng(0), dark=True, rough=True)
    (tmp_path / name).write_bytes(cv2.imencode(Path(name).suffix, picture)[1].tobytes())
    assert correlation(read_digit(str(tmp_path / name)).numpy(), digit) > 0.9


def test_a_camera_held_upright_is_obeyed(tmp_path: Path, mnist_test: Digits) -> None:
    """Orientation 6 in a JPEG's Exif note: to be shown a quarter turn clockwise."""
    digit = mnist_test.images[0].numpy()  # a seven
    picture = paint(digit, (100, 200, 120), np.random.default_rng(0), dark=True, rough=False)
    lying = cv2.imencode(".jpg", np.rot90(picture).copy())[1].tobytes()
    tiff = b"MM\0*\0\0\0\x08" + b"\0\x01" + b"\x01\x12\0\x03\0\0\0\x01\0\x06\0\0" + b"\0\0\0\0"
    note = b"Exif\0\0" + tiff
    marker = b"\xff\xe1" + (len(note) + 2).to_bytes(2, "big") + note
    (tmp_path / "lying.jpg").write_bytes(lying)
    (tmp_path / "noted.jpg").write_bytes(lying[:2] + marker + lying[2:])
    assert correlation(read_digit(tmp_path / "noted.jpg").numpy(), digit) > 0.9
    assert correlation(read_digit(tmp_path / "lying.jpg").numpy(), digit) < 0.5


# Hard pictures


def test_a_picture_of_eight_pixels(tmp_path: Path, mnist_train: Digits, mnist_test: Digits) -> None:
    some = mnist_test.subset(100)
    tiny = [
        cv2.resize(digit[2:26, 2:26], (8, 8), interpolation=cv2.INTER_AREA)
        for digit in some.images.numpy()
    ]
    recovered = [
        read(tmp_path, picture if i % 2 else 255 - picture) for i, picture in enumerate(tiny)
    ]
    right = np.array(nearest_class(recovered, mnist_train)) == np.array(some.labels.tolist())
    assert right.mean() > 0.8


def test_pictures_cut_close_to_the_ink(tmp_path: Path, mnist_test: Digits) -> None:
    agreement = []
    for i, digit in enumerate(mnist_test.subset(100).images.numpy()):
        rows, columns = (np.flatnonzero((digit > 60).any(axis)) for axis in (1, 0))
        close = digit[rows[0] - 1 : rows[-1] + 2, columns[0] - 1 : columns[-1] + 2]
        close = cv2.resize(close, None, fx=12, fy=12, interpolation=cv2.INTER_LINEAR)
        agreement.append(correlation(read(tmp_path, close if i % 2 else 255 - close), digit))
    assert np.mean(np.array(agreement) > 0.8) > 0.95


def test_specks_are_no_part_of_the_digit(tmp_path: Path, mnist_test: Digits) -> None:
    rng = np.random.default_rng(3)
    digit = mnist_test.images[0].numpy()
    picture = paint(digit, (280, 600, 600), rng, dark=True, rough=True)
    for x, y in rng.integers(5, 595, (40, 2)):
        cv2.circle(picture, (int(x), int(y)), 2, 20, -1)
    assert correlation(read(tmp_path, picture), digit) > 0.9


def arc(x: float, y: float, across: float, down: float, start: int, end: int) -> list:
    angles = np.radians(np.linspace(start, end, 40))
    return [(x + across * np.cos(a), y + down * np.sin(a)) for a in angles]


PEN_STROKES = {
    0: [arc(0.5, 0.5, 0.3, 0.45, 0, 360)],
    1: [[(0.5, 0.05), (0.5, 0.95)]],
    2: [[*arc(0.5, 0.3, 0.28, 0.25, 180, 400), (0.2, 0.95), (0.82, 0.95)]],
    3: [arc(0.45, 0.27, 0.28, 0.22, 200, 450) + arc(0.45, 0.72, 0.3, 0.23, -90, 160)],
    4: [[(0.3, 0.05), (0.2, 0.55), (0.8, 0.55)], [(0.7, 0.1), (0.65, 0.95)]],
    5: [[(0.75, 0.05), (0.3, 0.05), (0.27, 0.45), *arc(0.45, 0.68, 0.3, 0.26, -110, 140)]],
    6: [[(0.65, 0.05), (0.35, 0.4), *arc(0.5, 0.7, 0.25, 0.25, 200, 560)]],
    7: [[(0.2, 0.08), (0.8, 0.08), (0.45, 0.95)]],
    8: [arc(0.5, 0.27, 0.22, 0.22, 90, 450), arc(0.5, 0.72, 0.27, 0.23, -90, 270)],
    9: [arc(0.5, 0.28, 0.24, 0.23, 0, 360), [(0.74, 0.28), (0.68, 0.95)]],
}


@pytest.mark.parametrize("thickness", [2, 6, 16])
def test_a_thin_pen_reads_as_thick_as_mnist(
    tmp_path: Path, mnist_train: Digits, thickness: int
) -> None:
    recovered = []
    for strokes in PEN_STROKES.values():
        paper = np.full((400, 300), 235, np.uint8)
        for stroke in strokes:
            points = np.array(stroke) * 200 + (40, 100)
            points[:, 0] -= 0.2 * (points[:, 1] - 200)  # most hands slant
            sixteenths = np.rint(points * 16).astype(np.int32)
            cv2.polylines(paper, [sixteenths], False, 40, thickness, cv2.LINE_AA, 4)
        recovered.append(read(tmp_path, paper))
    assert nearest_class(recovered, mnist_train) == list(range(10))
    for digit, members in enumerate(mnist_train.by_class()):
        usual = mnist_train.images[members[:1000]].float().mean((1, 2)).quantile(0.03)
        assert recovered[digit].mean() > usual.item()


# Bad input


def blanks() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(4)
    x = np.linspace(0, 1, 200)
    return {
        "white": np.full((50, 50), 255, np.uint8),
        "black": np.zeros((50, 50), np.uint8),
        "transparent": np.zeros((50, 50, 4), np.uint8),
        "slanting light": np.rint(255 * np.tile(x, (200, 1))).astype(np.uint8),
        "vignette": np.rint(230 - 100 * np.add.outer((x - 0.5) ** 2, (x - 0.5) ** 2)),
        "noise": np.clip(rng.normal(128, 40, (300, 200)), 0, 255).astype(np.uint8),
        "soft noise": cv2.GaussianBlur(rng.normal(128, 80, (300, 200)), (0, 0), 2),
        "faint": np.where(np.arange(100) % 50 < 4, 198, 200).astype(np.uint8) * np.ones((99, 1)),
        "long": np.full((8, 3000), 200, np.uint8),
    }


@pytest.mark.parametrize("name", blanks())
def test_a_picture_without_digit_is_refused(tmp_path: Path, name: str) -> None:
    cv2.imwrite(str(tmp_path / "blank.png"), np.rint(blanks()[name]).astype(np.uint8))
    with pytest.raises(
        ValueError, match=r"path is .*blank\.png, where no digit stands out; allowed is"
    ):
        read_digit(tmp_path / "blank.png")


def test_what_is_no_picture_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"path is .*none\.png, which does not exist"):
        read_digit(tmp_path / "none.png")
    with pytest.raises(ValueError, match=r"path is .*, unreadable \(Is a directory\)"):
        read_digit(tmp_path)
    whole = cv2.imencode(".png", np.zeros((50, 50), np.uint8))[1].tobytes()
    for content in (b"", b"seven", whole[:20]):
        (tmp_path / "bad.png").write_bytes(content)
        with pytest.raises(ValueError, match=r"path is .*bad\.png, no image"):
            read_digit(tmp_path / "bad.png")
    cv2.imwrite(str(tmp_path / "small.png"), np.eye(7, dtype=np.uint8) * 255)
    with pytest.raises(ValueError, match=r"small\.png, 7x7 pixels; .*8x8 pixels or more"):
        read_digit(tmp_path / "small.png")


@given(
    hnp.arrays(
        st.sampled_from([np.uint8, np.uint16]),
        st.one_of(
            st.tuples(st.integers(8, 40), st.integers(8, 40)),
            st.tuples(st.integers(8, 40), st.integers(8, 40), st.sampled_from([3, 4])),
        ),
    )
)
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_picture_is_read_or_refused(tmp_path: Path, picture: np.ndarray) -> None:
    cv2.imwrite(str(tmp_path / "any.png"), picture)
    try:
        digit = read_digit(tmp_path / "any.png")
    except ValueError as error:
        assert str(error).startswith("path is ") and "; allowed is " in str(error)
    else:
        assert digit.shape == (28, 28) and digit.dtype == torch.uint8 and digit.max() == 255
