"""Parsing tasks from JSON values, and selecting tasks."""

import pytest
from hypothesis import given, settings

from augment import Selection, Task, TaskError, parse_pair_list, parse_task, select_tasks
from tests.helpers.strategies import task_values

ONE = [[1]]
TWO = [[2, 2], [2, 2]]
PAIR = {"input": ONE, "output": TWO}


def small_task(task_id: str, side: int = 1) -> Task:
    grid = [[1] * side]
    return parse_task(task_id, {"train": [{"input": grid, "output": ONE}], "test": [{"input": ONE}]}, "file")


@settings(max_examples=25)
@given(task_values)
def test_a_parsed_task_has_the_grids_of_its_json_value(value: dict) -> None:
    task = parse_task("t", value, "file")
    for part, pairs in (("train", task.demonstrations), ("test", task.tests)):
        written = [[pair["input"], pair["output"]] for pair in value[part]]
        assert [[grid.tolist() for grid in pair.grids()] for pair in pairs] == written
    assert task.has_solutions
    hidden = task.hidden()
    assert [pair.output for pair in hidden.tests] == [None] * len(task.tests)
    assert hidden.demonstrations is task.demonstrations
    assert hidden.max_side == task.max_side


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([], "not list"),
        ({"train": [PAIR], "test": 0}, '"test" must be a list of at least one pair'),
        ({"test": [PAIR]}, '"train" must be'),
        ({"train": [], "test": [PAIR]}, '"train" must be'),
        ({"train": [PAIR], "test": {}}, '"test" must be'),
        ({"train": [PAIR, [ONE, TWO]], "test": [PAIR]}, "train pair 1: a pair is an object"),
        ({"train": [{"output": ONE}], "test": [PAIR]}, "train pair 0: a pair is an object"),
        ({"train": [{"input": ONE}], "test": [PAIR]}, 'train pair 0: "output" is missing'),
        ({"train": [PAIR], "test": [PAIR, {"input": [[1], []]}]}, "test pair 1 input: row 1"),
        (
            {"train": [PAIR], "test": [{"input": ONE, "output": [[11]]}]},
            "test pair 0 output: row 0, column 0",
        ),
    ],
)
def test_broken_tasks_are_refused_with_file_task_and_reason(value: object, message: str) -> None:
    with pytest.raises(ValueError, match=f"^file: task t: .*{message}") as caught:
        parse_task("t", value, "file")
    assert type(caught.value) in (TaskError, *TaskError.__subclasses__()) or "row" in str(caught.value)


@pytest.mark.parametrize("task_id", ["", "a|||t1", "a\nb", "\x1b[1m", "\ud800", "a" * 201])
def test_an_id_that_would_break_keys_or_files_is_refused(task_id: str) -> None:
    with pytest.raises(TaskError, match=r"^file: task '.*: a task ID has 1 to 200") as caught:
        parse_task(task_id, {"train": [PAIR], "test": [PAIR]}, "file")
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("task_id", ["a", "a b/ä-日本.1", "a" * 200])
def test_any_other_id_is_accepted(task_id: str) -> None:
    assert parse_task(task_id, {"train": [PAIR], "test": [PAIR]}, "file").id == task_id


def test_missing_and_null_test_outputs_are_hidden_outputs() -> None:
    tests = [{"input": ONE}, {"input": ONE, "output": None}, PAIR]
    task = parse_task("t", {"train": [PAIR], "test": tests}, "file")
    assert [pair.output is None for pair in task.tests] == [True, True, False]
    assert not task.has_solutions


def test_max_side_counts_all_grids_except_test_outputs() -> None:
    long = {"input": ONE, "output": [[1] * 9]}
    assert parse_task("t", {"train": [PAIR], "test": [long]}, "file").max_side == 2
    assert parse_task("t", {"train": [long], "test": [PAIR]}, "file").max_side == 9
    tall_test = {"input": [[1]] * 7}
    assert parse_task("t", {"train": [PAIR], "test": [tall_test]}, "file").max_side == 7


def test_a_task_without_tests_can_be_inspected_and_selected() -> None:
    task = parse_pair_list("t", [PAIR, {"input": [[1] * 5], "output": ONE}], "file")
    assert (len(task.demonstrations), task.tests) == (2, ())
    assert (task.max_side, task.has_solutions, task.hidden().tests) == (5, True, ())
    assert select_tasks([task, small_task("a")], Selection(max_side=5))[1] is task
    assert [task.id for task in select_tasks([task, small_task("a")], Selection(max_side=4))] == ["a"]


def test_selection_filters_by_id_then_side_then_takes_the_first() -> None:
    tasks = [small_task("c", 2), small_task("a", 9), small_task("b"), small_task("d")]

    def ids(**selection: object) -> list[str]:
        return [task.id for task in select_tasks(tasks, Selection(**selection))]  # type: ignore[arg-type]

    assert ids() == ["a", "b", "c", "d"]
    assert ids(max_side=2) == ["b", "c", "d"]
    assert ids(max_side=2, limit=2) == ["b", "c"]
    assert ids(tasks=("d", "a")) == ["a", "d"]
    assert ids(tasks=("d", "a"), max_side=2, limit=5) == ["d"]


@pytest.mark.parametrize(
    ("selection", "message"),
    [
        (Selection(tasks=("abd", "abc")), r"puzzles has no task abd \(1 tasks; close matches: abc\)"),
        (Selection(tasks=tuple("1234567")), "no task 1, 2, 3, 4, 5 and 2 more .*starts with abc"),
        (Selection(max_side=1), "raise max_side"),
    ],
)
def test_the_error_for_an_unsatisfiable_selection_names_the_reason(selection: Selection, message: str) -> None:
    with pytest.raises(TaskError, match=message):
        select_tasks([small_task("abc", 4)], selection, "puzzles")


@pytest.mark.parametrize("broken", [{"limit": 0}, {"limit": -1}, {"max_side": 0}, {"max_side": 31}])
def test_impossible_selections_are_refused(broken: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(broken))):
        Selection(**broken)
