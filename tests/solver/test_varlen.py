"""Torch's own operation for examples of different lengths, with kernels for the CPU: signature, gradients, graphs."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._dynamo.utils import counters
from torch.testing import assert_close

from solver.data.batch import Batch
from solver.model.equations import HRM, TRM, RecursionConfig
from solver.model.packing import varlen_attn
from solver.training.learner import Learner
from tests.helpers import varlen_on_cpu  # noqa: F401  registers kernels
from tests.helpers.small_model import CONFIG, gradients_of, make_batch, make_learner, make_model

SIZES = [900, 12, 200, 36, 130, 25, 49]
BATCHES = [make_batch([16, 3, 9]), make_batch([2, 12, 5]), make_batch([7, 7, 8])]


def double_learner(varlen: bool, board_side: int = 4, recursion: RecursionConfig = TRM) -> Learner:
    """Return a learner in float64, whose two kinds of attention differ by rounding only."""
    model = make_model(replace(CONFIG, board_side=board_side, h_cycles=2, l_cycles=2, recursion=recursion)).double()
    model.precision = torch.float64
    model.varlen = varlen
    learner = make_learner(model)
    learner.table.weights_PI = torch.randn(8, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    return learner


def run_step(learner: Learner, batch: Batch) -> tuple[Tensor, list[Tensor]]:
    """Return the logits and gradients of a step."""
    return learner.step(batch).output.logits_BCV, gradients_of(learner)


def test_attention_is_that_of_padded_examples() -> None:
    padded, varlen = (run_step(double_learner(kind, board_side=30), make_batch(SIZES)) for kind in (False, True))
    assert_close(varlen, padded, rtol=0, atol=1e-10)


def test_each_example_is_named_once_by_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Any] = []

    def watched(*inputs: Any) -> Any:
        given.append(inputs)
        return varlen_attn(*inputs)

    monkeypatch.setattr("solver.model.packing.varlen_attn", watched)
    double_learner(True).step(make_batch([16, 3, 9]))
    *_, ends_q, ends_k, longest_q, longest_k = given[0]
    assert ends_q is ends_k
    assert (ends_q.dtype, ends_q.tolist()) == (torch.int32, [0, 18, 23, 34]), "two ID slots each"
    assert longest_q == longest_k == 18


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")
@pytest.mark.parametrize("recursion", [TRM, HRM], ids=["one network", "two networks"])
def test_a_compiled_network_is_one_graph_and_computes_the_same(recursion: RecursionConfig) -> None:
    """Attention included: one graph with gradient, and one without."""
    learners = [double_learner(True, recursion=recursion) for _ in range(2)]
    torch.compiler.reset()
    counters.clear()
    learners[1].model.compile_blocks(backend="aot_eager")
    for batch in BATCHES:
        eager, compiled = (run_step(learner, batch) for learner in learners)
        assert_close(compiled, eager, rtol=0, atol=1e-10)
    assert counters["stats"]["unique_graphs"] == 2
    assert not counters["graph_break"]
