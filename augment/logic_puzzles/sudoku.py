"""Sudokus: their symmetries, a solver that counts solutions and difficulty, a generator.

A Sudoku of side n is a grid of digits 1 to n, 0 where it is blank; each row, column and box holds every digit once.
Boxes are 2x2 at side 4, 2 rows by 3 columns at side 6, 3x3 at side 9.
"""

from functools import cache
from itertools import permutations, product

import numpy as np
from numba import njit
from numpy.typing import NDArray

from augment.grid import Grid

BOXES = {4: (2, 2), 6: (2, 3), 9: (3, 3)}
"""Side -> rows and columns of a box."""

_COUNTS = np.array([digits.bit_count() for digits in range(2**9)])
"""How many digits a set of them holds; bit d - 1 stands for digit d."""

FEWEST_CLUES = {4: (4, 10)}
"""Side -> range from which a puzzle's clues are drawn, as far as it stays unique; elsewhere as few as can be.

There are too few puzzles of side 4 that cannot lose another clue: 36, but for symmetry.
"""


def difficulty(puzzle: Grid) -> int:
    """Guesses that are taken back before the solution is found; 0 where logic of single candidates is enough.

    The solver always fills the first of the cells with fewest candidates, and tries these in ascending order. A cell
    with a single candidate is no guess.
    """
    return _search(puzzle.ravel(), _groups(len(puzzle)), 1, _ascending(len(puzzle)))[1]


def count_solutions(puzzle: Grid, limit: int = 2) -> int:
    """How many ways there are to fill it, at most `limit`."""
    return _search(puzzle.ravel(), _groups(len(puzzle)), limit, _ascending(len(puzzle)))[0]


def is_solution(puzzle: Grid, solution: Grid) -> bool:
    """Whether the solution keeps the clues and holds every digit once in each row, column and box."""
    return bool(are_solutions(puzzle[None], solution[None])[0])


