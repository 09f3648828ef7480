"""What the model predicted, as columns: grids in the task's own frame, each with how sure the model was of it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from augment.augmentation import Augmentation
from augment.grid import Grid
from submissions.grid_table import Grids, collect_grids, join_grids
from submissions.recursion_trace import Recursion

NO_GRID = -1


_ANSWERS = {
    "task": np.int32, "test": np.int32, "augmentation": np.uint32, "trajectory": np.uint16, "step": np.uint16,
    "last": np.bool_, "board": np.bool_, "edge": np.bool_, "grid": np.int32, "log_prob": np.float32,
    "halt_logit": np.float64, "value": np.float32,
}  # fmt: skip


_SCORES = {
    "task": np.int32, "test": np.int32, "augmentation": np.uint32, "grid": np.int32, "log_prob": np.float32
}  # fmt: skip


class Columns:
    """Arrays of one length, a row of which belongs together."""

    def __len__(self) -> int:
        """Number of rows."""
        return len(getattr(self, fields(self)[0].name))  # pyright: ignore[reportArgumentType]

    def take(self, rows: Any) -> Any:
        """Some of the rows: numbers, a slice or a mask."""
        return replace(self, **{name: column[rows] for name, column in vars(self).items()})  # pyright: ignore[reportArgumentType]

    @classmethod
    def joined(cls, parts: Sequence[Any]) -> Any:
        """The rows of all parts, in order."""
        names = [field.name for field in fields(cls)]  # pyright: ignore[reportArgumentType]
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


@dataclass(frozen=True, eq=False)
class PredictionRows(Columns):
    """Answers as columns (R,), in the order that settles ties.

    task: its place among the tasks; test: the test input, from 0; augmentation: the number of the one it was seen under
    trajectory: of several with noise, from 0; step: supervision steps made, and last: these are all of them
    board: asked on the whole board, after a canvas that was perhaps too small; the earlier answers no longer count
    edge: it reaches the canvas' edge without an end mark, so it may be cut off
    grid: number of the grid, NO_GRID where the answer was none; log_prob: mean over its cells and end marks
    value: share of the cells that the value head thinks right, not a number where the model has none
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
    """Log-probabilities (N,) of candidates under augmentations, each the sum over cells and end marks of a grid."""

    task: NDArray[np.int32]
    test: NDArray[np.int32]
    augmentation: NDArray[np.uint32]
    grid: NDArray[np.int32]
    log_prob: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Shard:
    """Answers (or scores) with the grids that their numbers mean."""

    rows: PredictionRows | ScoreRows
    grids: Grids
    recursions: dict[tuple[int, int], Recursion] = field(default_factory=dict)
    """by (place of the task, test input)"""


@dataclass(frozen=True, eq=False)
class Prediction:
    """One answer by itself, for whoever makes predictions by hand: see `make_predictions`.

    `grid` is None where the model's answer was empty or malformed; `halt_logit` is the halting head's output.
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
    """All answers, and where they came from. `recursions` are by (task ID, test input)."""

    metadata: dict[str, Any]
    tasks: tuple[str, ...]
    answers: PredictionRows
    grids: Grids
    recursions: dict[tuple[str, int], Recursion] = field(default_factory=dict)
    scores: ScoreRows | None = None

    @property
    def trained_on(self) -> list[str] | None:
        """Tasks answered whose test outputs the model was trained on; None where that is not known."""
        found = self.metadata.get("trained_on")
        return found if found or self.metadata.get("training_known") else None

    @property
    def merged(self) -> tuple[str, ...]:
        """The folders that were pooled on purpose, if any were."""
        return tuple(self.metadata.get("merged", ()))

    @property
    def malformed(self) -> float | None:
        """Share of the last answers that are no grid; None without answers."""
        answers = current_predictions(self.answers)
        return float((answers.grid[answers.last] == NO_GRID).mean()) if answers.last.any() else None


def make_predictions(metadata: dict[str, Any], rows: Iterable[Prediction]) -> Predictions:
    """Predictions from single answers, in the order given."""
    rows = list(rows)
    tasks = tuple(dict.fromkeys(row.task for row in rows))
    places = {task: place for place, task in enumerate(tasks)}
    different, numbers = collect_grids(row.grid for row in rows if row.grid is not None and row.grid.size)
    held = np.array([row.grid is not None and row.grid.size > 0 for row in rows], bool)
    grid = np.full(len(rows), NO_GRID, np.int32)
    grid[held] = numbers
    given = {
        "task": [places[row.task] for row in rows],
        "augmentation": [Augmentation.from_name(row.augmentation).number for row in rows],
        "grid": grid,
    }
    columns = {name: given[name] if name in given else [getattr(row, name) for row in rows] for name in _ANSWERS}
    answers = PredictionRows(**{name: np.array(columns[name], kind) for name, kind in _ANSWERS.items()})
    return Predictions(metadata, tasks, answers, different)


def current_predictions(answers: PredictionRows) -> PredictionRows:
    """Without those to test inputs that were asked again on the whole board."""
    if not answers.board.any():
        return answers
    keys = answers.task.astype(np.int64) << 32 | answers.test
    return answers.take(answers.board | ~np.isin(keys, keys[answers.board]))


def merge_predictions(several: dict[str, Predictions]) -> Predictions:
    """Pool the predictions of several models, given by name; the score will say so.

    Scores of candidates are left out: a mean over the models that scored a candidate would favour those that one model
    alone has heard of.
    """
    given = list(several.values())
    tasks, answers = _same_places([(each.tasks, current_predictions(each.answers)) for each in given])
    grids, numbers = join_grids([each.grids for each in given])
    # Each model's own answers on the whole board have replaced its earlier ones, and must not replace the others'.
    settled = [replace(rows, board=np.zeros_like(rows.board)) for rows in answers]
    answers = [renumbered(rows, number) for rows, number in zip(settled, numbers, strict=True)]
    recursions = {key: shown for each in reversed(given) for key, shown in each.recursions.items()}
    return Predictions(_merge_metadata(several), tasks, PredictionRows.joined(answers), grids, recursions)


def _merge_metadata(several: dict[str, Predictions]) -> dict[str, Any]:
    """What is known of all: every task asked, everything trained on, and the names."""
    sources: dict[str, list[str]] = {}
    for each in several.values():
        for source, asked in each.metadata.get("sources", {}).items():
            sources[source] = sorted({*sources.get(source, []), *asked})
    trained_on = sorted({task for each in several.values() for task in each.trained_on or ()})
    known = all(each.metadata.get("training_known") for each in several.values())
    steps = {bool(each.answers.last.all()) for each in several.values() if len(each.answers)}
    return {
        "sources": sources,
        "trained_on": trained_on,
        "training_known": known,
        "merged": list(several),
        "steps_differ": len(steps) > 1,
    }


def renumbered(rows: Any, numbers: NDArray[np.int32]) -> Any:
    """The rows with their grids' new numbers; NO_GRID stays."""
    return replace(rows, grid=np.append(numbers, np.int32(NO_GRID))[rows.grid])


def _same_places(
    several: Sequence[tuple[tuple[str, ...], Any]], first: tuple[str, ...] = ()
) -> tuple[tuple[str, ...], list[Any]]:
    """All rows with the places of one list of tasks."""
    tasks = tuple(dict.fromkeys([*first, *(task for given, _ in several for task in given)]))
    places = {task: place for place, task in enumerate(tasks)}
    moved = []
    for given, rows in several:
        new = np.array([places[task] for task in given], np.int32)
        moved.append(rows if not len(rows) else replace(rows, task=new[rows.task]))
    return tasks, moved
