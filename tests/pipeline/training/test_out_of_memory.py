"""Batches that fit into memory."""

import numpy as np
import pytest
import torch

from pipeline.recipes.registry import recipe
from pipeline.runtime.exit_codes import OutOfMemoryError
from pipeline.training import metrics
from pipeline.training.batch_size import (
    CPU_BOARDS,
    FEWEST_BOARDS,
    MOST_BOARDS,
    BatchSize,
    find_boards,
    grow,
    largest_size,
)
from solver.data.batch import Batch
from solver.data.batches import PuzzleDataset
from solver.model.config import ModelConfig
from solver.training.learner import Learner
from solver.training.micro_batches import cut_slots
from solver.training.position_limit import MOST_POSITIONS
from tests.helpers.recipe_learner import small_learner, small_recipe, small_set

CONFIG = ModelConfig(hidden=16, heads=2, id_slots=4, board_side=6)
"""40 positions a board."""
CPU = torch.device("cpu")


def test_a_batch_has_no_more_positions_than_so_many_full_boards() -> None:
    memory = BatchSize(CONFIG, 3, print, CPU)
    assert list(memory.batches(70, 1, lambda rows: (rows.start, rows.stop))) == [(0, 24), (24, 48), (48, 70)]
    assert list(memory.batches(4, 36, lambda rows: rows.stop)) == [3, 4]
    assert list(memory.batches(2, 500, lambda rows: rows.stop)) == [1, 2], "one example at least"
    assert list(memory.batches(0, 36, lambda rows: rows.stop)) == []


def test_what_does_not_fit_is_made_smaller_and_stays_so() -> None:
    tried, said = [], []

    def work(rows: slice) -> list[int]:
        tried.append(rows.stop - rows.start)
        if tried[-1] > 5:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return list(range(rows.start, rows.stop))

    memory = BatchSize(CONFIG, 2, said.append, CPU)
    done = [row for rows in memory.batches(20, 1, work) for row in rows]
    assert done == list(range(20))
    assert tried == [16, 12, 9, 6, 4, 4, 4, 4, 4]
    limits = [rows * 5 for rows in (12, 9, 6, 4)]
    assert said == [f"a batch did not fit in memory: from now on at most {most} positions at once" for most in limits]


LENGTHS = np.random.default_rng(0).integers(5, 41, 50)


def test_examples_of_different_lengths_are_cut_as_slots_are() -> None:
    memory = BatchSize(CONFIG, 3, print, CPU)
    cut = cut_slots(LENGTHS, 120)
    done = list(memory.ragged_batches(LENGTHS, lambda rows: rows))
    assert len(done) == len(cut) > 2
    assert all(np.array_equal(one, other) for one, other in zip(done, cut, strict=True))


def test_every_example_is_computed_by_one_process_whichever_runs_out_of_memory() -> None:
    """The second process can compute 60 positions at once, and remembers it; the first one all."""
    said, tried = [], []

    def work(rows: np.ndarray) -> np.ndarray:
        tried.append(int(LENGTHS[rows].sum()))
        if tried[-1] > 60:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return rows

    memories = [BatchSize(CONFIG, 3, said.append, CPU) for _ in range(2)]
    for _ in range(2):
        tried.clear()
        first = list(memories[0].ragged_batches(LENGTHS, lambda rows: rows, slice(0, None, 2)))
        second = list(memories[1].ragged_batches(LENGTHS, work, slice(1, None, 2)))
        assert sorted(np.concatenate([*first, *second]).tolist()) == list(range(50))
    assert max(tried) <= 60, "what did not fit is not tried again"
    assert len(said) >= 1
    assert said[-1].endswith(f"from now on at most {memories[1].most} positions at once")


def test_a_single_long_example_that_does_not_fit_ends_in_words() -> None:
    def work(rows: np.ndarray) -> None:
        raise MemoryError("no memory")

    with pytest.raises(OutOfMemoryError, match="with a single example"):
        list(BatchSize(CONFIG, 8, print, CPU).ragged_batches(LENGTHS, work))


