"""The model's predictions as columns: grids in the task's original frame, with the model's confidence in each.

"Original frame" means that the augmentation under which a grid was predicted has been undone.
Shape symbols: R prediction rows, N rescoring rows.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from augment.augmentation import Augmentation
from augment.grid import Grid
from submissions.grid_table import Grids, collect_grids, join_grids
from submissions.recursion_trace import Recursion
from submissions.training_record import TrainingRecord

NO_GRID = -1
"""The grid number of an empty or malformed prediction."""

# Column types. Both dictionaries list the fields of their row class in order, and are the Parquet columns too.
_PREDICTION_TYPES = {
    "task": np.int32, "test": np.int32, "augmentation": np.uint32, "trajectory": np.uint16, "step": np.uint16,
    "last": np.bool_, "board": np.bool_, "edge": np.bool_, "grid": np.int32, "log_prob": np.float32,
    "halt_logit": np.float64, "value": np.float32,
}  # fmt: skip

_SCORE_TYPES = {
    "task": np.int32, "test": np.int32, "augmentation": np.uint32, "grid": np.int32, "log_prob": np.float32
}  # fmt: skip


class Columns:
    """A table: arrays of one length, whose entries at the same index form a row."""

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(getattr(self, fields(self)[0].name))  # pyright: ignore[reportArgumentType]

    def take(self, rows: Any) -> Any:
        """Return some of the rows, selected by numbers, a slice or a mask."""
        return replace(self, **{name: column[rows] for name, column in vars(self).items()})  # pyright: ignore[reportArgumentType]

    @classmethod
    def joined(cls, parts: Sequence[Any]) -> Any:
        """Return the rows of all parts, in order."""
        names = [field.name for field in fields(cls)]  # pyright: ignore[reportArgumentType]
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


@dataclass(frozen=True, eq=False)
class PredictionRows(Columns):
    """Predictions as columns (R,); candidates that rank equal stay in the order of their first row.

    Attributes:
        task: index of the task in the list of tasks.
        test: index of the test input, from 0.
        augmentation: number of the augmentation that the test input was shown under.
        trajectory: index of the trajectory, from 0, if noise makes several.
        step: number of supervision steps made.
        last: whether `step` is the last supervision step.
        board: whether it was predicted on the whole board because the canvas may have been too small. Rows without
            `board` for the same test input no longer count.
        edge: whether the grid reaches the edge of the canvas without an end mark, so that it may be cut off.
        grid: number of the grid, or NO_GRID for an empty or malformed prediction.
        log_prob: mean log-probability over the cells and end marks of the grid.
        halt_logit: output of the halting head.
        value: share of correct cells that the value head estimates; NaN if the model has no value head.
    """

    task: NDArray[np.int32]
    test: NDArray[np.int32]
    augmentation: NDArray[np.uint32]
    trajectory: NDArray[np.uint16]
    step: NDArray[np.uint16]
    last: NDArray[np.bool_]
    board: NDArray[np.bool_]
    edge: NDArray[np.bool_]
    grid: NDArray[np.int32]
    log_prob: NDArray[np.float32]
    halt_logit: NDArray[np.float64]
    value: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class ScoreRows(Columns):
    """Log-probabilities (N,) of candidates under augmentations, each summed over the cells and end marks of a grid."""

    task: NDArray[np.int32]
    test: NDArray[np.int32]
    augmentation: NDArray[np.uint32]
    grid: NDArray[np.int32]
    log_prob: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Shard:
    """A part of the predictions (or of the rescoring) with the grids that its grid numbers refer to."""

    rows: PredictionRows | ScoreRows
    grids: Grids
    recursions: dict[tuple[int, int], Recursion] = field(default_factory=dict)
    """Recursion traces by (index of the task, index of the test input)."""


@dataclass(frozen=True, eq=False)
class Prediction:
    """A single prediction as an object, from which `make_predictions` builds the columns.

    The fields are those of `PredictionRows`, with three differences: `task` is the task ID, `augmentation` is a
    published name, and `grid` is the grid itself. An empty or malformed prediction has None as its grid.
    """

    task: str
    test: int
    augmentation: str
    grid: Grid | None
    halt_logit: float
    log_prob: float = float("nan")
    value: float = float("nan")
    step: int = 1
    last: bool = True
    trajectory: int = 0
    board: bool = False
    edge: bool = False


@dataclass(frozen=True, eq=False)
class Predictions:
    """All predictions of a run, or of several merged runs.

    Attributes:
        metadata: origin of the predictions, as stored in predictions.json.
        tasks: the task IDs that the rows refer to by index.
        answers: the prediction rows.
        grids: the grids that the rows refer to by number.
        recursions: recursion traces by (task ID, index of the test input).
        scores: log-probabilities from rescoring; None without rescoring.
    """

    metadata: dict[str, Any]
    tasks: tuple[str, ...]
    answers: PredictionRows
    grids: Grids
    recursions: dict[tuple[str, int], Recursion] = field(default_factory=dict)
    scores: ScoreRows | None = None

    @property
    def training(self) -> TrainingRecord:
        """What is known of the tasks that the model was trained on."""
        return TrainingRecord.from_json(self.metadata)

    @property
    def merged(self) -> tuple[str, ...]:
        """Names of the predictions that were pooled deliberately, if any."""
        return tuple(self.metadata.get("merged", ()))

    @property
    def malformed(self) -> float | None:
        """Share of the predictions at the last supervision step that are not a grid; None without predictions."""
        rows = current_predictions(self.answers)
        return float((rows.grid[rows.last] == NO_GRID).mean()) if rows.last.any() else None


def make_predictions(metadata: dict[str, Any], rows: Iterable[Prediction]) -> Predictions:
    """Return single predictions as columns, in the same order."""
    rows = list(rows)
    tasks = tuple(dict.fromkeys(row.task for row in rows))
    places = {task: place for place, task in enumerate(tasks)}
    grids, numbers = collect_grids(row.grid for row in rows if row.grid is not None and row.grid.size)
    has_grid = np.array([row.grid is not None and row.grid.size > 0 for row in rows], bool)
    grid = np.full(len(rows), NO_GRID, np.int32)
    grid[has_grid] = numbers
    converted = {
        "task": [places[row.task] for row in rows],
        "augmentation": [Augmentation.from_name(row.augmentation).number for row in rows],
        "grid": grid,
    }
    columns = {
        name: converted[name] if name in converted else [getattr(row, name) for row in rows]
        for name in _PREDICTION_TYPES
    }
    prediction_rows = PredictionRows(
        **{name: np.array(columns[name], kind) for name, kind in _PREDICTION_TYPES.items()}
    )
    return Predictions(metadata, tasks, prediction_rows, grids)


def current_predictions(answers: PredictionRows) -> PredictionRows:
    """Return the rows without those replaced by a second prediction of their test input on the whole board."""
    if not answers.board.any():
        return answers
    keys = answers.task.astype(np.int64) << 32 | answers.test
    return answers.take(answers.board | ~np.isin(keys, keys[answers.board]))


def merge_predictions(several: dict[str, Predictions]) -> Predictions:
    """Pool the predictions of several models, given by name; the score of the result reports the pooling.

    Rescored log-probabilities are dropped: their mean over the models that scored a candidate would favour a candidate
    that only one model predicted. A recursion trace is taken from the first model that has one.
    """
    parts = list(several.values())
    tasks, row_parts = _align_tasks([(part.tasks, current_predictions(part.answers)) for part in parts])
    grids, numbers = join_grids([part.grids for part in parts])
    # A prediction on the whole board replaces earlier ones of the same model only. That has been done above, so the
    # flag is cleared: otherwise it would replace the predictions of the other models too.
    cleared = [replace(rows, board=np.zeros_like(rows.board)) for rows in row_parts]
    row_parts = [renumbered(rows, number) for rows, number in zip(cleared, numbers, strict=True)]
    recursions = {key: recursion for part in reversed(parts) for key, recursion in part.recursions.items()}
    return Predictions(_merge_metadata(several), tasks, PredictionRows.joined(row_parts), grids, recursions)


def _merge_metadata(several: dict[str, Predictions]) -> dict[str, Any]:
    """Return the metadata of pooled predictions: the union of tasks and of training tasks, and the names."""
    parts = list(several.values())
    sources: dict[str, list[str]] = {}
    for part in parts:
        for source, task_ids in part.metadata.get("sources", {}).items():
            sources[source] = sorted({*sources.get(source, []), *task_ids})
    training = TrainingRecord.union([part.training for part in parts])
    steps = {bool(part.answers.last.all()) for part in parts if len(part.answers)}
    return {
        "sources": sources,
        **training.to_json(),
        "merged": list(several),
        "steps_differ": len(steps) > 1,
    }


def renumbered(rows: Any, numbers: NDArray[np.int32]) -> Any:
    """Return the rows with each grid number n replaced by `numbers[n]`; NO_GRID stays NO_GRID."""
    # NO_GRID is -1, so the value appended last is the one that it selects.
    return replace(rows, grid=np.append(numbers, np.int32(NO_GRID))[rows.grid])


def _align_tasks(
    parts: Sequence[tuple[tuple[str, ...], Any]], first: tuple[str, ...] = ()
) -> tuple[tuple[str, ...], list[Any]]:
    """Return one list of tasks, which begins with `first`, and the rows of all parts with indices into this list."""
    tasks = tuple(dict.fromkeys([*first, *(task for part_tasks, _ in parts for task in part_tasks)]))
    places = {task: place for place, task in enumerate(tasks)}
    aligned_rows = []
    for part_tasks, rows in parts:
        new_places = np.array([places[task] for task in part_tasks], np.int32)
        aligned_rows.append(rows if not len(rows) else replace(rows, task=new_places[rows.task]))
    return tasks, aligned_rows
