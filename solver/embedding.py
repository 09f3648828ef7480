"""The ID table: one trained vector per puzzle, and the sign descent that trains it.

It lives outside the model because only the rows in a batch are ever touched: no gradient and no optimizer
state has the size of the table.

Shape letters: B examples, P puzzles (rows), G groups of puzzles, I length of an ID vector, U distinct rows of a batch.
"""

import torch
from torch import Tensor


class IdTable:
    """ID vectors: each puzzle's own values, and after them those that it shares with the others of its group.

    weights_PI: float32 (rows, own values), zero at the start; shared_GI: (groups, shared values), likewise
    groups_P: int64 (rows,), the group of each row
    """

    def __init__(self, rows: int, id_size: int, shared_size: int = 0, groups_P: Tensor | None = None):
        self.groups_P = torch.zeros(rows, dtype=torch.int64) if groups_P is None else groups_P
        self.weights_PI = torch.zeros(rows, id_size - shared_size)
        self.shared_GI = torch.zeros(int(self.groups_P.max()) + 1 if rows else 0, shared_size)

    def lookup(self, puzzles_B: Tensor) -> Tensor:
        """A copy of the vectors asked for, (B, I), as a leaf that collects its own gradient."""
        own_BI = self.weights_PI[puzzles_B]
        if self.shared_GI.shape[1]:
            own_BI = torch.cat((own_BI, self.shared_GI[self.groups_P[puzzles_B]]), dim=1)
        return own_BI.requires_grad_()

    @torch.no_grad()
    def sign_sgd_(self, puzzles_B: Tensor, gradients_BI: Tensor, lr: float, weight_decay: float) -> None:
        """p = p (1 - lr weight_decay) - lr sign(g) on the batch's rows; g summed over equal rows first."""
        own = self.weights_PI.shape[1]
        _sign_sgd_(self.weights_PI, puzzles_B, gradients_BI[:, :own], lr, weight_decay)
        if self.shared_GI.shape[1]:
            _sign_sgd_(self.shared_GI, self.groups_P[puzzles_B], gradients_BI[:, own:], lr, weight_decay)


def _sign_sgd_(weights_PI: Tensor, rows_B: Tensor, gradients_BI: Tensor, lr: float, weight_decay: float) -> None:
    rows_U, slot_B = rows_B.unique(return_inverse=True)
    summed_UI = gradients_BI.new_zeros(len(rows_U), gradients_BI.shape[1])
    if summed_UI.is_cuda:
        # There index_add_ adds in any order, and a sum near zero may differ in sign between processes.
        summed_UI.index_put_((slot_B,), gradients_BI, accumulate=True)
    else:
        summed_UI.index_add_(0, slot_B, gradients_BI)
    weights_UI = weights_PI[rows_U].mul_(1 - lr * weight_decay).add_(summed_UI.sign_(), alpha=-lr)
    weights_PI[rows_U] = weights_UI
