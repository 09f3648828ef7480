"""The result of an optimizer step, and the error of a step whose loss or gradient is not finite."""

from dataclasses import dataclass

from torch import Tensor

from solver.model.output import Output
from solver.training.deep_supervision import Carry
from solver.training.loss import Losses


@dataclass(frozen=True)
class StepResult:
    """The result of one optimizer step for the slots of this process.

    losses: sums over these slots
    output: the output of the supervision step
    halted_B, steps_B: the state of the slots after the step
    puzzles_B: the ID rows of the slots' examples in the step
    id_gradients_BI: gradients of the loss, divided by the global batch size, with respect to the ID vectors
    votes: for each vote of the step, whether it was set in any process
    """

    losses: Losses
    output: Output
    halted_B: Tensor
    steps_B: Tensor
    puzzles_B: Tensor
    id_gradients_BI: Tensor
    votes: tuple[bool, ...] = ()


class NotFiniteError(ArithmeticError):
    """A loss or gradient is not finite. Nothing was updated; `carry` holds the slots of the failed step."""

    def __init__(self, step: int, carry: Carry):
        super().__init__(f"the loss or a gradient of step {step} is not finite")
        self.step = step
        self.carry = carry
