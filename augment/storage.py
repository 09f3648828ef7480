"""Write files and folders atomically, and protect folders with checksums.

A file or folder is written under a temporary name in the same parent folder, synced to disk, and then renamed. A crash
before the rename leaves the previous state, and the next writer removes what is left (`augment.leftovers`). A sealed
folder has one JSON file with the SHA-256 of all other files and of itself.
"""

import errno
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from hashlib import file_digest, sha256
from pathlib import Path
from typing import Any, TypeVar

from augment.errors import DamagedError, UserError
from augment.leftovers import BACKUP, UNFINISHED, discard, remove_leftovers, temporary_path
from augment.schema import SealedHeader, parse_json
from augment.text_files import refuse_special

Header = TypeVar("Header", bound=SealedHeader)

UNSYNCED = {errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EBADF}
"""Error numbers of file systems that cannot flush: network shares, Windows disks under WSL, FUSE."""


def write_file(path: Path, text: str) -> None:
    """Write `text` to `path` atomically; an existing file is replaced.

    The encoding is UTF-8. A lone surrogate (a byte of a path that is not UTF-8) is written as `\\udcNN`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(path)
    temporary = temporary_path(path, UNFINISHED)
    try:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace", newline="")
        sync(temporary)
        temporary.replace(path)
    except OSError as error:
        add_path(error, path)
        raise
    finally:
        temporary.unlink(missing_ok=True)
    sync(path.parent)


def write_new_file(path: Path, text: str, option: str = "--out") -> bool:
    """Write `text` (UTF-8) to a new file; return False if the file exists with this text.

    Raises:
        UserError: if it exists with other content; `option` names another path.
    """
    remove_leftovers(path)
    if path.is_file() and path.read_bytes() == text.encode():
        return False
    refuse_existing(path, option)
    write_file(path, text)
    return True


def refuse_existing(path: Path, option: str = "--out") -> None:
    """Raise a UserError if there is something at `path`, which is not overwritten; `option` names another path."""
    if os.path.exists(path):
        raise UserError(f"{path} exists already and is not overwritten", f"name another path with {option}")
    check_writable(path, option)


def check_writable(path: Path, option: str) -> None:
    """Raise a UserError if the folder `path` cannot be written, or cannot be created; `option` names another path."""
    # Not Path.exists, which raises an error for a path in a folder that this user may not search.
    place = next((place for place in (path, *path.parents) if os.path.exists(place)), None)
    if place is None:
        return
    if not place.is_dir():
        summary = f"{path} cannot be created: {place} is a file, not a folder"
        raise UserError(summary, f"name another path with {option}")
    if not os.access(place, os.W_OK | os.X_OK):
        raise UserError(
            f"{path} cannot be written: this user may not write in {place}",
            f"name another path with {option}, or change the permissions of {place}",
        )


def add_path(error: BaseException, path: Path) -> None:
    """Add the path to an OSError that names no file: those of an open file, and those of pyarrow."""
    if isinstance(error, OSError) and error.errno is not None and error.filename is None:
        error.filename = str(path)


def refuse_other_folder(path: Path, name: str) -> None:
    """Raise a UserError if there is something at `path` that is not a folder with the file `name`."""
    if not (path / name).is_file():
        refuse_existing(path)


@contextmanager
def new_folder(folder: Path, replace: bool = False, compare: str = "") -> Iterator[Path]:
    """Yield an empty folder to fill; it is renamed to `folder` at the end of the block, or removed after an exception.

    A replacement needs two renames. If the process is killed between them, the next writer of the folder puts the old
    one back (`augment.leftovers`).

    Args:
        folder: path of the folder to create.
        replace: whether to replace an existing folder.
        compare: name of the file that seals the folder; an existing folder that is sealed alike is kept as it is.

    Raises:
        UserError: if `folder` exists and is neither replaced nor the same.
    """
    remove_leftovers(folder)
    if folder.exists() and not (replace or compare):
        raise UserError(f"{folder} already exists and is not overwritten: name another folder or remove it")
    temporary = temporary_path(folder, UNFINISHED)
    backup = temporary_path(folder, BACKUP)
    temporary.mkdir(parents=True)
    try:
        yield temporary
        if compare and folder.exists() and _is_sealed_alike(folder, temporary, compare):
            return
        if not replace:
            refuse_existing(folder)
        for path in [*temporary.rglob("*"), temporary]:
            sync(path)
        if folder.exists():
            folder.rename(backup)
        temporary.rename(folder)
    # Not only Exception: the folder must also be cleaned up after KeyboardInterrupt or SystemExit.
    except BaseException as error:
        add_path(error, folder)
        if backup.exists() and not folder.exists():
            backup.rename(folder)
        raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    discard(backup)
    sync(folder.parent)


def _is_sealed_alike(folder: Path, other: Path, name: str) -> bool:
    """Return whether the files `name` of two folders are equal, and the first folder is intact."""
    file = folder / name
    if not file.is_file() or file.read_bytes() != (other / name).read_bytes():
        return False
    files = json.loads(file.read_bytes())["files"].items()
    return all((folder / part).is_file() and _digest_file(folder / part) == digest for part, digest in files)


def seal(folder: Path, name: str, about: dict[str, Any]) -> None:
    """Write the file that seals the folder: `about`, its own SHA-256 and that of every other file in the folder.

    Args:
        folder: the folder to seal.
        name: name of the JSON file to write.
        about: JSON object to store.
    """
    files = {path.name: _digest_file(path) for path in sorted(folder.iterdir()) if path.name != name}
    # The round trip turns tuples into lists and keys into strings, so that the digest is that of the value read back.
    sealed = json.loads(json.dumps(about | {"files": files}))
    text = json.dumps(sealed | {"sha256": _digest_json(sealed)}, indent=2) + "\n"
    write_file(folder / name, text)


def unseal(
    file: Path,
    schema: type[Header],
    kind: str,
    version: int,
    fix: str,
    header_only: bool = False,
    needed: Iterable[str] = (),
) -> Header:
    """Check every file of a sealed folder, and return the contents of the JSON file with which it was sealed.

    Args:
        file: the JSON file that seals its folder.
        schema: what it must hold.
        kind: the kind of folder, for messages.
        version: the required value of "format".
        fix: what the user should do about a damaged folder, for messages.
        header_only: read and check the JSON file alone, not the files that it seals.
        needed: files that must be listed.

    Raises:
        DamagedError: if a file is missing, cut short, altered, or of another format; the message names the file.
    """
    refuse_special(file)
    if not file.is_file():
        raise DamagedError(f"{file} does not exist: {file.parent} is not a {kind}", fix)
    text = file.read_bytes()
    _check_digest(file, text, version, fix)
    about = parse_json(schema, text, file, fix)
    if missing := set(needed) - about.files.keys():
        raise DamagedError(f"{file}: files: {min(missing)} is not listed", fix)
    if header_only:
        return about
    for name, digest in about.files.items():
        # Names with a separator would be other folders' files.
        if Path(name).name != name or not (file.parent / name).is_file() or _digest_file(file.parent / name) != digest:
            raise DamagedError(f"{file.parent / name} is missing, cut short or altered", fix)
    return about


def _check_digest(file: Path, text: bytes, version: int, fix: str) -> None:
    """Raise DamagedError if the JSON text is not of this format version, or does not have the digest in it."""
    try:
        about = json.loads(text)
        format_ = about["format"]
        is_intact = _digest_json({key: value for key, value in about.items() if key != "sha256"}) == about["sha256"]
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError):
        raise DamagedError(f"{file} was cut short or altered", fix) from None
    # The format comes before the digest: another version may compute the digest differently.
    if format_ != version:
        raise DamagedError(f"{file} has format {str(format_)[:20]}, but this version reads format {version}", fix)
    if not is_intact:
        raise DamagedError(f"{file} was cut short or altered", fix)


def _digest_file(path: Path) -> str:
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()


def _digest_json(value: Any) -> str:
    return sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def sync(path: Path) -> None:
    """Flush a file or folder to disk (fsync); what a file system cannot flush is left to it.

    Raises:
        OSError: if the data could not be written, for example to a full disk.
    """
    # Windows opens no folder, and some shares allow to write in a folder but not to read it.
    unsupported = UNSYNCED | {errno.EACCES, errno.EPERM} if path.is_dir() else UNSYNCED
    try:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno not in unsupported:
            raise


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file atomically."""
    write_file(path, json.dumps(value, indent=2) + "\n")
