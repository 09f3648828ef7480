"""Predictions that were altered and sealed again are refused with file and field."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from augment.errors import DamagedError
from submissions.grid_table import collect_grids, join_grids
from submissions.prediction_files import METADATA_FILE, join_shards, read_predictions, write_predictions
from submissions.predictions import Prediction, ScoreRows, Shard, make_predictions
from submissions.recursion_trace import Recursion
from tests.helpers.mutations import reseal

SAME = "t0|||0123456789"
ROWS = [
    Prediction("a", 0, SAME, np.array([[1, 2], [3, 4]], np.uint8), 1.0),
    Prediction("b", 1, SAME, np.array([[5]], np.uint8), 2.0),
    Prediction("b", 0, SAME, None, 3.0),
]
FRAMES = np.zeros((2, 3, 3), np.uint8)
MOVED = np.zeros((2, 4), np.float32)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    predictions = make_predictions({"sources": {"s": ["a", "b"]}, "step": 3}, ROWS)
    trace = Recursion(FRAMES, FRAMES, MOVED, MOVED, np.zeros(2, np.float32))
    predictions.recursions["a", 0] = trace
    zeros = np.zeros(2, np.int32)
    scores = ScoreRows(zeros, zeros, zeros.astype(np.uint32), zeros, np.array([-np.inf, -2.0], np.float32))
    write_predictions(tmp_path / "predictions", replace(predictions, scores=scores))
    return tmp_path / "predictions"


@pytest.mark.parametrize(
    ("name", "alter", "field"),
    [
        ("answers", lambda rows: rows[0].update(test=-1), "test: below 0"),
        ("answers", lambda rows: rows[1].update(augmentation=2_903_040), "augmentation: not 0 to 2903039"),
        ("answers", lambda rows: rows[1].update(grid=7), "grid: an ID is not in the table of grids"),
        ("answers", lambda rows: rows.pop(), "it has 2 rows, not 3"),
        ("grids", lambda rows: rows[0].update(height=3), "cells: not as many as height x width"),
        ("grids", lambda rows: rows[0].update(height=0, cells=b""), "height: not 1 to 30"),
        ("grids", lambda rows: rows[0].update(width=31, height=1, cells=bytes(31)), "width: not 1 to 30"),
        ("grids", lambda rows: rows[1].update(cells=bytes([10])), "a colour above 9"),
        ("grids", lambda rows: rows[1].update(id=rows[0]["id"]), "id: two grids have the same one"),
        ("answers", lambda rows: rows[0].update(log_prob=0.1), "row 0: log_prob: above 0"),
        ("answers", lambda rows: rows[1].update(log_prob=math.inf), "row 1: log_prob: above 0"),
        ("answers", lambda rows: rows[0].update(grid=None), "malformed: 1, but 2 predictions have no grid"),
        ("scores", lambda rows: rows[1].update(log_prob=5.0), "row 1: log_prob: above 0"),
        ("recursion", lambda rows: rows.append(rows[0]), "task: 'a' has 2 traces of test 0"),
        ("recursion", lambda rows: rows[0].update(answer=bytes(17) + b"\x0c"), "answer: a token above 11"),
        ("recursion", lambda rows: rows[0].update(reasoning=bytes(17) + b"\xff"), "reasoning: a token above 11"),
        ("recursion", lambda rows: rows[0].update(rows=2), "answer: not one frame for each supervision step"),
        ("recursion", lambda rows: rows[0].update(rows=0), "rows: 0"),
        ("recursion", lambda rows: rows[0].update(halting=[]), "halting: no supervision step"),
        ("recursion", lambda rows: rows[0].update(answer_moved=[0.0] * 7), "answer_moved: not as many"),
        ("recursion", lambda rows: rows[0].update(halting=[0.0, None]), "halting: a value is null"),
    ],
)
def test_altered_tables_are_refused(folder: Path, name: str, alter: Callable, field: str) -> None:
    file = folder / f"{name}.parquet"
    table = pq.read_table(file)
    rows = table.to_pylist()
    alter(rows)
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), file)
    reseal(folder / METADATA_FILE)
    with pytest.raises(DamagedError) as error:
        read_predictions(folder)
    assert field in str(error.value)
    assert str(folder) in str(error.value)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("answers", -1), ("malformed", 10**40), ("metadata", {"step": 10**30}), ("metadata", {"noise": math.nan}),
        ("metadata", {"augmentations": -1}), ("grids", 2.0), ("metadata", None), ("metadata", {"sources": {"s": [1]}}),
        ("metadata", {"trained_on": "a"}), ("metadata", {"step": "3"}), ("metadata", {"unknown": 1}), ("more", 1),
    ],
)  # fmt: skip
def test_altered_metadata_is_refused(folder: Path, field: str, value: Any) -> None:
    file = folder / METADATA_FILE
    file.write_text(json.dumps(json.loads(file.read_text()) | {field: value}))
    reseal(file, only_itself=True)
    with pytest.raises(DamagedError, match=rf"predictions\.json: {field}"):
        read_predictions(folder)


def test_values_that_overflow_or_are_unknown_are_read(folder: Path) -> None:
    read = read_predictions(folder)
    assert np.isnan(read.answers.log_prob).all()
    assert np.isnan(read.answers.value).all()
    assert read.scores is not None
    assert read.scores.log_prob.tolist() == [-math.inf, -2.0]


def test_a_second_pass_has_a_second_trace_which_counts(tmp_path: Path) -> None:
    rows = [*ROWS, replace(ROWS[0], board=True)]
    predictions = make_predictions({}, rows)
    traces = [Recursion(FRAMES + token, FRAMES, MOVED, MOVED, np.zeros(2, np.float32)) for token in range(2)]
    parts = [
        Shard(predictions.answers.take([row]), predictions.grids, {(0, 0): trace})
        for row, trace in zip((0, 3), traces, strict=True)
    ]
    join_shards(tmp_path / "two", parts, predictions.tasks, {})
    assert read_predictions(tmp_path / "two").recursions["a", 0].answer.max() == 1


def test_different_grids_with_one_id_are_not_joined() -> None:
    one, _ = collect_grids([np.array([[1, 2]], np.uint8)])
    other, _ = collect_grids([np.array([[3, 4]], np.uint8)])
    other.ids[:] = one.ids
    with pytest.raises(ValueError, match="same 64-bit ID"):
        join_grids([one, other])
