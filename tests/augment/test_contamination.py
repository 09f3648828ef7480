"""Recognise training tasks in any order, orientation and colours; known overlaps of the public sets."""

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
        overlaps = seen.find(task.hidden() if hidden else task)
        assert overlaps == [Overlap(task.id, f"copy-{task.id}", by_content=True)]


@settings(deadline=None)
@given(st.lists(pairs(4, 9), min_size=1, max_size=4), st.integers(0, 1000))
def test_every_variant_of_any_task_is_recognised(given_pairs: list[Pair], seed: int) -> None:
    known = [pair for pair in given_pairs if pair.output is not None]
    task = Task("a", tuple(known), tuple(pair for pair in given_pairs if pair.output is None))
    complete = Task("b", tuple(Pair(p.input, p.input if p.output is None else p.output) for p in given_pairs), ())
    assert [overlap.holder for overlap in SeenTasks.remember([disguise(complete, seed)]).find(task)] == ["disguised"]


def test_a_changed_cell_or_a_missing_pair_is_another_task() -> None:
    task = SOME[0]
    changed = task.demonstrations[0].input.copy()
    changed[0, 0] = (changed[0, 0] + 1) % 10
    edited = Task("edited", (Pair(changed, task.demonstrations[0].output), *task.demonstrations[1:]), task.tests)
    fewer = Task("fewer", task.demonstrations[1:], task.tests)
    more = Task("more", task.demonstrations + SOME[1].demonstrations, task.tests)
    assert [overlap.holder for overlap in SeenTasks.remember([edited, fewer, more]).find(task)] == ["more"]


def test_a_wrong_output_is_another_task_unless_the_output_is_hidden() -> None:
    task = SOME[0]
    wrong = Task("wrong", task.demonstrations, (Pair(task.tests[0].input, task.tests[0].input),))
    seen = SeenTasks.remember([wrong])
    assert seen.find(task) == []
    assert [overlap.holder for overlap in seen.find(task.hidden())] == ["wrong"]


def test_pairs_with_hidden_outputs_are_not_training_data() -> None:
    assert SeenTasks.remember([Task("x", SOME[0].demonstrations, SOME[0].hidden().tests)]).find(SOME[0]) == []


def test_the_public_sets_have_the_known_overlaps() -> None:
    old = load_tasks("arc-agi-1/training")
    new = load_tasks("arc-agi-2/training")
    scored = load_tasks("arc-agi-1/evaluation")
    for queries in (scored, [task.hidden() for task in scored]):
        overlaps = SeenTasks.remember(new).find_all(queries)
        assert len(overlaps) == len({overlap.task for overlap in overlaps}) == 376
        assert [overlap for overlap in overlaps if not overlap.by_content] == [
            Overlap("ac0c5833", "ac0c5833", by_content=False)
        ]
        assert SeenTasks.remember(old).find_all(queries) == [Overlap("070dd51e", "40853293", by_content=True)]
    github = load_tasks("arc-agi-2/evaluation")
    kaggle = load_tasks("kaggle-2025/evaluation")
    assert SeenTasks.remember(new).find_all([*github, *kaggle]) == []
    assert len(SeenTasks.remember(scored).find_all(github)) == 6


def test_unions_survive_json() -> None:
    first = SeenTasks.remember(SOME[:3])
    second = SeenTasks(SeenTasks.remember(SOME[2:5]).looks, complete=False)
    both = SeenTasks.from_json(json.loads(json.dumps((first | second).to_json())))
    assert len(both) == 5
    assert not both.complete
    assert [overlap.task for overlap in both.find_all(SOME)] == [task.id for task in SOME[:5]]


def test_a_renamed_task_is_found_by_its_original_id() -> None:
    other = Task(f"{SOME[0].id}~2", SOME[1].demonstrations, ())
    assert SeenTasks.remember([other]).find(SOME[0]) == [Overlap(SOME[0].id, other.id, by_content=False)]
    assert [original_id(name) for name in ("a~2", "a~12", "a", "a~b")] == ["a", "a", "a", "a~b"]
