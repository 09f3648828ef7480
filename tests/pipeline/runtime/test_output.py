"""Printing: any text to any terminal, and output that cannot be written never ends a run."""

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from rich.table import Table

from pipeline.cli.main import main
from pipeline.recipes.registry import recipe
from pipeline.runtime import events
from pipeline.runtime.console import Console
from pipeline.runtime.output import ERRORS, LossyFile, lost_output, printable, protect_output
from pipeline.runtime.progress import Progress
from pipeline.runtime.run_folder import RunFolder
from tests.helpers.commands import refuse, run
from tests.helpers.sources import FIRST, write_source

STRANGE = "a[/bold] [red]b[/] :bug: \x1b[31mc " + os.fsdecode(b"caf\xe9") + " größe"
"""Markup, an emoji code, a terminal's escape sequence, a byte that is not UTF-8, and an umlaut."""
SHOWN = r"a[/bold] [red]b[/] :bug: \x1b[31mc caf\udce9 größe"
SOLVE = ["solve", "--recipe", "smoke", "--set", "train.steps=2", "--set", "puzzles.augmentations=1"]


@pytest.fixture
def own_output(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., io.TextIOWrapper]]:
    """Make a file or descriptor the standard output of this process, as it is when a process starts."""
    with ExitStack() as streams:

        def replace(target: int | str, encoding: str = "utf-8") -> io.TextIOWrapper:
            stream = streams.enter_context(io.TextIOWrapper(io.BufferedWriter(io.FileIO(target, "w")), encoding))
            monkeypatch.setattr(sys, "stdout", stream)
            monkeypatch.setattr(sys, "__stdout__", stream)
            return stream

        yield replace
        sys.stdout.flush()


def closed_pipe() -> int:
    """The end for writing of a pipe that nobody reads."""
    reading, writing = os.pipe()
    os.close(reading)
    return writing


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("größe, 2 tasks", "größe, 2 tasks"),
        ("line\n\tnext", "line\n\tnext"),
        ("\x1b[2J\r\x00", r"\x1b[2J\r\x00"),
        (os.fsdecode(b"\xff"), r"\udcff"),
        ("\u2028\u202e", r"\u2028\u202e"),
    ],
)
def test_control_characters_become_escapes(text: str, shown: str) -> None:
    assert printable(text) == shown


@pytest.mark.parametrize(("encoding", "umlaut"), [("ascii", r"gr\xf6\xdfe"), ("cp1252", "größe"), ("utf-8", "größe")])
def test_a_character_that_the_terminal_lacks_becomes_an_escape(
    tmp_path: Path, own_output: Callable[..., io.TextIOWrapper], encoding: str, umlaut: str
) -> None:
    own_output(str(tmp_path / "out"), encoding)
    protect_output()
    Console().log("größe ∞")
    table = Table("größe", title="größe")
    table.add_row("größe ━")
    Console().show(table)
    print("größe")
    sys.stdout.flush()
    text = (tmp_path / "out").read_text(encoding=encoding)
    assert text.count(umlaut) == 5
    assert "∞" in text or r"\u221e" in text


def test_text_is_never_markup(capsys: pytest.CaptureFixture[str]) -> None:
    protect_output()
    console = Console()
    console.log(STRANGE)
    console.warn(STRANGE)
    console.fail(STRANGE)
    table = Table(STRANGE, title=STRANGE, box=None)
    table.add_row(STRANGE)
    table.caption = STRANGE
    console.show(table)
    assert capsys.readouterr().out.count(SHOWN) == 7


def test_a_progress_bar_shows_its_name_and_note_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    console = Console()
    console.screen.file = io.StringIO()
    console.screen.width = 200
    with Progress(console, "[/bold] train", 10) as progress:
        progress.advance(3, "[red]loss")
    text = console.screen.file.getvalue()
    assert "[/bold] train" in text
    assert "[red]loss" in text


@pytest.mark.parametrize("unbuffered", [False, True])
def test_a_closed_pipe_is_no_failure_and_a_full_disk_one(
    own_output: Callable[..., io.TextIOWrapper], unbuffered: bool
) -> None:
    for target, expected in ((closed_pipe(), None), ("/dev/full", "No space left on device")):
        stream = own_output(target)
        stream.reconfigure(write_through=unbuffered)
        protect_output()
        for _ in range(3):
            print("line " * 10_000, flush=True)
            Console().log("line")
        failure = lost_output()
        assert (failure and failure.strerror) == expected


