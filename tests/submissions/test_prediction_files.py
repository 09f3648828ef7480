import json
import math
from dataclasses import fields, replace

import numpy as np
import pytest

from augment.leftovers import remove_leftovers
from submissions.prediction_files import (
    ANSWERS_FILE,
    GRIDS_FILE,
    METADATA_FILE,
    add_scores,
    find_shards,
    join_shards,
    read_predictions,
    read_shard,
    write_predictions,
    write_shard,
)
from submissions.predictions import (
    NO_GRID,
    Prediction,
    PredictionRows,
    Predictions,
    ScoreRows,
    Shard,
    current_predictions,
    make_predictions,
    merge_predictions,
)
from submissions.recursion_trace import Recursion
from tests.helpers.forked_kills import kill_everywhere

METADATA = {"recipe": "smoke", "augmentations": 8, "second_pass": {"a": [0], "b": [0, 1]}, "noise": 0.5}
SAME = "t0|||0123456789"
ROWS = [
    Prediction("b", 1, "t3|||0981543267", np.array([[1, 2, 3]], np.uint8), -1.25, -0.5, 0.75, step=4, trajectory=7),
    Prediction("a", 0, SAME, None, 4.0),
    Prediction("b", 0, SAME, np.array([[9], [0]], np.uint8), 1e-12, edge=True),
    Prediction("b", 1, SAME, np.array([[1, 2, 3]], np.uint8), 2.0, step=3, last=False),
]


@pytest.fixture
def folder(tmp_path):
    write_predictions(tmp_path / "predictions", make_predictions(METADATA, ROWS))
    return tmp_path / "predictions"


def plain(predictions: Predictions) -> list[tuple]:
    """Every prediction as a tuple of plain values, with its task ID and grid."""
    answers = predictions.answers
    tuples = []
    for row in range(len(answers)):
        values = {field.name: getattr(answers, field.name)[row].item() for field in fields(PredictionRows)}
        number = values.pop("grid")
        values["task"] = predictions.tasks[values["task"]]
        grid = None if number == NO_GRID else predictions.grids[number].tolist()
        tuples.append((grid, *("nan" if value != value else value for value in values.values())))
    return tuples


def plain_rows(rows: list[Prediction]) -> list[tuple]:
    return plain(make_predictions({}, rows))


def test_what_is_written_is_read_in_the_same_order(folder):
    predictions = read_predictions(folder)
    assert plain(predictions) == plain_rows(ROWS)
    first = plain(predictions)[0]
    assert first == ([[1, 2, 3]], "b", 1, 1446894, 7, 4, True, False, False, -0.5, -1.25, 0.75)
    assert predictions.metadata == METADATA


def test_a_repeated_grid_is_stored_once(folder):
    grids = read_predictions(folder).grids
    assert [grids[number].tolist() for number in range(len(grids))] == [[[1, 2, 3]], [[9], [0]]]


def test_no_predictions_can_be_written_and_read(tmp_path):
    write_predictions(tmp_path / "none", make_predictions({}, []))
    assert plain(read_predictions(tmp_path / "none")) == []


def test_the_same_predictions_are_the_same_bytes(folder, tmp_path):
    write_predictions(tmp_path / "again", make_predictions(METADATA, ROWS))
    for name in (ANSWERS_FILE, GRIDS_FILE, METADATA_FILE):
        assert (tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes()


def test_an_existing_folder_is_not_overwritten(folder):
    before = (folder / ANSWERS_FILE).read_bytes()
    with pytest.raises(ValueError, match="already exists"):
        write_predictions(folder, make_predictions({}, []))
    assert (folder / ANSWERS_FILE).read_bytes() == before


def test_a_failed_write_leaves_nothing_behind(tmp_path):
    whole = make_predictions({}, ROWS)
    broken = replace(whole, answers=replace(whole.answers, task=whole.answers.task + 100))
    with pytest.raises((ValueError, IndexError)):
        write_predictions(tmp_path / "predictions", broken)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", [ANSWERS_FILE, GRIDS_FILE, METADATA_FILE])
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(ValueError, match=name):
        read_predictions(folder)


@pytest.mark.parametrize("name", [ANSWERS_FILE, GRIDS_FILE, METADATA_FILE])
def test_a_truncated_file_is_named(folder, name):
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=rf"{name} .*altered.*run the predict stage again"):
        read_predictions(folder)


