"""A submission: validated, and scored against its source."""

import json
from pathlib import Path
from random import Random

from augment import Selection, load_tasks
from tests.fuzz.outcomes import Refused, call_command
from tests.fuzz.sources import as_json
from tests.helpers.mutations import mutate_bytes, mutate_json

FILE = "submission.json"


def prepare() -> None:
    """Write three small real tasks, and a submission that solves them."""
    tasks = load_tasks("arc-agi-1/training", Selection(max_side=3, limit=3))
    source = {task.id: as_json(task) for task in tasks}
    Path("source.json").write_text(json.dumps(source))
    submission = {
        name: [{"attempt_1": pair["output"], "attempt_2": [[0]]} for pair in task["test"]]
        for name, task in source.items()
    }
    Path(FILE).write_text(json.dumps(submission))


def mutate(random: Random) -> str:
    """Alter the submission as JSON or as bytes."""
    file = Path(FILE)
    if random.random() < 0.25:
        file.write_bytes(mutate_bytes(random, file.read_bytes()))
        return "bytes"
    file.write_text(mutate_json(random, json.loads(file.read_bytes())))
    return "content"


def read(random: Random) -> None:
    """Validate and score it: whatever is valid must have a score."""
    source = Path("source.json")
    valid = True
    try:
        call_command("validate", Path(FILE), source)
    except Refused:
        valid = False
    try:
        call_command("score", Path(FILE), source, *(["--json"] if random.random() < 0.5 else []))
    except Refused:
        assert not valid, "a valid submission cannot be scored"
        raise
    if not valid:
        raise Refused("not valid")
