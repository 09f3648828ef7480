"""The forms of files: one task or many, as other programs write them."""

import json
from pathlib import Path
from typing import Any

import pytest

from augment import SourceError, TaskError, load_source, load_tasks
from tests.helpers.sources import arc_task, write_json

ONE, TWO, THREE = arc_task(1), arc_task(2), arc_task(3)
PAIRS = ONE["train"]
EXAMPLES = [[pair["input"], pair["output"]] for pair in PAIRS]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ([ONE, TWO], ["x-1", "x-2"]),
        ([ONE | {"id": "a"}, TWO | {"task_id": "b"}, THREE | {"name": "c"}, TWO], ["a", "b", "c", "x-4"]),
        ([ONE | {"id": 7}], ["7"]),
        ([{"examples": EXAMPLES}, {"examples": PAIRS, "id": "a"}], ["a", "x-1"]),
        ({"examples": EXAMPLES, "source": "def f(): ..."}, ["x"]),
        ({"a": ONE, "b": {"examples": EXAMPLES}}, ["a", "b"]),
        ({"train": {"a": ONE}, "eval": {"b": TWO}}, ["a", "b"]),
        ({"train": {"b": ONE, "a": TWO}}, ["a", "b"]),
        (PAIRS, ["x"]),
        ({"train": PAIRS}, ["x"]),
        (ONE | {"id": "a"}, ["x"]),
    ],
)
def test_the_forms_of_other_programs_are_read(tmp_path: Path, value: Any, expected: list[str]) -> None:
    tasks = load_tasks(write_json(tmp_path / "x.json", value))
    assert [task.id for task in tasks] == expected
    assert all(len(task.demonstrations) == 2 for task in tasks)


def test_examples_are_demonstrations_in_order(tmp_path: Path) -> None:
    [task] = load_tasks(write_json(tmp_path / "x.json", {"examples": EXAMPLES}))
    grids = [[pair.input.tolist(), pair.output.tolist()] for pair in task.demonstrations if pair.output is not None]
    assert (grids, task.tests) == (EXAMPLES, ())


@pytest.mark.parametrize("name", ["x.jsonl", "x.ndjson"])
def test_json_lines_are_tasks_named_by_line_or_id(tmp_path: Path, name: str) -> None:
    lines = [json.dumps(value) for value in (ONE, {"examples": EXAMPLES}, TWO | {"id": "a"}, PAIRS)]
    (tmp_path / name).write_text("\r\n".join([lines[0], "", *lines[1:]]) + "\n\n")
    assert [task.id for task in load_tasks(tmp_path / name)] == ["a", "x-1", "x-3", "x-5"]


def test_a_broken_line_is_left_out_of_what_is_trained_on_and_refused_elsewhere(tmp_path: Path) -> None:
    file = tmp_path / "x.jsonl"
    file.write_text("\n".join([json.dumps(ONE), json.dumps(TWO)[:-9], '{"version": 3}', json.dumps(THREE)]))
    with pytest.raises(SourceError, match=r"x.jsonl, line 2, line 1, column \d+: not JSON"):
        load_tasks(file)
    tasks, left_out = load_source(file, leave_out_broken=True)
    assert [task.id for task in tasks] == ["x-1", "x-4"]
    assert [part.kind for part in left_out] == ["task", "file without a task"]


def test_a_json_file_of_lines_is_told_how_to_be_named(tmp_path: Path) -> None:
    file = tmp_path / "x.json"
    file.write_text(f"{json.dumps(ONE)}\n{json.dumps(TWO)}\n")
    with pytest.raises(SourceError, match=r"line 2, column 1: not JSON .* needs the ending .jsonl"):
        load_tasks(file)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"a": 1, "b": 2, "c": 3, "d": 4}, r"an object with 4 names \(a, b, c, ...\)"),
        ([1, 2], "a list of 2 items that are no pairs"),
        ([EXAMPLES], "a list of 1 items"),
        ("text", "a single JSON value"),
        ({"a": [[[1]]]}, "an object with 1 names"),
        ({"examples": ["a"]}, "an object with 1 names"),
    ],
)
def test_an_unknown_form_is_named_with_how_to_convert_it(tmp_path: Path, value: Any, message: str) -> None:
    with pytest.raises(SourceError, match=rf"x.json contains no ARC task: it is {message}.*write each task as"):
        load_tasks(write_json(tmp_path / "x.json", value))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"PAR1" + bytes(99), "a Parquet file; write its rows as JSON lines"),
        (b"\x93NUMPY\x01", "a NumPy file"),
        (b"\x80\x04\x95", "a Python pickle, which is never read"),
        (b"<!DOCTYPE html><html>", "a web page or XML"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
            "the pointer to a file in Git LFS",
        ),
        (b"tasks/" + bytes(251) + b"ustar" + bytes(200), "a tar archive; unpack it"),
    ],
)
def test_other_formats_are_named_wherever_they_lie(tmp_path: Path, content: bytes, message: str) -> None:
    write_json(tmp_path / "y.json", ONE)
    (tmp_path / "x.json").write_bytes(content)
    for source in ("x.json", "."):
        with pytest.raises(SourceError, match=f"x.json is {message}"):
            load_tasks(tmp_path / source)


@pytest.mark.parametrize("value", [[ONE | {"id": "a"}, TWO | {"id": "a"}], {"train": {"a": ONE}, "eval": {"a": TWO}}])
def test_an_id_that_occurs_twice_is_refused(tmp_path: Path, value: Any) -> None:
    with pytest.raises(SourceError, match=r"task a is twice in .*x.json"):
        load_tasks(write_json(tmp_path / "x.json", value))


@pytest.mark.parametrize("test", [[], None, "absent"])
def test_a_task_to_train_on_needs_no_tests(tmp_path: Path, test: Any) -> None:
    value = {"train": PAIRS} | ({} if test == "absent" else {"test": test})
    [task] = load_tasks(write_json(tmp_path / "folder" / "a.json", value))
    assert task.tests == ()
    challenges = write_json(tmp_path / "x_challenges.json", {"a": value, "b": ONE})
    assert [task.id for task in load_source(challenges, leave_out_broken=True).tasks] == ["a", "b"]
    with pytest.raises(TaskError, match=r"x_challenges.json: task a: .*to be scored; .*train on this source"):
        load_tasks(challenges)
