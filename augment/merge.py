"""Merge the tasks of all sources: remove duplicates, handle train/test overlap, and make task IDs unique.

Scored tasks have hidden test outputs and keep their IDs. Train tasks follow, ordered by source name and ID:

- The same task from two sources is taken once.
- A different task whose ID is already used is renamed to "ID~2".
- `on_leak` decides about a train task that contains a scored task (`augment.contamination`): stop, drop or allow.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import chain, count
from typing import Literal, NamedTuple, get_args

from augment.contamination import Overlap, SeenTasks, pairs_of
from augment.errors import UserError
from augment.sources.reading import LeftOut
from augment.task import Task, name_copy, original_id

Role = Literal["scored", "train"]
OnLeak = Literal["stop", "drop", "allow"]
Duplicates = Literal["keep", "drop"]


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


@dataclass(frozen=True)
class Entry:
    """A task to be merged, with its source and role. The test outputs of scored tasks are hidden.

    Attributes:
        whole: the task with all pairs of its source; `task` may have only a sample of them.
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
    """A task that was left out because it repeats another task's pairs or contains a scored task ("leaks").

    `task` is its ID in its source; `other` is the ID of the task that it repeats or contains.
    """

    task: str
    source: str
    reason: Literal["repeats", "leaks"]
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
        on_leak: what to do if a train task contains a scored task: raise an error, drop the train task, or keep it
            and list the overlap in the result.
        duplicates: whether to keep a train task that repeats the pairs of a train task with another ID.
        allowed: overlaps among the old entries that were allowed when the old set was built.

    Raises:
        LeakError: if a train task contains a scored task and `on_leak` is "stop".
        ValueError: if a task is scored twice or has no test input, or an old task would need another ID.
    """
    _check_choice("on_leak", on_leak, get_args(OnLeak))
    _check_choice("duplicates", duplicates, get_args(Duplicates))
    scored, repetitions = _take_scored([entry for entry in entries if entry.role == "scored"])
    train, dropped = _drop_repeated([entry for entry in entries if entry.role == "train"], duplicates)
    # Scored tasks come first, so that they keep their IDs and a train task with the same ID is renamed.
    unique = _make_ids_unique([*scored, *train])
    train = unique[len(scored) :]
    scored = unique[: len(scored)]
    leaks = [leak for leak in find_leaks(scored, train) if leak not in allowed]
    if leaks and on_leak == "stop":
        raise LeakError(_describe_leaks(leaks, train))
    if on_leak == "drop":
        train, leaking_tasks = _drop_leaking(train, leaks)
        dropped = [*dropped, *leaking_tasks]
        leaks = []
    _refuse_renamed(train, entries)
    merged = sorted([*scored, *train], key=lambda entry: entry.task.id)
    task_ids = {entry.task.id for entry in merged}
    # An overlap that was allowed before no longer exists if its train task was dropped now.
    remaining_leaks = [leak for leak in {*allowed, *leaks} if leak.holder in task_ids]
    return MergedSources(merged, tuple(sorted([*repetitions, *dropped])), tuple(sorted(remaining_leaks)))


def find_leaks(scored: Iterable[Entry], train: Iterable[Entry]) -> list[Overlap]:
    """Return each overlap of a scored task with a train task that contains it.

    All pairs of the train task's source count, also those that were not drawn for training.
    """
    tasks = [entry.task for entry in scored]
    return SeenTasks.remember(entry.whole for entry in train).find_all(tasks) if tasks else []


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


def _describe_leaks(leaks: list[Overlap], train: list[Entry]) -> str:
    holders = {leak.holder for leak in leaks}
    sources = sorted({entry.source for entry in train if entry.task.id in holders})
    overlaps = ", ".join(str(leak._replace(holder=original_id(leak.holder))) for leak in leaks)
    tasks = len({leak.task for leak in leaks})
    return (
        f"{tasks} {'task' if tasks == 1 else 'tasks'} to be scored would also be training data, from "
        f"{' and '.join(sources)}: the score would be meaningless. Leave those train tasks out (--on-leak drop), or "
        f"train on them and have every score marked (--on-leak allow). Scored task = train task: {overlaps}"
    )


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
