"""Decoding of predicted tokens to grids in the task's own frame: crop, invert the augmentation, compute confidence.

The input is the most likely token of every canvas cell of a batch; the output is `DecodedGrids`. It runs in numba and
releases the GIL, so that a thread can decode while the device computes the next batch.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from augment.dihedral import DIHEDRAL_INVERSE, TRANSPOSES, source_cell
from augment.grid import COLOURS, MAX_SIDE
from augment.kernels import kernel
from solver.data.tokens import COLOUR, largest_corner

_INVERSE = np.array(DIHEDRAL_INVERSE)


@dataclass(frozen=True, eq=False)
class DecodedGrids:
    """The predictions of a batch, one per row.

    heights, widths: uint8 (n,), 0 if the prediction is not a grid (no colour in the corner, or a side above 30)
    cells: uint8 (n, 900); the first heights * widths are the grid's cells, row by row, in the task's own frame
    edges: bool (n,), whether the grid may be cut off: it reaches an edge of the canvas that is not an edge of the board
    log_probs: float32 (n,), mean log-probability of the grid's cells and end marks, NaN without a grid
    """

    heights: NDArray[np.uint8]
    widths: NDArray[np.uint8]
    cells: NDArray[np.uint8]
    edges: NDArray[np.bool_]
    log_probs: NDArray[np.float32]


def decode_batch(
    tokens: NDArray[np.uint8],
    best: NDArray[np.float32],
    end: NDArray[np.float32],
    canvases: NDArray[np.int64],
    dihedrals: NDArray[np.uint8],
    colours: NDArray[np.uint8],
    side: int,
) -> DecodedGrids:
    """Decode a batch and invert each example's augmentation.

    Args:
        tokens: (n, columns): the most likely tokens, each canvas row by row, then padding.
        best: log-probabilities of these tokens, in the shape of `tokens`.
        end: log-probabilities of an end mark in their place, in the shape of `tokens`.
        canvases: (n, 2): rows and columns of each canvas.
        dihedrals: (n,): the dihedral transform of each example.
        colours: (n, 10): the new colour of each colour.
        side: side of the board.
    """
    number = len(tokens)
    sides = np.zeros((2, number), np.uint8)
    cells = np.zeros((number, MAX_SIDE**2), np.uint8)
    edges = np.zeros(number, np.bool_)
    log_probs = np.full(number, np.nan, np.float32)
    _take_back(tokens, best, end, canvases, dihedrals, colours, side, sides[0], sides[1], cells, edges, log_probs)
    return DecodedGrids(sides[0], sides[1], cells, edges, log_probs)


@kernel(nogil=True)
def _take_back(tokens, best, end, canvases, dihedrals, colours, side, heights, widths, cells, edges, log_probs):
    original_colours = np.empty(COLOURS, np.uint8)
    for row in range(len(tokens)):
        rows, columns = canvases[row]
        canvas = tokens[row, : rows * columns].reshape(rows, columns)
        height, width = largest_corner(canvas)
        if height == 0 or max(height, width) > MAX_SIDE:
            continue
        edges[row] = (height == rows and rows < side) or (width == columns and columns < side)
        shape = (rows, columns)
        log_probs[row] = _mean_log_prob(
            best[row, : rows * columns].reshape(shape), end[row, : rows * columns].reshape(shape), height, width
        )
        for colour in range(COLOURS):
            original_colours[colours[row, colour]] = colour
        swaps = TRANSPOSES[dihedrals[row]]
        tall, wide = (width, height) if swaps else (height, width)
        heights[row] = tall
        widths[row] = wide
        _undo(canvas, height, width, _INVERSE[dihedrals[row]], original_colours, tall, wide, cells[row])


@kernel(nogil=True)
def _undo(canvas, height, width, inverse, original_colours, tall, wide, cells):
    """Write the grid (height x width) in the canvas' corner to `cells`, (tall x wide) in the task's own frame."""
    for place in range(tall):
        for column in range(wide):
            old_row, old_column = source_cell(inverse, place, column, height, width)
            cells[place * wide + column] = original_colours[canvas[old_row, old_column] - COLOUR]


@kernel(nogil=True)
def _mean_log_prob(best, end, height, width):
    """Return the mean over the grid's cells and over the end marks below and right of it that are on the canvas."""
    rows, columns = best.shape
    total = 0.0
    count = 0
    for row in range(height):
        for column in range(width):
            total += best[row, column]
        if width < columns:
            total += end[row, width]
    if height < rows:
        for column in range(width):
            total += end[height, column]
    count = height * width + (height if width < columns else 0) + (width if height < rows else 0)
    return total / count
