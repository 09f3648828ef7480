"""The best submission so far: attempts are replaced by better ones only, and every file is valid at any time."""

import json
from pathlib import Path

import numpy as np
import pytest

from augment import Pair, Task
from augment.sources.lenient import UnreadableTask
from pipeline.kaggle import best_submission
from pipeline.kaggle.best_submission import BestSubmission
from submissions.submission_file import read_submission
from submissions.vote import Candidate


def grid(*rows: list[int]) -> np.ndarray:
    return np.array(rows, np.uint8)


def task(name: str, tests: int) -> Task:
    return Task(name, (Pair(grid([1]), grid([2])),), tuple(Pair(grid([n]), None) for n in range(tests)))


def candidates(colour: int, count: int) -> list[Candidate]:
    return [Candidate(grid([colour]), count, 0.5)]


@pytest.fixture
def best(tmp_path: Path) -> BestSubmission:
    incidents: list[str] = []
    submission = BestSubmission(
        [task("a", 2), task("b", 1)],
        [UnreadableTask("c", 3, "no task")],
        [tmp_path / "s.json", tmp_path / "t.json"],
        incidents.append,
    )
    submission.open()
    submission.incidents = incidents  # type: ignore[attr-defined]
    return submission


def test_the_placeholder_covers_everything_in_every_file(best: BestSubmission) -> None:
    for file in best.files:
        submission = read_submission(file)
        assert {name: len(entries) for name, entries in submission.items()} == {"a": 2, "b": 1, "c": 3}
    assert best.is_valid()
    assert (best.answered, best.inputs) == (0, 6)


def test_an_attempt_stays_until_there_are_as_many_votes(best: BestSubmission) -> None:
    best.update({"a": [candidates(3, 4), []], "b": [candidates(4, 4)]})
    assert best.answered == 2
    best.update({"a": [candidates(5, 3), candidates(6, 1)], "b": [candidates(7, 4)]})
    submission = read_submission(best.files[1])
    assert [entry["attempt_1"] for entry in submission["a"]] == [[[3]], [[6]]]
    assert submission["b"][0]["attempt_1"] == [[7]]
    assert submission["c"][0]["attempt_1"] == [[0]]


def test_a_complete_pass_replaces_one_with_more_votes(best: BestSubmission) -> None:
    best.update({"a": [candidates(3, 4), candidates(3, 4)], "b": [candidates(4, 4)]})
    best.update({"a": [candidates(5, 1), []], "b": [candidates(7, 1)]}, complete=True)
    submission = read_submission(best.files[0])
    assert [entry["attempt_1"] for entry in submission["a"]] == [[[5]], [[3]]]


def test_a_resumed_run_keeps_its_attempts(best: BestSubmission) -> None:
    best.update({"a": [candidates(3, 4), []], "b": [candidates(4, 4)]})
    again = BestSubmission(best.tasks, [UnreadableTask("c", 3, "no task")], best.files, print)
    again.open()
    assert again.answered == 2
    again.update({"b": [candidates(9, 100)]})
    assert again.submission["b"][0]["attempt_1"] == [[4]], "an incomplete pass replaces no attempts of a complete one"
    other = BestSubmission(best.tasks, [], best.files, print)  # the file has other tasks
    other.open()
    assert other.answered == 0


def test_a_file_that_cannot_be_written_keeps_its_content(best: BestSubmission, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(best_submission, "write_submission", full)
    best.update({"b": [candidates(4, 4)]})
    best.update({"b": [candidates(5, 4)]})
    assert best.is_valid()
    assert read_submission(best.files[0])["b"][0]["attempt_1"] == [[0]]
    assert len(best.incidents) == 2  # type: ignore[attr-defined]
    monkeypatch.undo()
    best.write()
    assert read_submission(best.files[0])["b"][0]["attempt_1"] == [[5]]


@pytest.mark.parametrize("content", [{"a": []}, {"id": 5}, {"a": [5, 6], "b": [7], "c": [1, 2, 3]}, []])
@pytest.mark.parametrize("place", [0, 1])
def test_an_altered_file_is_not_valid_and_is_replaced(best: BestSubmission, content: object, place: int) -> None:
    best.files[place].write_text(json.dumps(content))
    assert not best.is_valid()
    best.open()
    assert best.is_valid()
