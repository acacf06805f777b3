"""The exact mirror, and what unpooling with the encoder's places smuggles."""

from pathlib import Path

import pytest
import torch

from learn2add.config import RunConfig
from learn2add.data import Digits, as_float
from learn2add.network import Encoder, parameter_count
from learn2add.runs import load
from learn2add.studies.mirror import MirrorConfig, UnpoolingAutoencoder, UnpoolingDecoder, mirror
from learn2add.train import build_model, train


def test_the_mirror_doubles_where_the_encoder_pools() -> None:
    model = build_model(mirror())
    features = model.encoder.features(torch.rand(2, 1, 28, 28))
    assert features.shape == (2, 128 * 3 * 3)
    sides = []
    for layer in model.decoder.layers:
        layer.register_forward_hook(lambda _, inputs, out: sides.append(out.shape[-1]))
    assert model.decoder(torch.rand(2, 2)).shape == (2, 1, 28, 28)
    assert sides == [7, 7, 14, 14, 28]
    assert parameter_count(model.decoder.expand) < parameter_count(model.encoder)


def test_unpooling_puts_each_value_where_the_encoder_found_it() -> None:
    """With all convolutions the identity of one channel, what comes out lies on the maxima."""
    torch.manual_seed(0)
    model, x = UnpoolingAutoencoder(Encoder(2), UnpoolingDecoder(2)), torch.rand(3, 1, 28, 28)
    places = model.places(x)
    assert [list(p.shape[1:]) for p in places] == [[32, 14, 14], [64, 7, 7], [128, 3, 3]]
    first = model.encoder.features[0](x)
    chosen = first.flatten(2).gather(2, places[0].flatten(2)).view(3, 32, 14, 14)
    assert torch.equal(chosen, torch.nn.functional.max_pool2d(first, 2))


def test_the_places_tell_of_the_image_what_the_code_does_not() -> None:
    torch.manual_seed(0)
    model, x = UnpoolingAutoencoder(Encoder(2), UnpoolingDecoder(2)), torch.rand(2, 1, 28, 28)
    same = torch.zeros(2, 2)
    one, other = model.decoder.logits_at(same, model.places(x))
    assert not torch.allclose(one, other)


# No place is written twice, so the order of writing, of which torch warns, does not matter.
@pytest.mark.filterwarnings("ignore:max_unpooling2d")
@pytest.mark.parametrize("unpooling", [False, True])
def test_both_train_and_load(
    unpooling: bool, training_digits: tuple[Digits, Digits], tmp_path: Path
) -> None:
    config = mirror(epochs=2, unpooling=unpooling)
    assert RunConfig.from_json(config.to_json()) == config
    assert isinstance(config, MirrorConfig)
    state = train(config, *training_digits, tmp_path, progress=False)
    losses = [row["loss/validation"] for row in state.history]
    assert losses[1] < losses[0]


def test_the_kept_run_draws_from_the_places_and_not_from_the_code(mnist_test: Digits) -> None:
    model, x = load("part2/unpooling-l2-code2").model("cpu"), as_float(mnist_test.images[:200])
    z, places = model.encoder(x), model.places(x)

    def error(z: torch.Tensor, places: list[torch.Tensor]) -> float:
        return float((torch.sigmoid(model.decoder.logits_at(z, places)) - x).square().mean().sqrt())

    own = error(z, places)
    assert own < 0.18  # no kept network with a code of two numbers comes to that
    assert error(z.roll(1, 0), places) == pytest.approx(own, abs=1e-3)
    assert error(z, [place.roll(1, 0) for place in places]) > 0.3
