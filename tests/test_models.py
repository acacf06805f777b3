"""The networks against their specification and against plain PyTorch layers, on real digits."""

import copy

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from learn2add import (
    Adder,
    AdditionInference,
    AdditionModel,
    Autoencoder,
    DecoderConvTranspose,
    DecoderConvUpsample,
    DecoderInterpolation,
    Encoder,
)
from learn2add.data import Digits, as_float
from learn2add.decoders import (
    DECODERS,
    TransposedConvolution,
    make_decoder,
    upsample_then_convolve,
)

IMAGE_SIZES = (28, 32, 64)
CODE_SIZES = (1, 2, 7, 128)


@pytest.fixture(scope="module")
def digits(mnist_test: Digits) -> Digits:
    return mnist_test.subset(20)


@pytest.fixture(scope="module")
def x(digits: Digits) -> Tensor:
    return as_float(digits.images)


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def parameter_count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


# Shapes


@pytest.mark.parametrize("image_size", IMAGE_SIZES)
@pytest.mark.parametrize("code_size", CODE_SIZES)
def test_encoder_shapes(digits: Digits, image_size: int, code_size: int) -> None:
    z = Encoder(code_size, image_size)(as_float(digits.resized(image_size).images[:3]))
    assert z.shape == (3, code_size) and z.dtype == torch.float32
    assert torch.isfinite(z).all()


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("image_size", IMAGE_SIZES)
@pytest.mark.parametrize("code_size", CODE_SIZES)
def test_decoder_shapes_and_range(decoder: str, image_size: int, code_size: int) -> None:
    network = make_decoder(decoder, code_size, image_size)
    z = torch.randn(2, code_size) * torch.tensor([[1.0], [1e4]])  # a usual and a far-out code
    picture = network(z)
    assert picture.shape == (2, 1, image_size, image_size)
    assert picture.min() >= 0 and picture.max() <= 1
    assert picture[0].min() > 0 and picture[0].max() < 1
    assert picture[1].min() < 0.01 or picture[1].max() > 0.99, "the far-out code must saturate"
    torch.testing.assert_close(picture, 1 / (1 + (-network.logits(z)).exp()))


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("image_size", IMAGE_SIZES)
def test_whole_models_shapes(digits: Digits, decoder: str, image_size: int) -> None:
    x = as_float(digits.resized(image_size).images[:4])
    addend = torch.tensor([0.0, 1.0, 1.5, 9.0])
    assert Autoencoder(decoder, 7, image_size)(x).shape == x.shape
    model = AdditionModel(decoder, 7, image_size)
    out = model(x, addend, x)
    assert out.x_hat.shape == out.y_hat.shape == x.shape
    assert out.z_sum.shape == out.z_target.shape == (4, 7)
    assert model.inference()(x, addend).shape == x.shape


# The encoder and the decoders are those of the assignment


def test_encoder_parameters_counted_by_hand() -> None:
    convolutions = (1 * 9 + 1) * 32 + (32 * 9 + 1) * 64 + (64 * 9 + 1) * 128
    for image_size, side in ((28, 3), (32, 4), (64, 8)):  # halved three times, rounded down
        linear = (128 * side * side + 1) * 256
        for code_size in CODE_SIZES:
            expected = convolutions + linear + (256 + 1) * code_size
            assert parameter_count(Encoder(code_size, image_size)) == expected
    assert convolutions == 92_672


@pytest.mark.parametrize(("image_size", "side"), [(28, 7), (32, 8), (64, 16)])
def test_decoder_and_adder_parameters_counted_by_hand(image_size: int, side: int) -> None:
    for code_size in CODE_SIZES:
        linear = (code_size + 1) * 256 + (256 + 1) * 128 * side * side
        convolutions = (128 * 9 + 1) * 64 + (64 * 9 + 1) * 32 + (32 * 9 + 1) * 1
        for decoder in (DecoderConvTranspose, DecoderConvUpsample, DecoderInterpolation):
            assert parameter_count(decoder(code_size, image_size)) == linear + convolutions
        adder = (code_size + 1 + 1) * 32 + (32 + 1) * 16 + (16 + 1) * 16 + (16 + 1) * code_size
        assert parameter_count(Adder(code_size)) == adder


def encode_by_the_book(encoder: Encoder, x: Tensor) -> Tensor:
    """The assignment's order: convolution, ReLU, max-pooling; then two linear layers."""
    for convolution in (module for module in encoder.modules() if isinstance(module, nn.Conv2d)):
        x = F.max_pool2d(F.relu(F.conv2d(x, convolution.weight, convolution.bias, padding=1)), 2, 2)
    for linear in (module for module in encoder.modules() if isinstance(module, nn.Linear)):
        x = F.linear(x.flatten(1), linear.weight, linear.bias)
    return x