def are_solutions(puzzles: NDArray[np.uint8], solutions: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """`is_solution` of each (puzzles, side, side)."""
    number, side, _ = puzzles.shape
    rows, columns = BOXES[side]
    digits = np.int16(1) << solutions.astype(np.int16)
    boxes = digits.reshape(number, side // rows, rows, side // columns, columns).swapaxes(2, 3)
    groups = (digits, digits.swapaxes(1, 2), boxes.reshape(number, side, side))
    held = np.stack([np.bitwise_or.reduce(group, axis=2) for group in groups])
    kept = (puzzles == 0) | (puzzles == solutions)
    return (held == 2 ** (side + 1) - 2).all((0, 2)) & kept.all((1, 2))


def draw_puzzle(side: int, rng: np.random.Generator) -> tuple[Grid, Grid]:
    """A puzzle with a single solution, and the solution.

    Clues are taken from a random solved grid in random order, as long as its solution stays the only one.
    """
    digits = rng.permuted(_ascending(side), axis=1)
    solved = _search(np.zeros(side**2, np.uint8), _groups(side), 1, digits)[2]
    low, high = FEWEST_CLUES.get(side, (0, 0))
    fewest = rng.integers(low, high + 1)
    puzzle = _remove_clues(solved, _groups(side), rng.permutation(side**2), fewest, _ascending(side))
    return puzzle.reshape(side, side), solved.reshape(side, side)


def cell_symmetries(side: int) -> NDArray[np.int64]:
    """(symmetries, cells): which old cell lands on each place, for every move of rows, columns, bands, stacks.

    Transposed too where boxes are square. Only for sides up to 6: at side 9 there are 3.4 million.
    """
    rows, columns = BOXES[side]
    numbers = np.arange(side**2).reshape(side, side)
    moved = [numbers[row][:, column] for row, column in product(_line_orders(side, rows), _line_orders(side, columns))]
    moved += [each.T for each in moved] if rows == columns else []
    return np.stack(moved).reshape(len(moved), -1)


def canonical_form(puzzle: Grid, symmetries: NDArray[np.int64]) -> bytes:
    """The same for two puzzles that are alike but for these symmetries of cells and a change of digits."""
    return _smallest(puzzle.ravel().astype(np.uint8), symmetries).tobytes()


def _line_orders(side: int, thickness: int) -> list[NDArray[np.int64]]:
    """Every order of the rows (or columns) that keeps bands of so many together."""
    bands = np.arange(side).reshape(-1, thickness)
    within = list(product(*(list(permutations(band)) for band in bands.tolist())))
    return [
        np.concatenate([inner[band] for band in outer]) for outer in permutations(range(len(bands))) for inner in within
    ]


@cache
def _ascending(side: int) -> NDArray[np.int64]:
    return np.tile(np.arange(side), (side**2 + 1, 1))


@cache
def _groups(side: int) -> NDArray[np.int64]:
    """(cells, 3): the numbers of each cell's row, column and box, among all 3 x side."""
    rows, columns = BOXES[side]
    row, column = np.divmod(np.arange(side**2), side)
    box = row // rows * rows + column // columns
    return np.stack([row, side + column, 2 * side + box], axis=1)


@njit(cache=True)
def _search(puzzle, groups, limit, digits):
    """Solutions found (at most `limit`), guesses taken back till then, and the first solution.

    digits: (cells + 1, side), the order in which digits are tried at each depth.
    """
    cells = np.zeros_like(puzzle)
    first = np.zeros_like(puzzle)
    used = np.zeros(groups.max() + 1, np.int64)
    for cell in range(len(puzzle)):
        if puzzle[cell] > 0:
            if not _fits(puzzle[cell], used, groups[cell]):
                return 0, 0, first
            _turn(cells, used, groups, cell, puzzle[cell])
    chosen, choices, tried = np.zeros((3, len(puzzle) + 1), np.int64)
    solutions = 0
    undone = 0
    depth = 0
    chosen[0], choices[0] = _most_constrained(cells, used, groups)
    while depth >= 0:
        cell = chosen[depth]
        if cell < 0:
            solutions += 1
            if solutions == 1:
                first[:] = cells
            if solutions == limit:
                break
            depth -= 1
            continue
        if cells[cell] > 0:
            _turn(cells, used, groups, cell, cells[cell])
            undone += choices[depth] > 1
        while tried[depth] < digits.shape[1] and cells[cell] == 0:
            digit = digits[depth, tried[depth]] + 1
            tried[depth] += 1
            if _fits(digit, used, groups[cell]):
                _turn(cells, used, groups, cell, digit)
        if cells[cell] > 0:
            depth += 1
            chosen[depth], choices[depth] = _most_constrained(cells, used, groups)
            tried[depth] = 0
        else:
            depth -= 1
    return solutions, undone, first


@njit(cache=True, inline="always")
def _fits(digit, used, groups):
    return not (used[groups[0]] | used[groups[1]] | used[groups[2]]) >> (digit - 1) & 1


@njit(cache=True, inline="always")
def _turn(cells, used, groups, cell, digit):
    """Write the digit to a blank cell, or take it from the cell that holds it."""
    cells[cell] = digit - cells[cell]
    for group in groups[cell]:
        used[group] ^= 1 << (digit - 1)


@njit(cache=True)
def _most_constrained(cells, used, groups):
    """The first blank cell with fewest candidates (of those with one or none just the first), and their number.

    -1 where no cell is blank.
    """
    side = len(used) // 3
    best = -1
    fewest = side + 1
    for cell in range(len(cells)):
        if cells[cell] == 0:
            row, column, box = groups[cell]
            count = side - _COUNTS[used[row] | used[column] | used[box]]
            if count < fewest:
                best = cell
                fewest = count
                if count < 2:
                    break
    return best, fewest


@njit(cache=True)
def _remove_clues(solved, groups, order, fewest, digits):
    """The solved grid without as many clues as it can spare, down to `fewest`."""
    puzzle = solved.copy()
    clues = len(solved)
    for cell in order:
        if clues <= fewest:
            break
        puzzle[cell] = 0
        if _search(puzzle, groups, 2, digits)[0] == 1:
            clues -= 1
        else:
            puzzle[cell] = solved[cell]
    return puzzle


@njit(cache=True)
def _smallest(puzzle, symmetries):
    """Of all arrangements, digits renamed as they first occur, the smallest in reading order."""
    best = np.full(len(puzzle), 255, np.uint8)
    trial = np.empty_like(best)
    for symmetry in symmetries:
        names = np.zeros(10, np.uint8)
        known = 0
        smaller = False
        for place in range(len(puzzle)):
            digit = puzzle[symmetry[place]]
            if digit > 0 and names[digit] == 0:
                known += 1
                names[digit] = known
            trial[place] = names[digit]
            if not smaller and trial[place] != best[place]:
                if trial[place] > best[place]:
                    break
                smaller = True
        if smaller:
            best[:] = trial
    return best
