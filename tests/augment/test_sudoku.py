"""Sudokus: solving, counting solutions, and canonical forms."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from augment.logic_puzzles.sudoku import (
    BOXES,
    are_solutions,
    canonical_form,
    cell_symmetries,
    count_solutions,
    difficulty,
    draw_puzzle,
    is_solution,
)

KNOWN = np.array([[int(digit) for digit in row] for row in (
    "530070000", "600195000", "098000060", "800060003", "400803001", "700020006", "060000280", "000419005", "000080079",
)], np.uint8)  # fmt: skip
"""Wikipedia's example."""
HARD = np.array([[int(digit) for digit in row] for row in (
    "005300000", "800000020", "070010500", "400005300", "010070006", "003200080", "060500009", "004000030", "000009700",
)], np.uint8)  # fmt: skip
"""A puzzle that requires guesses (Arto Inkala, 2010)."""


def test_known_puzzles() -> None:
    assert count_solutions(KNOWN) == count_solutions(HARD) == 1
    assert difficulty(KNOWN) == 0
    assert difficulty(HARD) > 10


def test_solutions_are_counted() -> None:
    """There are 288 solved grids of side 4; contradictory clues have no solution."""
    assert count_solutions(np.zeros((4, 4), np.uint8), 1000) == 288
    assert count_solutions(np.zeros((4, 4), np.uint8)) == 2
    wrong = np.zeros((4, 4), np.uint8)
    wrong[0, :2] = 1
    assert count_solutions(wrong) == 0


@given(st.sampled_from(sorted(BOXES)), st.integers(0, 2**32))
def test_drawn_puzzles_have_one_solution(side: int, seed: int) -> None:
    puzzle, solution = draw_puzzle(side, np.random.default_rng(seed))
    assert count_solutions(puzzle) == 1
    assert is_solution(puzzle, solution)
    swapped = solution.copy()
    swapped[[0, 1]] = swapped[[1, 0]]
    assert not is_solution(puzzle, swapped) or (puzzle[:2] == 0).all()
    assert not is_solution(puzzle, puzzle)
    again = draw_puzzle(side, np.random.default_rng(seed))
    assert (again[0] == puzzle).all()


def test_many_solutions_are_checked_at_once() -> None:
    rng = np.random.default_rng(0)
    puzzles, solutions = map(np.stack, zip(*(draw_puzzle(6, rng) for _ in range(20)), strict=True))
    assert are_solutions(puzzles, solutions).all()
    assert not are_solutions(puzzles, np.roll(solutions, 1, axis=0)).any()
    latin = (np.arange(9)[:, None] + np.arange(9)) % 9 + 1
    assert not is_solution(np.zeros((9, 9), np.uint8), latin.astype(np.uint8)), "rows and columns, but no boxes"


def test_removing_another_clue_leaves_two_solutions() -> None:
    """Puzzles of side 9 are minimal; those of side 4 have different numbers of clues."""
    puzzle, _ = draw_puzzle(9, np.random.default_rng(1))
    for place in np.flatnonzero(puzzle):
        fewer = puzzle.copy()
        fewer.ravel()[place] = 0
        assert count_solutions(fewer) == 2
    clues = {int((draw_puzzle(4, np.random.default_rng(seed))[0] > 0).sum()) for seed in range(60)}
    assert clues == {4, 5, 6, 7, 8, 9, 10}


@pytest.mark.parametrize(("side", "number"), [(4, 128), (6, 3456)])
def test_symmetries_map_sudokus_to_sudokus(side: int, number: int) -> None:
    symmetries = cell_symmetries(side)
    assert len({row.tobytes() for row in symmetries}) == len(symmetries) == number
    assert (np.sort(symmetries, axis=1) == np.arange(side**2)).all()
    puzzle, solution = draw_puzzle(side, np.random.default_rng(0))
    for symmetry in symmetries[:: number // 16]:
        moved = [grid.ravel()[symmetry].reshape(side, side) for grid in (puzzle, solution)]
        assert is_solution(*moved)


@given(st.sampled_from([4, 6]), st.integers(0, 2**32))
def test_equivalent_puzzles_have_the_same_canonical_form(side: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    symmetries = cell_symmetries(side)
    puzzle = draw_puzzle(side, rng)[0]
    other = draw_puzzle(side, rng)[0]
    names = np.append(0, 1 + rng.permutation(side)).astype(np.uint8)
    equivalent = names[puzzle.ravel()[symmetries[rng.integers(len(symmetries))]]].reshape(side, side)
    assert canonical_form(equivalent, symmetries) == canonical_form(puzzle, symmetries)
    if (other > 0).sum() != (puzzle > 0).sum():
        assert canonical_form(other, symmetries) != canonical_form(puzzle, symmetries)
