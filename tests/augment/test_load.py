"""Load tasks from every kind of source; error messages for broken sources."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from augment import SOURCES, Selection, SourceError, Task, TaskError, find_source_label, load_tasks
from tests.helpers.paths import ROOT
from tests.helpers.strategies import json_values, task_values

GRID = [[1, 2]]
OUTPUT = [[2], [1]]
VALUE = {"train": [{"input": GRID, "output": OUTPUT}], "test": [{"input": GRID}, {"input": OUTPUT}]}
SOLUTION = [OUTPUT, GRID]


def write(path: Path, value: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")
    return path


def written(task: Task) -> dict[str, list]:
    """Convert the task to its JSON value."""

    def pairs(values: Any) -> list[dict]:
        return [
            {"input": pair.input.tolist()} | ({} if pair.output is None else {"output": pair.output.tolist()})
            for pair in values
        ]

    return {"train": pairs(task.demonstrations), "test": pairs(task.tests)}


@pytest.mark.parametrize(
    ("source", "tasks", "outputs"),
    [
        ("arc-agi-1/training", 400, 416),
        ("arc-agi-1/evaluation", 400, 419),
        ("arc-agi-2/training", 1000, 1076),
        ("arc-agi-2/evaluation", 120, 167),
        ("kaggle-2024/training", 400, 416),
        ("kaggle-2024/evaluation", 400, 419),
        ("kaggle-2025/training", 1000, 1076),
        ("kaggle-2025/evaluation", 120, 172),
        ("concept", 160, 480),
    ],
)
def test_named_sources_have_their_known_sizes(source: str, tasks: int, outputs: int) -> None:
    loaded = load_tasks(source)
    assert (len(loaded), sum(len(task.tests) for task in loaded)) == (tasks, outputs)
    assert [task.id for task in loaded] == sorted({task.id for task in loaded})
    assert all(task.has_solutions for task in loaded)


def test_the_public_test_file_is_the_first_training_tasks_without_outputs() -> None:
    tests = load_tasks("kaggle-2025/test")
    training = load_tasks("kaggle-2025/training")
    assert (len(tests), sum(len(task.tests) for task in tests)) == (240, 259)
    assert [written(task) for task in tests] == [written(task.hidden()) for task in training[:240]]


def test_concept_loads_the_tasks_of_its_files_in_data() -> None:
    stem = ROOT / "data" / "arc-agi_concept"
    challenges, solutions = (
        json.loads(Path(f"{stem}_{part}.json").read_text()) for part in ("challenges", "solutions")
    )
    for task_id, outputs in solutions.items():
        for test, output in zip(challenges[task_id]["test"], outputs, strict=True):
            test["output"] = output
    assert {task.id: written(task) for task in load_tasks("concept")} == challenges


def test_the_25_small_training_tasks_are_selected_by_side() -> None:
    small = load_tasks("arc-agi-1/training", Selection(max_side=5))
    assert (len(small), sum(len(task.tests) for task in small)) == (25, 31)


@settings(max_examples=15)
@given(st.dictionaries(st.text("abc0", min_size=1, max_size=3), task_values, max_size=3, min_size=1))
def test_a_challenges_file_loads_what_was_written(tmp_path_factory: Any, values: dict) -> None:
    file = write(tmp_path_factory.mktemp("challenges") / "mine_challenges.json", values)
    assert {task.id: written(task) for task in load_tasks(file)} == values


@pytest.mark.parametrize("source", ["mine_challenges.json", "mine", "mine_"])
def test_solutions_beside_a_challenges_file_are_found(tmp_path: Path, source: str) -> None:
    write(tmp_path / "mine_challenges.json", {"b": VALUE, "a": VALUE})
    assert [task.has_solutions for task in load_tasks(tmp_path / source)] == [False, False]
    write(tmp_path / "mine_solutions.json", {"a": SOLUTION, "b": SOLUTION})
    tasks = load_tasks(str(tmp_path / source))
    assert [task.id for task in tasks] == ["a", "b"]
    assert [[test["output"] for test in written(task)["test"]] for task in tasks] == [SOLUTION, SOLUTION]


def test_a_folder_has_one_task_per_file(tmp_path: Path) -> None:
    write(tmp_path / "b.json", VALUE)
    write(tmp_path / "a.json", VALUE)
    write(tmp_path / "inner" / "c.json", VALUE)
    write(tmp_path / "notes.txt", "not JSON")
    assert [task.id for task in load_tasks(tmp_path)] == ["a", "b"]
    assert written(load_tasks(tmp_path / "a.json")[0]) == VALUE


def test_subfolders_are_searched_if_a_folder_has_no_files(tmp_path: Path) -> None:
    write(tmp_path / "Center" / "Center1.json", VALUE)
    write(tmp_path / "Above" / "deep" / "Above1.json", VALUE)
    assert [task.id for task in load_tasks(tmp_path)] == ["Above1", "Center1"]
    write(tmp_path / "Below" / "Above1.json", VALUE)
    with pytest.raises(SourceError, match=r"task Above1 is in both .*deep/Above1.json and .*Below/Above1.json"):
        load_tasks(tmp_path)


def test_the_label_is_the_name_or_the_plain_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [find_source_label(name) for name in SOURCES] == list(SOURCES)
    assert find_source_label(f"{tmp_path}/./sub//") == str(tmp_path / "sub")
    write(tmp_path / "concept" / "a.json", VALUE)
    monkeypatch.chdir(tmp_path)
    assert len(load_tasks("concept")) == 160
    for path in ("./concept", "concept/", "./concept/."):
        assert find_source_label(path) == find_source_label(find_source_label(path)) == "./concept"
        assert [task.id for task in load_tasks(path)] == ["a"]


def numbered_pairs(count: int) -> list[dict]:
    """Create pairs whose inputs are different: the cells are the digits of the pair's number."""
    return [{"input": [[int(digit) for digit in f"{number:04}"]], "output": OUTPUT} for number in range(count)]


