"""Adam on ID rows: it updates only the rows of a batch, each with its own count of steps."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from solver.model.puzzle_embedding import RowAdam, sum_by_row

BETAS = (0.9, 0.95)
LR = 0.1
DECAY = 0.5


def random_rows(count: int, seed: int) -> Tensor:
    return torch.randn(count, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_a_row_met_at_every_step_is_moved_as_by_adamw_of_torch() -> None:
    rows = random_rows(4, 0)
    parameter = torch.nn.Parameter(rows.clone())
    adam = RowAdam(rows)
    reference = torch.optim.AdamW([parameter], LR, BETAS, 1e-12, DECAY)
    for seed in range(1, 6):
        parameter.grad = random_rows(4, seed)
        adam.update_(rows, torch.arange(4), parameter.grad, LR, BETAS, DECAY)
        reference.step()
    assert_close(rows, parameter.detach(), rtol=1e-11, atol=1e-12)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(st.integers(0, 4), max_size=6), max_size=6))
def test_a_row_only_knows_the_batches_that_it_was_in(batches: list[list[int]]) -> None:
    """The result equals a separate AdamW for each row, called with the row's summed gradient when it is in a batch."""
    rows = random_rows(5, 0)
    start = random_rows(5, 0)
    adam = RowAdam(rows)
    alone = [torch.nn.Parameter(row.clone()) for row in start]
    optimizers = [torch.optim.AdamW([row], LR, BETAS, 1e-12, DECAY) for row in alone]
    for seed, batch in enumerate(batches):
        gradients = random_rows(len(batch), seed)
        adam.update_(rows, torch.tensor(batch, dtype=torch.int64), gradients, LR, BETAS, DECAY)
        for row in set(batch):
            alone[row].grad = gradients[torch.tensor(batch) == row].sum(0)
            optimizers[row].step()
    assert_close(rows, torch.stack([row.detach() for row in alone]), rtol=1e-9, atol=1e-10)
    assert adam.steps_P.tolist() == [sum(row in batch for batch in batches) for row in range(5)]


def test_small_gradients_move_a_row_as_far_as_large_ones() -> None:
    results = []
    for scale in (1.0, 1e-7):
        weights = torch.zeros(1, 3)
        RowAdam(weights).update_(weights, torch.tensor([0]), scale * torch.tensor([[1.0, -2.0, 3.0]]), LR, BETAS, 0.0)
        results.append(weights)
    assert_close(results[0], results[1], rtol=1e-4, atol=0)


def test_its_state_is_put_back_bit_for_bit_and_not_shared() -> None:
    one = random_rows(3, 0)
    other = random_rows(3, 0)
    first = RowAdam(one)
    second = RowAdam(other)
    rows = torch.tensor([2, 0, 2])
    first.update_(one, rows, random_rows(3, 1), LR, BETAS, DECAY)
    second.load({name: tensor.clone() for name, tensor in first.tensors().items()})
    other.copy_(one)
    for weights, adam in ((one, first), (other, second)):
        adam.update_(weights, rows, random_rows(3, 2), LR, BETAS, DECAY)
    assert_close(other, one, rtol=0, atol=0)
    assert_close(second.tensors(), first.tensors(), rtol=0, atol=0)
    assert second.mean_PI.data_ptr() != first.mean_PI.data_ptr()


def test_gradients_of_equal_rows_are_summed_in_the_order_of_rows() -> None:
    rows, summed = sum_by_row(torch.tensor([3, 1, 3]), torch.tensor([[1.0], [5.0], [2.0]]))
    assert rows.tolist() == [1, 3]
    assert summed.tolist() == [[5.0], [3.0]]
