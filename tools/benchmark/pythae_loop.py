"""This project's encoder and decoder in pythae's ``AE``, trained by its ``BaseTrainer``, float32.

Its loss is the same: squared error, summed over pixels, averaged over the batch. Its data are float
images in memory behind its own ``DataLoader``. It has no model with an adder.
"""

import logging
import tempfile
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

from pythae.data.datasets import BaseDataset
from pythae.models import AE, AEConfig
from pythae.models.base.base_utils import ModelOutput
from pythae.models.nn import BaseDecoder, BaseEncoder
from pythae.trainers import BaseTrainer, BaseTrainerConfig
from pythae.trainers.training_callbacks import TrainingCallback
from torch import Tensor, nn

from learn2add.config import RunConfig
from learn2add.data import as_float
from learn2add.network import parameter_count
from learn2add.train import build_model
from tools.benchmark.networks import training_digits

logging.getLogger("pythae").setLevel(logging.ERROR)


class OurEncoder(BaseEncoder):
    """This project's encoder as pythae wants it."""

    def __init__(self, part: nn.Module) -> None:
        super().__init__()
        self.part, self.images = part, 0

    def forward(self, x: Tensor) -> ModelOutput:
        """Return the codes."""
        self.images = len(x)  # the callback is not told
        return ModelOutput(embedding=self.part(x))


class OurDecoder(BaseDecoder):
    """This project's decoder as pythae wants it."""

    def __init__(self, part: nn.Module) -> None:
        super().__init__()
        self.part = part

    def forward(self, z: Tensor) -> ModelOutput:
        """Return the images."""
        return ModelOutput(reconstruction=self.part(z))


class AfterStep(TrainingCallback):
    """Passes on that a step ended."""

    def __init__(self, step_ended: Callable[[], None]) -> None:
        self.step_ended = step_ended

    def on_train_step_end(self, training_config: Any, **others: Any) -> None:
        """Tell it."""
        self.step_ended()


class Loop:
    """See ``serving.Loop``."""

    library = f"pythae {version('pythae')}"

    def __init__(self, config: RunConfig) -> None:
        shape = (1, config.image_size, config.image_size)
        described = AEConfig(input_dim=shape, latent_dim=config.code_size)
        self.config, model = config, build_model(config)
        self.encoder = OurEncoder(model.encoder)
        self.network = AE(described, self.encoder, OurDecoder(model.decoder))
        self.parameters = parameter_count(self.network)

    def draw(self, x: Tensor) -> Tensor:
        """See ``serving.Loop``."""
        self.network.to(x.device).eval()
        return self.network({"data": x}).recon_x

    def fit(self, epochs: int, step_ended: Callable[[int], None]) -> None:
        """See ``serving.Loop``."""
        digits, stage = training_digits(self.config), self.config.stages[0]
        data = BaseDataset(as_float(digits.images), digits.labels)
        with tempfile.TemporaryDirectory() as folder:  # it saves its model there at the end
            how = BaseTrainerConfig(
                output_dir=folder,
                num_epochs=epochs,
                per_device_train_batch_size=stage.batch_size,
                learning_rate=stage.learning_rate,
                seed=self.config.seed,
            )
            after = AfterStep(lambda: step_ended(self.encoder.images))
            BaseTrainer(self.network, data, training_config=how, callbacks=[after]).train()