def numbers(task: Task) -> list[int]:
    return [int("".join(map(str, pair.input[0].tolist()))) for pair in task.demonstrations]


def test_a_list_of_pairs_is_a_task_without_tests(tmp_path: Path) -> None:
    [task] = load_tasks(write(tmp_path / "a.json", numbered_pairs(3)))
    assert (task.id, numbers(task), task.tests) == ("a", [0, 1, 2], ())
    write(tmp_path / "b.json", VALUE)
    first, second = load_tasks(tmp_path)
    assert (len(first.demonstrations), first.tests) == (3, ())
    assert written(second) == VALUE
    assert load_tasks(tmp_path, Selection(max_side=4, tasks=("a",)))[0].id == "a"


def test_a_bad_pair_anywhere_in_a_list_is_refused(tmp_path: Path) -> None:
    for number in (0, 500, 999):
        pairs = numbered_pairs(1000)
        pairs[number]["output"] = [[10]]
        with pytest.raises(ValueError, match=rf"a.json: task a: pairs pair {number} output: row 0, column 0 is 10"):
            load_tasks(write(tmp_path / "a.json", pairs))


@pytest.mark.parametrize("value", [[], [{"input": GRID}], [{"output": GRID}, 3]])
def test_lists_without_valid_pairs_are_refused(tmp_path: Path, value: list) -> None:
    with pytest.raises(TaskError, match=r"a.json: task a: \"?pairs"):
        load_tasks(write(tmp_path / "a.json", value))


def test_the_statistics_file_of_re_arc_is_not_a_task(tmp_path: Path) -> None:
    write(tmp_path / "metadata.json", {"a": {"n_examples": 1000}})
    write(tmp_path / "tasks" / "a.json", numbered_pairs(2))
    assert [task.id for task in load_tasks(tmp_path)] == [task.id for task in load_tasks(tmp_path / "tasks")] == ["a"]


@pytest.mark.parametrize(
    ("solutions", "message"),
    [
        ({"a": SOLUTION}, "task b has no solution"),
        ({"a": SOLUTION, "b": SOLUTION[:1]}, "task b: 1 outputs for 2 test inputs"),
        ({"a": 5, "b": SOLUTION}, "task a: no list of outputs for 2 test inputs"),
        ([SOLUTION], "must contain one JSON object"),
        ("{", "line 1, column 2"),
    ],
)
def test_solutions_that_do_not_match_are_refused(tmp_path: Path, solutions: object, message: str) -> None:
    write(tmp_path / "mine_challenges.json", {"a": VALUE, "b": VALUE})
    write(tmp_path / "mine_solutions.json", solutions)
    with pytest.raises(SourceError, match=rf"mine_solutions.json.*{message}"):
        load_tasks(tmp_path / "mine")


