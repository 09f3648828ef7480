"""Read JSON files of tasks quickly: the grids of pairs are returned as arrays instead of nested lists.

A file of tasks consists mostly of grids. Well-formed grids are cut out of the text before it is parsed, which avoids
one Python object per cell. Anything unusual is left to the JSON parser and, later, to `parse_grid`.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from augment.errors import UserError
from augment.grid import Grid

_SPACE = rb"[ \t\r\n]*+"
_PAIR_GRID = re.compile(
    rb'("(?:in|out)put"' + _SPACE + rb":" + _SPACE + rb")"
    rb"(\[" + _SPACE + rb"\[" + _SPACE + rb"[0-9][0-9,\[\] \t\r\n]*\])"
)
"""A pair's key "input" or "output" (group 1) and a text that may be a well-formed grid (group 2)."""

_PLACEHOLDER = "Infinity"
"""Replaces a grid in the text. JSON has no such value, and Python's parser calls `parse_constant` for it."""

_TO_ZERO = bytes.maketrans(b"123456789", b"0" * 9)


class SourceError(UserError):
    """A source that does not exist or cannot be read; the message names the source, the file and the fix."""


def read_json(file: Path) -> Any:
    """Read the JSON value of a UTF-8 file; grids under "input" and "output" may be uint8 arrays instead of lists.

    Such an array has the same values as the list: equally long rows of digits, of any number and length, so its size
    is not checked.

    Raises:
        SourceError: if the file cannot be read, is not JSON, or repeats a name in one object.
    """
    try:
        return _parse(file.read_bytes())
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise SourceError(f"{file}, {place}: not JSON ({error.msg})", "correct or replace the file") from error
    except (OSError, ValueError, RecursionError) as error:
        raise SourceError(f"{file} cannot be read ({error})", "correct or replace the file") from error


def _parse(content: bytes) -> Any:
    if _PLACEHOLDER.encode() not in content:
        skeleton, grids = _extract_grids(content)
        # An error in the skeleton would name wrong lines and columns, so the full text is parsed to report it.
        with suppress(ValueError):
            return _decode(skeleton, lambda name: next(grids) if name == _PLACEHOLDER else float(name))
    return _decode(content, float)


def _decode(content: bytes, parse_constant: Callable[[str], Any]) -> Any:
    text = content.decode("utf-8-sig")
    return json.loads(text, object_pairs_hook=_refuse_repeated, parse_constant=parse_constant)


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
