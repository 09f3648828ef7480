"""What is left out of a source, and where that stops the program instead."""

from pathlib import Path
from typing import Any

import pytest

from augment import GridError, Selection, SourceError, load_source, load_tasks
from augment.grid import OversizeError
from augment.sources.lenient import load_readable_source, load_readable_tasks
from augment.sources.reading import LeftOut, describe_left_out
from tests.helpers.sources import arc_task, write_json

GOOD = arc_task(1)
TALL = GOOD | {"train": [*GOOD["train"], {"input": [[1]] * 31, "output": [[1]]}]}
WIDE = GOOD | {"test": [{"input": [[1] * 40]}]}
BROKEN = GOOD | {"train": [{"input": [[1, 2], [3]], "output": [[1]]}]}
BIG_PAIR = {"input": [[1]], "output": [[1] * 31] * 31}


def names(left_out: list[LeftOut]) -> list[str]:
    return [part.task for part in left_out]


def ids(source: Path, **selection: Any) -> list[str]:
    return [task.id for task in load_tasks(source, Selection(**selection))]


def test_oversize_tasks_of_a_folder_are_left_out(tmp_path: Path) -> None:
    for name, value in {"a": GOOD, "b": TALL, "c": WIDE}.items():
        write_json(tmp_path / f"{name}.json", value)
    tasks, left_out = load_source(tmp_path)
    assert ([task.id for task in tasks], names(left_out)) == (["a"], ["b", "c"])
    assert [part.reason for part in left_out] == [
        "train pair 2 input: the grid is 31 x 1; both sides must be 1 to 30",
        "test pair 0 input: the grid is 1 x 40; both sides must be 1 to 30",
    ]
    assert ids(tmp_path, max_side=5) == ids(tmp_path, limit=3) == ["a"]


def test_oversize_pairs_of_a_list_are_left_out(tmp_path: Path) -> None:
    pairs = GOOD["train"]
    write_json(tmp_path / "a.json", [pairs[0], BIG_PAIR, pairs[1], BIG_PAIR])
    write_json(tmp_path / "b.json", pairs)
    tasks, left_out = load_source(tmp_path)
    assert [len(task.demonstrations) for task in tasks] == [2, 2]
    assert [(part.task, part.pair, part.kind) for part in left_out] == [("a", 1, "pair"), ("a", 3, "pair")]
    write_json(tmp_path / "a.json", [BIG_PAIR])
    assert [(part.task, part.pair) for part in load_source(tmp_path).left_out] == [("a", None)]


def test_nothing_but_oversize_tasks_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OversizeError, match=r"b.json: task b: train pair 2 input: the grid is 31 x 1"):
        load_tasks(write_json(tmp_path / "b.json", TALL))
    write_json(tmp_path / "c.json", WIDE)
    with pytest.raises(SourceError, match=r"b.json: task b: .*; 1 more cannot be used: c"):
        load_tasks(tmp_path)


def test_oversize_tasks_of_challenges_stop_unless_the_side_is_limited(tmp_path: Path) -> None:
    file = write_json(tmp_path / "x_challenges.json", {"a": GOOD, "b": TALL})
    write_json(tmp_path / "x_solutions.json", {"a": [[[1]]], "b": [[[1]]]})
    with pytest.raises(OversizeError, match="task b"):
        load_tasks(file)
    tasks, left_out = load_source(file, Selection(max_side=30))
    assert ([task.id for task in tasks], names(left_out)) == (["a"], ["b"])
    assert tasks[0].has_solutions
    assert names(load_source(file, leave_out_broken=True).left_out) == ["b"]


@pytest.mark.parametrize("container", ["folder", "x_challenges.json", "x.json"])
def test_a_broken_task_stops_what_is_scored_and_is_left_out_of_what_is_trained_on(
    tmp_path: Path, container: str
) -> None:
    values = {"a": GOOD, "b": BROKEN, "c": BROKEN}
    source = tmp_path / container
    if container == "folder":
        for name, value in values.items():
            write_json(source / f"{name}.json", value)
    else:
        write_json(source, values)
    with pytest.raises(SourceError, match=r"task b: train pair 0 input: row 1 has 1 cells.*; 1 more cannot be used: c"):
        load_tasks(source)
    tasks, left_out = load_source(source, leave_out_broken=True)
    assert ([task.id for task in tasks], names(left_out)) == (["a"], ["b", "c"])
    assert ids(source, tasks=("a",)) == ["a"]
    for leave_out in (False, True):
        with pytest.raises(GridError, match="task b"):
            load_source(source, Selection(tasks=("a", "b")), leave_out)


