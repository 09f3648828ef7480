"""The moving average of a model's parameters, which predicts better than the parameters themselves."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class MovingAverage:
    """state: parameter name -> average, starting at the values at construction; no bias correction."""

    def __init__(self, model: nn.Module, decay: float = 0.999):
        self.model = model
        self.decay = decay
        self.state: dict[str, Tensor] = {
            name: parameter.detach().clone() for name, parameter in model.named_parameters()
        }

    @torch.no_grad()
    def update(self, decay: float | None = None) -> None:
        """average = decay x average + (1 - decay) x parameter, once per training step; by default the own decay."""
        kept = self.decay if decay is None else decay
        for name, parameter in self.model.named_parameters():
            self.state[name].lerp_(parameter, 1 - kept)

    def growing_decay(self, step: int) -> float:
        """The decay at `step` (the first is 1), small at first so that the start is soon forgotten.

        (1 + step) / (10 + step), until that exceeds the own decay, as TensorFlow's averages with num_updates.
        """
        return min(self.decay, (1 + step) / (10 + step))

    @torch.no_grad()
    def copy_to(self, model: nn.Module) -> None:
        """Overwrite the parameters of `model` with the averages."""
        for name, parameter in model.named_parameters():
            parameter.copy_(self.state[name])

    @contextmanager
    def averaged(self) -> Iterator[nn.Module]:
        """The model with its averages in place; its own parameters come back at the end."""
        own = {name: parameter.detach().clone() for name, parameter in self.model.named_parameters()}
        self.copy_to(self.model)
        try:
            yield self.model
        finally:
            with torch.no_grad():
                for name, parameter in self.model.named_parameters():
                    parameter.copy_(own[name])
