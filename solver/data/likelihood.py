"""Log-probability of given grids under a model.

The input is the log-probability of every token at every canvas cell of a batch, and grids in the task's own frame. The
output is the log-probability of each grid, rendered under the augmentation of its example. It runs in numba and
releases the GIL.
"""

import numpy as np
from numpy.typing import NDArray

from augment.dihedral import TRANSPOSES, source_cell
from augment.kernels import kernel
from solver.data.tokens import COLOUR, END


def score_grids(
    log_probs: NDArray[np.float32],
    canvases: NDArray[np.int64],
    dihedrals: NDArray[np.uint8],
    colours: NDArray[np.uint8],
    rows: NDArray[np.integer],
    heights: NDArray[np.uint8],
    widths: NDArray[np.uint8],
    starts: NDArray[np.int64],
    cells: NDArray[np.uint8],
) -> NDArray[np.float64]:
    """Return the log-probability of each of m grids, summed over cells and end marks: (m,).

    It is -inf if the canvas is too small. End marks beyond the canvas do not count.

    Args:
        log_probs: (n, columns, vocabulary), each canvas row by row.
        canvases: (n, 2): rows and columns of each canvas.
        dihedrals: (n,): the dihedral transform of each example.
        colours: (n, 10): the new colour of each colour.
        rows: (m,): the example of each grid.
        heights: (m,): the height of each grid.
        widths: (m,): the width of each grid.
        starts: (m,): the first cell of each grid in `cells`.
        cells: the cells of all grids, each row by row.
    """
    scores = np.empty(len(rows))
    _score_grids(log_probs, canvases, dihedrals, colours, rows, heights, widths, starts, cells, scores)
    return scores


@kernel(nogil=True)
def _score_grids(log_probs, canvases, dihedrals, colours, rows, heights, widths, starts, cells, scores):
    for place in range(len(rows)):
        row = rows[place]
        height = np.int64(heights[place])
        width = np.int64(widths[place])
        shape = (width, height) if TRANSPOSES[dihedrals[row]] else (height, width)
        if shape[0] > canvases[row, 0] or shape[1] > canvases[row, 1]:
            scores[place] = -np.inf
            continue
        grid = cells[starts[place] : starts[place] + height * width].reshape(height, width)
        used = log_probs[row, : canvases[row, 0] * canvases[row, 1]]
        canvas = used.reshape(canvases[row, 0], canvases[row, 1], log_probs.shape[2])
        scores[place] = _score_grid(canvas, grid, dihedrals[row], colours[row], shape[0], shape[1])


@kernel(nogil=True)
def _score_grid(canvas, grid, dihedral, colours, tall, wide):
    """Return the log-probability of one grid, which is tall x wide after its transform."""
    total = 0.0
    for row in range(tall):
        for column in range(wide):
            old_row, old_column = source_cell(dihedral, row, column, grid.shape[0], grid.shape[1])
            total += canvas[row, column, COLOUR + colours[grid[old_row, old_column]]]
        if wide < canvas.shape[1]:
            total += canvas[row, wide, END]
    if tall < canvas.shape[0]:
        for column in range(wide):
            total += canvas[tall, column, END]
    return total