def test_outputs_in_both_files_must_agree(tmp_path: Path) -> None:
    value = VALUE | {"test": [{"input": GRID, "output": GRID}]}
    write(tmp_path / "mine_challenges.json", {"a": value})
    write(tmp_path / "mine_solutions.json", {"a": [GRID]})
    assert load_tasks(tmp_path / "mine")[0].has_solutions
    write(tmp_path / "mine_solutions.json", {"a": [OUTPUT]})
    with pytest.raises(SourceError, match="task a: output 0 differs"):
        load_tasks(tmp_path / "mine")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"a":\n {"train": [}}', r"x_challenges.json, line 2, column 13: not JSON"),
        ("", "line 1, column 1"),
        ('{"a": {"train": [{"input": [[1, 2]],\n "output": [[1], [2]] 3', "line 2, column 23: not JSON"),
        ("[" * 100_000, "cannot be read"),
        ('{"a": ' + "1" * 5000 + "}", "cannot be read"),
        ("{}", "at least one task"),
        ("[]", "one JSON object of tasks"),
        ('{"a": 3}', "x_challenges.json: task a: .* not int"),
        ('{"a": {"train": NaN, "test": []}}', 'task a: "train" must be'),
        (
            json.dumps({"a": VALUE, "b": {"train": [{"input": [[1.5]]}], "test": []}}),
            "task b: train pair 0 input",
        ),
    ],
)
def test_broken_challenges_are_refused_with_file_and_place(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        load_tasks(write(tmp_path / "x_challenges.json", content))
    assert str(tmp_path / "x_challenges.json") in str(caught.value)


@settings(max_examples=60)
@given(st.dictionaries(st.sampled_from("ab"), json_values | task_values) | json_values)
def test_any_json_loads_or_is_refused_with_its_file(tmp_path_factory: Any, value: object) -> None:
    file = write(tmp_path_factory.mktemp("any") / "any.json", value)
    try:
        result = {task.id: written(task) for task in load_tasks(file)}
    except ValueError as error:
        result = str(error)
    assert result == value or str(file) in result


@settings(max_examples=60)
@given(st.binary(max_size=12))
def test_any_bytes_are_refused(tmp_path_factory: Any, content: bytes) -> None:
    file = tmp_path_factory.mktemp("bytes") / "any.json"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=r"any.json"):
        load_tasks(file)


def test_invalid_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"contains no \.json file"):
        load_tasks(tmp_path)
    write(tmp_path / "package.json", {"name": "viewer"})
    with pytest.raises(SourceError, match=r"package.json contains no ARC task: it is an object with 1 names \(name\)"):
        load_tasks(tmp_path)
    write(tmp_path / "mine_challenges.json", {"a": VALUE})
    with pytest.raises(SourceError, match=r"mine_challenges\.json contains many tasks"):
        load_tasks(tmp_path)


def test_a_solutions_file_is_refused_as_source(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="give the challenges file"):
        load_tasks(write(tmp_path / "mine_solutions.json", {"a": SOLUTION}))


def test_the_error_for_an_unknown_source_lists_close_matches() -> None:
    with pytest.raises(SourceError, match=r"no source conceptarc; did you mean concept\?.*kaggle-2025/test, concept;"):
        load_tasks("conceptarc")
    with pytest.raises(SourceError, match=r"no source ./concept; did you mean concept\?"):
        load_tasks("./concept")
    with pytest.raises(SourceError, match="aaa cannot be read"):
        load_tasks("a" * 5000)
    with pytest.raises(SourceError, match=r"no source arc-agi-1/train; did you mean arc-agi-1/training"):
        load_tasks("arc-agi-1/train")
    with pytest.raises(SourceError, match=r"no source nowhere/at-all\. A source is one of arc-agi-1/training.* path"):
        load_tasks("nowhere/at-all")
    with pytest.raises(TaskError, match=r"arc-agi-1/training has no task 007bbfb8 .*close matches: 007bbfb7"):
        load_tasks("arc-agi-1/training", Selection(tasks=("007bbfb8",)))


def test_a_repeated_task_id_in_a_file_is_refused(tmp_path: Path) -> None:
    task = '{"train": [{"input": [[1]], "output": [[1]]}], "test": [{"input": [[1]]}]}'
    (tmp_path / "x_challenges.json").write_text(f'{{"aaaa": {task}, "aaaa": {task}}}')
    with pytest.raises(SourceError, match="name aaaa occurs twice in one object"):
        load_tasks(str(tmp_path / "x_challenges.json"))


def test_the_error_for_a_bad_solution_names_the_solutions_file(tmp_path: Path) -> None:
    write(tmp_path / "mine_challenges.json", {"a": VALUE})
    write(tmp_path / "mine_solutions.json", {"a": [OUTPUT, [[1, 2], [3]]]})
    with pytest.raises(ValueError, match=r"mine_solutions.json: task a: output 1: row 1 has 1 cells"):
        load_tasks(tmp_path / "mine")


def test_null_outputs_are_filled_from_the_solutions(tmp_path: Path) -> None:
    task = '{"train": [{"input": [[1]], "output": [[1]]}], "test": [{"input": [[1]], "output": null}]}'
    (tmp_path / "x_challenges.json").write_text(f'{{"aaaa": {task}}}')
    (tmp_path / "x_solutions.json").write_text('{"aaaa": [[[7]]]}')
    assert load_tasks(str(tmp_path / "x"))[0].tests[0].output.tolist() == [[7]]  # pyright: ignore[reportOptionalMemberAccess]
