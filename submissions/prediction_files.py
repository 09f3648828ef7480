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
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from augment.storage import new_folder, seal, sync, unseal
from submissions import grid_table
from submissions.grid_table import Grids, join_grids
from submissions.predictions import (
    _ANSWERS,
    _SCORES,
    NO_GRID,
    PredictionRows,
    Predictions,
    ScoreRows,
    Shard,
    _same_places,
    renumbered,
)
from submissions.recursion_trace import recursion_table, recursions_of

FORMAT = 3
ANSWERS_FILE = "answers.parquet"
GRIDS_FILE = "grids.parquet"
METADATA_FILE = "predictions.json"
RECURSION_FILE = "recursion.parquet"
SCORES_FILE = "scores.parquet"
QUICK = {"use_dictionary": ["task"], "write_statistics": False}
"""How Parquet is written: numbers and cells hardly repeat, and looking for repetitions takes longer than the rest."""


def _schema(types: dict[str, type]) -> pa.Schema:
    """On disk a task is its ID and a grid is its ID, null where there is none."""
    own = {"task": pa.dictionary(pa.int32(), pa.string()), "grid": pa.uint64()}
    kinds = {name: own.get(name, pa.from_numpy_dtype(kind)) for name, kind in types.items()}
    return pa.schema([pa.field(name, kind, nullable=name == "grid") for name, kind in kinds.items()])


def write_predictions(folder: str | Path, predictions: Predictions, replace: bool = False) -> None:
    """Write a predictions folder, whole or not at all. ValueError if `folder` exists and is not to be replaced."""
    places = {task: place for place, task in enumerate(predictions.tasks)}
    recursions = {(places[task], test): shown for (task, test), shown in predictions.recursions.items()}
    part = Shard(predictions.answers, predictions.grids, recursions)
    join_shards(Path(folder), [part], predictions.tasks, predictions.metadata, replace)
    if predictions.scores is not None:
        add_scores(Path(folder), [Shard(predictions.scores, predictions.grids)], predictions.tasks)


def join_shards(
    folder: Path, parts: Iterable[Shard], tasks: Sequence[str], metadata: dict[str, Any], replace: bool = False
) -> None:
    """Write the predictions folder from parts, one in memory at a time; their order is that of the answers."""
    with new_folder(folder, replace) as unfinished:
        counts = _write_tables(unfinished, parts, tasks)
        seal(unfinished, METADATA_FILE, {"format": FORMAT, **counts, "metadata": metadata})


def add_scores(folder: Path, parts: Iterable[Shard], tasks: Sequence[str]) -> None:
    """Write the rescoring beside the answers it belongs to."""
    about = _unseal(folder)
    unfinished = folder.with_name(f".{folder.name}.{SCORES_FILE}.unfinished")
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
    tasks, answers = _from_table(_read(folder / ANSWERS_FILE), grids, PredictionRows)
    recursions = {}
    scores = None
    if RECURSION_FILE in about["files"]:
        recursions = recursions_of(_read(folder / RECURSION_FILE))
    if SCORES_FILE in about["files"]:
        scored, scores = _from_table(_read(folder / SCORES_FILE), grids, ScoreRows)
        tasks, (answers, scores) = _same_places([(tasks, answers), (scored, scores)])
    return Predictions(about["metadata"], tasks, answers, grids, recursions, scores)


# Parts on their way: NUMBER.grids.parquet, perhaps NUMBER.recursion.parquet, then NUMBER.answers.parquet or
# NUMBER.scores.parquet, which makes the part count.


def write_shard(folder: Path, number: int, part: Shard, tasks: Sequence[str]) -> None:
    """Keep one part on disk; a kill leaves all of it or nothing that counts."""
    tables = {"grids": grid_table.to_columns(part.grids), _name_of(type(part.rows)): _to_table(part, tasks)}
    if part.recursions:
        tables = {"recursion": recursion_table(part.recursions, tasks)} | tables
    for name, table in tables.items():
        path = _shard_file(folder, number, name)
        unfinished = path.with_suffix(".unfinished")
        pq.write_table(table, unfinished, **QUICK)
        sync(unfinished)
        unfinished.replace(path)


def read_shard(
    folder: Path, number: int, tasks: Sequence[str], kind: type[PredictionRows] | type[ScoreRows] = PredictionRows
) -> Shard:
    """Undo `write_shard`, given the same tasks."""
    grids = grid_table.from_columns(_read(_shard_file(folder, number, "grids")))
    found, rows = _from_table(_read(_shard_file(folder, number, _name_of(kind))), grids, kind)
    _, (rows,) = _same_places([(found, rows)], tuple(tasks))
    recursion = _shard_file(folder, number, "recursion")
    shown = recursions_of(_read(recursion)) if recursion.exists() else {}
    places = {task: place for place, task in enumerate(tasks)}
    return Shard(rows, grids, {(places[task], test): each for (task, test), each in shown.items()})


def find_shards(folder: Path, kind: type[PredictionRows] | type[ScoreRows] = PredictionRows) -> set[int]:
    """The numbers of the parts that are there whole."""
    return {int(path.name.split(".")[0]) for path in folder.glob(f"*.{_name_of(kind)}.parquet")}


def _shard_file(folder: Path, number: int, name: str) -> Path:
    return folder / f"{number:06d}.{name}.parquet"


def _name_of(kind: type) -> str:
    return "answers" if kind is PredictionRows else "scores"


def _unseal(folder: Path) -> dict[str, Any]:
    return unseal(folder / METADATA_FILE, "predictions folder", FORMAT, "run the predict stage again")


def _write_tables(folder: Path, parts: Iterable[Shard], tasks: Sequence[str]) -> dict[str, int]:
    """The Parquet files of a predictions folder; returns counts of what is in them."""
    counts = {"answers": 0, "malformed": 0}
    written = set[int]()
    recursions = []
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


def _to_table(part: Shard, tasks: Sequence[str]) -> pa.Table:
    """The rows with task IDs and grid IDs."""
    rows = part.rows
    schema = _schema(_ANSWERS if isinstance(part.rows, PredictionRows) else _SCORES)
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


def read_shards(folder: Path, tasks: Sequence[str], metadata: dict[str, Any]) -> Predictions | None:
    """What the whole parts in a folder hold; None where there is none, or none that can be read.

    tasks: those that are asked, in the order of the puzzle set, as the parts were written with; metadata: as it is
    """
    parts = [part for number in sorted(find_shards(folder)) if (part := _read_shard(folder, number, tasks))]
    if not parts:
        return None
    grids, numbers = join_grids([part.grids for part in parts])
    answers = PredictionRows.joined(
        [renumbered(part.rows, number) for part, number in zip(parts, numbers, strict=True)]
    )
    recursions = {(tasks[place], test): shown for part in parts for (place, test), shown in part.recursions.items()}
    return Predictions(metadata, tuple(tasks), answers, grids, recursions)


def _read_shard(folder: Path, number: int, tasks: Sequence[str]) -> Shard | None:
    """One part; None where it is damaged, or was joined and removed meanwhile."""
    try:
        return read_shard(folder, number, tasks)
    except (OSError, ValueError, KeyError):
        return None
