"""A step gives the same result in chunks, on task canvases, compiled, and after running out of memory."""

from dataclasses import replace

import numpy as np
import pytest
import torch
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
    learner.limit.most = most
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
    """Earlier chunks use memory too, so the largest chunks are made smaller until each has a single slot."""
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
    assert learner.limit.most == 750


def test_a_micro_batch_counts_full_boards() -> None:
    learner = make_learner(make_model(replace(CONFIG, board_side=30)), micro_batch=2)
    assert learner.limit.most == 2 * 902


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("no memory"),
        RuntimeError("DefaultCPUAllocator: no memory"),
        MemoryError("no memory"),
        torch.AcceleratorError("CUDA error: out of memory, no memory"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_out_of_memory_makes_chunks_smaller_and_goes_on(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
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
    assert learner.limit.most == positions * 3 // 4
    assert_close(result.losses.total, expected.losses.total, rtol=1e-12, atol=0)
    assert_close(gradients_of(learner), gradients_of(whole), rtol=0, atol=1e-11)
    monkeypatch.setattr(type(learner.model), "forward", lambda *_, **__: raise_(error))
    with pytest.raises(type(error), match="no memory"):
        learner.step(make_batch(SIZES))


class PretendedMemory:
    """A device on which a position takes 1,000 bytes while it is computed, beside 500 bytes that stay allocated."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, free: int):
        self.left = free
        self.computed: list[int] = []
        forward = RecursiveModel.forward

        def counted(model: RecursiveModel, latents: Latents, batch: Batch, *rest: object, **options: object) -> Output:
            self.computed.append(int((batch.cells_BS >= 0).sum()) + len(batch) * model.config.id_slots)
            return forward(model, latents, batch, *rest, **options)  # type: ignore[arg-type]

        monkeypatch.setattr(RecursiveModel, "forward", counted)

    def allocated(self) -> int:
        return 500

    def peak(self) -> int:
        return 500 + 1000 * self.computed[-1]

    def free(self) -> int:
        return self.left

    def total(self) -> int:
        return 10**9


def test_memory_is_measured_once_before_the_first_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight boards run twice; then as much runs at once as 80% of the free memory holds."""
    learner, whole = (make_learner(make_model(), rows=24) for _ in range(2))
    memory = PretendedMemory(monkeypatch, free=250_000)
    whole.step(make_batch([16] * 20))
    memory.computed.clear()
    learner.memory = memory
    random = torch.get_rng_state()
    learner.step(make_batch([16] * 20))
    assert memory.computed == [8 * 18] * 2 + [198, 162], "200 positions are 11 boards of 18"
    assert torch.equal(torch.get_rng_state(), random)
    assert learner.limit.most == 200
    assert_close(gradients_of(learner), gradients_of(whole), rtol=0, atol=1e-6)
    learner.step(make_batch([16] * 20))
    assert memory.computed[4:] == [198, 162]


def test_a_measurement_changes_no_bit_where_all_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    learner, whole = (make_learner(make_model(), rows=24, scale_loss=True) for _ in range(2))
    learner.memory = PretendedMemory(monkeypatch, free=10**9)
    for _ in range(2):
        for each in (learner, whole):
            each.step(make_batch([16] * 20), watched=True)
    assert_close(learner.tensors(), whole.tensors(), rtol=0, atol=0)
    assert_close(learner.slots(), whole.slots(), rtol=0, atol=0)
    assert_close(vars(learner.movement), vars(whole.movement), rtol=0, atol=0)
    assert learner.limit.most is not None
    assert whole.limit.most is None


def test_memory_is_measured_again_when_the_cycles_change(monkeypatch: pytest.MonkeyPatch) -> None:
    learner = make_learner(
        make_model(replace(CONFIG, l_cycles=2)), rows=24, total_steps=4, curriculum=((0.5, 1, 1),), micro_batch=15
    )
    learner.memory = memory = PretendedMemory(monkeypatch, free=1_000_000)
    runs = []
    for _ in range(4):
        memory.computed.clear()
        learner.step(make_batch([16] * 20))
        runs.append(len(memory.computed))
    assert runs == [4, 2, 4, 2]
    assert learner.limit.most == 15 * 18, "the setting stays the upper limit"


def test_small_batches_are_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    learner = make_learner(make_model())
    learner.memory = memory = PretendedMemory(monkeypatch, free=1)
    learner.step(make_batch([16] * 8))
    assert memory.computed == [8 * 18]


def test_a_measurement_that_runs_out_of_memory_gives_a_smaller_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    learner = make_learner(make_model(), rows=24)
    memory = PretendedMemory(monkeypatch, free=1)
    forward = RecursiveModel.forward

    def limited(model: RecursiveModel, *rest: object, **options: object) -> Output:
        output = forward(model, *rest, **options)  # type: ignore[arg-type]
        if memory.computed[-1] > 120:
            raise torch.OutOfMemoryError("no memory")
        return output

    monkeypatch.setattr(RecursiveModel, "forward", limited)
    learner.memory = memory
    learner.step(make_batch([16] * 20))
    assert learner.limit.most == 8 * 18 * 3 // 4
    assert memory.computed == [8 * 18] + [6 * 18] * 3 + [2 * 18]


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
