"""Read JSON files of tasks quickly: the grids of pairs are returned as arrays instead of nested lists.

A file of tasks consists mostly of grids. Well-formed grids are cut out of the text before it is parsed, which avoids
one Python object per cell. Anything unusual is left to the JSON parser and, later, to `parse_grid`.
"""

import codecs
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import numpy as np

from augment.errors import UserError
from augment.grid import Grid
from augment.sources.files import SourceError, SourceFile

_SPACE = rb"[ \t\r\n]*+"
_PAIR_GRID = re.compile(
    rb'("(?:in|out)put"' + _SPACE + rb":" + _SPACE + rb")"
    rb"(\[" + _SPACE + rb"\[" + _SPACE + rb"[0-9][0-9,\[\] \t\r\n]*\])"
)
"""A pair's key "input" or "output" (group 1) and a text that may be a well-formed grid (group 2)."""

_PLACEHOLDER = "Infinity"
"""Replaces a grid in the text. JSON has no such value, and Python's parser calls `parse_constant` for it."""

_TO_ZERO = bytes.maketrans(b"123456789", b"0" * 9)


def read_json(file: SourceFile) -> Any:
    """Read the JSON value of a file in UTF-8, UTF-16 or UTF-32, with or without a byte order mark, plain or gzip.

    Grids under "input" and "output" may be uint8 arrays instead of lists. Such an array has the same values as the
    list: equally long rows of digits, of any number and length, so its size is not checked.

    Raises:
        SourceError: if the file cannot be read, is not JSON, or repeats a name in one object.
    """
    return _parse_part(decode(file.read(), str(file.path)), str(file.path))


def read_json_lines(file: SourceFile) -> Iterator[tuple[int, Any]]:
    """Yield the number (from 1) and the JSON value of each line that is not blank, as `read_json` does.

    The value of a line that is not JSON is a SourceError.
    """
    for number, line in enumerate(decode(file.read(), str(file.path)).split(b"\n"), 1):
        if line.strip():
            try:
                yield number, _parse_part(line, f"{file.path}, line {number}")
            except SourceError as error:
                yield number, error


def decode(content: bytes, label: str) -> bytes:
    """Return text in UTF-8, UTF-16 or UTF-32 as UTF-8 without a byte order mark; `label` names it in messages.

    Text that is UTF-8 already is not checked.

    Raises:
        SourceError: if it begins like UTF-16 or UTF-32 and is not.
    """
    encoding = json.detect_encoding(content)
    if encoding in ("utf-8", "utf-8-sig"):
        return content.removeprefix(codecs.BOM_UTF8)  # decoded, and so checked, when it is parsed
    try:
        return content.decode(encoding).encode()
    except UnicodeError as error:
        raise SourceError(f"{label} cannot be read ({error})", "save it as text in UTF-8, or replace it") from error


def _parse_part(content: bytes, label: str) -> Any:
    try:
        return _parse(content)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        fix = "correct or replace the file (a file with one JSON value a line needs the ending .jsonl)"
        raise SourceError(f"{label}, {place}: not JSON ({error.msg})", fix) from error
    except (ValueError, RecursionError) as error:
        raise SourceError(f"{label} cannot be read ({error})", "correct or replace the file") from error


def _parse(content: bytes) -> Any:
    if _PLACEHOLDER.encode() not in content:
        skeleton, grids = _extract_grids(content)
        # An error in the skeleton would name wrong lines and columns, so the full text is parsed to report it.
        with suppress(ValueError):
            return _decode(skeleton, lambda name: next(grids) if name == _PLACEHOLDER else float(name))
    return _decode(content, float)


def _decode(content: bytes, parse_constant: Callable[[str], Any]) -> Any:
    return json.loads(content.decode(), object_pairs_hook=_refuse_repeated, parse_constant=parse_constant)


def _extract_grids(content: bytes) -> tuple[bytes, Iterator[Grid]]:
    """Return the text with a placeholder for every well-formed grid of a pair, and these grids in order."""
    grids: list[Grid] = []

    def extract(match: re.Match[bytes]) -> bytes:
        grid = _read_plain_grid(match[2])
        if grid is None:
            return match[0]
        grids.append(grid)
        return match[1] + _PLACEHOLDER.encode()

    return _PAIR_GRID.sub(extract, content), iter(grids)


def _read_plain_grid(text: bytes) -> Grid | None:
    """Parse a JSON list of equally long rows of digits into an array; return None for any other text."""
    compact = text.translate(None, b" \t\r\n")
    # "[[0,0],[0,0]]": before the first "]" there are two opening brackets, the digits and a comma between each two.
    height = compact.count(b"]") - 1
    width = (compact.index(b"]") - 1) // 2
    row = b"[" + b",".join([b"0"] * width) + b"]"
    if compact.translate(_TO_ZERO) != b"[" + b",".join([row] * height) + b"]":
        return None
    digits = np.frombuffer(compact.translate(None, b"[],"), dtype=np.uint8)
    return digits.reshape(height, width) - np.uint8(ord("0"))


def _refuse_repeated(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Build the dictionary of a JSON object; raise ValueError for a repeated name, which `dict` would hide."""
    value = dict(pairs)
    if len(value) < len(pairs):
        [(name, _)] = Counter(name for name, _ in pairs).most_common(1)
        raise UserError(f"name {escape(name)} occurs twice in one object")
    return value


def escape(name: str) -> str:
    """Return the name for use in a message: control characters and lone surrogates escaped, at most 80 characters."""
    return repr(name)[1:-1][:80]
