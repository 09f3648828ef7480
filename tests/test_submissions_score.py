"""Figures worked out by hand.

Three tasks with 1, 2 and 3 test outputs; output number i of a task is a 1 x (i + 1) grid of its colour.
"""

import math

import numpy as np
import pytest

from augment.task import Pair, Task
from submissions.format import FILLER, SubmissionError, filler_submission, make_submission
from submissions.score import NOT_FOUND, measure, score_submission, wilson_interval
from submissions.vote import Candidate

INPUT = np.array([[5]], np.uint8)


def truth(colour: int, place: int) -> np.ndarray:
    return np.full((1, place + 1), colour, np.uint8)


def make_task(name: str, colour: int, outputs: int) -> Task:
    tests = tuple(Pair(INPUT, truth(colour, place)) for place in range(outputs))
    return Task(name, (Pair(INPUT, INPUT),), tests)


TASKS = [make_task("one", 1, 1), make_task("three", 3, 3), make_task("two", 2, 2)]
WRONG = Candidate(np.array([[9, 9], [9, 9]], np.uint8), 3, 0.9)


def right(task: Task, place: int) -> Candidate:
    output = task.tests[place].output
    assert output is not None
    return Candidate(output, 1, 0.5)


def perfect() -> dict:
    return {task.id: [[right(task, place)] for place in range(len(task.tests))] for task in TASKS}


def half_right() -> dict:
    """Right: one (2nd), two's first output (1st), three's first (1st) and second (3rd: not an attempt)."""
    one, three, two = TASKS
    return {
        "one": [[WRONG, right(one, 0)]],
        "two": [[right(two, 0)], [WRONG]],
        "three": [[right(three, 0), WRONG], [WRONG, right(one, 0), right(three, 1)], []],
    }


def figures(score) -> list[float]:
    return [figure for part in (score.pass_1, score.pass_2) for figure in (part.macro, part.micro, part.all_or_nothing)]


def test_a_perfect_submission():
    score = score_submission(make_submission(perfect(), TASKS), TASKS, "here")
    assert (score.source, score.tasks, score.outputs) == ("here", 3, 6)
    assert figures(score) == [1, 1, 1, 1, 1, 1]
    # All tasks score the same, so every interval is Wilson's: [3 / (3 + 1.96^2), 1].
    assert score.pass_2.macro_interval == pytest.approx((0.43850, 1.0), abs=1e-5)
    assert score.pass_2.micro_interval == score.pass_2.all_or_nothing_interval == score.pass_2.macro_interval


@pytest.mark.parametrize("submission", [{}, {"one": [], "two": []}, filler_submission(TASKS)])
def test_an_empty_submission_counts_every_output(submission):
    score = score_submission(submission, TASKS, "here")
    assert (score.tasks, score.outputs) == (3, 6)
    assert figures(score) == [0, 0, 0, 0, 0, 0]
    # [0, 1.96^2 / (3 + 1.96^2)]
    assert score.pass_2.macro_interval == pytest.approx((0.0, 0.56150), abs=1e-5)


def test_a_half_right_submission():
    score = score_submission(make_submission(half_right(), TASKS), TASKS, "here")
    # pass@1: 0/1, 1/2, 1/3. pass@2: 1/1, 1/2, 1/3.
    expected = [(0 + 1 / 2 + 1 / 3) / 3, 2 / 6, 0 / 3, (1 + 1 / 2 + 1 / 3) / 3, 3 / 6, 1 / 3]
    assert figures(score) == pytest.approx(expected)
    # Wilson, 1 of 3: z^2 = 3.84146, centre (1/3 + 0.64024) / 2.28049, reach sqrt(.28455 + .40991) / 2.28049.
    assert score.pass_2.all_or_nothing_interval == pytest.approx((0.06149, 0.79234), abs=1e-5)
    # A resample of three tasks is three times the worst with probability 1/27 > 2.5%, and likewise the best.
    assert score.pass_2.macro_interval == pytest.approx((1 / 3, 1))


