"""Merge the tasks of all sources: remove duplicates, handle train/test overlap, and make task IDs unique.

Scored tasks have hidden test outputs and keep their IDs. Train tasks follow, ordered by source name and ID:

- The same task from two sources is taken once.
- A different task whose ID is already used is renamed to "ID~2".
- `on_leak` decides about a train task that overlaps with a scored task (`augment.contamination`): stop, drop, allow.
- Two scored tasks may overlap as well, because demonstrations are trained on. None of them is left out. Overlaps
  between two sources stop the merge if `on_leak` is "stop"; all others are listed, and mark every score.
- In lists of boards (Sudoku, Maze, N-Queens), boards that equal a test board are left out, unless `on_leak` is "allow".
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import chain, count
from typing import Literal, NamedTuple, get_args

from augment.board_overlap import find_test_boards, without_boards
from augment.contamination import Overlap, SeenTasks, pairs_of
from augment.errors import UserError
from augment.sources.reading import LeftOut
from augment.task import Task, name_copy, original_id
from augment.text_files import require_utf_8

Role = Literal["scored", "train"]
OnLeak = Literal["stop", "drop", "allow"]
Duplicates = Literal["keep", "drop"]
NOT_FOUND = "Scaled or framed copies are not found."
"""The limit of the search for overlaps, for messages."""


class LeakError(UserError):
    """Tasks to be scored are also training data; the message lists each overlap."""


@dataclass(frozen=True)
class SourcedTasks:
    """The tasks of one source and their role, and what was left out of the source when it was loaded.

    For "scored" tasks the demonstrations are training data and the test outputs are predicted. For "train" tasks every
    pair is training data.
    """

    source: str
    role: Role
    tasks: list[Task]
    left_out: Sequence[LeftOut] = ()

    def __post_init__(self) -> None:
        if self.role not in get_args(Role):
            raise UserError(f"role of {self.source} is {self.role!r}", f"it must be one of {', '.join(get_args(Role))}")
        require_utf_8(self.source)


@dataclass(frozen=True)
class Entry:
    """A task to be merged, with its source and role.

    Attributes:
        task: what the puzzle set gets. The test outputs of scored tasks are hidden.
        whole: the task with all pairs and outputs of its source, which only the search for overlaps may read.
        old: whether the task belongs to the puzzle set that is extended.
    """

    source: str
    role: Role
    task: Task
    whole: Task
    old: bool = False

    def rename(self, task_id: str) -> "Entry":
        """Return the same entry with another task ID."""
        task, whole = (replace(task, id=task_id) for task in (self.task, self.whole))
        return replace(self, task=task, whole=whole)


class DroppedTask(NamedTuple):
    """A task that was left out because it repeats another task's pairs or overlaps with a scored task ("leaks").

    With the reason "boards" it is one pair of a list of boards, named by its place, which equals a test board.
    `task` is its ID in its source; `other` is the ID of the task that it repeats or overlaps with.
    """

    task: str
    source: str
    reason: Literal["repeats", "leaks", "boards"]
    other: str


@dataclass(frozen=True)
class MergedSources:
    """The tasks to build from, sorted by ID; the tasks left out; and the overlaps that are allowed."""

    entries: list[Entry]
    dropped: tuple[DroppedTask, ...]
    leaks: tuple[Overlap, ...]


def merge(
    entries: Sequence[Entry], on_leak: OnLeak = "stop", duplicates: Duplicates = "keep", allowed: Sequence[Overlap] = ()
) -> MergedSources:
    """Merge the entries of all sources into one entry per task, each with a unique ID.

    Args:
        entries: the entries of all sources and, when a set is extended, its old entries.
        on_leak: what to do if a train task overlaps with a scored task: raise an error, drop the train task, or keep
            it and list the overlap in the result.
        duplicates: whether to keep a train task that repeats the pairs of a train task with another ID.
        allowed: overlaps among the old entries that were allowed when the old set was built.

    Raises:
        LeakError: if tasks of different sources overlap and `on_leak` is "stop".
        ValueError: if a task is scored twice or has no test input, or an old task would need another ID.
    """
    _check_choice("on_leak", on_leak, get_args(OnLeak))
    _check_choice("duplicates", duplicates, get_args(Duplicates))
    scored, repetitions = _take_scored([entry for entry in entries if entry.role == "scored"])
    train, dropped = _drop_repeated([entry for entry in entries if entry.role == "train"], duplicates)
    # Scored tasks come first, so that they keep their IDs and a train task with the same ID is renamed.
    unique = _make_ids_unique([*scored, *train])
    if on_leak != "allow":
        unique, boards = _leave_out_boards(unique)
        dropped = [*dropped, *boards]
    train = unique[len(scored) :]
    scored = unique[: len(scored)]
    leaks = [leak for leak in find_leaks(scored, train) if leak not in allowed]
    if on_leak == "stop":
        _refuse_leaks(leaks, unique)
    if on_leak == "drop":
        train, leaking_tasks = _drop_leaking(train, leaks)
        dropped = [*dropped, *leaking_tasks]
    _refuse_renamed(train, entries)
    merged = sorted([*scored, *train], key=lambda entry: entry.task.id)
    task_ids = {entry.task.id for entry in merged}
    # An overlap that was allowed before no longer exists if its train task was dropped now.
    remaining_leaks = [leak for leak in {*allowed, *leaks} if leak.holder in task_ids]
    return MergedSources(merged, tuple(sorted([*repetitions, *dropped])), tuple(sorted(remaining_leaks)))


def find_leaks(scored: Iterable[Entry], train: Iterable[Entry]) -> list[Overlap]:
    """Return each overlap of a scored task with a train task, or with the demonstrations of another scored task.

    All pairs of the train task's source count, also those that were not drawn for training, and all test outputs of the
    scored task's source.
    """
    scored = list(scored)
    trained = SeenTasks.remember((entry.whole for entry in train), (entry.task for entry in scored))
    return trained.find_all(entry.whole for entry in scored) if scored else []


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise UserError(f"{name} is {value!r}", f"it must be one of {', '.join(choices)}")


def _order(entry: Entry) -> tuple[bool, str, str]:
    """Sort key: old entries first, then by source and ID, so that the result does not depend on the sources' order."""
    return not entry.old, entry.source, entry.task.id


