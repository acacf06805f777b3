"""Adam for a decoder and its table of codes, of which a batch touches only a few rows."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn


class CodeAdam(torch.optim.Adam):
    """Adam for the weights; for tables, Adam on the rows that have a gradient, all others at rest.

    Torch's dense Adam would also move the codes of pictures that are not in the batch, by what is
    left of their momentum, and read and write the whole table three times at each step;
    ``torch.optim.SparseAdam`` corrects the bias of its moments by the number of *steps*, where a
    row has been seen as often as there were *passes*: its first updates are three times as long as
    Adam's. Here every row counts its own.

    Args:
        weights: What is updated by every batch.
        tables: Weights ``[N, D]`` of sparse embeddings.
        lr: Learning rate of the weights.
        betas: Adam's, for both.
        code_rate: Learning rate of the tables over that of the weights.

    Source: D. P. Kingma and J. Ba, arXiv 1412.6980.
    """

    def __init__(
        self,
        weights: Iterable[nn.Parameter],
        tables: Iterable[nn.Parameter],
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        code_rate: float = 1.0,
    ) -> None:
        tables = list(tables)
        super().__init__([{"params": list(weights)}, {"params": tables}], lr, betas, fused=True)
        self.tables, self.code_rate = tables, code_rate

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        """Update everything that has a gradient; those of tables are used up."""
        if closure is not None:
            raise ValueError("closure is given; allowed is None")
        waiting = [(table, table.grad) for table in self.tables if table.grad is not None]
        for table, _ in waiting:
            table.grad = None  # which Adam then leaves alone
        super().step()
        for table, gradient in waiting:
            self._update(table, gradient.coalesce())

    def _update(self, table: Tensor, gradient: Tensor) -> None:
        group, state = self.param_groups[1], self.state[table]
        if not state:
            state["step"] = torch.zeros(())  # Adam asks every parameter for one when loaded
            state["visits"] = torch.zeros(len(table), 1, device=table.device)
            state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(table), torch.zeros_like(table)
        at, g = gradient.indices()[0], gradient.values()
        (beta1, beta2), rate = group["betas"], self.code_rate * group["lr"]
        state["step"] += 1
        state["visits"][at] += 1
        visits = state["visits"][at]
        first = state["exp_avg"][at].lerp_(g, 1 - beta1)
        second = state["exp_avg_sq"][at].lerp_(g.square(), 1 - beta2)
        state["exp_avg"][at], state["exp_avg_sq"][at] = first, second
        spread = (second / (1 - beta2**visits)).sqrt_().add_(group["eps"])
        table[at] -= rate * first / (1 - beta1**visits) / spread
