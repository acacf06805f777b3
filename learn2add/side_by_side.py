"""Several small networks trained at once, each from first weights of its own.

The adder is so small that its first weights decide whether it learns all 55 sums; which of several
is good shows only afterwards. Side by side they cost little more than one: their matrices are
stacked, so a step is a few batched products instead of many tiny ones.
"""

import copy
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap


class _Calling(nn.Module):
    """A part whose ``forward`` is any function of it: what :func:`functional_call` wants."""

    def __init__(self, part: nn.Module, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.part, self.function = part, function

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.function(self.part, *inputs)


class SideBySide:
    """Copies of one part, each but the first with new first weights.

    Args:
        part: The first of them; :meth:`keep` overwrites its weights. Without buffers.
        count: How many in all.
        loss: Mean loss of a part on a batch: ``loss(part, *batch)``, a scalar.
        seed: Decides the new weights.
    """

    def __init__(self, part: nn.Module, count: int, loss: Callable[..., Tensor], seed: int) -> None:
        self.part, self.call = part, _Calling(part, loss)
        parts, device = [self.call], next(part.parameters()).device
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            for _ in range(count - 1):
                fresh = copy.deepcopy(part).cpu()
                for module in fresh.modules():
                    if hasattr(module, "reset_parameters"):
                        module.reset_parameters()
                parts.append(_Calling(fresh.to(device), loss))
        stacked, _ = stack_module_state(parts)
        self.weights = {name: nn.Parameter(tensor.detach()) for name, tensor in stacked.items()}

    def parameters(self) -> Iterator[nn.Parameter]:
        """The stacked weights, each ``[count, ...]``."""
        yield from self.weights.values()

    def losses(self, *batch: Tensor) -> Tensor:
        """The loss of each on the same batch, ``[count]``."""

        def one(weights: dict[str, Tensor]) -> Tensor:
            return functional_call(self.call, weights, batch)

        return vmap(one)(self.weights)

    def loss(self, *batch: Tensor) -> Tensor:
        """A scalar whose value is the least of the losses and whose gradient trains each alone."""
        losses = self.losses(*batch)
        total = losses.sum()
        return total + (losses.min() - total).detach()

    @torch.no_grad()
    def keep(self, best: int) -> None:
        """Put the weights of one of them into the part."""
        for name, parameter in self.part.named_parameters():
            parameter.copy_(self.weights[f"part.{name}"][best])
