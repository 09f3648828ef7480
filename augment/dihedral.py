"""Apply and invert the eight dihedral transforms of a grid, combined with a permutation of colours.

Transforms are numbered as in the published TRM:

- 0: identity
- 1, 2, 3: one, two or three quarter turns counter-clockwise
- 4: left-right flip
- 5: up-down flip
- 6: transpose
- 7: transform 1, then a left-right flip

Colours are changed first, then cells are moved.
"""

import numpy as np
from numpy.typing import NDArray

from augment.grid import Grid
from augment.kernels import kernel

DIHEDRALS = 8
DIHEDRAL_INVERSE = (0, 3, 2, 1, 4, 5, 6, 7)

DIHEDRAL_PRODUCT = np.array(
    [
        [0, 1, 2, 3, 4, 5, 6, 7],
        [1, 2, 3, 0, 6, 7, 5, 4],
        [2, 3, 0, 1, 5, 4, 7, 6],
        [3, 0, 1, 2, 7, 6, 4, 5],
        [4, 7, 5, 6, 0, 2, 3, 1],
        [5, 6, 4, 7, 2, 0, 1, 3],
        [6, 4, 7, 5, 1, 3, 0, 2],
        [7, 5, 6, 4, 3, 1, 2, 0],
    ],
    dtype=np.uint8,
)
"""(8, 8): element [a, b] is the transform that is equal to b followed by a."""

TRANSPOSES = np.array([False, True, False, True, False, False, True, True])
"""For each dihedral transform, whether it swaps height and width."""

# Each transform is a composition of three optional parts, in this order: flip rows, flip columns, transpose.
_FLIPS_ROWS = np.array([False, False, True, True, False, True, False, True])
_FLIPS_COLUMNS = np.array([False, True, True, False, True, False, False, True])


@kernel()
def source_cell(dihedral: int, row: int, column: int, height: int, width: int) -> tuple[int, int]:
    """Return the cell of the original (height, width) grid that moves to (row, column) of the transformed grid."""
    if TRANSPOSES[dihedral]:
        row, column = column, row
    if _FLIPS_ROWS[dihedral]:
        row = height - 1 - row
    if _FLIPS_COLUMNS[dihedral]:
        column = width - 1 - column
    return row, column


def apply(grid: Grid, dihedral: int, colours: NDArray[np.uint8]) -> Grid:
    """Replace every colour c by colours[c], then move the cells by the transform.

    Args:
        grid: (height, width).
        dihedral: number of the transform, 0 to 7.
        colours: (10,) new colour of each colour.

    Returns:
        A new grid (height, width), or (width, height) if TRANSPOSES[dihedral].
    """
    return _transform(np.ascontiguousarray(grid), dihedral, colours)


def invert(grid: Grid, dihedral: int, colours: NDArray[np.uint8]) -> Grid:
    """Undo `apply` with the same arguments."""
    # Argsort of a permutation is its inverse.
    inverse = np.argsort(colours).astype(np.uint8)
    return _transform(np.ascontiguousarray(grid), DIHEDRAL_INVERSE[dihedral], inverse)


@kernel()
def _transform(grid: Grid, dihedral: int, colours: NDArray[np.uint8]) -> Grid:
    height, width = grid.shape
    shape = (width, height) if TRANSPOSES[dihedral] else (height, width)
    result = np.empty(shape, dtype=np.uint8)
    for row in range(shape[0]):
        for column in range(shape[1]):
            source_row, source_column = source_cell(dihedral, row, column, height, width)
            result[row, column] = colours[grid[source_row, source_column]]
    return result
