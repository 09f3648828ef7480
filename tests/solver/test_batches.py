"""Batches: rendering on full and task canvases, widths, shifts, parts of processes, and hidden or held-out pairs."""

from collections.abc import Iterable
from dataclasses import replace
from hashlib import sha256
from itertools import islice
from typing import Literal

import numpy as np
import pytest
import torch

from augment import Augmentation, PuzzleSet, Selection, SourcedTasks, build_puzzle_set, load_tasks, task_canvas
from solver.data.batch import Batch
from solver.data.batches import PuzzleDataset
from solver.data.tokens import encode
from solver.training.process_group import ProcessGroup, own_part


@pytest.fixture(scope="module")
def puzzle_set() -> PuzzleSet:
    scored = load_tasks("arc-agi-1/training", Selection(max_side=6, limit=8))
    train = load_tasks("arc-agi-1/evaluation", Selection(max_side=6, limit=4))
    sources = [SourcedTasks("a", "scored", scored), SourcedTasks("b", "train", train)]
    return build_puzzle_set(sources, 5, seed=3, board_side=12)


def plain_boards(
    examples: PuzzleDataset, puzzle: int, pair: int, shift: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Return the input and output boards of one example, made with the reference functions."""
    puzzle_set = examples.puzzle_set
    task = examples.puzzle_set.task_of(puzzle)
    source_pair = (*puzzle_set.training_pairs(task), *puzzle_set.tasks[task].tests)[pair]
    augmentation = Augmentation.from_number(int(puzzle_set.augmentations[puzzle]))
    boards = [
        np.zeros((examples.side, examples.side), np.uint8)
        if grid is None
        else encode(augmentation.apply(grid), examples.side, shift)
        for grid in (source_pair.input, source_pair.output)
    ]
    return boards[0], boards[1]


@pytest.mark.parametrize("shift", [(0, 0), (2, 5), (4, 4)])
def test_full_canvas_renders_what_encode_does(puzzle_set: PuzzleSet, shift: tuple[int, int]) -> None:
    examples = PuzzleDataset(puzzle_set, canvas="full")
    puzzles = np.arange(len(puzzle_set))
    pairs = np.zeros(len(puzzle_set), np.int64)
    batch = examples.render(puzzles, pairs, np.tile(shift, (len(puzzles), 1)))
    for row, puzzle in enumerate(puzzles):
        board, answer = plain_boards(examples, int(puzzle), 0, shift)
        assert np.array_equal(batch.tokens_BS[row].numpy(), board.ravel())
        assert np.array_equal(batch.labels_BS[row].numpy(), answer.ravel())


@pytest.mark.parametrize("canvas", ["full", "task"])
@pytest.mark.parametrize("shift", [0, 6])
def test_a_rendered_batch_knows_its_lengths(
    puzzle_set: PuzzleSet, canvas: Literal["full", "task"], shift: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On any device: they are not read from the tensors, and are those that the tensors have."""
    puzzles = np.arange(len(puzzle_set))
    shifts = np.full((len(puzzles), 2), shift)
    batch = PuzzleDataset(puzzle_set, canvas).render(puzzles, np.zeros_like(puzzles), shifts)
    counted = batch.each(lambda tensor: tensor)
    widths = counted.lengths_B, counted.used_width(), counted.is_compact
    monkeypatch.setattr(torch.Tensor, "cpu", lambda tensor: pytest.fail("lengths were read from the device"))
    moved = batch.to("cpu")
    assert np.array_equal(moved.lengths_B, widths[0])
    assert (moved.used_width(), moved.is_compact) == widths[1:]


@pytest.mark.parametrize("shift", [(0, 0), (3, 2), (6, 6)])
def test_task_canvas_shows_the_same_cells_at_their_places(puzzle_set: PuzzleSet, shift: tuple[int, int]) -> None:
    examples = PuzzleDataset(puzzle_set, canvas="task")
    puzzles = np.arange(len(puzzle_set))
    batch = examples.render(puzzles, np.zeros_like(puzzles), np.tile(shift, (len(puzzles), 1)))
    for row, puzzle in enumerate(puzzles):
        board, answer = (plain.ravel() for plain in plain_boards(examples, int(puzzle), 0, shift))
        cells = batch.cells_BS[row]
        used = cells[cells >= 0].numpy()
        assert np.array_equal(batch.tokens_BS[row, : len(used)].numpy(), board[used])
        assert np.array_equal(batch.labels_BS[row, : len(used)].numpy(), answer[used])
        assert np.delete(board, used).sum() == np.delete(answer, used).sum() == 0, "a filled cell was left out"
        assert (cells[len(used) :] == -1).all()
        assert batch.tokens_BS[row, len(used) :].sum() == batch.labels_BS[row, len(used) :].sum() == 0


def test_test_outputs_of_scored_tasks_are_nowhere(puzzle_set: PuzzleSet) -> None:
    examples = PuzzleDataset(puzzle_set)
    puzzles, pairs = examples.test_inputs()
    scored = [task for task, role in zip(puzzle_set.tasks, puzzle_set.roles, strict=True) if role == "scored"]
    assert len(puzzles) == sum(len(task.tests) * (puzzle_set.requested + 1) for task in scored)
    assert examples.render(puzzles, pairs).labels_BS.sum() == 0
    draws = list(islice(examples.training_batches(16, seed=0), 30))
    assert all((batch.labels_BS > 0).any(dim=1).all() for batch in draws)


def test_the_streams_of_filed_scores_are_unchanged() -> None:
    """The first batches have the puzzles, pairs and shifts of the first release, which recorded scores depend on."""
    tasks = tuple(load_tasks("arc-agi-1/training", Selection(max_side=6, limit=12)))
    canvases = np.array([task_canvas(task, 12) for task in tasks], np.uint8)
    starts = np.arange(13) * 50
    numbers = (np.arange(600) * 4787).astype(np.uint32)
    roles: tuple[Literal["scored", "train"], ...] = ("scored",) * 8 + ("train",) * 4
    puzzle_set = PuzzleSet(tasks, roles, ("a",) * 12, canvases, starts, numbers, seed=3, requested=49, board_side=12)
    draws = {
        (canvas, shift): digest(islice(PuzzleDataset(puzzle_set, canvas, (0, 2)).training_batches(16, 5, shift), 40))
        for canvas in ("full", "task")
        for shift in (True, False)
    }
    assert draws == {
        ("full", True): "254f44353827d99f6cae11d4ff55f6bfb7f2e8c145a1745299cbe847277b14f8",
        ("full", False): "bd90b8fb3d1614d0943f9993723f52cc8219473742583ffcf3e3eef0e0a82ae6",
        ("task", True): "98ff62f5f19a778fdf918f1f1eb1123c93a1bd49e4eb1f6ca23b6202526aac9c",
        ("task", False): "08fae2c5513f708bea72f2829c4a8fb63db1e04cbd943940849c040d115766e5",
    }


def digest(batches: Iterable[Batch]) -> str:
    """Return the SHA-256 of the contents of the batches without padding."""
    checksum = sha256()
    for batch in batches:
        used_BS = batch.cells_BS >= 0
        contents = (batch.cells_BS[used_BS], batch.tokens_BS[used_BS], batch.labels_BS[used_BS])
        for tensor in (batch.puzzles_B, used_BS.sum(1), *contents):
            checksum.update(tensor.numpy().tobytes())
    return checksum.hexdigest()


@pytest.mark.parametrize("canvas", ["full", "task"])
@pytest.mark.parametrize("processes", [1, 2, 3, 4])
def test_the_parts_of_any_number_of_processes_are_the_whole(
    puzzle_set: PuzzleSet, canvas: Literal["full", "task"], processes: int
) -> None:
    examples = PuzzleDataset(puzzle_set, canvas)
    samplers = [examples.sampler(seed=4, source_weights=[("b", 1.5)]) for _ in range(processes)]
    whole_sampler = examples.sampler(seed=4, source_weights=[("b", 1.5)])
    for _ in range(10):
        whole = examples.training_batch(whole_sampler, 16)
        sizes = shares(16, processes)
        parts = [
            examples.training_batch(sampler, 16, part=own_part(sizes, process))
            for process, sampler in enumerate(samplers)
        ]
        assert [len(part) for part in parts] == sizes
        assert [row for part in parts for row in shown_rows(part)] == shown_rows(whole)


def shares(slots: int, processes: int) -> list[int]:
    several = ProcessGroup()
    several.count = processes
    return several.sizes(slots)


@pytest.mark.parametrize(("slots", "sizes"), [(12, [4, 4, 4]), (32, [10, 11, 11]), (4, [1, 1, 2]), (2, [0, 1, 1])])
def test_slots_are_shared_as_equally_as_can_be(slots: int, sizes: list[int]) -> None:
    assert shares(slots, 3) == sizes


def shown_rows(batch: Batch) -> list[tuple]:
    """Return each example without its padding."""
    return [
        (int(puzzle), *(part[cells >= 0].tolist() for part in (cells, tokens, labels)))
        for tokens, labels, cells, puzzle in zip(
            batch.tokens_BS, batch.labels_BS, batch.cells_BS, batch.puzzles_B, strict=True
        )
    ]


def test_batches_have_few_widths(puzzle_set: PuzzleSet) -> None:
    examples = PuzzleDataset(puzzle_set, canvas="task")
    puzzles = np.arange(len(puzzle_set))
    cells = examples.canvas_sizes(puzzles).prod(axis=1)
    assert set(examples.widths(puzzles).tolist()) == {36, 121}
    for puzzle, used in zip(puzzles, cells, strict=True):
        width = examples.render(np.array([puzzle]), np.array([0])).cells_BS.shape[1]
        assert width == min(width for width in (36, 121, 144) if width >= used)


def test_batches_are_a_function_of_the_seed(puzzle_set: PuzzleSet) -> None:
    def draw(seed: int) -> list[Batch]:
        return list(islice(PuzzleDataset(puzzle_set).training_batches(16, seed), 5))

    same = zip(draw(5), draw(5), strict=True)
    assert all(torch.equal(a.tokens_BS, b.tokens_BS) and torch.equal(a.cells_BS, b.cells_BS) for a, b in same)
    assert any(not torch.equal(a.puzzles_B, b.puzzles_B) for a, b in zip(draw(5), draw(6), strict=True))


def test_shifts_keep_both_grids_on_the_board_and_reach_its_edges(puzzle_set: PuzzleSet) -> None:
    examples = PuzzleDataset(replace(puzzle_set, board_side=9), canvas="full")
    firsts = []
    lasts = []
    for batch in islice(examples.training_batches(32, seed=0), 40):
        for tokens, labels in zip(batch.tokens_BS, batch.labels_BS, strict=True):
            grids = [board.reshape(9, 9) >= 2 for board in (tokens, labels)]
            rows = torch.cat([grid.any(dim=1).nonzero() for grid in grids])
            firsts.append(int(rows.min()))
            lasts.append(int(rows.max()))
    assert max(lasts) == 8
    corner_share = np.mean(np.array(firsts) == 0)
    assert 0.3 < corner_share < 0.8, "about one pair per puzzle stays in the corner, and some get there at random"


def test_held_out_demonstrations_are_never_trained_on(puzzle_set: PuzzleSet) -> None:
    held_out_tasks = (0, 2)
    examples = PuzzleDataset(puzzle_set, held_out=held_out_tasks)
    puzzles, pairs = examples.held_out()
    assert puzzles.tolist() == [int(puzzle_set.starts[task]) for task in held_out_tasks]
    assert pairs.tolist() == [len(puzzle_set.training_pairs(task)) - 1 for task in held_out_tasks]
    sampler = examples.sampler(seed=0)
    for _ in range(60):
        batch_puzzles, batch_pairs = sampler.next_batch(32)
        tasks = examples.tasks[batch_puzzles]
        assert (batch_pairs < examples.trained[tasks]).all()
    contents = examples.render(puzzles, pairs)
    assert (contents.labels_BS > 0).any(dim=1).all(), "their outputs are known and can be checked"
