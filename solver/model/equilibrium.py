"""Fixed points: an update is repeated until its latent settles, and gradients go through where it settled.

With z* = f(z*) the implicit function theorem gives the gradient without the way there: the loss' gradient g at z*
becomes w = g + J'w with J the derivative of f, then goes through one f (Bai et al. 2019, theorem 1). The series g + J'g
+ J'J'g + ... ends in the same; its first term alone is HRM's one-step gradient (2506.21734, section 2).

Each example settles by itself and then stays, so that it ends the same in whatever batch it is.

Shape letters: B examples, S positions, T positions in use, D hidden, M updates remembered.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from solver.model.config import EquilibriumConfig, Solver
from solver.model.packing import Padding
from solver.model.recursion import Network

RIDGE = 1e-6
"""Keeps Anderson's least squares solvable, relative to their size."""


HOPELESS = 0.1
"""A gradient that still moves by this share of itself after all iterations is taken to have no end: where terms grow by
a ninth or more, it always does."""


@dataclass(frozen=True)
class FixedPoint:
    """Where a latent came to: z_TD, and of each example how far the last update moved it and how many were made."""

    z_TD: Tensor
    residual_B: Tensor
    iterations_B: Tensor


@torch.no_grad()
def settle(update: Network, start_TD: Tensor, padding: Padding, config: EquilibriumConfig) -> FixedPoint:
    """Repeat the update until |update(z) - z| / |update(z)| is below the tolerance, or config.iterations times."""
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


def with_gradient(
    update: Network, settled: FixedPoint, padding: Padding, config: EquilibriumConfig, adjoint_B: Tensor
) -> Tensor:
    """The settled latent (T, D) with the gradient that the config says; its residual is written to `adjoint_B`.

    Where the series does not come to an end, the example has the one-step gradient.
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
        found = settle(back, gradient_TD, padding, config)
        adjoint_B.copy_(found.residual_B)
        ends_BN = (found.residual_B < HOPELESS)[:, None].expand(padding.shape)
        return torch.where(padding.pack(ends_BN[..., None]), found.z_TD, gradient_TD)

    z_TD.register_hook(through)
    return z_TD


class _Mixer:
    """The next point to try: the update itself, or Anderson's mix of the last ones (Walker and Ni 2011)."""

    def __init__(self, method: Solver, memory: int):
        self.memory = memory if method == "anderson" else 1
        self.olds: list[Tensor] = []
        self.news: list[Tensor] = []

    def next(self, old_BN: Tensor, new_BN: Tensor) -> Tensor:
        """Given a point and its update, each example flat."""
        if self.memory == 1:
            return new_BN
        self.olds = [*self.olds, old_BN][-self.memory :]
        self.news = [*self.news, new_BN][-self.memory :]
        news_BMN = torch.stack(self.news, dim=1)
        moves_BMN = news_BMN - torch.stack(self.olds, dim=1)
        squares_BMM = moves_BMN @ moves_BMN.mT
        size_B11 = squares_BMM.diagonal(dim1=1, dim2=2).mean(1)[:, None, None].clamp(min=1e-30)
        eye = torch.eye(squares_BMM.shape[1], device=old_BN.device)
        ones_BM1 = old_BN.new_ones(len(old_BN), len(self.news), 1)
        weights_BM1 = torch.linalg.solve(squares_BMM / size_B11 + RIDGE * eye, ones_BM1)
        weights_BM1 = weights_BM1 / weights_BM1.sum(1, keepdim=True)
        return (weights_BM1 * news_BMN).sum(1)


def _flat(z_TD: Tensor, padding: Padding) -> Tensor:
    """Each example's positions one after the other, (B, S x D), zeros where none is in use; float32 at least."""
    return padding.unpack(z_TD.to(torch.promote_types(z_TD.dtype, torch.float32))).flatten(1)


def _packed(z_BN: Tensor, padding: Padding, like_TD: Tensor) -> Tensor:
    return padding.pack(z_BN.unflatten(1, (padding.shape[1], -1))).to(like_TD.dtype)
