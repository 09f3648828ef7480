"""NorMuon: an optimizer of matrices with orthogonalised momentum, normalised over rows.

Its updates are as large as those of Adam at the same learning rate.

Shape letters: R rows (outputs of a linear layer), K columns (its inputs).
"""

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

COEFFICIENTS = 3.4445, -4.7750, 2.0315
"""Coefficients of the quintic iteration (Jordan et al. 2024): steep at 0, and after 5 rounds all singular values are
near 1."""
ROUNDS = 5
LEAST_NORM = 1e-7
LEAST_ROOT = 1e-10
UPDATE_SIZE = 0.2
"""Root mean square of an update at rate 1, similar to AdamW's (Liu et al. 2025, section 2.2)."""


def orthogonalise(matrix_RK: Tensor) -> Tensor:
    """Return approximately U V' of the matrix U S V', by the Newton-Schulz iteration of torch.optim.Muon.

    It computes in bfloat16 and returns bfloat16, as torch does. A float64 matrix is computed in float64, because tests
    on float64 need a smaller rounding error.
    """
    x = matrix_RK.to(torch.float64 if matrix_RK.dtype == torch.float64 else torch.bfloat16)
    is_tall = x.shape[0] > x.shape[1]
    # The smaller Gram matrix has as many rows as the shorter side.
    x = x.mT if is_tall else x
    x = x / x.norm().clamp(min=LEAST_NORM)
    a, b, c = COEFFICIENTS
    for _ in range(ROUNDS):
        gram = x @ x.mT
        change = torch.addmm(gram, gram, gram, beta=b, alpha=c)
        x = torch.addmm(x, change, x, beta=a)
    return x.mT if is_tall else x


class NorMuon(torch.optim.Optimizer):
    """Muon with each row of the update normalised by its running root mean square (arXiv 2510.05491, algorithm 1).

    Nesterov momentum is orthogonalised. Each row is divided by the root of a moving average (beta2) of its mean square.
    The whole is scaled to a root mean square of 0.2 lr, so that AdamW's rates and decays apply. A matrix without a
    gradient is updated as if its gradient were zero.
    """

    def __init__(
        self,
        matrices: Iterable[Tensor],
        lr: float,
        weight_decay: float = 0.1,
        momentum: float = 0.95,
        beta2: float = 0.95,
    ):
        super().__init__(matrices, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum, "beta2": beta2})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Update every matrix once, at its group's `lr`."""
        loss = None if closure is None else closure()
        for group in self.param_groups:
            for matrix_RK in group["params"]:
                self._update(matrix_RK, group)
        return loss

    def _update(self, matrix_RK: Tensor, group: dict[str, Any]) -> None:
        state = self.state[matrix_RK]
        if not state:
            state["momentum"] = torch.zeros_like(matrix_RK)
            state["row_square"] = matrix_RK.new_zeros(len(matrix_RK), 1)
        gradient_RK = torch.zeros_like(matrix_RK) if matrix_RK.grad is None else matrix_RK.grad
        state["momentum"].lerp_(gradient_RK, 1 - group["momentum"])
        ahead_RK = gradient_RK.lerp(state["momentum"], group["momentum"])
        even_RK = self._even_out(orthogonalise(ahead_RK).to(matrix_RK.dtype), state["row_square"], group["beta2"])
        size = UPDATE_SIZE * math.sqrt(even_RK.numel()) / even_RK.norm().clamp(min=LEAST_NORM)
        matrix_RK.mul_(1 - group["lr"] * group["weight_decay"])
        matrix_RK.add_(even_RK * size, alpha=-group["lr"])

    def _even_out(self, update_RK: Tensor, row_square_R1: Tensor, beta2: float) -> Tensor:
        """Add the update to the running mean square of each row, and divide each row by the root of the result."""
        row_square_R1.lerp_(update_RK.square().mean(1, keepdim=True), 1 - beta2)
        return update_RK / row_square_R1.sqrt().add_(LEAST_ROOT)
