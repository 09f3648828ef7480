"""Tasks of a source that is partly broken: what can be read comes out as tasks, the rest by ID with the reason.

For runs that must answer what they can: everywhere else a broken source is refused (`augment.sources.load.load_tasks`).
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from augment.sources.fast_json import SourceError, read_json
from augment.sources.load import CHALLENGES, SOLUTIONS, add_solutions, find_source_label, load_tasks
from augment.task import Selection, Task, parse_task, select_tasks

SAMPLE = "sample_submission.json"
"""Kaggle's file beside the challenges: every task with an entry per test input."""


class UnreadableTask(NamedTuple):
    """A task that cannot be read: its ID, how many test inputs it seems to have, and what is wrong with it."""

    task: str
    tests: int
    why: str


def load_readable_tasks(
    source: str | Path,
    selection: Selection = Selection(),  # noqa: B008 (frozen)
) -> tuple[list[Task], list[UnreadableTask]]:
    """The selected tasks of a source, and those that cannot be read.

    A challenges file that is no JSON gives the IDs of the sample submission beside it, all of them unread. Unread tasks
    have no size, so a selection by side or number leaves them out. Solutions that do not fit are left out.

    Raises:
        ValueError: where there is no such source, or nothing at all can be told about it.
    """
    try:
        return load_tasks(source, selection), []
    except ValueError as error:
        file = _challenges_file(Path(find_source_label(source)))
        if file is None:
            raise
        try:
            value = read_json(file)
        except SourceError as broken:
            return [], _from_sample(file, str(broken), error)
        if not isinstance(value, dict) or not value:
            raise
    tasks, unread = _parse_each(value, str(file))
    asked = set(selection.tasks)
    broken = {each.task for each in unread}
    readable = replace(selection, tasks=tuple(name for name in selection.tasks if name not in broken))
    none_left = not tasks or (asked and not readable.tasks)
    chosen = [] if none_left else select_tasks(_with_solutions(tasks, file), readable, str(file))
    selected_by_size = selection.max_side is not None or selection.limit is not None
    return chosen, [each for each in unread if each.task in asked or not (asked or selected_by_size)]


def _challenges_file(path: Path) -> Path | None:
    prefixed = path.with_name(path.name.removesuffix("_") + CHALLENGES) if path.name else path
    return next((file for file in (prefixed, path) if file.is_file()), None)


def _parse_each(value: Mapping[str, Any], file: str) -> tuple[list[Task], list[UnreadableTask]]:
    tasks = []
    unread = []
    for task_id, given in value.items():
        try:
            tasks.append(parse_task(task_id, given, file))
        except ValueError as error:
            unread.append(UnreadableTask(task_id, _count_tests(given), str(error)))
    return tasks, unread


def _count_tests(given: Any) -> int:
    tests = given.get("test") if isinstance(given, dict) else None
    return max(1, len(tests)) if isinstance(tests, list) else 1


def _with_solutions(tasks: list[Task], file: Path) -> list[Task]:
    """The tasks with the outputs that the solutions file beside them has for all of them, else as they are."""
    solutions = file.with_name(file.name.removesuffix(CHALLENGES) + SOLUTIONS)
    if not file.name.endswith(CHALLENGES) or not solutions.is_file():
        return tasks
    try:
        value = read_json(solutions)
        return add_solutions(tasks, {task.id: value[task.id] for task in tasks}, solutions)
    except (ValueError, KeyError, TypeError):
        return tasks


def _from_sample(file: Path, why: str, error: ValueError) -> list[UnreadableTask]:
    try:
        entries = read_json(file.with_name(SAMPLE))
    except SourceError:
        raise error from None
    if not isinstance(entries, dict) or not entries:
        raise error
    return [UnreadableTask(task, len(given) if isinstance(given, list) else 1, why) for task, given in entries.items()]
