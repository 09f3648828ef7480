"""Sampling: the published rule, weights of sources, positions saved and resumed, batches shared by processes."""

import json
from collections import Counter
from itertools import chain

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from solver.data.sampler import Sampler, weigh_tasks

STARTS = np.array([0, 3, 4, 9, 12])
COUNTS = np.array([2, 0, 5, 3])


def draw(sampler: Sampler, sizes: list[int]) -> list[list[tuple[int, int]]]:
    """Draw batches of these sizes as lists of (puzzle, pair)."""
    batches = (sampler.next_batch(size) for size in sizes)
    return [list(zip(puzzles.tolist(), pairs.tolist(), strict=True)) for puzzles, pairs in batches]


def visits(weights: list[float], examples: int, seed: int = 0) -> np.ndarray:
    """Return how often each task, with one pair and one of these weights, is visited in `examples` examples."""
    tasks = np.arange(len(weights) + 1)
    puzzles, _ = Sampler(tasks, np.ones(len(weights), np.int64), seed, np.array(weights)).next_batch(examples)
    return np.bincount(puzzles, minlength=len(weights))


def test_an_epoch_takes_one_puzzle_of_each_task_and_all_its_pairs() -> None:
    sampler = Sampler(STARTS, COUNTS, seed=1)
    for _ in range(20):
        [epoch] = draw(sampler, [10])
        puzzles = {puzzle for puzzle, _ in epoch}
        by_task = {int(np.searchsorted(STARTS, puzzle, "right")) - 1: puzzle for puzzle in puzzles}
        assert sorted(by_task) == [0, 2, 3], "a task without pairs is passed over"
        assert len(puzzles) == 3
        assert sorted(epoch) == sorted((by_task[task], pair) for task in by_task for pair in range(COUNTS[task]))


def test_the_last_puzzle_of_a_batch_is_cut_to_fit() -> None:
    for batch in draw(Sampler(np.array([0, 1, 2]), np.array([3, 3]), seed=0), [4] * 50):
        assert sorted(Counter(puzzle for puzzle, _ in batch).values()) == [1, 3]
        assert len(set(batch)) == 4


@given(st.lists(st.integers(0, 13), max_size=20), st.integers(0, 5))
def test_where_the_rest_is_kept_batch_sizes_decide_nothing_and_nothing_is_lost(sizes: list[int], seed: int) -> None:
    parts = draw(Sampler(STARTS, COUNTS, seed, keep_rest=True), sizes)
    assert list(map(len, parts)) == sizes
    [whole] = draw(Sampler(STARTS, COUNTS, seed, keep_rest=True), [sum(sizes)])
    assert list(chain(*parts)) == whole
    for epoch in range(0, len(whole) - 9, 10):
        assert Counter(pair for _, pair in whole[epoch : epoch + 10]) == {0: 3, 1: 3, 2: 2, 3: 1, 4: 1}


