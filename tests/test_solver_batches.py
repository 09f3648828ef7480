"""Batches: the published sampling rule, rendering on full and task canvases, shifts, and what is never shown."""

from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import torch

from augment import Augmentation, PuzzleSet, Selection, SourcedTasks, build_puzzle_set, load_tasks
from solver.batches import Batch, Examples, endless_visits, fill_batches
from solver.tokens import encode


@pytest.fixture(scope="module")
def puzzle_set() -> PuzzleSet:
    scored = load_tasks("arc-agi-1/training", Selection(max_side=6, limit=8))
    train = load_tasks("arc-agi-1/evaluation", Selection(max_side=6, limit=4))
    sources = [SourcedTasks("a", "scored", scored), SourcedTasks("b", "train", train)]
    return build_puzzle_set(sources, 5, seed=3, board_side=12)


def plain_boards(examples: Examples, puzzle: int, pair: int, shift: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Input and output boards of one example, made with the plain functions."""
    puzzle_set, task = examples.puzzle_set, examples.puzzle_set.task_of(puzzle)
    chosen = (*puzzle_set.training_pairs(task), *puzzle_set.tasks[task].tests)[pair]
    augmentation = Augmentation.from_number(int(puzzle_set.augmentations[puzzle]))
    boards = [
        np.zeros((examples.side, examples.side), np.uint8)
        if grid is None
        else encode(augmentation.apply(grid), examples.side, shift)
        for grid in (chosen.input, chosen.output)
    ]
    return boards[0], boards[1]


@pytest.mark.parametrize("shift", [(0, 0), (2, 5), (4, 4)])
def test_full_canvas_renders_what_encode_does(puzzle_set: PuzzleSet, shift: tuple[int, int]) -> None:
    examples = Examples(puzzle_set, canvas="full")
    puzzles, pairs = np.arange(len(puzzle_set)), np.zeros(len(puzzle_set), np.int64)
    batch = examples.render(puzzles, pairs, np.tile(shift, (len(puzzles), 1)))
    for row, puzzle in enumerate(puzzles):
        board, answer = plain_boards(examples, int(puzzle), 0, shift)
        assert np.array_equal(batch.tokens_BS[row].numpy(), board.ravel())
        assert np.array_equal(batch.labels_BS[row].numpy(), answer.ravel())


@pytest.mark.parametrize("shift", [(0, 0), (3, 2), (6, 6)])
def test_task_canvas_shows_the_same_cells_at_their_places(puzzle_set: PuzzleSet, shift: tuple[int, int]) -> None:
    examples = Examples(puzzle_set, canvas="task")
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
    examples = Examples(puzzle_set)
    puzzles, pairs = examples.test_inputs()
    scored = [task for task, role in zip(puzzle_set.tasks, puzzle_set.roles, strict=True) if role == "scored"]
    assert len(puzzles) == sum(len(task.tests) * (puzzle_set.requested + 1) for task in scored)
    assert examples.render(puzzles, pairs).labels_BS.sum() == 0
    drawn = list(islice(examples.training_batches(16, seed=0), 30))
    assert all((batch.labels_BS > 0).any(dim=1).all() for batch in drawn)


def test_an_epoch_takes_one_puzzle_of_each_task_and_all_its_pairs() -> None:
    starts, counts = np.array([0, 3, 4, 9]), np.array([2, 0, 5])
    puzzles, pairs = next(fill_batches(endless_visits(starts, counts, seed=1), 7))
    by_puzzle = {int(p): sorted(pairs[puzzles == p].tolist()) for p in set(puzzles.tolist())}
    assert sorted(by_puzzle.values()) == [[0, 1], [0, 1, 2, 3, 4]], "a task without pairs is passed over"
    assert all(0 <= p < 3 or 4 <= p < 9 for p in by_puzzle)


def test_the_last_puzzle_of_a_batch_is_cut_to_fit() -> None:
    starts, counts = np.array([0, 1, 2]), np.array([3, 3])
    batches = list(islice(fill_batches(endless_visits(starts, counts, seed=0), 4), 50))
    for puzzles, pairs in batches:
        assert len(puzzles) == 4
        assert sorted(np.bincount(puzzles).tolist()) == [1, 3]
        whole = np.bincount(puzzles).argmax()
        assert sorted(pairs[puzzles == whole].tolist()) == [0, 1, 2]


def test_batches_are_a_function_of_the_seed(puzzle_set: PuzzleSet) -> None:
    def draw(seed: int) -> list[Batch]:
        return list(islice(Examples(puzzle_set).training_batches(16, seed), 5))

    same = zip(draw(5), draw(5), strict=True)
    assert all(torch.equal(a.tokens_BS, b.tokens_BS) and torch.equal(a.cells_BS, b.cells_BS) for a, b in same)
    assert any(not torch.equal(a.puzzles_B, b.puzzles_B) for a, b in zip(draw(5), draw(6), strict=True))


def test_shifts_keep_both_grids_on_the_board_and_reach_its_edges(puzzle_set: PuzzleSet) -> None:
    examples = Examples(replace(puzzle_set, board_side=9), canvas="full")
    firsts, lasts = [], []
    for batch in islice(examples.training_batches(32, seed=0), 40):
        for tokens, labels in zip(batch.tokens_BS, batch.labels_BS, strict=True):
            grids = [board.reshape(9, 9) >= 2 for board in (tokens, labels)]
            rows = torch.cat([grid.any(dim=1).nonzero() for grid in grids])
            firsts.append(int(rows.min()))
            lasts.append(int(rows.max()))
    assert max(lasts) == 8
    stays = np.mean(np.array(firsts) == 0)
    assert 0.3 < stays < 0.8, "about one pair of each puzzle stays in the corner, and some land there by chance"


def test_held_out_demonstrations_are_never_trained_on(puzzle_set: PuzzleSet) -> None:
    held = (0, 2)
    examples = Examples(puzzle_set, held_out=held)
    puzzles, pairs = examples.held_out()
    assert puzzles.tolist() == [int(puzzle_set.starts[task]) for task in held]
    assert pairs.tolist() == [len(puzzle_set.training_pairs(task)) - 1 for task in held]
    visits = endless_visits(puzzle_set.starts, examples.trained, seed=0)
    for batch_puzzles, batch_pairs in islice(fill_batches(visits, 32), 60):
        tasks = examples.tasks[batch_puzzles]
        assert (batch_pairs < examples.trained[tasks]).all()
    shown = examples.render(puzzles, pairs)
    assert (shown.labels_BS > 0).any(dim=1).all(), "their outputs are known and can be checked"
