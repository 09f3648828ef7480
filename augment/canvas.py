"""Which cells of the board a task needs: a task comes in, rows and columns of its canvas go out.

The canvas starts at the board's first cell, and the cells beyond it hold padding only. It is worked out from
what may be known before the answer is: for a hidden output it allows the size that the demonstrations
suggest.
"""

from augment.task import Task


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
            f"leave it out (max side {board_side}) or raise the board side"
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
    longest_input = max(pair.input.shape[axis] for pair in task.tests)
    return -(-longest_input * after // before)
