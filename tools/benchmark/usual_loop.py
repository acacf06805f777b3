"""The usual loop of coursework: torchvision's data set behind a ``DataLoader``, in float32.

``ToTensor`` makes an image of each digit anew. For the addition model the data set picks, for every
digit, a valid addend and some image of the sum.
"""

import random
from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision.datasets import MNIST
from torchvision.transforms import ToTensor

from learn2add.config import RunConfig
from learn2add.data import Digits
from learn2add.hardware import default_device
from learn2add.network import parameter_count
from learn2add.train import build_model
from tools.benchmark.contenders import USUAL, OurLoop
from tools.benchmark.networks import training_digits, usual_loss


class UsualDigits(MNIST):
    """torchvision's data set over digits already in memory, so that it needs no files.

    Each image becomes a PIL image, then a float32 tensor ``[1, 28, 28]`` in [0, 1].
    """

    def __init__(self, digits: Digits) -> None:
        self.data, self.targets = digits.images, digits.labels
        self.transform, self.target_transform = ToTensor(), None


class UsualSums(UsualDigits):
    """For every digit a random valid addend and a random image of the sum.

    An item is ``(x, addend, y)``: float32 ``[1, 28, 28]``, a number, ``[1, 28, 28]``.
    """

    def __init__(self, digits: Digits) -> None:
        super().__init__(digits)
        self.of_digit = [members.tolist() for members in digits.by_class()]

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, Tensor]:
        x, digit = super().__getitem__(index)
        addend = random.randint(0, 9 - digit)
        y, _ = super().__getitem__(random.choice(self.of_digit[digit + addend]))
        return x, torch.tensor(float(addend)), y


def usual_loader(config: RunConfig) -> DataLoader:
    """Return the usual data set for that network, shuffled and in batches."""
    torch.manual_seed(config.seed)
    random.seed(config.seed)
    data = (UsualSums if config.adds else UsualDigits)(training_digits(config))
    return DataLoader(data, batch_size=config.stages[0].batch_size, shuffle=True)


class UsualLoop:
    """The contender to beat."""

    library = USUAL

    def __init__(self, config: RunConfig) -> None:
        self.config, self.device = config, default_device()
        self.model = build_model(config).to(self.device)
        self.parameters = parameter_count(self.model)
        self.loader = usual_loader(config)

    draw = OurLoop.draw

    def fit(self, epochs: int, step_ended: Callable[[int], None]) -> None:
        """See ``serving.Loop``."""
        self.model.train()
        rate = self.config.stages[0].learning_rate
        optimiser, total = torch.optim.Adam(self.model.parameters(), lr=rate), 0.0
        for _ in range(epochs):
            for batch in self.loader:
                batch = [part.to(self.device) for part in batch]
                loss = usual_loss(self.config, self.model, batch)
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                total += loss.item()
                step_ended(len(batch[0]))
