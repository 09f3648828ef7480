"""Convert predictions to Parquet tables and back, with all values checked when a table is read.

On disk, tasks and grids are stored as IDs, and in memory as numbers.
"""

from collections.abc import Sequence, Set
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from augment.schema import read_table, refuse
from submissions import grid_table
from submissions.grid_table import Grids
from submissions.prediction_schema import FIX, check_contents, check_grids, check_recursions, check_repeated, check_rows
from submissions.predictions import _PREDICTION_TYPES, _SCORE_TYPES, NO_GRID, PredictionRows, Shard
from submissions.recursion_trace import RECURSIONS, Recursion, read_recursion_table

PARQUET_OPTIONS = {"use_dictionary": ["task"], "write_statistics": False}
"""Options of the Parquet writer. Only tasks use a dictionary: other values rarely repeat, and searching for repetitions
takes longer than all other work."""


def rows_schema(types: dict[str, type]) -> pa.Schema:
    """Return the schema on disk, where tasks and grids are stored as IDs; the ID of NO_GRID is null."""
    id_types = {"task": pa.dictionary(pa.int32(), pa.string()), "grid": pa.uint64()}
    kinds = {name: id_types.get(name, pa.from_numpy_dtype(kind)) for name, kind in types.items()}
    return pa.schema([pa.field(name, kind, nullable=name == "grid") for name, kind in kinds.items()])


def read_grids(file: Path, count: int | None = None) -> Grids:
    """Read and check a table of grids; `count` is the number that another file states."""
    table = read_table(file, grid_table.SCHEMA, FIX, count)
    check_grids(file, table)
    grids = grid_table.from_columns(table)
    check_contents(file, grids)
    return grids


def read_rows(file: Path, grids: Grids, kind: Any, count: int | None = None) -> tuple[tuple[str, ...], Any]:
    """Read and check a table of rows; see `rows_of`."""
    return rows_of(file, read_row_table(file, kind, count), grids, kind)


def read_row_table(file: Path, kind: Any, count: int | None = None) -> pa.Table:
    """Read a table of rows, and check it without its grids."""
    schema = rows_schema(_PREDICTION_TYPES if kind is PredictionRows else _SCORE_TYPES)
    table = read_table(file, schema, FIX, count, nullable=True)
    check_rows(file, table)
    return table


def read_recursions(file: Path, again: Set[tuple[str, int]] = frozenset()) -> dict[tuple[str, int], Recursion]:
    """Read and check a table of recursion traces.

    Args:
        file: the table.
        again: the test inputs, by task ID and index, of a second pass, which have a second trace. The later one counts.
    """
    table = read_table(file, RECURSIONS, FIX)
    check_recursions(file, table)
    check_repeated(file, list(zip(table["task"].to_pylist(), table["test"].to_pylist(), strict=True)), again)
    return read_recursion_table(table)


def to_table(part: Shard, tasks: Sequence[str]) -> pa.Table:
    """Return the rows of a shard as a table with task IDs and grid IDs."""
    rows = part.rows
    schema = rows_schema(_PREDICTION_TYPES if isinstance(part.rows, PredictionRows) else _SCORE_TYPES)
    arrays = {name: pa.array(column) for name, column in vars(rows).items()}
    arrays["task"] = pa.DictionaryArray.from_arrays(pa.array(rows.task), pa.array(tasks, pa.string()))
    arrays["grid"] = pa.array(np.append(part.grids.ids, np.uint64(0))[rows.grid], mask=rows.grid == NO_GRID)
    return pa.table([arrays[name] for name in schema.names], schema=schema)


def rows_of(file: Path, table: pa.Table, grids: Grids, kind: Any) -> tuple[tuple[str, ...], Any]:
    """Return the IDs of the tasks in a table, and its rows as a `kind`, whose `task` is an index into these IDs."""
    table = table.unify_dictionaries().combine_chunks()
    column = table.column("task").chunk(0) if table.num_rows else None
    tasks = () if column is None else tuple(column.dictionary.to_pylist())
    columns: dict[str, Any] = {name: table.column(name) for name in table.column_names if name not in ("task", "grid")}
    columns = {name: values.to_numpy().copy() for name, values in columns.items()}
    columns["task"] = np.zeros(0, np.int32) if column is None else column.indices.to_numpy().copy()
    columns["grid"] = _numbers_of(file, table.column("grid"), grids)
    return tasks, kind(**columns)


def _numbers_of(file: Path, ids: pa.ChunkedArray, grids: Grids) -> NDArray[np.int32]:
    """Return the grid numbers of the grid IDs in a file; NO_GRID for null."""
    options = pc.SetLookupOptions(value_set=pa.array(grids.ids), skip_nulls=True)
    numbers = pc.call_function("index_in", [ids], options)
    if numbers.null_count > ids.null_count:
        refuse(file, "grid: an ID is not in the table of grids", FIX)
    return numbers.fill_null(NO_GRID).to_numpy().astype(np.int32)
