"""The checks for a first run on a GPU hold on the CPU, and fail where something is wrong."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import typer
from torch import Tensor

from benchmarks import check_cuda
from benchmarks.check_cuda import Check, Finding, Place
from solver.data.batch import Batch
from solver.model import puzzle_embedding
from solver.model.model import RecursiveModel
from solver.model.output import Output
from solver.model.puzzle_embedding import PuzzleEmbedding
from solver.model.recursion import Latents
from solver.training.learner import Learner
from tests.helpers import varlen_on_cpu  # noqa: F401  registers kernels
from tests.helpers.pretended_gpu import CUDA, pretended_gpu

CPU = Place(torch.device("cpu"), small=True)


HOLD = ["golden trm_attn float32", "canvas", "memory", "resume", "id rows", "fast arc1_fast", "member smoke_hrm"]


@pytest.mark.parametrize("name", HOLD)
def test_a_check_holds_on_the_cpu(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert check_cuda.run_check(name, check_cuda.list_checks()[name], CPU)
    assert capsys.readouterr().out.startswith(f"ok     {name}: ")


@pytest.mark.parametrize("name", [name for name in HOLD if name != "memory"])
def test_a_check_runs_on_a_pretended_gpu(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """No mixture of devices in the check itself. Memory cannot run out there, and nothing is compiled."""
    monkeypatch.setattr(torch.compiler, "reset", lambda: None)
    monkeypatch.setattr("pipeline.checkpoints.load_model.find_compile_error", lambda *_: "not on a pretended GPU")
    with pretended_gpu() as traffic:
        assert check_cuda.run_check(name, check_cuda.list_checks()[name], Place(CUDA, small=True))
    assert not traffic.hidden


def test_memory_that_runs_out_on_a_pretended_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit is set, the step runs out of memory and is cut, and the limit is taken away."""
    shares: list[float] = []
    forward = RecursiveModel.forward

    def run_out(model: RecursiveModel, latents: Latents, batch: Batch, *rest: Any, **named: Any) -> Output:
        if shares[-1:] == [0.1] and len(batch) == 3:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return forward(model, latents, batch, *rest, **named)

    monkeypatch.setattr(RecursiveModel, "forward", run_out)
    gibibytes = check_cuda.SPARE_BYTES // 4
    with pretended_gpu():
        monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _: 4 * gibibytes)
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (70 * gibibytes, 80 * gibibytes))
        monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", lambda share, _: shares.append(share))
        finding = check_cuda.check_memory(Place(CUDA, small=True))
    assert finding.holds, finding.text
    assert shares == [0.1, 1.0]


def wrong_sum(original: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]) -> Callable[..., tuple[Tensor, Tensor]]:
    """Sums that depend on chance, as additions in any order do near zero."""

    def sum_by_row(rows_B: Tensor, gradients_BI: Tensor) -> tuple[Tensor, Tensor]:
        rows_U, summed_UI = original(rows_B, gradients_BI)
        return rows_U, summed_UI * torch.randn_like(summed_UI)

    return sum_by_row


def test_sums_in_any_order_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(puzzle_embedding, "sum_by_row", wrong_sum(puzzle_embedding.sum_by_row))
    assert not check_cuda.check_id_rows(CPU).holds


def test_a_chunk_that_is_left_out_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    losses: list[Tensor] = []
    backward = Learner._backward

    def leave_one_out(learner: Learner, loss: Tensor) -> None:
        losses.append(loss)
        backward(learner, 0 * loss if len(losses) == 3 else loss)

    monkeypatch.setattr(Learner, "_backward", leave_one_out)
    assert not check_cuda.check_memory(CPU).holds


def test_a_state_that_is_not_loaded_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Learner, "load", lambda *_: None)
    assert not check_cuda.check_resume(CPU).holds


def test_embeddings_that_are_not_used_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The golden models have trained puzzle embeddings."""
    lookup = PuzzleEmbedding.lookup

    def look_up_zeros(table: PuzzleEmbedding, puzzles_B: Tensor) -> Tensor:
        return torch.zeros_like(lookup(table, puzzles_B)).requires_grad_()

    monkeypatch.setattr(PuzzleEmbedding, "lookup", look_up_zeros)
    assert not check_cuda.list_checks()["golden trm_attn float32"](CPU).holds


def test_no_check_inherits_the_graphs_of_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """More networks are compiled than torch compiles graphs of one function."""
    graphs: list[str] = []
    monkeypatch.setattr(torch.compiler, "reset", graphs.clear)
    for name in ("one", "two"):
        check_cuda.run_check(name, lambda _, name=name: Finding("", graphs.append(name) is None), CPU)
        assert graphs == [name]


def fail(_: Place) -> Finding:
    raise RuntimeError("CUDA error")


@pytest.mark.parametrize(("check", "code", "said"), [
    (lambda _: Finding("well", True), 0, "ok     one: well"),
    (lambda _: Finding("badly", False), 1, "FAILED one: badly"),
    (fail, 1, "CUDA error"),
])  # fmt: skip
def test_the_exit_code_says_whether_all_hold(
    check: Check, code: int, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(check_cuda, "list_checks", lambda: {"one": check})
    with pytest.raises(SystemExit) as ended:
        check_cuda.main("cpu")
    assert int(ended.value.code or 0) == code
    printed = capsys.readouterr().out
    assert said in printed
    assert printed.splitlines()[-1] == ("FAILED: one" if code else "all checks hold")


@pytest.mark.parametrize("device", ["gpu", "cuda"])
def test_a_device_that_is_not_here_is_refused(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(typer.BadParameter, match=f"'{device}' is not a device here: name cpu"):
        check_cuda.main(device)
