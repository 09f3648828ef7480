"""The ID table: one trained vector per puzzle, and the sign descent that trains it.

It lives outside the model because only the rows in a batch are ever touched: no gradient and no optimizer
state has the size of the table.

Shape letters: B examples, P puzzles (rows), I length of an ID vector, U distinct puzzles of a batch.
"""

import torch
from torch import Tensor


class IdTable:
    """weights_PI: float32 (rows, id_size), zero at the start."""

    def __init__(self, rows: int, id_size: int):
        self.weights_PI = torch.zeros(rows, id_size)

    def lookup(self, puzzles_B: Tensor) -> Tensor:
        """A copy of the rows asked for, (B, I), as a leaf that collects its own gradient."""
        return self.weights_PI[puzzles_B].requires_grad_()

    @torch.no_grad()
    def sign_sgd_(self, puzzles_B: Tensor, gradients_BI: Tensor, lr: float, weight_decay: float) -> None:
        """p = p (1 - lr weight_decay) - lr sign(g) on the batch's rows; g summed over equal IDs first."""
        rows_U, slot_B = puzzles_B.unique(return_inverse=True)
        summed_UI = gradients_BI.new_zeros(len(rows_U), gradients_BI.shape[1])
        if (
            summed_UI.is_cuda
        ):  # there index_add_ adds in any order, and a sum near zero may differ in sign between processes
            summed_UI.index_put_((slot_B,), gradients_BI, accumulate=True)
        else:
            summed_UI.index_add_(0, slot_B, gradients_BI)
        weights_UI = self.weights_PI[rows_U].mul_(1 - lr * weight_decay).add_(summed_UI.sign_(), alpha=-lr)
        self.weights_PI[rows_U] = weights_UI