def test_an_altered_table_is_refused(folder):
    content = bytearray((folder / ANSWERS_FILE).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / ANSWERS_FILE).write_bytes(content)
    with pytest.raises(ValueError, match=f"{ANSWERS_FILE} .*altered"):
        read_predictions(folder)


def test_altered_metadata_are_refused(folder):
    description = json.loads((folder / METADATA_FILE).read_text())
    description["metadata"]["source"] = "arc-agi-2/evaluation"
    (folder / METADATA_FILE).write_text(json.dumps(description))
    with pytest.raises(ValueError, match=f"{METADATA_FILE} .*altered"):
        read_predictions(folder)


@pytest.mark.parametrize("version", [1, 99])
def test_another_format_is_refused(folder, version):
    (folder / METADATA_FILE).write_text(json.dumps({"format": version, "sha256": ""}))
    with pytest.raises(ValueError, match="has format"):
        read_predictions(folder)


def halves(predictions: Predictions) -> list[Shard]:
    return [Shard(predictions.answers.take(slice(*span)), predictions.grids) for span in ((0, 2), (2, None))]


def test_joined_parts_are_the_whole(folder, tmp_path):
    predictions = read_predictions(folder)
    parts = halves(predictions)
    join_shards(tmp_path / "joined", parts, predictions.tasks, METADATA)
    joined = read_predictions(tmp_path / "joined")
    assert plain(joined) == plain_rows(ROWS)
    assert len(joined.grids) == 2


def test_parts_are_kept_one_by_one(folder, tmp_path):
    predictions = read_predictions(folder)
    for number, part in enumerate(halves(predictions)):
        write_shard(tmp_path, 3 * number, part, predictions.tasks)
    assert find_shards(tmp_path) == {0, 3}
    assert find_shards(tmp_path, ScoreRows) == set()
    shards = [read_shard(tmp_path, number, predictions.tasks) for number in (0, 3)]
    join_shards(tmp_path / "joined", shards, predictions.tasks, {})
    assert plain(read_predictions(tmp_path / "joined")) == plain_rows(ROWS)


def test_a_part_that_lost_its_end_does_not_count(folder, tmp_path):
    predictions = read_predictions(folder)
    write_shard(tmp_path, 5, halves(predictions)[0], predictions.tasks)
    (tmp_path / "000005.answers.parquet").rename(tmp_path / "000005.answers.unfinished")
    assert find_shards(tmp_path) == set()


def test_recursions_and_scores_come_back(folder, tmp_path):
    trace = Recursion(np.arange(24, dtype=np.uint8).reshape(2, 3, 4) % 12, np.zeros((2, 3, 4), np.uint8),
                      np.arange(6, dtype=np.float32).reshape(2, 3), np.zeros((2, 0), np.float32),
                      np.arange(2, dtype=np.float32))  # fmt: skip
    predictions = replace(read_predictions(folder), recursions={("b", 1): trace})
    write_predictions(tmp_path / "shown", predictions)
    places = {task: place for place, task in enumerate(predictions.tasks)}
    rows = ScoreRows(np.array([places["b"]], np.int32), np.zeros(1, np.int32), np.array([5], np.uint32),
                  np.array([1], np.int32), np.array([-2.5], np.float32))  # fmt: skip
    add_scores(tmp_path / "shown", [Shard(rows, predictions.grids)], predictions.tasks)
    again = read_predictions(tmp_path / "shown")
    assert plain(again) == plain_rows(ROWS)
    ((key, trace_again),) = again.recursions.items()
    assert key == ("b", 1)
    names = [field.name for field in fields(Recursion)]
    assert all((getattr(trace_again, name) == getattr(trace, name)).all() for name in names)
    assert again.scores is not None
    assert again.tasks[again.scores.task[0]] == "b"
    assert again.grids[again.scores.grid[0]].tolist() == [[9], [0]]
    assert again.scores.log_prob.tolist() == [-2.5]


