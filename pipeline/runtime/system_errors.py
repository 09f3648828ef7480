"""Turns errors of the operating system about a file into messages with the file's own path, the reason and the fix."""

import errno
import os
from pathlib import Path

from augment.errors import UserError
from augment.leftovers import final_name
from pipeline.runtime.exit_codes import FULL, DiskFullError, OutOfMemoryError

DENIED = {errno.EACCES, errno.EPERM}
IN_THE_WAY = {errno.ENOTDIR, errno.EEXIST}


def explain(error: Exception) -> Exception:
    """Return the error to report: a UserError for an OSError that names a file; any other error as it is."""
    if not isinstance(error, OSError) or not error.filename or error.errno is None:
        return error
    path = _final_path(Path(os.fsdecode(error.filename)))
    reason = os.strerror(error.errno)
    if error.errno in FULL:
        return DiskFullError(f"{path} cannot be written: {reason}", _fix_of_full(error.errno))
    if error.errno in DENIED:
        fix = "name a path that this user may read and write, or change the permissions"
        return UserError(f"{path} cannot be used: {reason}", fix)
    if error.errno == errno.EROFS:
        return UserError(f"{path} cannot be written: {reason}", "name a path on a disk that can be written")
    if error.errno in IN_THE_WAY and (file := _file_on_the_way(path)):
        return UserError(f"{path} cannot be created: {file} is a file, not a folder", "name another path")
    return UserError(f"{path}: {reason}")


def first_line(error: BaseException) -> str:
    """Return the beginning of an error's text, for a message; its class if it has no text."""
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


def explain_memory(error: Exception) -> OutOfMemoryError:
    """Return the error to report for one that means a lack of memory (`solver.training.device_memory`)."""
    fix = "free memory, use more processes, or a smaller model, board or puzzle set"
    return OutOfMemoryError(f"out of memory ({first_line(error)})", fix)


def _fix_of_full(code: int) -> str:
    """Return what to do about a file that could not be written to its end."""
    if code == errno.EFBIG:
        return "raise the limit on the size of a file (ulimit -f), and run the same command again"
    return "free some space, and run the same command again"


def _final_path(path: Path) -> Path:
    """Replace temporary names by those that the files and folders get when they are complete."""
    return Path(*map(_final_name, path.parts))


def _final_name(name: str) -> str:
    final = final_name(name)
    # A checkpoint that is being removed is called `.NAME.old.unfinished` (`pipeline.checkpoints.manager`).
    return name if final is None else final.removesuffix(".old")


def _file_on_the_way(path: Path) -> Path | None:
    """Return the path, or its first parent that is a file; None if there is no such file."""
    return next((place for place in (path, *path.parents) if os.path.isfile(place)), None)
