"""What the model answered: one grid per test input and augmentation, back in the task's own frame.

In: the rows made by the prediction stage. Out: a folder with `predictions.parquet` (a row each, in the order
first seen) and `predictions.json` (where they came from), and the same rows read back.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from augment.grid import Grid
from submissions.atomic import new_folder

FORMAT = "arc-trm predictions 1"
TABLE_FILE = "predictions.parquet"
METADATA_FILE = "predictions.json"
SCHEMA = pa.schema(
    [
        pa.field("task", pa.dictionary(pa.int32(), pa.string()), nullable=False),
        pa.field("test", pa.int32(), nullable=False),
        pa.field("augmentation", pa.string(), nullable=False),
        pa.field("height", pa.uint8(), nullable=False),
        pa.field("width", pa.uint8(), nullable=False),
        pa.field("cells", pa.binary()),
        pa.field("halt_logit", pa.float64(), nullable=False),
    ]
)


@dataclass(frozen=True, eq=False)
class Prediction:
    """One answer to test input number `test` (from 0) of a task, seen under the augmentation of that name.

    `grid` is None where the model's answer was empty or malformed; `halt_logit` is the halting head's output.
    """

    task: str
    test: int
    augmentation: str
    grid: Grid | None
    halt_logit: float


@dataclass(frozen=True, eq=False)
class Predictions:
    """All answers of a run, in the order first seen (it settles ties in a vote), and where they came from."""

    metadata: dict[str, Any]
    rows: list[Prediction]


def write_predictions(folder: str | Path, predictions: Predictions) -> None:
    """Write a new predictions folder, whole or not at all. ValueError if `folder` exists."""
    metadata = json.loads(json.dumps(predictions.metadata))
    with new_folder(Path(folder)) as unfinished:
        table_file = unfinished / TABLE_FILE
        pq.write_table(_to_table(predictions.rows), table_file, compression="zstd")
        described = {
            "format": FORMAT,
            "rows": len(predictions.rows),
            "tasks": len({row.task for row in predictions.rows}),
            "empty": sum(row.grid is None for row in predictions.rows),
            "metadata": metadata,
            "sha256": {TABLE_FILE: _sha256(table_file.read_bytes()), "metadata": _hash_metadata(metadata)},
        }
        (unfinished / METADATA_FILE).write_text(json.dumps(described, indent=2) + "\n", encoding="utf-8")


def read_predictions(folder: str | Path) -> Predictions:
    """Read a predictions folder. ValueError names a file that is missing, altered or of another format."""
    folder = Path(folder)
    described = _read_description(folder / METADATA_FILE)
    table_bytes = _read_bytes(folder / TABLE_FILE)
    if _sha256(table_bytes) != described["sha256"][TABLE_FILE]:
        raise _damaged(folder / TABLE_FILE, f"its checksum is not the one in {METADATA_FILE}")
    table = pq.read_table(pa.BufferReader(table_bytes))
    return Predictions(described["metadata"], _from_table(table))


def _to_table(rows: list[Prediction]) -> pa.Table:
    columns = {
        "task": [row.task for row in rows],
        "test": [row.test for row in rows],
        "augmentation": [row.augmentation for row in rows],
        "height": [0 if row.grid is None else row.grid.shape[0] for row in rows],
        "width": [0 if row.grid is None else row.grid.shape[1] for row in rows],
        "cells": [None if row.grid is None else row.grid.tobytes() for row in rows],
        "halt_logit": [row.halt_logit for row in rows],
    }
    return pa.table(columns, schema=SCHEMA)


def _from_table(table: pa.Table) -> list[Prediction]:
    columns = {name: table.column(name).to_pylist() for name in SCHEMA.names}
    return [
        Prediction(task, test, augmentation, _to_grid(cells, height, width), halt_logit)
        for task, test, augmentation, height, width, cells, halt_logit in zip(*columns.values(), strict=True)
    ]


def _to_grid(cells: bytes | None, height: int, width: int) -> Grid | None:
    return None if cells is None else np.frombuffer(cells, dtype=np.uint8).reshape(height, width)


def _read_description(file: Path) -> dict[str, Any]:
    try:
        described = json.loads(_read_bytes(file))
    except ValueError as error:
        raise _damaged(file, f"it is not JSON ({error})") from error
    if not isinstance(described, dict) or described.get("format") != FORMAT:
        raise ValueError(f"{file} is not of the format '{FORMAT}': give a folder that this version wrote")
    if described["sha256"]["metadata"] != _hash_metadata(described["metadata"]):
        raise _damaged(file, "its metadata do not have the checksum noted beside them")
    return described


def _read_bytes(file: Path) -> bytes:
    if not file.is_file():
        raise ValueError(f"{file} does not exist: give a folder with {TABLE_FILE} and {METADATA_FILE}")
    return file.read_bytes()


def _damaged(file: Path, why: str) -> ValueError:
    return ValueError(f"{file} is damaged or was altered, {why}: run the predict stage again")


def _hash_metadata(metadata: Any) -> str:
    return _sha256(json.dumps(metadata, sort_keys=True).encode())


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
