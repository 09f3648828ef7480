"""torch.compile is tried on a block before it is used, left out where it fails, and explained where it ends a run."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._dynamo.exc import FailOnRecompileLimitHit
from torch._inductor.exc import InductorError

from pipeline.checkpoints.attention_choice import varlen_works
from pipeline.checkpoints.compilation import DISABLE, explain_compilation, find_compile_error, forget_trials
from pipeline.checkpoints.load_model import prepare_model
from pipeline.config.run_config import TrainSettings
from pipeline.experiments import worker_pool
from pipeline.recipes.registry import recipe
from pipeline.runtime.console import Console
from pipeline.runtime.exit_codes import CompilationError, ExitCode, exit_code
from solver.model.layers import Block
from solver.model.packing import Layout
from solver.model.puzzle_embedding import PuzzleEmbedding
from solver.training.learner import Learner
from tests.helpers import varlen_on_cpu  # noqa: F401  registers kernels
from tests.helpers.commands import SHORT, run
from tests.helpers.small_model import CONFIG, make_batch, make_model

CPU = torch.device("cpu")
Function = Callable[..., Any]
COMPILE = torch.compile


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing has been tried or compiled."""
    monkeypatch.delenv(DISABLE, raising=False)
    forget_trials()
    yield
    forget_trials()
    torch.compiler.reset()


def replace_compiler(monkeypatch: pytest.MonkeyPatch, change: Callable[[Function], Function]) -> list[Function]:
    """Stand in for torch.compile: `change` makes the compiled function. Returns the functions that it is given."""
    given: list[Function] = []
    monkeypatch.setattr(torch, "compile", lambda function, **_: [given.append(function), change(function)][1])
    return given


def fail_with(error: Exception) -> Callable[[Function], Function]:
    def fail(*_: object, **__: object) -> None:
        raise error

    return lambda _: fail


def fail_backward(function: Function) -> Function:
    """Return a function whose result cannot be differentiated: kernels of gradients are compiled at their first use."""

    def refuse(_: Tensor) -> Tensor:
        raise RuntimeError("no kernel for the gradient")

    def run_forward(*inputs: Any) -> Any:
        results = function(*inputs)
        first = results if isinstance(results, Tensor) else results[0]
        if first.requires_grad:
            first.register_hook(refuse)
        return results

    return run_forward


def scale(function: Function) -> Function:
    return lambda *inputs: function(*inputs) * 1.5


@pytest.mark.parametrize("error", [RuntimeError("no gcc\nand more"), OSError("no Python.h"), KeyError("uid")])
def test_a_compilation_that_fails_is_left_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception
) -> None:
    replace_compiler(monkeypatch, fail_with(error))
    said = prepare_model(make_model(), PuzzleEmbedding(2, 16), TrainSettings(compile=True), CPU, Console())
    assert said == "float32 on cpu, padded attention"
    reason = f"{type(error).__name__}: {str(error).splitlines()[0]}"
    assert capsys.readouterr().out.startswith(f"warning: torch.compile does not work here ({reason})")


def test_the_reason_of_a_failure_follows_the_name_of_the_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    replace_compiler(monkeypatch, fail_with(RuntimeError("backend='inductor' raised:\nRuntimeError: no gcc\n\nmore")))
    assert find_compile_error(make_model()) == "RuntimeError: backend='inductor' raised: RuntimeError: no gcc"


def test_a_compilation_whose_gradient_or_result_is_wrong_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    replace_compiler(monkeypatch, fail_backward)
    assert find_compile_error(make_model()) == "RuntimeError: no kernel for the gradient"
    forget_trials()
    finish = Block.finish
    replace_compiler(monkeypatch, lambda part: scale(part) if part.__name__ == finish.__name__ else part)
    assert find_compile_error(make_model()) == "its results differ by 137% from those of the same network uncompiled"


