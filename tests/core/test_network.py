"""The networks against their specification and against plain PyTorch layers, on real digits."""

import copy

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from learn2add.config import RunConfig, Stage
from learn2add.data import Digits, as_float
from learn2add.network import (
    DECODERS,
    Adder,
    AdditionModel,
    Autoencoder,
    ConvTranspose,
    DecoderConvTranspose,
    DecoderConvUpsample,
    DecoderInterpolation,
    Encoder,
    Gaussian,
    GaussianAdder,
    GaussianEncoder,
    parameter_count,
    upsample_then_convolve,
)
from learn2add.train import build_model

IMAGE_SIZES = (28, 32, 64)
CODE_SIZES = (1, 2, 7, 128)
MODELS = (
    "autoencoder",
    "variational_autoencoder",
    "addition",
    "variational_addition",
    "generative_addition",
)


@pytest.fixture(scope="module")
def digits(mnist_test: Digits) -> Digits:
    return mnist_test.subset(20)


@pytest.fixture(scope="module")
def x(digits: Digits) -> Tensor:
    return as_float(digits.images)


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def addition(decoder: str = "conv_transpose") -> AdditionModel:
    return AdditionModel(Encoder(), Adder(), DECODERS[decoder]())


def generative() -> AdditionModel:
    return AdditionModel(GaussianEncoder(), GaussianAdder(), DecoderConvTranspose())


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
    network = DECODERS[decoder](code_size, image_size)
    z = torch.randn(2, code_size) * torch.tensor([[1.0], [1e4]])  # a usual and a far-out code
    image = network(z)
    assert image.shape == (2, 1, image_size, image_size)
    assert image.min() >= 0 and image.max() <= 1
    assert image[0].min() > 0 and image[0].max() < 1
    assert image[1].min() < 0.01 or image[1].max() > 0.99, "the far-out code must saturate"
    torch.testing.assert_close(image, 1 / (1 + (-network.logits(z)).exp()))


@pytest.mark.parametrize(("decoder", "image_size"), list(zip(DECODERS, IMAGE_SIZES, strict=True)))
@pytest.mark.parametrize("model", MODELS)
def test_whole_models_shapes(digits: Digits, decoder: str, image_size: int, model: str) -> None:
    x = as_float(digits.resized(image_size).images[:4])
    config = RunConfig((Stage("autoencoder", 1),), model, decoder, 3, image_size)
    built = config.build()
    assert isinstance(built.encoder, GaussianEncoder) == config.variational
    if not config.adds:
        assert built(x).shape == x.shape
        return
    assert isinstance(built.adder, GaussianAdder) == config.generative
    addend = torch.tensor([0.0, 1.0, 1.5, 9.0])
    assert built(x, addend).shape == x.shape
    out = built.training_pass(x, addend, x, torch.randn(4, 6))
    assert out.x_hat.shape == out.y_hat.shape == x.shape
    assert out.z_sum.shape == out.z_target.shape == (4, 3)


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
    assert kinds == [ConvTranspose] * 3
    features = torch.zeros(1, 128, 7, 7)
    empty = decoder.layers[0](features)
    features[0, :, 3, 3] = 1
    touched = (decoder.layers[0](features) != empty).any(1)[0].nonzero()
    assert touched.min(0).values.tolist() == [5, 5]  # a 3x3 stamp about 2 * 3
    assert touched.max(0).values.tolist() == [7, 7]


def test_transposed_convolution_is_that_of_torch() -> None:
    settings = {"stride": 2, "padding": 1, "output_padding": 1}
    ours = ConvTranspose(3, 4, 3, **settings).double()
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
    model = addition(decoder).double()
    a, b, addend = x[:10].double(), x[10:].double(), torch.arange(10) / 2
    out = model.training_pass(a, addend, b)
    z_sum = model.adder(model.encoder(a), addend)
    torch.testing.assert_close(out.x_hat, model.decoder(model.encoder(a)))
    torch.testing.assert_close(out.y_hat, model.decoder(z_sum))
    torch.testing.assert_close(out.z_sum, z_sum)
    torch.testing.assert_close(out.z_target, model.encoder(b))


def test_shared_weights_gather_the_gradients_of_both_instances(x: Tensor) -> None:
    """Two encoders and two decoders with equal weights: their gradients add up to the shared."""
    model = addition().double()
    a, b, addend = x[:10].double(), x[10:].double(), torch.arange(10).double()
    encoders = [copy.deepcopy(model.encoder) for _ in range(2)]
    decoders = [copy.deepcopy(model.decoder) for _ in range(2)]

    def loss(x_hat: Tensor, y_hat: Tensor, z_sum: Tensor, z_target: Tensor) -> Tensor:
        images = 0.1 * (x_hat - a).square().sum() + (y_hat - b).square().sum()
        return images + (z_sum - z_target).square().sum()

    out = model.training_pass(a, addend, b)
    loss(out.x_hat, out.y_hat, out.z_sum, out.z_target).backward()
    z = encoders[0](a)
    z_sum = copy.deepcopy(model.adder)(z, addend)
    loss(decoders[0](z), decoders[1](z_sum), z_sum, encoders[1](b)).backward()
    for shared, (first, second) in ((model.encoder, encoders), (model.decoder, decoders)):
        for name, parameter in shared.named_parameters():
            both = first.get_parameter(name).grad + second.get_parameter(name).grad
            torch.testing.assert_close(parameter.grad, both, msg=name)


