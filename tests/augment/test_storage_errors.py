"""What is written on file systems that cannot flush, that are full, or where this user may not write."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from augment.errors import UserError
from augment.storage import check_writable, new_folder, refuse_existing, sync, write_file

UNSUPPORTED = [errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EBADF]
LOST = [errno.EIO, errno.ENOSPC, errno.EDQUOT]
DENIED = [errno.EACCES, errno.EPERM]


def fail_with(code: int) -> Callable[..., None]:
    """Return a function that raises an OSError."""

    def fail(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    return fail


@pytest.mark.parametrize("name", ["fsync", "open"])
@pytest.mark.parametrize("code", [*UNSUPPORTED, *DENIED])
def test_a_folder_that_cannot_be_flushed_is_let_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, code: int
) -> None:
    monkeypatch.setattr(os, name, fail_with(code))
    sync(tmp_path)


@pytest.mark.parametrize("code", UNSUPPORTED)
def test_files_and_folders_are_written_where_nothing_can_be_flushed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    monkeypatch.setattr(os, "fsync", fail_with(code))
    with new_folder(tmp_path / "set") as unfinished:
        write_file(unfinished / "one.txt", "text")
    assert (tmp_path / "set" / "one.txt").read_text() == "text"


@pytest.mark.parametrize(("code", "name"), [*((code, "folder") for code in LOST), *((code, "file") for code in DENIED)])
def test_data_that_cannot_be_written_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, name: str
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    monkeypatch.setattr(os, "fsync", fail_with(code))
    with pytest.raises(OSError, match=os.strerror(code)):
        sync(tmp_path / name)


def test_an_error_without_a_file_gets_the_path_that_was_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(OSError, match="too large") as folder_error, new_folder(tmp_path / "set"):
        raise OSError(errno.EFBIG, "File too large")
    monkeypatch.setattr(os, "fsync", fail_with(errno.ENOSPC))
    with pytest.raises(OSError, match="No space left") as file_error:
        write_file(tmp_path / "one.txt", "text")
    assert folder_error.value.filename == str(tmp_path / "set")
    assert file_error.value.filename == str(tmp_path / "one.txt")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("path", ["file/x", "file/x/y"])
def test_a_path_below_a_file_is_refused_before_work_begins(tmp_path: Path, path: str) -> None:
    (tmp_path / "file").touch()
    expected = rf"{tmp_path}/{path} cannot be created: {tmp_path}/file is a file, not a folder; .*--out"
    with pytest.raises(UserError, match=expected):
        refuse_existing(tmp_path / path)


@pytest.mark.parametrize("path", [".", "new", "new/newer"])
def test_a_folder_of_somebody_else_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    check_writable(tmp_path / path, "--run-dir")
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(UserError, match=rf"this user may not write in {tmp_path}; .*--run-dir"):
        check_writable(tmp_path / path, "--run-dir")


def test_a_relative_path_is_that_of_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    check_writable(Path("x/y"), "--out")
    Path("x").touch()
    with pytest.raises(UserError, match="x is a file"):
        check_writable(Path("x/y"), "--out")
