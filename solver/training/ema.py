"""Exponential moving average of a model's parameters, which predicts better than the parameters themselves."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class MovingAverage:
    """The moving averages of a model's parameters, without bias correction.

    state: average by parameter name, initialised to the parameters' values at construction
    """

    def __init__(self, model: nn.Module, decay: float = 0.999):
        self.model = model
        self.decay = decay
        self.state: dict[str, Tensor] = {
            name: parameter.detach().clone() for name, parameter in model.named_parameters()
        }

    @torch.no_grad()
    def update(self, decay: float | None = None) -> None:
        """Set average = decay x average + (1 - decay) x parameter; call it once per optimizer step.

        decay: None: the decay given at construction
        """
        used_decay = self.decay if decay is None else decay
        for name, parameter in self.model.named_parameters():
            self.state[name].lerp_(parameter, 1 - used_decay)

    def growing_decay(self, step: int) -> float:
        """Return the decay at `step` (the first is 1), small at first so that the initial weights fade quickly.

        It is (1 + step) / (10 + step), limited to `decay`, as in TensorFlow's averages with num_updates.
        """
        return min(self.decay, (1 + step) / (10 + step))

    @torch.no_grad()
    def copy_to(self, model: nn.Module) -> None:
        """Overwrite the parameters of `model` with the averages."""
        for name, parameter in model.named_parameters():
            parameter.copy_(self.state[name])

    @contextmanager
    def averaged(self) -> Iterator[nn.Module]:
        """Replace the model's parameters by the averages within the context, and restore them at its end."""
        saved = {name: parameter.detach().clone() for name, parameter in self.model.named_parameters()}
        self.copy_to(self.model)
        try:
            yield self.model
        finally:
            with torch.no_grad():
                for name, parameter in self.model.named_parameters():
                    parameter.copy_(saved[name])