def test_the_inference_model_draws_what_training_drew(x: Tensor) -> None:
    model, addend = addition(), torch.full((20,), 2.0)
    image = model(x, addend)
    for target in (x, x.flip(0)):  # it needs none, and none changes what is drawn
        torch.testing.assert_close(image, model.training_pass(x, addend, target).y_hat)


def test_noise_samples_the_codes_that_are_decoded_and_not_the_target(x: Tensor) -> None:
    model, addend = generative(), torch.ones(10)
    noise = torch.randn(10, 14)
    with torch.no_grad():
        out = model.training_pass(x[:10], addend, x[10:], noise)
        q_x, q_y = model.encoder.gaussian(x[:10]), model.encoder.gaussian(x[10:])
        z = q_x.sample(noise[:, :7])
        p = model.adder.gaussian(z, addend)
        z_sum = p.sample(noise[:, 7:])
        for mine, theirs in ((out.q_x, q_x), (out.q_y, q_y), (out.p_sum, p)):
            torch.testing.assert_close(tuple(mine), tuple(theirs))
        torch.testing.assert_close(out.z_target, q_y.mu)
        torch.testing.assert_close(out.z_sum, z_sum)
        torch.testing.assert_close(out.x_logits, model.decoder.logits(z))
        torch.testing.assert_close(out.y_logits, model.decoder.logits(z_sum))


def test_a_sample_at_temperature_0_is_the_mean(x: Tensor) -> None:
    model, x, addend = generative(), x[:6], torch.arange(6.0)
    with torch.no_grad():
        at_mean = model(x, addend)
    torch.testing.assert_close(model.sample(x, addend, temperature=0), at_mean)
    a, b, c = (
        model.sample(x, addend, generator=torch.Generator().manual_seed(s)) for s in (1, 1, 2)
    )
    assert torch.equal(a, b)
    assert not torch.equal(a, c)


def test_models_without_distributions_sample_their_only_answer(x: Tensor) -> None:
    model, addend = addition(), torch.ones(20)
    with torch.no_grad():
        torch.testing.assert_close(model.sample(x, addend), model(x, addend))
    assert not model.stochastic
    for parts in ((GaussianEncoder(), Adder()), (Encoder(), GaussianAdder())):
        assert AdditionModel(*parts, DecoderConvTranspose()).stochastic


def test_samples_have_the_mean_and_spread_of_the_distribution() -> None:
    g = Gaussian(torch.tensor([[1.0, -2.0]]), torch.tensor([[0.0, 2.0]]))
    drawn = g.sample(torch.randn(200_000, 2))
    torch.testing.assert_close(drawn.mean(0), g.mu[0], atol=0.02, rtol=0)
    torch.testing.assert_close(drawn.std(0), torch.exp(0.5 * g.logvar[0]), atol=0.02, rtol=0)


def test_gradients_reach_both_heads_through_the_sample() -> None:
    encoder = GaussianEncoder(3)
    encoder.gaussian(torch.rand(4, 1, 28, 28)).sample(torch.randn(4, 3)).sum().backward()
    assert encoder.code.weight.grad.abs().sum() > 0
    assert encoder.logvar.weight.grad.abs().sum() > 0


def test_adder_sees_the_addend() -> None:
    adder, z = Adder(), torch.randn(3, 7)
    by_hand = torch.cat([z, torch.tensor([[1.0], [1.5], [9.0]])], dim=1)
    torch.testing.assert_close(adder(z, torch.tensor([1.0, 1.5, 9.0])), adder.layers(by_hand))
    assert not torch.equal(adder(z, torch.zeros(3)), adder(z, torch.ones(3)))


def test_an_embedded_addend_and_relu_are_options(x: Tensor) -> None:
    plain, embedded = Adder(), Adder(embed_addend=True)
    assert [adder.layers[0].in_features for adder in (plain, embedded)] == [8, 14]
    assert embedded(torch.randn(3, 7), torch.tensor([0.0, 1.5, 9.0])).shape == (3, 7)
    encoder = Encoder(activation="relu")
    a, b = encoder.features(x[:2])
    ends = encoder.hidden(torch.stack([a, b])).mean(0)
    assert not torch.allclose(encoder.hidden((a + b) / 2), ends)  # no longer linear


