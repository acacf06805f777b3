"""A training step recorded as a CUDA graph and replayed, so that a GPU need not wait for Python.

A step of these small networks is some hundreds of kernels of a few microseconds each, and Python
takes longer to launch them one by one than the GPU to run them. Recorded once, they are launched by
one call. Chosen by ``LEARN2ADD_CUDA_GRAPHS=1``; not measured yet, so it is off by default.

Source: https://pytorch.org/docs/stable/notes/cuda.html, "CUDA Graphs".
"""

import os
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from learn2add import parallel
from learn2add.stages import Stage

Batch = tuple[Tensor | None, ...]
Outputs = tuple[Tensor, dict[str, Tensor]]
WARM_UP = 3
"""Steps before the recorded one; the first allocate what the later ones reuse."""


def wanted(device: torch.device, stage: Stage) -> bool:
    """Whether a stage's steps are to be recorded: asked for, on one GPU, Adam's, with pictures.

    Muon, and the optimiser of codes, depend on numbers that they compute in Python.
    """
    asked = os.environ.get("LEARN2ADD_CUDA_GRAPHS") == "1"
    able = stage.optimiser == "adam" and stage.task in ("autoencoder", "addition")
    return asked and able and device.type == "cuda" and parallel.world().size == 1


def set_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate. A recorded step reads it from the device, where it must stay."""
    for group in optimiser.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate


def cuda_graph(step: Callable[[], Outputs]) -> Callable[[], Outputs]:
    """Record a step without executing it; what is returned executes it and gives its outputs."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        outputs = step()

    def replay() -> Outputs:
        graph.replay()
        return outputs

    return replay


def on_side_stream(step: Callable[[], Outputs]) -> Outputs:
    """Execute a step where recording is prepared: not on the default stream."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        outputs = step()
    torch.cuda.current_stream().wait_stream(side)
    return outputs


def shapes(batch: Batch) -> list[torch.Size | None]:
    """Of each part; None of one that is not there."""
    return [None if part is None else part.shape for part in batch]


class Captured:
    """A step that is recorded at its fourth batch; batches of another length run as they are.

    Args:
        step: Learns from a batch; gives loss and squares. It must not wait for the device.
        record: Records a step; :func:`cuda_graph`.
        warm: Executes one before that; :func:`on_side_stream`.
    """

    def __init__(
        self,
        step: Callable[[Batch], Outputs],
        record: Callable[..., Any] = cuda_graph,
        warm: Callable[..., Any] = on_side_stream,
    ) -> None:
        self.step, self.record, self.warm = step, record, warm
        self.seen = 0
        self.inputs: Batch | None = None
        self.replay: Callable[[], Outputs] | None = None

    def __call__(self, batch: Batch) -> Outputs:
        """Learn from a batch."""
        self.seen += 1
        if self.seen <= WARM_UP:
            return self.warm(lambda: self.step(batch))
        if self.inputs is None:
            parts = [part if part is None else part.clone() for part in batch]
            inputs = self.inputs = batch._make(parts) if hasattr(batch, "_make") else tuple(parts)
            self.replay = self.record(lambda: self.step(inputs))
        if shapes(batch) != shapes(self.inputs):
            return self.step(batch)
        for own, new in zip(self.inputs, batch, strict=True):
            if new is not None:
                own.copy_(new)
        loss, squares = self.replay()
        # The next replay writes to the same places.
        return loss.clone(), {name: value.clone() for name, value in squares.items()}