@pytest.mark.parametrize("image_size", IMAGE_SIZES)
def test_pooling_before_relu_is_relu_before_pooling(digits: Digits, image_size: int) -> None:
    x = as_float(digits.resized(image_size).images)
    encoder = Encoder(7, image_size)
    torch.testing.assert_close(encoder(x), encode_by_the_book(encoder, x))
    x, encoder = x.double(), encoder.double()
    torch.testing.assert_close(encoder(x), encode_by_the_book(encoder, x), rtol=0, atol=1e-12)


def test_encoder_gradients_are_those_of_the_assignments_order(x: Tensor) -> None:
    encoder = Encoder().double()
    weights = list(encoder.parameters())
    ours = torch.autograd.grad(encoder(x.double()).square().sum(), weights)
    theirs = torch.autograd.grad(encode_by_the_book(encoder, x.double()).square().sum(), weights)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b)


def test_code_is_linear_in_the_features(x: Tensor) -> None:
    """No activation between the two linear layers nor after them: codes are unbounded."""
    encoder = Encoder()
    a, b = encoder.features(x[:2])
    middle = encoder.code(encoder.hidden((a + b) / 2))
    ends = encoder.code(encoder.hidden(torch.stack([a, b])))
    torch.testing.assert_close(middle, ends.mean(0))


def test_transposed_convolutions_spread_one_value_over_four_places() -> None:
    decoder = DecoderConvTranspose()
    kinds = [type(m) for m in decoder.layers if not isinstance(m, nn.ReLU)]
    assert kinds == [TransposedConvolution] * 3
    features = torch.zeros(1, 128, 7, 7)
    empty = decoder.layers[0](features)
    features[0, :, 3, 3] = 1
    touched = (decoder.layers[0](features) != empty).any(1)[0].nonzero()
    assert touched.min(0).values.tolist() == [5, 5]  # a 3x3 stamp about 2 * 3
    assert touched.max(0).values.tolist() == [7, 7]


@pytest.mark.parametrize("bias", [True, False])
def test_transposed_convolution_is_that_of_torch(bias: bool) -> None:
    settings = {"stride": 2, "padding": 1, "output_padding": 1, "bias": bias}
    ours = TransposedConvolution(3, 4, 3, **settings).double()
    theirs = nn.ConvTranspose2d(3, 4, 3, **settings).double()
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(2, 3, 5, 6, dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(ours(x), theirs(x))
    found = torch.autograd.grad(ours(x).square().sum(), [x, *ours.parameters()])
    wanted = torch.autograd.grad(theirs(x).square().sum(), [x, *theirs.parameters()])
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b)


# Upsampling


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("channels", "side"), [((3, 5), 4), ((128, 64), 7), ((64, 32), 14)])
@pytest.mark.parametrize("bias", [True, False])
def test_upsample_then_convolve_is_the_two_layers(
    dtype: torch.dtype, channels: tuple[int, int], side: int, bias: bool
) -> None:
    convolution = nn.Conv2d(*channels, 3, padding="same", bias=bias, dtype=dtype)
    layers = nn.Sequential(nn.Upsample(scale_factor=2), convolution)
    x = torch.randn(2, channels[0], side, side + 1, dtype=dtype)
    tolerance = {"rtol": 0, "atol": 1e-12} if dtype == torch.float64 else {}
    torch.testing.assert_close(upsample_then_convolve(x, convolution), layers(x), **tolerance)


def test_upsample_then_convolve_has_the_gradients_of_the_two_layers() -> None:
    convolution = nn.Conv2d(3, 4, 3, padding="same").double()
    layers = nn.Sequential(nn.Upsample(scale_factor=2), convolution)
    x = torch.randn(2, 3, 5, 5, dtype=torch.float64, requires_grad=True)
    wanted = (x, convolution.weight, convolution.bias)
    ours = torch.autograd.grad(upsample_then_convolve(x, convolution).square().sum(), wanted)
    theirs = torch.autograd.grad(layers(x).square().sum(), wanted)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b)


def draw_by_the_book(decoder: DecoderConvUpsample, z: Tensor, **interpolation: object) -> Tensor:
    side = decoder.image_size // 4
    linear1, linear2 = (m for m in decoder.modules() if isinstance(m, nn.Linear))
    h = F.relu(linear2(F.relu(linear1(z)))).reshape(-1, 128, side, side)
    up = nn.Upsample(scale_factor=2, **interpolation)
    h = F.relu(decoder.convolution1(up(h)))
    h = F.relu(decoder.convolution2(up(h)))
    return torch.sigmoid(decoder.convolution3(h))


