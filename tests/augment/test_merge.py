"""Merging sources: duplicate tasks, train/test overlap, and different tasks with the same ID."""

from dataclasses import replace

import numpy as np
import pytest

from augment import (
    Duplicates,
    LeakError,
    OnLeak,
    Pair,
    PuzzleSet,
    Role,
    Selection,
    SourcedTasks,
    Task,
    build_puzzle_set,
    extend_puzzle_set,
    load_tasks,
)
from tests.helpers.strategies import disguise

TASKS = load_tasks("arc-agi-1/training", Selection(limit=12))
SCORED = TASKS[:4]
TRAIN = TASKS[4:8]
Source = tuple[str, Role, list[Task]]


def build(*sources: Source, on_leak: OnLeak = "stop", duplicates: Duplicates = "keep") -> PuzzleSet:
    sourced = [SourcedTasks(*source) for source in sources]
    return build_puzzle_set(sourced, 5, 0, on_leak=on_leak, duplicates=duplicates)


def rows(puzzle_set: PuzzleSet) -> dict[str, list[int]]:
    """Return the augmentation numbers of each task, by task ID."""
    numbers = np.split(puzzle_set.augmentations, puzzle_set.starts[1:-1])
    return {task.id: row.tolist() for task, row in zip(puzzle_set.tasks, numbers, strict=True)}


def ids(puzzle_set: PuzzleSet) -> list[str]:
    return [task.id for task in puzzle_set.tasks]


def copy(task: Task, name: str) -> Task:
    """Copy the task with its pairs in another order."""
    return Task(name, (*task.tests, *task.demonstrations[1:]), task.demonstrations[:1])


# ---- overlap --------------------------------------------------------------------------------------------------------


def test_an_overlap_stops_the_build_and_the_message_lists_each_pair_of_tasks() -> None:
    leaking = [disguise(SCORED[0], 1, "other"), SCORED[2], *TRAIN]
    with pytest.raises(LeakError, match="2 tasks to be scored") as error:
        build(("s", "scored", SCORED), ("t", "train", leaking))
    assert f"{SCORED[0].id} = other, {SCORED[2].id} = {SCORED[2].id}" in str(error.value)
    assert "from t:" in str(error.value)


def test_overlap_of_hidden_tasks_is_detected() -> None:
    with pytest.raises(LeakError, match=f"{SCORED[1].id} = other"):
        build(("s", "scored", [task.hidden() for task in SCORED]), ("t", "train", [disguise(SCORED[1], 2, "other")]))


def test_an_overlap_is_found_among_the_pairs_that_were_not_drawn() -> None:
    other_pairs = [Pair(pair.input, pair.output) for task in TASKS[4:] for pair in task.demonstrations]
    hidden_in = Task("list", (*SCORED[0].demonstrations, *other_pairs, *SCORED[0].tests), ())
    sources = [SourcedTasks("s", "scored", SCORED), SourcedTasks("t", "train", [hidden_in])]
    with pytest.raises(LeakError, match=f"{SCORED[0].id} = list"):
        build_puzzle_set(sources, 5, 0, max_pairs=2)


def test_a_copy_with_another_test_output_is_an_overlap() -> None:
    # If the test output is hidden, the difference cannot be seen, so the result must not depend on it.
    wrong = replace(SCORED[0], id="other", tests=tuple(Pair(pair.input, pair.input) for pair in SCORED[0].tests))
    for scored in (SCORED, [task.hidden() for task in SCORED]):
        with pytest.raises(LeakError, match=f"{SCORED[0].id} = other"):
            build(("s", "scored", scored), ("t", "train", [wrong]))


def test_dropped_train_tasks_are_removed_and_listed() -> None:
    leaking = [disguise(SCORED[0], 1, "other"), SCORED[2], *TRAIN]
    puzzle_set = build(("s", "scored", SCORED), ("t", "train", leaking), on_leak="drop")
    assert ids(puzzle_set) == ids(build(("s", "scored", SCORED), ("t", "train", TRAIN)))
    assert puzzle_set.dropped == (
        (SCORED[2].id, "t", "leaks", SCORED[2].id),
        ("other", "t", "leaks", SCORED[0].id),
    )
    assert puzzle_set.leaks == ()
    assert not puzzle_set.tasks[0].has_solutions


