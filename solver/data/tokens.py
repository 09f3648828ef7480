"""Grids to tokens and back, both directions in one place.

A board is `side` x `side` cells, row-major. Token 0 is empty (pad), 1 an end mark, colour c is c + 2. The end mark
fills the row under the grid over the grid's width and the column right of it over its height, where the board has room;
the corner stays empty (published TRM, `build_arc_dataset.py`). `encode` and `decode` are the plain, readable pair;
`render_examples` is the kernel that does the same for a whole batch, augmentation, shift and canvas included.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray

from augment.dihedral import TRANSPOSES, source_cell
from augment.grid import Grid

PAD = 0
END = 1
COLOUR = 2
VOCABULARY = 12
_TRANSPOSES = np.array(TRANSPOSES)

Tokens = NDArray[np.uint8]


def encode(grid: Grid, side: int = 30, shift: tuple[int, int] = (0, 0)) -> Tokens:
    """Tokens (side, side) of a grid whose top left cell lies at `shift` (row, column)."""
    (height, width) = grid.shape
    (row, column) = shift
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
    height, width = largest_corner(np.ascontiguousarray(tokens))
    return tokens[:height, :width].astype(np.uint8) - COLOUR if height else None


@njit(cache=True, nogil=True)
def largest_corner(tokens):
    """Height and width of the largest rectangle of colours in the corner of tokens (rows, columns); 0 for none."""
    rows, columns = tokens.shape
    best_height = 0
    best_width = 0
    reach = columns
    for row in range(rows):
        width = 0
        while width < reach and COLOUR <= tokens[row, width] < VOCABULARY:
            width += 1
        reach = width
        if (row + 1) * reach > best_height * best_width:
            best_height = row + 1
            best_width = reach
    return best_height, best_width


@njit(cache=True)
def render_examples(
    pixels, starts, sizes, dihedrals, colours, canvases, origins, contents, side, tokens, labels, cells
):
    """Fill `tokens`, `labels` and `cells` (examples, columns) with one example a row, in place; what they held is lost.

    pixels: all grids end to end; starts (examples, 2) and sizes (examples, 2, 2): first pixel, height and width of each
    input and output, a height of 0 for an output that is not known. canvases (examples, 2): rows and columns shown.
    origins (examples, 2): board cell of the canvas' top left corner; contents (examples, 2): the grids' place within
    the canvas. Canvas cells beyond the board are left out; `cells` is the board cell number, -1 in unused columns.
    """
    for example in range(len(starts)):
        rows = min(canvases[example, 0], side - origins[example, 0])
        columns = min(canvases[example, 1], side - origins[example, 1])
        for row in range(rows):
            first = (row + origins[example, 0]) * side + origins[example, 1]
            for column in range(columns):
                cells[example, row * columns + column] = first + column
        cells[example, rows * columns :] = -1
        for part, target in ((0, tokens), (1, labels)):
            target[example] = PAD
            canvas = target[example, : rows * columns].reshape(rows, columns)
            height, width = sizes[example, part]
            if height > 0:
                _draw_grid(
                    pixels, starts[example, part], height, width, dihedrals[example], colours[example],
                    contents[example, 0], contents[example, 1], canvas,
                )  # fmt: skip


@njit(cache=True)
def _draw_grid(pixels, start, height, width, dihedral, colours, top, left, canvas):
    """Draw the transformed grid and its end marks on an empty canvas (rows, columns), cut to it."""
    tall, wide = (width, height) if _TRANSPOSES[dihedral] else (height, width)
    bottom = min(top + tall, canvas.shape[0])
    right = min(left + wide, canvas.shape[1])
    # A transform is affine, so one pixel and the steps to its neighbours give all the others.
    first = _source_pixel(start, height, width, dihedral, 0, 0)
    down = _source_pixel(start, height, width, dihedral, 1, 0) - first
    across = _source_pixel(start, height, width, dihedral, 0, 1) - first
    for row in range(top, bottom):
        for column in range(left, right):
            pixel = pixels[first + (row - top) * down + (column - left) * across]
            canvas[row, column] = COLOUR + colours[pixel]
    canvas[top:bottom, right : left + wide + 1] = END
    canvas[bottom : top + tall + 1, left:right] = END


@njit(cache=True)
def _source_pixel(start, height, width, dihedral, row, column):
    """Which pixel lands on (row, column) of the transformed grid."""
    old_row, old_column = source_cell(dihedral, row, column, height, width)
    return start + old_row * width + old_column
