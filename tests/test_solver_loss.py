import math

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from solver.loss import Losses, log_stablemax, losses, stablemax_cross_entropy
from solver.model import Output


def make_output(logits_BCV: Tensor, halt: list[float]) -> Output:
    halt_B = torch.tensor(halt, requires_grad=True)
    return Output({}, logits_BCV, halt_B, torch.zeros(len(halt)), torch.full((len(halt),), torch.nan))


def confident(tokens: list[list[int]], strength: float = 8.0) -> Tensor:
    """Logits that pick the tokens given, of a vocabulary of 4."""
    return strength * torch.nn.functional.one_hot(torch.tensor(tokens), 4).float().requires_grad_()


def loss_of(tokens: list[list[int]], labels: list[list[int]], halt: list[float]) -> Losses:
    return losses(make_output(confident(tokens), halt), torch.tensor(labels))


def test_stablemax_by_hand() -> None:
    # s(1) = 2, s(0) = 1, s(-1) = 1/2: the shares are 4/7, 2/7 and 1/7.
    logits = torch.tensor([1.0, 0.0, -1.0]).expand(3, 3)
    expected = -torch.tensor([4 / 7, 2 / 7, 1 / 7], dtype=torch.float64).log()
    assert_close(stablemax_cross_entropy(logits, torch.arange(3)), expected)


def test_the_log_probabilities_of_several_tokens_of_a_place() -> None:
    logits = torch.tensor([[1.0, 0.0, -1.0], [0.0, 0.0, 0.0]])
    expected = torch.tensor([[1 / 7, 4 / 7], [1 / 3, 1 / 3]], dtype=torch.float64).log()
    assert_close(log_stablemax(logits, torch.tensor([[2, 0], [1, 2]])), expected)


def test_stablemax_is_computed_in_float64() -> None:
    logits = torch.tensor([[2.0**24, 0.0]])
    exact = math.log1p(1 / (2**24 + 1))
    actual = stablemax_cross_entropy(logits, torch.tensor([0]))
    assert actual.dtype == torch.float64
    assert actual.item() == pytest.approx(exact, rel=1e-6)


def test_each_example_is_the_mean_over_its_labelled_cells() -> None:
    both = loss_of([[1, 1, 1, 1], [1, 1, 1, 1]], [[1, 0, 0, 0], [1, 2, 1, 2]], [0.0, 0.0])
    right, wrong = -math.log(9 / 12), -math.log(1 / 12)
    assert both.cells.item() == pytest.approx(right + (2 * right + 2 * wrong) / 4)
    assert both.correct_B.tolist() == [1, 2]
    assert both.labelled_B.tolist() == [1, 4]


def test_halting_target_is_one_when_every_labelled_cell_is_right() -> None:
    solved = loss_of([[1, 2, 3]], [[1, 2, 0]], [2.0])
    failed = loss_of([[1, 3, 3]], [[1, 2, 0]], [2.0])
    assert solved.exact_B.tolist() == [True]
    assert failed.exact_B.tolist() == [False]
    assert solved.halting.item() == pytest.approx(math.log1p(math.exp(-2)))
    assert failed.halting.item() == pytest.approx(2 + math.log1p(math.exp(-2)))
    assert solved.total.item() == pytest.approx(solved.cells.item() + 0.5 * solved.halting.item())


def test_a_right_answer_pushes_the_halting_logit_up_and_a_wrong_one_down() -> None:
    for token, sign in ((1, -1), (2, 1)):
        output = make_output(confident([[token]]), [0.0])
        losses(output, torch.tensor([[1]])).total.backward()
        assert output.halt_B.grad is not None
        assert output.halt_B.grad.item() == sign * 0.25


def test_examples_without_labels_cost_nothing_in_cells_and_count_as_right() -> None:
    logits_BCV = confident([[1, 2], [1, 2]])
    logits_BCV.retain_grad()
    output = make_output(logits_BCV, [0.0, 0.0])
    result = losses(output, torch.tensor([[0, 0], [1, 2]]))
    result.total.backward()
    assert result.exact_B.tolist() == [True, True]
    assert result.cells.item() == pytest.approx(-math.log(9 / 12))
    assert result.halting.item() == pytest.approx(2 * math.log(2))
    assert logits_BCV.grad is not None
    assert logits_BCV.grad[0].abs().max() == 0
    assert logits_BCV.grad.isfinite().all()


def test_gradients_stay_finite_where_the_unused_branch_divides_by_zero() -> None:
    """At a logit of exactly 1 the branch for negative logits is 1/0."""
    logits_BCV = torch.ones(1, 1, 4, requires_grad=True)
    losses(make_output(logits_BCV, [0.0]), torch.tensor([[1]])).total.backward()
    assert logits_BCV.grad is not None
    assert logits_BCV.grad.isfinite().all()
