"""Optimizers of the weights, their state as named tensors, and the schedules of learning rates and cycles.

The optimizers are Adam-atan2 and AdamW, or Muon and NorMuon for the matrices of the model's blocks with one of the
first two for all other parameters.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from solver.model.config import Curriculum, OptimizerName, Schedule
from solver.training.muon import NorMuon

EPSILON = 1e-8
"""Epsilon of AdamW, as published."""


class AdamAtan2(torch.optim.Optimizer):
    """Adam with atan2(m, sqrt(v)) for m / (sqrt(v) + epsilon): no epsilon, no scale (Everett et al. 2024).

    The order of operations is that of the published TRM, with bitwise equal results on a CPU. A parameter without a
    gradient is updated as if its gradient were zero, so it decays too.
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
        """Update every parameter once, at its group's `lr`."""
        loss = None if closure is None else closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                self._update(parameter, group)
        return loss

    def _update(self, parameter: Tensor, group: dict[str, Any]) -> None:
        state = self.state[parameter]
        lr = group["lr"]
        (beta1, beta2) = group["betas"]
        if not state:
            state["step"] = 0
            state["mean"] = torch.zeros_like(parameter)
            state["square"] = torch.zeros_like(parameter)
        state["step"] += 1
        gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        parameter.mul_(1 - lr * group["weight_decay"])
        state["mean"].lerp_(gradient, 1 - beta1)
        state["square"].mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
        root = state["square"].sqrt().div_(math.sqrt(1 - beta2 ** state["step"]))
        parameter.add_(self._direction(state["mean"], root), alpha=-lr / (1 - beta1 ** state["step"]))

    def _direction(self, mean: Tensor, root: Tensor) -> Tensor:
        return torch.atan2(mean, root)


class AdamW(AdamAtan2):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019, algorithm 2): m / (sqrt(v) + epsilon).

    The decay per step is lr x weight_decay. Only `_direction` differs from Adam-atan2.
    """

    def _direction(self, mean: Tensor, root: Tensor) -> Tensor:
        return mean / root.add_(EPSILON)


def make_optimizers(
    named_parameters: Iterable[tuple[str, Tensor]],
    name: OptimizerName,
    lr: float,
    muon_lr: float,
    betas: tuple[float, float],
    weight_decay: float,
) -> list[torch.optim.Optimizer]:
    """Return the optimizers of the named parameters.

    "adam_atan2" and "adamw" use one optimizer for all parameters. "muon" uses Muon for the matrices of the blocks and
    Adam-atan2 for the rest, "normuon" uses NorMuon and AdamW. Every group keeps its peak rate as "base_lr", which the
    schedule scales.

    Muon (Jordan et al. 2024) is scaled as by Liu et al. 2025, so that rates and decays tuned for Adam apply to it. It
    skips a matrix without a gradient: set the gradient to zeros where the matrix should decay.

    Raises:
        ValueError: if the installed torch has no Muon.
    """
    named = list(named_parameters)
    optimizers: list[torch.optim.Optimizer]
    adam = AdamAtan2 if name in ("adam_atan2", "muon") else AdamW
    if name in ("adam_atan2", "adamw"):
        optimizers = [adam([parameter for _, parameter in named], lr, betas, weight_decay)]
    else:
        make = _make_muon if name == "muon" else NorMuon
        matrices = [parameter for label, parameter in named if _is_block_matrix(label, parameter)]
        rest = [parameter for label, parameter in named if not _is_block_matrix(label, parameter)]
        optimizers = [make(matrices, muon_lr, weight_decay), adam(rest, lr, betas, weight_decay)]
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["base_lr"] = group["lr"]
    return optimizers


def _is_block_matrix(name: str, parameter: Tensor) -> bool:
    return name.startswith("network") and parameter.ndim == 2


def _make_muon(matrices: list[Tensor], lr: float, weight_decay: float) -> torch.optim.Optimizer:
    if not hasattr(torch.optim, "Muon"):
        raise ValueError(
            f'train.optimizer is "muon", which torch {torch.__version__} lacks: install torch 2.9 or later, or set '
            "train.optimizer=adam_atan2"
        )
    return torch.optim.Muon(matrices, lr, weight_decay, adjust_lr_fn="match_rms_adamw")


def optimizer_tensors(
    optimizers: Sequence[torch.optim.Optimizer], named_parameters: Iterable[tuple[str, Tensor]]
) -> dict[str, Tensor]:
    """Return the optimizers' state as "PARAMETER/STATE" -> tensor, not copied; numbers become 0-dimensional tensors."""
    states = _states(optimizers, named_parameters)
    return {
        f"{label}/{key}": value if isinstance(value, Tensor) else torch.tensor(value, dtype=_number_type(value))
        for label, state in states.items()
        for key, value in state.items()
    }


@torch.no_grad()
def load_optimizer_tensors(
    optimizers: Sequence[torch.optim.Optimizer],
    named_parameters: Iterable[tuple[str, Tensor]],
    tensors: dict[str, Tensor],
) -> None:
    """Restore what `optimizer_tensors` returned, copied to each parameter's device; drop state not in `tensors`.

    Raises:
        ValueError: if `tensors` has state of an unknown parameter.
    """
    named = dict(named_parameters)
    states = _states(optimizers, named.items())
    for state in states.values():
        state.clear()
    for name, tensor in tensors.items():
        label, _, key = name.rpartition("/")
        if label not in states:
            raise ValueError(
                f"{name}: state of a parameter that this model and its optimizers do not have: load it with the "
                "model and train.optimizer that saved it"
            )
        states[label][key] = tensor.to(named[label].device, copy=True) if tensor.ndim else tensor.item()


def _states(
    optimizers: Sequence[torch.optim.Optimizer], named_parameters: Iterable[tuple[str, Tensor]]
) -> dict[str, dict[str, Any]]:
    """Return the state of each parameter by the parameter's name, not copied."""
    parameter_states = {}
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            parameter_states |= {parameter: optimizer.state[parameter] for parameter in group["params"]}
    return {label: parameter_states[parameter] for label, parameter in named_parameters}


def _number_type(value: float) -> torch.dtype:
    return torch.float64 if isinstance(value, float) else torch.int64


def scheduled_rate(
    step: int,
    base: float,
    warmup: int,
    total: int,
    min_ratio: float = 1.0,
    schedule: Schedule = "cosine",
    decay: float = 0.2,
) -> float:
    """Return the rate at `step` (the first is 1): linear warm-up to `base`, then decay to base x min_ratio at `total`.

    The decay follows a cosine. With "wsd" (warm-up, stable, decay: Hu et al. 2024, MiniCPM, section 4) the rate is
    constant first and decays linearly over the last `decay` share of the steps. min_ratio = 1, as published, keeps the
    rate constant after warm-up. After `total` it stays at its minimum.
    """
    if step < warmup:
        return base * step / warmup
    if schedule == "wsd":
        remaining = max(0.0, total - step) / max(1.0, decay * total)
        return base * (min_ratio + (1 - min_ratio) * min(1.0, remaining))
    progress = min(1.0, (step - warmup) / max(1, total - warmup))
    return base * (min_ratio + (1 - min_ratio) * 0.5 * (1 + math.cos(math.pi * progress)))


def cycles_at(step: int, total: int, curriculum: Curriculum, own: tuple[int, int]) -> tuple[int, int]:
    """Return (h_cycles, l_cycles) at `step` (the first is 1) of `total`: its stage's, or `own` after the last stage."""
    for share, h_cycles, l_cycles in curriculum:
        if step / total <= share:
            return h_cycles, l_cycles
    return own