def test_allowed_overlaps_mark_the_set_and_the_scored_task_keeps_its_id() -> None:
    puzzle_set = build(("s", "scored", SCORED), ("t", "train", [SCORED[2], *TRAIN]), on_leak="allow")
    copied = f"{SCORED[2].id}~2"
    assert puzzle_set.leaks == ((SCORED[2].id, copied, True),)
    role = dict(zip(ids(puzzle_set), puzzle_set.roles, strict=True))
    assert (role[SCORED[2].id], role[copied]) == ("scored", "train")
    assert puzzle_set.tasks[ids(puzzle_set).index(copied)].has_solutions
    assert [overlap.task for overlap in puzzle_set.seen.find_all(SCORED)] == [SCORED[2].id]


def test_demonstrations_of_scored_tasks_stay_training_pairs_if_overlaps_are_dropped() -> None:
    puzzle_set = build(("s", "scored", SCORED), ("t", "train", SCORED), on_leak="drop")
    assert [len(puzzle_set.training_pairs(n)) for n in range(4)] == [len(task.demonstrations) for task in SCORED]
    assert len(puzzle_set.dropped) == 4


def swapped(task: Task, name: str) -> Task:
    """Return a task whose demonstrations are the test pairs of the given one, and the reverse."""
    return Task(name, task.tests, task.demonstrations)


def test_two_scored_sources_are_compared_because_demonstrations_are_trained_on() -> None:
    giving_away = [swapped(SCORED[1], "other"), *TRAIN[:1]]
    sources: list[Source] = [("s", "scored", SCORED), ("t", "scored", giving_away)]
    with pytest.raises(LeakError, match="whose demonstrations are trained on: score one source at a time") as error:
        build(*sources)
    assert f"{SCORED[1].id} = other" in str(error.value)
    assert f"other = {SCORED[1].id}" in str(error.value)
    for marked in (build(*sources, on_leak="drop"), build(*sources, on_leak="allow")):
        assert [leak.task for leak in marked.leaks] == sorted([SCORED[1].id, "other"])
        assert not [dropped for dropped in marked.dropped if dropped.reason == "leaks"]


def test_tasks_of_one_scored_source_that_give_each_other_away_are_marked() -> None:
    marked = build(("s", "scored", [*SCORED, swapped(SCORED[1], "other")]))
    assert {(leak.task, leak.holder) for leak in marked.leaks} == {(SCORED[1].id, "other"), ("other", SCORED[1].id)}


def test_a_scored_source_that_a_set_is_extended_by_is_compared_with_the_old_one() -> None:
    old = build(("t", "scored", [swapped(SCORED[1], "other")]))
    new = [SourcedTasks("s", "scored", SCORED)]
    with pytest.raises(LeakError, match=f"{SCORED[1].id} = other"):
        extend_puzzle_set(old, new)
    assert SCORED[1].id in {leak.task for leak in extend_puzzle_set(old, new, on_leak="allow").leaks}


def test_no_test_output_is_in_the_set_although_it_is_compared() -> None:
    puzzle_set = build(("s", "scored", SCORED), ("t", "train", TRAIN))
    assert all(pair.output is None for task in puzzle_set.tasks_of("scored") for pair in task.tests)


# ---- boards ---------------------------------------------------------------------------------------------------------


def sudokus(seed: int) -> Task:
    return load_tasks(f"sudoku-4x4/12+5@{seed}")[0]


def with_boards_of(task: Task, other: Task, count: int) -> Task:
    """Add turned and recoloured copies of the other task's test boards to the task's demonstrations."""
    copies = disguise(Task("x", other.tests, ()), 7).demonstrations[:count]
    return replace(task, demonstrations=(*task.demonstrations, *copies))


@pytest.mark.parametrize("on_leak", ["stop", "drop"])
def test_boards_that_equal_a_test_board_are_left_out_and_listed(on_leak: OnLeak) -> None:
    scored = sudokus(1)
    own = with_boards_of(scored, scored, 2)
    train = with_boards_of(sudokus(2), scored, 3)
    puzzle_set = build(("s", "scored", [own]), ("t", "train", [train]), on_leak=on_leak)
    kept = [task.demonstrations for task in puzzle_set.tasks]
    assert [len(boards) for boards in kept] == [12, 12]
    assert sorted(dropped.source for dropped in puzzle_set.dropped) == ["s"] * 2 + ["t"] * 3
    assert {dropped.reason for dropped in puzzle_set.dropped} == {"boards"}
    assert puzzle_set.leaks == ()
    assert puzzle_set.seen.find_all([scored]) == []


