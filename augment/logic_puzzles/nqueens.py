"""N-Queens: as many queens as the board has rows, no two on one line; some are given, the others are to be placed.

A board of side n is a grid of 1 (a queen) and 0. Many puzzles have several solutions, which is what they are for.
"""

from collections.abc import Iterator
from functools import cache

import numpy as np
from numpy.typing import NDArray

from augment.grid import Grid

SIDES = range(5, 11)
GIVEN = 1, 3
"""Fewest and most queens that a puzzle gives, as published for 8x8 and 10x10 (GRAM, appendix C.2.1)."""


@cache
def solutions(side: int) -> NDArray[np.uint8]:
    """Every placement of all queens, (solutions, side, side), in ascending order of columns."""
    columns = np.array(list(_place((), side)), np.int64)
    boards = np.zeros((len(columns), side, side), np.uint8)
    boards[np.arange(len(columns))[:, None], np.arange(side), columns] = 1
    boards.setflags(write=False)
    return boards


def _place(columns: tuple[int, ...], side: int) -> Iterator[tuple[int, ...]]:
    """The columns of the queens of all rows, given those of the first."""
    if len(columns) == side:
        yield columns
        return
    for column in range(side):
        if all(column != other and abs(column - other) != len(columns) - row for row, other in enumerate(columns)):
            yield from _place((*columns, column), side)


def complete(puzzle: Grid) -> NDArray[np.uint8]:
    """Every solution that keeps the queens given, (solutions, side, side)."""
    boards = solutions(len(puzzle))
    return boards[(boards >= puzzle).all((1, 2))]


def are_answers(puzzles: NDArray[np.uint8], answers: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Whether each answer (puzzles, side, side) is a solution that keeps the queens given."""
    pairs = zip(puzzles, answers, strict=True)
    return np.array([bool((complete(puzzle) == answer).all((1, 2)).any()) for puzzle, answer in pairs], bool)


def draw_puzzle(side: int, rng: np.random.Generator) -> tuple[Grid, Grid]:
    """A puzzle and one of its solutions."""
    boards = solutions(side)
    answer = boards[rng.integers(len(boards))]
    queens = np.flatnonzero(answer)
    count = int(rng.integers(GIVEN[0], GIVEN[1] + 1))
    puzzle = np.zeros_like(answer)
    puzzle.flat[rng.permutation(queens)[:count]] = 1
    return puzzle, answer.copy()
