"""Errors of the operating system: the message names the file's own path and the fix, the exit code the kind."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from augment.errors import UserError
from augment.storage import new_folder
from pipeline.runtime.exit_codes import CheckpointError, DiskFullError, ExitCode, exit_code
from pipeline.runtime.system_errors import explain
from tests.helpers.commands import refuse
from tests.helpers.paths import ROOT


@pytest.mark.parametrize(
    ("code", "kind", "fix"),
    [
        (errno.ENOSPC, ExitCode.DISK_FULL, "free some space, and run the same command again"),
        (errno.EDQUOT, ExitCode.DISK_FULL, "free some space, and run the same command again"),
        (errno.EFBIG, ExitCode.DISK_FULL, "ulimit -f"),
        (errno.EACCES, ExitCode.REFUSED, "that this user may read and write"),
        (errno.EPERM, ExitCode.REFUSED, "that this user may read and write"),
        (errno.EROFS, ExitCode.REFUSED, "on a disk that can be written"),
        (errno.ENAMETOOLONG, ExitCode.REFUSED, ""),
        (errno.EIO, ExitCode.REFUSED, ""),
    ],
)
def test_the_kind_of_an_error_gives_fix_and_exit_code(code: int, kind: ExitCode, fix: str) -> None:
    error = explain(OSError(code, os.strerror(code), "/data/run/score.json"))
    assert isinstance(error, UserError)
    assert error.summary.startswith("/data/run/score.json")
    assert error.summary.endswith(os.strerror(code))
    assert fix in error.fix
    assert exit_code(error) == kind


@pytest.mark.parametrize(
    ("written", "path"),
    [
        ("/data/.set.0123abcd.unfinished/tasks.parquet", "/data/set/tasks.parquet"),
        (
            "/data/checkpoints/.step_0000010.unfinished/ids.safetensors",
            "/data/checkpoints/step_0000010/ids.safetensors",
        ),
        ("/data/.step_0000010.old.unfinished", "/data/step_0000010"),
        ("/data/.a.b.json.0123abcd.unfinished", "/data/a.b.json"),
        ("/data/.hidden/file", "/data/.hidden/file"),
    ],
)
def test_a_temporary_name_stands_for_the_final_one(written: str, path: str) -> None:
    assert str(explain(OSError(errno.EIO, "", written))) == f"{path}: Input/output error"


def test_the_temporary_names_are_those_of_storage(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as error, new_folder(tmp_path / "set") as unfinished:
        (unfinished / "missing" / "file").write_text("")
    assert str(explain(error.value)).startswith(f"{tmp_path}/set/missing/file: ")


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file") as error:
        (tmp_path / "file" / ".x.0123abcd.unfinished").mkdir(parents=True)
    assert f"{tmp_path}/file/x cannot be created: {tmp_path}/file is a file" in str(explain(error.value))


@pytest.mark.parametrize(
    "error",
    [
        ValueError("text"),
        OSError("text"),
        OSError(errno.ENOSPC, "text"),
        CheckpointError("text"),
        DiskFullError("text"),
    ],
)
def test_other_errors_stay_what_they_are(error: Exception) -> None:
    assert explain(error) is error


def test_a_run_folder_that_is_a_file_or_below_one_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "run"):
        message = refuse(capsys, "solve", "--recipe", "smoke", "--run-dir", path)
        assert f"{path} cannot be created: {tmp_path}/file is a file, not a folder" in message
        assert "--run-dir" in message


def test_a_limit_on_the_size_of_files_ends_in_one_message(tmp_path: Path) -> None:
    words = [
        "build",
        "--score",
        "arc-agi-1/training",
        "--limit",
        "3",
        "--augmentations",
        "2",
        "--out",
        tmp_path / "set",
    ]
    limited = ["bash", "-c", 'ulimit -f 1; exec "$@"', "bash", sys.executable, "-m", "pipeline", *map(str, words)]
    done = subprocess.run(limited, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == ExitCode.DISK_FULL, done.stderr[-2000:]
    assert "Traceback" not in done.stderr
    assert f"{tmp_path}/set" in done.stderr
    assert "ulimit -f" in done.stderr
    assert list(tmp_path.iterdir()) == []
