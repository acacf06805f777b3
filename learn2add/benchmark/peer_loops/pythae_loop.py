"""This project's encoder and decoder in pythae's ``AE``, trained by its ``BaseTrainer``, float32.

Its loss is the same: squared error, summed over pixels, averaged over the batch. Its data are float
pictures in memory behind its own ``DataLoader``. It has no model with an adder.
"""

import logging
import tempfile
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

from torch import Tensor, nn

from learn2add.benchmark.networks import parameters, training_digits
from learn2add.benchmark.peer_loops.serving import Loop
from learn2add.configs import RunConfig
from learn2add.data import as_float
from learn2add.training import build_model


def make_loop(config: RunConfig) -> Loop:
    """The loop of that configuration.

    Raises:
        ModuleNotFoundError: The library is not installed.
    """
    from pythae.data.datasets import BaseDataset
    from pythae.models import AE, AEConfig
    from pythae.trainers import BaseTrainer, BaseTrainerConfig
    from pythae.trainers.training_callbacks import TrainingCallback

    logging.getLogger("pythae").setLevel(logging.ERROR)

    class AfterStep(TrainingCallback):
        def __init__(self, step_ended: Callable[[], None]) -> None:
            self.step_ended = step_ended

        def on_train_step_end(self, training_config: Any, **others: Any) -> None:
            self.step_ended()

    class PythaeLoop:
        library = f"pythae {version('pythae')}"

        def __init__(self) -> None:
            shape = (1, config.image_size, config.image_size)
            described = AEConfig(input_dim=shape, latent_dim=config.code_size)
            model = build_model(config)
            self.encoder = _encoder(model.encoder)
            self.network = AE(described, self.encoder, _decoder(model.decoder))
            self.parameters = parameters(self.network)

        def draw(self, x: Tensor) -> Tensor:
            self.network.to(x.device).eval()
            return self.network({"data": x}).recon_x

        def fit(self, epochs: int, step_ended: Callable[[int], None]) -> None:
            digits, stage = training_digits(config), config.stages[0]
            data = BaseDataset(as_float(digits.images), digits.labels)
            with tempfile.TemporaryDirectory() as folder:  # it saves its model there at the end
                how = BaseTrainerConfig(
                    output_dir=folder,
                    num_epochs=epochs,
                    per_device_train_batch_size=stage.batch_size,
                    learning_rate=stage.learning_rate,
                    seed=config.seed,
                )
                after = AfterStep(lambda: step_ended(self.encoder.pictures))
                BaseTrainer(self.network, data, training_config=how, callbacks=[after]).train()

    return PythaeLoop()


def _encoder(part: nn.Module) -> nn.Module:
    """This project's encoder as pythae wants it."""
    from pythae.models.base.base_utils import ModelOutput
    from pythae.models.nn import BaseEncoder

    class OurEncoder(BaseEncoder):
        def __init__(self) -> None:
            super().__init__()
            self.part, self.pictures = part, 0

        def forward(self, x: Tensor) -> ModelOutput:
            self.pictures = len(x)  # its callback is not told
            return ModelOutput(embedding=self.part(x))

    return OurEncoder()


def _decoder(part: nn.Module) -> nn.Module:
    """This project's decoder as pythae wants it."""
    from pythae.models.base.base_utils import ModelOutput
    from pythae.models.nn import BaseDecoder

    class OurDecoder(BaseDecoder):
        def __init__(self) -> None:
            super().__init__()
            self.part = part

        def forward(self, z: Tensor) -> ModelOutput:
            return ModelOutput(reconstruction=self.part(z))

    return OurDecoder()