def test_a_study_may_change_widths() -> None:
    """Both parts have them as class attributes; E and the mirrored D, counted by hand."""
    narrow = {"channels": (8, 16, 32), "units": 64}
    encoder = type("Narrow", (Encoder,), narrow)(10)
    convolutions = 9 * 8 + 8 + 9 * 8 * 16 + 16 + 9 * 16 * 32 + 32
    assert parameter_count(encoder) == convolutions + 9 * 32 * 64 + 64 + 64 * 10 + 10
    mirrored = 9 * 32 * 16 + 16 + 9 * 16 * 8 + 8 + 9 * 8 + 1
    linear = 10 * 64 + 64 + 64 * 49 * 32 + 49 * 32
    for kind in DECODERS.values():
        decoder = type("Narrow", (kind,), narrow)(10)
        assert parameter_count(decoder) == linear + mirrored
        assert Autoencoder(encoder, decoder)(torch.rand(3, 1, 28, 28)).shape == (3, 1, 28, 28)


@pytest.mark.parametrize("activation", ["linear", "relu"])
def test_initial_weights_are_drawn_in_the_order_they_always_were(activation: str) -> None:
    """So that a seed means the same in every version, and kept runs can be trained again."""
    torch.manual_seed(4)
    sizes = [(1, 32), (32, 64), (64, 128)]
    layers = [nn.Conv2d(i, o, 3) for i, o in sizes]
    layers += [nn.Linear(1152, 256), nn.Linear(256, 7), nn.Linear(7, 256), nn.Linear(256, 6272)]
    layers += [nn.ConvTranspose2d(o, i, 3) for i, o in reversed(sizes)]
    expected = [parameter for layer in layers for parameter in layer.parameters()]
    config = RunConfig((Stage("autoencoder", 1),), seed=4, activation=activation)
    found = list(build_model(config).parameters())
    assert len(found) == len(expected)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_unpooling_needs_what_the_code_does_not_hold(x: Tensor) -> None:
    """Two images with equal pooled values, hence equal codes, that unpooling tells apart.

    So a decoder with the encoder's indices is told more than the code, and the image of a sum,
    which no encoder has seen, has no indices at all.
    """
    blocks = F.pixel_unshuffle(x, 2)  # [B, 4, 14, 14], the four places of each window
    moved = F.pixel_shuffle(blocks.flip(1), 2)
    pooled, indices = F.max_pool2d(x, 2, return_indices=True)
    moved_pooled, moved_indices = F.max_pool2d(moved, 2, return_indices=True)
    assert torch.equal(pooled, moved_pooled)
    unpooled = F.max_unpool2d(pooled, indices, 2)
    assert not torch.equal(unpooled, F.max_unpool2d(pooled, moved_indices, 2))
    others = F.max_pool2d(x.flip(0), 2, return_indices=True)[1]
    assert not torch.equal(unpooled, F.max_unpool2d(pooled, others, 2))


# Bad input


@given(st.one_of(st.integers(max_value=0), st.integers(min_value=129)))
@settings(max_examples=20, deadline=None)
def test_code_size_out_of_range_is_refused(code_size: int) -> None:
    for kind in (Encoder, Adder, *DECODERS.values()):
        with pytest.raises(ValueError, match=rf"code_size.*{code_size}.*1 to 128"):
            kind(code_size)


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


def test_unknown_activation_and_interpolation_are_refused() -> None:
    with pytest.raises(ValueError, match=r"activation is 'tanh'.*linear.*relu"):
        Encoder(activation="tanh")
    with pytest.raises(ValueError, match=r"mode is 'bicubic'.*nearest.*bilinear"):
        DecoderInterpolation(mode="bicubic")


@pytest.mark.parametrize(
    "shape", [(28, 28), (1, 28, 28), (4, 28, 28, 1), (4, 3, 28, 28), (4, 1, 32, 32)]
)
def test_wrong_image_shapes_are_refused(shape: tuple[int, ...]) -> None:
    x = torch.zeros(shape)
    for encode in (Encoder(), GaussianEncoder().gaussian):
        with pytest.raises(ValueError, match=r"x .*1, 28, 28"):
            encode(x)


@pytest.mark.parametrize("shape", [(7,), (4, 6), (4, 8), (4, 7, 1)])
def test_wrong_code_shapes_are_refused(shape: tuple[int, ...]) -> None:
    z = torch.zeros(shape)
    for network in (DecoderConvTranspose(), DecoderInterpolation()):
        with pytest.raises(ValueError, match=r"z is of shape.*7"):
            network(z)
    with pytest.raises(ValueError, match=r"z is of shape.*7"):
        Adder()(z, torch.zeros(4))


@pytest.mark.parametrize("shape", [(), (1,), (5,), (4, 1)])
def test_wrong_addend_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="addend is of shape"):
        Adder()(torch.zeros(4, 7), torch.zeros(shape))