def test_a_broken_pair_stops_what_is_scored_and_is_left_out_of_what_is_trained_on(tmp_path: Path) -> None:
    file = write_json(tmp_path / "a.json", [*GOOD["train"], BROKEN["train"][0]])
    with pytest.raises(GridError, match="pairs pair 2"):
        load_tasks(file)
    [task], [part] = load_source(file, leave_out_broken=True)
    assert (len(task.demonstrations), part.pair) == (2, 2)


def test_a_file_cut_short_stops_a_scored_folder(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", GOOD)
    cut = write_json(tmp_path / "b.json", GOOD)
    cut.write_text(cut.read_text()[:-20])
    with pytest.raises(SourceError, match=r"b.json, line 1, column \d+: not JSON"):
        load_tasks(tmp_path)
    assert names(load_source(tmp_path, leave_out_broken=True).left_out) == ["b"]


def test_an_impossible_solution_is_left_out_of_what_is_trained_on(tmp_path: Path) -> None:
    file = write_json(tmp_path / "x_challenges.json", {"a": GOOD, "b": GOOD})
    solutions = write_json(tmp_path / "x_solutions.json", {"a": [[[1]]], "b": [[[10]]], "c": 5})
    with pytest.raises(GridError, match=r"x_solutions.json: task b: output 0"):
        load_tasks(file)
    tasks, [part] = load_source(file, leave_out_broken=True)
    assert ([task.id for task in tasks], part.task, part.file) == (["a"], "b", str(solutions))


def test_solutions_of_other_tasks_are_passed_over_and_missing_ones_are_not(tmp_path: Path) -> None:
    write_json(tmp_path / "x_challenges.json", {"b": GOOD})
    write_json(tmp_path / "x_solutions.json", {"a": [[[1]]], "b": [[[2]]], "c": [[[3]]]})
    [task] = load_tasks(tmp_path / "x")
    assert [pair.output.tolist() for pair in task.tests if pair.output is not None] == [[[2]]]
    write_json(tmp_path / "x_challenges.json", {"a": GOOD, "d": GOOD, "e": GOOD})
    with pytest.raises(SourceError, match=r"x_solutions.json: task d has no solution \(2 of 3"):
        load_source(tmp_path / "x", leave_out_broken=True)


@pytest.mark.parametrize("value", [TALL, BROKEN, {"train": GOOD["train"], "test": []}, 3])
def test_a_submission_needs_an_entry_for_every_task_of_a_competition(tmp_path: Path, value: Any) -> None:
    file = write_json(tmp_path / "x_challenges.json", {"a": GOOD, "b": value})
    tasks, unreadable = load_readable_tasks(file)
    assert ([task.id for task in tasks], [task.task for task in unreadable]) == (["a"], ["b"])


def test_what_a_lenient_run_leaves_out_of_a_folder_is_listed(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", GOOD)
    write_json(tmp_path / "b.json", TALL)
    source = load_readable_source(tmp_path)
    assert ([task.id for task in source.tasks], source.unreadable, names(source.left_out)) == (["a"], [], ["b"])


def test_the_line_names_a_few_parts_and_counts_them_all(tmp_path: Path) -> None:
    write_json(tmp_path / "good.json", GOOD)
    write_json(tmp_path / "list.json", [GOOD["train"][0], BIG_PAIR])
    for number in range(3):
        write_json(tmp_path / f"t{number}.json", TALL)
        write_json(tmp_path / f"z{number}.json", {"version": number})
    left_out = load_source(tmp_path).left_out
    [line] = describe_left_out("data", left_out, scored=True)
    assert line.startswith(
        "left out of data and not scored, 3 tasks, 1 pair, 3 files without a task: list (pairs pair 1 output: the grid "
        "is 31 x 31; both sides must be 1 to 30), t0 ("
    )
    assert line.endswith(" and 4 more")
    assert describe_left_out("data", left_out[:1])[0].startswith("left out of data, 1 pair: list (")
    assert describe_left_out("data", []) == []
