"""Generate and solve Sudokus, measure their difficulty, and enumerate their symmetries.

A Sudoku of side n is a grid of digits 1 to n, with 0 for a blank cell. In a solution each row, column and box contains
every digit once. Boxes are 2x2 at side 4, 2 rows by 3 columns at side 6, and 3x3 at side 9.
"""

from functools import cache
from itertools import permutations, product

import numpy as np
from numpy.typing import NDArray

from augment.grid import Grid
from augment.kernels import kernel

BOXES = {4: (2, 2), 6: (2, 3), 9: (3, 3)}
"""Side -> (rows, columns) of a box."""

_COUNTS = np.array([digits.bit_count() for digits in range(2**9)])
"""(512,): number of digits in a bit set of digits, where bit d - 1 stands for digit d."""

FEWEST_CLUES = {4: (4, 10)}
"""Side -> range from which a puzzle's minimum number of clues is drawn; more stay if uniqueness requires them.

For other sides clues are removed until none can be spared. At side 4 there are too few such minimal puzzles: only 36
up to symmetry.
"""


def difficulty(puzzle: Grid) -> int:
    """Count the guesses that the solver undoes before it finds the solution; 0 if single candidates are sufficient.

    The solver always fills the first of the cells with the fewest candidates, and tries these in ascending order.
    Filling a cell with a single candidate is not a guess.
    """
    return _search(puzzle.ravel(), _groups(len(puzzle)), 1, _ascending(len(puzzle)))[1]


def count_solutions(puzzle: Grid, limit: int = 2) -> int:
    """Count the puzzle's solutions, up to `limit`."""
    return _search(puzzle.ravel(), _groups(len(puzzle)), limit, _ascending(len(puzzle)))[0]


def is_solution(puzzle: Grid, solution: Grid) -> bool:
    """Return whether the solution keeps the clues and has every digit once in each row, column and box."""
    return bool(are_solutions(puzzle[None], solution[None])[0])


