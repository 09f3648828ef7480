"""The file of results, one JSON object a line: what the runs of a search append, and the leaderboard reads.

A record holds date, commit, name, recipe, changes, tasks (the set), seed, budget (unit, amount), ensemble (how many
models), steps, examples and flop of all of them, seconds (of training), predict_seconds, threads, weights (numbers in
one network, ID rows not among them), exact (share of training examples, at the end), solved, covered, outputs, right,
macro and solved_outputs.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.search.settings import Setting
from pipeline.config.run_config import ConfigError

FILE = Path("benchmarks/results/search.jsonl")
NEEDED = ("name", "recipe", "changes", "tasks", "seed", "budget", "macro", "solved_outputs")

Record = Mapping[str, Any]


def append(file: Path, record: Record) -> None:
    """Add one line; the folder is made where there is none."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a", encoding="utf-8") as lines:
        lines.write(json.dumps(record) + "\n")


def read(file: Path) -> list[Record]:
    """Every record, oldest first; ValueError naming the file, or the line that is not one."""
    if not file.exists():
        raise ValueError(f"{file}: no such file; `python -m benchmarks.search run` makes it")
    lines = file.read_text(encoding="utf-8").splitlines()
    return [_parse(line, f"{file}, line {number}") for number, line in enumerate(lines, 1) if line.strip()]


def _parse(line: str, where: str) -> Record:
    try:
        record = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"{where}: not valid JSON ({error}); remove the line") from None
    missing = [name for name in NEEDED if not isinstance(record, dict) or name not in record]
    if missing:
        raise ValueError(f"{where}: is no result, {', '.join(missing)} missing; remove the line")
    return record


def refuse_other_meaning(records: Iterable[Record], name: str, setting: Setting) -> None:
    """ConfigError where the file holds another setting under this name: their figures would be mixed."""
    new = {"recipe": setting.recipe, "changes": json.loads(json.dumps(dict(setting.changes)))}
    for record in records:
        old = {part: record[part] for part in new}
        if record["name"] == name and old != new:
            raise ConfigError(f"{name}: the file has it as {old}, and this is {new}; choose another name or --file")
