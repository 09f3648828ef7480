"""Sources of tasks: a task file, challenges with solutions, a list of pairs, a folder, and CSV files of boards."""

import json
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from augment import Selection, SourcedTasks, Task, build_puzzle_set, load_tasks
from augment.merge import Role
from tests.fuzz.outcomes import refusable
from tests.fuzz.puzzle_sets import render_everything
from tests.helpers.mutations import mutate_bytes, mutate_json

MAZES = "source,question,answer,rating\nx,S  G,S oG,1\nx,G  S,G oS,2\nx,S #  #  G,So# o#  G,3\n"
"""The last maze has another side than the first, so a whole file has two boards only."""

SOURCES = {
    "task.json": ["task.json"],
    "pairs.json": ["pairs.json"],
    "x": ["x_challenges.json", "x_solutions.json"],
    "y_challenges.json": ["y_challenges.json"],
    "folder": ["folder/one.json", "folder/two.json"],
    "boards": ["boards/train.csv", "boards/test.csv"],
}
"""Source -> its files."""


def prepare() -> None:
    """Write one source of each form, from two small real tasks."""
    Path("folder").mkdir(parents=True)
    Path("boards").mkdir()
    tasks = {task.id: as_json(task) for task in load_tasks("arc-agi-1/training", Selection(max_side=3, limit=2))}
    one, two = tasks.values()
    inputs_only = {
        name: {"train": task["train"], "test": [{"input": pair["input"]} for pair in task["test"]]}
        for name, task in tasks.items()
    }
    solutions = {name: [pair["output"] for pair in task["test"]] for name, task in tasks.items()}
    values = {"task.json": one, "pairs.json": one["train"], "folder/one.json": one, "folder/two.json": two["train"]}
    values |= {"x_challenges.json": inputs_only, "x_solutions.json": solutions, "y_challenges.json": tasks}
    for name, value in values.items():
        Path(name).write_text(json.dumps(value))
    boards = "\n".join(MAZES.splitlines()[:3]) + "\n"
    for part in ("train", "test"):
        (Path("boards") / f"{part}.csv").write_text(boards)


def as_json(task: Task) -> dict[str, list]:
    """Return a task as the JSON value of its file."""
    parts = {"train": task.demonstrations, "test": task.tests}
    return {part: [_pair_as_json(pair) for pair in pairs] for part, pairs in parts.items()}


def _pair_as_json(pair: Any) -> dict[str, Any]:
    output = None if pair.output is None else pair.output.tolist()
    return {"input": pair.input.tolist(), "output": output}


def mutate(random: Random) -> str:
    """Alter one file of one source, and name the source in a file for `read`."""
    source = random.choice(list(SOURCES))
    file = Path(random.choice(SOURCES[source]))
    content = file.read_bytes()
    if file.suffix == ".csv":
        new = _mutate_csv(random, content)
    elif random.random() < 0.4:
        new = mutate_bytes(random, content)
    else:
        new = mutate_json(random, json.loads(content)).encode()
    file.write_bytes(new)
    Path("source.txt").write_text(source)
    return f"{source}: {file.name}"


def _mutate_csv(random: Random, content: bytes) -> bytes:
    """Alter bytes, or one cell of the table."""
    if random.random() < 0.4:
        return mutate_bytes(random, content)
    rows: list[list[str]] = [line.split(",") for line in content.decode().splitlines()]
    row = random.choice(rows)
    place = random.randrange(len(row))
    odd = ["", '"', "x", "S" * 9, "12345678987654321"[:16], row[place] * 2, row[place][::-1], "é", "\x00", "a,b"]
    row[place] = random.choice(odd)
    if random.random() < 0.2:
        rows.append(list(MAZES.splitlines()[-1].split(",")))
    return "\n".join(map(",".join, rows)).encode()


def read(random: Random) -> None:
    """Load the source, compare it with what a plain JSON parser reads, build a puzzle set of it and render it."""
    source = Path("source.txt").read_text()
    tasks = refusable(load_tasks, Path(source))
    assert tasks
    for task in tasks:
        check_task(task)
    if source != "boards":
        check_content(tasks, read_plainly(source))
    role: Role = random.choice(["scored", "train"])
    puzzle_set = refusable(build_puzzle_set, [SourcedTasks("a", role, tasks)], 2, seed=0)
    render_everything(puzzle_set)


def check_task(task: Task) -> None:
    """Check the ID and every grid of a task."""
    assert task.id
    assert task.demonstrations or task.tests
    assert all(pair.output is not None for pair in task.demonstrations)
    for grid in (grid for pair in task.demonstrations + task.tests for grid in pair.grids()):
        assert grid.dtype == np.uint8
        assert min(grid.shape) >= 1
        assert max(grid.shape) <= 30
        assert grid.max() <= 9


def check_content(tasks: list[Task], plain: dict[str, Any]) -> None:
    """Check that each task is what the plain parser read under its ID; as text, for 1, 1.0 and true are equal."""
    for task in tasks:
        if task.id in plain:
            expected = json.dumps(without_oversize(plain[task.id]), sort_keys=True)
            assert json.dumps(as_json(task), sort_keys=True) == expected, f"task {task.id} differs from its file"


def without_oversize(task: Any) -> Any:
    """Return a task that is a list of pairs without those that have a side over 30, which are left out."""
    if not isinstance(task, dict) or task.get("test") != [] or not isinstance(task.get("train"), list):
        return task
    pairs = [pair for pair in task["train"] if all(max(len(grid), *map(len, grid)) <= 30 for grid in pair.values())]
    return task | {"train": pairs}


def read_plainly(source: str) -> dict[str, Any]:
    """Return the tasks of a source by ID as the standard JSON parser reads them; without those that it cannot read."""
    values = {}
    for name in SOURCES[source]:
        try:
            values[name] = json.loads(Path(name).read_bytes().decode("utf-8-sig"))
        except (ValueError, RecursionError):
            return {}
    if source == "x":
        return _with_solutions(*values.values())
    if source == "y_challenges.json":
        return _tasks_of(next(iter(values.values())))
    return _tasks_of({Path(name).stem: value for name, value in values.items()})


def _tasks_of(values: Any) -> dict[str, Any]:
    tasks = {}
    for name, value in values.items() if isinstance(values, dict) else ():
        parts = {"train": value, "test": []} if isinstance(value, list) else value
        try:
            tasks[name] = {part: [_plain_pair(pair) for pair in parts[part]] for part in ("train", "test")}
        except (TypeError, KeyError, AttributeError):
            continue
    return tasks


def _plain_pair(pair: Any) -> dict[str, Any]:
    return {"input": pair["input"], "output": pair.get("output")}


def _with_solutions(challenges: Any, solutions: Any) -> dict[str, Any]:
    tasks = _tasks_of(challenges)
    for name, task in list(tasks.items()):
        try:
            pairs = zip(task["test"], solutions[name], strict=True)
            task["test"] = [{"input": pair["input"], "output": output} for pair, output in pairs]
        except (TypeError, KeyError, ValueError):
            del tasks[name]
    return tasks
