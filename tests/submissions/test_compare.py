"""Comparisons worked out by hand: outputs gained and lost, significance, and rankers on the same predictions."""

import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from augment import Selection, load_tasks
from augment.task import Pair, Task
from submissions.compare import compare, compare_rankers, difference_interval, sign_test
from submissions.confidence_intervals import wilson_interval
from submissions.predictions import Prediction, Predictions, make_predictions
from submissions.submission_json import SubmissionError

INPUT = np.array([[5]], np.uint8)
RIGHT, WRONG = np.array([[1]], np.uint8), np.array([[2, 2]], np.uint8)


def make_task(name: str, outputs: int = 1) -> Task:
    return Task(name, (Pair(INPUT, INPUT),), (Pair(INPUT, RIGHT),) * outputs)


def submit(**solved: str) -> dict:
    """A submission from one letter per test output of each task: the right attempt, 1 or 2, or - for none."""
    attempts = {
        "1": {"attempt_1": RIGHT.tolist(), "attempt_2": WRONG.tolist()},
        "2": {"attempt_1": WRONG.tolist(), "attempt_2": RIGHT.tolist()},
        "-": {"attempt_1": WRONG.tolist(), "attempt_2": WRONG.tolist()},
    }
    return {name: [attempts[letter] for letter in letters] for name, letters in solved.items()}


def test_gained_lost_both_and_neither():
    tasks = [make_task("a"), make_task("b", 2), make_task("c", 3), make_task("d")]
    first = submit(a="1", b="1-", c="-2-")
    second = submit(a="2", b="-2", c="--1", d="1")
    comparison = compare(first, second, tasks, "here")
    # a: both. b: output 1 gained, 2 lost. c: output 2 gained, 3 lost, 1 by neither. d: missing from the first, lost.
    assert (comparison.gained, comparison.lost, comparison.both, comparison.neither) == (2, 3, 1, 1)
    assert (comparison.gained_tasks, comparison.lost_tasks) == (("b", "c"), ("b", "c", "d"))
    # (1 + 1/2 + 1/3 + 0) / 4 - (1 + 1/2 + 1/3 + 1) / 4
    assert comparison.macro == pytest.approx(-1 / 4)
    assert comparison.p_value == 1
    reverse = compare(second, first, tasks, "here")
    assert (reverse.gained, reverse.lost, reverse.macro) == (3, 2, -comparison.macro)
    assert reverse.macro_interval == pytest.approx(tuple(-end for end in reversed(comparison.macro_interval)))


@pytest.mark.parametrize(
    ("gained", "lost", "expected"),
    [
        (0, 0, 1.0),
        (3, 3, 1.0),
        (5, 0, 2 * 1 / 32),
        (4, 1, 2 * (1 + 5) / 32),
        (1, 8, 2 * (1 + 9) / 512),
    ],
)
def test_sign_test_by_hand(gained, lost, expected):
    assert sign_test(gained, lost) == sign_test(lost, gained) == expected


@given(st.integers(0, 5), st.integers(0, 5))
def test_the_sign_test_counts_splits_at_least_as_uneven(gained, lost):
    """Compared with an enumeration of all outcomes of the outputs that differ."""
    splits = [abs(sum(signs)) for signs in product((-1, 1), repeat=gained + lost)]
    share = sum(split >= abs(gained - lost) for split in splits) / len(splits)
    assert sign_test(gained, lost) == pytest.approx(share)


def test_the_interval_is_paired():
    """With ten of a hundred tasks gained and none lost, the width is that of a share of 10 in 100 tasks."""
    tasks = [make_task(f"{number:03}") for number in range(100)]
    second = submit(**{task.id: "1" for task in tasks[:50]})
    first = second | submit(**{task.id: "1" for task in tasks[50:60]})
    comparison = compare(first, second, tasks, "here")
    half_width = 1.96 * math.sqrt(0.1 * 0.9 / 100)
    assert comparison.macro == pytest.approx(0.1)
    assert comparison.macro_interval == pytest.approx((0.1 - half_width, 0.1 + half_width), abs=0.011)