def test_boards_that_are_allowed_are_marked() -> None:
    scored = sudokus(1)
    train = with_boards_of(sudokus(2), scored, 3)
    puzzle_set = build(("s", "scored", [scored]), ("t", "train", [train]), on_leak="allow")
    assert [(leak.task, leak.by_content) for leak in puzzle_set.leaks] == [(scored.id, True)]
    own = build(("s", "scored", [with_boards_of(scored, scored, 2)]), on_leak="allow")
    assert [(leak.task, leak.holder) for leak in own.leaks] == [(scored.id, scored.id)]


def test_a_train_source_of_the_same_kind_and_size_of_boards_stays() -> None:
    puzzle_set = build(("s", "scored", [sudokus(1)]), ("t", "train", [sudokus(2)]))
    assert (len(puzzle_set.tasks), puzzle_set.dropped, puzzle_set.leaks) == (2, (), ())


def test_a_list_of_nothing_but_test_boards_is_refused() -> None:
    scored = sudokus(1)
    only_tests = Task("copy", scored.tests, ())
    with pytest.raises(ValueError, match="every board of task copy equals a test board"):
        build(("s", "scored", [scored]), ("t", "train", [only_tests]))


# ---- duplicates --------------------------------------------------------------------------------------------


def test_the_same_task_of_two_sources_is_taken_once_from_the_first_by_name() -> None:
    shuffled = [copy(task, task.id) for task in TRAIN]
    first: Source = ("b", "train", TRAIN)
    second: Source = ("a", "train", shuffled)
    for puzzle_set in (build(first, second), build(second, first)):
        assert puzzle_set.sources == ("a",) * 4
        assert puzzle_set.dropped == tuple((task.id, "b", "repeats", task.id) for task in TRAIN)


def test_equal_pairs_under_another_id_are_kept_or_dropped_as_requested() -> None:
    copied = [copy(TRAIN[0], "other")]
    assert len(build(("a", "train", TRAIN), ("b", "train", copied)).tasks) == 5
    puzzle_set = build(("a", "train", TRAIN), ("b", "train", copied), duplicates="drop")
    assert ids(puzzle_set) == [task.id for task in TRAIN]
    assert puzzle_set.dropped == (("other", "b", "repeats", TRAIN[0].id),)


def test_a_recoloured_copy_is_no_duplicate() -> None:
    other = disguise(TRAIN[0], 3, "other")
    assert len(build(("a", "train", TRAIN), ("b", "train", [other]), duplicates="drop").tasks) == 5


def test_another_task_with_the_same_id_gets_a_new_id() -> None:
    others = [replace(TASKS[8], id=TRAIN[0].id), replace(TASKS[9], id=TRAIN[1].id)]
    third = [replace(TASKS[10], id=TRAIN[0].id)]
    puzzle_set = build(("c", "train", third), ("b", "train", others), ("a", "train", TRAIN))
    first = TRAIN[0].id
    second = TRAIN[1].id
    assert ids(puzzle_set)[:5] == [first, f"{first}~2", f"{first}~3", second, f"{second}~2"]
    assert puzzle_set.sources[:5] == ("a", "b", "c", "a", "b")
    assert len(set(puzzle_set.keys())) == len(puzzle_set)
    assert rows(puzzle_set)[first] != rows(puzzle_set)[f"{first}~2"]


def test_unknown_choices_are_refused() -> None:
    with pytest.raises(ValueError, match=r"on_leak is 'ask'.*stop, drop, allow"):
        build(("a", "train", TRAIN), on_leak="ask")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"duplicates is 'some'.*keep, drop"):
        build(("a", "train", TRAIN), duplicates="some")  # type: ignore[arg-type]


def test_a_scored_task_without_a_test_input_is_refused() -> None:
    with pytest.raises(ValueError, match="s: task x has no test input"):
        build(("s", "scored", [Task("x", TRAIN[0].demonstrations, ())]))


# ---- extension ----------------------------------------------------------------------------------------------------


def extend(old: PuzzleSet, *sources: Source, on_leak: OnLeak = "stop", duplicates: Duplicates = "keep") -> PuzzleSet:
    return extend_puzzle_set(old, [SourcedTasks(*source) for source in sources], on_leak=on_leak, duplicates=duplicates)


