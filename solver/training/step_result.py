"""What an optimizer step gives, or the error that it ends in."""

from dataclasses import dataclass

from torch import Tensor

from solver.model.output import Output
from solver.training.deep_supervision import (
    Carry,
)
from solver.training.loss import Losses


@dataclass(frozen=True)
class StepResult:
    """One training step of this process's slots: losses (sums over them), and the slots after it.

    halted_B, steps_B, puzzles_B: the slots' state and ID rows; id_gradients_BI: of loss / global batch.
    """

    losses: Losses
    output: Output
    halted_B: Tensor
    steps_B: Tensor
    puzzles_B: Tensor
    id_gradients_BI: Tensor


class NotFiniteError(ArithmeticError):
    """A loss or gradient that is no finite number. Nothing was updated; `carry` are the slots of the step."""

    def __init__(self, step: int, carry: Carry):
        super().__init__(f"the loss or a gradient of step {step} is not finite")
        self.step = step
        self.carry = carry
