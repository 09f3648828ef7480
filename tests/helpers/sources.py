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
