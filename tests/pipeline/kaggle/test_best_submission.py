"""The best submission so far: it only gets better, and it is whole at any time."""

import json
from pathlib import Path

import numpy as np
import pytest

from augment import Pair, Task
from augment.sources.lenient import UnreadableTask
from pipeline.kaggle import best_submission as standing
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
def begun(tmp_path: Path) -> BestSubmission:
    said: list[str] = []
    made = BestSubmission(
        [task("a", 2), task("b", 1)],
        [UnreadableTask("c", 3, "no task")],
        [tmp_path / "s.json", tmp_path / "t.json"],
        said.append,
    )
    made.begin()
    made.said = said  # type: ignore[attr-defined]
    return made


def test_the_filler_covers_everything_in_every_file(begun: BestSubmission) -> None:
    for file in begun.files:
        found = read_submission(file)
        assert {name: len(entries) for name, entries in found.items()} == {"a": 2, "b": 1, "c": 3}
    assert begun.is_valid()
    assert (begun.answered, begun.inputs) == (0, 6)


def test_an_answer_stays_until_as_many_votes_are_in(begun: BestSubmission) -> None:
    begun.improve({"a": [candidates(3, 4), []], "b": [candidates(4, 4)]})
    assert begun.answered == 2
    begun.improve({"a": [candidates(5, 3), candidates(6, 1)], "b": [candidates(7, 4)]})
    found = read_submission(begun.files[1])
    assert [entry["attempt_1"] for entry in found["a"]] == [[[3]], [[6]]]
    assert found["b"][0]["attempt_1"] == [[7]]
    assert found["c"][0]["attempt_1"] == [[0]]


def test_a_pass_that_is_done_replaces_one_with_more_votes(begun: BestSubmission) -> None:
    begun.improve({"a": [candidates(3, 4), candidates(3, 4)], "b": [candidates(4, 4)]})
    begun.improve({"a": [candidates(5, 1), []], "b": [candidates(7, 1)]}, complete=True)
    found = read_submission(begun.files[0])
    assert [entry["attempt_1"] for entry in found["a"]] == [[[5]], [[3]]]


def test_a_run_that_goes_on_keeps_what_it_had(begun: BestSubmission) -> None:
    begun.improve({"a": [candidates(3, 4), []], "b": [candidates(4, 4)]})
    again = BestSubmission(begun.tasks, [UnreadableTask("c", 3, "no task")], begun.files, print)
    again.begin()
    assert again.answered == 2
    again.improve({"b": [candidates(9, 100)]})
    assert again.submission["b"][0]["attempt_1"] == [[4]], "a part of a pass replaces no answers of a whole one"
    other = BestSubmission(begun.tasks, [], begun.files, print)  # another file was asked before
    other.begin()
    assert other.answered == 0


def test_a_file_that_cannot_be_written_keeps_what_it_held(
    begun: BestSubmission, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(standing, "write_submission", full)
    begun.improve({"b": [candidates(4, 4)]})
    begun.improve({"b": [candidates(5, 4)]})
    assert begun.is_valid()
    assert read_submission(begun.files[0])["b"][0]["attempt_1"] == [[0]]
    assert len(begun.said) == 2  # type: ignore[attr-defined]
    monkeypatch.undo()
    begun.write()
    assert read_submission(begun.files[0])["b"][0]["attempt_1"] == [[5]]


@pytest.mark.parametrize("content", [{"a": []}, {"id": 5}, {"a": [5, 6], "b": [7], "c": [1, 2, 3]}, []])
@pytest.mark.parametrize("place", [0, 1])
def test_what_others_write_there_is_not_valid(begun: BestSubmission, content: object, place: int) -> None:
    begun.files[place].write_text(json.dumps(content))
    assert not begun.is_valid()
    begun.begin()
    assert begun.is_valid()
