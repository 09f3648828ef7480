"""What a grid is: a value from anywhere comes in, a checked array goes out.

A grid is a rectangle of 1 to 30 rows and columns whose cells are colours 0 to 9 (0 is black).
"""

from hashlib import sha256
from itertools import chain

import numpy as np
from numpy.typing import NDArray

MAX_SIDE = 30
COLOURS = 10
_COLOURS = frozenset(range(COLOURS))

Grid = NDArray[np.uint8]
"""(height, width), C-contiguous, values 0-9."""


class GridError(ValueError):
    """A value that is not a grid; the message says where it stands, what is wrong and how to mend it."""


def parse_grid(value: object, where: str) -> Grid:
    """The grid written as a list of rows (or held as a two-dimensional array of whole numbers).

    An array that is a Grid already is returned as it is. `where` names the file, task and pair for the
    message of the GridError that anything else raises.
    """
    if isinstance(value, np.ndarray):
        if _is_grid(value):
            return value
        value = value.tolist()
    if not isinstance(value, list) or not value or not all(isinstance(row, list) for row in value):
        raise GridError(f"{where}: a grid is a non-empty list of rows, each a list of whole numbers 0-9")
    height = len(value)
    width = len(value[0])
    cells = list(chain.from_iterable(value))
    # Exact types: True and 1.0 would otherwise pass as 1.
    if set(map(len, value)) != {width} or set(map(type, cells)) != {int} or not set(cells) <= _COLOURS:
        _refuse_rows(value, width, where)
    if not 1 <= width <= MAX_SIDE or height > MAX_SIDE:
        raise GridError(f"{where}: the grid is {height} x {width}; both sides must be 1 to {MAX_SIDE}")
    return np.frombuffer(bytes(cells), dtype=np.uint8).reshape(height, width).copy()


def _is_grid(array: np.ndarray) -> bool:
    """Whether the array is exactly what `parse_grid` promises, which takes no look at single cells."""
    return (
        array.dtype == np.uint8
        and array.ndim == 2
        and array.flags.c_contiguous
        and min(array.shape) >= 1
        and max(array.shape) <= MAX_SIDE
        and array.max() < COLOURS
    )


def _refuse_rows(rows: list[list], width: int, where: str) -> None:
    """Raise GridError for the first row of another width and the first cell that is no colour, if there is one."""
    for number, row in enumerate(rows):
        if len(row) != width:
            raise GridError(
                f"{where}: row {number} has {len(row)} cells, row 0 has {width}; make all rows equally long"
            )
        for column, cell in enumerate(row):
            if type(cell) is not int or cell not in _COLOURS:
                place = f"{where}: row {number}, column {column}"
                raise GridError(f"{place} is {cell!r:.40}; cells are whole numbers 0-9")


def grid_hash(grid: Grid) -> str:
    """Hex sha256 of the grid's height, width (one byte each) and cells, as the published TRM hashes grids."""
    height, width = grid.shape
    return sha256(bytes([height, width]) + grid.tobytes()).hexdigest()
