"""Read text and JSON files in any Unicode encoding, and regular files only.

Opening a FIFO waits for its writer, and a device may never end, so both are refused before they are opened.
"""

import json
import stat
from pathlib import Path
from typing import Any

from augment.errors import UserError

_KINDS = {
    stat.S_ISDIR: "a folder",
    stat.S_ISFIFO: "a FIFO",
    stat.S_ISSOCK: "a socket",
    stat.S_ISCHR: "a device",
    stat.S_ISBLK: "a device",
}


def find_kind(path: Path) -> str:
    """Return what is at the path if it is no regular file, for example "a FIFO"; "" for a file.

    Raises:
        OSError: if it does not exist, or its folder cannot be read.
    """
    mode = path.stat().st_mode
    if stat.S_ISREG(mode):
        return ""
    return next((name for is_kind, name in _KINDS.items() if is_kind(mode)), "no regular file")


def refuse_special(path: Path) -> None:
    """Raise a UserError if something else than a file or a folder is at the path.

    A path that does not exist, or cannot be looked at, is left to whoever opens it.
    """
    try:
        kind = find_kind(path)
    except (OSError, ValueError):
        return
    if kind not in ("", "a folder"):
        raise UserError(f"{path} is {kind}", "name a regular file or a folder")


def read_regular_file(path: Path) -> bytes:
    """Return the content of a file.

    Raises:
        UserError: if there is something else at the path.
        OSError: if the file does not exist or cannot be read.
    """
    if kind := find_kind(path):
        raise UserError(f"{path} is {kind}, not a file", "give the path of a file")
    return path.read_bytes()


def decode_text(content: bytes) -> str:
    """Decode the bytes of a JSON or text file: UTF-8, UTF-16 or UTF-32, with or without a byte order mark.

    Raises:
        UnicodeDecodeError: if the bytes are in no such encoding.
    """
    return content.decode(json.detect_encoding(content))


def require_utf_8(path: str | Path) -> None:
    """Raise a UserError for a path with bytes that are not UTF-8, at which tables and checkpoints cannot be stored."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise UserError(f"{path}: this path is not UTF-8", "rename the file or folder") from None


def read_json(path: Path) -> Any:
    """Read a JSON object or list from a file.

    Raises:
        ValueError: if the file does not exist or contains anything else; the message names file, line and column.
    """
    try:
        value = json.loads(decode_text(read_regular_file(path)))
    except FileNotFoundError:
        raise UserError(f"{path} does not exist", "check the path") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not valid JSON ({error})", "create it again") from None
    if not isinstance(value, dict | list):
        raise UserError(f"{path} contains neither an object nor a list", "create it again")
    return value
