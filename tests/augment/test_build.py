"""Building puzzle sets: training pairs by role, and what the random draws depend on."""

from dataclasses import replace

import numpy as np
import pytest

from augment import Pair, PuzzleSet, Selection, SourcedTasks, Task, build_puzzle_set, load_tasks

TRAINING = load_tasks("arc-agi-1/training", Selection(limit=45))
ONE = TRAINING[:3]
TWO = TRAINING[2:5]


def sourced(name: str, role: str, tasks: list[Task]) -> SourcedTasks:
    return SourcedTasks(name, role, tasks)  # type: ignore[arg-type]


def build(*sources: SourcedTasks, augmentations: int = 4, seed: int = 0) -> PuzzleSet:
    return build_puzzle_set(list(sources), augmentations, seed)


def rows(puzzle_set: PuzzleSet) -> dict[str, list[int]]:
    """Return the augmentation numbers of each task, by task ID."""
    starts = puzzle_set.starts.tolist()
    return {
        task.id: puzzle_set.augmentations[start:end].tolist()
        for task, start, end in zip(puzzle_set.tasks, starts, starts[1:], strict=False)
    }


def test_tasks_are_sorted_and_start_unchanged() -> None:
    puzzle_set = build(sourced("z", "train", TWO[1:]), sourced("a", "scored", ONE[::-1]))
    assert [task.id for task in puzzle_set.tasks] == [task.id for task in ONE + TWO[1:]]
    assert puzzle_set.roles == ("scored",) * 3 + ("train",) * 2
    assert puzzle_set.sources == ("a",) * 3 + ("z",) * 2
    assert all(numbers[0] == 0 and len(set(numbers)) == 5 for numbers in rows(puzzle_set).values())
    assert (len(puzzle_set), puzzle_set.requested, puzzle_set.starts[-1]) == (25, 4, 25)
    assert puzzle_set.canvases.shape == (5, 2)


def test_scored_tasks_lose_their_test_outputs_and_train_tasks_train_on_them() -> None:
    puzzle_set = build(sourced("a", "scored", ONE), sourced("z", "train", TWO[1:]))
    for index, task in enumerate(ONE + TWO[1:]):
        stored = puzzle_set.tasks[index]
        assert stored.has_solutions == (index >= 3)
        known = task.demonstrations + (task.tests if index >= 3 else ())
        assert puzzle_set.training_pairs(index) == known


def test_a_scored_task_trains_on_no_test_output_even_where_it_is_known() -> None:
    scored = replace(build(sourced("a", "train", ONE)), roles=("scored",) * 3)
    assert scored.training_pairs(0) == ONE[0].demonstrations


def test_hidden_tests_of_a_train_task_are_not_trained_on() -> None:
    hidden = [task.hidden() for task in ONE]
    assert build(sourced("a", "train", hidden)).training_pairs(0) == ONE[0].demonstrations


def test_rows_have_keys_and_tasks() -> None:
    puzzle_set = build(sourced("a", "scored", ONE))
    keys = puzzle_set.keys()
    assert keys == [puzzle_set.key(row) for row in range(len(puzzle_set))]
    assert len(set(keys)) == 15
    assert keys[5] == ONE[1].id
    assert keys[6].startswith(f"{ONE[1].id}|||t")
    assert [puzzle_set.task_of(row) for row in (0, 4, 5, 14)] == [0, 0, 1, 2]
    for row in (-1, 15):
        with pytest.raises(IndexError):
            puzzle_set.task_of(row)


def test_puzzles_depend_on_seed_and_task_alone() -> None:
    alone = rows(build(sourced("a", "scored", ONE[1:2])))
    together = rows(build(sourced("x", "scored", TRAINING)))
    assert together.items() > alone.items()
    assert together == rows(build(sourced("x", "scored", TRAINING[::-1])))
    other_seed = rows(build(sourced("x", "scored", TRAINING), seed=1))
    assert all(together[task_id] != numbers for task_id, numbers in other_seed.items())
    assert len({tuple(numbers) for numbers in together.values()}) == len(TRAINING)


def test_a_task_scored_twice_is_refused() -> None:
    with pytest.raises(ValueError, match=f"task {TWO[0].id} is scored by more than one source"):
        build(sourced("one", "scored", ONE), sourced("two", "scored", TWO))


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"augmentations": -1}, "augmentations"),
        ({"workers": 0}, "workers"),
        ({"board_side": 0}, "board_side"),
        ({"max_pairs": 0}, "max_pairs"),
        ({"max_pairs": 2**63}, "max_pairs"),
        ({"seed": -1}, "seed"),
        ({"seed": 2**63}, "seed"),
        ({"augmentations": 10**40}, "augmentations"),
    ],
)
def test_impossible_settings_are_refused(settings: dict, name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} is"):
        build_puzzle_set([sourced("a", "train", ONE)], **({"augmentations": 1, "seed": 0} | settings))  # type: ignore[arg-type]


def test_unknown_roles_and_empty_builds_are_refused() -> None:
    with pytest.raises(ValueError, match="role of a is 'score'"):
        sourced("a", "score", ONE)
    with pytest.raises(ValueError, match="no tasks to build from"):
        build(sourced("a", "train", []))


def test_no_augmentations_means_the_tasks_unchanged() -> None:
    puzzle_set = build(sourced("a", "train", ONE), augmentations=0)
    np.testing.assert_array_equal(puzzle_set.augmentations, [0, 0, 0])


def pair_list(task_id: str, count: int = 1000) -> Task:
    """Create a task that is a list of pairs, as in RE-ARC; the digits of an input are its place in the list."""
    inputs = [np.array([[int(digit) for digit in f"{number:04}"]], np.uint8) for number in range(count)]
    return Task(task_id, tuple(Pair(grid, grid[:, :1]) for grid in inputs), ())


def pair_places(puzzle_set: PuzzleSet) -> dict[str, list[int]]:
    """Return the places of the training pairs of each task, by task ID."""
    return {
        task.id: [int("".join(map(str, pair.input[0]))) for pair in puzzle_set.training_pairs(number)]
        for number, task in enumerate(puzzle_set.tasks)
    }


def test_pairs_of_a_long_list_are_drawn_by_seed_and_task_alone() -> None:
    tasks = [pair_list(name) for name in "abc"]
    places = pair_places(build(sourced("r", "train", tasks)))
    assert all(row == sorted(set(row)) and len(row) == 20 for row in places.values())
    assert places["a"] != places["b"] != places["c"]
    assert pair_places(build(sourced("r", "train", tasks[1:]))) == {name: places[name] for name in "bc"}
    assert pair_places(build(sourced("r", "train", tasks), seed=1)) != places
    every = build_puzzle_set([sourced("r", "train", tasks)], 1, 0, max_pairs=1000)
    assert pair_places(every)["a"] == list(range(1000))


def test_the_drawn_pairs_equal_those_of_earlier_versions() -> None:
    puzzle_set = build_puzzle_set([sourced("r", "train", [pair_list("a")])], 1, seed=7, max_pairs=4)
    assert pair_places(puzzle_set) == {"a": [222, 503, 564, 630]}
    assert puzzle_set.max_pairs == 4


def test_tasks_with_tests_keep_every_pair() -> None:
    puzzle_set = build_puzzle_set([sourced("a", "train", ONE)], 1, 0, max_pairs=1)
    assert [len(puzzle_set.training_pairs(n)) for n in range(3)] == [len(t.demonstrations + t.tests) for t in ONE]
