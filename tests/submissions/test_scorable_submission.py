"""What a score makes of an incomplete submission."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from augment.task import Pair, Task
from submissions.scorable_submission import describe_gaps, select_scorable
from submissions.score import score_submission
from submissions.submission_json import SubmissionError

CELL = np.array([[1]], np.uint8)
RIGHT = {"attempt_1": [[1]], "attempt_2": [[0]]}
TASKS = [
    Task(name, (Pair(CELL, CELL),), tuple(Pair(CELL, CELL) for _ in range(tests)))
    for name, tests in (("a", 1), ("b", 2))
]
FILE = Path("mine.json")


def test_a_whole_submission_has_no_gaps() -> None:
    whole = {"a": [RIGHT], "b": [RIGHT, RIGHT]}
    assert select_scorable(whole, TASKS, "here", FILE) == whole
    assert describe_gaps(whole, TASKS, "here", FILE) == []


@pytest.mark.parametrize(
    ("submission", "micro", "line"),
    [
        (
            {"a": [{"attempt_1": None, "attempt_2": [[1]]}], "b": [RIGHT, {"attempt_1": [], "attempt_2": None}]},
            2 / 3,
            "3 of 6 attempts in mine.json are null or [] and count as wrong (first: task a, entry 0, attempt_1)",
        ),
        (
            {"a": [RIGHT], "b": [RIGHT, {"attempt_2": [[0]]}]},
            2 / 3,
            "1 of 6 attempts are missing in entries of mine.json and count as wrong "
            "(first: task b, entry 1, attempt_1)",
        ),
        (
            {"a": [RIGHT], "b": [RIGHT]},
            2 / 3,
            "1 of 3 test inputs have no entry in mine.json and count as wrong (first: task b, entry 1)",
        ),
        ({"b": [RIGHT, RIGHT]}, 2 / 3, "1 of 2 tasks are not in mine.json and count as wrong (first: a)"),
        (
            {"a": [RIGHT | {"attempt_3": [[1]]}], "b": [RIGHT, RIGHT]},
            1,
            "1 of 3 entries of mine.json have other names than attempt_1 and attempt_2: not scored "
            "(first: task a, entry 0: attempt_3)",
        ),
        (
            {"a": [RIGHT], "b": [RIGHT, RIGHT], "x\n": [RIGHT]},
            1,
            r"1 of 3 tasks in mine.json are not among the selected ones of here: not scored (first: task x\n)",
        ),
    ],
)
def test_each_gap_is_said_and_counts_as_wrong(submission: Any, micro: float, line: str) -> None:
    assert describe_gaps(submission, TASKS, "here", FILE) == [line]
    assert score_submission(submission, TASKS, "here").pass_2.micro == pytest.approx(micro)


@pytest.mark.parametrize(
    ("submission", "message"),
    [
        ({"x": [RIGHT]}, "has none of the selected tasks of here"),
        ({"a": [{"output_1": [[1]]}], "b": [{"ATTEMPT_1": [[1]]}]}, "the names are output_1, ATTEMPT_1"),
        ({"a": [{}]}, "no entry has attempt_1 or attempt_2; the names are none"),
        ({"a": [RIGHT, RIGHT]}, "task a has 2 entries for 1 test inputs"),
        ({"a": [[[1]]]}, "task a, entry 0 is not an object"),
        ({"a": {"train": [], "test": []}}, "task a is not a list of entries"),
        ({"b": [RIGHT, {"attempt_1": [[2.0]]}]}, "task b, entry 1, attempt_1: row 0, column 0 is 2.0"),
    ],
)
def test_what_is_no_submission_of_these_tasks_is_refused_by_file_name(submission: Any, message: str) -> None:
    with pytest.raises(SubmissionError) as caught:
        select_scorable(submission, TASKS, "here", FILE)
    assert str(caught.value).startswith("mine.json")
    assert message in str(caught.value)
