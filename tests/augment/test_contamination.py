"""Recognising tasks that were trained on: any order, direction and colours; real overlaps of the public sets."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from augment import Overlap, Pair, SeenTasks, Selection, Task, load_tasks
from augment.task import original_id
from tests.helpers.strategies import disguise, pairs

SOME = load_tasks("arc-agi-1/training", Selection(limit=40))


@pytest.mark.parametrize("hidden", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_a_disguised_copy_is_recognised_and_nothing_else(seed: int, hidden: bool) -> None:
    seen = SeenTasks.remember(disguise(task, seed, f"copy-{task.id}") for task in SOME)
    for task in SOME:
        found = seen.find(task.hidden() if hidden else task)
        assert found == [Overlap(task.id, f"copy-{task.id}", by_content=True)]


@settings(deadline=None)
@given(st.lists(pairs(4, 9), min_size=1, max_size=4), st.integers(0, 1000))
def test_every_variant_of_any_task_is_recognised(given_pairs: list[Pair], seed: int) -> None:
    known = [pair for pair in given_pairs if pair.output is not None]
    task = Task("a", tuple(known), tuple(pair for pair in given_pairs if pair.output is None))
    shown = Task("b", tuple(Pair(p.input, p.input if p.output is None else p.output) for p in given_pairs), ())
    assert [held.holder for held in SeenTasks.remember([disguise(shown, seed)]).find(task)] == ["disguised"]


def test_a_changed_cell_or_a_missing_pair_is_another_task() -> None:
    task = SOME[0]
    changed = task.demonstrations[0].input.copy()
    changed[0, 0] = (changed[0, 0] + 1) % 10
    edited = Task("edited", (Pair(changed, task.demonstrations[0].output), *task.demonstrations[1:]), task.tests)
    fewer = Task("fewer", task.demonstrations[1:], task.tests)
    more = Task("more", task.demonstrations + SOME[1].demonstrations, task.tests)
    assert [held.holder for held in SeenTasks.remember([edited, fewer, more]).find(task)] == ["more"]


def test_a_wrong_output_is_another_task_unless_the_output_is_hidden() -> None:
    task = SOME[0]
    wrong = Task("wrong", task.demonstrations, (Pair(task.tests[0].input, task.tests[0].input),))
    seen = SeenTasks.remember([wrong])
    assert seen.find(task) == []
    assert [held.holder for held in seen.find(task.hidden())] == ["wrong"]


def test_hidden_outputs_give_nothing_away() -> None:
    assert SeenTasks.remember([Task("x", SOME[0].demonstrations, SOME[0].hidden().tests)]).find(SOME[0]) == []


def test_the_public_sets_overlap_as_known() -> None:
    old, new = load_tasks("arc-agi-1/training"), load_tasks("arc-agi-2/training")
    scored = load_tasks("arc-agi-1/evaluation")
    for asked in (scored, [task.hidden() for task in scored]):
        found = SeenTasks.remember(new).find_all(asked)
        assert len(found) == len({held.task for held in found}) == 376
        assert [held for held in found if not held.by_content] == [Overlap("ac0c5833", "ac0c5833", by_content=False)]
        assert SeenTasks.remember(old).find_all(asked) == [Overlap("070dd51e", "40853293", by_content=True)]
    github, kaggle = load_tasks("arc-agi-2/evaluation"), load_tasks("kaggle-2025/evaluation")
    assert SeenTasks.remember(new).find_all([*github, *kaggle]) == []
    assert len(SeenTasks.remember(scored).find_all(github)) == 6


def test_memories_are_joined_and_survive_json() -> None:
    first, second = SeenTasks.remember(SOME[:3]), SeenTasks(SeenTasks.remember(SOME[2:5]).looks, complete=False)
    both = SeenTasks.from_json(json.loads(json.dumps((first | second).to_json())))
    assert len(both) == 5
    assert not both.complete
    assert [held.task for held in both.find_all(SOME)] == [task.id for task in SOME[:5]]


def test_another_task_of_the_same_name_is_found_by_its_first_name() -> None:
    other = Task(f"{SOME[0].id}~2", SOME[1].demonstrations, ())
    assert SeenTasks.remember([other]).find(SOME[0]) == [Overlap(SOME[0].id, other.id, by_content=False)]
    assert [original_id(name) for name in ("a~2", "a~12", "a", "a~b")] == ["a", "a", "a", "a~b"]
