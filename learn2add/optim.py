"""How weights are updated: Muon, the one-cycle learning rate, several small networks side by side.

Adam scales every weight by itself. Muon looks at a layer as one matrix and makes all directions of
its update equally long, so that the rare ones are learned as fast as the common ones. Eight epochs
of it are worth thirty of Adam's here (validation RMSE at code size 2).

``torch.optim.Muon`` takes two-dimensional weights only. This one takes convolutions too, each as
the matrix ``[outputs, inputs * 9]``, and iterates on the small Gram matrix, which is the same
update for a fourth of the work (on a CPU 14 to 57 times faster). A test holds it against torch's.

Source: K. Jordan et al., "Muon: an optimizer for hidden layers in neural networks", 2024.
"""

import contextlib
import copy
import math
from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from learn2add.config import Stage

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the quintic polynomial that draws singular values towards 1 (the source's)."""
ITERATIONS = 5
MATRIX_RATE = 5.0
"""Learning rate of a matrix over Adam's: 0.02 where Adam has 0.004 (validation split)."""
SMALLEST_SIDE = 32
"""A matrix with a smaller side is left to Adam: first and last layers, the code, the adder."""


def learning_rate_at(stage: Stage, step: int, steps: int) -> float:
    """Return the learning rate of step ``step`` (from 0) out of ``steps`` in the whole stage."""
    if stage.schedule == "constant":
        return stage.learning_rate
    return stage.learning_rate * one_cycle(step, steps, stage.pct_start)


def one_cycle(step: int, steps: int, pct_start: float = 0.3) -> float:
    """Return the share of the peak learning rate at ``step`` (from 0) of ``steps``.

    Up from 0.04 in a share ``pct_start`` of the steps, then down to 0, both as cosines. A function
    of the step alone, so a training that is resumed needs no state of a scheduler.
    Source: L. N. Smith and N. Topin, arXiv 1708.07120.
    """
    top = pct_start * steps
    if step < top:
        return 0.04 + 0.96 * (1 - math.cos(math.pi * step / top)) / 2
    return (1 + math.cos(math.pi * (step - top) / (steps - top))) / 2


class Muon(torch.optim.Adam):
    """Muon for the weights that are matrices or convolutions, Adam for all others.

    ``lr`` and ``betas`` are Adam's; matrices take :data:`MATRIX_RATE` times the rate and keep a
    share ``momentum`` of their former mean of gradients at each step. With ``fast``, products with
    a whole matrix may round its numbers to bfloat16.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        lr: float,
        betas: tuple[float, float],
        momentum: float = 0.95,
        *,
        fast: bool = False,
    ) -> None:
        parameters = list(parameters)
        kinds = {large: [p for p in parameters if is_matrix(p) == large] for large in (False, True)}
        groups = [{"params": part, "large": large} for large, part in kinds.items() if part]
        super().__init__(groups, lr, betas, fused=True)
        self.momentum, self.fast = momentum, fast

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        """Update all parameters that have a gradient; set ``.grad`` of matrices to None."""
        if closure is not None:
            raise ValueError(f"closure is {closure!r}; allowed is None")
        waiting = []
        for group in self.param_groups:
            for parameter in group["params"]:
                if group["large"] and parameter.grad is not None:
                    waiting.append((parameter, parameter.grad, group["lr"]))
                    parameter.grad = None  # which Adam then leaves alone
        super().step()
        for parameter, gradient, rate in waiting:
            state = self.state[parameter]
            if not state:
                state["momentum"] = torch.zeros_like(parameter)
                state["step"] = torch.zeros(())  # Adam asks every parameter for one when loaded
            momentum = state["momentum"].lerp_(gradient, 1 - self.momentum)
            ahead = gradient.lerp(momentum, self.momentum)  # Nesterov's: this gradient once more
            update = orthogonalised(ahead.reshape(len(gradient), -1), fast=self.fast)
            rows, columns = update.shape
            rate *= MATRIX_RATE * max(1, rows / columns) ** 0.5
            parameter.sub_(update.view(parameter.shape), alpha=rate)


def is_matrix(parameter: Tensor) -> bool:
    """Whether a weight is at least :data:`SMALLEST_SIDE` long both ways."""
    columns = math.prod(parameter.shape[1:])
    return parameter.dim() > 1 and min(len(parameter), columns) >= SMALLEST_SIDE


def moments_of(optimiser: torch.optim.Optimizer, parameter: Tensor) -> tuple[str, ...]:
    """Return the names of what an optimiser remembers of a parameter, in the parameter's shape."""
    if isinstance(optimiser, Muon) and is_matrix(parameter):
        return ("momentum",)
    return ("exp_avg", "exp_avg_sq")


@contextlib.contextmanager
def rounded_products(rounded: bool) -> Iterator[None]:
    """Allow float32 matrices to be multiplied as bfloat16 ones, summed and kept in float32.

    On CPUs torch then asks oneDNN for the product instead of its BLAS. Where that is MKL, on a
    processor that is not Intel's, oneDNN takes half the time even if it rounds nothing.
    """
    if not rounded:
        yield
        return
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def orthogonalised(matrix: Tensor, *, fast: bool = False) -> Tensor:
    """Return a matrix with the same singular directions and all singular values near 1.

    Five Newton-Schulz steps ``X <- (a I + b X Xᵀ + c (X Xᵀ)²) X``. Each multiplies X from the left
    by a polynomial of its Gram matrix, so the polynomials are multiplied up, and X is touched once.

    From float ``[R, C]`` to float32 ``[R, C]``, its singular values from 0.7 to 1.2. With ``fast``,
    the two products with the whole matrix may round to bfloat16; not those of the Gram matrix:
    rounded, it would get negative eigenvalues, which grow.
    """
    matrix = matrix.float()
    tall = len(matrix) > matrix.shape[1]  # then the smaller Gram matrix is that of the columns
    with rounded_products(fast):
        gram = matrix.T @ matrix if tall else matrix @ matrix.T
    norm = gram.diagonal().sum().clamp(min=1e-14)  # the squared Frobenius norm
    gram = gram / norm
    identity = torch.eye(len(gram), device=gram.device)
    a, b, c = COEFFICIENTS
    product = None
    for step in range(ITERATIONS):
        factor = a * identity + b * gram + c * (gram @ gram)
        product = factor if product is None else factor @ product
        if step < ITERATIONS - 1:
            gram = factor @ gram @ factor
    product = product * norm.rsqrt()
    with rounded_products(fast):
        return matrix @ product if tall else product @ matrix


class _Calling(nn.Module):
    """A part whose ``forward`` is any function of it: what :func:`functional_call` wants."""

    def __init__(self, part: nn.Module, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.part, self.function = part, function

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.function(self.part, *inputs)


class Restarts:
    """Copies of one small network, each but the first with new initial weights, trained at once.

    The adder is so small that its initial weights decide whether it learns all 55 sums; which of
    several is good shows only afterwards. Their matrices are stacked, so a step is a few batched
    products instead of many tiny ones, and several cost little more than one.

    ``part``, which has no buffers, is the first of ``count``; :meth:`keep` overwrites its weights.
    ``loss(part, *batch)`` is the mean loss of a part on a batch, a scalar.
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
        """Yield the stacked weights, each ``[count, ...]``."""
        yield from self.weights.values()

    def losses(self, *batch: Tensor) -> Tensor:
        """Return the loss of each on the same batch, ``[count]``."""
        return vmap(lambda weights: functional_call(self.call, weights, batch))(self.weights)

    def loss(self, *batch: Tensor) -> Tensor:
        """Return a scalar: its value is the least of the losses, its gradient trains each alone."""
        losses = self.losses(*batch)
        total = losses.sum()
        return total + (losses.min() - total).detach()

    @torch.no_grad()
    def keep(self, best: int) -> None:
        """Put the weights of one of them into the part."""
        for name, parameter in self.part.named_parameters():
            parameter.copy_(self.weights[f"part.{name}"][best])