@pytest.mark.parametrize("image_size", IMAGE_SIZES)
def test_upsampling_decoders_against_plain_layers(image_size: int) -> None:
    upsample = DecoderConvUpsample(7, image_size)
    nearest = DecoderInterpolation(7, image_size)
    bilinear = DecoderInterpolation(7, image_size, mode="bilinear")
    for other in (nearest, bilinear):
        other.load_state_dict(upsample.state_dict())
    z = 3 * torch.randn(4, 7)
    reference = draw_by_the_book(upsample, z)
    torch.testing.assert_close(upsample(z), reference)
    assert torch.equal(nearest(z), upsample(z))
    torch.testing.assert_close(bilinear(z), draw_by_the_book(upsample, z, mode="bilinear"))
    assert (bilinear(z) - reference).abs().max() > 1e-3


def test_upsampling_under_autocast_is_the_same_function() -> None:
    """Autocast takes another way through the code; its weights are those of float32."""
    decoder, z = DecoderConvUpsample(), torch.randn(4, 7)
    with torch.autocast("cpu", torch.bfloat16):
        half = decoder.logits(z).float()
    torch.testing.assert_close(half, decoder.logits(z), rtol=0.05, atol=0.01)


# The whole models


@pytest.mark.parametrize("decoder", DECODERS)
def test_training_model_is_each_part_called_twice(x: Tensor, decoder: str) -> None:
    model = AdditionModel(decoder).double()
    a, b, addend = x[:10].double(), x[10:].double(), torch.arange(10) / 2
    out = model(a, addend, b)
    z_sum = model.adder(model.encoder(a), addend)
    torch.testing.assert_close(out.x_hat, model.decoder(model.encoder(a)))
    torch.testing.assert_close(out.y_hat, model.decoder(z_sum))
    torch.testing.assert_close(out.z_sum, z_sum)
    torch.testing.assert_close(out.z_target, model.encoder(b))


def test_shared_weights_gather_the_gradients_of_both_instances(x: Tensor) -> None:
    """Two encoders and two decoders with equal weights: their gradients add up to the shared."""
    model = AdditionModel().double()
    a, b, addend = x[:10].double(), x[10:].double(), torch.arange(10).double()
    encoders = [copy.deepcopy(model.encoder) for _ in range(2)]
    decoders = [copy.deepcopy(model.decoder) for _ in range(2)]

    def loss(x_hat: Tensor, y_hat: Tensor, z_sum: Tensor, z_target: Tensor) -> Tensor:
        pictures = 0.1 * (x_hat - a).square().sum() + (y_hat - b).square().sum()
        return pictures + (z_sum - z_target).square().sum()

    out = model(a, addend, b)
    loss(out.x_hat, out.y_hat, out.z_sum, out.z_target).backward()
    z = encoders[0](a)
    z_sum = copy.deepcopy(model.adder)(z, addend)
    loss(decoders[0](z), decoders[1](z_sum), z_sum, encoders[1](b)).backward()
    for shared, (first, second) in ((model.encoder, encoders), (model.decoder, decoders)):
        for name, parameter in shared.named_parameters():
            both = first.get_parameter(name).grad + second.get_parameter(name).grad
            torch.testing.assert_close(parameter.grad, both, msg=name)


def test_inference_model_shares_weights_and_returns_the_picture_alone(x: Tensor) -> None:
    model = AdditionModel()
    inference = model.inference()
    assert isinstance(inference, AdditionInference)
    assert {name for name, _ in inference.named_children()} == {"encoder", "adder", "decoder"}
    addend = torch.full((20,), 2.0)
    picture = inference(x, addend)
    assert isinstance(picture, Tensor) and picture.shape == x.shape
    torch.testing.assert_close(picture, model(x, addend, x.flip(0)).y_hat)  # whatever the target
    with torch.no_grad():
        model.decoder.expand[0].bias += 1
    assert not torch.equal(inference(x, addend), picture)
    torch.testing.assert_close(inference(x, addend), model(x, addend, x).y_hat)


def test_adder_sees_the_addend() -> None:
    adder, z = Adder(), torch.randn(3, 7)
    by_hand = torch.cat([z, torch.tensor([[1.0], [1.5], [9.0]])], dim=1)
    torch.testing.assert_close(adder(z, torch.tensor([1.0, 1.5, 9.0])), adder.layers(by_hand))
    assert not torch.equal(adder(z, torch.zeros(3)), adder(z, torch.ones(3)))


