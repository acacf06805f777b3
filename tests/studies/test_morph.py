"""Films from one digit to another: ``learn2add morph``."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from learn2add.__main__ import main
from learn2add.data import as_float, in_batches, load_digits
from learn2add.drawing.photo import read_digit
from learn2add.judge import load_judge
from learn2add.runs import load
from learn2add.studies.latent import class_means


def frames_of(path: Path) -> np.ndarray:
    with Image.open(path) as film:
        frames = []
        for at in range(film.n_frames):
            film.seek(at)
            frames.append(np.asarray(film.convert("L"))[::8, ::8][:28, :28])
    return np.stack(frames)


def test_the_film_goes_from_one_class_to_another_and_back(tmp_path: Path) -> None:
    path = tmp_path / "film.gif"
    assert main(["morph", "2", "0", "-o", str(path)]) == 0
    frames = frames_of(path)
    assert len(frames) == 40  # 21 there, 19 back: the ends stand still
    assert np.array_equal(frames[1:20], frames[:20:-1])
    read = load_judge().read(torch.from_numpy(frames[[0, 20]]).float()[:, None] / 255).argmax(1)
    assert read.tolist() == [2, 0]
    model, known = load("narrow/code10-variational").model("cpu"), load_digits("MNIST", "train")
    known = known.subset(5000)
    centres = class_means(in_batches(model.encoder, known.images), known.labels)
    wanted = model.decoder(centres[[2, 0]])[:, 0].detach().numpy() * 255
    assert np.abs(wanted - frames[[0, 20]]).max() < 2


def test_an_end_may_be_a_picture(tmp_path: Path) -> None:
    digits = load_digits("MNIST", "test")
    image = 255 - digits.images[int((digits.labels == 7).nonzero()[0])].numpy()
    large = cv2.resize(np.pad(image, 6, constant_values=255), (320, 320))
    cv2.imwrite(str(tmp_path / "seven.png"), large)
    path = tmp_path / "film.gif"
    assert main(["morph", str(tmp_path / "seven.png"), "9", "-o", str(path)]) == 0
    model = load("narrow/code10-variational").model("cpu")
    with torch.no_grad():
        own = 255 * model(as_float(read_digit(tmp_path / "seven.png")[None]))[0, 0].numpy()
    first = frames_of(path)[0]
    assert np.abs(first - own).max() < 2
    assert int(load_judge().read(torch.from_numpy(first).float()[None, None] / 255).argmax()) == 7


def test_a_picture_is_never_written_over(tmp_path: Path, capsys) -> None:
    path = tmp_path / "seven.gif"
    Image.fromarray(np.full((28, 28), 255, np.uint8)).save(path)
    before = path.read_bytes()
    assert main(["morph", "2", str(path), "-o", str(path)]) == 2
    assert "the picture itself" in capsys.readouterr().err
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["2", "0", "-o", "film.png"], "must end in .gif, not 'film.png'"),
        (["2", "10", "-o", "film.gif"], "10"),
        (["2", "0", "-o", "film.gif", "--run", "nothing"], "nothing"),
        (["2", "-o", "film.gif"], "morph --help"),
    ],
)
def test_what_makes_no_film_is_refused(
    words: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["morph", *words]) == 2
    said = capsys.readouterr().err
    assert says in said and said.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
