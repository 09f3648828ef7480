"""Colour draws under the 8 transforms: order, distinctness, fixed colours, and what the draws depend on."""

import json
from math import perm
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from augment import (
    Draws,
    FixedColours,
    Pair,
    PuzzleSet,
    Selection,
    SourcedTasks,
    Task,
    build_puzzle_set,
    decode_numbers,
    draw_transforms,
    extend_puzzle_set,
    load_tasks,
    open_puzzle_set,
    write_puzzle_set,
)
from augment.augmentation import PERMUTATIONS
from augment.colour_draws import find_fixed, permute_free, shown_colours
from augment.puzzle_set_files import summarise
from augment.rng import task_rng
from tests.helpers.strategies import pairs

TRAINING = load_tasks("arc-agi-1/training", Selection(max_side=10, limit=45))
RULES = st.sampled_from(("outputs", "black"))


def tasks() -> st.SearchStrategy[Task]:
    some = st.lists(pairs(max_colour=9), min_size=1, max_size=3).map(tuple)
    return st.builds(lambda demonstrations, tests: Task("t", demonstrations, tests), some, st.just(()) | some)


def rng(seed: int = 0) -> np.random.Generator:
    return task_rng(seed, "t", "colours")


@given(tasks(), RULES, st.integers(0, 70))
def test_transforms_come_in_order_under_one_draw_after_another(task: Task, rule: FixedColours, count: int) -> None:
    fixed = find_fixed(task, rule)
    used = shown_colours(task) & ~fixed
    free = int((~fixed).sum())
    most = 8 * perm(free, int(used.sum()))
    dihedrals, colours = decode_numbers(draw_transforms(task, count, rule, rng()))
    assert len(dihedrals) == min(count + 1, most)
    assert dihedrals.tolist() == (np.arange(len(dihedrals)) % 8).tolist()
    draws = colours[::8]
    assert (colours == draws[np.arange(len(colours)) // 8]).all(), "each draw under the 8 transforms"
    assert draws[0].tolist() == list(range(10))
    assert (draws[:, fixed] == np.flatnonzero(fixed)).all(), "fixed colours do not change"
    assert len(np.unique(draws[:, used], axis=0)) == len(draws), "distinct on the colours that are used"
    unused = draws[:, ~used & ~fixed]
    assert (np.diff(unused.astype(int), axis=1) > 0).all(), "unused colours are filled in ascending"


def test_all_possible_draws_are_drawn() -> None:
    """One free colour can become any of nine colours, or of seven if two colours occur only in outputs."""
    grid = np.array([[0, 3]], np.uint8)
    plain = Task("t", (Pair(grid, grid),), ())
    outputs = Task("t", (Pair(grid, np.array([[4, 5]], np.uint8)),), ())
    for task, free in ((plain, 9), (outputs, 7)):
        _, colours = decode_numbers(draw_transforms(task, 1000, "outputs", rng()))
        assert sorted(set(colours[:, 3].tolist())) == sorted({*range(1, 10)} - ({4, 5} if free == 7 else set()))
        assert len(colours) == 8 * free
    _, colours = decode_numbers(draw_transforms(outputs, 1000, "black", rng()))
    assert len(colours) == 1001, "all three colours change"


def test_without_free_colours_no_colour_changes() -> None:
    grid = np.zeros((1, 9), np.uint8)
    rest = np.arange(1, 10, dtype=np.uint8)[None]
    numbers = draw_transforms(Task("t", (Pair(grid, rest),), ()), 63, "outputs", rng())
    assert numbers.tolist() == (np.arange(8) * PERMUTATIONS).tolist()


def test_colours_of_test_inputs_count_and_those_of_hidden_outputs_do_not() -> None:
    input_ = np.array([[1]], np.uint8)
    test_input = np.array([[2]], np.uint8)
    task = Task("t", (Pair(input_, np.array([[2, 3]], np.uint8)),), (Pair(test_input, None),))
    assert np.flatnonzero(find_fixed(task, "outputs")).tolist() == [0, 3]
    assert np.flatnonzero(find_fixed(task, "black")).tolist() == [0]
    assert np.flatnonzero(shown_colours(task)).tolist() == [1, 2, 3]


@given(
    arrays(np.bool_, (6, 10)),
    arrays(np.float64, (6, 10), elements=st.floats(0, 1, exclude_max=True)),
)
def test_free_colours_are_permuted_and_the_others_stay(fixed: np.ndarray, keys: np.ndarray) -> None:
    fixed[:, 0] = True
    colours = permute_free(fixed, keys)
    assert (np.sort(colours, axis=1) == np.arange(10)).all()
    assert (colours[fixed] == np.nonzero(fixed)[1]).all()


def test_fresh_permutations_are_uniform() -> None:
    fixed = np.tile(np.arange(10) < 7, (6000, 1))
    colours = permute_free(fixed, np.random.default_rng(0).random((6000, 10)))
    _, counts = np.unique(colours[:, 7:], axis=0, return_counts=True)
    assert len(counts) == 6
    assert counts.min() > 900


# ---- puzzle sets with colour draws ----


def build(
    *scored: Task, augmentations: int = 63, workers: int = 1, draws: Draws = "outputs", seed: int = 0
) -> PuzzleSet:
    return build_puzzle_set([SourcedTasks("a", "scored", list(scored))], augmentations, seed, workers, draws=draws)


def rows(puzzle_set: PuzzleSet) -> dict[str, list[int]]:
    numbers = np.split(puzzle_set.augmentations, puzzle_set.starts[1:-1])
    return {task.id: row.tolist() for task, row in zip(puzzle_set.tasks, numbers, strict=True)}


def test_seven_augmentations_are_the_transforms() -> None:
    puzzle_set = build(*TRAINING[:3], augmentations=7)
    assert all(numbers == (np.arange(8) * PERMUTATIONS).tolist() for numbers in rows(puzzle_set).values())


def test_draws_depend_on_the_seed_and_the_task_alone() -> None:
    one = build(*TRAINING)
    other = build(*TRAINING[::-1], workers=2)
    assert rows(one) == rows(other)
    assert rows(build(*TRAINING[3:5])) == {task.id: rows(one)[task.id] for task in TRAINING[3:5]}
    assert rows(build(*TRAINING, seed=1)) != rows(one)
    assert rows(build(*TRAINING, draws="black")) != rows(one)


def test_extending_keeps_keys_draws_and_their_kind() -> None:
    old = build(*TRAINING[:3])
    larger = extend_puzzle_set(old, [SourcedTasks("b", "train", TRAINING[3:6])])
    assert (larger.draws, larger.requested) == ("outputs", 63)
    assert rows(larger).items() >= rows(old).items()
    alone = build_puzzle_set([SourcedTasks("b", "train", TRAINING[3:6])], 63, 0, draws="outputs")
    assert rows(larger).items() >= rows(alone).items()
    assert set(old.keys()) < set(larger.keys())


@pytest.mark.parametrize("draws", ["outputs", "black", "distinct"])
def test_the_kind_of_draw_is_stored(draws: Draws, tmp_path: Path) -> None:
    puzzle_set = build(TRAINING[0], draws=draws)
    write_puzzle_set(puzzle_set, tmp_path / "set")
    summary = json.loads((tmp_path / "set" / "puzzle_set.json").read_text())
    assert summary.get("draws") == (None if draws == "distinct" else draws), (
        "sets of distinct augmentations do not store draws"
    )
    assert open_puzzle_set(tmp_path / "set").draws == draws
    assert ("draws" in summarise(puzzle_set)) == (draws != "distinct")
