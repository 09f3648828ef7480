import json

import numpy as np
import pytest

from submissions.prediction import (
    METADATA_FILE,
    TABLE_FILE,
    Prediction,
    Predictions,
    read_predictions,
    write_predictions,
)

METADATA = {"source": "arc-agi-1/training", "augmentations": 8, "seeds": {3: "three", 12: "twelve"}}
ROWS = [
    Prediction("b", 1, "t3|||0981543267", np.array([[1, 2, 3]], np.uint8), -1.25),
    Prediction("a", 0, "t0|||0123456789", None, 4.0),
    Prediction("b", 0, "t0|||0123456789", np.array([[9], [0]], np.uint8), 1e-12),
]


@pytest.fixture
def folder(tmp_path):
    write_predictions(tmp_path / "predictions", Predictions(METADATA, ROWS))
    return tmp_path / "predictions"


def plain(rows):
    return [
        (
            row.task,
            row.test,
            row.augmentation,
            None if row.grid is None else row.grid.tolist(),
            row.halt_logit,
        )
        for row in rows
    ]


def test_what_is_written_is_read_in_the_same_order(folder):
    predictions = read_predictions(folder)
    assert plain(predictions.rows) == plain(ROWS)
    assert predictions.metadata == {**METADATA, "seeds": {"3": "three", "12": "twelve"}}


def test_no_predictions_can_be_written_and_read(tmp_path):
    write_predictions(tmp_path / "none", Predictions({}, []))
    assert read_predictions(tmp_path / "none").rows == []


def test_the_same_predictions_are_the_same_bytes(folder, tmp_path):
    write_predictions(tmp_path / "again", Predictions(METADATA, ROWS))
    for name in (TABLE_FILE, METADATA_FILE):
        assert (tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes()


def test_an_existing_folder_is_not_overwritten(folder):
    before = (folder / TABLE_FILE).read_bytes()
    with pytest.raises(ValueError, match="already exists"):
        write_predictions(folder, Predictions({}, []))
    assert (folder / TABLE_FILE).read_bytes() == before


def test_a_failed_write_leaves_nothing_behind(tmp_path):
    broken = Prediction("a", 2**40, "t0|||0123456789", None, 0.0)
    with pytest.raises(ValueError):
        write_predictions(tmp_path / "predictions", Predictions({}, [broken]))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", [TABLE_FILE, METADATA_FILE])
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(ValueError, match=name):
        read_predictions(folder)


@pytest.mark.parametrize("name", [TABLE_FILE, METADATA_FILE])
def test_a_truncated_file_is_named(folder, name):
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=rf"{name} .*altered.*run the predict stage again"):
        read_predictions(folder)


def test_an_altered_table_is_refused(folder):
    content = bytearray((folder / TABLE_FILE).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / TABLE_FILE).write_bytes(content)
    with pytest.raises(ValueError, match=f"{TABLE_FILE} .*altered"):
        read_predictions(folder)


def test_altered_metadata_are_refused(folder):
    described = json.loads((folder / METADATA_FILE).read_text())
    described["metadata"]["source"] = "arc-agi-2/evaluation"
    (folder / METADATA_FILE).write_text(json.dumps(described))
    with pytest.raises(ValueError, match=f"{METADATA_FILE} .*altered"):
        read_predictions(folder)


def test_another_format_is_refused(folder):
    (folder / METADATA_FILE).write_text(json.dumps({"format": 99, "sha256": ""}))
    with pytest.raises(ValueError, match="has format"):
        read_predictions(folder)