def test_no_difference_in_few_tasks_proves_little():
    high = wilson_interval(0, 8)[1]
    assert difference_interval(np.zeros(8)) == (-high, high)
    assert difference_interval(np.ones(8)) == wilson_interval(1, 8)
    assert difference_interval(-np.ones(8)) == tuple(-end for end in reversed(wilson_interval(1, 8)))


@pytest.mark.parametrize(
    ("gained", "lost", "words"),
    [
        (8, 1, ("p = 0.039", "as uneven as 8 to 1 would occur in 3.9%", "is significant")),
        (4, 1, ("p = 0.375", "as uneven as 4 to 1 would occur in 37.5%", "is not significant")),
        (12, 0, ("p < 0.001", "as uneven as 12 to 0 would occur in less than 0.1%", "is significant")),
        (0, 0, ("no test output is solved by only one of the two",)),
    ],
)
def test_the_p_value_is_explained_in_words(gained, lost, words):
    tasks = [make_task(f"{number:02}") for number in range(20)]
    first = submit(**{task.id: "1" for task in tasks[:gained]}) | submit(**{"19": "-"})
    second = submit(**{task.id: "1" for task in tasks[gained : gained + lost]}) | submit(**{"19": "-"})
    meaning = compare(first, second, tasks, "here").meaning
    assert all(part in meaning for part in words), meaning


def test_what_cannot_be_scored_cannot_be_compared():
    with pytest.raises(SubmissionError, match="task a has 2 entries for 1 test inputs"):
        compare(submit(a="1"), submit(a="11"), [make_task("a")], "here")
    with pytest.raises(ValueError, match="no known outputs"):
        compare(submit(a="1"), submit(a="1"), [make_task("a").hidden()], "here")


def answer(task: str, grid: np.ndarray, halting: float) -> Prediction:
    return Prediction(task, 0, "t0|||0123456789", grid, math.log(halting / (1 - halting)), log_prob=-halting, step=2)


def made_up_predictions(tasks: list[Task]) -> Predictions:
    """Predictions whose right grid has most votes for the first task, and most confidence for all but the second."""
    wrong = [np.full((1, width), 3, np.uint8) for width in (29, 30)]
    rows = []
    for place, task in enumerate(tasks):
        truth = task.tests[0].output
        assert truth is not None
        rows += [answer(task.id, grid, 0.2) for grid in wrong for _ in range(2)]
        rows += [answer(task.id, truth, 0.1 if place == 1 else 0.9)] * (3 if place == 0 else 1)
    return make_predictions({"trained_on": [], "training_known": True}, rows)


def test_rankers_are_compared_on_the_same_predictions():
    tasks = load_tasks("arc-agi-1/training", Selection(tasks=("007bbfb7", "025d127b", "0520fde7", "05269061")))
    ranked, left_out = compare_rankers(made_up_predictions(tasks), tasks, "here", ["count", "confidence", "product"])
    assert [comparison.ranker for comparison in ranked] == ["confidence", "count"], "the best first"
    assert left_out.keys() == {"product"}
    assert "--rescore" in left_out["product"]
    confidence, count = ranked
    assert (confidence.score.pass_2.macro, count.score.pass_2.macro) == (3 / 4, 1 / 4)
    assert (confidence.score.pass_1.macro, count.score.pass_1.macro) == (3 / 4, 1 / 4)
    assert (confidence.score.selection, count.score.selection) == (3 / 4, 1 / 4)
    assert (confidence.against.gained, confidence.against.lost, confidence.against.p_value) == (2, 0, 1 / 2)
    assert (count.against.gained, count.against.lost, count.against.both) == (0, 0, 1)
    assert confidence.score.trained_on == ()


def test_rankers_that_cannot_be_used_are_refused():
    tasks = load_tasks("arc-agi-1/training", Selection(tasks=("007bbfb7",)))
    predictions = made_up_predictions(tasks)
    with pytest.raises(ValueError, match="unknown ranker 'worst'"):
        compare_rankers(predictions, tasks, "here", ["count", "worst"])
    with pytest.raises(ValueError, match="no ranker is named: choose one or more of count"):
        compare_rankers(predictions, tasks, "here", [])
    with pytest.raises(ValueError, match=r"'product'.*; .*'steps'"):
        compare_rankers(predictions, tasks, "here", ["product", "steps"])
