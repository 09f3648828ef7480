"""Parse the tasks of a source one by one, and decide about those that cannot be used.

What cannot be used is a task, one pair of a long list, or a file that contains no task:

- Grids with a side over 30 and files that contain no task are left out and listed. In a challenges file that is scored
  they stop the program, as all tasks of a competition count, unless the selection limits the side.
- Anything else, such as a file cut short, is left out and listed only where the source is trained on. A score would be
  on fewer tasks than the source has.
- A task that the selection names always stops the program.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from augment.errors import UserError
from augment.grid import OversizeError
from augment.sources.fast_json import escape
from augment.sources.files import SourceError
from augment.sources.forms import NoTaskError
from augment.task import Selection, Task, TaskError, parse_pair_list, parse_task

NAMED = 3
"""How many tasks are named in a line about many."""


KINDS = ("task", "tasks"), ("pair", "pairs"), ("file without a task", "files without a task")
"""What may be left out, as the words for one and for several."""


class LeftOut(NamedTuple):
    """A part of a source that cannot be used.

    Attributes:
        file: the path of the file.
        task: the task's ID; empty for a file that contains no task.
        pair: the number of the pair in a list of pairs; None for a whole task or file.
        error: why, as it would be raised.
    """

    file: str
    task: str
    pair: int | None
    error: UserError

    @property
    def kind(self) -> str:
        """What is left out, one of `KINDS`."""
        number = 2 if not self.task else 0 if self.pair is None else 1
        return KINDS[number][0]

    @property
    def name(self) -> str:
        """The task's ID, or the path of a file that contains no task."""
        return escape(self.task) or self.file

    @property
    def reason(self) -> str:
        """Why, without the names of file and task."""
        reason = self.error.summary.removeprefix(self.file).removeprefix(": ").strip()
        return reason.removeprefix(f"task {self.task}: ")


@dataclass
class Reading:
    """What was read of a source.

    Attributes:
        is_competition: whether the source is a challenges file.
        tasks: the tasks by ID.
        files: the file of each task, of those left out too.
        left_out: what cannot be used.
    """

    is_competition: bool = False
    tasks: dict[str, Task] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    left_out: list[LeftOut] = field(default_factory=list)

    def add(self, task_id: str, value: Any, file: str) -> None:
        """Parse a task and add it, or the reason why it cannot be used.

        Args:
            task_id: the task's ID.
            value: the JSON value of the task, or the error with which it was read.
            file: the path of its file.

        Raises:
            SourceError: if there already is a task with this ID.
        """
        if isinstance(value, NoTaskError):
            self.left_out.append(LeftOut(file, "", None, value))
            return
        if first := self.files.get(task_id):
            place = f"twice in {file}" if first == file else f"in both {first} and {file}"
            raise SourceError(f"task {escape(task_id)} is {place}", "give only one of them, or rename one")
        self.files[task_id] = file
        errors: dict[int, UserError] = {}
        try:
            self.tasks[task_id] = _parse(task_id, value, file, errors)
        except UserError as error:
            self.left_out.append(LeftOut(file, task_id, None, error))
        else:
            self.left_out += [LeftOut(file, task_id, pair, error) for pair, error in errors.items()]

    def leave_out(self, task_id: str, error: UserError, file: str) -> None:
        """Take back a task that was added, because of an error in this file."""
        del self.tasks[task_id]
        self.left_out.append(LeftOut(file, task_id, None, error))

    def check(self, selection: Selection, leave_out_broken: bool) -> list[LeftOut]:
        """Return what is left out of the selected tasks.

        Args:
            selection: which tasks are wanted.
            leave_out_broken: whether broken tasks are left out, as of a source to train on.

        Raises:
            UserError: the error of a part that may not be left out, or of the first part if no task is left.
        """
        parts = [part for part in self.left_out if not selection.tasks or part.task in selection.tasks]
        named = [part for part in parts if part.pair is None and part.task in selection.tasks]
        broken = [] if leave_out_broken else [part for part in parts if self._is_broken(part, selection)]
        if stopping := named or broken or ([] if self.tasks else self.left_out):
            _refuse(stopping)
        if self.is_competition and not leave_out_broken:
            self._require_tests(selection)
        return parts

    def _is_broken(self, part: LeftOut, selection: Selection) -> bool:
        if isinstance(part.error, OversizeError):
            return self.is_competition and selection.max_side is None
        return not isinstance(part.error, NoTaskError)

    def _require_tests(self, selection: Selection) -> None:
        for task_id in selection.tasks or self.tasks:
            if task_id in self.tasks and not self.tasks[task_id].tests:
                raise TaskError(
                    f'{self.files[task_id]}: task {task_id}: "test" must be a list of at least one pair to be scored',
                    "add its test inputs, or train on this source instead",
                )


def _parse(task_id: str, value: Any, file: str, errors: dict[int, UserError]) -> Task:
    if isinstance(value, UserError):
        raise value
    if isinstance(value, list):
        return parse_pair_list(task_id, value, file, errors)
    return parse_task(task_id, value, file)


def _refuse(parts: Sequence[LeftOut]) -> None:
    """Raise the error of the first part, with the names of the others."""
    error = parts[0].error
    if len(parts) == 1:
        raise error
    raise SourceError(
        f"{error.summary}; {len(parts) - 1:,} more cannot be used: {_list(part.name for part in parts[1:])}",
        error.fix or "correct them, or leave them out of the source",
    )


def describe_left_out(source: str, left_out: Sequence[LeftOut], scored: bool = False) -> list[str]:
    """Return a line about what was left out of a source: how much, and the first names and reasons; none for nothing.

    Args:
        source: the source's label.
        left_out: what was left out.
        scored: whether the source is scored, so that the score is without these tasks.
    """
    if not left_out:
        return []
    numbers = Counter(part.kind for part in left_out)
    counts = ", ".join(f"{numbers[one]:,} {one if numbers[one] == 1 else many}" for one, many in KINDS if numbers[one])
    parts = _list(f"{part.name} ({part.reason})" for part in left_out)
    return [f"left out of {source}{' and not scored' if scored else ''}, {counts}: {parts}"]


def _list(names: Iterable[str]) -> str:
    """Return the first names, and the number of others."""
    names = list(dict.fromkeys(names))
    return ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED:,} more" if len(names) > NAMED else "")