@pytest.mark.parametrize("most", [1, 3, 100])
def test_held_out_accuracy_is_the_same_whatever_fits(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The model is patched: it knows every other puzzle, and `most` examples fit in memory."""
    config, said, sizes = small_recipe("smoke"), [], []
    puzzles = small_set(config.puzzles, config.model.board_side)
    held_out = tuple(range(len(puzzles.tasks)))
    examples = PuzzleDataset(puzzles, "task", held_out, ids=config.puzzles.ids)
    rows = examples.id_rows[examples.held_out()[0]]
    known = set(rows[::2].tolist())

    def is_correct(learner: Learner, batch: Batch, steps: int | None) -> torch.Tensor:
        if len(batch) > most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        sizes.append(len(batch))
        return torch.tensor([row in known for row in batch.puzzles_B.tolist()])

    monkeypatch.setattr(metrics, "is_correct", is_correct)
    memory = metrics.held_out_batches(config, CPU, said.append)
    accuracy = metrics.held_out_accuracy(small_learner(config, CPU), examples, None, memory)
    assert accuracy == len(known) / len(rows)
    assert sum(sizes) == len(rows)
    assert bool(said) == (most < len(rows))
    assert all(line.startswith("predicting held-out examples: a batch did not fit in memory") for line in said)


def test_a_single_example_that_does_not_fit_ends_in_words() -> None:
    def work(rows: slice) -> None:
        raise MemoryError("no memory")

    with pytest.raises(ValueError, match=r"out of memory with a single example \(no memory\); free memory"):
        list(BatchSize(CONFIG, 8, print, CPU).batches(5, 36, work))


def test_other_errors_are_not_taken_for_it() -> None:
    def work(rows: slice) -> None:
        raise RuntimeError("shapes differ")

    with pytest.raises(RuntimeError, match="shapes differ"):
        list(BatchSize(CONFIG, 1, print, CPU).batches(5, 36, work))


@pytest.mark.parametrize("boards", [2, 1000, 1_000_000])
def test_a_gpu_computes_no_more_at_once_than_32_bit_indices_reach(boards: int) -> None:
    memory = BatchSize(CONFIG, boards, print, torch.device("cuda"))
    assert memory.rows(36) == min(boards, MOST_POSITIONS // 40)
    assert BatchSize(CONFIG, boards, print, CPU).rows(36) == boards


class PretendedMemory:
    """A GPU on which a board takes the given share of memory, beside what stays allocated."""

    def __init__(self, share: float):
        self.share = share
        self.boards: list[int] = []

    def allocated(self) -> int:
        return 0

    def peak(self) -> int:
        return int(1e9 * self.share * self.boards[-1])

    def free(self) -> int:
        return 10**9

    def total(self) -> int:
        return 10**9


@pytest.mark.parametrize(
    ("share", "most", "largest", "expected"),
    [(0.001, 4096, 4096, 512), (1e-9, 10**6, 4096, 4096), (1e-9, 10**6, 286, 286), (1e-9, 5, 286, 8), (0, 9, 1, 1)],
)
def test_boards_are_found_by_measuring(share: float, most: int, largest: int, expected: int) -> None:
    memory = PretendedMemory(share)
    assert find_boards(memory, most, largest, memory.boards.append) == expected
    assert all(boards <= largest for boards in memory.boards), "no larger size is tried"
    assert find_boards(None, most, largest, memory.boards.append) == CPU_BOARDS


def test_the_largest_size_is_that_of_32_bit_indices() -> None:
    cuda = torch.device("cuda")
    assert largest_size(CONFIG, cuda) == largest_size(CONFIG, CPU) == MOST_BOARDS
    assert largest_size(recipe("arc1").model, cuda) == MOST_POSITIONS // 916


@pytest.mark.parametrize(("room", "most", "expected"), [(1000, 4096, 512), (19, 4096, 8), (1e9, 64, 64), (1e9, 50, 64)])
def test_boards_are_doubled_while_memory_allows(room: float, most: int, expected: int) -> None:
    """The next size would take twice as much, and is not tried above 80%."""
    tried = []

    def share_taken(boards: int) -> float:
        tried.append(boards)
        return boards / room

    assert grow(share_taken, most) == expected
    assert all(boards / room < 0.8 for boards in tried)


@pytest.mark.parametrize("limit", [4, 20, 100])
def test_running_out_of_memory_ends_the_doubling(limit: int) -> None:
    def share_taken(boards: int) -> float:
        if boards > limit:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return 0.0

    found = grow(share_taken, 4096)
    assert found <= limit
    assert 2 * max(found, FEWEST_BOARDS // 2) > limit
