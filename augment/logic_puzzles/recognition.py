"""Tell tasks that are lists of boards (Sudoku, Maze, N-Queens) from ARC tasks by their content, and describe them.

Puzzle sets and tasks do not store their kind.
"""

import numpy as np

from augment.grid import Grid
from augment.logic_puzzles import maze, nqueens, sudoku
from augment.logic_puzzles.source import PUZZLE_NAMES
from augment.task import Pair, Task


def holds_boards(task: Task) -> bool:
    """Return whether the task is a list of boards. Each pair of such a task is a puzzle of its own.

    The first demonstration decides: a Sudoku or a maze with its solution. An N-Queens task is recognised by its ID.
    """
    return is_queens(task) or any(_is_sudoku(pair) or _is_maze(pair) for pair in task.demonstrations[:1])


def is_queens(task: Task) -> bool:
    """Return whether the task is an N-Queens task."""
    return task.id.startswith("queens-") and task.id in PUZZLE_NAMES


def describe_logic_puzzles(task: Task) -> dict[str, float]:
    """Measure the difficulty of a task's test puzzles, or of its training puzzles if it has no tests.

    Returns:
        Statistics by name. Sudoku: "clues, mean", and the mean, median, least and most "backtracks"
        (`sudoku.difficulty`). Maze: the same four statistics of "steps", the length of the shortest path. N-Queens:
        the same four of "solutions", the number of solutions.
    """
    pairs = task.tests or task.demonstrations
    puzzles = [pair.input for pair in pairs]
    if is_queens(task):
        return _spread("solutions", [len(nqueens.complete(puzzle)) for puzzle in puzzles])
    if _is_sudoku(task.demonstrations[0]):
        clues = float(np.mean([(puzzle > 0).sum() for puzzle in puzzles]))
        return {"clues, mean": clues} | _spread("backtracks", [sudoku.difficulty(puzzle) for puzzle in puzzles])
    return _spread("steps", [maze.count_steps(puzzle) for puzzle in puzzles])


def _is_sudoku(pair: Pair) -> bool:
    """Return whether the pair is a Sudoku with its solution."""
    answer = _square_answer(pair)
    return answer is not None and len(answer) in sudoku.BOXES and sudoku.is_solution(pair.input, answer)


def _is_maze(pair: Pair) -> bool:
    """Return whether the pair is a maze with its solution."""
    answer = _square_answer(pair)
    return answer is not None and maze.is_solution(pair.input, answer)


def _square_answer(pair: Pair) -> Grid | None:
    """Return the output if it is known and a square as large as the input, else None."""
    answer = pair.output
    return answer if answer is not None and answer.shape == pair.input.shape == pair.input.shape[::-1] else None


def _spread(name: str, values: list[int]) -> dict[str, float]:
    statistics = {"mean": np.mean(values), "median": np.median(values), "least": np.min(values), "most": np.max(values)}
    return {f"{name}, {statistic}": float(value) for statistic, value in statistics.items()}
