"""Detect overlap between training data and other tasks, by task ID and by fingerprints of pairs.

Content is compared under any dihedral transform and any recolouring, black included. Scaled, cropped or framed copies
are not detected.

A pair has two *looks*, which are fingerprints of 12 hex digits: one of the input alone, and one of input and output
together. Both are equal for all 8 * 10! variants of the pair.

A task overlaps with a trained task if the trained task

- has the same ID (train tasks only, and not for lists of boards, whose ID names a kind and size of board), or
- has all pairs of the task, inputs alone for its tests (train tasks only), or
- has one of its test pairs, input and output, or
- has one of its test inputs and one of its demonstrations. This rule detects test pairs whose output is hidden.

Demonstrations of scored tasks are training data too. A test pair that the task itself has as a demonstration does not
count, except in a list of boards.
"""

from collections import defaultdict
from collections.abc import Container, Iterable, Mapping
from functools import cached_property, lru_cache
from hashlib import blake2b
from itertools import chain
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from augment.dihedral import DIHEDRALS, TRANSPOSES, source_cell
from augment.grid import COLOURS, Grid
from augment.kernels import kernel
from augment.logic_puzzles.recognition import holds_boards
from augment.task import Pair, Task, original_id

LOOK_BYTES = 6
"""Length of a fingerprint's digest, which is stored as twice as many hex digits."""
_NO_GRID = np.zeros((0, 0), dtype=np.uint8)


class Overlap(NamedTuple):
    """A task, and the trained task (`holder`) that overlaps with it, by content or else by ID only."""

    task: str
    holder: str
    by_content: bool

    def __str__(self) -> str:
        """Write the overlap for messages, for example "070dd51e = 40853293"."""
        return f"{self.task} = {self.holder}" + ("" if self.by_content else " (by ID only)")


