"""Detect overlap between training tasks and other tasks, by task ID and by fingerprints of their pairs.

A task is recognised by its ID or by its content. Content means its pairs in any order, each under any dihedral
transform and any recolouring, black included.

A pair has two *looks*, which are fingerprints of 12 hex digits: one of the input alone, and one of input and output
together. Both are equal for all 8 * 10! variants of the pair. A pair with a hidden output is compared by its input
alone, so that overlap of hidden tasks is detected too.

A training task *contains* another task if it has the same ID or all looks of the other task; it may have more pairs.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from functools import cached_property
from hashlib import blake2b
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from augment.dihedral import DIHEDRALS, TRANSPOSES, source_cell
from augment.grid import COLOURS, Grid
from augment.kernels import kernel
from augment.task import Pair, Task, original_id

LOOK_BYTES = 6
"""Length of a fingerprint's digest, which is stored as twice as many hex digits."""
_NO_GRID = np.zeros((0, 0), dtype=np.uint8)


class Overlap(NamedTuple):
    """A task, and the training task (`holder`) that contains it, by content or else by ID only."""

    task: str
    holder: str
    by_content: bool

    def __str__(self) -> str:
        """Write the overlap for messages, for example "070dd51e = 40853293"."""
        return f"{self.task} = {self.holder}" + ("" if self.by_content else " (by ID only)")


class SeenTasks:
    """The fingerprints (looks) of the tasks that were trained on with their test outputs, by task ID.

    `complete` is False if there was also training data that is not recorded here.
    """

    def __init__(self, looks: Mapping[str, Iterable[str]], complete: bool = True) -> None:
        self.looks = {task_id: tuple(sorted(looks[task_id])) for task_id in sorted(looks)}
        self.complete = complete

    @classmethod
    def remember(cls, tasks: Iterable[Task]) -> "SeenTasks":
        """Fingerprint these tasks as training tasks."""
        return cls({task.id: _training_looks(task) for task in tasks})

    def __len__(self) -> int:
        """Return the number of training tasks."""
        return len(self.looks)

    def __or__(self, other: "SeenTasks") -> "SeenTasks":
        """Return the union of both; an ID in both gets the looks of both."""
        merged = {
            task_id: {*self.looks.get(task_id, ()), *other.looks.get(task_id, ())}
            for task_id in self.looks.keys() | other.looks.keys()
        }
        return SeenTasks(merged, self.complete and other.complete)

    def find(self, task: Task) -> list[Overlap]:
        """Return the overlap of the task with each training task that contains it, sorted by training task."""
        same_content = set.intersection(*(self._by_look.get(look, set()) for look in _query_looks(task)))
        same_id = self._by_id.get(original_id(task.id), set())
        return [Overlap(task.id, holder, holder in same_content) for holder in sorted(same_id | same_content)]

    def find_all(self, tasks: Iterable[Task]) -> list[Overlap]:
        """Return all overlaps of the tasks with training tasks that contain them, sorted."""
        return sorted(overlap for task in tasks for overlap in self.find(task))

    @cached_property
    def _by_id(self) -> dict[str, set[str]]:
        """Training task IDs by original ID: a task that was renamed to "ID~2" in a set is also found by "ID"."""
        index: dict[str, set[str]] = defaultdict(set)
        for task_id in self.looks:
            index[original_id(task_id)].add(task_id)
        return index

    @cached_property
    def _by_look(self) -> dict[str, set[str]]:
        """Training task IDs by look."""
        index: dict[str, set[str]] = defaultdict(set)
        for task_id, looks in self.looks.items():
            for look in looks:
                index[look].add(task_id)
        return index

    def to_json(self) -> dict[str, Any]:
        """Convert to a JSON value."""
        return {"complete": self.complete, "tasks": {task_id: list(looks) for task_id, looks in self.looks.items()}}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "SeenTasks":
        """Undo `to_json`."""
        return cls(value["tasks"], value["complete"])


def _training_looks(task: Task) -> set[str]:
    """Return the looks of a training task: of each input alone, and of each input with its output.

    Pairs with a hidden output do not count, because they are not trained on.
    """
    pairs = [pair for pair in (*task.demonstrations, *task.tests) if pair.output is not None]
    return {_look(pair.input, pair.output) for pair in pairs} | {_look(pair.input, None) for pair in pairs}


def _query_looks(task: Task) -> set[str]:
    """Return the looks that a training task must have to contain this task: one per pair."""
    return {_look(pair.input, pair.output) for pair in (*task.demonstrations, *task.tests)}


def _look(input_: Grid, output: Grid | None) -> str:
    """Hash the smallest of the pair's 8 canonical variants, which is the same for all variants of the pair."""
    variants = _plain_variants(input_, _NO_GRID if output is None else output)
    return blake2b(min(variant.tobytes() for variant in variants), digest_size=LOOK_BYTES).hexdigest()


@kernel()
def _plain_variants(input_: Grid, output: Grid) -> NDArray[np.uint8]:
    """Write the pair once per dihedral transform, with colours numbered in order of first occurrence.

    Returns:
        (8, 4 + cells): height and width of both grids, then the cells of both. A missing output has the shape (0, 0).
    """
    variants = np.empty((DIHEDRALS, 4 + input_.size + output.size), dtype=np.uint8)
    for dihedral in range(DIHEDRALS):
        numbers = np.full(COLOURS, COLOURS, dtype=np.uint8)
        colour_count = 0
        place = 4
        for part, grid in enumerate((input_, output)):
            height, width = grid.shape
            shape = (width, height) if TRANSPOSES[dihedral] else (height, width)
            variants[dihedral, 2 * part], variants[dihedral, 2 * part + 1] = shape
            for row in range(shape[0]):
                for column in range(shape[1]):
                    colour = grid[source_cell(dihedral, row, column, height, width)]
                    if numbers[colour] == COLOURS:
                        numbers[colour] = colour_count
                        colour_count += 1
                    variants[dihedral, place] = numbers[colour]
                    place += 1
    return variants


def pairs_of(task: Task) -> frozenset[tuple[bytes, ...]]:
    """Return the task's exact pairs as an unordered set, which is equal for two tasks with the same pairs."""
    return frozenset(_exact(pair) for pair in (*task.demonstrations, *task.tests))


def _exact(pair: Pair) -> tuple[bytes, ...]:
    return tuple(bytes(grid.shape) + grid.tobytes() for grid in pair.grids())
