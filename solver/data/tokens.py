"""Conversion between grids and tokens, in both directions.

A board is `side` x `side` cells, row-major. Token 0 is empty (pad), token 1 is the end mark, and colour c is token
c + 2. End marks fill the row below the grid over the grid's width, and the column right of it over its height, if the
board has room. The corner between them stays empty (published TRM, `build_arc_dataset.py`).

`encode` and `decode` are the simple reference implementation. `render_examples` is the kernel that encodes a whole
batch, including augmentation, shift and canvas.
"""

import numpy as np
from numpy.typing import NDArray

from augment.dihedral import TRANSPOSES, source_cell
from augment.grid import Grid
from augment.kernels import kernel

PAD = 0
END = 1
COLOUR = 2
VOCABULARY = 12

Tokens = NDArray[np.uint8]


def encode(grid: Grid, side: int = 30, shift: tuple[int, int] = (0, 0)) -> Tokens:
    """Return the tokens (side, side) of a grid whose top left cell is at `shift` (row, column).

    Raises:
        ValueError: if the grid does not fit on the board at this shift.
    """
    (height, width) = grid.shape
    (row, column) = shift
    if row + height > side or column + width > side:
        raise ValueError(f"a {height}x{width} grid at {shift} does not fit on the {side}x{side} board")
    board = np.zeros((side, side), np.uint8)
    board[row : row + height, column + width : column + width + 1] = END
    board[row + height : row + height + 1, column : column + width] = END
    board[row : row + height, column : column + width] = grid + COLOUR
    return board


def decode(tokens: Tokens) -> Grid | None:
    """Return the largest rectangle of colours that starts in the top left corner of tokens (rows, columns).

    Of rectangles of equal area, the one with fewest rows is taken, as published. None if the corner has no colour.
    """
    height, width = largest_corner(np.ascontiguousarray(tokens))
    return tokens[:height, :width].astype(np.uint8) - COLOUR if height else None


@kernel(nogil=True)
def largest_corner(tokens):
    """Return height and width of the largest rectangle of colours in the corner of tokens (rows, columns), or zeros."""
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


@kernel(nogil=True)
def render_examples(
    pixels, starts, sizes, dihedrals, colours, canvases, origins, contents, side, tokens, labels, cells
):
    """Overwrite `tokens`, `labels` and `cells` (examples, columns) with one example per row, in place.

    `cells` gets the board cell number, -1 in unused columns. Canvas cells beyond the board are left out.

    Args:
        pixels: the pixels of all grids, concatenated.
        starts: (examples, 2): first pixel of each input and output.
        sizes: (examples, 2, 2): height and width of each input and output; height 0 for an unknown output.
        dihedrals: (examples,): the dihedral transform of each example.
        colours: (examples, 10): the new colour of each colour.
        canvases: (examples, 2): rows and columns of the canvas.
        origins: (examples, 2): board cell (row, column) of the canvas' top left corner.
        contents: (examples, 2): place (row, column) of the grids within the canvas.
        side: side of the board.
        tokens: output: tokens of the input.
        labels: output: tokens of the output.
        cells: output: board cell numbers.
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


@kernel()
def _draw_grid(pixels, start, height, width, dihedral, colours, top, left, canvas):
    """Draw the transformed grid and its end marks on an empty canvas (rows, columns); parts outside are cut off."""
    tall, wide = (width, height) if TRANSPOSES[dihedral] else (height, width)
    bottom = min(top + tall, canvas.shape[0])
    right = min(left + wide, canvas.shape[1])
    # A transform is affine, so the index of one pixel and the offsets to its two neighbours determine all others.
    first = _source_pixel(start, height, width, dihedral, 0, 0)
    down = _source_pixel(start, height, width, dihedral, 1, 0) - first
    across = _source_pixel(start, height, width, dihedral, 0, 1) - first
    for row in range(top, bottom):
        for column in range(left, right):
            pixel = pixels[first + (row - top) * down + (column - left) * across]
            canvas[row, column] = COLOUR + colours[pixel]
    canvas[top:bottom, right : left + wide + 1] = END
    canvas[bottom : top + tall + 1, left:right] = END


@kernel()
def _source_pixel(start, height, width, dihedral, row, column):
    """Return the index of the pixel that the transform moves to (row, column)."""
    old_row, old_column = source_cell(dihedral, row, column, height, width)
    return start + old_row * width + old_column
