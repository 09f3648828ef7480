"""Leave boards out of the training data that equal a test board (Sudoku, Maze, N-Queens).

A list of boards is one task, so boards that two lists share are not found by comparing tasks. Two boards are equal if a
dihedral transform and a recolouring turn one puzzle into the other (`augment.contamination`).
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace

from augment.contamination import input_look
from augment.errors import UserError
from augment.logic_puzzles.recognition import holds_boards
from augment.task import Pair, Task


def find_test_boards(tasks: Iterable[Task]) -> dict[str, str]:
    """Return the looks of the test boards of all tasks that are lists of boards, each with the task's ID."""
    return {input_look(pair): task.id for task in tasks if holds_boards(task) for pair in task.tests}


def without_boards(task: Task, boards: Mapping[str, str], trains_on_tests: bool) -> tuple[Task, list[tuple[int, str]]]:
    """Return the task without pairs that equal a test board; a task that is no list of boards stays the same object.

    Args:
        task: the task.
        boards: the test boards (`find_test_boards`).
        trains_on_tests: whether the task's tests are training data, and are therefore left out too.

    Returns:
        The task; and for each pair left out its place (demonstrations first) and the ID of the test board's task.

    Raises:
        UserError: if no demonstration remains.
    """
    if not boards or not holds_boards(task):
        return task, []
    equal = {place: boards[look] for place, look in enumerate(map(input_look, task.demonstrations)) if look in boards}
    demonstrations = _without(task.demonstrations, equal)
    if not demonstrations:
        raise UserError(
            f"every board of task {task.id} equals a test board, under some transform and recolouring",
            "train on more or other boards",
        )
    if not trains_on_tests:
        return replace(task, demonstrations=demonstrations), list(equal.items())
    tests = {place: boards[look] for place, look in enumerate(map(input_look, task.tests)) if look in boards}
    later = [(len(task.demonstrations) + place, other) for place, other in tests.items()]
    return Task(task.id, demonstrations, _without(task.tests, tests)), [*equal.items(), *later]


def _without(pairs: tuple[Pair, ...], places: Iterable[int]) -> tuple[Pair, ...]:
    left_out = set(places)
    return tuple(pair for place, pair in enumerate(pairs) if place not in left_out)