class SeenTasks:
    """The fingerprints (looks) of all tasks that were trained on, by task ID.

    Attributes:
        looks: those of train tasks, which were trained on with their test outputs.
        demonstrations: those of scored tasks, of which only the demonstrations were trained on.
        complete: False if there was also training data that is not recorded here.
    """

    def __init__(
        self,
        looks: Mapping[str, Iterable[str]],
        complete: bool = True,
        demonstrations: Mapping[str, Iterable[str]] = MappingProxyType({}),
    ) -> None:
        self.looks = {task_id: tuple(sorted(looks[task_id])) for task_id in sorted(looks)}
        self.demonstrations = {name: tuple(sorted(demonstrations[name])) for name in sorted(demonstrations)}
        self.complete = complete

    @classmethod
    def remember(cls, tasks: Iterable[Task], scored: Iterable[Task] = ()) -> "SeenTasks":
        """Fingerprint train tasks with all pairs, and scored tasks with their demonstrations."""
        return cls(
            {task.id: _known_looks((*task.demonstrations, *task.tests)) for task in tasks},
            demonstrations={task.id: _known_looks(task.demonstrations) for task in scored},
        )

    def __len__(self) -> int:
        """Return the number of train tasks."""
        return len(self.looks)

    def __or__(self, other: "SeenTasks") -> "SeenTasks":
        """Return the union of both; an ID in both gets the looks of both."""
        return SeenTasks(
            _union(self.looks, other.looks),
            self.complete and other.complete,
            _union(self.demonstrations, other.demonstrations),
        )

    def find(self, task: Task) -> list[Overlap]:
        """Return the overlap of the task with each trained task, by the rules of this module, sorted by trained task.

        Known test outputs are compared too.
        """
        query = _Query(task)
        same_content = self._having_all(query) | self._having_tests(query)
        same_id = set() if query.holds_boards else self._by_id.get(original_id(task.id), set())
        return [Overlap(task.id, holder, holder in same_content) for holder in sorted(same_id | same_content)]

    def find_all(self, tasks: Iterable[Task]) -> list[Overlap]:
        """Return all overlaps of the tasks with trained tasks, sorted."""
        return sorted(overlap for task in tasks for overlap in self.find(task))

    def related_looks(self, tasks: Iterable[Task]) -> list[str]:
        """Return all looks of each trained task that has one of the tasks' test inputs, sorted.

        With these looks `has_trained_test` can tell, once the test outputs are known, whether a test pair was trained
        on. They contain no test output of a task that was not trained on.
        """
        holders = {
            holder for task in tasks for look in _Query(task).test_inputs for holder in self._by_look.get(look, ())
        }
        return sorted({look for holder in holders for looks in self._of(holder) for look in looks})

    def _of(self, task_id: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
        return self.looks.get(task_id, ()), self.demonstrations.get(task_id, ())

    def _having_all(self, query: "_Query") -> set[str]:
        """Return the train tasks that have all demonstrations and all test inputs of the task."""
        looks = query.demonstrations | query.all_test_inputs
        candidates = _holders(self._by_look, [min(looks)])
        return {holder for holder in candidates if looks <= set(self.looks.get(holder, ()))}

    def _having_tests(self, query: "_Query") -> set[str]:
        """Return the trained tasks that have a test pair of the task, or a test input and a demonstration."""
        same_pair = _holders(self._by_look, query.test_pairs)
        same_input = _holders(self._by_look, query.test_inputs)
        return same_pair | (same_input & _holders(self._by_look, query.demonstrations) if same_input else set())

    @cached_property
    def _by_id(self) -> dict[str, set[str]]:
        """Train task IDs by original ID: a task that was renamed to "ID~2" in a set is also found by "ID"."""
        index: dict[str, set[str]] = defaultdict(set)
        for task_id in self.looks:
            index[original_id(task_id)].add(task_id)
        return index

    @cached_property
    def _by_look(self) -> dict[str, tuple[str, ...]]:
        """IDs of train tasks, and of scored tasks that were trained on, by look."""
        index: dict[str, tuple[str, ...]] = {}
        for task_id, looks in chain(self.looks.items(), self.demonstrations.items()):
            for look in looks:
                index[look] = (*index.get(look, ()), task_id)
        return index

    def to_json(self) -> dict[str, Any]:
        """Convert to a JSON value. Files of version 0.1 have no "demonstrations"."""
        parts = {"tasks": self.looks, "demonstrations": self.demonstrations}
        lists = {name: {task_id: list(looks) for task_id, looks in part.items()} for name, part in parts.items()}
        return {"complete": self.complete, **lists}


def has_trained_test(task: Task, looks: Container[str]) -> bool:
    """Return whether one of the task's test pairs with a known output is among the looks of trained tasks."""
    return any(look in looks for look in _Query(task).test_pairs)


class _Query:
    """The looks of a task that is compared with trained tasks.

    Attributes:
        holds_boards: whether it is a list of boards.
        demonstrations: looks of its demonstrations, input and output.
        all_test_inputs: looks of its test inputs.
        test_inputs: the same, without inputs that are also inputs of its own demonstrations.
        test_pairs: looks of its test pairs with known outputs, without those that are also its demonstrations.
    """

    def __init__(self, task: Task) -> None:
        tests = task.tests
        self.holds_boards = holds_boards(task)
        self.demonstrations = {_look(pair.input, pair.output) for pair in task.demonstrations}
        self.all_test_inputs = set(map(input_look, tests))
        self.test_inputs = self.all_test_inputs
        self.test_pairs = {_look(pair.input, pair.output) for pair in tests if pair.output is not None}
        if not self.holds_boards:
            self.test_inputs = self.test_inputs - set(map(input_look, task.demonstrations))
            self.test_pairs = self.test_pairs - self.demonstrations


def _known_looks(pairs: Iterable[Pair]) -> set[str]:
    """Return the looks of each pair that is trained on: of the input alone, and of input and output.

    Pairs with a hidden output do not count, because they are not trained on.
    """
    known = [pair for pair in pairs if pair.output is not None]
    return {_look(pair.input, pair.output) for pair in known} | set(map(input_look, known))


def _union(first: Mapping[str, Iterable[str]], second: Mapping[str, Iterable[str]]) -> dict[str, set[str]]:
    return {name: {*first.get(name, ()), *second.get(name, ())} for name in first.keys() | second.keys()}


def _holders(index: Mapping[str, Iterable[str]], looks: Iterable[str]) -> set[str]:
    return {holder for look in looks for holder in index.get(look, ())}


def input_look(pair: Pair) -> str:
    """Return the look of the pair's input alone."""
    return _look(pair.input, None)


def _look(input_: Grid, output: Grid | None) -> str:
    """Hash the smallest of the pair's 8 canonical variants, which is the same for all variants of the pair."""
    grids = input_, _NO_GRID if output is None else output
    return _look_of(*((grid.shape, grid.tobytes()) for grid in grids))


# A scored task's demonstrations are looked up as training data and as a task to compare.
@lru_cache(maxsize=2**14)
def _look_of(*grids: tuple[tuple[int, int], bytes]) -> str:
    """Return the look of the grids with these shapes and cells."""
    variants = _plain_variants(*(np.frombuffer(cells, np.uint8).reshape(shape) for shape, cells in grids))
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
