"""Load the readable tasks of a partly broken source, and list the unreadable ones with the reason.

This is for runs that must predict as many tasks as possible. Everywhere else a broken source is an error
(`augment.sources.load.load_tasks`).
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from augment.sources.challenges import add_outputs, check_solutions, find_challenges, find_solutions
from augment.sources.fast_json import read_json
from augment.sources.files import SourceError, SourceFile
from augment.sources.load import find_path, find_source_label, load_source
from augment.sources.reading import LeftOut
from augment.task import Selection, Task, TaskError, parse_task, select_tasks

SAMPLE = "sample_submission.json"
"""Kaggle's file in the folder of the challenges: for each task a list with one entry per test input."""


class UnreadableTask(NamedTuple):
    """A task that cannot be read: its ID, its probable number of test inputs, and the error message."""

    task: str
    tests: int
    why: str


class ReadableSource(NamedTuple):
    """The tasks of a source that can be read, those that cannot, and what is left out as in `load_source`.

    The unreadable tasks are tasks of a competition, so a submission must have an entry for them.
    """

    tasks: list[Task]
    unreadable: list[UnreadableTask]
    left_out: list[LeftOut]


def load_readable_tasks(
    source: str | Path,
    selection: Selection = Selection(),  # noqa: B008 (frozen)
) -> tuple[list[Task], list[UnreadableTask]]:
    """Load the selected tasks of a source, and list the tasks that cannot be read, as `load_readable_source` does."""
    tasks, unreadable, _ = load_readable_source(source, selection)
    return tasks, unreadable


def load_readable_source(
    source: str | Path,
    selection: Selection = Selection(),  # noqa: B008 (frozen)
) -> ReadableSource:
    """Load the selected tasks of a source, and list the tasks that cannot be read.

    If the challenges file is not valid JSON, all task IDs of the sample submission in its folder are listed as
    unreadable. The size of an unreadable task is unknown, so a selection by side or number excludes it. Solutions that
    do not match the challenges are ignored.

    Raises:
        ValueError: if there is no such source, or not even its task IDs can be determined.
    """
    try:
        loaded = load_source(source, selection)
        return ReadableSource(loaded.tasks, [], loaded.left_out)
    except ValueError as error:
        file = _challenges_file(find_path(find_source_label(source)))
        if file is None:
            raise
        try:
            value = read_json(file)
        except SourceError as json_error:
            return ReadableSource([], _from_sample(file, str(json_error), error), [])
        if not isinstance(value, dict) or not value:
            raise
    tasks, unreadable = _parse_tasks(value, str(file.path))
    requested_ids = set(selection.tasks)
    unreadable_ids = {task.task for task in unreadable}
    readable_selection = replace(selection, tasks=tuple(name for name in selection.tasks if name not in unreadable_ids))
    # An empty list of IDs would select all tasks, so it must not get to `select_tasks`.
    is_empty = not tasks or (requested_ids and not readable_selection.tasks)
    selected = [] if is_empty else select_tasks(_with_solutions(tasks, file), readable_selection, str(file.path))
    by_size = selection.max_side is not None or selection.limit is not None
    chosen = [task for task in unreadable if task.task in requested_ids or not (requested_ids or by_size)]
    return ReadableSource(selected, chosen, [])


def _challenges_file(path: Path) -> SourceFile | None:
    """Return the challenges file that a path or a prefix of one stands for, or None if there is none."""
    return find_challenges(path) or (SourceFile(path) if path.is_file() else None)


def _parse_tasks(challenges: Mapping[str, Any], file: str) -> tuple[list[Task], list[UnreadableTask]]:
    """Parse each task of a challenges file; collect errors instead of raising them."""
    tasks = []
    unreadable = []
    for task_id, value in challenges.items():
        try:
            tasks.append(_parse_scored(task_id, value, file))
        except ValueError as error:
            unreadable.append(UnreadableTask(task_id, _count_tests(value), str(error)))
    return tasks, unreadable


def _parse_scored(task_id: str, value: Any, file: str) -> Task:
    task = parse_task(task_id, value, file)
    if not task.tests:
        raise TaskError(f"{file}: task {task_id}: there is no test input")
    return task


def _count_tests(value: Any) -> int:
    """Return the number of test inputs of a broken task as far as it can be recognised, at least 1."""
    tests = value.get("test") if isinstance(value, dict) else None
    return max(1, len(tests)) if isinstance(tests, list) else 1


def _with_solutions(tasks: list[Task], file: SourceFile) -> list[Task]:
    """Return the tasks with outputs from the solutions file, or unchanged if that file lacks any of them."""
    solutions = find_solutions(file)
    if solutions is None:
        return tasks
    label = str(solutions.path)
    try:
        value = check_solutions(read_json(solutions), [task.id for task in tasks], label)
        return [add_outputs(task, value[task.id], label) for task in tasks]
    except ValueError:
        return tasks


def _from_sample(file: SourceFile, reason: str, error: ValueError) -> list[UnreadableTask]:
    """List all tasks of the sample submission as unreadable; raise `error` if that file cannot be read either."""
    try:
        entries = read_json(SourceFile(file.path.with_name(SAMPLE)))
    except SourceError:
        raise error from None
    if not isinstance(entries, dict) or not entries:
        raise error
    return [
        UnreadableTask(task, len(entry) if isinstance(entry, list) else 1, reason) for task, entry in entries.items()
    ]
