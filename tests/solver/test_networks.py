"""Half precision: weights are cast once for passes without gradient; gradients of the embedding are exact sums."""

from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode

from solver.model.layers import look_up
from solver.model.networks import cast_weights
from tests.helpers.small_model import CONFIG, gradients_of, make_batch, make_learner, make_model


class CastCounter(TorchDispatchMode):
    """Counts the casts of a tensor of this shape to bf16."""

    def __init__(self, shape: torch.Size):
        super().__init__()
        self.shape = shape
        self.casts = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is torch.ops.aten._to_copy.default and args[0].shape == self.shape:
            self.casts += (kwargs or {})["dtype"] == torch.bfloat16
        return func(*args, **(kwargs or {}))


def run_step() -> tuple[int, list[Tensor]]:
    """Return how often a step casts a weight to bf16, and the logits and gradients of the step."""
    model = make_model(replace(CONFIG, h_cycles=3, l_cycles=4))
    model.precision = torch.bfloat16
    learner = make_learner(model)
    with CastCounter(model.blocks[0].mlp.down.weight.shape) as counter:
        output = learner.step(make_batch([4, 4])).output
    return counter.casts, [output.logits_BCV, *gradients_of(learner)]


def test_a_step_casts_a_weight_once_for_all_passes_without_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    casts, results = run_step()
    blocks = len(make_model(CONFIG).blocks)
    assert casts == blocks * (1 + 5), "five passes of the last cycle have a gradient"
    monkeypatch.setattr("solver.model.model.cast_weights", lambda *_: nullcontext())
    others, expected = run_step()
    assert others == blocks * 15
    assert_close(results, expected, rtol=0, atol=0)


@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float16])
def test_gradients_of_the_embedding_are_summed_in_float32(precision: torch.dtype) -> None:
    """Thousands of summands for each token: in half precision most of them would be rounded away."""
    numbers = torch.arange(20_000) % 3
    gradient_TD = torch.rand(len(numbers), 4, generator=torch.Generator().manual_seed(0)) + 0.5
    table_VD = torch.zeros(5, 4, requires_grad=True)
    look_up(numbers, table_VD.to(precision)).backward(gradient_TD.to(precision))
    expected_VD = torch.zeros(5, 4).index_add_(0, numbers, gradient_TD)
    assert table_VD.grad is not None
    assert_close(table_VD.grad, expected_VD, rtol=0.005, atol=0)


def test_nothing_is_cast_where_weights_have_the_precision_of_the_model() -> None:
    model = make_model(CONFIG)
    with cast_weights(model.blocks, torch.float32):
        assert all(block.mlp.down.cast is None for block in model.blocks)
    with cast_weights(model.blocks, torch.bfloat16):
        casts = [block.mlp.down.cast for block in model.blocks]
        assert [None if cast is None else cast.dtype for cast in casts] == [torch.bfloat16] * len(casts)
    assert all(block.mlp.down.cast is None for block in model.blocks)
