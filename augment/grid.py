"""Define grids: check values from any source and convert them to arrays, and hash them.

A grid is a rectangle of 1 to 30 rows and columns whose cells are colours 0 to 9 (0 is black).
"""

from hashlib import sha256
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from augment.errors import UserError

MAX_SIDE = 30
COLOURS = 10
_COLOURS = frozenset(range(COLOURS))

Grid = NDArray[np.uint8]
"""An array (height, width), C-contiguous, with values 0-9."""


class GridError(UserError):
    """A value that is not a grid; the message names its place, the problem and the fix."""


class OversizeError(GridError):
    """A grid with a side longer than `MAX_SIDE`, which is a rectangle of colours otherwise."""


def parse_grid(value: object, where: str) -> Grid:
    """Convert a list of rows, or a two-dimensional array of integers, to a Grid.

    An array that is already a Grid is returned itself, not as a copy.

    Args:
        value: the value to check and convert.
        where: name of the file, task and pair, for error messages.

    Raises:
        GridError: if the value is not a grid.
    """
    if isinstance(value, np.ndarray):
        if _is_grid(value):
            return value
        value = value.tolist()
    if not isinstance(value, list) or not value or not all(isinstance(row, list) for row in value):
        raise GridError(f"{where}: a grid is a non-empty list of rows, each a list of integers 0-9; correct the value")
    height = len(value)
    width = len(value[0])
    cells = list(chain.from_iterable(value))
    # Compare exact types: True and 1.0 equal 1 and would otherwise be accepted.
    if set(map(len, value)) != {width} or set(map(type, cells)) != {int} or not set(cells) <= _COLOURS:
        _refuse_rows(value, width, where)
    if not 1 <= width <= MAX_SIDE or height > MAX_SIDE:
        kind = OversizeError if width else GridError
        raise kind(f"{where}: the grid is {height} x {width}; both sides must be 1 to {MAX_SIDE}")
    return np.frombuffer(bytes(cells), dtype=np.uint8).reshape(height, width).copy()


def _is_grid(array: np.ndarray) -> bool:
    """Return whether the array already is a Grid; this is fast because it does not check cells in Python."""
    return (
        array.dtype == np.uint8
        and array.ndim == 2
        and array.flags.c_contiguous
        and min(array.shape) >= 1
        and max(array.shape) <= MAX_SIDE
        and array.max() < COLOURS
    )


def _refuse_rows(rows: list[list], width: int, where: str) -> None:
    """Raise GridError for the first row that has another width or a cell that is not a colour, if there is one."""
    for number, row in enumerate(rows):
        if len(row) != width:
            raise GridError(
                f"{where}: row {number} has {len(row)} cells, row 0 has {width}; give all rows the same length"
            )
        for column, cell in enumerate(row):
            if type(cell) is not int or cell not in _COLOURS:
                place = f"{where}: row {number}, column {column}"
                raise GridError(f"{place} is {cell!r:.40}; cells must be integers 0-9")


def grid_hash(grid: Grid) -> str:
    """Return the hex SHA-256 of the grid's height, width (one byte each) and cells, as in the published TRM code."""
    height, width = grid.shape
    return sha256(bytes([height, width]) + grid.tobytes()).hexdigest()