def test_unpooling_needs_what_the_code_does_not_hold(x: Tensor) -> None:
    """Two pictures with equal pooled values, hence equal codes, that unpooling tells apart.

    So a decoder with the encoder's indices is told more than the code, and the picture of a sum,
    which no encoder has seen, has no indices at all.
    """
    blocks = F.pixel_unshuffle(x, 2)  # [B, 4, 14, 14], the four places of each window
    moved = F.pixel_shuffle(blocks.flip(1), 2)
    pooled, indices = F.max_pool2d(x, 2, return_indices=True)
    moved_pooled, moved_indices = F.max_pool2d(moved, 2, return_indices=True)
    assert torch.equal(pooled, moved_pooled)
    unpooled = F.max_unpool2d(pooled, indices, 2)
    assert not torch.equal(unpooled, F.max_unpool2d(pooled, moved_indices, 2))
    partner = F.max_pool2d(x.flip(0), 2, return_indices=True)[1]
    assert not torch.equal(unpooled, F.max_unpool2d(pooled, partner, 2))


# Bad input


@given(st.one_of(st.integers(max_value=0), st.integers(min_value=129)))
@settings(max_examples=20, deadline=None)
def test_code_size_out_of_range_is_refused(code_size: int) -> None:
    for kind in (Encoder, Adder, Autoencoder, AdditionModel, *DECODERS.values()):
        argument = {"code_size": code_size}
        with pytest.raises(ValueError, match=r"code_size.*1 to 128.*" + str(code_size)):
            kind(**argument)


@pytest.mark.parametrize("code_size", [2.0, True, "7", None])
def test_code_size_that_is_no_integer_is_refused(code_size: object) -> None:
    with pytest.raises(TypeError, match="code_size"):
        Encoder(code_size)


@given(st.integers().filter(lambda size: size not in IMAGE_SIZES))
@settings(max_examples=20, deadline=None)
def test_other_image_sizes_are_refused(image_size: int) -> None:
    for kind in (Encoder, *DECODERS.values()):
        with pytest.raises(ValueError, match=r"image_size.*28, 32, 64"):
            kind(7, image_size)


@pytest.mark.parametrize("name", ["convtranspose", "", None, 3])
def test_unknown_decoder_is_refused(name: object) -> None:
    with pytest.raises(ValueError, match=r"decoder.*conv_transpose.*conv_upsample.*interpolation"):
        Autoencoder(name)


def test_unknown_interpolation_is_refused() -> None:
    with pytest.raises(ValueError, match=r"mode.*nearest.*bilinear"):
        DecoderInterpolation(mode="bicubic")


@pytest.mark.parametrize(
    "shape", [(28, 28), (1, 28, 28), (4, 28, 28, 1), (4, 3, 28, 28), (4, 1, 32, 32)]
)
def test_wrong_picture_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"x .*1, 28, 28"):
        Encoder()(torch.zeros(shape))
    with pytest.raises(ValueError, match="x "):
        AdditionModel().inference()(torch.zeros(shape), torch.zeros(shape[0]))


@pytest.mark.parametrize("shape", [(7,), (4, 6), (4, 8), (4, 7, 1)])
def test_wrong_code_shapes_are_refused(shape: tuple[int, ...]) -> None:
    for network in (DecoderConvTranspose(), DecoderInterpolation()):
        with pytest.raises(ValueError, match=r"z has shape.*7"):
            network(torch.zeros(shape))
    with pytest.raises(ValueError, match=r"z has shape.*7"):
        Adder()(torch.zeros(shape), torch.zeros(4))


@pytest.mark.parametrize("shape", [(), (1,), (5,), (4, 1)])
def test_wrong_addend_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="addend has shape"):
        Adder()(torch.zeros(4, 7), torch.zeros(shape))


@pytest.mark.parametrize("addend", [float("nan"), float("inf"), -float("inf")])
def test_inference_refuses_an_addend_that_is_no_number(x: Tensor, addend: float) -> None:
    with pytest.raises(ValueError, match="addend"):
        AdditionModel().inference()(x[:2], torch.tensor([1.0, addend]))


def test_inference_refuses_pictures_of_another_range_or_type(digits: Digits, x: Tensor) -> None:
    model, addend = AdditionModel().inference(), torch.ones(len(digits))
    with pytest.raises(TypeError, match="x must be float32"):
        model(digits.images[:, None], addend)
    with pytest.raises(ValueError, match=r"x must be .*\[0, 1\]"):
        model(digits.images[:, None].float(), addend)  # 0 to 255
    with pytest.raises(ValueError, match="x must be .*NaN"):
        model(torch.full_like(x, float("nan")), addend)
