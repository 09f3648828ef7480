"""Write and read the predictions folder, and the shards that the prediction stage writes before it.

The prediction stage produces shards one after the other, possibly in several processes. Each shard is stored in a
separate folder until all are joined, so that a killed stage can resume. Joining them writes a sealed folder:

    answers.parquet     one row per prediction; candidates that rank equal stay in this order
    grids.parquet       each different grid once
    recursion.parquet   for each test input, the latents as read by the output head after each supervision step
    scores.parquet      with rescoring: the log-probability of candidates under every augmentation
    predictions.json    metadata, and the SHA-256 of the files above
"""

import shutil
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from augment.schema import refuse
from augment.storage import add_path, new_folder, seal, sync, unseal
from submissions import grid_table
from submissions.grid_table import join_grids
from submissions.prediction_schema import FIX, PredictionsHeader, check_malformed
from submissions.prediction_tables import (
    PARQUET_OPTIONS,
    read_grids,
    read_recursions,
    read_row_table,
    read_rows,
    rows_of,
    rows_schema,
    to_table,
)
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
from submissions.recursion_trace import recursion_table

FORMAT = 3
ANSWERS_FILE = "answers.parquet"
GRIDS_FILE = "grids.parquet"
METADATA_FILE = "predictions.json"
RECURSION_FILE = "recursion.parquet"
SCORES_FILE = "scores.parquet"
NEEDED_FILES = (ANSWERS_FILE, GRIDS_FILE)


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
    """Add the rescoring to an existing predictions folder, which is replaced as a whole."""
    header = _unseal(folder)
    with new_folder(folder, replace=True) as unfinished:
        for name in header.files.keys() - {SCORES_FILE}:
            _link_or_copy(folder / name, unfinished / name)
        scores = pq.ParquetWriter(
            unfinished / SCORES_FILE, rows_schema(_SCORE_TYPES), compression="zstd", **PARQUET_OPTIONS
        )
        with scores as writer:
            for part in parts:
                writer.write_table(to_table(part, tasks))
        counts = header.model_dump(include={"format", "answers", "malformed", "grids"})
        seal(unfinished, METADATA_FILE, {**counts, "metadata": header.plain_metadata()})


def _link_or_copy(file: Path, place: Path) -> None:
    """Give a file a second name, which takes no space; a copy where the file system has no links."""
    try:
        place.hardlink_to(file)
    except OSError:
        shutil.copyfile(file, place)


def read_predictions(folder: str | Path) -> Predictions:
    """Read a predictions folder.

    Raises:
        ValueError: if a file is missing, altered or of another format version; the message names the file.
    """
    folder = Path(folder)
    header = _unseal(folder)
    # In a thread, because pyarrow unpacks tables without Python's lock.
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(read_grids, folder / GRIDS_FILE, header.grids)
        table = read_row_table(folder / ANSWERS_FILE, PredictionRows, header.answers)
        grids = reading.result()
    tasks, rows = rows_of(folder / ANSWERS_FILE, table, grids, PredictionRows)
    check_malformed(folder / METADATA_FILE, rows.grid, header.malformed)
    recursions = {}
    scores = None
    if RECURSION_FILE in header.files:
        recursions = read_recursions(folder / RECURSION_FILE, _find_second_pass(tasks, rows))
        if unknown := {task for task, _ in recursions} - set(tasks):
            refuse(folder / RECURSION_FILE, f"task: {min(unknown)!a:.100} has no prediction", FIX)
    if SCORES_FILE in header.files:
        score_tasks, scores = read_rows(folder / SCORES_FILE, grids, ScoreRows)
        # Each Parquet file has its own dictionary of tasks, so the task indices of the two must be aligned.
        tasks, (rows, scores) = _align_tasks([(tasks, rows), (score_tasks, scores)])
    return Predictions(header.plain_metadata(), tasks, rows, grids, recursions, scores)


