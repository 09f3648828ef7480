"""Generate N-Queens puzzles and enumerate their solutions.

A solution has as many queens as the board has rows, no two of them in one row, column or diagonal. A puzzle shows some
of the queens. A board of side n is a grid (n, n) of 1 (a queen) and 0. The purpose of this kind of puzzle is that many
puzzles have several solutions.
"""

from collections.abc import Iterator
from functools import cache

import numpy as np
from numpy.typing import NDArray

from augment.grid import Grid

SIDES = range(5, 11)
GIVEN = 1, 3
"""Minimum and maximum number of queens that a puzzle shows, as published for 8x8 and 10x10 (GRAM, appendix C.2.1)."""


@cache
def solutions(side: int) -> NDArray[np.uint8]:
    """Return every placement of all queens (solutions, side, side), in ascending order of columns.

    The array is cached and therefore read-only.
    """
    columns = np.array(list(_place((), side)), np.int64)
    boards = np.zeros((len(columns), side, side), np.uint8)
    boards[np.arange(len(columns))[:, None], np.arange(side), columns] = 1
    boards.setflags(write=False)
    return boards


def _place(columns: tuple[int, ...], side: int) -> Iterator[tuple[int, ...]]:
    """Yield the queens' columns in all rows for each solution that starts with `columns` in the first rows."""
    if len(columns) == side:
        yield columns
        return
    for column in range(side):
        if all(column != other and abs(column - other) != len(columns) - row for row, other in enumerate(columns)):
            yield from _place((*columns, column), side)


def complete(puzzle: Grid) -> NDArray[np.uint8]:
    """Return every solution that keeps the puzzle's queens, (solutions, side, side)."""
    boards = solutions(len(puzzle))
    return boards[(boards >= puzzle).all((1, 2))]


def are_solutions(puzzles: NDArray[np.uint8], answers: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return for each puzzle whether its answer is a solution that keeps its queens (n,); inputs (n, side, side)."""
    pairs = zip(puzzles, answers, strict=True)
    return np.array([bool((complete(puzzle) == answer).all((1, 2)).any()) for puzzle, answer in pairs], bool)


def draw_puzzle(side: int, rng: np.random.Generator) -> tuple[Grid, Grid]:
    """Draw a puzzle and one of its solutions, both (side, side)."""
    boards = solutions(side)
    solution = boards[rng.integers(len(boards))]
    queens = np.flatnonzero(solution)
    count = int(rng.integers(GIVEN[0], GIVEN[1] + 1))
    puzzle = np.zeros_like(solution)
    puzzle.flat[rng.permutation(queens)[:count]] = 1
    return puzzle, solution.copy()
