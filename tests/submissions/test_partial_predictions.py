"""Unfinished predictions: complete shards are read, damaged ones are skipped."""

from pathlib import Path

import numpy as np

from submissions.prediction_files import read_shards, write_shard
from submissions.predictions import Prediction, PredictionRows, Shard, make_predictions

TASKS = ("a", "b", "c")


def part(task: str, *colours: int) -> Shard:
    rows = [Prediction(task, 0, "t0|||0123456789", np.array([[colour]], np.uint8), 0.0) for colour in colours]
    predictions = make_predictions({}, rows)
    place = np.full(len(rows), TASKS.index(task), np.int32)
    return Shard(PredictionRows(**{**vars(predictions.answers), "task": place}), predictions.grids)


def test_the_complete_shards_are_joined(tmp_path: Path) -> None:
    assert read_shards(tmp_path, TASKS, {}) is None
    write_shard(tmp_path, 0, part("c", 3, 4), TASKS)
    write_shard(tmp_path, 2, part("a", 4, 5, 4), TASKS)
    predictions = read_shards(tmp_path, TASKS, {"step": 7})
    assert predictions is not None
    assert (predictions.tasks, predictions.metadata) == (TASKS, {"step": 7})
    assert [TASKS[task] for task in predictions.answers.task] == ["c", "c", "a", "a", "a"]
    assert [predictions.grids[number].item() for number in predictions.answers.grid] == [3, 4, 4, 5, 4]


def test_a_damaged_shard_is_skipped(tmp_path: Path) -> None:
    write_shard(tmp_path, 0, part("c", 3), TASKS)
    write_shard(tmp_path, 1, part("b", 4), TASKS)
    (tmp_path / "000000.answers.parquet").write_bytes(b"PAR1")
    (tmp_path / "000002.answers.parquet").write_bytes(b"")
    predictions = read_shards(tmp_path, TASKS, {})
    assert predictions is not None
    assert [predictions.grids[number].item() for number in predictions.answers.grid] == [4]
