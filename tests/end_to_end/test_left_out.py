"""Commands say what they leave out of a source."""

import json
from pathlib import Path

import pytest

from augment import open_puzzle_set
from tests.helpers.commands import SMALL, refuse, run
from tests.helpers.sources import arc_task, write_json

GOOD = arc_task(1) | {"test": [{"input": [[1, 2]], "output": [[1]]}]}
TALL = arc_task(2) | {"test": [{"input": [[1]] * 33, "output": [[1]]}]}
BROKEN = arc_task(3) | {"train": [{"input": [[1], [2, 3]], "output": [[1]]}]}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a good and an oversize task, and the settings of an editor."""
    write_json(tmp_path / "set" / "good.json", GOOD)
    write_json(tmp_path / "set" / "tall.json", TALL)
    write_json(tmp_path / "set" / "settings.json", {"tabs": 2})
    return tmp_path / "set"


def test_tasks_and_build_say_it(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("tasks", folder) == 0
    assert f"left out of {folder}, 1 task, 1 file without a task: " in capsys.readouterr().out
    write_json(folder / "broken.json", BROKEN)
    assert "broken.json" in refuse(capsys, "tasks", folder)
    assert "broken.json" in refuse(capsys, "build", "--score", folder, "--out", tmp_path / "out")
    assert run("build", "--train", folder, "--augmentations", "0", "--out", tmp_path / "out") == 0
    assert "2 tasks, 1 file without a task: broken (train pair 0 input: row 1" in capsys.readouterr().out
    assert [task.id for task in open_puzzle_set(tmp_path / "out").tasks] == ["good"]


def test_solve_and_score_say_that_a_task_is_not_scored(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    solved = tmp_path / "run"
    assert run("solve", folder, "--recipe", "smoke", "--run-dir", solved, *SMALL) == 0
    line = f"left out of {folder} and not scored, 1 task, 1 file without a task: {folder}/settings.json"
    assert line in capsys.readouterr().out
    assert line in (solved / "log.txt").read_text()
    assert json.loads((solved / "score.json").read_text())["tasks"] == 1
    assert run("score", solved) == 0
    assert line in capsys.readouterr().out


def test_a_task_without_tests_is_not_scored(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_json(folder / "bare.json", {"train": GOOD["train"]})
    submission = write_json(tmp_path / "submission.json", {"good": [{"attempt_1": [[1]], "attempt_2": [[1]]}]})
    assert "task bare has no test input" in refuse(capsys, "build", "--score", folder, "--out", tmp_path / "out")
    assert "1 tasks (first: bare) have no test input to score" in refuse(capsys, "score", submission, folder)
