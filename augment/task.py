"""Define tasks and pairs, parse them from JSON values, and select tasks by ID, size and number."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches

from augment.errors import UserError
from augment.grid import MAX_SIDE, Grid, parse_grid

KEY_SEPARATOR = "|||"
"""Separates the parts of a puzzle's key; a task ID must not contain it."""

COPY_SEPARATOR = "~"
"""A second task with the ID "a" is renamed to "a~2"; a task ID of a source must not end like that."""

MAX_ID = 200
"""Maximum length of a task ID, which becomes part of file names; file systems allow about 255 characters."""


class TaskError(UserError):
    """A value that is not a task, or a selection that matches no task; the message names file, task and fix."""


@dataclass(frozen=True, eq=False)
class Pair:
    """An input grid and its output grid; the output of a test input may be hidden (None)."""

    input: Grid
    output: Grid | None

    def grids(self) -> Iterator[Grid]:
        """Yield the input and, unless it is hidden, the output."""
        yield self.input
        if self.output is not None:
            yield self.output


@dataclass(frozen=True, eq=False)
class Task:
    """Demonstration pairs (outputs always known) and test pairs (outputs known or hidden).

    There is at least one demonstration. A training task may have no test pairs.
    """

    id: str
    demonstrations: tuple[Pair, ...]
    tests: tuple[Pair, ...]

    def hidden(self) -> "Task":
        """Return the same task with every test output hidden."""
        return replace(self, tests=tuple(Pair(pair.input, None) for pair in self.tests))

    @property
    def max_side(self) -> int:
        """Largest side of the demonstrations' grids and the test inputs.

        Test outputs do not count, so that the value does not depend on whether they are hidden.
        """
        demonstration_grids = [grid for pair in self.demonstrations for grid in pair.grids()]
        return max(max(grid.shape) for grid in [*demonstration_grids, *(pair.input for pair in self.tests)])

    @property
    def has_solutions(self) -> bool:
        """Whether every test output is known."""
        return all(pair.output is not None for pair in self.tests)


def parse_task(task_id: str, value: object, where: str) -> Task:
    """Parse a task of the form {"train": [{input, output}...], "test": [{input, output?}...]}.

    A task to train on may have no tests: "test" is then an empty list, null or absent.

    Args:
        task_id: ID of the task.
        value: the JSON value; its grids may be arrays.
        where: name of the file, for error messages.

    Raises:
        TaskError, GridError: if the ID, the value or one of its grids is invalid.
    """
    where = _place_task(task_id, where)
    if not isinstance(value, dict):
        raise TaskError(f'{where}: a task is an object with "train" and "test", not {type(value).__name__}')
    return Task(
        task_id,
        _parse_pairs(value.get("train"), "train", outputs_required=True, where=where),
        () if value.get("test") in (None, []) else _parse_pairs(value["test"], "test", False, where),
    )


def parse_pair_list(task_id: str, value: object, where: str, errors: dict[int, UserError] | None = None) -> Task:
    """Parse a task of the form [{input, output}...], as in RE-ARC: it has demonstrations only and no tests.

    Args:
        task_id: ID of the task.
        value: the JSON value; its grids may be arrays.
        where: name of the file, for error messages.
        errors: if given, pairs that cannot be parsed are left out, and their errors are added here by pair number.

    Raises:
        TaskError, GridError: if the ID, the value or one of its grids is invalid, or no pair is left.
    """
    where = _place_task(task_id, where)
    pairs = _parse_pairs(value, "pairs", outputs_required=True, where=where, errors=errors)
    return Task(task_id, pairs, ())


def name_copy(task_id: str, number: int) -> str:
    """Return the ID of another task with the same original ID, for example "007bbfb7~2"."""
    return f"{task_id}{COPY_SEPARATOR}{number}"


def original_id(task_id: str) -> str:
    """Return the ID that a task has in its source: undo `name_copy`."""
    original, separator, number = task_id.rpartition(COPY_SEPARATOR)
    return original if separator and number.isdecimal() else task_id


def check_id(task_id: str) -> bool:
    """Return whether the ID can be part of file names and puzzle keys."""
    return 0 < len(task_id) <= MAX_ID and task_id.isprintable() and KEY_SEPARATOR not in task_id


