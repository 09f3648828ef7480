"""Sources written for a test."""

import json
from pathlib import Path

from augment import Selection, Task, load_tasks

FIRST, SECOND, THIRD = load_tasks("arc-agi-1/training", Selection(max_side=3, limit=3))


def write_source(folder: Path, *tasks: Task) -> Path:
    """A folder source of these tasks, solutions included."""
    folder.mkdir(exist_ok=True)
    for task in tasks:
        value = {
            part: [
                {"input": pair.input.tolist(), "output": pair.output.tolist()}
                for pair in pairs
                if pair.output is not None
            ]
            for part, pairs in (("train", task.demonstrations), ("test", task.tests))
        }
        (folder / f"{task.id}.json").write_text(json.dumps(value))
    return folder


def read(*parts: str | Path) -> dict:
    return json.loads(Path(*parts).read_text())


def arc_task(colour: int, side: int = 2, tests: int = 1) -> dict[str, list]:
    """The JSON value of a task of square grids: two demonstrations, and tests without outputs."""
    grids = [[[colour] * side for _ in range(side)], [[colour] * side for _ in range(side - 1)] + [[0] * side]]
    return {
        "train": [{"input": grid, "output": [[colour]]} for grid in grids],
        "test": [{"input": [[number, colour]]} for number in range(tests)],
    }


def write_json(path: Path, value: object) -> Path:
    """Write a JSON file, in a folder that is made too."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")
    return path
