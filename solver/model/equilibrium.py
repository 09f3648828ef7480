"""Fixed-point iteration: repeat an update until its latent converges, and differentiate through the fixed point.

With z* = f(z*), the implicit function theorem gives the gradient without backpropagating through the iterations. Let g
be the gradient of the loss at z* and J the Jacobian of f. The solver finds w = g + J'w, then backpropagates w through
one application of f (Bai et al. 2019, theorem 1). The Neumann series g + J'g + J'J'g + ... converges to the same w; its
first term alone is HRM's one-step gradient (2506.21734, section 2).

Each example has its own convergence test and does not change after it converges, so its result does not depend on the
other examples of the batch.

Shape letters: B examples, S positions, T positions in use, D hidden, M updates remembered.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from solver.model.config import EquilibriumConfig, Solver
from solver.model.packing import Padding
from solver.model.recursion import Network, Settle

RIDGE = 1e-6
"""Ridge term, relative to the matrix, that keeps the least-squares problem of Anderson's method solvable."""


HOPELESS = 0.1
"""If a gradient still changes by this fraction of its norm after all iterations, its series is taken to diverge. It
always changes by as much where each term of the series is larger than the last by a ninth or more."""


@dataclass(frozen=True)
class FixedPoint:
    """The result of the iteration.

    z_TD: the latent; residual_B: relative change of each example in its last update; iterations_B: its updates
    """

    z_TD: Tensor
    residual_B: Tensor
    iterations_B: Tensor


@torch.no_grad()
def solve_fixed_point(update: Network, start_TD: Tensor, padding: Padding, config: EquilibriumConfig) -> FixedPoint:
    """Repeat the update until |update(z) - z| / |update(z)| is below the tolerance, at most config.iterations times."""
    z_BN = _flat(start_TD, padding)
    mixer = _Mixer(config.method, config.memory)
    residual_B = torch.full((len(z_BN),), torch.inf, device=z_BN.device)
    iterations_B = torch.zeros(len(z_BN), dtype=torch.int64, device=z_BN.device)
    for _ in range(config.iterations):
        new_BN = _flat(update(_packed(z_BN, padding, start_TD)), padding)
        moving_B = residual_B >= config.tolerance
        residual_B = torch.where(moving_B, (new_BN - z_BN).norm(dim=1) / new_BN.norm(dim=1), residual_B)
        iterations_B += moving_B
        z_BN = torch.where(moving_B[:, None], mixer.next(z_BN, new_BN), z_BN)
        if not (residual_B >= config.tolerance).any():
            break
    return FixedPoint(_packed(z_BN, padding, start_TD), residual_B, iterations_B)


def attach_gradient(
    update: Network, settled: FixedPoint, padding: Padding, config: EquilibriumConfig, adjoint_B: Tensor
) -> Tensor:
    """Return the fixed point (T, D) with the gradient that the config selects.

    The residual of the gradient's own iteration is written to `adjoint_B` in the backward pass. An example whose series
    diverges gets the one-step gradient.
    """
    z_TD = update(settled.z_TD)
    if not z_TD.requires_grad or (config.gradient == "neumann" and config.terms == 1):
        return z_TD
    at_TD = settled.z_TD.detach().requires_grad_()
    again_TD = update(at_TD)

    def through(gradient_TD: Tensor) -> Tensor:
        def back(w_TD: Tensor) -> Tensor:
            (product_TD,) = torch.autograd.grad(again_TD, at_TD, w_TD, retain_graph=True)
            return gradient_TD + product_TD

        if config.gradient == "neumann":
            w_TD = gradient_TD
            for _ in range(config.terms - 1):
                w_TD = back(w_TD)
            return w_TD
        adjoint = solve_fixed_point(back, gradient_TD, padding, config)
        adjoint_B.copy_(adjoint.residual_B)
        converged_BS = (adjoint.residual_B < HOPELESS)[:, None].expand(padding.shape)
        return torch.where(padding.pack(converged_BS[..., None]), adjoint.z_TD, gradient_TD)

    # The hook replaces the gradient before it passes through the one application of f recorded above.
    z_TD.register_hook(through)
    return z_TD


def make_settler(config: EquilibriumConfig, padding: Padding, figures: dict[str, Tensor]) -> Settle:
    """Return the function that iterates a latent to its fixed point and writes its statistics to `figures`, each (B,).

    They are "residual", "iterations" and, filled in by the backward pass, "adjoint_residual".
    """

    def run(update: Network, start_TD: Tensor) -> Tensor:
        settled = solve_fixed_point(update, start_TD, padding, config)
        figures["residual"] = settled.residual_B
        figures["iterations"] = settled.iterations_B.float()
        figures["adjoint_residual"] = torch.zeros_like(settled.residual_B)
        if not torch.is_grad_enabled():
            return settled.z_TD
        return attach_gradient(update, settled, padding, config, figures["adjoint_residual"])

    return run


class _Mixer:
    """Computes the next point: the update itself, or Anderson's mix of the last updates (Walker and Ni 2011)."""

    def __init__(self, method: Solver, memory: int):
        self.memory = memory if method == "anderson" else 1
        self.olds: list[Tensor] = []
        self.news: list[Tensor] = []

    def next(self, old_BN: Tensor, new_BN: Tensor) -> Tensor:
        """Return the next point (B, N), from a point and its update, both flattened per example."""
        if self.memory == 1:
            return new_BN
        self.olds = [*self.olds, old_BN][-self.memory :]
        self.news = [*self.news, new_BN][-self.memory :]
        news_BMN = torch.stack(self.news, dim=1)
        # The weights sum to 1 and minimise the norm of the weighted sum of these changes.
        moves_BMN = news_BMN - torch.stack(self.olds, dim=1)
        squares_BMM = moves_BMN @ moves_BMN.mT
        size_B11 = squares_BMM.diagonal(dim1=1, dim2=2).mean(1)[:, None, None].clamp(min=1e-30)
        eye = torch.eye(squares_BMM.shape[1], device=old_BN.device)
        ones_BM1 = old_BN.new_ones(len(old_BN), len(self.news), 1)
        weights_BM1 = torch.linalg.solve(squares_BMM / size_B11 + RIDGE * eye, ones_BM1)
        weights_BM1 = weights_BM1 / weights_BM1.sum(1, keepdim=True)
        return (weights_BM1 * news_BMN).sum(1)


def _flat(z_TD: Tensor, padding: Padding) -> Tensor:
    """Flatten each example's positions to (B, S x D), with zeros at unused positions, in float32 or wider."""
    return padding.unpack(z_TD.to(torch.promote_types(z_TD.dtype, torch.float32))).flatten(1)


def _packed(z_BN: Tensor, padding: Padding, like_TD: Tensor) -> Tensor:
    return padding.pack(z_BN.unflatten(1, (padding.shape[1], -1))).to(like_TD.dtype)
