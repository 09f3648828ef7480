"""Draw a random board symmetry for each training example, as data augmentation for Sudoku and Maze.

The inputs are a seed, the indices of the examples' pairs and symmetry numbers. The outputs are a permutation of the
board's cells and a permutation of its colours for each example. Symmetries are not stored: each one is a function of
(seed, pair, number) alone. Number 0 is the identity.
"""

from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from augment.dihedral import DIHEDRALS, source_cell
from augment.errors import UserError
from augment.grid import COLOURS
from augment.kernels import kernel
from augment.logic_puzzles.sudoku import BOXES

SymmetryName = Literal["none", "dihedral", "sudoku"]

Numbers = NDArray[np.int64]


@dataclass(frozen=True)
class Symmetries:
    """The symmetries under which an example is trained.

    Attributes:
        name: "dihedral" for the 8 dihedral transforms. "sudoku" for renamed digits and shuffled rows, columns, bands
            and stacks; if boxes are square, boards are also transposed.
        count: number of symmetries per pair, not counting the identity; at most 7 are used for "dihedral".
        side: side of the board; every grid must fill it.
    """

    name: Literal["dihedral", "sudoku"]
    count: int
    side: int

    def __post_init__(self) -> None:
        """Raise ValueError for a board side that Sudoku does not have."""
        if self.name == "sudoku" and self.side not in BOXES:
            sides = ", ".join(map(str, BOXES))
            raise UserError(
                f"train.symmetry is sudoku, which has sides {sides}",
                f"the board's is {self.side}. Set train.symmetry to dihedral or none",
            )

    def draw_numbers(self, rng: np.random.Generator, size: int) -> Numbers:
        """Draw a symmetry number for each of `size` examples, uniform over 0 to count (at most 7 for "dihedral")."""
        most = min(self.count, DIHEDRALS - 1) if self.name == "dihedral" else self.count
        return rng.integers(0, most + 1, size)

    def draw(self, seed: int, pairs: Numbers, numbers: Numbers) -> tuple[Numbers, Numbers]:
        """Compute symmetry numbers[i] of pair pairs[i] for each i; it does not depend on the other examples.

        Args:
            seed: seed of the symmetries.
            pairs: (B,) indices of pairs.
            numbers: (B,) symmetry numbers; 0 is the identity.

        Returns:
            The old cell that moves to each place (B, side * side), and the new colour of each colour (B, 10).
        """
        if self.name == "dihedral":
            turns = _draw_turns(np.uint64(seed), pairs, numbers)
            return turn_cells(self.side)[turns], np.tile(np.arange(COLOURS), (len(turns), 1))
        rows, columns = BOXES[self.side]
        return _draw_sudoku(np.uint64(seed), pairs, numbers, rows, columns)


@cache
def turn_cells(side: int) -> Numbers:
    """Return for each dihedral transform the old cell that moves to each place (8, side * side)."""
    places = list(product(range(side), repeat=2))
    sources = [[source_cell(number, row, column, side, side) for row, column in places] for number in range(DIHEDRALS)]
    rows, columns = np.moveaxis(np.array(sources), -1, 0)
    return rows * side + columns


@kernel()
def _draw_turns(seed, pairs, numbers):
    """Return the dihedral transform of each example.

    Each pair has its own random order of the seven transforms other than the identity; `numbers` are places in it.
    """
    turns = np.zeros(len(pairs), np.int64)
    for example in range(len(pairs)):
        if numbers[example] > 0:
            order = np.arange(1, DIHEDRALS)
            _shuffle(order, _start(seed, pairs[example], 0))
            turns[example] = order[numbers[example] - 1]
    return turns


@kernel()
def _draw_sudoku(seed, pairs, numbers, rows, columns):
    """Return cells (B, side * side) and colours (B, 10) of each example's symmetry."""
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


@kernel()
def _shuffle_lines(side, thickness, state):
    """Return an order of rows (or columns): bands are shuffled, and so are the lines within each band."""
    bands = np.arange(side // thickness)
    lines = np.empty(side, np.int64)
    _shuffle(bands, state)
    for place, band in enumerate(bands):
        order = np.arange(thickness)
        _shuffle(order, state)
        for number in range(thickness):
            lines[place * thickness + number] = band * thickness + order[number]
    return lines


@kernel()
def _shuffle(values, state):
    """Shuffle in place (Fisher-Yates)."""
    for last in range(len(values) - 1, 0, -1):
        other = _below(last + 1, state)
        values[last], values[other] = values[other], values[last]


@kernel()
def _start(seed, pair, number):
    """Return the generator's initial state (1,) for this pair and symmetry number."""
    # A counter-based generator of 8 bytes, because creating a numpy generator per example would be too slow.
    state = np.empty(1, np.uint64)
    state[0] = _mix(_mix(_mix(seed) ^ np.uint64(pair)) ^ np.uint64(number))
    return state


@kernel()
def _below(limit, state):
    """Draw the next number from 0 to limit - 1 and advance the state."""
    # SplitMix64's increment (the golden ratio times 2**64).
    state[0] += np.uint64(0x9E3779B97F4A7C15)
    return np.int64((_mix(state[0]) >> np.uint64(33)) % np.uint64(limit))


@kernel()
def _mix(value):
    """Mix the bits of a 64-bit integer: SplitMix64's finaliser (Steele et al. 2014)."""
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))
