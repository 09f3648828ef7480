"""A step gives the same result in chunks, on task canvases, compiled, and after running out of memory."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention
from torch.testing import assert_close

from augment import Selection, SourcedTasks, build_puzzle_set, load_tasks
from solver.data.batch import Batch
from solver.data.batches import PuzzleDataset
from solver.model.model import RecursiveModel
from solver.model.output import Output
from solver.model.recursion import Latents
from solver.training.learner import Learner
from solver.training.micro_batches import cut_slots
from tests.helpers.small_model import CONFIG, gradients_of, make_batch, make_learner, make_model

SIZES = [900, 12, 200, 36, 130, 25, 49]


def real_learner(most: int | None = None) -> Learner:
    """Return a learner in float64 whose slots have very different widths."""
    model = make_model(replace(CONFIG, board_side=30, h_cycles=2, l_cycles=2)).double()
    model.precision = torch.float64
    learner = make_learner(model)
    learner.table.weights_PI = torch.randn(8, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    learner.most_positions = most
    return learner


@pytest.mark.parametrize("most", [950, 1400, 1])
def test_chunks_change_nothing_but_the_memory_they_take(most: int) -> None:
    results = []
    for learner in (real_learner(), real_learner(most)):
        first = learner.step(make_batch(SIZES))
        second = learner.step(make_batch(SIZES))
        results.append((first, second, gradients_of(learner), learner.slots()))
    (whole_1, whole_2, whole_gradients, whole_slots), (part_1, part_2, gradients, slots) = results
    for whole, part in ((whole_1, part_1), (whole_2, part_2)):
        assert_close(part.losses.total, whole.losses.total, rtol=1e-12, atol=0)
        assert_close(part.output.logits_BCV, whole.output.logits_BCV, rtol=0, atol=1e-10)
        assert_close(part.id_gradients_BI, whole.id_gradients_BI, rtol=0, atol=1e-12)
        assert part.losses.labelled_B.equal(whole.losses.labelled_B)
    assert_close(gradients, whole_gradients, rtol=0, atol=1e-11)
    assert_close(slots, whole_slots, rtol=0, atol=1e-10)


def test_slots_are_cut_longest_first_and_never_over_the_limit() -> None:
    lengths = np.array([5, 9, 1, 3, 3, 12])
    assert [chunk.tolist() for chunk in cut_slots(lengths, 10)] == [[5], [1], [0, 3], [4, 2]]
    assert [chunk.tolist() for chunk in cut_slots(lengths, 33)] == [[0, 1, 2, 3, 4, 5]]
    assert [chunk.tolist() for chunk in cut_slots(lengths, None)] == [[0, 1, 2, 3, 4, 5]]


def test_the_smallest_chunk_is_not_blamed_when_memory_ends_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """Earlier chunks use memory too, so the largest chunks are halved until each has a single slot."""
    learner = real_learner(1000)
    forward = RecursiveModel.forward
    calls = []

    def limited(model: RecursiveModel, latents: Latents, batch: Batch, *rest: object, **options: object) -> Output:
        calls.append(int((batch.cells_BS >= 0).sum()))
        if len(calls) == 4:
            raise torch.OutOfMemoryError("no memory")
        return forward(model, latents, batch, *rest, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(RecursiveModel, "forward", limited)
    learner.step(make_batch([498] * 6 + [2]))
    assert calls[:4] == [996, 996, 996, 2]
    assert learner.most_positions == 500


def test_a_micro_batch_counts_full_boards() -> None:
    learner = make_learner(make_model(replace(CONFIG, board_side=30)), micro_batch=2)
    assert learner.most_positions == 2 * 902


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("no memory"), RuntimeError("DefaultCPUAllocator: no memory")])
def test_out_of_memory_halves_the_chunk_and_goes_on(monkeypatch: pytest.MonkeyPatch, error: RuntimeError) -> None:
    learner = real_learner()
    whole = real_learner()
    expected = whole.step(make_batch(SIZES))
    forward = type(learner.model).forward

    def limited(model: RecursiveModel, latents: Latents, batch: Batch, *rest: object, **options: object) -> Output:
        if (batch.cells_BS >= 0).sum() > 920:
            raise error
        return forward(model, latents, batch, *rest, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(type(learner.model), "forward", limited)
    result = learner.step(make_batch(SIZES))
    positions = sum(SIZES) + 2 * len(SIZES)
    assert learner.most_positions == positions // 2
    assert_close(result.losses.total, expected.losses.total, rtol=1e-12, atol=0)
    assert_close(gradients_of(learner), gradients_of(whole), rtol=0, atol=1e-11)
    monkeypatch.setattr(type(learner.model), "forward", lambda *_, **__: raise_(error))
    with pytest.raises(RuntimeError, match="no memory"):
        learner.step(make_batch(SIZES))


def raise_(error: Exception) -> None:
    raise error


def test_the_task_canvas_is_the_full_board_with_the_same_cells_left_out() -> None:
    """Logits and gradients agree for one supervision step on real tasks of all sizes."""
    tasks = load_tasks("arc-agi-1/training", Selection(limit=12))
    puzzle_set = build_puzzle_set([SourcedTasks("a", "train", tasks)], 3, seed=0)
    learners = []
    results = []
    narrow = PuzzleDataset(puzzle_set, "task").training_batch(PuzzleDataset(puzzle_set, "task").sampler(0), 24)
    full = PuzzleDataset(puzzle_set, "full").training_batch(PuzzleDataset(puzzle_set, "full").sampler(0), 24)
    on_canvas = torch.zeros(24, 900, dtype=torch.bool)
    for row, cells in enumerate(narrow.cells_BS):
        on_canvas[row, cells[cells >= 0]] = True
    masked = replace(full, cells_BS=full.cells_BS.masked_fill(~on_canvas, -1))
    assert not (masked.labels_BS > 0)[~on_canvas].any(), "no label is outside the canvas"
    for batch in (narrow, masked):
        learner = make_learner(make_model(replace(CONFIG, hidden=64, board_side=30, h_cycles=3, l_cycles=4)), rows=48)
        learner.table.weights_PI.normal_(generator=torch.Generator().manual_seed(1))
        learners.append(learner)
        results.append(learner.step(batch))
    for row in range(24):
        cells = narrow.cells_BS[row][narrow.cells_BS[row] >= 0]
        logits = results[0].output.logits_BCV[row, : len(cells)]
        assert_close(logits, results[1].output.logits_BCV[row, cells], rtol=0, atol=1e-4)
    assert_close(gradients_of(learners[0]), gradients_of(learners[1]), rtol=0, atol=5e-6)
    assert_close(results[0].id_gradients_BI, results[1].id_gradients_BI, rtol=0, atol=5e-6)


def test_varlen_attention_is_given_every_example_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in with the kernel's signature, as the kernel itself runs on CUDA only."""

    def one_by_one(q, k, v, ends_q, ends_k, longest_q, longest_k):
        assert ends_q is ends_k
        lengths = ends_q.diff().tolist()
        assert (ends_q.dtype, longest_q, longest_k) == (torch.int32, max(lengths), max(lengths))
        parts = zip(*(tensor.transpose(0, 1).split(lengths, 1) for tensor in (q, k, v)), strict=True)
        return torch.cat([scaled_dot_product_attention(*part) for part in parts], 1).transpose(0, 1)

    monkeypatch.setattr("solver.model.packing.varlen_attn", one_by_one)
    padded = real_learner()
    varlen = real_learner()
    varlen.model.varlen = True
    results = [learner.step(make_batch(SIZES)) for learner in (padded, varlen)]
    assert_close(results[0].output.logits_BCV, results[1].output.logits_BCV, rtol=0, atol=1e-10)
    assert_close(gradients_of(padded), gradients_of(varlen), rtol=0, atol=1e-11)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")
@pytest.mark.parametrize("canvas", ["task", "full", "mlp"])
def test_compiled_blocks_compute_the_same(canvas: str) -> None:
    settings = {"canvas": "full", "mixer": "mlp"} if canvas == "mlp" else {"canvas": canvas}
    results = []
    for compiled in (False, True):
        learner = make_learner(make_model(replace(CONFIG, **settings)))
        names = set(learner.model.state_dict())
        if compiled:
            learner.model.compile_blocks(backend="aot_eager")
        batches = [[16] * 3] * 2 if canvas != "task" else [[16, 3, 9], [2, 12, 5], [7, 7, 8], [16, 3, 9]]
        result = [learner.step(make_batch(sizes)) for sizes in batches][-1]
        assert set(learner.model.state_dict()) == names, "weights keep their names"
        results.append((result.output.logits_BCV, gradients_of(learner)))
    assert_close(results[0], results[1], rtol=0, atol=1e-6)
