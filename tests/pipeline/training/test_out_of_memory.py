"""Batches that fit into memory."""

import pytest
import torch

from pipeline.prediction.batch_size import FEWEST_BOARDS, BatchSize, grow
from solver.model.config import ModelConfig

CONFIG = ModelConfig(hidden=16, heads=2, id_slots=4, board_side=6)
"""40 positions a board."""


def test_a_batch_has_no_more_positions_than_so_many_full_boards() -> None:
    memory = BatchSize(CONFIG, 3, print)
    assert list(memory.batches(70, 1, lambda rows: (rows.start, rows.stop))) == [(0, 24), (24, 48), (48, 70)]
    assert list(memory.batches(4, 36, lambda rows: rows.stop)) == [3, 4]
    assert list(memory.batches(2, 500, lambda rows: rows.stop)) == [1, 2], "one example at least"
    assert list(memory.batches(0, 36, lambda rows: rows.stop)) == []


def test_what_does_not_fit_is_halved_and_stays_so() -> None:
    tried, said = [], []

    def work(rows: slice) -> list[int]:
        tried.append(rows.stop - rows.start)
        if tried[-1] > 5:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return list(range(rows.start, rows.stop))

    memory = BatchSize(CONFIG, 2, said.append)
    done = [row for rows in memory.batches(20, 1, work) for row in rows]
    assert done == list(range(20))
    assert tried == [16, 8, 4, 4, 4, 4, 4]
    assert said == [f"a batch did not fit in memory: from now on at most {most} positions at once" for most in (40, 20)]


def test_a_single_example_that_does_not_fit_ends_in_words() -> None:
    def work(rows: slice) -> None:
        raise MemoryError("no memory")

    with pytest.raises(ValueError, match=r"out of memory with a single example \(no memory\); free memory"):
        list(BatchSize(CONFIG, 8, print).batches(5, 36, work))


def test_other_errors_are_not_taken_for_it() -> None:
    def work(rows: slice) -> None:
        raise RuntimeError("shapes differ")

    with pytest.raises(RuntimeError, match="shapes differ"):
        list(BatchSize(CONFIG, 1, print).batches(5, 36, work))


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
