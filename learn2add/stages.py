"""One phase of a training, as a frozen dataclass."""

import math
from dataclasses import dataclass

from learn2add.checks import check_choice, check_finite, check_int

TASKS = ("autoencoder", "adder", "addition", "auto_decoder")
BALANCES = ("natural", "sums", "cells", "digits", "mixed")


@dataclass(frozen=True)
class Stage:
    """One phase of a training: which parts learn, from what, for how long.

    A run of the assignment is one stage. A staged recipe trains the autoencoder first, then the
    adder alone on its codes, then everything jointly.
    """

    task: str
    """"autoencoder" (E and D), "adder" (P alone, on cached codes), "addition" (E, P, D) or
    "auto_decoder" (D and the table of codes)."""
    epochs: int
    """How often the figures are taken and a checkpoint is written."""
    steps: int | None = None
    """Optimiser steps per epoch; None is one pass over the data (for pairs: all of them)."""
    batch_size: int = 128
    """Pictures (autoencoder) or pairs per step."""
    learning_rate: float = 1e-3
    """Adam's learning rate, or its peak under "one_cycle"."""
    schedule: str = "constant"
    """"constant" (the assignment's) or "one_cycle": up, then down to 0, as cosines."""
    loss: str = "l2"
    """Picture loss, "l2" or "bce"."""
    balance: str = "natural"
    """How pairs are drawn; see :class:`learn2add.pairs.AdditionPairs`."""
    partners: str = "drawn"
    """"drawn": each pair is one input and one partner. "batch": see
    :class:`learn2add.pairs.BatchPartners`; ``batch_size`` then counts pictures."""
    optimiser: str = "adam"
    """"adam" (the assignment's), or "muon" for the large weight matrices and Adam for the rest; see
    :mod:`learn2add.optimisers`."""
    beta2: float = 0.999
    """Adam's decay rate of the squared gradients. 0.999 is usual; a short training gains by 0.99,
    which forgets the large first gradients sooner."""
    weight_decay: float = 0.0
    """Adam's: that many times a weight is added to its gradient (L2 regularisation, as the reports
    have it; not decoupled as in AdamW). The loss is a sum over pixels: a report's decay beside a
    mean over pixels is as strong here when multiplied by their number, 784."""
    momentum: float = 0.95
    """Muon's share of the former mean of gradients. 0.95 is usual; one pass gains by 0.9."""
    rise: float = 0.3
    """Share of the steps in which a "one_cycle" rate goes up."""
    shift: int = 0
    """Training pictures are moved by up to this many pixels each way, anew every time."""
    deform: float = 0.0
    """Strength of the small deformations of training pictures, made anew every time; 1 is a usual
    one. See :func:`learn2add.augmentation.deformed`."""
    noise: float = 0.0
    """The autoencoder's stage only: the encoder is shown pictures with normal noise of up to this
    standard deviation, and the clean ones are to be redrawn. See
    :func:`learn2add.corruptions.corrupted`."""
    occlude: int = 0
    """Likewise: side of the largest square that is blacked out of the pictures shown."""
    distort: float = 0.0
    """Likewise: strength of deformations of the pictures shown, which are to be undone. The
    decoder cannot know how the picture lay before, so the code has no use for how it lies."""
    starts: int = 1
    """The adder's stage only: so many adders learn side by side, each from first weights of its
    own, and the best on validation stays. Needs ``epochs`` 1. See
    :mod:`learn2add.side_by_side`."""
    addend_noise: float = 0.0
    """Standard deviation of normal noise on the addends of training pairs."""
    reconstruct_every: int = 4
    """With partners "batch", the reconstruction is taken from one picture in so many."""
    code_rate: float = 1.0
    """The auto-decoder's stage only: learning rate of the codes over that of the weights."""
    fit_steps: int = 20
    """Likewise: Adam's steps, of 0.05, that find the codes of the validation pictures."""
    patience: int | None = None
    """Stop after this many epochs without a better validation figure; None never stops early."""

    def __post_init__(self) -> None:
        check_choice("task", self.task, TASKS)
        check_int("epochs", self.epochs, 1, 100_000)
        check_int("batch_size", self.batch_size, 1, 60_000)
        for name in ("steps", "patience"):
            if getattr(self, name) is not None:
                check_int(name, getattr(self, name), 1, 10_000_000)
        check_finite("learning_rate", self.learning_rate)
        if self.learning_rate <= 0:
            raise ValueError(f"learning_rate is {self.learning_rate}; allowed is above 0")
        check_int("shift", self.shift, 0, 8)
        check_int("occlude", self.occlude, 0, 28)
        check_int("fit_steps", self.fit_steps, 1, 10_000)
        check_int("starts", self.starts, 1, 1000)
        if self.starts > 1 and (self.task != "adder" or self.epochs > 1):
            raise ValueError(
                f"starts is {self.starts}; above 1 it is allowed for the adder task with epochs 1; "
                f"these are task {self.task!r}, epochs {self.epochs}"
            )
        check_finite("code_rate", self.code_rate)
        if not 0 < self.code_rate <= 1000:
            raise ValueError(f"code_rate is {self.code_rate}; allowed is above 0, up to 1000")
        check_int("reconstruct_every", self.reconstruct_every, 1, 1000)
        for name in ("addend_noise", "deform", "distort", "noise"):
            check_finite(name, getattr(self, name))
            if not 0 <= getattr(self, name) <= 10:
                raise ValueError(f"{name} is {getattr(self, name)}; allowed is 0 to 10")
        for name in ("shift", "deform"):
            if getattr(self, name) and self.task == "adder":
                raise ValueError(
                    f"{name} is {getattr(self, name)}; the adder's stage trains on cached codes"
                )
        for name in ("noise", "occlude", "distort"):
            if getattr(self, name) and self.task != "autoencoder":
                raise ValueError(
                    f"{name} is {getattr(self, name)}; allowed for the autoencoder task only"
                )
        for name in ("beta2", "momentum", "rise"):
            check_finite(name, getattr(self, name))
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; allowed is from 0 to below 1")
        check_finite("weight_decay", self.weight_decay)
        if self.weight_decay < 0 or (self.weight_decay and self.optimiser != "adam"):
            raise ValueError(
                f"weight_decay is {self.weight_decay}; allowed is 0 or more, and 0 alone where the "
                f"optimiser is not 'adam'; this one is {self.optimiser!r}"
            )
        check_choice("schedule", self.schedule, ("constant", "one_cycle"))
        check_choice("optimiser", self.optimiser, ("adam", "muon"))
        if self.task == "auto_decoder" and (self.optimiser != "adam" or self.weight_decay):
            raise ValueError(
                f"optimiser is {self.optimiser!r}, weight_decay {self.weight_decay}; allowed for "
                "the auto_decoder task is 'adam' without decay"
            )
        check_choice("loss", self.loss, ("l2", "bce"))
        check_choice("balance", self.balance, BALANCES)
        check_choice("partners", self.partners, ("drawn", "batch"))
        if self.partners == "batch" and (
            self.task != "addition"
            or self.steps is None
            or self.batch_size % 10
            or self.balance == "natural"
        ):
            raise ValueError(
                "partners is 'batch'; allowed for the addition task, with steps set, batch_size a "
                f"multiple of 10 and a balance other than natural; these are task {self.task!r}, "
                f"steps {self.steps}, batch_size {self.batch_size}, balance {self.balance!r}"
            )

    def learning_rate_at(self, step: int, steps: int) -> float:
        """Learning rate of step ``step`` (from 0) out of ``steps`` in the whole stage."""
        if self.schedule == "constant":
            return self.learning_rate
        return self.learning_rate * one_cycle(step, steps, self.rise)


def one_cycle(step: int, steps: int, rise: float = 0.3) -> float:
    """Share of the peak learning rate at ``step`` (from 0) of ``steps``: up, then down to 0.

    Args:
        step: From 0 on.
        steps: In all.
        rise: Share of the steps in which it goes up, from 0.04.

    Source: L. N. Smith and N. Topin, arXiv 1708.07120; both ways as cosines.
    """
    top = rise * steps
    if step < top:
        return 0.04 + 0.96 * (1 - math.cos(math.pi * step / top)) / 2
    return (1 + math.cos(math.pi * (step - top) / (steps - top))) / 2
