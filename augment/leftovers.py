"""Temporary names of files and folders that are being written, and removal of those that killed processes left.

`.NAME.PROCESS.unfinished` will become NAME. `.NAME.PROCESS.old` is the version of NAME that is being replaced: it is
put back if the process was killed before the new one was in place. PROCESS names the writer
(`augment.process_identity`). What a running process writes is never touched.
"""

import os
import re
import shutil
import time
from contextlib import suppress
from pathlib import Path

from augment.process_identity import PATTERN, ProcessIdentity

UNFINISHED = ".unfinished"
BACKUP = ".old"
SECONDS_LEFT_ALONE = 24 * 3600.0
"""Age from which a leftover counts as abandoned, if its writer cannot be asked (another host, or no name)."""
_NAME = re.compile(
    rf"\.(?P<name>.+?)(?:\.{PATTERN}(?:{UNFINISHED}|{BACKUP})|(?:\.[0-9a-f]{{8}})?{UNFINISHED})", re.DOTALL
)
"""Earlier versions wrote eight random digits in place of the process; checkpoints in progress have neither."""


def temporary_path(path: Path, suffix: str) -> Path:
    """Return a hidden, random name in the same folder, so that a rename stays within one file system."""
    return path.with_name(f".{path.name}.{ProcessIdentity.own()}{suffix}")


def final_name(name: str) -> str | None:
    """Return the name that a file or folder gets when it is complete; None if this is no temporary name."""
    match = _NAME.fullmatch(name)
    return match["name"] if match else None


def remove_leftovers(path: Path, exclusive: bool = False) -> None:
    """Remove what killed writers of `path` left beside it, and put back an old version that was not replaced.

    A leftover that cannot be removed stays: it must not keep a command from its work.

    Args:
        path: the file or folder.
        exclusive: whether this process alone writes here, so that a writer that cannot be asked has ended.
    """
    with suppress(OSError):
        for name in os.listdir(path.parent):
            if (found := _NAME.fullmatch(name)) and found["name"] == path.name:
                _remove_leftover(path.with_name(name), path, exclusive)


def remove_all_leftovers(folder: Path) -> None:
    """Do the same for everything in a folder in which this process alone writes."""
    for parent, folders, files in os.walk(folder):
        for name in [*folders, *files]:
            if found := _NAME.fullmatch(name):
                _remove_leftover(Path(parent, name), Path(parent, found["name"]), exclusive=True)


def discard(backup: Path) -> None:
    """Remove an old version, if it exists; it is renamed first, so that a part of it is never put back."""
    unfinished = backup.with_suffix(UNFINISHED)
    with suppress(OSError):
        backup.rename(unfinished)
    shutil.rmtree(unfinished, ignore_errors=True)


def _remove_leftover(path: Path, target: Path, exclusive: bool) -> None:
    """Remove a leftover of `target` or put it back, unless a running process may still write it."""
    with suppress(OSError):
        if _may_be_in_use(path, exclusive):
            return
        if path.suffix == BACKUP:
            discard(path) if target.exists() else path.rename(target)
        elif path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def _may_be_in_use(path: Path, exclusive: bool) -> bool:
    writer = ProcessIdentity.find(path.name)
    running = writer.is_running() if writer else None
    if running is not None:
        return running
    return not exclusive and time.time() - path.lstat().st_mtime < SECONDS_LEFT_ALONE
