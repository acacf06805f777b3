"""One training by several processes, each on its share of every batch.

``torchrun --nproc-per-node 2 -m learn2add train part3`` starts two. All draw the same batches, each
takes its rows of them, and gradients are averaged before every step; so the batch is the one of the
configuration, and in float32 the losses are those of one process up to rounding. The first process
alone writes files. Started in any other way, everything here does nothing.

Source: S. Li et al., arXiv 2006.15704.
"""

import contextlib
import os
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn


class World(NamedTuple):
    """Which of how many processes this is."""

    rank: int
    size: int

    @property
    def first(self) -> bool:
        """Whether this process writes files and shows progress."""
        return self.rank == 0

    def rows(self, count: int) -> slice:
        """This process's rows of ``count``; all of them where there are fewer than processes."""
        if count < self.size:
            return slice(0, count)
        return slice(self.rank * count // self.size, (self.rank + 1) * count // self.size)

    def share(self, count: int) -> float:
        """Weight of a mean over :meth:`rows`, so that the mean over processes is that over all."""
        rows = self.rows(count)
        return (rows.stop - rows.start) * self.size / count if count >= self.size else 1.0


def world() -> World:
    """The processes that ``torchrun`` started, or this one alone."""
    if dist.is_available() and dist.is_initialized():
        return World(dist.get_rank(), dist.get_world_size())
    return World(0, 1)


@contextlib.contextmanager
def joined() -> Iterator[World]:
    """Join the other processes that ``torchrun`` started: by NCCL on CUDA, by Gloo on CPUs."""
    if int(os.environ.get("WORLD_SIZE", "1")) < 2 or world().size > 1:
        yield world()
        return
    cuda = torch.cuda.is_available()
    if cuda:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl" if cuda else "gloo")
    try:
        yield world()
    finally:
        dist.destroy_process_group()


def wait() -> None:
    """Go on when all processes have come here."""
    if world().size > 1:
        dist.barrier()


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replace each gradient by its mean over the processes, in one message."""
    if world().size == 1:
        return
    gradients = [p.grad for p in parameters if p.grad is not None]
    flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
    dist.all_reduce(flat)
    flat /= world().size
    for gradient, mean in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(mean.view(gradient.shape))


def total(values: Tensor) -> Tensor:
    """Sum of a tensor over the processes; of one process, the tensor itself."""
    if world().size > 1:
        values = values.clone()
        dist.all_reduce(values)
    return values


def together(local: Tensor, count: int) -> Tensor:
    """All processes' :meth:`World.rows` of a batch, in order, with gradients to each.

    Args:
        local: This process's rows ``[n, ...]``.
        count: Rows of the whole batch.

    Returns:
        ``[count, ...]``. Where every process computes the same loss of it, the gradient of that
        loss is what :func:`average_gradients` makes.
    """
    return local if world().size == 1 else _Gathered.apply(local, count)


class _Gathered(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, local: Tensor, count: int) -> Tensor:
        ctx.count = count
        whole = local.new_zeros(count, *local.shape[1:])
        whole[world().rows(count)] = local
        dist.all_reduce(whole)
        return whole

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return total(gradient.contiguous())[world().rows(ctx.count)], None
