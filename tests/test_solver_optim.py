import math

import pytest
import torch
from torch.testing import assert_close

from solver import AdamAtan2, IdTable, MovingAverage, scheduled_rate


def test_adam_atan2_by_hand() -> None:
    lr, decay, beta1, beta2 = 0.1, 0.5, 0.9, 0.95
    parameter = torch.nn.Parameter(torch.tensor([2.0], dtype=torch.float64))
    optimizer = AdamAtan2([parameter], lr, (beta1, beta2), decay)
    value, mean, square = 2.0, 0.0, 0.0
    for step, gradient in enumerate((3.0, -1.0, 0.5), start=1):
        parameter.grad = torch.tensor([gradient], dtype=torch.float64)
        optimizer.step()
        mean = beta1 * mean + (1 - beta1) * gradient
        square = beta2 * square + (1 - beta2) * gradient**2
        root = math.sqrt(square / (1 - beta2**step))
        value = value * (1 - lr * decay) - lr / (1 - beta1**step) * math.atan2(mean, root)
        assert parameter.item() == pytest.approx(value, rel=1e-12)


def test_the_scale_of_the_gradient_does_not_matter() -> None:
    results = []
    for scale in (1.0, 1024.0):
        parameter = torch.nn.Parameter(torch.ones(3))
        optimizer = AdamAtan2([parameter], 0.1)
        parameter.grad = scale * torch.tensor([1.0, -2.0, 0.0])
        optimizer.step()
        results.append(parameter.detach())
    assert_close(results[0], results[1])


def test_a_parameter_without_a_gradient_decays_all_the_same() -> None:
    parameter = torch.nn.Parameter(torch.ones(2))
    AdamAtan2([parameter], 0.1, weight_decay=0.5).step()
    assert_close(parameter.detach(), torch.full((2,), 0.95))


def test_the_rate_warms_up_then_falls_to_its_minimum_and_stays() -> None:
    rates = [scheduled_rate(step, 1.0, warmup=4, total=12, min_ratio=0.2) for step in (1, 2, 4, 8, 12, 20)]
    assert rates == pytest.approx([0.25, 0.5, 1.0, 0.6, 0.2, 0.2])
    assert scheduled_rate(1, 3.0, warmup=0, total=0) == 3.0


def test_gradients_of_equal_ids_are_summed_before_the_sign() -> None:
    table = IdTable(4, 2)
    gradients = torch.tensor([[3.0, 1.0], [-1.0, -2.0], [-1.0, 1.0], [0.0, -5.0]])
    table.sign_sgd_(torch.tensor([1, 1, 1, 2]), gradients, lr=0.1, weight_decay=0.0)
    # Row 1: the sums are 1 and 0; signs summed instead would give -1 and +1.
    assert_close(table.weights_PI, torch.tensor([[0, 0], [-0.1, 0], [0, 0.1], [0, 0]]))


def test_only_the_rows_of_the_batch_decay() -> None:
    table = IdTable(3, 1)
    table.weights_PI.fill_(1.0)
    table.sign_sgd_(torch.tensor([2, 2]), torch.zeros(2, 1), lr=0.1, weight_decay=0.5)
    assert_close(table.weights_PI[:, 0], torch.tensor([1.0, 1.0, 0.95]))


def test_looked_up_vectors_collect_their_own_gradient_and_leave_the_table_alone() -> None:
    table = IdTable(2, 3)
    ids = table.lookup(torch.tensor([1, 1]))
    (ids * torch.tensor([[1.0], [2.0]])).sum().backward()
    assert_close(ids.grad, torch.tensor([[1.0], [2.0]]).expand(2, 3))
    with torch.no_grad():
        ids.add_(1)
    assert table.weights_PI.abs().max() == 0


def test_moving_average_by_hand() -> None:
    model = torch.nn.BatchNorm1d(1)
    average = MovingAverage(model, decay=0.75)
    with torch.no_grad():
        model.weight.fill_(5.0)
    average.update()
    average.update()
    # 1 -> 0.75 x 1 + 0.25 x 5 = 2 -> 0.75 x 2 + 0.25 x 5 = 2.75
    assert average.state["weight"].item() == 2.75
    assert average.state.keys() == {"weight", "bias"}, "buffers are not averaged"


def test_averages_are_lent_and_taken_back() -> None:
    model = torch.nn.Linear(1, 1, bias=False)
    average = MovingAverage(model, decay=0.5)
    before = model.weight.item()
    with torch.no_grad():
        model.weight.add_(2.0)
    average.update()
    with average.averaged():
        assert model.weight.item() == pytest.approx(before + 1)
    assert model.weight.item() == pytest.approx(before + 2)
