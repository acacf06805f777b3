"""The usual data and this project's network under Lightning's ``Trainer``, in float32.

What costs time and is no part of the comparison is off: logging, checkpoints, progress bar.
"""

import logging
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from learn2add.benchmark.contenders import usual_loader
from learn2add.benchmark.networks import drawn_by, parameters, usual_loss
from learn2add.benchmark.peer_loops.serving import Loop
from learn2add.configs import RunConfig
from learn2add.hardware import default_device
from learn2add.training import build_model


def make_loop(config: RunConfig) -> Loop:
    """The loop of that configuration.

    Raises:
        ModuleNotFoundError: The library is not installed.
    """
    import lightning

    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")

    class Network(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.model = build_model(config)

        def training_step(self, batch: list[Tensor], index: int) -> Tensor:
            return usual_loss(config, self.model, batch)

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.Adam(self.parameters(), lr=config.stages[0].learning_rate)

    class AfterStep(lightning.Callback):
        def __init__(self, step_ended: Callable[[int], None]) -> None:
            self.step_ended = step_ended

        def on_train_batch_end(
            self, trainer: Any, module: Any, outputs: Any, batch: list[Tensor], index: int
        ) -> None:
            self.step_ended(len(batch[0]))

    class LightningLoop:
        library = f"lightning {lightning.__version__}"

        def __init__(self) -> None:
            self.network, self.loader = Network(), usual_loader(config)
            self.parameters = parameters(self.network)

        def draw(self, *inputs: Tensor) -> Tensor:
            self.network.to(default_device())
            return drawn_by(self.network.model.eval())(*inputs)

        def fit(self, epochs: int, step_ended: Callable[[int], None]) -> None:
            self.network.train()
            trainer = lightning.Trainer(
                max_epochs=epochs,
                devices=1,
                precision="32-true",
                logger=False,
                enable_checkpointing=False,
                enable_progress_bar=False,
                enable_model_summary=False,
                callbacks=[AfterStep(step_ended)],
            )
            trainer.fit(self.network, self.loader)

    return LightningLoop()
