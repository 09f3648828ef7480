"""Read Kaggle's pairs of files: challenges, and the solutions beside them.

The names end in `_challenges.json` and `_solutions.json`, with an underscore or a hyphen, perhaps followed by `.gz`.
"""

import os
import re
from dataclasses import replace
from pathlib import Path

import numpy as np

from augment.errors import UserError
from augment.grid import parse_grid
from augment.sources.fast_json import escape, read_json
from augment.sources.files import SourceError, SourceFile
from augment.sources.reading import Reading
from augment.task import Pair, Task

CHALLENGES = "_challenges.json"
SOLUTIONS = "_solutions.json"
_ENDINGS = [f"{separator}challenges.json{gzip}" for gzip in ("", ".gz") for separator in "_-"]
_NAME = re.compile(r"(|.*[_-])(challenges|solutions)\.json(\.gz)?", re.DOTALL)


def is_challenges(name: str) -> bool:
    """Return whether this is the name of a challenges file."""
    match = _NAME.fullmatch(name)
    return match is not None and match[2] == "challenges"


def is_solutions(name: str) -> bool:
    """Return whether this is the name of a solutions file."""
    match = _NAME.fullmatch(name)
    return match is not None and match[2] == "solutions"


def find_challenges(path: Path) -> SourceFile | None:
    """Return the challenges file that a path or a prefix of one stands for, or None if there is none."""
    if path.name:
        prefix = path.with_name(path.name.removesuffix("_").removesuffix("-"))
        for ending in _ENDINGS:
            file = prefix.with_name(prefix.name + ending)
            if os.path.lexists(file):
                return SourceFile(file)
    return SourceFile(path) if is_challenges(path.name) and os.path.lexists(path) else None


def find_solutions(challenges: SourceFile) -> SourceFile | None:
    """Return the solutions file beside a challenges file, or None if there is none."""
    match = _NAME.fullmatch(challenges.path.name)
    if match is None:
        return None
    plain = f"{match[1]}solutions.json"
    other = plain.replace("-solutions", "_solutions") if "-solutions" in plain else plain.replace("_sol", "-sol")
    names = dict.fromkeys(f"{name}{gzip}" for name in (plain, other) for gzip in (match[3] or "", "", ".gz"))
    return next(filter(None, map(challenges.beside, names)), None)


def read_challenges(file: SourceFile) -> Reading:
    """Read the tasks of a challenges file, with test outputs from the solutions file next to it if there is one.

    Raises:
        SourceError: if one of the files is not of this form, or a task has no solution.
    """
    challenges = read_json(file)
    if not isinstance(challenges, dict) or not challenges:
        raise SourceError(
            f"{file.path} must contain one JSON object of tasks by ID, with at least one task",
            "correct or replace the file",
        )
    reading = Reading(is_competition=True)
    for task_id, value in challenges.items():
        reading.add(task_id, value, str(file.path))
    solutions_file = find_solutions(file)
    if solutions_file:
        _add_all_outputs(reading, read_json(solutions_file), str(solutions_file.path))
    return reading


def _add_all_outputs(reading: Reading, solutions: object, file: str) -> None:
    """Add the outputs of a solutions file to the tasks; tasks with impossible outputs are left out."""
    solutions = check_solutions(solutions, list(reading.tasks), file)
    for task_id, task in list(reading.tasks.items()):
        try:
            reading.tasks[task_id] = add_outputs(task, solutions[task_id], file)
        except UserError as error:
            reading.leave_out(task_id, error, file)


def check_solutions(solutions: object, task_ids: list[str], file: str) -> dict:
    """Return the JSON value of a solutions file, which has lists of output grids by task ID.

    Solutions of other tasks are allowed, as challenges are often a selection.

    Raises:
        SourceError: if it has another form, or one of the tasks has no solution.
    """
    if not isinstance(solutions, dict):
        raise SourceError(
            f"{file} must contain one JSON object of lists of output grids by task ID", "correct or replace the file"
        )
    missing = [task_id for task_id in task_ids if task_id not in solutions]
    if missing:
        raise SourceError(
            f"{file}: task {escape(missing[0])} has no solution ({len(missing)} of {len(task_ids)} tasks have none)",
            "add the solutions of all challenges, or remove the file to hide them",
        )
    return solutions


def add_outputs(task: Task, outputs: object, file: str) -> Task:
    """Return the task with the test outputs of a solutions file.

    Raises:
        SourceError, GridError: if they do not match the test inputs, or one is not a grid.
    """
    where = f"{file}: task {task.id}"
    if not isinstance(outputs, list) or len(outputs) != len(task.tests):
        count = len(outputs) if isinstance(outputs, list) else "no list of"
        raise SourceError(f"{where}: {count} outputs for {len(task.tests)} test inputs", "give one per input, in order")
    grids = [parse_grid(output, f"{where}: output {number}") for number, output in enumerate(outputs)]
    for number, (test, grid) in enumerate(zip(task.tests, grids, strict=True)):
        if test.output is not None and not np.array_equal(test.output, grid):
            raise SourceError(
                f"{where}: output {number} differs from the output in the challenges file", "remove one of them"
            )
    tests = [Pair(test.input, grid) for test, grid in zip(task.tests, grids, strict=True)]
    return replace(task, tests=tuple(tests))