@given(
    sizes=st.lists(st.integers(0, 13), min_size=1, max_size=20),
    place=st.integers(0, 20),
    seed=st.integers(0, 2**63 - 1),
    weights=st.none() | st.lists(st.floats(0.125, 3), min_size=4, max_size=4).map(np.array),
    keep_rest=st.booleans(),
)
def test_a_position_is_resumed_anywhere(sizes: list[int], place: int, seed: int, weights: np.ndarray, keep_rest: bool):
    sampler, resumed = (Sampler(STARTS, COUNTS, seed, weights, keep_rest) for _ in range(2))
    draw(sampler, sizes[:place])
    resumed.resume(json.loads(json.dumps(sampler.position)))
    assert resumed.position == sampler.position
    assert draw(resumed, sizes) == draw(sampler, sizes)
    assert resumed.step == len(sizes[:place]) + len(sizes)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (Sampler(STARTS, COUNTS, seed=8), "seed is 7 there and 8 here"),
        (Sampler(STARTS, COUNTS + 1, seed=7), "digest of tasks and weights is"),
        (Sampler(STARTS + 1, COUNTS, seed=7), "digest of tasks and weights is"),
        (Sampler(STARTS, COUNTS, seed=7, weights=np.array([1, 1, 1, 2.0])), "digest of tasks and weights is"),
        (Sampler(STARTS, COUNTS, seed=7, keep_rest=True), "keep_rest is False there and True here"),
    ],
)
def test_a_position_of_another_run_is_refused(other: Sampler, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        other.resume(Sampler(STARTS, COUNTS, seed=7).position)


def test_a_weight_is_the_number_of_visits_per_epoch() -> None:
    assert visits([1, 2, 0, 3], 6 * 50).tolist() == [50, 100, 0, 150]
    # On average an epoch makes 0.25 + 1.5 + 1 visits.
    counts = visits([0.25, 1.5, 1], 2750)
    assert counts / 1000 == pytest.approx([0.25, 1.5, 1], abs=0.06)
    assert (visits([0.25, 1.5, 1], 2750, seed=1) != counts).any(), "the additional visits are drawn from the seed"


def test_weights_of_1_change_nothing() -> None:
    weighted = Sampler(STARTS, COUNTS, 3, np.ones(4))
    assert draw(weighted, [7] * 20) == draw(Sampler(STARTS, COUNTS, 3), [7] * 20)


def test_weights_are_given_by_source() -> None:
    sources = ["a", "b", "a", "c"]
    assert weigh_tasks(sources, [("a", 0.5), ("c", 0)]).tolist() == [0.5, 1, 0.5, 0]
    with pytest.raises(ValueError, match="the puzzle set has no source d; it has a, b, c"):
        weigh_tasks(sources, [("a", 1), ("d", 1)])
    with pytest.raises(ValueError, match="no task is left to train on"):
        Sampler(STARTS, COUNTS, 0, np.array([0, 1.0, 0, 0]))


def draw_pairs(batches: int, size: int = 100, weights: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Draw independent examples from three tasks of 1, 4 and 2 puzzles with 2, 3 and 0 pairs."""
    sampler = Sampler(np.array([0, 1, 5, 7]), np.array([2, 3, 0]), 0, weights, visits="pairs")
    examples = [sampler.next_batch(size) for _ in range(batches)]
    return np.concatenate([puzzles for puzzles, _ in examples]), np.concatenate([pairs for _, pairs in examples])


def test_examples_drawn_one_by_one_are_uniform_over_tasks_puzzles_and_pairs() -> None:
    puzzles, pairs = draw_pairs(100)
    counts = np.bincount(puzzles, minlength=7)
    assert counts[5:].sum() == 0, "a task without pairs is passed over"
    assert np.allclose(counts[:5] / len(puzzles), [0.5, 0.125, 0.125, 0.125, 0.125], atol=0.02)
    assert np.allclose(np.bincount(pairs[puzzles > 0]) / (puzzles > 0).sum(), 1 / 3, atol=0.02)
    weighted, _ = draw_pairs(100, weights=np.array([3.0, 1.0, 1.0]))
    assert abs((weighted == 0).mean() - 0.75) < 0.02


def test_examples_drawn_one_by_one_go_on_from_a_position() -> None:
    sampler = Sampler(np.array([0, 1, 5]), np.array([2, 3]), 4, visits="pairs")
    sampler.next_batch(7)
    other = Sampler(np.array([0, 1, 5]), np.array([2, 3]), 4, visits="pairs")
    other.resume(sampler.position)
    assert np.array_equal(sampler.next_batch(7), other.next_batch(7))
    with pytest.raises(ValueError, match="visits is pairs there and tasks here"):
        Sampler(np.array([0, 1, 5]), np.array([2, 3]), 4).resume(sampler.position)


def test_a_position_saved_before_visits_were_a_setting_is_of_tasks() -> None:
    sampler = Sampler(np.array([0, 1, 5]), np.array([2, 3]), 4)
    position = sampler.position
    del position["drawn_from"]["visits"]
    expected = sampler.next_batch(7)
    other = Sampler(np.array([0, 1, 5]), np.array([2, 3]), 4)
    other.resume(position)
    assert np.array_equal(other.next_batch(7), expected)
