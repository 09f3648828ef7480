"""The optimizer of the weights (Adam-atan2) and the learning-rate schedule."""

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor


class AdamAtan2(torch.optim.Optimizer):
    """Adam with atan2(m, sqrt(v)) for m / (sqrt(v) + epsilon): no epsilon, no scale (Everett et al. 2024).

    The order of operations is that of the published TRM, bit for bit on a CPU. A parameter without a gradient
    counts as one whose gradient is zero, so it decays too.
    """

    def __init__(
        self,
        parameters: Iterable[Tensor],
        lr: float,
        betas: tuple[float, float] = (0.9, 0.95),
        weight_decay: float = 0.1,
    ):
        super().__init__(parameters, {"lr": lr, "betas": betas, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """One update of every parameter, at each group's `lr`."""
        loss = None if closure is None else closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                self._update(parameter, group)
        return loss

    def _update(self, parameter: Tensor, group: dict[str, Any]) -> None:
        state, lr, (beta1, beta2) = self.state[parameter], group["lr"], group["betas"]
        if not state:
            state["step"] = 0
            state["mean"], state["square"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
        state["step"] += 1
        gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        parameter.mul_(1 - lr * group["weight_decay"])
        state["mean"].lerp_(gradient, 1 - beta1)
        state["square"].mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
        root = state["square"].sqrt().div_(math.sqrt(1 - beta2 ** state["step"]))
        parameter.add_(torch.atan2(state["mean"], root), alpha=-lr / (1 - beta1 ** state["step"]))


def scheduled_rate(step: int, base: float, warmup: int, total: int, min_ratio: float = 1.0) -> float:
    """The rate at `step` (the first is 1): linear warm-up to `base`, then a cosine down to base x min_ratio.

    min_ratio = 1, as published, keeps it constant. Past `total` it stays at its lowest.
    """
    if step < warmup:
        return base * step / warmup
    progress = min(1.0, (step - warmup) / max(1, total - warmup))
    return base * (min_ratio + (1 - min_ratio) * 0.5 * (1 + math.cos(math.pi * progress)))
