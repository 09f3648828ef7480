"""The option --tasks: IDs, and files of them."""

import os
from pathlib import Path

import pytest

from augment.errors import UserError
from pipeline.cli.task_ids import parse_task_ids
from tests.helpers.commands import refuse, run


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["a,b"], ("a", "b")),
        (["b a\n c,,d\r\ne\t"], ("b", "a", "c", "d", "e")),
        (["a", "b,a", " c "], ("a", "b", "c")),
        (["x" * 200 + "," + "y" * 200], ("x" * 200, "y" * 200)),
        (["1d_flip_1", "Center1"], ("1d_flip_1", "Center1")),
    ],
)
def test_commas_spaces_and_line_ends_separate_and_repeated_options_add(
    values: list[str], expected: tuple[str, ...]
) -> None:
    assert parse_task_ids(values) == expected


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("mark", ["", "@"])
def test_a_file_has_ids(tmp_path: Path, encoding: str, mark: str) -> None:
    file = tmp_path / "some tasks.txt"
    file.write_bytes("ä1\r\nb2\r\n\r\nc3".encode(encoding))
    assert parse_task_ids([f"{mark}{file}", "d4"]) == ("ä1", "b2", "c3", "d4")


def test_a_folder_with_the_name_of_a_task_is_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("aaaa").mkdir()
    assert parse_task_ids(["aaaa"]) == ("aaaa",)
    with pytest.raises(UserError, match="aaaa is a folder"):
        parse_task_ids(["@aaaa"])


@pytest.mark.parametrize("values", [[""], [" , "], ["", "\n"]])
def test_no_id_is_refused_instead_of_all_tasks(values: list[str]) -> None:
    with pytest.raises(UserError, match="--tasks: contains no task ID"):
        parse_task_ids(values)


def test_files_that_are_no_lists_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"gone.txt cannot be read"):
        parse_task_ids([f"@{tmp_path}/gone.txt"])
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(UserError, match="fifo is a FIFO"):
        parse_task_ids([str(tmp_path / "fifo")])
    for content, message in (
        (b" \n", "empty contains no task ID"),
        (b'{"a": 1}', "empty is JSON"),
        (b"\xff", "cannot be read"),
    ):
        (tmp_path / "empty").write_bytes(content)
        with pytest.raises(UserError, match=message):
            parse_task_ids([str(tmp_path / "empty")])


def test_the_option_of_a_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "list.txt"
    file.write_text("007bbfb7\n00d62c1b\n")
    assert run("tasks", "arc-agi-1/training", "--tasks", file, "--tasks", "017c7c7b") == 0
    assert "tasks                  3" in capsys.readouterr().out
    assert "no task ID" in refuse(capsys, "tasks", "arc-agi-1/training", "--tasks", "")
    file.write_text("007bbfb7\ndeadbeef\n")
    assert "has no task deadbeef" in refuse(capsys, "tasks", "arc-agi-1/training", "--tasks", file)
