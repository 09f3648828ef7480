"""Load partly broken sources: readable tasks are returned, and unreadable ones are listed."""

import json
from pathlib import Path
from typing import Any

import pytest

from augment import Selection, load_tasks
from augment.sources.lenient import load_readable_tasks

PAIR = {"input": [[1, 2]], "output": [[2, 1]]}
GOOD = {"train": [PAIR], "test": [{"input": [[3]]}]}


def write(folder: Path, challenges: Any, name: str = "arc-agi_test_challenges.json") -> Path:
    file = folder / name
    file.write_text(challenges if isinstance(challenges, str) else json.dumps(challenges))
    return file


def test_an_intact_source_loads_as_with_load_tasks() -> None:
    selection = Selection(max_side=3, limit=2)
    tasks, unread = load_readable_tasks("arc-agi-1/training", selection)
    assert [task.id for task in tasks] == [task.id for task in load_tasks("arc-agi-1/training", selection)]
    assert unread == []


@pytest.mark.parametrize(
    ("broken", "tests"),
    [
        ({"train": [PAIR], "test": [{"input": [[1], [1, 2]]}, {"input": [[1]]}]}, 2),
        ({"train": [{"input": [[10]], "output": [[1]]}], "test": [{"input": [[1]]}]}, 1),
        ({"train": [], "test": []}, 1),
        ({"train": [PAIR]}, 1),
        (None, 1),
        ([1, 2], 1),
        ("task", 1),
    ],
)
def test_the_other_tasks_of_a_source_with_a_malformed_task_are_loaded(tmp_path: Path, broken: Any, tests: int) -> None:
    file = write(tmp_path, {"aaaa": GOOD, "bbbb": broken, "cccc": GOOD})
    tasks, unread = load_readable_tasks(file)
    assert [task.id for task in tasks] == ["aaaa", "cccc"]
    assert [(task.task, task.tests) for task in unread] == [("bbbb", tests)]
    assert "bbbb" in unread[0].why
    with pytest.raises(ValueError, match="bbbb"):
        load_tasks(file)


def test_a_selection_by_size_excludes_unreadable_tasks(tmp_path: Path) -> None:
    file = write(tmp_path, {"aaaa": GOOD, "bbbb": {}, "cccc": GOOD})
    assert load_readable_tasks(file, Selection(limit=1))[1] == []
    assert [task.task for task in load_readable_tasks(file, Selection(tasks=("aaaa",)))[1]] == []


def test_an_unreadable_task_may_be_selected_by_id(tmp_path: Path) -> None:
    file = write(tmp_path, {"aaaa": GOOD, "bbbb": {}})
    for names, readable in ((("aaaa", "bbbb"), ["aaaa"]), (("bbbb",), [])):
        tasks, unread = load_readable_tasks(file, Selection(tasks=names))
        assert ([task.id for task in tasks], [task.task for task in unread]) == (readable, ["bbbb"])
    with pytest.raises(ValueError, match="no task dddd"):
        load_readable_tasks(file, Selection(tasks=("dddd", "bbbb")))


def test_solutions_of_the_readable_tasks_are_used(tmp_path: Path) -> None:
    file = write(tmp_path, {"aaaa": GOOD, "bbbb": {}})
    write(tmp_path, {"aaaa": [[[5]]], "bbbb": [[[5]]]}, "arc-agi_test_solutions.json")
    (task,), _ = load_readable_tasks(file)
    assert task.has_solutions
    write(tmp_path, "no json", "arc-agi_test_solutions.json")
    (task,), _ = load_readable_tasks(file)
    assert not task.has_solutions


def test_without_valid_json_the_sample_submission_lists_the_tasks(tmp_path: Path) -> None:
    file = write(tmp_path, json.dumps({"aaaa": GOOD})[:-9])
    with pytest.raises(ValueError, match="not JSON"):
        load_readable_tasks(file)
    entry = {"attempt_1": [[0, 0], [0, 0]], "attempt_2": [[0, 0], [0, 0]]}
    write(tmp_path, {"aaaa": [entry], "bbbb": [entry, entry]}, "sample_submission.json")
    tasks, unread = load_readable_tasks(file)
    assert tasks == []
    assert [(task.task, task.tests) for task in unread] == [("aaaa", 1), ("bbbb", 2)]


def test_a_missing_or_empty_source_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no source"):
        load_readable_tasks(tmp_path / "nothing.json")
    with pytest.raises(ValueError, match="at least one task"):
        load_readable_tasks(write(tmp_path, {}))
