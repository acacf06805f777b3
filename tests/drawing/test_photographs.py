"""Photographs as phones take them, in 28 kinds: read rightly, or not without a word."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from learn2add.__main__ import main
from learn2add.data import Digits, as_float
from learn2add.drawing.photo import read_digit
from learn2add.drawing.sums import SURE
from learn2add.judge import Judge, load_judge
from tools.campaign.photographs import KINDS, photograph, several_digits


@pytest.fixture(scope="module")
def judge() -> Judge:
    return load_judge()


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_none_is_wrong_without_a_word(
    kind: str, mnist_test: Digits, judge: Judge, tmp_path: Path
) -> None:
    file, right, wrong = tmp_path / "photo.jpg", 0, 0
    for number in range(6):
        at = 100 * number + 7
        file.write_bytes(photograph(mnist_test.images[at].numpy(), kind, number))
        try:
            read = judge.read(as_float(read_digit(file)[None]))[0]
        except ValueError:
            continue
        as_it_is = int(read.argmax()) == mnist_test.labels[at]
        right += as_it_is
        wrong += not as_it_is and read.max() >= SURE
    twice_spoiled = kind == "thin_pen_in_hard_shadow"  # of 40, one is wrong without a word
    assert wrong <= twice_spoiled
    assert right >= 4 - twice_spoiled


def test_several_digits_are_counted_and_refused(mnist_test: Digits, tmp_path: Path) -> None:
    for number in range(8):
        count = 2 + number % 2
        images = mnist_test.images[5 * number : 5 * number + count].numpy()
        (tmp_path / "photo.jpg").write_bytes(several_digits(images, number))
        with pytest.raises(ValueError, match=rf"shows {count} digits: cut it to one"):
            read_digit(tmp_path / "photo.jpg")


def test_one_digit_is_not_taken_for_several(mnist_test: Digits, tmp_path: Path) -> None:
    """Not even a five whose bar stands off, or a four of two strokes."""
    refused = 0
    for image in mnist_test.images[:300].numpy():
        Image.fromarray(255 - image).resize((112, 112)).save(tmp_path / "digit.png")
        try:
            read_digit(tmp_path / "digit.png")
        except ValueError:
            refused += 1
    assert refused <= 1


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["png", "alpha.png", "webp", "tiff", "jpg"])
def test_the_note_of_a_camera_is_obeyed(
    form: str, orientation: int, mnist_test: Digits, tmp_path: Path
) -> None:
    upright = Image.fromarray(255 - mnist_test.images[0].numpy()).resize((84, 84))
    if form.startswith("alpha"):
        upright = upright.convert("RGBA")
    note = Image.Exif()
    note[0x0112] = orientation
    turns = {2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}  # Pillow's names of what undoes each
    undone = {0: 0, 3: 3, 1: 1, 5: 5, 2: 4, 6: 6, 4: 2}
    lying = upright.transpose(undone[turns[orientation]]) if orientation > 1 else upright
    file = tmp_path / f"noted.{form}"
    lying.save(file, exif=note, quality=95)
    if orientation > 1:
        assert ImageOps.exif_transpose(Image.open(file)).size == upright.size
    upright.save(tmp_path / "upright.png")
    read, wanted = (read_digit(f).numpy().astype(float) for f in (file, tmp_path / "upright.png"))
    assert np.corrcoef(read.ravel(), wanted.ravel())[0, 1] > 0.98


def test_a_small_file_of_many_pixels_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Image, "MAX_IMAGE_PIXELS", None)
        Image.new("1", (30_000, 30_000)).save(tmp_path / "bomb.png")
    assert (tmp_path / "bomb.png").stat().st_size < 1_000_000
    with pytest.raises(ValueError, match="too many pixels; allowed is an image of one digit"):
        read_digit(tmp_path / "bomb.png")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "iPhone's HEIC or a film: save it as JPEG"),
        (b"%PDF-1.7\n", "a PDF: save a page as PNG"),
        (b'<?xml version="1.0"?><svg xmlns="x"/>', "an SVG drawing: save it as PNG"),
    ],
)
def test_what_is_no_photograph_is_named(content: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / "seven").write_bytes(content)
    with pytest.raises(ValueError, match=said):
        read_digit(tmp_path / "seven")


def test_a_doubtful_picture_is_a_warning_and_a_status(
    mnist_test: Digits, judge: Judge, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sure = judge.read(as_float(mnist_test.images[:3000])).amax(1)
    seven, doubtful = (mnist_test.images[i].numpy() for i in (0, int(sure.argmin())))
    for name, image, status in (("seven", seven, 0), ("doubtful", doubtful, 3)):
        Image.fromarray(255 - image).resize((140, 140)).save(tmp_path / f"{name}.png")
        words = [str(tmp_path / f"{name}.png"), "1", "-o", str(tmp_path / "sum.png")]
        try:
            assert main(["add", *words]) == status
        except SystemExit as leaving:
            assert leaving.code == status
        assert (tmp_path / "sum.png").exists()
        assert ("sure of the input" in capsys.readouterr().err) == bool(status)
        (tmp_path / "sum.png").unlink()


def test_the_picture_itself_is_not_written_over(
    mnist_test: Digits, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "seven.png"
    Image.fromarray(255 - mnist_test.images[0].numpy()).save(file)
    before = file.read_bytes()
    assert main(["add", str(file), "2", "-o", str(file)]) == 2
    assert "the picture itself; name another file" in capsys.readouterr().err
    assert file.read_bytes() == before
