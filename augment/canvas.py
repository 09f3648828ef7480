"""Compute a task's canvas: the rows and columns of the board that its grids need.

The canvas starts at the board's first cell, and cells outside it contain only padding. It is computed only from what
is known at prediction time: for a hidden output it has room for the size that the demonstrations suggest. Batches pad
canvases to a few fixed widths, so that compiled code is reused for few tensor shapes.
"""

import numpy as np
from numpy.typing import NDArray

from augment.errors import UserError
from augment.task import Task

FIXED_WIDTHS = (36, 121, 196, 289, 441, 676)
"""Numbers of cells to which canvases are padded, besides the whole board: the squares of 6, 11, 14, 17, 21 and 26.

The overhead of this padding was measured relative to the cells used, with each task counted once. It is 15% on
ARC-AGI-1 (both parts) and on ARC-AGI-2's training part, 9% on kaggle-2025/evaluation, and 20% on ConceptARC. Padding
everything to the whole board adds 214, 208, 44 and 319%. Batches of a single width, as in prediction, have no further
overhead. A batch of mixed tasks, as in training, is as wide as its widest example.
"""


def task_canvas(task: Task, board_side: int = 30) -> tuple[int, int]:
    """Return (rows, columns) of the smallest rectangle that has room for the task's grids and end marks.

    The grids are demonstrations, test inputs and known test outputs. For each test input there is also room for an
    output of the predicted size, if the ratio of output to input is constant over the demonstrations. This is decided
    separately for height and width. End marks need one more row and column, if the board has room for them.

    Raises:
        ValueError: if a grid is larger than the board.
    """
    rows, columns = (_longest_side(task, axis, board_side) for axis in (0, 1))
    return rows, columns


def _longest_side(task: Task, axis: int, board_side: int) -> int:
    """Return the canvas size along one axis: the longest known or predicted side, plus the end mark."""
    pairs = [*task.demonstrations, *task.tests]
    longest = max(grid.shape[axis] for pair in pairs for grid in pair.grids())
    if longest > board_side:
        raise UserError(
            f"task {task.id} has a side of {longest} but the board's is {board_side}",
            "raise the board side, or leave the task out (--max-side for scored sources)",
        )
    longest = max(longest, _predicted_side(task, axis))
    return min(longest + 1, board_side)


def _predicted_side(task: Task, axis: int) -> int:
    """Return the longest test output along this axis if outputs have a constant ratio to their inputs, else 0."""
    sides = [
        (pair.input.shape[axis], pair.output.shape[axis]) for pair in task.demonstrations if pair.output is not None
    ]
    before, after = sides[0]
    # Cross products compare the ratios exactly, without rounding.
    if any(output * before != after * input_ for input_, output in sides):
        return 0
    longest_input = max((pair.input.shape[axis] for pair in task.tests), default=0)
    return -(-longest_input * after // before)


def fixed_width(cells: int | NDArray[np.int64], board_side: int = 30) -> NDArray[np.int64]:
    """Return the number of cells to which a canvas of `cells` cells is padded.

    This is the smallest sufficient element of FIXED_WIDTHS, or the whole board.
    """
    widths = np.array([*(width for width in FIXED_WIDTHS if width < board_side**2), board_side**2])
    return widths[np.searchsorted(widths, cells)]


def width_shares(canvases: NDArray[np.uint8], board_side: int = 30) -> list[tuple[int, float, float]]:
    """Measure how much of the padded canvases is used, for each fixed width that occurs, in ascending order.

    Args:
        canvases: (tasks, 2), rows and columns of each task's canvas.
        board_side: side of the board.

    Returns:
        For each width: (width, share of the tasks, share of their padded cells that is used).
    """
    cells = canvases.astype(np.int64).prod(axis=1)
    widths = fixed_width(cells, board_side)
    return [
        (int(width), float((widths == width).mean()), float(cells[widths == width].mean() / width))
        for width in np.unique(widths)
    ]