def test_a_kill_while_scores_are_added_leaves_the_old_ones_or_the_new(folder):
    predictions = read_predictions(folder)
    rows = ScoreRows(np.zeros(1, np.int32), np.zeros(1, np.int32), np.zeros(1, np.uint32), np.zeros(1, np.int32),
                  np.zeros(1, np.float32))  # fmt: skip
    old = Shard(rows, predictions.grids)
    new = replace(old, rows=replace(rows, log_prob=rows.log_prob - 1))
    add_scores(folder, [old], predictions.tasks)
    kills = 0
    for _ in kill_everywhere(lambda: add_scores(folder, [new], predictions.tasks)):
        kills += 1
        remove_leftovers(folder)
        again = read_predictions(folder)
        assert plain(again) == plain_rows(ROWS)
        assert again.scores is not None
        assert again.scores.log_prob.tolist() in ([0.0], [-1.0])
        assert list(folder.parent.iterdir()) == [folder]
        add_scores(folder, [old], predictions.tasks)
    assert kills > 5


def test_answers_of_the_whole_board_replace_those_of_the_canvas():
    cut, whole, other = np.ones((2, 2), np.uint8), np.ones((3, 3), np.uint8), np.zeros((1, 1), np.uint8)
    rows = [
        Prediction("a", 0, SAME, cut, 0.0, edge=True),
        Prediction("a", 1, SAME, other, 0.0),
        Prediction("a", 0, SAME, whole, 0.0, board=True),
    ]
    answers = current_predictions(make_predictions({}, rows).answers)
    assert list(zip(answers.test.tolist(), answers.board.tolist(), strict=True)) == [(1, False), (0, True)]


def test_merging_keeps_every_answer_and_says_what_was_merged():
    one = make_predictions({"sources": {"s": ["b", "a"]}, "trained_on": ["x"], "training_known": True}, ROWS[:2])
    other_rows = [Prediction("c", 0, SAME, np.array([[1, 2, 3]], np.uint8), 0.5), *ROWS[2:]]
    two = make_predictions({"sources": {"s": ["b", "c"]}, "trained_on": [], "training_known": False}, other_rows)
    both = merge_predictions({"one": one, "two": two})
    assert plain(both) == plain_rows(ROWS[:2]) + plain_rows(other_rows)
    assert len(both.grids) == 2
    assert both.merged == ("one", "two")
    assert both.metadata["sources"] == {"s": ["a", "b", "c"]}
    assert both.training.trained_on == ("x",)
    assert not both.metadata["training_known"]


def test_a_whole_board_prediction_of_one_model_keeps_those_of_the_other():
    one = make_predictions({}, [Prediction("a", 0, SAME, None, 0.0, board=True)])
    two = make_predictions({}, [Prediction("a", 0, SAME, np.ones((1, 1), np.uint8), 0.0)])
    merged = merge_predictions({"one": one, "two": two})
    assert len(merged.answers) == 2
    assert not merged.answers.board.any(), "each model has already replaced its own rows"


def test_malformed_is_the_share_of_last_answers_without_a_grid():
    rows = [*ROWS[:3], Prediction("a", 0, SAME, None, 0.0, step=1, last=False)]
    assert make_predictions({}, rows).malformed == 1 / 3
    assert make_predictions({}, []).malformed is None
    assert math.isnan(make_predictions({}, ROWS).answers.log_prob[1])
