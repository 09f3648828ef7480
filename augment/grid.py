"""What a grid is: a value from anywhere comes in, a checked array goes out.

A grid is a rectangle of 1 to 30 rows and columns whose cells are colours 0 to 9 (0 is black).
"""

from hashlib import sha256

import numpy as np
from numpy.typing import NDArray

MAX_SIDE = 30
COLOURS = 10

Grid = NDArray[np.uint8]
"""(height, width), C-contiguous, values 0-9."""


class GridError(ValueError):
    """A value that is not a grid; the message says where it stands, what is wrong and how to mend it."""


def parse_grid(value: object, where: str) -> Grid:
    """The grid written as a list of rows (or held as a two-dimensional array of whole numbers).

    `where` names the file, task and pair for the message of the GridError that anything else raises.
    """
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if not isinstance(value, list) or not value or not all(isinstance(row, list) for row in value):
        raise GridError(f"{where}: a grid is a non-empty list of rows, each a list of whole numbers 0-9")
    height, width = len(value), len(value[0])
    for number, row in enumerate(value):
        if len(row) != width:
            raise GridError(
                f"{where}: row {number} has {len(row)} cells, row 0 has {width}; make all rows equally long"
            )
        _check_cells(row, f"{where}: row {number}")
    if not 1 <= width <= MAX_SIDE or height > MAX_SIDE:
        raise GridError(f"{where}: the grid is {height} x {width}; both sides must be 1 to {MAX_SIDE}")
    return np.array(value, dtype=np.uint8)


def _check_cells(row: list, where: str) -> None:
    for column, cell in enumerate(row):
        # An exact type: True and 1.0 would otherwise pass as 1.
        if type(cell) is not int or not 0 <= cell < COLOURS:
            raise GridError(f"{where}, column {column} is {cell!r:.40}; cells are whole numbers 0-9")


def grid_hash(grid: Grid) -> str:
    """Hex sha256 of the grid's height, width (one byte each) and cells, as the published TRM hashes grids."""
    height, width = grid.shape
    return sha256(bytes([height, width]) + grid.tobytes()).hexdigest()
