"""Which cells of the board a task needs: a task comes in, rows and columns of its canvas go out.

The canvas starts at the board's first cell, and the cells beyond it hold padding only. It is worked out from
what may be known before the answer is: for a hidden output it allows the size that the demonstrations
suggest. Batches pad canvases to a few fixed widths, so that what is compiled for a shape is used again.
"""

import numpy as np
from numpy.typing import NDArray

from augment.task import Task

FIXED_WIDTHS = (36, 121, 196, 289, 441, 676)
"""Cells that a canvas is padded to, besides the whole board: squares with sides of 6, 11, 14, 17, 21 and 26.

Each task counted once, padding adds to the cells used 15% on ARC-AGI-1 (both parts) and on ARC-AGI-2's training part,
9% on kaggle-2025/evaluation and 20% on ConceptARC; padding all to the whole board adds 214, 208, 44 and 319%. Batches
of one width, as in prediction, waste no more; a batch of mixed tasks, as in training, is as wide as its widest example.
"""


def task_canvas(task: Task, board_side: int = 30) -> tuple[int, int]:
    """(rows, columns) of the smallest rectangle that holds the task's grids and end marks.

    It holds demonstrations, test inputs, known test outputs, and for every test input an output of the size
    predicted where output / input is constant over the demonstrations (height and width apart). End marks
    take one row and one column more where the board has room. A grid larger than the board raises ValueError.
    """
    rows, columns = (_longest_side(task, axis, board_side) for axis in (0, 1))
    return rows, columns


def _longest_side(task: Task, axis: int, board_side: int) -> int:
    pairs = [*task.demonstrations, *task.tests]
    longest = max(grid.shape[axis] for pair in pairs for grid in pair.grids())
    if longest > board_side:
        raise ValueError(
            f"task {task.id} has a side of {longest} but the board's is {board_side}; "
            "raise the board side, or leave the task out (--max-side for scored sources)"
        )
    longest = max(longest, _predicted_side(task, axis))
    return min(longest + 1, board_side)


def _predicted_side(task: Task, axis: int) -> int:
    """Longest side of a test output if outputs keep one ratio to their inputs along this axis, else 0."""
    sides = [
        (pair.input.shape[axis], pair.output.shape[axis]) for pair in task.demonstrations if pair.output is not None
    ]
    before, after = sides[0]
    # Cross products keep the comparison of ratios exact.
    if any(output * before != after * input_ for input_, output in sides):
        return 0
    longest_input = max((pair.input.shape[axis] for pair in task.tests), default=0)
    return -(-longest_input * after // before)


def fixed_width(cells: int | NDArray[np.int64], board_side: int = 30) -> NDArray[np.int64]:
    """The fewest cells that a canvas of so many cells is padded to: one of FIXED_WIDTHS, or the whole board."""
    widths = np.array([*(width for width in FIXED_WIDTHS if width < board_side**2), board_side**2])
    return widths[np.searchsorted(widths, cells)]


def width_shares(canvases: NDArray[np.uint8], board_side: int = 30) -> list[tuple[int, float, float]]:
    """What padding costs a set of tasks, as (width, share of the tasks, share of their cells that is used).

    canvases: (tasks, 2), rows and columns of each. Only the widths that some task needs, narrowest first.
    """
    cells = canvases.astype(np.int64).prod(axis=1)
    widths = fixed_width(cells, board_side)
    return [
        (int(width), float((widths == width).mean()), float(cells[widths == width].mean() / width))
        for width in np.unique(widths)
    ]
