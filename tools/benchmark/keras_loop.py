"""The same networks written in Keras 3 and trained by its ``fit``, on its torch backend, float32.

The torch backend needs nothing besides Keras itself. With this project's first weights the
untrained network draws the same images. Data are float arrays in memory, as Keras's own examples
have them, which spares it the usual data set's work per image.
"""

import os
from collections.abc import Callable
from typing import Any

import numpy as np
from torch import Tensor, nn

from learn2add.config import RunConfig
from learn2add.data import as_float
from learn2add.train import build_model
from tools.benchmark.networks import training_digits

os.environ["KERAS_BACKEND"] = "torch"
import keras  # noqa: E402
from keras import layers, ops  # noqa: E402

keras.config.set_image_data_format("channels_first")  # torch's own order
CHANNELS, UNITS = (32, 64, 128), 256  # as in learn2add.network


class Loop:
    """See ``serving.Loop``."""

    library = f"keras {keras.__version__} on {keras.config.backend()}"

    def __init__(self, config: RunConfig) -> None:
        keras.utils.set_random_seed(config.seed)
        self.config, ours, own = config, build_model(config), config.weights
        self.encoder, self.decoder = _encoder(config), _decoder(config)
        self.adder = _adder(config) if config.adds else None
        parts = {"encoder": self.encoder, "adder": self.adder, "decoder": self.decoder}
        for name, part in parts.items():
            if part is not None:
                part.set_weights(as_keras(getattr(ours, name)))
        x, y = (keras.Input(self.encoder.input_shape[1:]) for _ in range(2))
        z, addend, weights = self.encoder(x), keras.Input((1,)), [1.0]
        if self.adder is None:
            self.network = keras.Model(x, self.decoder(z))
        else:  # reconstruction, image of the sum, and difference of the two codes of the sum
            z_sum, weights = self.adder([z, addend]), [own.l2_orig, own.l2_added, own.code]
            gap = layers.Subtract()([z_sum, self.encoder(y)])
            outputs = [self.decoder(z), self.decoder(z_sum), gap]
            self.network = keras.Model([x, addend, y], outputs)
        self.network.compile(
            keras.optimizers.Adam(config.stages[0].learning_rate),
            loss=[summed_squares] * len(weights),
            loss_weights=weights,
        )
        self.parameters = self.network.count_params()

    def draw(self, x: Tensor, addend: Tensor | None = None) -> Tensor:
        """See ``serving.Loop``."""
        z = self.encoder(x)
        return self.decoder(z if addend is None else self.adder([z, addend[:, None]]))

    def fit(self, epochs: int, step_ended: Callable[[int], None]) -> None:
        """See ``serving.Loop``."""
        digits, size = training_digits(self.config), self.config.stages[0].batch_size
        images = as_float(digits.images).numpy()

        def ended(batch: int, logs: Any) -> None:
            step_ended(min(size, len(images) - batch * size))

        after = keras.callbacks.LambdaCallback(on_train_batch_end=ended)
        options = {"epochs": epochs, "verbose": 0, "callbacks": [after]}
        if self.adder is None:
            self.network.fit(images, images, batch_size=size, **options)
        else:
            sums = Sums(images, digits.labels.numpy(), self.config)
            self.network.fit(sums, shuffle=False, **options)  # the data set shuffles itself


def summed_squares(y: Any, y_hat: Any) -> Any:
    """Return the squared error of each item, summed; Keras averages over the batch."""
    return ops.sum(ops.square(y - y_hat), axis=tuple(range(1, len(y.shape))))


def as_keras(part: nn.Module) -> list[np.ndarray]:
    """Return a part's parameters in their order, laid out as Keras has them.

    Keras has a dense layer's as ``[in, out]``, a convolution's as ``[height, width, ...]`` with the
    two numbers of channels the other way round; biases are alike.
    """
    orders = {1: (0,), 2: (1, 0), 4: (2, 3, 1, 0)}
    return [p.detach().permute(orders[p.dim()]).numpy() for p in part.parameters()]


def _encoder(config: RunConfig) -> Any:
    h = x = keras.Input((1, config.image_size, config.image_size))
    for filters in CHANNELS:
        h = layers.Conv2D(filters, 3, padding="same")(h)
        h = layers.ReLU()(layers.MaxPooling2D(2)(h))
    h = layers.Flatten("channels_last")(h)  # as it is: "channels_first" would move them last
    h = layers.Dense(UNITS)(h)
    return keras.Model(x, layers.Dense(config.code_size)(h))


def _decoder(config: RunConfig) -> Any:
    side, look = config.image_size // 4, {"padding": "same", "activation": "relu"}
    z = keras.Input((config.code_size,))
    h = layers.Dense(UNITS, activation="relu")(z)
    h = layers.Dense(CHANNELS[2] * side**2, activation="relu")(h)
    h = layers.Reshape((CHANNELS[2], side, side))(h)
    last = {"padding": "same", "activation": "sigmoid"}
    if config.decoder == "conv_transpose":
        for filters in (CHANNELS[1], CHANNELS[0]):
            h = layers.Conv2DTranspose(filters, 3, strides=2)(h)  # a row and a column too many
            h = layers.ReLU()(layers.Cropping2D(((1, 0), (1, 0)))(h))  # "same" cuts the other end
        return keras.Model(z, layers.Conv2DTranspose(1, 3, **last)(h))
    for filters in (CHANNELS[1], CHANNELS[0]):
        h = layers.Conv2D(filters, 3, **look)(layers.UpSampling2D(2)(h))
    return keras.Model(z, layers.Conv2D(1, 3, **last)(h))


def _adder(config: RunConfig) -> Any:
    z, addend = keras.Input((config.code_size,)), keras.Input((1,))
    h = layers.Concatenate()([z, addend])
    for units in (32, 16, 16):
        h = layers.Dense(units, activation="relu")(h)
    return keras.Model([z, addend], layers.Dense(config.code_size)(h))


class Sums(keras.utils.PyDataset):
    """Batches of images, random valid addends and random images of the sums, in arrays."""

    def __init__(self, images: np.ndarray, labels: np.ndarray, config: RunConfig) -> None:
        super().__init__()
        self.images, self.labels, self.code_size = images, labels, config.code_size
        self.batch_size = config.stages[0].batch_size
        self.random = np.random.default_rng(config.seed)
        self.of_digit = [np.flatnonzero(labels == digit) for digit in range(10)]
        self.on_epoch_end()

    def on_epoch_end(self) -> None:
        """Shuffle."""
        self.order = self.random.permutation(len(self.images))

    def __len__(self) -> int:
        return -(-len(self.images) // self.batch_size)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        at = self.order[index * self.batch_size : (index + 1) * self.batch_size]
        addend = self.random.integers(0, 10 - self.labels[at])
        sums = self.labels[at] + addend
        y = self.images[[self.random.choice(self.of_digit[total]) for total in sums]]
        x, addend = self.images[at], addend[:, None].astype(np.float32)
        return (x, addend, y), (x, y, np.zeros((len(at), self.code_size), np.float32))
