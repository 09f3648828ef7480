"""Reading JSON quickly: a file of tasks comes in, its value goes out, the grids of its pairs as arrays.

A file of tasks is grids for the most part. Plain ones are taken out of the text before it is parsed, which spares
a Python object per cell; whatever is unusual is left to the JSON parser and, later, to `parse_grid`.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from augment.grid import Grid

_SPACE = rb"[ \t\r\n]*+"
_PAIR_GRID = re.compile(
    rb'("(?:in|out)put"' + _SPACE + rb":" + _SPACE + rb")"
    rb"(\[" + _SPACE + rb"\[" + _SPACE + rb"[0-9][0-9,\[\] \t\r\n]*\])"
)
"""A pair's "input" or "output" (group 1) and what may be a plain grid (group 2)."""

_STAND_IN = "Infinity"
"""Stands for a grid taken out of the text: JSON has no such value, and Python's parser asks a function for it."""

_TO_ZERO = bytes.maketrans(b"123456789", b"0" * 9)


class SourceError(ValueError):
    """A source that is not there or cannot be read; the message names it, the file and the fix."""


def read_json(file: Path) -> Any:
    """The JSON value of a UTF-8 file; grids under "input" and "output" may be uint8 arrays instead of lists.

    Such an array holds just what the list would: equally long rows of digits, of any number and length. A file
    that cannot be read, is not JSON or holds a name twice in one object raises SourceError.
    """
    try:
        return _parse(file.read_bytes())
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise SourceError(f"{file}, {place}: not JSON ({error.msg}); mend or replace the file") from error
    except (OSError, ValueError, RecursionError) as error:
        raise SourceError(f"{file} cannot be read ({error}); mend or replace the file") from error


def _parse(content: bytes) -> Any:
    if _STAND_IN.encode() not in content:
        skeleton, grids = _take_out_grids(content)
        # A complaint about the skeleton would name places that are not the file's.
        with suppress(ValueError):
            return _decode(skeleton, lambda name: next(grids) if name == _STAND_IN else float(name))
    return _decode(content, float)


def _decode(content: bytes, parse_constant: Callable[[str], Any]) -> Any:
    text = content.decode("utf-8-sig")
    return json.loads(text, object_pairs_hook=_refuse_repeated, parse_constant=parse_constant)


def _take_out_grids(content: bytes) -> tuple[bytes, Iterator[Grid]]:
    """The text with a stand-in for every plain grid of a pair, and these grids in order."""
    grids: list[Grid] = []

    def take_out(match: re.Match[bytes]) -> bytes:
        grid = _read_plain_grid(match[2])
        if grid is None:
            return match[0]
        grids.append(grid)
        return match[1] + _STAND_IN.encode()

    return _PAIR_GRID.sub(take_out, content), iter(grids)


def _read_plain_grid(text: bytes) -> Grid | None:
    """The array for a JSON list of equally long rows of digits; None for any other text."""
    compact = text.translate(None, b" \t\r\n")
    # "[[0,0],[0,0]]": the first row ends after an opening bracket and two characters a cell.
    height = compact.count(b"]") - 1
    width = (compact.index(b"]") - 1) // 2
    row = b"[" + b",".join([b"0"] * width) + b"]"
    if compact.translate(_TO_ZERO) != b"[" + b",".join([row] * height) + b"]":
        return None
    digits = np.frombuffer(compact.translate(None, b"[],"), dtype=np.uint8)
    return digits.reshape(height, width) - np.uint8(ord("0"))


def _refuse_repeated(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        [(name, _)] = Counter(name for name, _ in pairs).most_common(1)
        raise ValueError(f"{escape(name)} is in it twice")
    return value


def escape(name: str) -> str:
    """The name as a message may show it: control characters and halves of characters as escapes, cut at 80."""
    return repr(name)[1:-1][:80]
