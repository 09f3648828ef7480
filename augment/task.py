"""Tasks: the JSON value of a task comes in, checked pairs of grids go out."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches

from augment.grid import MAX_SIDE, Grid, parse_grid

KEY_SEPARATOR = "|||"
"""Stands between the parts of a puzzle's name, so no task ID may hold it."""

COPY_SEPARATOR = "~"
"""Another task with the ID "a" is called "a~2", so no task ID of a source may end like that."""

MAX_ID = 200
"""Characters of a task ID: file systems allow names of about 255."""


class TaskError(ValueError):
    """A value that is not a task, or a selection no task meets; the message names file, task and fix."""


@dataclass(frozen=True, eq=False)
class Pair:
    """An input grid and its output grid; the output of a test input may be hidden (None)."""

    input: Grid
    output: Grid | None

    def grids(self) -> Iterator[Grid]:
        """The input and, unless it is hidden, the output."""
        yield self.input
        if self.output is not None:
            yield self.output


@dataclass(frozen=True, eq=False)
class Task:
    """Demonstration pairs (outputs always known) and test pairs (outputs known or hidden).

    There is at least one demonstration. Tasks to train on may have no test pairs.
    """

    id: str
    demonstrations: tuple[Pair, ...]
    tests: tuple[Pair, ...]

    def hidden(self) -> "Task":
        """The same task with every test output hidden."""
        return replace(self, tests=tuple(Pair(pair.input, None) for pair in self.tests))

    @property
    def max_side(self) -> int:
        """Largest side of the demonstrations' grids and the test inputs; test outputs never count."""
        shown = [grid for pair in self.demonstrations for grid in pair.grids()]
        return max(max(grid.shape) for grid in [*shown, *(pair.input for pair in self.tests)])

    @property
    def has_solutions(self) -> bool:
        """Whether every test output is known."""
        return all(pair.output is not None for pair in self.tests)


def parse_task(task_id: str, value: object, where: str) -> Task:
    """The task written as {"train": [{input, output}...], "test": [{input, output?}...]}.

    `where` names the file for the TaskError or GridError that anything else raises.
    """
    where = _place_task(task_id, where)
    if not isinstance(value, dict):
        raise TaskError(f'{where}: a task is an object with "train" and "test", not {type(value).__name__}')
    return Task(
        task_id,
        _parse_pairs(value.get("train"), "train", outputs_required=True, where=where),
        _parse_pairs(value.get("test"), "test", outputs_required=False, where=where),
    )


def parse_pair_list(task_id: str, value: object, where: str) -> Task:
    """The task written as [{input, output}...], as RE-ARC writes them: demonstrations only, no tests."""
    return Task(task_id, _parse_pairs(value, "pairs", outputs_required=True, where=_place_task(task_id, where)), ())


def name_copy(task_id: str, number: int) -> str:
    """What another task with the same ID is called: "007bbfb7~2"."""
    return f"{task_id}{COPY_SEPARATOR}{number}"


def original_id(task_id: str) -> str:
    """The ID that a task has in its source: undo `name_copy`."""
    original, separator, number = task_id.rpartition(COPY_SEPARATOR)
    return original if separator and number.isdecimal() else task_id


def _place_task(task_id: str, where: str) -> str:
    """The task's place for messages, once its ID will do as the name of files, keys and rows."""
    bad = KEY_SEPARATOR in task_id or len(task_id) > MAX_ID or not task_id.isprintable()
    if bad or not task_id or original_id(task_id) != task_id:
        raise TaskError(
            f"{where}: task {task_id[:80]!a}: a task ID has 1 to {MAX_ID} printable characters, does not hold "
            f"{KEY_SEPARATOR!r} and does not end in {COPY_SEPARATOR} and a number; rename the task"
        )
    return f"{where}: task {task_id}"


def _parse_pairs(pairs: object, part: str, outputs_required: bool, where: str) -> tuple[Pair, ...]:
    if not isinstance(pairs, list) or not pairs:
        raise TaskError(f'{where}: "{part}" must be a list of at least one pair')
    return tuple(
        _parse_pair(pair, outputs_required, f"{where}: {part} pair {number}") for number, pair in enumerate(pairs)
    )


def _parse_pair(pair: object, output_required: bool, where: str) -> Pair:
    if not isinstance(pair, dict) or "input" not in pair:
        raise TaskError(f'{where}: a pair is an object with "input" and "output"')
    grid = parse_grid(pair["input"], f"{where} input")
    if pair.get("output") is None:
        if output_required:
            raise TaskError(f'{where}: "output" is missing; only test outputs may be hidden')
        return Pair(grid, None)
    return Pair(grid, parse_grid(pair["output"], f"{where} output"))


@dataclass(frozen=True)
class Selection:
    """Which tasks to take: of those with these IDs (empty: all) and no longer side, the first `limit`."""

    tasks: tuple[str, ...] = ()
    max_side: int | None = None
    limit: int | None = None

    def __post_init__(self) -> None:
        if self.max_side is not None and not 1 <= self.max_side <= MAX_SIDE:
            raise ValueError(f"max_side is {self.max_side}; give a side from 1 to {MAX_SIDE}, or nothing for all tasks")
        if self.limit is not None and self.limit < 1:
            raise ValueError(f"limit is {self.limit}; give at least 1, or nothing for all tasks")


def select_tasks(tasks: Sequence[Task], selection: Selection, source: str = "the tasks given") -> list[Task]:
    """The selected tasks, sorted by ID. Unknown IDs and a selection that leaves nothing raise TaskError."""
    by_id = {task.id: task for task in sorted(tasks, key=lambda task: task.id)}
    _refuse_unknown(selection.tasks, list(by_id), source)
    wanted = set(selection.tasks) or set(by_id)
    side = selection.max_side or MAX_SIDE
    left = [task for task in by_id.values() if task.id in wanted and task.max_side <= side]
    if not left:
        raise TaskError(f"{source}: none of the {len(wanted)} tasks asked for has sides up to {side}; raise max_side")
    return left[: selection.limit]


def _refuse_unknown(wanted: Sequence[str], known: Sequence[str], source: str) -> None:
    present = set(known)
    unknown = [task_id for task_id in wanted if task_id not in present]
    if not unknown:
        return
    matches = [match for task_id in unknown[:5] for match in get_close_matches(task_id, known, n=2)]
    hint = (
        f"close matches: {', '.join(dict.fromkeys(matches))}" if matches else f"it starts with {', '.join(known[:3])}"
    )
    more = f" and {len(unknown) - 5} more" if len(unknown) > 5 else ""
    raise TaskError(f"{source} has no task {', '.join(unknown[:5])}{more} ({len(known)} tasks; {hint})")
