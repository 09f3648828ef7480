"""Load the readable tasks of a partly broken source, and list the unreadable ones with the reason.

This is for runs that must predict as many tasks as possible. Everywhere else a broken source is an error
(`augment.sources.load.load_tasks`).
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from augment.sources.fast_json import SourceError, read_json
from augment.sources.load import CHALLENGES, SOLUTIONS, add_solutions, find_source_label, load_tasks
from augment.task import Selection, Task, parse_task, select_tasks

SAMPLE = "sample_submission.json"
"""Kaggle's file in the folder of the challenges: for each task a list with one entry per test input."""


class UnreadableTask(NamedTuple):
    """A task that cannot be read: its ID, its probable number of test inputs, and the error message."""

    task: str
    tests: int
    why: str


def load_readable_tasks(
    source: str | Path,
    selection: Selection = Selection(),  # noqa: B008 (frozen)
) -> tuple[list[Task], list[UnreadableTask]]:
    """Load the selected tasks of a source, and list the tasks that cannot be read.

    If the challenges file is not valid JSON, all task IDs of the sample submission in its folder are listed as
    unreadable. The size of an unreadable task is unknown, so a selection by side or number excludes it. Solutions that
    do not match the challenges are ignored.

    Raises:
        ValueError: if there is no such source, or not even its task IDs can be determined.
    """
    try:
        return load_tasks(source, selection), []
    except ValueError as error:
        file = _challenges_file(Path(find_source_label(source)))
        if file is None:
            raise
        try:
            value = read_json(file)
        except SourceError as json_error:
            return [], _from_sample(file, str(json_error), error)
        if not isinstance(value, dict) or not value:
            raise
    tasks, unreadable = _parse_tasks(value, str(file))
    requested_ids = set(selection.tasks)
    unreadable_ids = {task.task for task in unreadable}
    readable_selection = replace(selection, tasks=tuple(name for name in selection.tasks if name not in unreadable_ids))
    # An empty list of IDs would select all tasks, so it must not get to `select_tasks`.
    is_empty = not tasks or (requested_ids and not readable_selection.tasks)
    selected = [] if is_empty else select_tasks(_with_solutions(tasks, file), readable_selection, str(file))
    by_size = selection.max_side is not None or selection.limit is not None
    return selected, [task for task in unreadable if task.task in requested_ids or not (requested_ids or by_size)]


def _challenges_file(path: Path) -> Path | None:
    """Return the challenges file that a path or a prefix of one stands for, or None if there is none."""
    prefixed = path.with_name(path.name.removesuffix("_") + CHALLENGES) if path.name else path
    return next((file for file in (prefixed, path) if file.is_file()), None)


def _parse_tasks(challenges: Mapping[str, Any], file: str) -> tuple[list[Task], list[UnreadableTask]]:
    """Parse each task of a challenges file; collect errors instead of raising them."""
    tasks = []
    unreadable = []
    for task_id, value in challenges.items():
        try:
            tasks.append(parse_task(task_id, value, file))
        except ValueError as error:
            unreadable.append(UnreadableTask(task_id, _count_tests(value), str(error)))
    return tasks, unreadable


def _count_tests(value: Any) -> int:
    """Return the number of test inputs of a broken task as far as it can be recognised, at least 1."""
    tests = value.get("test") if isinstance(value, dict) else None
    return max(1, len(tests)) if isinstance(tests, list) else 1


def _with_solutions(tasks: list[Task], file: Path) -> list[Task]:
    """Return the tasks with outputs from the solutions file, or unchanged if that file lacks any of them."""
    solutions = file.with_name(file.name.removesuffix(CHALLENGES) + SOLUTIONS)
    if not file.name.endswith(CHALLENGES) or not solutions.is_file():
        return tasks
    try:
        value = read_json(solutions)
        return add_solutions(tasks, {task.id: value[task.id] for task in tasks}, solutions)
    except (ValueError, KeyError, TypeError):
        return tasks


def _from_sample(file: Path, reason: str, error: ValueError) -> list[UnreadableTask]:
    """List all tasks of the sample submission as unreadable; raise `error` if that file cannot be read either."""
    try:
        entries = read_json(file.with_name(SAMPLE))
    except SourceError:
        raise error from None
    if not isinstance(entries, dict) or not entries:
        raise error
    return [
        UnreadableTask(task, len(entry) if isinstance(entry, list) else 1, reason) for task, entry in entries.items()
    ]