def are_solutions(puzzles: NDArray[np.uint8], solutions: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Apply `is_solution` to puzzles and solutions (n, side, side); returns (n,)."""
    number, side, _ = puzzles.shape
    rows, columns = BOXES[side]
    digits = np.int16(1) << solutions.astype(np.int16)
    boxes = digits.reshape(number, side // rows, rows, side // columns, columns).swapaxes(2, 3)
    groups = (digits, digits.swapaxes(1, 2), boxes.reshape(number, side, side))
    digit_sets = np.stack([np.bitwise_or.reduce(group, axis=2) for group in groups])
    clues_match = (puzzles == 0) | (puzzles == solutions)
    # A group of `side` cells contains every digit once exactly if bits 1 to side are all set.
    return (digit_sets == 2 ** (side + 1) - 2).all((0, 2)) & clues_match.all((1, 2))


def draw_puzzle(side: int, rng: np.random.Generator) -> tuple[Grid, Grid]:
    """Draw a puzzle with a single solution; returns the puzzle and the solution, both (side, side).

    Clues are removed from a random solved grid in random order, as long as the solution remains unique.
    """
    digits = rng.permuted(_ascending(side), axis=1)
    solved = _search(np.zeros(side**2, np.uint8), _groups(side), 1, digits)[2]
    low, high = FEWEST_CLUES.get(side, (0, 0))
    fewest = rng.integers(low, high + 1)
    puzzle = _remove_clues(solved, _groups(side), rng.permutation(side**2), fewest, _ascending(side))
    return puzzle.reshape(side, side), solved.reshape(side, side)


def cell_symmetries(side: int) -> NDArray[np.int64]:
    """Return all cell symmetries (symmetries, cells) as the old cell that moves to each place.

    These are the permutations of rows, columns, bands and stacks and, if boxes are square, their transposes. Use it
    only for sides up to 6: at side 9 there are 3.4 million.
    """
    rows, columns = BOXES[side]
    numbers = np.arange(side**2).reshape(side, side)
    boards = [numbers[row][:, column] for row, column in product(_line_orders(side, rows), _line_orders(side, columns))]
    boards += [board.T for board in boards] if rows == columns else []
    return np.stack(boards).reshape(len(boards), -1)


def canonical_form(puzzle: Grid, symmetries: NDArray[np.int64]) -> bytes:
    """Return the same bytes for all puzzles that these cell symmetries and a renaming of digits map to each other."""
    return _smallest(puzzle.ravel().astype(np.uint8), symmetries).tobytes()


def _line_orders(side: int, thickness: int) -> list[NDArray[np.int64]]:
    """Return every order of the rows (or columns) that keeps bands of `thickness` lines together."""
    bands = np.arange(side).reshape(-1, thickness)
    band_orders = list(product(*(list(permutations(band)) for band in bands.tolist())))
    return [
        np.concatenate([inner[band] for band in outer])
        for outer in permutations(range(len(bands)))
        for inner in band_orders
    ]


@cache
def _ascending(side: int) -> NDArray[np.int64]:
    return np.tile(np.arange(side), (side**2 + 1, 1))


@cache
def _groups(side: int) -> NDArray[np.int64]:
    """Return the numbers (cells, 3) of each cell's row, column and box among all 3 * side groups."""
    rows, columns = BOXES[side]
    row, column = np.divmod(np.arange(side**2), side)
    box = row // rows * rows + column // columns
    return np.stack([row, side + column, 2 * side + box], axis=1)


@kernel()
def _search(puzzle, groups, limit, digits):
    """Search depth-first for up to `limit` solutions.

    Args:
        puzzle: (cells,) digits, 0 for blank cells.
        groups: (cells, 3), from `_groups`.
        limit: stop after this number of solutions.
        digits: (cells + 1, side), the order in which digits are tried at each depth, counted from 0.

    Returns:
        The number of solutions, the number of guesses undone until then, and the first solution (cells,).
    """
    cells = np.zeros_like(puzzle)
    first = np.zeros_like(puzzle)
    used = np.zeros(groups.max() + 1, np.int64)
    for cell in range(len(puzzle)):
        if puzzle[cell] > 0:
            if not _fits(puzzle[cell], used, groups[cell]):
                return 0, 0, first
            _turn(cells, used, groups, cell, puzzle[cell])
    depth_cells, candidate_counts, next_digits = np.zeros((3, len(puzzle) + 1), np.int64)
    solutions = backtracks = depth = 0
    depth_cells[0], candidate_counts[0] = _most_constrained(cells, used, groups)
    while depth >= 0:
        cell = depth_cells[depth]
        if cell < 0:
            solutions += 1
            if solutions == 1:
                first[:] = cells
            if solutions == limit:
                break
            depth -= 1
            continue
        # A filled cell means that the search has backtracked to this depth: undo the digit and try the next one.
        if cells[cell] > 0:
            _turn(cells, used, groups, cell, cells[cell])
            backtracks += candidate_counts[depth] > 1
        while next_digits[depth] < digits.shape[1] and cells[cell] == 0:
            digit = digits[depth, next_digits[depth]] + 1
            next_digits[depth] += 1
            if _fits(digit, used, groups[cell]):
                _turn(cells, used, groups, cell, digit)
        if cells[cell] > 0:
            depth += 1
            depth_cells[depth], candidate_counts[depth] = _most_constrained(cells, used, groups)
            next_digits[depth] = 0
        else:
            depth -= 1
    return solutions, backtracks, first


@kernel(inline="always")
def _fits(digit, used, groups):
    """Return whether the digit is still free in all three groups of a cell."""
    return not (used[groups[0]] | used[groups[1]] | used[groups[2]]) >> (digit - 1) & 1


@kernel(inline="always")
def _turn(cells, used, groups, cell, digit):
    """Write the digit to a blank cell, or erase it from the cell that contains it."""
    cells[cell] = digit - cells[cell]
    for group in groups[cell]:
        used[group] ^= 1 << (digit - 1)


@kernel()
def _most_constrained(cells, used, groups):
    """Return the first blank cell with the fewest candidates and their number; cell -1 if no cell is blank.

    Stops at the first cell with at most one candidate, because no choice is left there.
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


@kernel()
def _remove_clues(solved, groups, order, fewest, digits):
    """Remove clues from the solved grid in this order while the solution is unique, down to `fewest` clues."""
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


@kernel()
def _smallest(puzzle, symmetries):
    """Return the lexicographically smallest arrangement, where digits are renamed in order of first occurrence."""
    best = np.full(len(puzzle), 255, np.uint8)
    trial = np.empty_like(best)
    for symmetry in symmetries:
        names = np.zeros(10, np.uint8)
        name_count = 0
        smaller = False
        for place in range(len(puzzle)):
            digit = puzzle[symmetry[place]]
            if digit > 0 and names[digit] == 0:
                name_count += 1
                names[digit] = name_count
            trial[place] = names[digit]
            if not smaller and trial[place] != best[place]:
                if trial[place] > best[place]:
                    break
                smaller = True
        if smaller:
            best[:] = trial
    return best
