"""Ways through the space of codes, stand-ins for the adder, fits, the projector's files."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.utils.tensorboard import SummaryWriter

from learn2add.data import Digits, as_float
from learn2add.judge import load_judge
from learn2add.network import DecoderConvTranspose
from learn2add.studies import latent
from learn2add.studies.latent import mosaic, write_projector


def codes(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def test_a_way_begins_and_ends_where_it_shall() -> None:
    start, end = codes(2, 30, 7)
    found = latent.straight(start, end, 9)
    assert found.shape == (9, 30, 7)
    torch.testing.assert_close(found[0], start)
    torch.testing.assert_close(found[-1], end)
    torch.testing.assert_close(found[4], (start + end) / 2)


def test_ways_refuse_what_does_not_fit() -> None:
    with pytest.raises(ValueError, match="end is of shape"):
        latent.straight(codes(2, 3), codes(3, 3))
    with pytest.raises(ValueError, match="steps"):
        latent.straight(codes(2, 3), codes(2, 3), 1)


def test_class_means_are_numpys() -> None:
    z, labels = codes(200, 4), torch.arange(200) % 10
    found = latent.class_means(z, labels)
    for digit in range(10):
        np.testing.assert_allclose(found[digit], z[labels == digit].numpy().mean(0), atol=1e-6)
    with pytest.raises(ValueError, match=r"without \[3\]"):
        latent.class_means(z[labels != 3], labels[labels != 3])


def test_the_plane_is_laid_out_as_a_map() -> None:
    class Corners(nn.Module):
        def forward(self, z: torch.Tensor) -> torch.Tensor:
            return z.view(-1, 2, 1, 1).expand(-1, 2, 2, 2)[:, :1] * 10 + z[:, 1].view(-1, 1, 1, 1)

    drawn = latent.plane(Corners(), torch.tensor([[0.0, 1.0], [2.0, 3.0]]), 3)
    assert drawn.shape == (3, 3, 2, 2)
    assert drawn[0, 0, 0, 0] == 3 and drawn[0, -1, 0, 0] == 23 and drawn[-1, 0, 0, 0] == 1
    with pytest.raises(ValueError, match="corners"):
        latent.plane(DecoderConvTranspose(2), torch.zeros(2))


def test_a_way_through_real_digits_is_read(mnist_test: Digits) -> None:
    class Album(nn.Module):
        def forward(self, z: torch.Tensor) -> torch.Tensor:
            return as_float(mnist_test.images[z[:, 0].long()])

    judge = load_judge()
    one, two = mnist_test.by_class()[1][:4], mnist_test.by_class()[2][:4]
    ways = torch.stack([one, one, one, two, two])[..., None].float()
    found = latent.journey(Album(), judge, ways)
    assert found.readings == 2 and found.clear > 0.9
    assert found.largest == pytest.approx(4)  # all change in one step of four


def test_arrows_explain_what_they_can() -> None:
    z, labels = codes(500, 6), torch.arange(500) % 10
    moved = z + torch.arange(6.0)
    assert all(arrow.explained > 0.9999 for arrow in latent.arrows(z, moved, labels).values())
    turned = latent.arrows(z, z @ codes(6, 6), labels)
    assert turned["an affine map"].explained > 0.9999
    assert turned["one arrow"].explained < 0.1
    own = latent.arrows(z, z + codes(10, 6)[labels], labels)
    assert own["an arrow per digit"].explained > 0.9999
    torch.testing.assert_close(own["an arrow per digit"].shifted, z + codes(10, 6)[labels])


@pytest.mark.parametrize("kind", ["exponential", "power"])
def test_decays_find_the_curve_that_was_there(kind: str) -> None:
    pytest.importorskip("scipy")
    k = np.arange(1, 11)
    made = {"exponential": 0.05 * np.exp(-k / 2.5) + 0.004, "power": 0.05 * k**-0.7 + 0.002}[kind]
    found = latent.decays(k, made, 64)
    other = {"exponential": "power", "power": "exponential"}[kind]
    assert found[kind].off < 1e-3 < found[other].off
    wanted = {"exponential": 0.004 + 0.05 * math.exp(-64 / 2.5), "power": 0.05 * 64**-0.7 + 0.002}
    assert found[kind].beyond == pytest.approx(wanted[kind], rel=0.01)


@pytest.mark.parametrize(
    "sizes, errors",
    [([1, 2, 3], [3, 2, 1]), ([1, 2, 3, 4], [1, 2, 3]), ([1, 2, 3, 4], [3, 2, 1, 0])],
)
def test_decays_refuse_what_cannot_be_fitted(sizes: list[int], errors: list[float]) -> None:
    with pytest.raises(ValueError, match="sizes"):
        latent.decays(sizes, errors, 10)


# TensorBoard's projector


def test_the_projector_reads_its_files(tmp_path: Path, mnist_test: Digits) -> None:
    from google.protobuf import text_format
    from tensorboard.plugins.projector.projector_config_pb2 import ProjectorConfig

    part, z = mnist_test.subset(30), codes(30, 7)
    file = write_projector(tmp_path / "new", z, part.labels, part.images)
    config = text_format.Parse(file.read_text(), ProjectorConfig())
    (embedding,) = config.embeddings
    found = np.loadtxt(file.parent / embedding.tensor_path, delimiter="\t")
    np.testing.assert_allclose(found, z.numpy(), rtol=1e-5)
    assert np.loadtxt(file.parent / embedding.metadata_path).tolist() == part.labels.tolist()
    sprite = np.asarray(Image.open(file.parent / embedding.sprite.image_path))
    assert list(embedding.sprite.single_image_dim) == [28, 28] and sprite.shape == (168, 168)
    np.testing.assert_array_equal(sprite[28:56, 56:84], part.images[8])  # second row, third


def test_tensorboard_finds_the_projector_beside_other_runs(
    tmp_path: Path, mnist_test: Digits
) -> None:
    from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
    from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
    from tensorboard.plugins.base_plugin import TBContext
    from tensorboard.plugins.projector.projector_plugin import ProjectorPlugin

    part = mnist_test.subset(30)
    for _ in range(2):
        write_projector(tmp_path / "latent/projector", codes(30, 7), part.labels, part.images)
    with SummaryWriter(str(tmp_path / "part3")) as writer:
        writer.add_scalar("loss", 1.0)
    events = EventMultiplexer().AddRunsFromDirectory(str(tmp_path))
    events.Reload()
    provider = MultiplexerDataProvider(events, str(tmp_path))
    plugin = ProjectorPlugin(TBContext(logdir=str(tmp_path), data_provider=provider))
    plugin._update_configs()
    assert list(plugin._configs) == ["latent/projector"]
    assert len(list((tmp_path / "latent/projector").glob("events*"))) == 1


def test_the_projector_refuses_what_does_not_fit(tmp_path: Path, mnist_test: Digits) -> None:
    part = mnist_test.subset(20)
    with pytest.raises(ValueError, match="lengths 19, 20, 20"):
        write_projector(tmp_path / "none", codes(19, 2), part.labels, part.images)
    with pytest.raises(ValueError, match="uint8"):
        write_projector(tmp_path / "none", codes(20, 2), part.labels, as_float(part.images))
    assert not (tmp_path / "none").exists()


def test_a_mosaic_holds_every_picture_once() -> None:
    sheet = mosaic(np.arange(1, 6, dtype=np.uint8)[:, None, None].repeat(2, 1).repeat(2, 2))
    assert sheet.shape == (6, 6) and sorted(sheet[::2, ::2].ravel()) == [0, 0, 0, 0, 1, 2, 3, 4, 5]
