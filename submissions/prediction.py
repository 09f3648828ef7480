"""What the model answered: one grid per test input and augmentation, back in the task's own frame.

In: the rows made by the prediction stage. Out: a folder with `predictions.parquet` (a row each, in the order
first seen) and `predictions.json` (where they came from), and the same rows read back.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from augment.folder import new_folder, seal, unseal
from augment.grid import Grid

FORMAT = 1
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

    @property
    def trained_on(self) -> list[str] | None:
        """Tasks answered whose test outputs the model was trained on; None where that is not known."""
        found = self.metadata.get("trained_on")
        return found if found or self.metadata.get("training_known") else None


def write_predictions(folder: str | Path, predictions: Predictions, replace: bool = False) -> None:
    """Write a predictions folder, whole or not at all. ValueError if `folder` exists and is not to be replaced."""
    rows = predictions.rows
    with new_folder(Path(folder), replace) as unfinished:
        pq.write_table(_to_table(rows), unfinished / TABLE_FILE, compression="zstd")
        about = {
            "format": FORMAT,
            "rows": len(rows),
            "tasks": len({row.task for row in rows}),
            "empty": sum(row.grid is None for row in rows),
            "metadata": predictions.metadata,
        }
        seal(unfinished, METADATA_FILE, about)


def read_predictions(folder: str | Path) -> Predictions:
    """Read a predictions folder. ValueError names a file that is missing, altered or of another format."""
    about = unseal(Path(folder) / METADATA_FILE, "predictions folder", FORMAT, "run the predict stage again")
    return Predictions(about["metadata"], _from_table(pq.read_table(Path(folder) / TABLE_FILE)))


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
