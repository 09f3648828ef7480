"""`score`, `validate` and `vote` on submissions as people have them."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from augment import Task
from tests.helpers.commands import refuse, run
from tests.helpers.sources import FIRST, SECOND, THIRD, write_source


def perfect(*tasks: Task) -> dict[str, Any]:
    return {
        task.id: [
            {"attempt_1": pair.output.tolist(), "attempt_2": [[0]]} for pair in task.tests if pair.output is not None
        ]
        for task in tasks
    }


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_source(tmp_path / "tasks", FIRST, SECOND)


def write(file: Path, value: Any, encoding: str = "utf-8") -> Path:
    file.write_bytes(json.dumps(value).encode(encoding))
    return file


def printed(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    capsys.readouterr()
    assert run(*arguments) == 0
    return " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
def test_a_submission_is_read_in_every_unicode_encoding(
    tmp_path: Path, source: Path, encoding: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(tmp_path / "s.json", perfect(FIRST, SECOND), encoding)
    assert "valid, 2 tasks" in printed(capsys, "validate", file, source)
    assert "pass@2 100.0%" in printed(capsys, "score", file, source)


def test_gaps_are_said_and_count_as_wrong(tmp_path: Path, source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    submission = perfect(FIRST, SECOND, THIRD)
    submission[FIRST.id][0] = {"attempt_1": None, "attempt_2": None}
    file = write(tmp_path / "s.json", submission)
    text = printed(capsys, "score", file, source)
    assert f"attempts in {file} are null or [] and count as wrong (first: task {FIRST.id}, entry 0, attempt_1)" in text
    assert (
        f"1 of 3 tasks in {file} are not among the selected ones of {source}: not scored (first: task {THIRD.id})"
        in text
    )
    assert "pass@2 50.0%" in text
    message = refuse(capsys, "validate", file, source)
    assert f"task {FIRST.id}, entry 0, attempt_1 is null" in message
    assert f"task {THIRD.id} is not in the source" in message


@pytest.mark.parametrize("broken", ["mine", "theirs"])
def test_the_file_of_two_that_is_broken_is_named(
    tmp_path: Path, source: Path, broken: str, capsys: pytest.CaptureFixture[str]
) -> None:
    files = {name: write(tmp_path / f"{name}.json", perfect(FIRST, SECOND)) for name in ("mine", "theirs")}
    submission = perfect(FIRST, SECOND)
    submission[SECOND.id][0]["attempt_2"] = [["3"]]
    write(files[broken], submission)
    message = refuse(capsys, "score", files["mine"], source, "--against", files["theirs"])
    assert message.startswith(f"error: {files[broken]} is not a valid submission")


def test_a_benchmarking_folder_is_scored_compared_and_validated(
    tmp_path: Path, source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "results"
    folder.mkdir()
    for name, entries in perfect(FIRST, SECOND).items():
        attempts = [
            {"attempt_1": {"answer": entry["attempt_1"], "metadata": {"pair_index": place}}, "attempt_2": None}
            for place, entry in enumerate(entries)
        ]
        write(folder / f"{name}.json", attempts)
    text = printed(capsys, "score", folder, source)
    assert f"attempts in {folder} are null or []" in text
    assert "pass@2 100.0%" in text
    other = write(tmp_path / "s.json", perfect(SECOND))
    assert "1 gained, 0 lost" in printed(capsys, "score", folder, source, "--against", other)
    assert "attempt_2 is null" in refuse(capsys, "validate", folder, source)
    assert "does not record its source" in refuse(capsys, "score", folder)
    assert "has no predictions to vote on" in refuse(capsys, "vote", folder, source, "--out", tmp_path / "out.json")
    assert "has no predictions to vote on" in refuse(capsys, "vote", other, source, "--out", tmp_path / "out.json")


def test_a_fifo_and_a_device_are_refused_at_once(
    tmp_path: Path, source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    for path, kind in ((fifo, "a FIFO"), (Path("/dev/zero"), "a device")):
        for command in ("score", "validate"):
            assert f"{path} is {kind}, not a file" in refuse(capsys, command, path, source)