def test_lack_of_memory_is_not_taken_for_a_kernel_or_compiler_that_does_not_work(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    error = torch.AcceleratorError("CUDA error: out of memory")
    replace_compiler(monkeypatch, fail_with(error))
    with pytest.raises(torch.AcceleratorError):
        find_compile_error(make_model())
    monkeypatch.setattr(Layout, "attend", fail_with(error)(print))
    monkeypatch.setattr("pipeline.checkpoints.attention_choice.on_cuda", lambda _: True)
    with pytest.raises(torch.AcceleratorError):
        varlen_works(2, 8, torch.bfloat16, CPU)


@pytest.mark.parametrize("name", ["smoke", "smoke_urm", "smoke_symbols", "arc1"])
@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_a_compilation_that_works_is_found(monkeypatch: pytest.MonkeyPatch, name: str, precision: torch.dtype) -> None:
    """Every kind of block is tried on few positions, and the random numbers of the run stay as they are."""
    config = recipe(name).model
    model = make_model(replace(config, hidden=32, heads=2) if config.hidden > 128 else config)
    model.precision = precision
    given = replace_compiler(monkeypatch, lambda function: function)
    before = torch.get_rng_state()
    assert find_compile_error(model) is None
    assert len(given) >= 2
    assert torch.equal(torch.get_rng_state(), before)
    assert all(weight.grad is None for weight in model.parameters())


def test_a_network_is_tried_once(monkeypatch: pytest.MonkeyPatch) -> None:
    given = replace_compiler(monkeypatch, fail_with(RuntimeError("no gcc")))
    for hidden in (16, 16, 32, 16):
        assert find_compile_error(make_model(replace(CONFIG, hidden=hidden)))
    assert len(given) == 2 * 2 * CONFIG.layers, "two parts of each block, of each size"


def test_nothing_is_compiled_where_torch_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(DISABLE, "1")
    given = replace_compiler(monkeypatch, lambda function: function)
    assert prepare_model(make_model(), PuzzleEmbedding(2, 16), TrainSettings(compile=True), CPU).endswith("attention")
    assert not given


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")
@pytest.mark.parametrize("varlen", [False, True])
def test_many_networks_in_one_process_do_not_reach_the_limit_of_graphs(
    monkeypatch: pytest.MonkeyPatch, varlen: bool
) -> None:
    """Torch counts the graphs of a function over all models, and each network needs graphs of its own."""
    monkeypatch.setattr(torch, "compile", partial(COMPILE, backend="eager"))
    monkeypatch.setattr("pipeline.checkpoints.attention_choice.choose_varlen", lambda *_: varlen)
    batch = make_batch([4, 4])
    models = []  # torch forgets the graphs of a model that is gone
    with torch._dynamo.config.patch(recompile_limit=2):  # pyright: ignore[reportAttributeAccessIssue]
        for change in ({"hidden": 16}, {"hidden": 24, "heads": 3}, {"layers": 1}, {"layers": 3}, {"layers": 4}):
            models.append(model := make_model(replace(CONFIG, **change)))
            table = PuzzleEmbedding(2, model.config.id_length)
            assert prepare_model(model, table, TrainSettings(compile=True), CPU).endswith("compiled")
            model(model.initial_latents(batch), batch, table.lookup(batch.puzzles_B))


def test_an_error_of_the_compiler_says_what_to_do() -> None:
    with pytest.raises(CompilationError, match=f"one graph too many.*{DISABLE}=1") as raised, explain_compilation():
        raise FailOnRecompileLimitHit("fullgraph") from RuntimeError("one graph too many\nand much more")
    assert exit_code(raised.value) == ExitCode.COMPILATION
    with pytest.raises(InductorError, match="out of memory"), explain_compilation():
        raise InductorError(RuntimeError("Triton Error [CUDA]: out of memory"), None)
    with pytest.raises(KeyError), explain_compilation():
        raise KeyError("another error")


def test_a_run_that_the_compiler_ends_has_one_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Learner, "step", fail_with(FailOnRecompileLimitHit("Hard failure due to fullgraph=True"))(run))
    assert run("solve", "--recipe", "smoke", *SHORT, "--run-dir", tmp_path / "run") == ExitCode.COMPILATION
    said = " ".join(capsys.readouterr().err.split())
    assert "torch.compile failed during the run (Hard failure due to fullgraph=True)" in said
    assert f"{DISABLE}=1" in said


def test_a_trial_that_the_compiler_ends_is_a_failed_one(monkeypatch: pytest.MonkeyPatch) -> None:
    @explain_compilation()
    def fail(_: object) -> None:
        raise FailOnRecompileLimitHit("Hard failure due to fullgraph=True")

    monkeypatch.setattr(worker_pool, "run_trial", fail)
    assert "torch.compile failed" in worker_pool.try_trial(None)["failed"]  # type: ignore[arg-type]
