"""The usual data and this project's network under Lightning's ``Trainer``, in float32.

What costs time and is no part of the comparison is off: logging, checkpoints, progress bar.
"""

import logging
import warnings
from collections.abc import Callable
from typing import Any

import lightning
import torch
from torch import Tensor

from learn2add.config import RunConfig
from learn2add.hardware import default_device
from learn2add.network import parameter_count
from learn2add.train import build_model
from tools.benchmark.networks import usual_loss
from tools.benchmark.usual_loop import usual_loader

logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
warnings.simplefilter("ignore")


class Network(lightning.LightningModule):
    """The network and its loss, as Lightning wants them."""

    def __init__(self, config: RunConfig) -> None:
        super().__init__()
        self.config, self.model = config, build_model(config)

    def training_step(self, batch: list[Tensor], index: int) -> Tensor:
        """Return the loss."""
        return usual_loss(self.config, self.model, batch)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return Adam."""
        return torch.optim.Adam(self.parameters(), lr=self.config.stages[0].learning_rate)


class AfterStep(lightning.Callback):
    """Passes on that a step ended."""

    def __init__(self, step_ended: Callable[[int], None]) -> None:
        self.step_ended = step_ended

    def on_train_batch_end(
        self, trainer: Any, module: Any, outputs: Any, batch: list[Tensor], index: int
    ) -> None:
        """Tell how many images the step took."""
        self.step_ended(len(batch[0]))


class Loop:
    """See ``serving.Loop``."""

    library = f"lightning {lightning.__version__}"

    def __init__(self, config: RunConfig) -> None:
        self.network, self.loader = Network(config), usual_loader(config)
        self.parameters = parameter_count(self.network)

    def draw(self, *inputs: Tensor) -> Tensor:
        """See ``serving.Loop``."""
        return self.network.to(default_device()).model.eval()(*inputs)

    def fit(self, epochs: int, step_ended: Callable[[int], None]) -> None:
        """See ``serving.Loop``."""
        self.network.train()
        off = ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary")
        options = {"devices": 1, "precision": "32-true"} | dict.fromkeys(off, False)
        trainer = lightning.Trainer(max_epochs=epochs, callbacks=[AfterStep(step_ended)], **options)
        trainer.fit(self.network, self.loader)
