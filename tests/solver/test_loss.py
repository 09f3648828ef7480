import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F
from torch.testing import assert_close

from solver.model.config import LossName
from solver.model.output import Output
from solver.model.probability import least_confidence, log_probabilities
from solver.training.loss import LossConfig, Losses, cross_entropy, log_stablemax, losses, stablemax_cross_entropy


def make_output(logits_BCV: Tensor, halt: list[float]) -> Output:
    halt_B = torch.tensor(halt, requires_grad=True)
    return Output({}, logits_BCV, halt_B, torch.zeros(len(halt)), torch.full((len(halt),), torch.nan))


def confident(tokens: list[list[int]], strength: float = 8.0) -> Tensor:
    """Return logits whose argmax is the given tokens, of a vocabulary of 4."""
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
    right = -math.log(9 / 12)
    wrong = -math.log(1 / 12)
    assert both.cells.item() == pytest.approx(right + (2 * right + 2 * wrong) / 4)
    assert both.correct_B.tolist() == [1, 2]
    assert both.labelled_B.tolist() == [1, 4]


def test_halting_target_is_one_when_every_labelled_cell_is_right() -> None:
    result = loss_of([[1, 2, 3]], [[1, 2, 0]], [2.0])
    failed = loss_of([[1, 3, 3]], [[1, 2, 0]], [2.0])
    assert result.exact_B.tolist() == [True]
    assert failed.exact_B.tolist() == [False]
    assert result.halting.item() == pytest.approx(math.log1p(math.exp(-2)))
    assert failed.halting.item() == pytest.approx(2 + math.log1p(math.exp(-2)))
    assert result.total.item() == pytest.approx(result.cells.item() + 0.5 * result.halting.item())


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


# Softmax, smoothing, weights.

KINDS: tuple[LossName, ...] = ("stablemax", "softmax")


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [(torch.bfloat16, torch.float32), (torch.float32, torch.float32), (torch.float64, torch.float64)],
)
def test_softmax_is_that_of_torch_in_float32_at_least(dtype: torch.dtype, expected: torch.dtype) -> None:
    logits = torch.randn(5, 7, generator=torch.Generator().manual_seed(0)).to(dtype)
    labels = torch.arange(5)
    actual = cross_entropy(logits, labels, LossConfig("softmax"))
    assert actual.dtype == expected
    assert_close(actual, F.cross_entropy(logits.to(expected), labels, reduction="none"))


def test_smoothed_softmax_is_that_of_torch() -> None:
    logits = torch.randn(5, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    labels = torch.arange(5)
    expected = F.cross_entropy(logits, labels, reduction="none", label_smoothing=0.2)
    assert_close(cross_entropy(logits, labels, LossConfig("softmax", 0.2)), expected)


@pytest.mark.parametrize("kind", KINDS)
@given(masked=st.sets(st.integers(1, 5), max_size=4), smoothing=st.floats(0.01, 0.9))
def test_smoothing_spreads_over_tokens_that_are_not_masked(kind: LossName, masked: set[int], smoothing: float) -> None:
    logits = torch.randn(1, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    rest = [token for token in range(6) if token not in masked]
    logits[:, sorted(masked)] = -1e9
    logits.requires_grad_()
    loss = cross_entropy(logits, torch.tensor([0]), LossConfig(kind, smoothing))
    target = torch.zeros(6, dtype=torch.float64)
    target[rest] = smoothing / len(rest)
    target[0] += 1 - smoothing
    logs = log_probabilities(logits, torch.arange(6)[None], kind)[0]
    assert loss.item() == pytest.approx(-(target * logs)[rest].sum().item(), rel=1e-9)
    loss.sum().backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize("kind", KINDS)
def test_probabilities_of_all_tokens_sum_to_one(kind: LossName) -> None:
    logits = 5 * torch.randn(4, 6, generator=torch.Generator().manual_seed(2))
    every = log_probabilities(logits, torch.arange(6).expand(4, 6), kind)
    assert_close(every.exp().sum(-1), torch.ones(4, dtype=every.dtype))


def test_the_published_loss_is_the_default() -> None:
    logits_BCV = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(3))
    labels_BC = torch.tensor([[1, 2, 0], [3, 0, 1]])
    output = make_output(logits_BCV, [0.3, -2.0])
    plain = losses(output, labels_BC)
    explicit = losses(output, labels_BC, config=LossConfig("stablemax", 0.0, 0.5))
    assert_close(plain.total, explicit.total, rtol=0, atol=0)
    assert plain.total.dtype == torch.float64


@pytest.mark.parametrize("weight", [0.0, 0.1, 2.0])
def test_the_halting_loss_has_its_weight(weight: float) -> None:
    output = make_output(confident([[1, 3]]), [2.0])
    target_B = torch.tensor([0.25])
    loss = losses(output, torch.tensor([[1, 2]]), target_B, config=LossConfig(halting=weight))
    assert float(loss.continuing) > 0
    expected = float(loss.cells) + weight * (float(loss.halting) + float(loss.continuing))
    assert loss.total.item() == pytest.approx(expected)
    loss.total.backward()
    assert output.halt_B.grad is not None
    assert output.halt_B.grad.item() == pytest.approx(weight * float(torch.tensor(2.0).sigmoid()))


def test_confidence_is_of_the_least_sure_cell_that_counts() -> None:
    logits_BCV = torch.tensor([[0.0, 9.0, 0.0], [0.0, 0.0, 2.0], [0.1, 0.0, 0.0]]).expand(3, 3, 3)
    labels_BC = torch.tensor([[1, 2, 0], [0, 0, 0], [1, 0, 0]])
    used_BC = torch.tensor([[True] * 3, [True] * 3, [True] * 3])
    best = logits_BCV[0].softmax(-1).amax(-1)
    expected = torch.stack([best[1], best[2], best[0]]).logit()
    assert_close(least_confidence(logits_BCV, labels_BC, used_BC, "softmax"), expected, rtol=1e-4, atol=1e-5)
    used_BC = used_BC & torch.tensor([True, True, False])
    assert_close(least_confidence(logits_BCV, labels_BC, used_BC, "softmax")[1], best[1].logit())
    saturated = least_confidence(1e4 * logits_BCV, labels_BC, used_BC, "softmax")
    assert saturated.isfinite().all()
