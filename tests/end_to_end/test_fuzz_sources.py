"""Real files, whole and with odd values: a source ends in an error that names its file, or in what the file says."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from augment import GridError, Selection, SourceError, Task, TaskError, load_source, load_tasks
from augment.grid import OversizeError
from augment.sources.forms import NoTaskError

Files = dict[str, bytes]

ODD_JSON = [
    *("null", "true", "false", "0", "7", "-0", "10", "-1", "01", "1.0", "1e0", "1e400", "NaN", "Infinity", "-Infinity"),
    *('""', '"1"', '"Infinity"', r'"\ud800"', '"input"', "{}", "[]", "[[]]", "[[1, 2]]", "[[1], [2, 3]]", "[[1, [2]]]"),
    *(
        "[[10]]",
        "[[1 2]]",
        "[[1,\n2]\r]",
        "[[true]]",
        "[[1,]]",
        "[[1][2]]",
        "[[1]]]",
        '{"input": [[1]], "output": null}',
    ),
    *("9" * 4000, "9" * 5000, "[" * 600 + "]" * 600, "[" * 5000 + "]" * 5000, f"[{[1] * 31}]", f"{[[1]] * 31}"),
]
ODD_NAMES = ["", "a", "input", "output", "train", "test", "a|||b", "\x1b[1m", "\ud800", "x" * 300, '"', "inp\\u0075t"]
ODD_BYTES = [
    b"\xef\xbb\xbf",
    b"\xff",
    b"\x00",
    b"\xed\xa0\x80",
    b"Infinity",
    b"[",
    b"]",
    b",",
    b" ",
    b"\n",
    b'"',
    b"\\",
]

HOW_BYTES = ["flip", "set", "delete", "insert", "start", "truncate", "double", "move"]
STAND_IN = "stand-in for odd JSON"


@cache
def real_tasks() -> dict[str, Any]:
    """Small real tasks as JSON values, test outputs included."""
    tasks = load_tasks("arc-agi-1/training", Selection(max_side=4, limit=3))
    return {task.id: as_json(task) for task in tasks}


def as_json(task: Task) -> dict[str, list]:
    def pairs(part: tuple) -> list[dict]:
        return [
            {"input": pair.input.tolist(), "output": None if pair.output is None else pair.output.tolist()}
            for pair in part
        ]

    return {"train": pairs(task.demonstrations), "test": pairs(task.tests)}


def sources() -> dict[str, dict[str, Any]]:
    """Source to load -> the JSON values of its files, one of each kind."""
    tasks = real_tasks()
    task_id, task = next(iter(tasks.items()))
    hidden = {
        key: {"train": value["train"], "test": [{"input": pair["input"]} for pair in value["test"]]}
        for key, value in tasks.items()
    }
    solutions = {key: [pair["output"] for pair in value["test"]] for key, value in tasks.items()}
    return {
        "x": {"x_challenges.json": hidden, "x_solutions.json": solutions},
        "y_challenges.json": {"y_challenges.json": tasks, "y_solutions.json": solutions},
        f"{task_id}.json": {f"{task_id}.json": task},
        "pairs.json": {"pairs.json": task["train"]},
        "folder": {f"folder/{task_id}.json": task, "folder/pairs.json": task["train"]},
    }


def read_plainly(folder: Path, source: str, without: set[str]) -> dict[str, Any]:
    """The tasks that the files of a source hold, by the JSON parser alone; `without` these files of a folder."""

    def load(file: Path) -> Any:
        return json.loads(file.read_bytes().decode("utf-8-sig"))

    if source == "folder":
        files = [file for file in (folder / source).iterdir() if str(file) not in without]
        return {file.stem: plain_task(load(file)) for file in files}
    prefix = source.removesuffix("_challenges.json")
    if prefix not in ("x", "y"):
        value = load(folder / source)
        if isinstance(value, list) or isinstance(value.get("train"), list):
            return {Path(source).stem: plain_task(value)}
        return {task_id: plain_task(task) for task_id, task in value.items()}
    tasks = {task_id: plain_task(value) for task_id, value in load(folder / f"{prefix}_challenges.json").items()}
    solutions = load(folder / f"{prefix}_solutions.json")
    for task_id, task in tasks.items():
        task["test"] = [
            {"input": pair["input"], "output": output}
            for pair, output in zip(task["test"], solutions[task_id], strict=True)
        ]
    return tasks


def plain_task(value: Any) -> dict[str, Any]:
    parts = {"train": value, "test": []} if isinstance(value, list) else value
    return {
        part: [
            {"input": pair["input"], "output": pair.get("output")}
            for pair in parts.get(part) or []
            if not (isinstance(value, list) and is_oversize(pair))
        ]
        for part in ("train", "test")
    }


def is_oversize(pair: dict) -> bool:
    """Whether a grid of the pair has a side over 30; such pairs are left out of a list."""
    return any(len(grid) > 30 or len(grid[0]) > 30 for grid in (pair["input"], pair["output"]))


def check(folder: Path, source: str, files: Files) -> str:
    """Load a source: "loaded" what its files say, or "refused" with a message about one of them.

    Oversize pairs of a list, and files of a folder that are oversize or contain no task, are left out and named.
    """
    for name, content in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)
    complaint = ""
    try:
        tasks, left_out = load_source(folder / source)
    except (SourceError, TaskError, GridError) as error:
        tasks, left_out, complaint = [], [], str(error)
    if not tasks:
        assert any(str(folder / name) in complaint for name in files)
        assert complaint.isprintable()
        return "refused"
    for task in tasks:
        check_task(task)
    assert all(
        isinstance(part.error, OversizeError | NoTaskError) and part.file in str(part.error) for part in left_out
    )
    without = {part.file for part in left_out if part.pair is None}
    assert not without or source == "folder"
    # As text, for 1, 1.0 and true are equal as values.
    assert json.dumps({task.id: as_json(task) for task in tasks}, sort_keys=True) == json.dumps(
        read_plainly(folder, source, without), sort_keys=True
    )
    return "loaded"


def check_task(task: Task) -> None:
    assert task.demonstrations
    assert all(pair.output is not None for pair in task.demonstrations)
    for grid in (grid for pair in task.demonstrations + task.tests for grid in pair.grids()):
        assert grid.dtype == np.uint8
        assert grid.flags.c_contiguous
        assert min(grid.shape) >= 1
        assert max(grid.shape) <= 30
        assert grid.max() <= 9


@pytest.mark.parametrize("source", sources())
def test_whole_sources_load_what_their_files_say(tmp_path: Path, source: str) -> None:
    files = {name: json.dumps(value).encode() for name, value in sources()[source].items()}
    assert check(tmp_path, source, files) == "loaded"


@pytest.mark.parametrize("odd", ODD_JSON)
def test_odd_values_in_the_place_of_a_grid_or_a_cell(tmp_path: Path, odd: str) -> None:
    for grid, cell in ((odd, "1"), ("[[1]]", odd)):
        check(tmp_path, "pairs.json", {"pairs.json": f'[{{"input": {grid}, "output": [[{cell}]]}}]'.encode()})


@pytest.mark.parametrize("name", ODD_NAMES)
def test_odd_names_of_tasks(tmp_path: Path, name: str) -> None:
    challenges, solutions = sources()["x"].values()
    odd, odd_solutions, real = (
        json.dumps(value).encode()
        for value in ({name: challenges["0d3d703e"]}, {name: solutions["0d3d703e"]}, challenges)
    )
    usable = 0 < len(name) <= 200 and name.isprintable() and "|||" not in name
    outcome = check(tmp_path, "x", {"x_challenges.json": odd, "x_solutions.json": odd_solutions})
    assert outcome == ("loaded" if usable else "refused")
    assert check(tmp_path, "x", {"x_challenges.json": real, "x_solutions.json": odd_solutions}) == "refused"


@settings(max_examples=300)
@given(st.data())
def test_the_text_of_a_grid_loads_just_where_it_is_one(tmp_path_factory: Any, data: st.DataObject) -> None:
    text = list(data.draw(st.sampled_from(["[[1]]", "[[1,2],[0,3]]", "[ [1, 2, 3] ]", "[[1],[2],[3]]"])))
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(text)))
        text[place : place + data.draw(st.integers(0, 1))] = data.draw(st.sampled_from([*"[],15 \n\f.-", ""]))
    content = f'[{{"input": {"".join(text)}, "output": [[1]]}}]'
    outcome = check(tmp_path_factory.mktemp("grid"), "pairs.json", {"pairs.json": content.encode()})
    assert outcome == ("loaded" if holds_a_grid(content) else "refused")


def holds_a_grid(content: str) -> bool:
    """Whether the list of one pair has a grid as its input, by the JSON parser alone."""
    try:
        [pair] = json.loads(content)
        return all(type(cell) is int and 0 <= cell <= 9 for row in pair["input"] for cell in row) and (
            len({len(row) for row in pair["input"]}) == 1 and len(pair["input"][0]) > 0
        )
    except (ValueError, TypeError):
        return False


def test_nesting_of_any_depth(tmp_path: Path) -> None:
    for depth in range(900, 1010):
        content = f'[{{"input": [[{"[" * depth}{"]" * depth}]], "output": [[1]]}}]'
        assert check(tmp_path, "pairs.json", {"pairs.json": content.encode()}) == "refused"


def test_text_that_is_no_utf_8_is_refused_and_a_byte_order_mark_is_not(tmp_path: Path) -> None:
    content = json.dumps(sources()["pairs.json"]["pairs.json"]).encode()
    assert check(tmp_path, "pairs.json", {"pairs.json": b"\xef\xbb\xbf" + content}) == "loaded"
    odd = content.replace(b'"input"', b'"n\xe9": 1, "input"', 1)
    assert check(tmp_path, "pairs.json", {"pairs.json": odd}) == "refused"
