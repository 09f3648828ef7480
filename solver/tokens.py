"""Grids to tokens and back, both directions in one place.

A board is `side` x `side` cells, row-major. Token 0 is empty (pad), 1 an end mark, colour c is c + 2. The end mark
fills the row under the grid over the grid's width and the column right of it over its height, where the board has room;
the corner stays empty (published TRM, `build_arc_dataset.py`). `encode` and `decode` are the plain, readable pair;
`render_examples` is the kernel that does the same for a whole batch, augmentation, shift and canvas included.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray

from augment.grid import Grid
from augment.transform import TRANSPOSES, source_cell

PAD, END, COLOUR = 0, 1, 2
VOCABULARY = 12
_TRANSPOSES = np.array(TRANSPOSES)

Tokens = NDArray[np.uint8]


def encode(grid: Grid, side: int = 30, shift: tuple[int, int] = (0, 0)) -> Tokens:
    """Tokens (side, side) of a grid whose top left cell lies at `shift` (row, column)."""
    (height, width), (row, column) = grid.shape, shift
    if row + height > side or column + width > side:
        raise ValueError(f"a {height}x{width} grid at {shift} leaves the {side}x{side} board")
    board = np.zeros((side, side), np.uint8)
    board[row : row + height, column + width : column + width + 1] = END
    board[row + height : row + height + 1, column : column + width] = END
    board[row : row + height, column : column + width] = grid + COLOUR
    return board


def decode(tokens: Tokens) -> Grid | None:
    """The grid in the top left corner of tokens (rows, columns): the largest rectangle of colours that starts there.

    Of equal areas the one with fewest rows, as published. None where the corner itself holds no colour: an empty crop.
    """
    height, width = _largest_corner(np.ascontiguousarray(tokens))
    return tokens[:height, :width].astype(np.uint8) - COLOUR if height else None


@njit(cache=True)
def _largest_corner(tokens):
    rows, columns = tokens.shape
    best_height, best_width, reach = 0, 0, columns
    for row in range(rows):
        width = 0
        while width < reach and COLOUR <= tokens[row, width] < VOCABULARY:
            width += 1
        reach = width
        if (row + 1) * reach > best_height * best_width:
            best_height, best_width = row + 1, reach
    return best_height, best_width


@njit(cache=True)
def _token(pixels, start, height, width, dihedral, colours, row, column):
    """Token at (row, column) relative to the transformed grid's top left corner."""
    tall, wide = (width, height) if _TRANSPOSES[dihedral] else (height, width)
    if row < 0 or column < 0 or row > tall or column > wide or (row == tall and column == wide):
        return PAD
    if row == tall or column == wide:
        return END
    old_row, old_column = source_cell(dihedral, row, column, height, width)
    return COLOUR + colours[pixels[start + old_row * width + old_column]]


@njit(cache=True)
def render_examples(
    pixels, starts, sizes, dihedrals, colours, canvases, origins, contents, side, tokens, labels, cells
):
    """Fill `tokens`, `labels` and `cells` (examples, columns) with one example a row, in place.

    pixels: all grids end to end; starts (examples, 2) and sizes (examples, 2, 2): first pixel, height and width of each
    input and output, a height of 0 for an output that is not known. canvases (examples, 2): rows and columns shown.
    origins (examples, 2): board cell of the canvas' top left corner; contents (examples, 2): the grids' place within
    the canvas. Canvas cells beyond the board are left out; `cells` is the board cell number, -1 in unused columns.
    """
    for example in range(len(starts)):
        used = 0
        for row in range(min(canvases[example, 0], side - origins[example, 0])):
            for column in range(min(canvases[example, 1], side - origins[example, 1])):
                at = (row - contents[example, 0], column - contents[example, 1])
                for part, target in ((0, tokens), (1, labels)):
                    height, width = sizes[example, part]
                    if height > 0:
                        target[example, used] = _token(
                            pixels, starts[example, part], height, width,
                            dihedrals[example], colours[example], at[0], at[1],
                        )  # fmt: skip
                cells[example, used] = (row + origins[example, 0]) * side + column + origins[example, 1]
                used += 1
        cells[example, used:] = -1