def test_predictions_add_coverage_rank_and_pass_at_k():
    ballot = half_right()
    score = score_submission(make_submission(ballot, TASKS), TASKS, "here", ballot)
    assert score.coverage is not None
    assert score.coverage.macro == pytest.approx((1 + 1 / 2 + 2 / 3) / 3)
    assert (score.coverage.micro, score.coverage.all_or_nothing) == pytest.approx((4 / 6, 1 / 3))
    assert score.rank == {"median": 1.5, "places": {"1": 2, "2": 1, "3": 1}}
    assert score.pass_at is not None
    assert score.pass_at["1"] == pytest.approx(score.pass_1.macro)
    assert score.pass_at["2"] == pytest.approx(score.pass_2.macro)
    assert score.pass_at["3"] == score.pass_at["100"] == pytest.approx(score.coverage.macro)


def test_nothing_covered_has_no_median_rank():
    score = score_submission({}, TASKS, "here", {})
    assert score.rank == {"median": None, "places": {}}


def test_json_has_the_promised_names_and_predictions_only_when_there_are():
    plain = score_submission(filler_submission(TASKS), TASKS, "here").to_json()
    assert set(plain) == {"source", "tasks", "outputs", "trained_on", "pass@1", "pass@2"}
    names = ("macro", "micro", "all_or_nothing")
    assert set(plain["pass@2"]) == {*names, *(f"{name}_interval" for name in names)}
    full = score_submission(filler_submission(TASKS), TASKS, "here", {}).to_json()
    assert set(full) - set(plain) == {"coverage", "rank", "pass@K"}


def test_second_attempts_count_only_at_two():
    submission = {"one": [{"attempt_1": FILLER, "attempt_2": [[1]]}]}
    score = score_submission(submission, TASKS[:1], "here")
    assert (score.pass_1.macro, score.pass_2.macro) == (0, 1)


def test_entries_answer_the_test_inputs_in_order():
    swapped = make_submission(perfect(), TASKS)
    swapped["two"].reverse()
    assert score_submission(swapped, TASKS, "here").pass_2.macro == pytest.approx(2 / 3)


def test_hidden_tasks_cannot_be_scored():
    with pytest.raises(ValueError, match=r"nowhere: 1 tasks \(first: one\) have no known outputs"):
        score_submission({}, [TASKS[0].hidden(), TASKS[1]], "nowhere")


@pytest.mark.parametrize(
    ("submission", "message"),
    [
        ({"one": [{"attempt_1": [[1, 2], [3]]}]}, "task one, entry 0, attempt_1: row 1"),
        ({"one": [{}, {}]}, "task one has 2 entries for 1 test inputs"),
        ({"elsewhere": [{"attempt_1": [[1]]}]}, "no task of here"),
    ],
)
def test_submissions_that_cannot_be_meant_are_refused(submission, message):
    with pytest.raises(SubmissionError, match=message):
        score_submission(submission, TASKS, "here")


def test_wilson_by_hand():
    # 8 of 10: centre (0.8 + 0.192073) / 1.384146 = 0.716740,
    # reach sqrt(0.0614634 + 0.0368920) / 1.384146 = 0.226577.
    assert wilson_interval(0.8, 10) == pytest.approx((0.490162, 0.943318), abs=1e-6)
    assert wilson_interval(0.0, 25) == pytest.approx((0.0, 3.841459 / 28.841459), abs=1e-6)


@pytest.mark.parametrize("number", [1, 3, 7, 25, 120, 400])
def test_intervals_end_exactly_at_none_and_all(number):
    assert wilson_interval(0.0, number)[0] == 0.0
    assert wilson_interval(1.0, number)[1] == 1.0


def test_bootstrap_is_repeatable_and_close_to_the_normal_interval():
    ranks = [[1.0] if place % 4 == 0 else [NOT_FOUND] for place in range(400)]
    first, second = measure(ranks), measure(ranks)
    assert first == second
    reach = 1.96 * math.sqrt(0.25 * 0.75 / 400)
    assert first.macro_interval == pytest.approx((0.25 - reach, 0.25 + reach), abs=0.004)


def test_bootstrap_draws_whole_tasks():
    """Micro over tasks of 1 and 9 outputs: as wide as two tasks are, not as ten outputs would be."""
    assert measure([[1.0], [NOT_FOUND] * 9]).micro_interval == pytest.approx((0.0, 1.0))


def test_all_tasks_half_solved_is_an_interval_of_tasks():
    ranks = [[1.0, NOT_FOUND]] * 4
    assert measure(ranks).macro_interval == pytest.approx(wilson_interval(0.5, 4))
    assert measure(ranks).micro_interval == pytest.approx(wilson_interval(0.5, 4))
