"""The same networks written in Keras 3 and trained by its ``fit``, on its torch backend, float32.

The torch backend needs nothing besides Keras itself. With this project's first weights the
untrained network draws the same pictures. Data are float arrays in memory, as Keras's own examples
have them, which spares it the usual data set's work per picture.
"""

import os
from collections.abc import Callable
from typing import Any

import numpy as np
from torch import Tensor, nn

from learn2add.benchmark.networks import training_digits
from learn2add.benchmark.peer_loops.serving import Loop
from learn2add.capacity import CHANNELS, UNITS
from learn2add.configs import RunConfig
from learn2add.data import as_float
from learn2add.training import build_model


def make_loop(config: RunConfig) -> Loop:
    """The loop of that configuration.

    Raises:
        ModuleNotFoundError: The library is not installed.
    """
    os.environ["KERAS_BACKEND"] = "torch"
    import keras

    keras.config.set_image_data_format("channels_first")  # torch's own order
    keras.utils.set_random_seed(config.seed)
    return KerasLoop(config)


class KerasLoop:
    """See the module's head."""

    def __init__(self, config: RunConfig) -> None:
        import keras

        self.config = config
        self.library = f"keras {keras.__version__} on {keras.config.backend()}"
        ours = build_model(config)
        self.encoder, self.decoder = _encoder(config), _decoder(config)
        self.adder = _adder(config) if config.kind.adder else None
        parts = {"encoder": self.encoder, "adder": self.adder, "decoder": self.decoder}
        for name, part in parts.items():
            if part is not None:
                part.set_weights(as_keras(getattr(ours, name)))
        self.network = self._autoencoder() if self.adder is None else self._addition()
        weights = [1.0] if self.adder is None else [config.l2_orig, config.l2_added, config.code]
        self.network.compile(
            keras.optimizers.Adam(config.stages[0].learning_rate),
            loss=[summed_squares] * len(weights),
            loss_weights=weights,
        )
        self.parameters = self.network.count_params()

    def _autoencoder(self) -> Any:
        import keras

        x = keras.Input(self.encoder.input_shape[1:])
        return keras.Model(x, self.decoder(self.encoder(x)))

    def _addition(self) -> Any:
        """Reconstruction, picture of the sum, and difference of the two codes of the sum."""
        import keras

        x, y = (keras.Input(self.encoder.input_shape[1:]) for _ in range(2))
        addend = keras.Input((1,))
        z = self.encoder(x)
        z_sum = self.adder([z, addend])
        gap = keras.layers.Subtract()([z_sum, self.encoder(y)])
        return keras.Model([x, addend, y], [self.decoder(z), self.decoder(z_sum), gap])

    def draw(self, x: Tensor, addend: Tensor | None = None) -> Tensor:
        """See :class:`learn2add.benchmark.peer_loops.serving.Loop`."""
        z = self.encoder(x)
        return self.decoder(z if addend is None else self.adder([z, addend[:, None]]))

    def fit(self, epochs: int, step_ended: Callable[[int], None]) -> None:
        """See :class:`learn2add.benchmark.peer_loops.serving.Loop`."""
        import keras

        digits, size = training_digits(self.config), self.config.stages[0].batch_size
        pictures = as_float(digits.images).numpy()

        class AfterStep(keras.callbacks.Callback):
            def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
                step_ended(min(size, len(pictures) - batch * size))

        options = {"epochs": epochs, "verbose": 0, "callbacks": [AfterStep()]}
        if self.adder is None:
            self.network.fit(pictures, pictures, batch_size=size, **options)
        else:
            sums = _sums(pictures, digits.labels.numpy(), self.config)
            self.network.fit(sums, shuffle=False, **options)  # the data set shuffles itself


def summed_squares(y: Any, y_hat: Any) -> Any:
    """Squared error of each item, summed; Keras averages over the batch."""
    from keras import ops

    return ops.sum(ops.square(y - y_hat), axis=tuple(range(1, len(y.shape))))


def as_keras(part: nn.Module) -> list[np.ndarray]:
    """A part's weights, its parameters in their order, laid out as Keras has them.

    Keras has a dense layer's as ``[in, out]``, a convolution's as ``[height, width, ...]`` with the
    two numbers of channels the other way round; biases are alike.
    """
    orders = {1: (0,), 2: (1, 0), 4: (2, 3, 1, 0)}
    return [p.detach().permute(orders[p.dim()]).numpy() for p in part.parameters()]


def _encoder(config: RunConfig) -> Any:
    import keras
    from keras import layers

    h = x = keras.Input((1, config.image_size, config.image_size))
    for filters in CHANNELS:
        h = layers.Conv2D(filters, 3, padding="same")(h)
        h = layers.ReLU()(layers.MaxPooling2D(2)(h))
    h = layers.Flatten("channels_last")(h)  # as it is: "channels_first" would move them last
    h = layers.Dense(UNITS)(h)
    return keras.Model(x, layers.Dense(config.code_size)(h))


def _decoder(config: RunConfig) -> Any:
    import keras
    from keras import layers

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
    import keras
    from keras import layers

    z, addend = keras.Input((config.code_size,)), keras.Input((1,))
    h = layers.Concatenate()([z, addend])
    for units in (32, 16, 16):
        h = layers.Dense(units, activation="relu")(h)
    return keras.Model([z, addend], layers.Dense(config.code_size)(h))


def _sums(pictures: np.ndarray, labels: np.ndarray, config: RunConfig) -> Any:
    """Batches of pictures, random valid addends and random pictures of the sums, in arrays."""
    import keras

    class Sums(keras.utils.PyDataset):
        def __init__(self) -> None:
            super().__init__()
            self.random = np.random.default_rng(config.seed)
            self.of_digit = [np.flatnonzero(labels == digit) for digit in range(10)]
            self.on_epoch_end()

        def on_epoch_end(self) -> None:
            self.order = self.random.permutation(len(pictures))

        def __len__(self) -> int:
            return -(-len(pictures) // config.stages[0].batch_size)

        def __getitem__(self, index: int) -> tuple[Any, Any]:
            size = config.stages[0].batch_size
            at = self.order[index * size : (index + 1) * size]
            addend = self.random.integers(0, 10 - labels[at])
            y = pictures[[self.random.choice(self.of_digit[s]) for s in labels[at] + addend]]
            x, addend = pictures[at], addend[:, None].astype(np.float32)
            return (x, addend, y), (x, y, np.zeros((len(at), config.code_size), np.float32))

    return Sums()
