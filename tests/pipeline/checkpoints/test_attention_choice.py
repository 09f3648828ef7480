"""The variable-length kernel is used where it works, and compiled recipes have few graphs and no breaks."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch._dynamo.utils import counters

from pipeline.checkpoints.attention_choice import varlen_works
from pipeline.checkpoints.load_model import prepare_model
from pipeline.config.run_config import TrainSettings
from pipeline.runtime.console import Console
from solver.model.packing import varlen_attn
from solver.model.puzzle_embedding import PuzzleEmbedding
from solver.training.deep_supervision import last_output, predict_steps
from tests.helpers import varlen_on_cpu  # noqa: F401  registers kernels
from tests.helpers.recipe_learner import small_batches, small_learner, small_recipe
from tests.helpers.small_model import make_model

CPU = torch.device("cpu")


@pytest.mark.parametrize(("factor", "expected"), [(1.0, True), (1.1, False)])
def test_a_kernel_that_gives_something_else_is_not_used(
    monkeypatch: pytest.MonkeyPatch, factor: float, expected: bool
) -> None:
    def attend(*inputs: Any) -> Any:
        mixed_THK: Any = varlen_attn(*inputs)
        return mixed_THK * factor

    monkeypatch.setattr("solver.model.packing.varlen_attn", attend)
    monkeypatch.setattr("pipeline.checkpoints.attention_choice.on_cuda", lambda _: True)
    assert varlen_works(2, 8, torch.bfloat16, CPU) is expected
    assert not varlen_works(2, 8, torch.float32, CPU), "the kernel has half precision only"


@pytest.mark.parametrize(
    "error", [RuntimeError("no such kernel"), TypeError("another signature"), ImportError("no flash")]
)
def test_a_kernel_that_fails_is_not_used(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fail(*_: Tensor | int) -> Tensor:
        raise error

    monkeypatch.setattr("solver.model.packing.varlen_attn", fail)
    monkeypatch.setattr("pipeline.checkpoints.attention_choice.on_cuda", lambda _: True)
    assert not varlen_works(2, 8, torch.bfloat16, CPU)


@pytest.mark.parametrize(("capability", "warnings"), [((8, 0), 1), ((7, 5), 0)])
def test_a_card_that_should_have_the_kernel_and_has_not_is_reported(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], capability: tuple[int, int], warnings: int
) -> None:
    """A T4 is known not to have it."""
    monkeypatch.setattr("pipeline.checkpoints.attention_choice.varlen_works", lambda *_: False)
    monkeypatch.setattr("pipeline.checkpoints.attention_choice.on_cuda", lambda _: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    settings = TrainSettings(precision="bf16", compile=False)
    said = prepare_model(make_model(), PuzzleEmbedding(2, 16), settings, CPU, Console())
    assert said == "bfloat16 on cpu, padded attention"
    assert capsys.readouterr().out.count("warning: variable-length attention of torch") == warnings


GRAPHS = {
    "smoke": 2,
    "smoke_hrm": 2,
    "smoke_direct": 2,
    "smoke_gram": 2,
    "smoke_urm": 2,
    "smoke_symbols": 4,
    "arc1": 2,
    "arc1_fast": 4,
    "arc1_fast_urm": 2,
    "mlp": 2,
}
"""Graphs that a process compiles for a recipe: one with gradient and one without, of each compiled part of a network.

Torch stops at 8 for one function (`torch._dynamo.config.recompile_limit`). `smoke_equilibrium` is never compiled.
"""


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")
@pytest.mark.parametrize("name", GRAPHS)
def test_a_compiled_recipe_has_few_graphs_and_no_breaks(name: str) -> None:
    """Batches of different lengths in training, then in prediction; fewer graphs than here are welcome."""
    mlp = {"model.mixer": "mlp", "model.canvas": "full", "model.board_side": 6}
    config = small_recipe("smoke", **mlp) if name == "mlp" else small_recipe(name)
    torch.compiler.reset()
    counters.clear()
    learner = small_learner(config, CPU)
    learner.model.varlen = name != "mlp"
    learner.model.compile_blocks(backend="eager")
    first, *_ = batches = small_batches(config, 3)
    for batch in batches:
        learner.step(batch)
    last_output(predict_steps(learner.model, learner.table, first, 1))
    assert counters["stats"]["unique_graphs"] <= GRAPHS[name]
    assert not counters["graph_break"]
