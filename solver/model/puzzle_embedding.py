"""The puzzle-embedding table (ID table): one trained vector per puzzle, and its optimizers (sign-SGD or Adam).

The table is not part of the model because a step touches only the rows of its batch. No gradient has the size of the
table, and neither has any optimizer state, except Adam's if that is chosen.

Shape letters: B examples, P puzzles (rows), G groups of puzzles, I length of an ID vector, U distinct rows of a batch.
"""

import torch
from torch import Tensor

EPSILON = 1e-12
"""Epsilon of Adam on ID rows. A row's gradient is that of the mean loss over the whole batch, so it is small, and the
usual 1e-8 would not be negligible."""


class PuzzleEmbedding:
    """ID vectors: the values of each puzzle, followed by values that it shares with the other puzzles of its group.

    weights_PI: float32 (rows, own values), initialised to zero
    shared_GI: float32 (groups, shared values), initialised to zero
    groups_P: int64 (rows,), the group of each row
    """

    def __init__(self, rows: int, id_size: int, shared_size: int = 0, groups_P: Tensor | None = None):
        self.groups_P = torch.zeros(rows, dtype=torch.int64) if groups_P is None else groups_P
        self.weights_PI = torch.zeros(rows, id_size - shared_size)
        self.shared_GI = torch.zeros(int(self.groups_P.max()) + 1 if rows else 0, shared_size)

    def lookup(self, puzzles_B: Tensor) -> Tensor:
        """Return a copy of the vectors of these rows, (B, I), as a leaf tensor that collects its own gradient."""
        own_BI = self.weights_PI[puzzles_B]
        if self.shared_GI.shape[1]:
            own_BI = torch.cat((own_BI, self.shared_GI[self.groups_P[puzzles_B]]), dim=1)
        return own_BI.requires_grad_()

    def tensors(self) -> dict[str, Tensor]:
        """Return the puzzles' own values as "rows", and shared values, if there are any, as "shared"; not copied."""
        return {"rows": self.weights_PI} | ({"shared": self.shared_GI} if self.shared_GI.shape[1] else {})

    def parts(self, puzzles_B: Tensor, gradients_BI: Tensor) -> dict[str, tuple[Tensor, Tensor, Tensor]]:
        """Return for each of `tensors` the values, the row of each example (B,), and its gradient (B, columns)."""
        own = self.weights_PI.shape[1]
        rows = self.weights_PI, puzzles_B, gradients_BI[:, :own]
        if not self.shared_GI.shape[1]:
            return {"rows": rows}
        return {"rows": rows, "shared": (self.shared_GI, self.groups_P[puzzles_B], gradients_BI[:, own:])}

    def to(self, device: torch.device | str, dtype: torch.dtype) -> None:
        """Move all values to a device and convert them to `dtype`, in place."""
        self.weights_PI, self.shared_GI = (t.to(device, dtype) for t in (self.weights_PI, self.shared_GI))
        self.groups_P = self.groups_P.to(device)

    @torch.no_grad()
    def sign_sgd_(self, puzzles_B: Tensor, gradients_BI: Tensor, lr: float, weight_decay: float) -> None:
        """Update the batch's rows: p = p (1 - lr weight_decay) - lr sign(g), with g summed over equal rows first."""
        for weights_PI, rows_B, part_BI in self.parts(puzzles_B, gradients_BI).values():
            rows_U, summed_UI = sum_by_row(rows_B, part_BI)
            weights_UI = weights_PI[rows_U].mul_(1 - lr * weight_decay).add_(summed_UI.sign_(), alpha=-lr)
            weights_PI[rows_U] = weights_UI


def sum_by_row(rows_B: Tensor, gradients_BI: Tensor) -> tuple[Tensor, Tensor]:
    """Return the distinct rows (U,) in ascending order, and the sum of the gradients of each, (U, I)."""
    rows_U, slot_B = rows_B.unique(return_inverse=True)
    summed_UI = gradients_BI.new_zeros(len(rows_U), gradients_BI.shape[1])
    # On CUDA the order of additions in index_add_ varies, so a sum near zero could differ in sign between processes.
    if summed_UI.is_cuda:
        summed_UI.index_put_((slot_B,), gradients_BI, accumulate=True)
    else:
        summed_UI.index_add_(0, slot_B, gradients_BI)
    return rows_U, summed_UI


