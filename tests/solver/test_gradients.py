"""What the processes send in a step: one sum, under way while other work is done, of gradients, health and votes."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from solver.training.gradients import GradientSum, Outcome
from solver.training.learner import Learner
from solver.training.loss_scale import LossScale
from solver.training.micro_batches import Chunk
from solver.training.process_group import ProcessGroup
from tests.helpers.process_threads import Threads, in_threads
from tests.helpers.small_model import gradients_of, make_batch, make_learner, make_model


class Recorder(ProcessGroup):
    """One of two processes, the other of which sends the same values; records what is called, and the types sent."""

    count = 2

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.types: list[torch.dtype] = []

    def sum_(self, tensor: Tensor) -> Tensor:
        self.calls.append("sum")
        return tensor.mul_(2)

    def start_sum(self, tensor: Tensor) -> Callable[[], Tensor]:
        self.calls.append("start")
        self.types.append(tensor.dtype)

        def wait() -> Tensor:
            self.calls.append("wait")
            return tensor.mul_(2)

        return wait

    def gather(self, tensor: Tensor) -> list[Tensor]:
        self.calls.append("gather")
        return [tensor, tensor]


def recorded(precision: torch.dtype = torch.float32) -> tuple[Learner, Recorder]:
    """Return a learner after its first step, in which the processes also tell their numbers of slots."""
    learner = make_learner(make_model())
    learner.model.precision = precision
    processes = Recorder()
    learner.processes = processes
    learner.step(make_batch([4, 3]))
    processes.calls.clear()
    return learner, processes


def test_a_step_waits_once_for_three_operations() -> None:
    learner, processes = recorded()
    result = learner.step(make_batch([4, 3]), False, lambda: processes.calls.append("vote") or (True, False))
    assert processes.calls == ["vote", "start", "gather", "gather", "wait"], "ID rows and their gradients are gathered"
    assert result.votes == (True, False)


def test_a_step_that_fails_changes_nothing_although_work_is_done_before_the_sum() -> None:
    learner, _ = recorded()
    before = {name: value.clone() for name, value in learner.slots().items()}
    rows = learner.table.weights_PI.clone()
    learner.loss_config = replace(learner.loss_config, halting=float("nan"))
    with pytest.raises(ArithmeticError, match="step 2 is not finite"):
        learner.step(make_batch([4, 3]))
    assert_close(learner.slots(), before, rtol=0, atol=0)
    assert_close(learner.table.weights_PI, rows, rtol=0, atol=0)


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_the_sum_is_in_bfloat16_only_where_the_model_computes_in_it(precision: torch.dtype) -> None:
    learner, processes = recorded(precision)
    assert processes.types == [precision]
    assert {gradient.dtype for gradient in gradients_of(learner)} == {torch.float32}
    assert all(weights.dtype == torch.float32 for weights in learner.model.parameters())


def sums(precision: torch.dtype, spoilt: int | None = None) -> list[tuple[Outcome, list[Tensor]]]:
    """Return the outcome and the gradients of each of three processes; each has gradients and votes of its own."""
    learners = [make_learner(make_model()) for _ in range(3)]
    results = [learner.step(make_batch([4, 3])) for learner in learners]

    def work(processes: Threads) -> tuple[Outcome, list[Tensor]]:
        learner, result = learners[processes.index], results[processes.index]
        learner.model.precision = precision
        chunk = Chunk(result.losses, result.output, result.id_gradients_BI)
        if processes.index == spoilt:
            chunk = replace(chunk, losses=replace(chunk.losses, total=torch.tensor(float("inf"))))
        random = torch.Generator().manual_seed(processes.index)
        for parameter in learner.model.parameters():
            parameter.grad = torch.randn(parameter.shape, generator=random)
        outcome = GradientSum(learner.model, chunk, processes, None, (processes.index == 1, False, True)).wait()
        return outcome, gradients_of(learner)

    return in_threads(3, work)


def drawn_sums() -> list[Tensor]:
    """Return the sums of the gradients that `sums` draws."""
    sources = [torch.Generator().manual_seed(index) for index in range(3)]
    shapes = [parameter.shape for parameter in make_model().parameters()]
    return [torch.stack([torch.randn(shape, generator=source) for source in sources]).sum(0) for shape in shapes]


def test_sums_in_float32_are_exact_and_those_in_bfloat16_close() -> None:
    expected = drawn_sums()
    for _, gradients in sums(torch.float32):
        assert_close(gradients, expected, rtol=0, atol=0)
    narrow = [gradients for _, gradients in sums(torch.bfloat16)]
    size = max(float(gradient.abs().max()) for gradient in expected)
    # Three terms and their sum are rounded to 8 bits.
    assert_close(narrow[0], expected, rtol=0, atol=4 * 2**-8 * size)
    assert any(not near.equal(exact) for near, exact in zip(narrow[0], expected, strict=True))
    assert_close(narrow[1:], [narrow[0]] * 2, rtol=0, atol=0)


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("spoilt", [None, 2])
def test_all_processes_know_the_same_of_votes_and_of_a_loss_that_is_not_finite(
    precision: torch.dtype, spoilt: int | None
) -> None:
    for outcome, _ in sums(precision, spoilt):
        assert outcome == Outcome(spoilt is None, True, (True, False, True))


def test_one_process_sums_nothing_and_undoes_the_scale() -> None:
    learner = make_learner(make_model())
    result = learner.step(make_batch([4, 3]))
    before, ids_BI = [gradient.clone() for gradient in gradients_of(learner)], result.id_gradients_BI.clone()
    chunk = Chunk(result.losses, result.output, result.id_gradients_BI)
    outcome = GradientSum(learner.model, chunk, ProcessGroup(), LossScale(4.0)).wait()
    assert outcome == Outcome(True, True, ())
    assert_close(gradients_of(learner), [gradient / 4 for gradient in before], rtol=0, atol=0)
    assert_close(chunk.id_gradients_BI, ids_BI / 4, rtol=0, atol=0)
