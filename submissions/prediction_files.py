"""Write and read the predictions folder, and the shards that the prediction stage writes before it.

The prediction stage produces shards one after the other, possibly in several processes. Each shard is stored in a
separate folder until all are joined, so that a killed stage can resume. Joining them writes a sealed folder:

    answers.parquet     one row per prediction; candidates that rank equal stay in this order
    grids.parquet       each different grid once
    recursion.parquet   for each test input, the latents as read by the output head after each supervision step
    scores.parquet      with rescoring: the log-probability of candidates under every augmentation
    predictions.json    metadata, and the SHA-256 of the files above
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from augment.errors import UserError
from augment.storage import add_path, new_folder, seal, sync, unseal
from submissions import grid_table
from submissions.grid_table import Grids, join_grids
from submissions.predictions import (
    _PREDICTION_TYPES,
    _SCORE_TYPES,
    NO_GRID,
    PredictionRows,
    Predictions,
    ScoreRows,
    Shard,
    _align_tasks,
    renumbered,
)
from submissions.recursion_trace import read_recursion_table, recursion_table

FORMAT = 3
ANSWERS_FILE = "answers.parquet"
GRIDS_FILE = "grids.parquet"
METADATA_FILE = "predictions.json"
RECURSION_FILE = "recursion.parquet"
SCORES_FILE = "scores.parquet"
PARQUET_OPTIONS = {"use_dictionary": ["task"], "write_statistics": False}
"""Options of the Parquet writer. Only tasks use a dictionary: other values rarely repeat, and searching for repetitions
takes longer than all other work."""


def _schema(types: dict[str, type]) -> pa.Schema:
    """Return the schema on disk, where tasks and grids are stored as IDs; the ID of NO_GRID is null."""
    id_types = {"task": pa.dictionary(pa.int32(), pa.string()), "grid": pa.uint64()}
    kinds = {name: id_types.get(name, pa.from_numpy_dtype(kind)) for name, kind in types.items()}
    return pa.schema([pa.field(name, kind, nullable=name == "grid") for name, kind in kinds.items()])


def write_predictions(folder: str | Path, predictions: Predictions, replace: bool = False) -> None:
    """Write a predictions folder atomically.

    Raises:
        ValueError: if `folder` exists and `replace` is false.
    """
    places = {task: place for place, task in enumerate(predictions.tasks)}
    recursions = {(places[task], test): recursion for (task, test), recursion in predictions.recursions.items()}
    shard = Shard(predictions.answers, predictions.grids, recursions)
    join_shards(Path(folder), [shard], predictions.tasks, predictions.metadata, replace)
    if predictions.scores is not None:
        add_scores(Path(folder), [Shard(predictions.scores, predictions.grids)], predictions.tasks)


def join_shards(
    folder: Path, parts: Iterable[Shard], tasks: Sequence[str], metadata: dict[str, Any], replace: bool = False
) -> None:
    """Write the predictions folder from shards, in their order, with one shard in memory at a time."""
    with new_folder(folder, replace) as unfinished:
        counts = _write_tables(unfinished, parts, tasks)
        seal(unfinished, METADATA_FILE, {"format": FORMAT, **counts, "metadata": metadata})


def add_scores(folder: Path, parts: Iterable[Shard], tasks: Sequence[str]) -> None:
    """Add the rescoring to an existing predictions folder."""
    description = _unseal(folder)
    unfinished = folder.with_name(f".{folder.name}.{SCORES_FILE}.unfinished")
    with pq.ParquetWriter(unfinished, _schema(_SCORE_TYPES), compression="zstd", **PARQUET_OPTIONS) as writer:
        for part in parts:
            writer.write_table(_to_table(part, tasks))
    sync(unfinished)
    description = {name: value for name, value in description.items() if name not in ("files", "sha256")}
    # Sealed twice: if the process is killed before the second seal, the folder is valid and has no scores.
    seal(folder, METADATA_FILE, description, but=SCORES_FILE)
    unfinished.replace(folder / SCORES_FILE)
    seal(folder, METADATA_FILE, description)


def read_predictions(folder: str | Path) -> Predictions:
    """Read a predictions folder.

    Raises:
        ValueError: if a file is missing, altered or of another format version; the message names the file.
    """
    folder = Path(folder)
    description = _unseal(folder)
    grids = grid_table.from_columns(_read(folder / GRIDS_FILE))
    tasks, rows = _from_table(_read(folder / ANSWERS_FILE), grids, PredictionRows)
    recursions = {}
    scores = None
    if RECURSION_FILE in description["files"]:
        recursions = read_recursion_table(_read(folder / RECURSION_FILE))
    if SCORES_FILE in description["files"]:
        score_tasks, scores = _from_table(_read(folder / SCORES_FILE), grids, ScoreRows)
        # Each Parquet file has its own dictionary of tasks, so the task indices of the two must be aligned.
        tasks, (rows, scores) = _align_tasks([(tasks, rows), (score_tasks, scores)])
    return Predictions(description["metadata"], tasks, rows, grids, recursions, scores)


# A shard on disk consists of NUMBER.grids.parquet, optionally NUMBER.recursion.parquet, and then NUMBER.answers.parquet
# or NUMBER.scores.parquet. The last file is written last and marks the shard as complete.


def write_shard(folder: Path, number: int, part: Shard, tasks: Sequence[str]) -> None:
    """Write one shard atomically: if the process is killed, `find_shards` reports the whole shard or none of it."""
    tables = {"grids": grid_table.to_columns(part.grids), _name_of(type(part.rows)): _to_table(part, tasks)}
    if part.recursions:
        tables = {"recursion": recursion_table(part.recursions, tasks)} | tables
    for name, table in tables.items():
        path = _shard_file(folder, number, name)
        unfinished = path.with_suffix(".unfinished")
        try:
            pq.write_table(table, unfinished, **PARQUET_OPTIONS)
            sync(unfinished)
        except OSError as error:
            add_path(error, path)
            raise
        unfinished.replace(path)


def read_shard(
    folder: Path, number: int, tasks: Sequence[str], kind: type[PredictionRows] | type[ScoreRows] = PredictionRows
) -> Shard:
    """Read a shard that `write_shard` wrote with the same `tasks`."""
    grids = grid_table.from_columns(_read(_shard_file(folder, number, "grids")))
    shard_tasks, rows = _from_table(_read(_shard_file(folder, number, _name_of(kind))), grids, kind)
    _, (rows,) = _align_tasks([(shard_tasks, rows)], tuple(tasks))
    recursion_file = _shard_file(folder, number, "recursion")
    recursions = read_recursion_table(_read(recursion_file)) if recursion_file.exists() else {}
    places = {task: place for place, task in enumerate(tasks)}
    return Shard(rows, grids, {(places[task], test): recursion for (task, test), recursion in recursions.items()})


def find_shards(folder: Path, kind: type[PredictionRows] | type[ScoreRows] = PredictionRows) -> set[int]:
    """Return the numbers of the complete shards in a folder."""
    return {int(path.name.split(".")[0]) for path in folder.glob(f"*.{_name_of(kind)}.parquet")}


def _shard_file(folder: Path, number: int, name: str) -> Path:
    return folder / f"{number:06d}.{name}.parquet"


def _name_of(kind: type) -> str:
    return "answers" if kind is PredictionRows else "scores"


def _unseal(folder: Path) -> dict[str, Any]:
    return unseal(folder / METADATA_FILE, "predictions folder", FORMAT, "run the predict stage again")


def _write_tables(folder: Path, parts: Iterable[Shard], tasks: Sequence[str]) -> dict[str, int]:
    """Write the Parquet files of a predictions folder; return the numbers of predictions, malformed ones and grids."""
    counts = {"answers": 0, "malformed": 0}
    written_ids = set[int]()
    recursions = []
    answers_writer = pq.ParquetWriter(
        folder / ANSWERS_FILE, _schema(_PREDICTION_TYPES), compression="zstd", **PARQUET_OPTIONS
    )
    grids_writer = pq.ParquetWriter(folder / GRIDS_FILE, grid_table.SCHEMA, compression="zstd", **PARQUET_OPTIONS)
    with answers_writer, grids_writer:
        for part in parts:
            ids = part.grids.ids.tolist()
            new_numbers = np.flatnonzero([grid_id not in written_ids for grid_id in ids])
            written_ids.update(ids)
            answers_writer.write_table(_to_table(part, tasks))
            grids_writer.write_table(grid_table.to_columns(part.grids.take(new_numbers)))
            if part.recursions:
                recursions.append(recursion_table(part.recursions, tasks))
            counts["answers"] += len(part.rows)
            counts["malformed"] += int((part.rows.grid == NO_GRID).sum())
    if recursions:
        pq.write_table(pa.concat_tables(recursions), folder / RECURSION_FILE, compression="zstd")
    return counts | {"grids": len(written_ids)}


def _read(path: Path) -> pa.Table:
    with pq.ParquetFile(path, memory_map=True) as file:
        return file.read()


def _to_table(part: Shard, tasks: Sequence[str]) -> pa.Table:
    """Return the rows of a shard as a table with task IDs and grid IDs."""
    rows = part.rows
    schema = _schema(_PREDICTION_TYPES if isinstance(part.rows, PredictionRows) else _SCORE_TYPES)
    arrays = {name: pa.array(column) for name, column in vars(rows).items()}
    arrays["task"] = pa.DictionaryArray.from_arrays(pa.array(rows.task), pa.array(tasks, pa.string()))
    arrays["grid"] = pa.array(np.append(part.grids.ids, np.uint64(0))[rows.grid], mask=rows.grid == NO_GRID)
    return pa.table([arrays[name] for name in schema.names], schema=schema)


def _from_table(table: pa.Table, grids: Grids, kind: Any) -> tuple[tuple[str, ...], Any]:
    """Return the IDs of the tasks in a table, and its rows as a `kind`, whose `task` is an index into these IDs."""
    table = table.unify_dictionaries().combine_chunks()
    column = table.column("task").chunk(0) if table.num_rows else None
    tasks = () if column is None else tuple(column.dictionary.to_pylist())
    columns: dict[str, Any] = {name: table.column(name) for name in table.column_names if name not in ("task", "grid")}
    columns = {name: values.to_numpy().copy() for name, values in columns.items()}
    columns["task"] = np.zeros(0, np.int32) if column is None else column.indices.to_numpy().copy()
    columns["grid"] = _numbers_of(table.column("grid"), grids)
    return tasks, kind(**columns)


def _numbers_of(ids: pa.ChunkedArray, grids: Grids) -> NDArray[np.int32]:
    """Return the grid numbers of grid IDs; NO_GRID for null."""
    order = np.argsort(grids.ids)
    queries = ids.fill_null(0).to_numpy()
    places = np.searchsorted(grids.ids[order], queries)
    # searchsorted returns len(ids) for an ID larger than all others, so one entry is appended to each array.
    numbers = np.append(order, 0)[places].astype(np.int32)
    missing = np.append(grids.ids, np.uint64(0))[numbers] != queries
    valid = ~ids.is_null().to_numpy()
    if (missing & valid).any():
        raise UserError("a prediction refers to a grid that is not in grids.parquet: run the predict stage again")
    return np.where(valid, numbers, np.int32(NO_GRID)).astype(np.int32)


def read_shards(folder: Path, tasks: Sequence[str], metadata: dict[str, Any]) -> Predictions | None:
    """Read the complete shards of an unfinished prediction stage.

    Args:
        folder: the folder with the shards.
        tasks: the task IDs that the shards were written with, in the order of the puzzle set.
        metadata: metadata of the returned predictions.

    Returns:
        The predictions of all shards that can be read; None if there are none.
    """
    shards = [shard for number in sorted(find_shards(folder)) if (shard := _read_shard(folder, number, tasks))]
    if not shards:
        return None
    grids, numbers = join_grids([shard.grids for shard in shards])
    rows = PredictionRows.joined(
        [renumbered(shard.rows, number) for shard, number in zip(shards, numbers, strict=True)]
    )
    recursions = {
        (tasks[place], test): recursion for shard in shards for (place, test), recursion in shard.recursions.items()
    }
    return Predictions(metadata, tuple(tasks), rows, grids, recursions)


def _read_shard(folder: Path, number: int, tasks: Sequence[str]) -> Shard | None:
    """Return one shard; None if it is damaged, or if another process has joined and removed it in the meantime."""
    try:
        return read_shard(folder, number, tasks)
    except (OSError, ValueError, KeyError):
        return None
