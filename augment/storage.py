"""Files and folders that are there whole or not at all, and folders that know when they were altered.

In: what should be on disk. Out: the finished file or folder, written beside its place, synced, then renamed, so that a
crash half way leaves what was there before. A sealed folder has one JSON file that holds the SHA-256 of all the others
and of itself.
"""

import json
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import file_digest, sha256
from pathlib import Path
from typing import Any


def write_file(path: Path, text: str) -> None:
    """Write `text` (UTF-8) to `path`, replacing a file that is already there in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = _beside(path)
    try:
        unfinished.write_text(text, encoding="utf-8", newline="")
        sync(unfinished)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
    sync(path.parent)


@contextmanager
def new_folder(folder: Path, replace: bool = False) -> Iterator[Path]:
    """Yield an empty folder to fill: it becomes `folder` when the block ends well, else it is removed.

    A process killed between the two renames of a replacement leaves neither the old nor the new one in place, so
    replace only what can be made again.

    Raises:
        ValueError: where `folder` exists and is not to be replaced.
    """
    if folder.exists() and not replace:
        raise ValueError(f"{folder} already exists and is not overwritten: name another folder or remove it")
    unfinished = _beside(folder)
    old = _beside(folder)
    unfinished.mkdir(parents=True)
    try:
        yield unfinished
        for path in [*unfinished.rglob("*"), unfinished]:
            sync(path)
        if folder.exists():
            folder.rename(old)
        unfinished.rename(folder)
    except BaseException:
        if old.exists():
            old.rename(folder)
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    shutil.rmtree(old, ignore_errors=True)
    sync(folder.parent)


def seal(folder: Path, name: str, about: dict[str, Any], but: str = "") -> None:
    """Write `about` to the file `name`, with the SHA-256 of itself and of every other file in the folder, `but` one."""
    files = {path.name: _digest_file(path) for path in sorted(folder.iterdir()) if path.name not in (name, but)}
    sealed = json.loads(json.dumps(about | {"files": files}))
    text = json.dumps(sealed | {"sha256": _digest_json(sealed)}, indent=2) + "\n"
    write_file(folder / name, text)


def unseal(file: Path, kind: str, version: int, fix: str) -> dict[str, Any]:
    """What `seal` was given, once every file of the folder is checked.

    Args:
        file: the JSON file that seals its folder.
        kind: what the folder is, for messages.
        version: the "format" that it must say.
        fix: what to do about a damaged one.

    Raises:
        ValueError: naming the file that is missing, cut short, altered, or of another format.
    """
    if not file.is_file():
        raise ValueError(f"{file} does not exist: {file.parent} is no {kind}; {fix}")
    try:
        about = json.loads(file.read_bytes())
        found = about["format"]
        whole = _digest_json({key: value for key, value in about.items() if key != "sha256"}) == about["sha256"]
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError):
        raise ValueError(f"{file} was cut short or altered; {fix}") from None
    if found != version:
        raise ValueError(f"{file} has format {found}, and this version reads {version}; {fix}")
    if not whole:
        raise ValueError(f"{file} was cut short or altered; {fix}")
    for name, digest in about["files"].items():
        if not (file.parent / name).is_file() or _digest_file(file.parent / name) != digest:
            raise ValueError(f"{file.parent / name} is missing, cut short or altered; {fix}")
    return about


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.unfinished")


def _digest_file(path: Path) -> str:
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()


def _digest_json(value: Any) -> str:
    return sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def sync(path: Path) -> None:
    """Have a file or folder reach the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_json(path: Path, value: Any) -> None:
    """Write JSON whole or not at all."""
    write_file(path, json.dumps(value, indent=2) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON object or list; ValueError with file, line and column where it is none."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not valid JSON ({error}); it is damaged or was cut short") from None
    if not isinstance(value, dict | list):
        raise ValueError(f"{path}: holds neither an object nor a list; it is damaged")
    return value
