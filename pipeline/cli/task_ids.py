"""Parse the option --tasks: task IDs, or files of them."""

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from augment.errors import UserError
from augment.sources.fast_json import decode
from augment.sources.files import read_file

_SEPARATORS = re.compile(r"[\s,]+")


def parse_task_ids(values: Iterable[str]) -> tuple[str, ...]:
    """Return the task IDs in the values of the option, in order and each once.

    A value is a list of IDs, separated by commas, spaces or line ends; or the path of a file that contains such a list,
    perhaps after "@". A value without "@" is a path if a file of that name exists.

    Raises:
        UserError: if there is no ID, or a file cannot be read.
    """
    task_ids = tuple(dict.fromkeys(task_id for value in values for task_id in _parse(value)))
    if not task_ids:
        raise UserError("--tasks: contains no task ID", "name tasks, or leave the option out for all tasks")
    return task_ids


def _parse(value: str) -> Iterator[str]:
    path = Path(value.removeprefix("@"))
    # A folder may have the name of a task. (`Path.exists` would refuse a long list of IDs as too long a name.)
    is_file = value.startswith("@") or (os.path.exists(value) and not os.path.isdir(value))
    return filter(None, _SEPARATORS.split(_read(path) if is_file else value))


def _read(path: Path) -> str:
    """Return the text of a list of tasks; UserError if it is no such text."""
    try:
        text = decode(read_file(path), str(path)).decode()
    except UnicodeError as error:
        raise UserError(f"{path} cannot be read ({error})", "save it as text in UTF-8") from error
    if text.lstrip().startswith(("{", "[")):
        raise UserError(f"--tasks: {path} is JSON", "give a text file with one task ID a line")
    if not _SEPARATORS.sub("", text):
        raise UserError(f"--tasks: {path} contains no task ID", "write one task ID a line")
    return text