def _take_scored(entries: list[Entry]) -> tuple[list[Entry], list[DroppedTask]]:
    """Return the scored entries without repetitions, and the repetitions of tasks that the old set already has.

    Raises:
        ValueError: if a task has no test input, or two sources score a task with the same ID.
    """
    by_id: dict[str, Entry] = {}
    repetitions = []
    conflicts = []
    for entry in sorted(entries, key=_order):
        if not entry.task.tests:
            raise UserError(f"{entry.source}: task {entry.task.id} has no test input to score", "train on it instead")
        first = by_id.setdefault(entry.task.id, entry)
        if first is not entry and first.old and pairs_of(first.task) == pairs_of(entry.task):
            repetitions.append(DroppedTask(entry.task.id, entry.source, "repeats", first.task.id))
        elif first is not entry:
            conflicts.append(entry.task.id)
    if conflicts:
        raise UserError(f"{_name_tasks(conflicts)} scored by more than one source", "score one source at a time")
    return list(by_id.values()), repetitions


def _name_tasks(task_ids: list[str]) -> str:
    """Name up to five of the tasks as the subject of a sentence, verb included."""
    names = ", ".join(task_ids[:5]) + (", ..." if len(task_ids) > 5 else "")
    return f"task {names} is" if len(task_ids) == 1 else f"{len(task_ids)} tasks ({names}) are"


def _drop_repeated(entries: list[Entry], duplicates: Duplicates) -> tuple[list[Entry], list[DroppedTask]]:
    """Return the train entries without duplicates, and the tasks dropped.

    Of entries with the same original ID and pairs only the first is kept. The same pairs under another ID are dropped
    only if `duplicates` is "drop". Old entries always stay.
    """
    by_pairs: dict[frozenset, list[Entry]] = defaultdict(list)
    dropped = []
    for entry in sorted(entries, key=_order):
        equals = by_pairs[pairs_of(entry.task)]
        same_id = [other for other in equals if original_id(other.task.id) == original_id(entry.task.id)]
        if not entry.old and (same_id or (equals and duplicates == "drop")):
            dropped.append(DroppedTask(entry.task.id, entry.source, "repeats", (same_id or equals)[0].task.id))
        else:
            equals.append(entry)
    return sorted(chain.from_iterable(by_pairs.values()), key=_order), dropped


