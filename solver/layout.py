"""Where a batch's positions are: packed for the layers, (B, S) for attention, and the way back and forth.

A batch whose examples have different numbers of cells is padded to the widest. Layers that look at one
position at a time run on the T positions in use only; attention sees the padded form, its padding masked.

Shape letters: B examples, S positions (ID slots, then cells), T positions in use, K head size.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


class PickRows(torch.autograd.Function):
    """Rows of a tensor, none of them twice, so that the gradient is a copy and not a slow sum."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, rows_T: Tensor) -> Tensor:
        """x[rows_T]."""
        ctx.save_for_backward(rows_T)
        ctx.shape = x.shape
        return x.index_select(0, rows_T)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        """The gradient at the rows picked, zero elsewhere."""
        (rows_T,) = ctx.saved_tensors
        return gradients[0].new_zeros(ctx.shape).index_copy_(0, rows_T, gradients[0]), None


@dataclass(frozen=True)
class Layout:
    """The positions of one batch.

    shape: (B, S); used_T: numbers of the positions in use, row by row, None when all are
    mask: bool (B, 1, 1, S), true where a key may be attended to, None when everywhere
    cos, sin: rotary angles of the positions in use, (T, 1, 1, K); see `solver.layers.rotate`
    """

    shape: tuple[int, int]
    used_T: Tensor | None
    mask: Tensor | None
    cos: Tensor
    sin: Tensor

    def pack(self, x: Tensor) -> Tensor:
        """(B, S, ...) -> (T, ...)."""
        rows = x.flatten(0, 1)
        return rows if self.used_T is None else PickRows.apply(rows, self.used_T)  # pyright: ignore[reportReturnType]

    def unpack(self, x: Tensor) -> Tensor:
        """(T, ...) -> (B, S, ...), zero where a position is not in use."""
        if self.used_T is not None:
            x = x.new_zeros(self.shape[0] * self.shape[1], *x.shape[1:]).index_copy_(0, self.used_T, x)
        return x.unflatten(0, self.shape)