def _place_task(task_id: str, where: str) -> str:
    """Check that the ID can be part of file names and puzzle keys; return the task's place for error messages."""
    if not check_id(task_id) or original_id(task_id) != task_id:
        raise TaskError(
            f"{where}: task {task_id[:80]!a}: a task ID has 1 to {MAX_ID} printable characters, does not contain "
            f"{KEY_SEPARATOR!r} and does not end in {COPY_SEPARATOR} followed by a number",
            "rename the task",
        )
    return f"{where}: task {task_id}"


def _parse_pairs(
    pairs: object, part: str, outputs_required: bool, where: str, errors: dict[int, UserError] | None = None
) -> tuple[Pair, ...]:
    if not isinstance(pairs, list) or not pairs:
        raise TaskError(f'{where}: "{part}" must be a list of at least one pair')
    parsed = []
    for number, pair in enumerate(pairs):
        try:
            parsed.append(_parse_pair(pair, outputs_required, f"{where}: {part} pair {number}"))
        except UserError as error:
            if errors is None:
                raise
            errors[number] = error
    if errors and not parsed:
        raise next(iter(errors.values()))
    return tuple(parsed)


def _parse_pair(pair: object, output_required: bool, where: str) -> Pair:
    if not isinstance(pair, dict) or "input" not in pair:
        raise TaskError(f'{where}: a pair is an object with "input" and "output"')
    grid = parse_grid(pair["input"], f"{where} input")
    if pair.get("output") is None:
        if output_required:
            raise TaskError(f'{where}: "output" is missing', "only test outputs may be hidden")
        return Pair(grid, None)
    return Pair(grid, parse_grid(pair["output"], f"{where} output"))


@dataclass(frozen=True)
class Selection:
    """Which tasks of a source to take.

    Attributes:
        tasks: IDs to choose from; empty for all.
        max_side: largest allowed `Task.max_side`; None for all.
        limit: maximum number of tasks, taken in order of their IDs; None for all.
    """

    tasks: tuple[str, ...] = ()
    max_side: int | None = None
    limit: int | None = None

    def __post_init__(self) -> None:
        if self.max_side is not None and not 1 <= self.max_side <= MAX_SIDE:
            raise UserError(
                f"max_side is {self.max_side}", f"give a side from 1 to {MAX_SIDE}, or omit it for all tasks"
            )
        if self.limit is not None and self.limit < 1:
            raise UserError(f"limit is {self.limit}", "give at least 1, or omit it for all tasks")


def select_tasks(tasks: Sequence[Task], selection: Selection, source: str = "the task list") -> list[Task]:
    """Return the selected tasks, sorted by ID.

    Raises:
        TaskError: if an ID is unknown or no task remains; `source` names the tasks in the message.
    """
    by_id = {task.id: task for task in sorted(tasks, key=lambda task: task.id)}
    _refuse_unknown(selection.tasks, list(by_id), source)
    task_ids = set(selection.tasks) or set(by_id)
    side = selection.max_side or MAX_SIDE
    selected = [task for task in by_id.values() if task.id in task_ids and task.max_side <= side]
    if not selected:
        raise TaskError(
            f"{source}: none of the {len(task_ids)} tasks requested has only sides up to {side}", "raise max_side"
        )
    return selected[: selection.limit]


def _refuse_unknown(requested_ids: Sequence[str], all_ids: Sequence[str], source: str) -> None:
    """Raise TaskError for requested IDs that the source does not have, with close matches."""
    known_ids = set(all_ids)
    unknown = [task_id for task_id in requested_ids if task_id not in known_ids]
    if not unknown:
        return
    matches = [match for task_id in unknown[:5] for match in get_close_matches(task_id, all_ids, n=2)]
    hint = (
        f"close matches: {', '.join(dict.fromkeys(matches))}" if matches else f"it starts with {', '.join(all_ids[:3])}"
    )
    more = f" and {len(unknown) - 5} more" if len(unknown) > 5 else ""
    raise TaskError(f"{source} has no task {', '.join(unknown[:5])}{more} ({len(all_ids)} tasks; {hint})")