class TableAdam:
    """Adam on the rows of an ID table that occur in a batch: one `RowAdam` for each of its tensors."""

    def __init__(self, table: PuzzleEmbedding):
        self.adams = {name: RowAdam(weights) for name, weights in table.tensors().items()}

    def update_(
        self,
        table: PuzzleEmbedding,
        puzzles_B: Tensor,
        gradients_BI: Tensor,
        lr: float,
        betas: tuple[float, float],
        weight_decay: float,
    ) -> None:
        """Update the table from the gradients (B, I) of the examples' ID vectors."""
        for name, part in table.parts(puzzles_B, gradients_BI).items():
            self.adams[name].update_(*part, lr, betas, weight_decay)

    def tensors(self) -> dict[str, Tensor]:
        """Return the state by names "TENSOR/STATE", not copied."""
        return {f"{name}/{key}": value for name, adam in self.adams.items() for key, value in adam.tensors().items()}

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Restore a state that `tensors` returned."""
        for name, adam in self.adams.items():
            adam.load({key: tensors[f"{name}/{key}"] for key in adam.tensors()})


class RowAdam:
    """Adam on the rows of a table that occur in a batch; other rows and their moments do not change.

    Adam (Kingma and Ba 2015) with decoupled weight decay (Loshchilov and Hutter 2019). The bias correction uses the
    number of updates of each row, so the first update of a row has size lr at whatever step it occurs.

    Args:
        weights_PI: the table; the moments have its shape, precision and device.

    Attributes:
        mean_PI, square_PI: moving averages of the gradient and its square; steps_P: int64, updates of each row.
    """

    def __init__(self, weights_PI: Tensor):
        self.mean_PI = torch.zeros_like(weights_PI)
        self.square_PI = torch.zeros_like(weights_PI)
        self.steps_P = torch.zeros(len(weights_PI), dtype=torch.int64, device=weights_PI.device)

    @torch.no_grad()
    def update_(
        self,
        weights_PI: Tensor,
        rows_B: Tensor,
        gradients_BI: Tensor,
        lr: float,
        betas: tuple[float, float],
        weight_decay: float,
    ) -> None:
        """Update the given rows: p = p (1 - lr weight_decay) - lr m / (sqrt(v) + epsilon).

        The gradients of equal rows are summed first.
        """
        rows_U, summed_UI = sum_by_row(rows_B, gradients_BI)
        beta1, beta2 = betas
        steps_U = self.steps_P[rows_U] + 1
        steps_U1 = steps_U[:, None].to(summed_UI.dtype)
        mean_UI = self.mean_PI[rows_U].lerp_(summed_UI, 1 - beta1)
        square_UI = self.square_PI[rows_U].mul_(beta2).addcmul_(summed_UI, summed_UI, value=1 - beta2)
        root_UI = (square_UI / (1 - beta2**steps_U1)).sqrt_().add_(EPSILON)
        moved_UI = mean_UI / (1 - beta1**steps_U1) / root_UI
        weights_PI[rows_U] = weights_PI[rows_U].mul_(1 - lr * weight_decay).add_(moved_UI, alpha=-lr)
        self.mean_PI[rows_U] = mean_UI
        self.square_PI[rows_U] = square_UI
        self.steps_P[rows_U] = steps_U

    def tensors(self) -> dict[str, Tensor]:
        """Return the state by name, not copied."""
        return {"mean": self.mean_PI, "square": self.square_PI, "steps": self.steps_P}

    @torch.no_grad()
    def load(self, tensors: dict[str, Tensor]) -> None:
        """Restore a state that `tensors` returned."""
        for name, state in self.tensors().items():
            state.copy_(tensors[name])
