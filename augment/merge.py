"""Entries in, one list of them out: what is given twice, what would be leaked, and what each task is called.

Scored tasks, whose test outputs are hidden, keep their IDs. Train tasks come after them, by source name and ID: the
same task given twice is taken once, another task with an ID that is taken becomes "ID~2", and a train task that holds
a scored one (`augment.contamination`) is met as `on_leak` says.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import chain, count
from typing import Literal, NamedTuple, get_args

from augment.contamination import Overlap, SeenTasks, pairs_of
from augment.task import Task, name_copy, original_id

Role = Literal["scored", "train"]
OnLeak = Literal["stop", "drop", "allow"]
Duplicates = Literal["keep", "drop"]


class LeakError(ValueError):
    """Tasks to be scored are among those trained on; the message lists each pair of tasks."""


@dataclass(frozen=True)
class SourcedTasks:
    """Tasks of one source and what they are for.

    Of "scored" tasks the demonstrations are trained on and the test inputs predicted; of "train" tasks every
    pair is trained on.
    """

    source: str
    role: Role
    tasks: list[Task]

    def __post_init__(self) -> None:
        if self.role not in get_args(Role):
            raise ValueError(f"role of {self.source} is {self.role!r}; it must be one of {get_args(Role)}")


@dataclass(frozen=True)
class Entry:
    """A task of the set to be, its source and what it is for; a scored one with its test outputs hidden.

    `whole`: the task with all pairs that its source has, where only some were drawn. `old`: whether it is in the set
    that is extended.
    """

    source: str
    role: Role
    task: Task
    whole: Task
    old: bool = False

    def rename(self, task_id: str) -> "Entry":
        """The same under another ID."""
        task, whole = (replace(task, id=task_id) for task in (self.task, self.whole))
        return replace(self, task=task, whole=whole)


class DroppedTask(NamedTuple):
    """A task that was left out, by its ID in its source: it has the pairs of another, or it holds a scored one."""

    task: str
    source: str
    reason: Literal["repeats", "leaks"]
    other: str


@dataclass(frozen=True)
class MergedSources:
    """The tasks to build from, sorted by ID; what was left out; and what is leaked, that being allowed."""

    entries: list[Entry]
    dropped: tuple[DroppedTask, ...]
    leaks: tuple[Overlap, ...]


def merge(
    entries: Sequence[Entry], on_leak: OnLeak = "stop", duplicates: Duplicates = "keep", allowed: Sequence[Overlap] = ()
) -> MergedSources:
    """One entry per task, each under an ID of its own. `allowed`: leaks among the old entries, allowed before.

    Raises:
        LeakError: where a train task holds a scored one and `on_leak` is "stop".
        ValueError: where a task is scored twice or has no test input, or an old task would need another ID.
    """
    _check_choice("on_leak", on_leak, get_args(OnLeak))
    _check_choice("duplicates", duplicates, get_args(Duplicates))
    scored, repeated = _take_scored([entry for entry in entries if entry.role == "scored"])
    train, dropped = _drop_repeated([entry for entry in entries if entry.role == "train"], duplicates)
    named = _name_apart([*scored, *train])
    scored, train = named[: len(scored)], named[len(scored) :]
    leaks = [leak for leak in find_leaks(scored, train) if leak not in allowed]
    if leaks and on_leak == "stop":
        raise LeakError(_describe_leaks(leaks, train))
    if on_leak == "drop":
        train, leaking = _drop_leaking(train, leaks)
        dropped = [*dropped, *leaking]
        leaks = []
    _refuse_renamed(train, entries)
    kept = sorted([*scored, *train], key=lambda entry: entry.task.id)
    left = {entry.task.id for entry in kept}
    marked = [leak for leak in {*allowed, *leaks} if leak.holder in left]
    return MergedSources(kept, tuple(sorted([*repeated, *dropped])), tuple(sorted(marked)))


def find_leaks(scored: Iterable[Entry], train: Iterable[Entry]) -> list[Overlap]:
    """Each scored task with each train task that holds it, be it by a pair that was not drawn."""
    tasks = [entry.task for entry in scored]
    return SeenTasks.remember(entry.whole for entry in train).find_all(tasks) if tasks else []


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{name} is {value!r}; it must be one of {', '.join(choices)}")


def _order(entry: Entry) -> tuple[bool, str, str]:
    """Old entries first, then by source and ID: the order of the sources given does not matter."""
    return not entry.old, entry.source, entry.task.id


def _take_scored(entries: list[Entry]) -> tuple[list[Entry], list[DroppedTask]]:
    """The scored entries, and those that the old set has already; anything else scored twice is refused."""
    kept: dict[str, Entry] = {}
    repeated = []
    twice = []
    for entry in sorted(entries, key=_order):
        if not entry.task.tests:
            raise ValueError(f"{entry.source}: task {entry.task.id} has no test input to score; train on it instead")
        first = kept.setdefault(entry.task.id, entry)
        if first is not entry and first.old and pairs_of(first.task) == pairs_of(entry.task):
            repeated.append(DroppedTask(entry.task.id, entry.source, "repeats", first.task.id))
        elif first is not entry:
            twice.append(entry.task.id)
    if twice:
        raise ValueError(f"{_name(twice)} scored by more than one source; score one source at a time")
    return list(kept.values()), repeated


def _name(task_ids: list[str]) -> str:
    shown = ", ".join(task_ids[:5]) + (", ..." if len(task_ids) > 5 else "")
    return f"task {shown} is" if len(task_ids) == 1 else f"{len(task_ids)} tasks ({shown}) are"


def _drop_repeated(entries: list[Entry], duplicates: Duplicates) -> tuple[list[Entry], list[DroppedTask]]:
    """The same task (ID and pairs) is taken once, the first; the same pairs under another ID if they are to be kept."""
    kept: dict[frozenset, list[Entry]] = defaultdict(list)
    dropped = []
    for entry in sorted(entries, key=_order):
        alike = kept[pairs_of(entry.task)]
        same = [other for other in alike if original_id(other.task.id) == original_id(entry.task.id)]
        if not entry.old and (same or (alike and duplicates == "drop")):
            dropped.append(DroppedTask(entry.task.id, entry.source, "repeats", (same or alike)[0].task.id))
        else:
            alike.append(entry)
    return sorted((entry for alike in kept.values() for entry in alike), key=_order), dropped


def _name_apart(entries: list[Entry]) -> list[Entry]:
    """Every entry under an ID that no earlier one has."""
    taken: set[str] = set()
    named = []
    for entry in entries:
        copies = (name_copy(original_id(entry.task.id), number) for number in count(2))
        task_id = next(task_id for task_id in chain([entry.task.id], copies) if task_id not in taken)
        taken.add(task_id)
        unchanged = task_id == entry.task.id
        named.append(entry if unchanged else entry.rename(task_id))
    return named


def _drop_leaking(train: list[Entry], leaks: list[Overlap]) -> tuple[list[Entry], list[DroppedTask]]:
    held = {leak.holder: leak.task for leak in reversed(leaks)}
    dropped = [
        DroppedTask(original_id(entry.task.id), entry.source, "leaks", held[entry.task.id])
        for entry in train
        if entry.task.id in held
    ]
    return [entry for entry in train if entry.task.id not in held], dropped


def _describe_leaks(leaks: list[Overlap], train: list[Entry]) -> str:
    holders = {leak.holder for leak in leaks}
    sources = sorted({entry.source for entry in train if entry.task.id in holders})
    listed = ", ".join(str(leak._replace(holder=original_id(leak.holder))) for leak in leaks)
    tasks = len({leak.task for leak in leaks})
    return (
        f"{tasks} {'task' if tasks == 1 else 'tasks'} to be scored would be trained on too, from "
        f"{' and '.join(sources)}: the score would mean nothing. Leave those train tasks out (--on-leak drop), or "
        f"train on them knowingly and have every score marked (--on-leak allow). Scored = trained on: {listed}"
    )


def _refuse_renamed(train: list[Entry], given: Sequence[Entry]) -> None:
    """An old train task whose ID is now that of a scored one cannot keep its rows."""
    unchanged = set(map(id, given))
    renamed = [original_id(entry.task.id) for entry in train if entry.old and id(entry) not in unchanged]
    if renamed:
        raise ValueError(
            f"{_name(renamed)} trained on in the set that is extended and now scored too, and one ID cannot name "
            "both: leave the train task out (--on-leak drop)"
        )
