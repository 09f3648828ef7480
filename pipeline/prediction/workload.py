"""Enumerates what a model has to predict: the test inputs of a puzzle set under its augmentations, in parts.

The result is a list of `Queries`, one for each part. Larger canvases come first, and all rows of a part have the same
padded width. The parts are the same for any number of processes.
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
"""A part has at most MOST_ROWS rows, so that little work is lost if the process is killed. Small runs are cut into
about MOST_PARTS parts, so that several processes can share the work, but not into parts below FEWEST_ROWS rows."""

Rows = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Queries:
    """Rows to predict, (n,) each: a pair of a puzzle along one trajectory.

    Attributes:
        puzzles: the puzzle of each row, by its number in the puzzle set.
        pairs: the pair of each row, as `PuzzleDataset` numbers the pairs of a task.
        trajectories: the trajectory of each row, from 0.
        board: whether to predict on the whole board, not on the task's canvas.
    """

    puzzles: Rows
    pairs: Rows
    trajectories: Rows
    board: bool

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.puzzles)

    def take(self, rows: slice | Rows) -> "Queries":
        """Return some of the rows."""
        return replace(self, puzzles=self.puzzles[rows], pairs=self.pairs[rows], trajectories=self.trajectories[rows])


class Workload:
    """The test inputs of a puzzle set's scored tasks, each with the augmentations to predict it under.

    Every test input occurs exactly once for each augmentation and trajectory.

    Args:
        puzzle_set: the puzzles.
        canvas: the canvas that examples are rendered on.
        augmentations: how many puzzles of each task are used besides the original; None for all.
        trajectories: how many trajectories are predicted for each of them.
        ids, palette: as in the config (`solver.data.batches.PuzzleDataset`).
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
    def board_symmetries(self) -> PuzzleDataset:
        """The same examples, rendered on the whole board."""
        return self.examples if self.examples.canvas == "full" else self._examples("full")

    def _examples(self, canvas: Canvas) -> PuzzleDataset:
        return PuzzleDataset(self.puzzle_set, canvas, ids=self._ids, palette=self._palette)

    def examples_of(self, asked: Queries) -> PuzzleDataset:
        """Return the data set that renders these rows."""
        return self.board_symmetries if asked.board else self.examples

    def inputs_of(self, puzzles: Rows, pairs: Rows) -> tuple[Rows, Rows]:
        """Return (position among the scored tasks, number of the test input) of each row, (n,) each."""
        tasks = self.examples.tasks[puzzles]
        return self._places[tasks], pairs - (self.examples.trained + self.examples.held)[tasks]

    @cached_property
    def inputs(self) -> list[tuple[int, int]]:
        """(position among the scored tasks, number of the test input) of every row."""
        return list(zip(*(column.tolist() for column in self.inputs_of(self.puzzles, self.pairs)), strict=True))

    def ask_all(self) -> list[Queries]:
        """Return the queries for all test inputs on their tasks' canvases, in parts."""
        return self._cut(np.arange(len(self.puzzles)), board=False)

    def ask_for(self, inputs: Set[tuple[int, int]], board: bool) -> list[Queries]:
        """Return the queries for some of the test inputs, in parts.

        Args:
            inputs: (position among the scored tasks, number of the test input).
            board: whether they are predicted on the whole board, not on the task's canvas.
        """
        return self._cut(np.flatnonzero([test_input in inputs for test_input in self.inputs]), board)

    def ask_by_task(self) -> list[Queries]:
        """Return the queries for all test inputs on their tasks' canvases, one part for each task."""
        queries = self._rows(np.arange(len(self.puzzles)), board=False)
        return _split(queries, self.examples.tasks[queries.puzzles])

    def may_be_cut_off(self) -> bool:
        """Return whether some canvas is smaller than the board, so that an output could be larger than it."""
        sizes = self.examples.canvas_sizes(self.puzzles)
        return bool((sizes < self.puzzle_set.board_side).any())

    def _cut(self, rows: Rows, board: bool) -> list[Queries]:
        """Cut the queries for these rows into parts of one width, largest canvas first."""
        examples = self.board_symmetries if board else self.examples
        cells = examples.canvas_sizes(self.puzzles[rows]).prod(axis=1)
        # A stable sort keeps the order of the set among equal canvases, so that a task's rows stay together.
        queries = self._rows(rows[np.argsort(-cells, kind="stable")], board)
        most = min(MOST_ROWS, max(FEWEST_ROWS, len(queries) // MOST_PARTS))
        return [
            group.take(slice(start, start + most))
            for group in _split(queries, examples.widths(queries.puzzles))
            for start in range(0, len(group), most)
        ]

    def _rows(self, rows: Rows, board: bool) -> Queries:
        """Return the queries for these rows in this order, each along all trajectories."""
        repeated = rows.repeat(self.trajectories)
        trajectories = np.tile(np.arange(self.trajectories), len(rows))
        return Queries(self.puzzles[repeated], self.pairs[repeated], trajectories, board)


def make_questions(config: RunConfig, puzzle_set: PuzzleSet, settings: PredictSettings) -> Workload:
    """Return the workload of a model with this config."""
    counts = (settings.augmentations, settings.trajectories)
    model = config.model
    return Workload(puzzle_set, model.canvas, *counts, ids=config.puzzles.ids, palette=model.palette)


def _split(queries: Queries, values: Rows) -> list[Queries]:
    """Cut the rows wherever the value (one for each row) differs from that of the row before."""
    borders = [0, *(np.flatnonzero(np.diff(values)) + 1), len(queries)]
    return [queries.take(slice(start, end)) for start, end in pairwise(borders)]
