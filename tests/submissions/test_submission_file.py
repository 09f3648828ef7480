import json

import numpy as np
import pytest

from augment.task import Pair, Task
from submissions.submission_file import (
    PLACEHOLDER,
    check_grids,
    make_submission,
    placeholder_submission,
    read_submission,
    validate_submission,
    write_submission,
)
from submissions.submission_json import SubmissionError
from submissions.vote import Candidate

CELL = np.array([[1]], np.uint8)
TASKS = [
    Task(name, (Pair(CELL, CELL),), tuple(Pair(CELL, None) for _ in range(tests)))
    for name, tests in (("b", 2), ("a", 1))
]


def candidate(colour: int) -> Candidate:
    return Candidate(np.full((1, 2), colour, np.uint8), 1, 0.5)


def entry(first: object = PLACEHOLDER, second: object = PLACEHOLDER) -> dict:
    return {"attempt_1": first, "attempt_2": second}


def broken(**changes) -> dict:
    return {"a": [entry()], "b": [entry(), entry()], **changes}


def test_the_first_two_candidates_are_the_attempts():
    ballot = {"a": [[candidate(3), candidate(1), candidate(2)]], "b": [[candidate(7)], []]}
    assert make_submission(ballot, TASKS) == {
        "a": [entry([[3, 3]], [[1, 1]])],
        "b": [entry([[7, 7]], [[7, 7]]), entry()],
    }


def test_the_placeholder_submission_is_complete_and_valid():
    submission = placeholder_submission(TASKS)
    assert submission == {"a": [entry()], "b": [entry(), entry()]}
    assert validate_submission(submission, TASKS) == (2, 3)


def test_a_written_submission_is_sorted_plain_json_and_reads_back(tmp_path):
    path = tmp_path / "run" / "submission.json"
    submission = make_submission({"a": [[candidate(3)]]}, TASKS)
    write_submission(path, submission)
    assert path.read_text() == json.dumps(submission, sort_keys=True)
    assert read_submission(path) == submission
    assert [file.name for file in path.parent.iterdir()] == ["submission.json"]


def test_a_malformed_submission_never_replaces_a_good_one(tmp_path):
    path = tmp_path / "submission.json"
    write_submission(path, placeholder_submission(TASKS))
    with pytest.raises(SubmissionError, match=r"attempt_1 is \[\]: give a grid"):
        write_submission(path, {"a": [entry([])]})
    assert read_submission(path) == placeholder_submission(TASKS)


@pytest.mark.parametrize(
    ("submission", "message"),
    [
        ({"a": [entry()]}, "task b is missing"),
        (broken(c=[entry()]), "task c is not in the source"),
        (broken(b=[entry()]), "task b has 1 entries: give one per test input (2)"),
        (broken(b=[entry()] * 3), "task b has 3 entries"),
        (broken(a={"attempt_1": PLACEHOLDER}), "task a is not a list"),
        (broken(a=[PLACEHOLDER]), "task a, entry 0 is not an object"),
        (broken(a=[{"attempt_1": PLACEHOLDER}]), "task a, entry 0: attempt_2 is missing"),
        (broken(a=[entry() | {"attempt_3": PLACEHOLDER}]), "attempt_3 is not an attempt"),
        (broken(a=[entry([])]), "task a, entry 0, attempt_1"),
        (broken(a=[entry([[]])]), "task a, entry 0, attempt_1"),
        (broken(a=[entry(PLACEHOLDER, None)]), "task a, entry 0, attempt_2 is null: give a grid"),
        (broken(a=[entry(PLACEHOLDER, [[1, 2], [3]])]), "task a, entry 0, attempt_2: row 1"),
        (broken(b=[entry(), entry([[10]])]), "task b, entry 1, attempt_1: row 0, column 0 is 10"),
        (broken(a=[entry([[-1]])]), "is -1"),
        (broken(a=[entry([[1.0]])]), "is 1.0"),
        (broken(a=[entry([[True]])]), "is True"),
        (broken(a=[entry([["1"]])]), "is '1'"),
        (broken(a=[entry([[0] * 31])]), "1 x 31"),
        (broken(a=[entry([[0]] * 31)]), "31 x 1"),
    ],
)
def test_each_broken_rule_is_named_with_its_task(submission, message):
    with pytest.raises(SubmissionError) as caught:
        validate_submission(submission, TASKS, "runs/x/submission.json")
    assert str(caught.value).startswith("runs/x/submission.json is not a valid submission, 1 problem:")
    assert message in str(caught.value)


def test_the_largest_grid_is_valid():
    assert validate_submission(broken(a=[entry([[9] * 30] * 30)]), TASKS) == (2, 3)


def test_all_problems_are_counted_and_the_first_ten_shown():
    with pytest.raises(SubmissionError) as caught:
        validate_submission(broken(a=[entry([[99]], [])], **{f"x{n:02}": [entry()] for n in range(10)}), TASKS)
    lines = str(caught.value).splitlines()
    assert "12 problems" in lines[0]
    assert len(lines) == 12
    assert lines[-1].strip() == "and 2 more"


def test_check_grids_accepts_an_incomplete_submission_but_no_malformed_entry():
    check_grids({"a": []})
    check_grids({"a": [{"attempt_1": PLACEHOLDER}]})
    check_grids({"a": [entry(None, [])]})
    with pytest.raises(SubmissionError):
        check_grids({"a": [{"attempt_1": [[11]]}]})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": [\n{"attempt_1": [[0]],}]}', r"line 2, column \d+"),
        ('{"a": [', "line 1"),
        ("[1]", "not an object"),
        ('{"a": [], "b": [], "a": []}', "the key a occurs more than once"),
        ("[" * 100_000, "recursion"),
    ],
)
def test_a_file_that_is_no_submission_is_named(tmp_path, text, message):
    path = tmp_path / "submission.json"
    path.write_text(text)
    with pytest.raises(SubmissionError, match=message) as caught:
        read_submission(path)
    assert str(path) in str(caught.value)


def test_a_file_that_is_missing_or_not_text_is_named(tmp_path):
    with pytest.raises(SubmissionError, match=r"none\.json cannot be read"):
        read_submission(tmp_path / "none.json")
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SubmissionError, match=r"binary\.json is not a submission"):
        read_submission(tmp_path / "binary.json")
