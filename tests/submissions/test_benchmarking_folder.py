"""Folders of arc-agi-benchmarking: a file of attempts with metadata per task."""

import json
from pathlib import Path
from typing import Any

import pytest

from submissions.submission_file import read_submission
from submissions.submission_json import SubmissionError

NONE = {"attempt_1": None, "attempt_2": None}


def attempt(answer: Any, place: int | None = None) -> dict[str, Any]:
    metadata = {"model": "m"} if place is None else {"model": "m", "pair_index": place}
    return {"answer": answer, "metadata": metadata, "correct": None}


def write(folder: Path, entries: Any, name: str = "a.json") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(json.dumps(entries))
    return folder


def test_answers_are_read_from_every_file_of_a_task(tmp_path: Path) -> None:
    folder = write(tmp_path / "results", [{"attempt_1": attempt([[1]], 0), "attempt_2": None}])
    write(folder, [{"attempt_1": attempt("[[2, 3]]"), "attempt_2": attempt([])}], "b.json")
    write(folder, {"score": 0.5}, "results.json")
    (folder / "._a.json").write_bytes(b"\x00\x05\x16\x07")
    assert read_submission(folder) == {
        "a": [{"attempt_1": [[1]], "attempt_2": None}],
        "b": [{"attempt_1": [[2, 3]], "attempt_2": []}],
    }


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        # An entry that is left out, or has no attempts, leaves its place empty.
        ([{"attempt_1": attempt([[7]], 1)}], [NONE, {"attempt_1": [[7]]}]),
        ([{"attempt_1": attempt([[7]], 1)}, NONE], [NONE, {"attempt_1": [[7]]}]),
        ([NONE, {"attempt_1": attempt([[7]])}], [NONE, {"attempt_1": [[7]]}]),
        (
            [{"attempt_1": None, "attempt_2": attempt([[7]], 1)}, {"attempt_1": attempt([[8]], 0)}],
            [{"attempt_1": [[8]]}, {"attempt_1": None, "attempt_2": [[7]]}],
        ),
        ([], []),
    ],
)
def test_the_metadata_say_which_test_input_an_entry_is_for(tmp_path: Path, entries: Any, expected: Any) -> None:
    assert read_submission(write(tmp_path / "results", entries)) == {"a": expected}


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"a": []}, "is not a list with an entry per test input"),
        ([[[1]]], "entry 0 is not an object"),
        ([{"attempt_1": {"output": [[1]]}}], 'entry 0, attempt_1 has no "answer"'),
        ([{"attempt_1": attempt("I do not know")}], "the answer 'I do not know' is not a grid"),
        ([{"attempt_1": attempt([[1]], 10**9)}], "pair_index is 1000000000"),
        ([{"attempt_1": attempt([[1]], -1)}], "pair_index is -1"),
        ([{"attempt_1": attempt([[1]], 0), "attempt_2": attempt([[1]], 1)}], "entry 0: pair_index is 1"),
        ([{"attempt_1": attempt([[1]], 0)}, {"attempt_1": attempt([[1]], 0)}], "entry 1 is for pair_index 0"),
    ],
)
def test_another_form_is_refused_by_file_name(tmp_path: Path, entries: Any, message: str) -> None:
    folder = write(tmp_path / "results", entries)
    with pytest.raises(SubmissionError) as caught:
        read_submission(folder)
    assert str(caught.value).startswith(str(folder / "a.json"))
    assert message in str(caught.value)


def test_a_folder_without_tasks_and_a_single_task_are_named(tmp_path: Path) -> None:
    with pytest.raises(SubmissionError, match="is a folder without"):
        read_submission(tmp_path)
    folder = write(tmp_path / "results", [NONE])
    with pytest.raises(SubmissionError, match="give that folder"):
        read_submission(folder / "a.json")
