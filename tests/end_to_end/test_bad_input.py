"""Bad input: one message with file, task and fix, exit code 2, no traceback, nothing written."""

import json
from pathlib import Path
from typing import Any

import pytest

from augment import load_tasks
from pipeline.cli.main import main
from tests.helpers.commands import refuse

GOOD = {"train": [{"input": [[1]], "output": [[2]]}], "test": [{"input": [[3]], "output": [[4]]}]}


def write_folder(folder: Path, **tasks: Any) -> Path:
    folder.mkdir()
    for name, value in tasks.items():
        (folder / f"{name}.json").write_text(value if isinstance(value, str) else json.dumps(value))
    return folder


@pytest.mark.parametrize(
    ("task", "pattern"),
    [
        ('{"train": [', "line 1"),
        ("[]", "at least one pair"),
        ({"test": GOOD["test"]}, "train"),
        ({"train": GOOD["train"], "test": {}}, "test"),
        ({"train": [], "test": GOOD["test"]}, "train"),
        ({**GOOD, "train": [{"input": [[1]]}]}, "output"),
        ({**GOOD, "train": [{"input": [[1], [1, 2]], "output": [[1]]}]}, "row"),
        ({**GOOD, "train": [{"input": [], "output": [[1]]}]}, "input"),
        ({**GOOD, "train": [{"input": [[]], "output": [[1]]}]}, "input"),
        ({**GOOD, "train": [{"input": [[10]], "output": [[1]]}]}, "10"),
        ({**GOOD, "train": [{"input": [[-1]], "output": [[1]]}]}, "-1"),
        ({**GOOD, "train": [{"input": [[1.5]], "output": [[1]]}]}, "1.5"),
        ({**GOOD, "train": [{"input": [[True]], "output": [[1]]}]}, "(?i)true"),
    ],
)
def test_a_bad_task_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str], task: Any, pattern: str) -> None:
    folder = write_folder(tmp_path / "tasks", good=GOOD, broken=task)
    message = refuse(capsys, "tasks", folder)
    assert "broken" in message
    with pytest.raises(AssertionError, match=pattern):
        raise AssertionError(message)


def test_the_error_for_an_unknown_source_lists_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    assert "arc-agi-1/training" in refuse(capsys, "tasks", "arc-agi-1/trainig")


def test_an_unknown_task_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert "deadbeef" in refuse(capsys, "tasks", "arc-agi-1/training", "--tasks", "007bbfb7,deadbeef")


@pytest.mark.parametrize("change", ["missing", "fewer"])
def test_solutions_that_do_not_match_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: str
) -> None:
    hidden = {"train": GOOD["train"], "test": [{"input": [[3]]}]}
    solutions: dict[str, Any] = {"aaaa": [[[4]]], "bbbb": [[[4]]]}
    if change == "missing":
        del solutions["bbbb"]
    else:
        solutions["bbbb"] = []
    (tmp_path / "x_challenges.json").write_text(json.dumps({"aaaa": hidden, "bbbb": hidden}))
    (tmp_path / "x_solutions.json").write_text(json.dumps(solutions))
    message = refuse(capsys, "tasks", tmp_path / "x_challenges.json")
    assert "bbbb" in message
    assert "solutions" in message


def test_overlap_is_refused_and_each_pair_of_tasks_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sources = ("--score", "arc-agi-1/evaluation", "--train", "arc-agi-1/training")
    message = refuse(capsys, "build", *sources, "--out", tmp_path / "set")
    assert "2 tasks to be scored" in message
    assert "070dd51e = 40853293, 50a16a69 = caa06a1f" in message
    both = ("--score", "arc-agi-1/evaluation", "--train", "arc-agi-2/training")
    message = refuse(capsys, "build", *both, "--out", tmp_path / "set")
    assert "376 tasks to be scored" in message
    assert message.count(" = ") == 378, "377 pairs after the legend"
    assert "(by ID only)" not in message
    assert list(tmp_path.iterdir()) == []


SEVERAL = ("solve", "--recipe", "smoke", "--set", "ensemble=2", "--processes", "2")


def test_a_run_of_several_processes_refuses_before_it_writes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "arc-agi-1/training" in refuse(capsys, *SEVERAL, "arc-agi-1/trainig", "--run-dir", tmp_path / "run")
    assert "nobody" in refuse(capsys, *SEVERAL, "--set", "predict.ranker=nobody", "--run-dir", tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


def test_the_error_of_a_launched_process_is_printed_once(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The exit code is that of the process, and the launcher prints no message of its own."""
    overlap = ("arc-agi-1/evaluation", "--train", "arc-agi-1/training", "--set", "puzzles.on_leak=stop")
    message = refuse(capfd, *SEVERAL, *overlap, "--run-dir", tmp_path / "run")
    assert "070dd51e = 40853293" in message
    assert message.count("error:") == 1


def test_an_extension_takes_its_settings_from_the_old_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("build", "--score", "arc-agi-1/training", "--extend", tmp_path / "old", "--out", tmp_path / "new")
    assert "--board-side" in refuse(capsys, *words, "--board-side", "30")
    assert "old" in refuse(capsys, *words)


def test_nothing_that_exists_is_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_folder(tmp_path / "mine", a=GOOD)
    assert "mine" in refuse(capsys, "solve", "--recipe", "smoke", "--run-dir", folder)
    assert "mine" in refuse(capsys, "build", "--score", folder, "--out", folder)
    assert [path.name for path in folder.iterdir()] == ["a.json"]


@pytest.mark.parametrize(
    "entry",
    [
        [],
        [{"attempt_1": [[1]]}],
        [{"attempt_1": [[1]], "attempt_2": [[1], [1, 2]]}],
        [{"attempt_1": [[1]], "attempt_2": []}],
        [{"attempt_1": [[1]], "attempt_2": [[True]]}],
        [{"attempt_1": [[1]], "attempt_2": [[11]]}],
        [{"attempt_1": [[1]], "attempt_2": [[1.0]]}],
        [{"attempt_1": [[1]], "attempt_2": [[1]] * 31}],
    ],
)
def test_an_invalid_submission_names_the_task(tmp_path: Path, capsys: pytest.CaptureFixture[str], entry: Any) -> None:
    task = load_tasks("arc-agi-1/training")[0].id
    (tmp_path / "submission.json").write_text(json.dumps({task: entry}))
    message = refuse(capsys, "validate", tmp_path / "submission.json", "arc-agi-1/training", "--limit", "1")
    assert task in message


def test_missing_files_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    missing = tmp_path / "gone"
    for words in (
        ("validate", missing, "arc-agi-1/training"),
        ("score", missing, "arc-agi-1/training"),
        ("train", "--puzzles", missing, "--run-dir", tmp_path / "run"),
        ("predict", "--puzzles", missing, "--checkpoint", missing, "--out", tmp_path / "out"),
        ("vote", missing, "arc-agi-1/training", "--out", tmp_path / "out"),
        ("report", missing),
        ("convert", missing, "--out", tmp_path / "out"),
    ):
        assert "gone" in refuse(capsys, *words), words[0]
    assert list(tmp_path.iterdir()) == []


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="gone"):
        main(["report", str(tmp_path / "gone"), "--debug"])
