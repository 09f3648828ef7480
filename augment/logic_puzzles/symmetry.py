"""Symmetries of whole boards, drawn for every example: a pair and a number come in, where its cells go comes out.

What colour permutations and dihedral transforms are to ARC, these are to Sudoku and Maze: nothing is stored, and the
symmetry is a function of (seed, pair, number) alone. Number 0 leaves a pair as it is.
"""

from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import Literal

import numpy as np
from numba import njit
from numpy.typing import NDArray

from augment.dihedral import DIHEDRALS, source_cell
from augment.grid import COLOURS
from augment.logic_puzzles.sudoku import BOXES

SymmetryName = Literal["none", "dihedral", "sudoku"]

Numbers = NDArray[np.int64]


@dataclass(frozen=True)
class Symmetries:
    """Which symmetries an example is trained under.

    name: the 8 dihedral transforms, or those of Sudoku: digits renamed, rows, columns, bands and stacks shuffled and,
    where boxes are square, the board transposed
    count: of each pair so many are taken besides itself; there are 7 dihedral ones, and more are not taken
    side: of the board, which every grid fills
    """

    name: Literal["dihedral", "sudoku"]
    count: int
    side: int

    def __post_init__(self) -> None:
        """ValueError for a board that has no such symmetries."""
        if self.name == "sudoku" and self.side not in BOXES:
            sides = ", ".join(map(str, BOXES))
            raise ValueError(f"train.symmetry is sudoku, which has sides {sides}; the board's is {self.side}")

    def draw_numbers(self, rng: np.random.Generator, size: int) -> Numbers:
        """Which symmetry each of so many examples gets: uniform over 0 to count."""
        most = min(self.count, DIHEDRALS - 1) if self.name == "dihedral" else self.count
        return rng.integers(0, most + 1, size)

    def draw(self, seed: int, pairs: Numbers, numbers: Numbers) -> tuple[Numbers, Numbers]:
        """Symmetry numbers[i] of pair pairs[i]: its k-th is the same whatever else is drawn, its 0th changes nothing.

        Returns:
            Which old cell lands on each place (B, side x side), and the new colour of each colour (B, 10).
        """
        if self.name == "dihedral":
            turns = _draw_turns(np.uint64(seed), pairs, numbers)
            return turn_cells(self.side)[turns], np.tile(np.arange(COLOURS), (len(turns), 1))
        rows, columns = BOXES[self.side]
        return _draw_sudoku(np.uint64(seed), pairs, numbers, rows, columns)


@cache
def turn_cells(side: int) -> Numbers:
    """(8, side x side): which old cell each dihedral transform lands on each place."""
    places = list(product(range(side), repeat=2))
    turned = [[source_cell(number, row, column, side, side) for row, column in places] for number in range(DIHEDRALS)]
    rows, columns = np.moveaxis(np.array(turned), -1, 0)
    return rows * side + columns


@njit(cache=True)
def _draw_turns(seed, pairs, numbers):
    """Which dihedral transform each example gets: a pair's seven besides the identity come in an order of its own."""
    turns = np.zeros(len(pairs), np.int64)
    for example in range(len(pairs)):
        if numbers[example] > 0:
            order = np.arange(1, DIHEDRALS)
            _shuffle(order, _start(seed, pairs[example], 0))
            turns[example] = order[numbers[example] - 1]
    return turns


@njit(cache=True)
def _draw_sudoku(seed, pairs, numbers, rows, columns):
    """Cells and colours of each example's symmetry."""
    side = rows * columns
    cells = np.empty((len(pairs), side * side), np.int64)
    colours = np.empty((len(pairs), COLOURS), np.int64)
    for example in range(len(pairs)):
        row = np.arange(side)
        column = np.arange(side)
        colour = np.arange(COLOURS)
        transposed = False
        if numbers[example] > 0:
            state = _start(seed, pairs[example], numbers[example])
            row = _shuffle_lines(side, rows, state)
            column = _shuffle_lines(side, columns, state)
            _shuffle(colour[1 : side + 1], state)
            transposed = rows == columns and _below(2, state) == 1
        colours[example] = colour
        for place in range(side * side):
            r = place // side
            c = place % side
            cells[example, place] = row[c] * side + column[r] if transposed else row[r] * side + column[c]
    return cells, colours


@njit(cache=True)
def _shuffle_lines(side, thickness, state):
    """An order of rows (or columns): bands shuffled, and the lines within each."""
    bands = np.arange(side // thickness)
    lines = np.empty(side, np.int64)
    _shuffle(bands, state)
    for place, band in enumerate(bands):
        within = np.arange(thickness)
        _shuffle(within, state)
        for number in range(thickness):
            lines[place * thickness + number] = band * thickness + within[number]
    return lines


@njit(cache=True)
def _shuffle(values, state):
    """Fisher and Yates, in place."""
    for last in range(len(values) - 1, 0, -1):
        chosen = _below(last + 1, state)
        values[last], values[chosen] = values[chosen], values[last]


@njit(cache=True)
def _start(seed, pair, number):
    """The state (1,) of the generator of this pair's symmetry of this number."""
    state = np.empty(1, np.uint64)
    state[0] = _mix(_mix(_mix(seed) ^ np.uint64(pair)) ^ np.uint64(number))
    return state


@njit(cache=True)
def _below(limit, state):
    """The next number from 0 to limit - 1."""
    state[0] += np.uint64(0x9E3779B97F4A7C15)
    return np.int64((_mix(state[0]) >> np.uint64(33)) % np.uint64(limit))


@njit(cache=True)
def _mix(value):
    """SplitMix64's finaliser (Steele et al. 2014)."""
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))
