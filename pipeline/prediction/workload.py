"""What is asked of a model: test inputs under augmentations, in parts that are the same for any number of processes.

In: the examples of a puzzle set, and which of its puzzles and pairs. Out: `Queries` rows, part by part, the largest
canvases first and one padded width in each.
"""

from collections.abc import Set
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from augment import PuzzleSet
from pipeline.config.run_config import PredictSettings, RunConfig
from solver.data.batches import PuzzleDataset
from solver.data.choices import Palette
from solver.data.puzzle_ids import Ids
from solver.model.config import Canvas

MOST_ROWS = 1024
FEWEST_ROWS = 32
MOST_PARTS = 64
"""Rows of a part: at most MOST_ROWS, so that a kill costs little; fewer in small runs, of which MOST_PARTS parts are
made so that several processes have something to do, but at least FEWEST_ROWS."""

Rows = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Queries:
    """Rows to answer (n,), each a pair of a puzzle, along one trajectory of several; board: on the whole board."""

    puzzles: Rows
    pairs: Rows
    trajectories: Rows
    board: bool

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.puzzles)

    def take(self, rows: slice | Rows) -> "Queries":
        """Some of the rows."""
        return replace(self, puzzles=self.puzzles[rows], pairs=self.pairs[rows], trajectories=self.trajectories[rows])


class Workload:
    """The test inputs of a puzzle set's scored tasks under its first `augmentations` puzzles besides the original.

    Every test input is asked exactly once under each of them and along each of the trajectories. `ids` and `palette`
    are those of the config (`solver.data.batches.PuzzleDataset`).
    """

    def __init__(
        self,
        puzzle_set: PuzzleSet,
        canvas: Canvas,
        augmentations: int | None = None,
        trajectories: int = 1,
        ids: Ids = "augmentation",
        palette: Palette = "task",
    ):
        self.puzzle_set = puzzle_set
        self.trajectories = trajectories
        self._ids: Ids = ids
        self._palette: Palette = palette
        self.examples = self._examples(canvas)
        self.puzzles, self.pairs = self.examples.test_inputs(None if augmentations is None else augmentations + 1)
        scored = [place for place, role in enumerate(puzzle_set.roles) if role == "scored"]
        self.tasks = tuple(puzzle_set.tasks[place].id for place in scored)
        self._places = np.full(len(puzzle_set.tasks), -1)
        self._places[scored] = np.arange(len(scored))

    @cached_property
    def whole_boards(self) -> PuzzleDataset:
        """The same examples on the whole board."""
        return self.examples if self.examples.canvas == "full" else self._examples("full")

    def _examples(self, canvas: Canvas) -> PuzzleDataset:
        return PuzzleDataset(self.puzzle_set, canvas, ids=self._ids, palette=self._palette)

    def examples_of(self, asked: Queries) -> PuzzleDataset:
        """What renders these rows."""
        return self.whole_boards if asked.board else self.examples

    def inputs_of(self, puzzles: Rows, pairs: Rows) -> tuple[Rows, Rows]:
        """(place among the scored tasks, test input) of each row."""
        tasks = self.examples.tasks[puzzles]
        return self._places[tasks], pairs - (self.examples.trained + self.examples.held)[tasks]

    @cached_property
    def inputs(self) -> list[tuple[int, int]]:
        """(place of the task, test input) of every row."""
        return list(zip(*(column.tolist() for column in self.inputs_of(self.puzzles, self.pairs)), strict=True))

    def ask_all(self) -> list[Queries]:
        """All of them on their canvases, in parts."""
        return self._cut(np.arange(len(self.puzzles)), board=False)

    def ask_for(self, inputs: Set[tuple[int, int]], board: bool) -> list[Queries]:
        """Some of the test inputs (place of the task, test input), on their canvas or on the whole board, in parts."""
        return self._cut(np.flatnonzero([each in inputs for each in self.inputs]), board)

    def ask_by_task(self) -> list[Queries]:
        """All of them on their canvases, one part for each task."""
        every = self._rows(np.arange(len(self.puzzles)), board=False)
        return _split(every, self.examples.tasks[every.puzzles])

    def may_be_cut_off(self) -> bool:
        """Whether some canvas is smaller than the board."""
        sizes = self.examples.canvas_sizes(self.puzzles)
        return bool((sizes < self.puzzle_set.board_side).any())

    def _cut(self, chosen: Rows, board: bool) -> list[Queries]:
        """The rows, largest canvas first and of equal ones in the order of the set: a task's rows stay together."""
        examples = self.whole_boards if board else self.examples
        cells = examples.canvas_sizes(self.puzzles[chosen]).prod(axis=1)
        every = self._rows(chosen[np.argsort(-cells, kind="stable")], board)
        most = min(MOST_ROWS, max(FEWEST_ROWS, len(every) // MOST_PARTS))
        return [
            same.take(slice(start, start + most))
            for same in _split(every, examples.widths(every.puzzles))
            for start in range(0, len(same), most)
        ]

    def _rows(self, chosen: Rows, board: bool) -> Queries:
        """The rows in this order, along each of the trajectories."""
        each = chosen.repeat(self.trajectories)
        trajectories = np.tile(np.arange(self.trajectories), len(chosen))
        return Queries(self.puzzles[each], self.pairs[each], trajectories, board)


def make_questions(config: RunConfig, puzzle_set: PuzzleSet, settings: PredictSettings) -> Workload:
    """What a model of this config is asked."""
    asked = (settings.augmentations, settings.trajectories)
    model = config.model
    return Workload(puzzle_set, model.canvas, *asked, ids=config.puzzles.ids, palette=model.palette)


def _split(asked: Queries, values: Rows) -> list[Queries]:
    """The rows, cut wherever the value (one for each row) is another one."""
    borders = [0, *(np.flatnonzero(np.diff(values)) + 1), len(asked)]
    return [asked.take(slice(start, end)) for start, end in pairwise(borders)]