def test_an_extended_set_keeps_every_key_and_draw() -> None:
    old = build(("t", "train", TRAIN[1:]), ("s", "scored", SCORED))
    # Augmentations that another version of the program might have drawn.
    stored = replace(old, augmentations=np.where(old.augmentations, old.augmentations ^ 1, 0).astype(np.uint32))
    wider = extend(stored, ("hidden", "scored", [task.hidden() for task in TASKS[8:]]), ("u", "train", TRAIN[:1]))
    assert rows(wider).items() >= rows(stored).items()
    assert set(wider.keys()) > set(stored.keys())
    assert len(wider.tasks) == 12
    new = rows(build(("all", "train", TASKS)))
    assert all(rows(wider)[task.id] == new[task.id] for task in TASKS[8:] + TRAIN[:1])
    assert (wider.seed, wider.requested, wider.board_side) == (old.seed, old.requested, old.board_side)


def test_tasks_of_the_old_set_are_not_added_again() -> None:
    old = build(("t", "train", TRAIN), ("s", "scored", SCORED))
    again = extend(old, ("again", "train", TRAIN), ("again", "scored", SCORED))
    assert rows(again) == rows(old)
    assert again.sources == old.sources
    assert {dropped.reason for dropped in again.dropped} == {"repeats"}
    assert len(again.dropped) == 8


def test_old_duplicates_stay_if_new_ones_are_dropped() -> None:
    old = build(("t", "train", [*TRAIN, copy(TRAIN[0], "other")]))
    wider = extend(old, ("u", "train", [TASKS[8], copy(TRAIN[1], "another")]), duplicates="drop")
    assert rows(wider).items() > rows(old).items()
    assert wider.dropped == (("another", "u", "repeats", TRAIN[1].id),)


@pytest.mark.parametrize("on_leak", ["stop", "drop", "allow"])
def test_overlaps_that_were_allowed_stay_and_stay_marked(on_leak: OnLeak) -> None:
    old = build(("s", "scored", SCORED), ("t", "train", [disguise(SCORED[0], 1, "other")]), on_leak="allow")
    wider = extend(old, ("u", "train", TRAIN), on_leak=on_leak)
    assert wider.leaks == old.leaks == ((SCORED[0].id, "other", True),)
    assert rows(wider).items() > rows(old).items()


def test_tasks_dropped_before_stay_listed() -> None:
    old = build(("s", "scored", SCORED), ("t", "train", [SCORED[0], *TRAIN]), on_leak="drop")
    assert extend(old, ("u", "train", TASKS[8:])).dropped == old.dropped != ()


def test_a_list_of_pairs_from_the_same_source_again_is_the_same_task() -> None:
    pairs = tuple(pair for task in TASKS[4:] for pair in task.demonstrations)
    source = ("r", "train", [Task("list", pairs, ())])
    old = build_puzzle_set([SourcedTasks(*source)], 5, 0, max_pairs=4)
    again = extend(old, source)
    assert ids(again) == ["list"]
    assert (len(again.training_pairs(0)), again.max_pairs) == (4, 4)


def test_an_old_train_task_that_is_now_scored_is_handled_as_an_overlap() -> None:
    old = build(("t", "train", TRAIN))
    hidden = [TRAIN[0].hidden()]
    with pytest.raises(LeakError, match=TRAIN[0].id):
        extend(old, ("s", "scored", hidden))
    with pytest.raises(ValueError, match="one ID cannot name both"):
        extend(old, ("s", "scored", hidden), on_leak="allow")
    dropped = extend(old, ("s", "scored", hidden), on_leak="drop")
    assert dict(zip(ids(dropped), dropped.roles, strict=True))[TRAIN[0].id] == "scored"
    assert dropped.dropped == ((TRAIN[0].id, "t", "leaks", TRAIN[0].id),)


def test_a_different_task_with_an_old_id_is_refused_if_scored_and_renamed_if_trained_on() -> None:
    old = build(("s", "scored", SCORED), ("t", "train", TRAIN))
    with pytest.raises(ValueError, match="scored by more than one source"):
        extend(old, ("new", "scored", [replace(TASKS[8], id=SCORED[0].id)]))
    wider = extend(old, ("new", "train", [replace(TASKS[8], id=TRAIN[0].id)]))
    assert f"{TRAIN[0].id}~2" in ids(wider)
    assert rows(wider).items() > rows(old).items()
