"""Recognise training tasks in any order, orientation and colours; known overlaps of the public sets."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from augment import Grid, Overlap, Pair, SeenTasks, Selection, Task, load_tasks
from augment.contamination import has_trained_test
from augment.task import original_id
from tests.helpers.strategies import disguise, pairs

SOME = load_tasks("arc-agi-1/training", Selection(limit=40))


@pytest.mark.parametrize("hidden", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_a_disguised_copy_is_recognised_and_nothing_else(seed: int, hidden: bool) -> None:
    seen = SeenTasks.remember(disguise(task, seed, f"copy-{task.id}") for task in SOME)
    for task in SOME:
        overlaps = seen.find(task.hidden() if hidden else task)
        assert overlaps == [Overlap(task.id, f"copy-{task.id}", by_content=True)]


@settings(deadline=None)
@given(st.lists(pairs(4, 9), min_size=1, max_size=4), st.integers(0, 1000))
def test_every_variant_of_any_task_is_recognised(given_pairs: list[Pair], seed: int) -> None:
    known = [pair for pair in given_pairs if pair.output is not None]
    task = Task("a", tuple(known), tuple(pair for pair in given_pairs if pair.output is None))
    complete = Task("b", tuple(Pair(p.input, p.input if p.output is None else p.output) for p in given_pairs), ())
    assert [overlap.holder for overlap in SeenTasks.remember([disguise(complete, seed)]).find(task)] == ["disguised"]


def change(grid: Grid) -> Grid:
    """The grid with another colour in its first cell."""
    changed = grid.copy()
    changed[0, 0] = (changed[0, 0] + 1) % 10
    return changed


def test_a_task_without_the_test_pair_is_another_task() -> None:
    task = SOME[0]
    [test] = task.tests
    edited = Task("edited", task.demonstrations, (Pair(change(test.input), test.output),))
    fewer = Task("fewer", task.demonstrations, ())
    more = Task("more", task.demonstrations + SOME[1].demonstrations, task.tests)
    seen = SeenTasks.remember([edited, fewer, more])
    assert [overlap.holder for overlap in seen.find(task)] == ["more"]
    assert [overlap.holder for overlap in seen.find(task.hidden())] == ["more"]


@pytest.mark.parametrize("seed", range(3))
def test_the_test_pair_alone_is_enough_under_any_transform_and_recolouring(seed: int) -> None:
    for task in SOME[:10]:
        pair = Pair(task.tests[0].input, task.tests[0].output)
        only_the_pair = disguise(Task("a", (pair, *SOME[20].demonstrations), SOME[20].tests), seed)
        assert [overlap.holder for overlap in SeenTasks.remember([only_the_pair]).find(task)] == ["disguised"]
        assert SeenTasks.remember([only_the_pair]).find(task.hidden()) == [], "its output is not known"


def test_a_corrected_demonstration_does_not_hide_the_rest() -> None:
    for task in SOME[:10]:
        first = task.demonstrations[0]
        corrected = (Pair(change(first.input), first.output), *task.demonstrations[1:])
        older = disguise(Task("a", corrected, task.tests), 5, "older")
        for query in (task, task.hidden()):
            assert [overlap.holder for overlap in SeenTasks.remember([older]).find(query)] == ["older"]


def test_a_test_input_with_a_demonstration_is_enough_whatever_its_output() -> None:
    task = SOME[0]
    wrong = Task("wrong", task.demonstrations[:1], (Pair(task.tests[0].input, task.tests[0].input),))
    seen = SeenTasks.remember([wrong])
    for query in (task, task.hidden()):
        assert [overlap.holder for overlap in seen.find(query)] == ["wrong"]
    input_only = Task("input", SOME[1].demonstrations, (Pair(task.tests[0].input, task.tests[0].input),))
    assert SeenTasks.remember([input_only]).find(task) == [], "another question about the same input"


def test_demonstrations_of_scored_tasks_are_training_data_but_not_those_of_the_task_itself() -> None:
    task = SOME[0]
    swapped = Task(task.id, task.tests, task.demonstrations)
    seen = SeenTasks.remember([], [swapped])
    assert len(seen) == 0
    assert seen.find(task) == [Overlap(task.id, task.id, by_content=True)]
    assert seen.find(task.hidden()) == [], "neither its output nor another pair is known"
    assert has_trained_test(task, set(seen.related_looks([task.hidden()])))
    assert not has_trained_test(SOME[1], set(seen.related_looks([task.hidden()])))
    assert SeenTasks.remember([], SOME).find_all(SOME) == []
    given_away = Task("x", (*task.demonstrations, *task.tests), task.tests)
    assert SeenTasks.remember([], [given_away]).find(given_away) == []


def test_related_looks_are_those_of_trained_tasks_with_a_test_input() -> None:
    seen = SeenTasks.remember(SOME[:2], SOME[2:4])
    assert seen.related_looks([task.hidden() for task in SOME[:2]]) == sorted(
        {*seen.looks[SOME[0].id], *seen.looks[SOME[1].id]}
    )
    assert seen.related_looks(SOME[4:]) == []


def test_lists_of_boards_are_compared_by_board_and_not_by_id() -> None:
    [first], [second] = (load_tasks(f"sudoku-4x4/20+10@{seed}") for seed in (1, 2))
    assert first.id == second.id
    assert SeenTasks.remember([first]).find(second) == []
    shared = Task("boards", (*second.demonstrations, disguise(second, 3).demonstrations[0]), ())
    assert SeenTasks.remember([shared]).find(Task("other", second.demonstrations, shared.demonstrations[:1])) != []


def test_pairs_with_hidden_outputs_are_not_training_data() -> None:
    assert SeenTasks.remember([Task("x", SOME[0].demonstrations, SOME[0].hidden().tests)]).find(SOME[0]) == []


def test_the_public_sets_have_the_known_overlaps() -> None:
    old = load_tasks("arc-agi-1/training")
    new = load_tasks("arc-agi-2/training")
    scored = load_tasks("arc-agi-1/evaluation")
    for queries in (scored, [task.hidden() for task in scored]):
        overlaps = SeenTasks.remember(new).find_all(queries)
        assert (len(overlaps), len({overlap.task for overlap in overlaps})) == (377, 376)
        assert Overlap("50a16a69", "caa06a1f", by_content=True) in overlaps, "its test pair is a demonstration there"
        assert all(overlap.by_content for overlap in overlaps)
        assert SeenTasks.remember(old).find_all(queries) == [
            Overlap("070dd51e", "40853293", by_content=True),
            Overlap("50a16a69", "caa06a1f", by_content=True),
        ]
    github = load_tasks("arc-agi-2/evaluation")
    kaggle = load_tasks("kaggle-2025/evaluation")
    assert SeenTasks.remember(new).find_all([*github, *kaggle]) == []
    assert len(SeenTasks.remember(scored).find_all(github)) == 6


def test_unions_survive_json() -> None:
    first = SeenTasks.remember(SOME[:3])
    second = SeenTasks(SeenTasks.remember(SOME[2:5]).looks, False, SeenTasks.remember([], SOME[5:6]).demonstrations)
    value = json.loads(json.dumps((first | second).to_json()))
    both = SeenTasks(value["tasks"], value["complete"], value["demonstrations"])
    assert len(both) == 5
    assert both.demonstrations.keys() == {SOME[5].id}
    assert not both.complete
    assert [overlap.task for overlap in both.find_all(SOME)] == [task.id for task in SOME[:5]]


def test_a_renamed_task_is_found_by_its_original_id() -> None:
    other = Task(f"{SOME[0].id}~2", SOME[1].demonstrations, ())
    assert SeenTasks.remember([other]).find(SOME[0]) == [Overlap(SOME[0].id, other.id, by_content=False)]
    assert [original_id(name) for name in ("a~2", "a~12", "a", "a~b")] == ["a", "a", "a", "a~b"]