def _make_ids_unique(entries: list[Entry]) -> list[Entry]:
    """Rename each entry whose ID an earlier entry has: the first free one of "ID~2", "ID~3" ..."""
    used_ids: set[str] = set()
    unique = []
    for entry in entries:
        copies = (name_copy(original_id(entry.task.id), number) for number in count(2))
        task_id = next(task_id for task_id in chain([entry.task.id], copies) if task_id not in used_ids)
        used_ids.add(task_id)
        unchanged = task_id == entry.task.id
        # An unchanged entry stays the same object, by which `_refuse_renamed` recognises it.
        unique.append(entry if unchanged else entry.rename(task_id))
    return unique


def _drop_leaking(train: list[Entry], leaks: list[Overlap]) -> tuple[list[Entry], list[DroppedTask]]:
    """Split the train entries into those without an overlap and the dropped tasks."""
    # Reversed, so that a train task with several overlaps is listed with the first scored task.
    scored_by_holder = {leak.holder: leak.task for leak in reversed(leaks)}
    dropped = [
        DroppedTask(original_id(entry.task.id), entry.source, "leaks", scored_by_holder[entry.task.id])
        for entry in train
        if entry.task.id in scored_by_holder
    ]
    return [entry for entry in train if entry.task.id not in scored_by_holder], dropped


def _leave_out_boards(entries: list[Entry]) -> tuple[list[Entry], list[DroppedTask]]:
    """Return the new entries without boards that equal a test board, and these boards; old entries stay as they are."""
    test_boards = find_test_boards(entry.task for entry in entries if entry.role == "scored")
    remaining = []
    dropped = []
    for entry in entries:
        if not test_boards or entry.old:
            remaining.append(entry)
            continue
        trains_on_tests = entry.role == "train"
        task, places = without_boards(entry.task, test_boards, trains_on_tests)
        whole, _ = without_boards(entry.whole, test_boards, trains_on_tests)
        remaining.append(replace(entry, task=task, whole=whole) if places else entry)
        name = original_id(entry.task.id)
        dropped += [DroppedTask(f"{name} pair {place}", entry.source, "boards", other) for place, other in places]
    return remaining, dropped


def _refuse_leaks(leaks: list[Overlap], entries: list[Entry]) -> None:
    """Raise LeakError for overlaps with train tasks, and for those of scored tasks from different sources."""
    by_id = {entry.task.id: entry for entry in entries}
    with_train = [leak for leak in leaks if by_id[leak.holder].role == "train"]
    if with_train:
        raise LeakError(
            f"{_describe_leaks(with_train, by_id)}: the score would be meaningless. Leave those train tasks out "
            f"(--on-leak drop), or train on them and have every score marked (--on-leak allow). {NOT_FOUND} Scored "
            f"task = train task: {_list_leaks(with_train)}"
        )
    others = [leak for leak in leaks if by_id[leak.task].source != by_id[leak.holder].source]
    if others:
        raise LeakError(
            f"{_describe_leaks(others, by_id)} to be scored too, whose demonstrations are trained on: score one "
            f"source at a time, or have every score marked (--on-leak allow). {NOT_FOUND} Scored task = trained task: "
            f"{_list_leaks(others)}"
        )


def _describe_leaks(leaks: list[Overlap], by_id: dict[str, Entry]) -> str:
    sources = sorted({by_id[leak.holder].source for leak in leaks})
    tasks = len({leak.task for leak in leaks})
    number = f"{tasks} {'task' if tasks == 1 else 'tasks'}"
    return f"{number} to be scored would also be training data, from {' and '.join(sources)}"


def _list_leaks(leaks: list[Overlap]) -> str:
    return ", ".join(str(leak._replace(holder=original_id(leak.holder))) for leak in leaks)


def _refuse_renamed(train: list[Entry], entries: Sequence[Entry]) -> None:
    """Raise ValueError for an old train task that was renamed because a scored task now has its ID.

    Puzzle keys contain the task ID, so a renamed task would lose its puzzle embeddings.
    """
    unchanged = set(map(id, entries))
    renamed_ids = [original_id(entry.task.id) for entry in train if entry.old and id(entry) not in unchanged]
    if renamed_ids:
        raise UserError(
            f"{_name_tasks(renamed_ids)} trained on in the set that is extended and now also to be scored, and one ID "
            "cannot name both: leave the train task out (--on-leak drop)"
        )
