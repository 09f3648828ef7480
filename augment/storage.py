"""Write files and folders atomically, and protect folders with checksums.

A file or folder is written under a temporary name in the same parent folder, synced to disk, and then renamed. A crash
before the rename leaves the previous state. A sealed folder has one JSON file with the SHA-256 of all other files and
of itself.
"""

import json
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import file_digest, sha256
from pathlib import Path
from typing import Any

from augment.errors import DamagedError, UserError


def write_file(path: Path, text: str) -> None:
    """Write `text` (UTF-8) to `path` atomically; an existing file is replaced."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary_path(path)
    try:
        temporary.write_text(text, encoding="utf-8", newline="")
        sync(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    sync(path.parent)


def refuse_existing(path: Path, option: str = "--out") -> None:
    """Raise a UserError if there is something at `path`, which is not overwritten; `option` names another path."""
    if path.exists():
        raise UserError(f"{path} exists already and is not overwritten", f"name another path with {option}")


def refuse_special(path: Path) -> None:
    """Raise a UserError if `path` is a FIFO, device or socket: reading it would wait for ever, or never end.

    A path that does not exist, or cannot be looked at, is left to whoever opens it.
    """
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        return
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise UserError(f"{path} is a FIFO, a device or a socket", "name a regular file or a folder")


@contextmanager
def new_folder(folder: Path, replace: bool = False) -> Iterator[Path]:
    """Yield an empty folder to fill; it is renamed to `folder` at the end of the block, or removed after an exception.

    A replacement needs two renames. A process that is killed between them leaves neither the old nor the new folder in
    place, so replace only folders that can be created again.

    Args:
        folder: path of the folder to create.
        replace: whether to replace an existing folder.

    Raises:
        ValueError: if `folder` exists and `replace` is False.
    """
    if folder.exists() and not replace:
        raise UserError(f"{folder} already exists and is not overwritten: name another folder or remove it")
    temporary = _temporary_path(folder)
    backup = _temporary_path(folder)
    temporary.mkdir(parents=True)
    try:
        yield temporary
        for path in [*temporary.rglob("*"), temporary]:
            sync(path)
        if folder.exists():
            folder.rename(backup)
        temporary.rename(folder)
    # Not only Exception: the folder must also be cleaned up after KeyboardInterrupt or SystemExit.
    except BaseException:
        if backup.exists():
            backup.rename(folder)
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    shutil.rmtree(backup, ignore_errors=True)
    sync(folder.parent)


def seal(folder: Path, name: str, about: dict[str, Any], but: str = "") -> None:
    """Write the file that seals the folder: `about`, its own SHA-256 and that of every other file in the folder.

    Args:
        folder: the folder to seal.
        name: name of the JSON file to write.
        about: JSON object to store.
        but: name of a file that is left out of the seal.
    """
    files = {path.name: _digest_file(path) for path in sorted(folder.iterdir()) if path.name not in (name, but)}
    # The round trip turns tuples into lists and keys into strings, so that the digest is that of the value read back.
    sealed = json.loads(json.dumps(about | {"files": files}))
    text = json.dumps(sealed | {"sha256": _digest_json(sealed)}, indent=2) + "\n"
    write_file(folder / name, text)


def unseal(file: Path, kind: str, version: int, fix: str, header_only: bool = False) -> dict[str, Any]:
    """Check every file of a sealed folder, and return the JSON object with which it was sealed.

    Args:
        file: the JSON file that seals its folder.
        kind: the kind of folder, for messages.
        version: the required value of "format".
        fix: what the user should do about a damaged folder, for messages.
        header_only: read and check the JSON file alone, not the files that it seals.

    Raises:
        DamagedError: if a file is missing, cut short, altered, or of another format; the message names the file.
    """
    refuse_special(file)
    if not file.is_file():
        raise DamagedError(f"{file} does not exist: {file.parent} is not a {kind}", fix)
    try:
        about = json.loads(file.read_bytes())
        format_ = about["format"]
        is_intact = _digest_json({key: value for key, value in about.items() if key != "sha256"}) == about["sha256"]
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError):
        raise DamagedError(f"{file} was cut short or altered", fix) from None
    # The format comes before the digest: another version may compute the digest differently.
    if format_ != version:
        raise DamagedError(f"{file} has format {format_}, but this version reads format {version}", fix)
    if not is_intact:
        raise DamagedError(f"{file} was cut short or altered", fix)
    if header_only:
        return about
    for name, digest in about["files"].items():
        if not (file.parent / name).is_file() or _digest_file(file.parent / name) != digest:
            raise DamagedError(f"{file.parent / name} is missing, cut short or altered", fix)
    return about


def _temporary_path(path: Path) -> Path:
    """Return a hidden, random name in the same folder, so that a rename stays within one file system."""
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.unfinished")


def _digest_file(path: Path) -> str:
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()


def _digest_json(value: Any) -> str:
    return sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def sync(path: Path) -> None:
    """Flush a file or folder to disk (fsync)."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file atomically."""
    write_file(path, json.dumps(value, indent=2) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON object or list from a file.

    Raises:
        ValueError: if the file does not exist or contains anything else; the message names file, line and column.
    """
    refuse_special(path)
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path} does not exist", "check the path") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not valid JSON ({error})", "create it again") from None
    if not isinstance(value, dict | list):
        raise UserError(f"{path} contains neither an object nor a list", "create it again")
    return value
