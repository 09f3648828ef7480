"""Which tasks have been trained on: tasks come in and are remembered, and other tasks are recognised by them.

A task is recognised by its ID or by its content: its pairs in any order, each under any dihedral transform and any
recolouring, black included. A pair is remembered by its *looks*: 12 hex digits for the input alone and 12 for input
and output together, equal for all 8 * 10! variants. A hidden output is compared by its input alone, so that hidden
tasks are guarded too. A remembered task *holds* another where it has its ID or all of its looks, its own further pairs
notwithstanding.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from functools import cached_property
from hashlib import blake2b
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from augment.dihedral import DIHEDRALS, TRANSPOSES, source_cell
from augment.grid import COLOURS, Grid
from augment.task import Pair, Task, original_id

LOOK_BYTES = 6
_TRANSPOSES = np.array(TRANSPOSES)
_NO_GRID = np.zeros((0, 0), dtype=np.uint8)


class Overlap(NamedTuple):
    """A task and the remembered one that holds it: by content, or else by ID only."""

    task: str
    holder: str
    by_content: bool

    def __str__(self) -> str:
        return f"{self.task} = {self.holder}" + ("" if self.by_content else " (by ID only)")


class SeenTasks:
    """Tasks that were trained on with their test outputs, by ID, each with the looks of its pairs.

    `complete` is False where something else was trained on too and nobody wrote down what.
    """

    def __init__(self, looks: Mapping[str, Iterable[str]], complete: bool = True) -> None:
        self.looks = {task_id: tuple(sorted(looks[task_id])) for task_id in sorted(looks)}
        self.complete = complete

    @classmethod
    def remember(cls, tasks: Iterable[Task]) -> "SeenTasks":
        """These tasks, under their own IDs."""
        return cls({task.id: _looks_given(task) for task in tasks})

    def __len__(self) -> int:
        return len(self.looks)

    def __or__(self, other: "SeenTasks") -> "SeenTasks":
        """What either remembers; of an ID in both, the looks of both."""
        merged = {
            task_id: {*self.looks.get(task_id, ()), *other.looks.get(task_id, ())}
            for task_id in self.looks.keys() | other.looks.keys()
        }
        return SeenTasks(merged, self.complete and other.complete)

    def find(self, task: Task) -> list[Overlap]:
        """The task with each remembered task that holds it, sorted."""
        content = set.intersection(*(self._by_look.get(look, set()) for look in _looks_asked(task)))
        same_id = self._by_id.get(original_id(task.id), set())
        return [Overlap(task.id, found, found in content) for found in sorted(same_id | content)]

    def find_all(self, tasks: Iterable[Task]) -> list[Overlap]:
        """Every task with each remembered task that holds it, sorted."""
        return sorted(held for task in tasks for held in self.find(task))

    @cached_property
    def _by_id(self) -> dict[str, set[str]]:
        index: dict[str, set[str]] = defaultdict(set)
        for task_id in self.looks:
            index[original_id(task_id)].add(task_id)
        return index

    @cached_property
    def _by_look(self) -> dict[str, set[str]]:
        index: dict[str, set[str]] = defaultdict(set)
        for task_id, looks in self.looks.items():
            for look in looks:
                index[look].add(task_id)
        return index

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"complete": self.complete, "tasks": {task_id: list(looks) for task_id, looks in self.looks.items()}}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "SeenTasks":
        """Undo `to_json`."""
        return cls(value["tasks"], value["complete"])


def _looks_given(task: Task) -> set[str]:
    """What a task trained on gives away: each input, and each input with its output."""
    pairs = [pair for pair in (*task.demonstrations, *task.tests) if pair.output is not None]
    return {_look(pair.input, pair.output) for pair in pairs} | {_look(pair.input, None) for pair in pairs}


def _looks_asked(task: Task) -> set[str]:
    """What a task must be found by: its pairs, hidden outputs as hidden."""
    return {_look(pair.input, pair.output) for pair in (*task.demonstrations, *task.tests)}


def _look(input_: Grid, output: Grid | None) -> str:
    variants = _plain_variants(input_, _NO_GRID if output is None else output)
    return blake2b(min(variant.tobytes() for variant in variants), digest_size=LOOK_BYTES).hexdigest()


@njit(cache=True)
def _plain_variants(input_: Grid, output: Grid) -> NDArray[np.uint8]:
    """(8, 4 + cells): for each dihedral both shapes, then the cells with colours numbered as they first appear."""
    variants = np.empty((DIHEDRALS, 4 + input_.size + output.size), dtype=np.uint8)
    for dihedral in range(DIHEDRALS):
        numbers = np.full(COLOURS, COLOURS, dtype=np.uint8)
        used = 0
        place = 4
        for part, grid in enumerate((input_, output)):
            height, width = grid.shape
            shape = (width, height) if _TRANSPOSES[dihedral] else (height, width)
            variants[dihedral, 2 * part], variants[dihedral, 2 * part + 1] = shape
            for row in range(shape[0]):
                for column in range(shape[1]):
                    colour = grid[source_cell(dihedral, row, column, height, width)]
                    if numbers[colour] == COLOURS:
                        numbers[colour] = used
                        used += 1
                    variants[dihedral, place] = numbers[colour]
                    place += 1
    return variants


def pairs_of(task: Task) -> frozenset[tuple[bytes, ...]]:
    """The task's pairs as they are, whatever their order: equal for tasks with equal content."""
    return frozenset(_exact(pair) for pair in (*task.demonstrations, *task.tests))


def _exact(pair: Pair) -> tuple[bytes, ...]:
    return tuple(bytes(grid.shape) + grid.tobytes() for grid in pair.grids())