def test_what_was_written_before_a_failure_stays(tmp_path: Path) -> None:
    file = LossyFile(os.open(tmp_path / "out", os.O_WRONLY | os.O_CREAT), "w", closefd=False)
    assert file.write(b"kept") == 4
    os.close(file.fileno())
    assert file.write(b"dropped") == 7
    assert file.failure is not None
    assert (tmp_path / "out").read_bytes() == b"kept"


def test_output_that_was_closed_at_the_start_is_the_null_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    protect_output()
    print("nobody reads this", flush=True)
    assert os.fstat(sys.stdout.fileno()).st_rdev == os.stat(os.devnull).st_rdev


def test_a_second_call_changes_nothing(
    tmp_path: Path, own_output: Callable[..., io.TextIOWrapper], monkeypatch: pytest.MonkeyPatch
) -> None:
    own_output(str(tmp_path / "out"))
    protect_output()
    first = sys.stdout
    monkeypatch.setattr(sys, "__stdout__", first)
    protect_output()
    assert sys.stdout is first
    assert first.errors == ERRORS


@pytest.mark.parametrize(("target", "code"), [("/dev/full", 11), ("pipe", 0)])
def test_a_command_whose_result_is_printed_fails_if_it_cannot_be(
    tmp_path: Path,
    own_output: Callable[..., io.TextIOWrapper],
    capfd: pytest.CaptureFixture[str],
    target: str,
    code: int,
) -> None:
    source = write_source(tmp_path / "[red]tasks", FIRST)
    own_output(closed_pipe() if target == "pipe" else target)
    assert run("tasks", source) == code
    assert ("could not be written" in capfd.readouterr().err) == bool(code)


def test_a_path_with_markup_and_a_newline_is_shown_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write_source(tmp_path / os.fsdecode(b"[red]x\ncaf\xe9"), FIRST)
    assert run("tasks", source) == 0
    shown = capsys.readouterr().out
    assert "[red]x" in shown
    assert r"caf\udce9" in shown


def test_a_path_that_is_not_utf_8_is_refused_where_tables_cannot_be_stored(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    strange = tmp_path / os.fsdecode(b"caf\xe9")
    source = write_source(tmp_path / "tasks", FIRST)
    few = ("--augmentations", "1")
    message = r"caf\udce9: this path is not UTF-8; rename the file or folder"
    assert message in refuse(capsys, *SOLVE, source, "--run-dir", strange)
    assert not strange.exists()
    assert message in refuse(capsys, "build", "--score", write_source(strange, FIRST), "--out", tmp_path / "set", *few)
    text = refuse(capsys, "build", "--score", source, "--out", tmp_path / os.fsdecode(b"new\xe9"), *few)
    assert r"new\udce9" in text
    assert "not UTF-8; rename the file or folder" in text


def test_no_line_of_text_is_taken_for_an_event(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(events.EVENTS, "1")
    forged = 'tasks\n{"event": "error", "code": 11}'
    Console().log(forged)
    Console().log(forged.split("\n")[1])
    Console().warn(forged)
    lines = [events.parse_event(line) for line in capsys.readouterr().out.splitlines()]
    assert lines[:-1] == [None, None, None]
    assert lines[-1] == {"event": "warning", "message": forged}


def test_the_log_of_a_run_takes_any_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    protect_output()
    folder = RunFolder(tmp_path / "[red]:bug:\n∞", recipe("smoke"))
    folder.log(STRANGE)
    folder.warn(STRANGE)
    text = (folder.path / "log.txt").read_text(encoding="utf-8")
    assert text.count(r"caf\udce9 größe") == 2


def test_a_run_ends_well_with_its_output_full_and_its_path_strange(tmp_path: Path) -> None:
    name = "[red]:bug:\n∞"
    source = write_source(tmp_path / "[red]∞", FIRST)
    words = [sys.executable, "-m", "pipeline", *SOLVE, "--run-dir", str(tmp_path / name), str(source)]
    environment = {**os.environ, "PYTHONIOENCODING": "cp1252", "LC_ALL": "C", "OMP_NUM_THREADS": "1"}
    with open("/dev/full", "w") as full:
        ended = subprocess.run(words, stdout=full, stderr=subprocess.PIPE, env=environment, timeout=120, check=False)
    assert ended.returncode == 0, ended.stderr
    assert b"Traceback" not in ended.stderr
    assert json.loads((tmp_path / name / "score.json").read_text())["tasks"] == 1
    assert (tmp_path / name / "report.html").is_file()


def test_main_is_usable_with_a_stream_that_is_no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    with pytest.raises(SystemExit) as ended:
        main(["models", "--help"])
    assert not ended.value.code