def _find_second_pass(tasks: Sequence[str], rows: PredictionRows) -> set[tuple[str, int]]:
    """Return the test inputs, by task ID and index, that have predictions of a second pass."""
    rows = rows.take(rows.board)
    return {(tasks[int(task)], int(test)) for task, test in zip(rows.task, rows.test, strict=True)}


# A shard on disk consists of NUMBER.grids.parquet, optionally NUMBER.recursion.parquet, and then NUMBER.answers.parquet
# or NUMBER.scores.parquet. The last file is written last and marks the shard as complete.


def write_shard(folder: Path, number: int, part: Shard, tasks: Sequence[str]) -> None:
    """Write one shard atomically: if the process is killed, `find_shards` reports the whole shard or none of it."""
    tables = {"grids": grid_table.to_columns(part.grids), _name_of(type(part.rows)): to_table(part, tasks)}
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
    grids = read_grids(_shard_file(folder, number, "grids"))
    rows_file = _shard_file(folder, number, _name_of(kind))
    shard_tasks, rows = read_rows(rows_file, grids, kind)
    if strangers := set(shard_tasks) - set(tasks):
        refuse(rows_file, f"task: {min(strangers)!a:.100} is not predicted here", FIX)
    _, (rows,) = _align_tasks([(shard_tasks, rows)], tuple(tasks))
    recursion_file = _shard_file(folder, number, "recursion")
    recursions = read_recursions(recursion_file) if recursion_file.exists() else {}
    places = {task: place for place, task in enumerate(tasks)}
    if unknown := {task for task, _ in recursions} - places.keys():
        refuse(recursion_file, f"task: {min(unknown)!a:.100} is not predicted here", FIX)
    return Shard(rows, grids, {(places[task], test): recursion for (task, test), recursion in recursions.items()})


def find_shards(folder: Path, kind: type[PredictionRows] | type[ScoreRows] = PredictionRows) -> set[int]:
    """Return the numbers of the complete shards in a folder."""
    return {int(path.name.split(".")[0]) for path in folder.glob(f"*.{_name_of(kind)}.parquet")}


def _shard_file(folder: Path, number: int, name: str) -> Path:
    return folder / f"{number:06d}.{name}.parquet"


def _name_of(kind: type) -> str:
    return "answers" if kind is PredictionRows else "scores"


def _unseal(folder: Path) -> PredictionsHeader:
    return unseal(folder / METADATA_FILE, PredictionsHeader, "predictions folder", FORMAT, FIX, needed=NEEDED_FILES)


def _write_tables(folder: Path, parts: Iterable[Shard], tasks: Sequence[str]) -> dict[str, int]:
    """Write the Parquet files of a predictions folder; return the numbers of predictions, malformed ones and grids."""
    counts = {"answers": 0, "malformed": 0}
    written_ids = set[int]()
    recursions = []
    answers_writer = pq.ParquetWriter(
        folder / ANSWERS_FILE, rows_schema(_PREDICTION_TYPES), compression="zstd", **PARQUET_OPTIONS
    )
    grids_writer = pq.ParquetWriter(folder / GRIDS_FILE, grid_table.SCHEMA, compression="zstd", **PARQUET_OPTIONS)
    with answers_writer, grids_writer:
        for part in parts:
            ids = part.grids.ids.tolist()
            new_numbers = np.flatnonzero([grid_id not in written_ids for grid_id in ids])
            written_ids.update(ids)
            answers_writer.write_table(to_table(part, tasks))
            grids_writer.write_table(grid_table.to_columns(part.grids.take(new_numbers)))
            if part.recursions:
                recursions.append(recursion_table(part.recursions, tasks))
            counts["answers"] += len(part.rows)
            counts["malformed"] += int((part.rows.grid == NO_GRID).sum())
    if recursions:
        pq.write_table(pa.concat_tables(recursions), folder / RECURSION_FILE, compression="zstd")
    return counts | {"grids": len(written_ids)}


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
