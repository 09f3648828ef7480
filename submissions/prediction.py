"""What the model answered: grids back in the task's own frame, each with how sure the model was of it.

In: parts, as the prediction stage makes them one after the other, perhaps in several processes. Out: a sealed folder

    answers.parquet     a row per answer, in the order that settles ties
    grids.parquet       every different grid once
    recursion.parquet   per test input, what the latents held after each supervision step
    scores.parquet      with rescoring: the log-probability of candidates under every augmentation
    predictions.json    where they came from, and the SHA-256 of the files above

and the same read back. Parts lie in a folder beside it until they are joined, so that a killed stage goes on.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from augment.folder import new_folder, seal, sync, unseal
from augment.grid import Grid
from augment.puzzle import Augmentation
from submissions import grids as grid_table
from submissions.grids import Grids, collect_grids, join_grids
from submissions.recursion import Recursion, recursion_table, recursions_of

FORMAT = 3
ANSWERS_FILE, GRIDS_FILE, METADATA_FILE = "answers.parquet", "grids.parquet", "predictions.json"
RECURSION_FILE, SCORES_FILE = "recursion.parquet", "scores.parquet"
NO_GRID = -1
QUICK = {"use_dictionary": ["task"], "write_statistics": False}
"""How Parquet is written: numbers and cells hardly repeat, and looking for repetitions takes longer than the rest."""

_ANSWERS = {
    "task": np.int32, "test": np.int32, "augmentation": np.uint32, "trajectory": np.uint16, "step": np.uint16,
    "last": np.bool_, "board": np.bool_, "edge": np.bool_, "grid": np.int32, "log_prob": np.float32,
    "halt_logit": np.float64, "value": np.float32,
}  # fmt: skip
_SCORES = {
    "task": np.int32, "test": np.int32, "augmentation": np.uint32, "grid": np.int32, "log_prob": np.float32
}  # fmt: skip


def _schema(types: dict[str, type]) -> pa.Schema:
    """On disk a task is its ID and a grid is its ID, null where there is none."""
    own = {"task": pa.dictionary(pa.int32(), pa.string()), "grid": pa.uint64()}
    kinds = {name: own.get(name, pa.from_numpy_dtype(kind)) for name, kind in types.items()}
    return pa.schema([pa.field(name, kind, nullable=name == "grid") for name, kind in kinds.items()])


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
class Answers(Columns):
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
class Scores(Columns):
    """Log-probabilities (N,) of candidates under augmentations, each the sum over cells and end marks of a grid."""

    task: NDArray[np.int32]
    test: NDArray[np.int32]
    augmentation: NDArray[np.uint32]
    grid: NDArray[np.int32]
    log_prob: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Part:
    """Answers (or scores) with the grids that their numbers mean."""

    rows: Answers | Scores
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
    answers: Answers
    grids: Grids
    recursions: dict[tuple[str, int], Recursion] = field(default_factory=dict)
    scores: Scores | None = None

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
        answers = current_answers(self.answers)
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
    answers = Answers(**{name: np.array(columns[name], kind) for name, kind in _ANSWERS.items()})
    return Predictions(metadata, tasks, answers, different)


def write_predictions(folder: str | Path, predictions: Predictions, replace: bool = False) -> None:
    """Write a predictions folder, whole or not at all. ValueError if `folder` exists and is not to be replaced."""
    places = {task: place for place, task in enumerate(predictions.tasks)}
    recursions = {(places[task], test): shown for (task, test), shown in predictions.recursions.items()}
    part = Part(predictions.answers, predictions.grids, recursions)
    join_parts(Path(folder), [part], predictions.tasks, predictions.metadata, replace)
    if predictions.scores is not None:
        add_scores(Path(folder), [Part(predictions.scores, predictions.grids)], predictions.tasks)


def join_parts(
    folder: Path, parts: Iterable[Part], tasks: Sequence[str], metadata: dict[str, Any], replace: bool = False
) -> None:
    """Write the predictions folder from parts, one in memory at a time; their order is that of the answers."""
    with new_folder(folder, replace) as unfinished:
        counts = _write_tables(unfinished, parts, tasks)
        seal(unfinished, METADATA_FILE, {"format": FORMAT, **counts, "metadata": metadata})


def add_scores(folder: Path, parts: Iterable[Part], tasks: Sequence[str]) -> None:
    """Write the rescoring beside the answers it belongs to."""
    about, unfinished = _unseal(folder), folder.with_name(f".{folder.name}.{SCORES_FILE}.unfinished")
    with pq.ParquetWriter(unfinished, _schema(_SCORES), compression="zstd", **QUICK) as writer:
        for part in parts:
            writer.write_table(_to_table(part, tasks))
    sync(unfinished)
    about = {name: value for name, value in about.items() if name not in ("files", "sha256")}
    seal(folder, METADATA_FILE, about, but=SCORES_FILE)  # a kill before the next seal leaves a folder without scores
    unfinished.replace(folder / SCORES_FILE)
    seal(folder, METADATA_FILE, about)


def read_predictions(folder: str | Path) -> Predictions:
    """Read a predictions folder. ValueError names a file that is missing, altered or of another format."""
    folder = Path(folder)
    about = _unseal(folder)
    grids = grid_table.from_columns(_read(folder / GRIDS_FILE))
    tasks, answers = _from_table(_read(folder / ANSWERS_FILE), grids, Answers)
    recursions, scores = {}, None
    if RECURSION_FILE in about["files"]:
        recursions = recursions_of(_read(folder / RECURSION_FILE))
    if SCORES_FILE in about["files"]:
        scored, scores = _from_table(_read(folder / SCORES_FILE), grids, Scores)
        tasks, (answers, scores) = _same_places([(tasks, answers), (scored, scores)])
    return Predictions(about["metadata"], tasks, answers, grids, recursions, scores)


def current_answers(answers: Answers) -> Answers:
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
    tasks, answers = _same_places([(each.tasks, current_answers(each.answers)) for each in given])
    grids, numbers = join_grids([each.grids for each in given])
    # Each model's own answers on the whole board have replaced its earlier ones, and must not replace the others'.
    settled = [replace(rows, board=np.zeros_like(rows.board)) for rows in answers]
    answers = [renumbered(rows, number) for rows, number in zip(settled, numbers, strict=True)]
    recursions = {key: shown for each in reversed(given) for key, shown in each.recursions.items()}
    return Predictions(_merge_metadata(several), tasks, Answers.joined(answers), grids, recursions)


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


# Parts on their way: NUMBER.grids.parquet, perhaps NUMBER.recursion.parquet, then NUMBER.answers.parquet or
# NUMBER.scores.parquet, which makes the part count.


def write_part(folder: Path, number: int, part: Part, tasks: Sequence[str]) -> None:
    """Keep one part on disk; a kill leaves all of it or nothing that counts."""
    tables = {"grids": grid_table.to_columns(part.grids), _name_of(type(part.rows)): _to_table(part, tasks)}
    if part.recursions:
        tables = {"recursion": recursion_table(part.recursions, tasks)} | tables
    for name, table in tables.items():
        path = _part_file(folder, number, name)
        unfinished = path.with_suffix(".unfinished")
        pq.write_table(table, unfinished, **QUICK)
        sync(unfinished)
        unfinished.replace(path)


def read_part(folder: Path, number: int, tasks: Sequence[str], kind: type[Answers] | type[Scores] = Answers) -> Part:
    """Undo `write_part`, given the same tasks."""
    grids = grid_table.from_columns(_read(_part_file(folder, number, "grids")))
    found, rows = _from_table(_read(_part_file(folder, number, _name_of(kind))), grids, kind)
    _, (rows,) = _same_places([(found, rows)], tuple(tasks))
    recursion = _part_file(folder, number, "recursion")
    shown = recursions_of(_read(recursion)) if recursion.exists() else {}
    places = {task: place for place, task in enumerate(tasks)}
    return Part(rows, grids, {(places[task], test): each for (task, test), each in shown.items()})


def find_parts(folder: Path, kind: type[Answers] | type[Scores] = Answers) -> set[int]:
    """The numbers of the parts that are there whole."""
    return {int(path.name.split(".")[0]) for path in folder.glob(f"*.{_name_of(kind)}.parquet")}


def _part_file(folder: Path, number: int, name: str) -> Path:
    return folder / f"{number:06d}.{name}.parquet"


def _name_of(kind: type) -> str:
    return "answers" if kind is Answers else "scores"


def _unseal(folder: Path) -> dict[str, Any]:
    return unseal(folder / METADATA_FILE, "predictions folder", FORMAT, "run the predict stage again")


def _write_tables(folder: Path, parts: Iterable[Part], tasks: Sequence[str]) -> dict[str, int]:
    """The Parquet files of a predictions folder; returns counts of what is in them."""
    counts, written, recursions = {"answers": 0, "malformed": 0}, set[int](), []
    answers = pq.ParquetWriter(folder / ANSWERS_FILE, _schema(_ANSWERS), compression="zstd", **QUICK)
    grids = pq.ParquetWriter(folder / GRIDS_FILE, grid_table.SCHEMA, compression="zstd", **QUICK)
    with answers, grids:
        for part in parts:
            ids = part.grids.ids.tolist()
            fresh = np.flatnonzero([number not in written for number in ids])
            written.update(ids)
            answers.write_table(_to_table(part, tasks))
            grids.write_table(grid_table.to_columns(part.grids.take(fresh)))
            if part.recursions:
                recursions.append(recursion_table(part.recursions, tasks))
            counts["answers"] += len(part.rows)
            counts["malformed"] += int((part.rows.grid == NO_GRID).sum())
    if recursions:
        pq.write_table(pa.concat_tables(recursions), folder / RECURSION_FILE, compression="zstd")
    return counts | {"grids": len(written)}


def _read(path: Path) -> pa.Table:
    with pq.ParquetFile(path, memory_map=True) as file:
        return file.read()


def _to_table(part: Part, tasks: Sequence[str]) -> pa.Table:
    """The rows with task IDs and grid IDs."""
    rows, schema = part.rows, _schema(_ANSWERS if isinstance(part.rows, Answers) else _SCORES)
    arrays = {name: pa.array(column) for name, column in vars(rows).items()}
    arrays["task"] = pa.DictionaryArray.from_arrays(pa.array(rows.task), pa.array(tasks, pa.string()))
    arrays["grid"] = pa.array(np.append(part.grids.ids, np.uint64(0))[rows.grid], mask=rows.grid == NO_GRID)
    return pa.table([arrays[name] for name in schema.names], schema=schema)


def _from_table(table: pa.Table, grids: Grids, kind: Any) -> tuple[tuple[str, ...], Any]:
    """The tasks that the rows name, and the rows."""
    table = table.unify_dictionaries().combine_chunks()
    column = table.column("task").chunk(0) if table.num_rows else None
    tasks = () if column is None else tuple(column.dictionary.to_pylist())
    columns: dict[str, Any] = {name: table.column(name) for name in table.column_names if name not in ("task", "grid")}
    columns = {name: values.to_numpy().copy() for name, values in columns.items()}
    columns["task"] = np.zeros(0, np.int32) if column is None else column.indices.to_numpy().copy()
    columns["grid"] = _numbers_of(table.column("grid"), grids)
    return tasks, kind(**columns)


def _numbers_of(ids: pa.ChunkedArray, grids: Grids) -> NDArray[np.int32]:
    """Grid numbers for grid IDs; NO_GRID for null."""
    order = np.argsort(grids.ids)
    wanted = ids.fill_null(0).to_numpy()
    places = np.searchsorted(grids.ids[order], wanted)
    found = np.append(order, 0)[places].astype(np.int32)
    missing = np.append(grids.ids, np.uint64(0))[found] != wanted
    given = ~ids.is_null().to_numpy()
    if (missing & given).any():
        raise ValueError("an answer names a grid that is not in grids.parquet; run the predict stage again")
    return np.where(given, found, np.int32(NO_GRID)).astype(np.int32)
