import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from augment.grid import Grid
from augment.task import Pair, Task
from submissions.predictions import Prediction, make_predictions
from submissions.submission_file import make_submission
from submissions.vote import Candidate, vote


def grid(*rows: str) -> Grid:
    return np.array([[int(cell) for cell in row] for row in rows], np.uint8)


RED, BLUE, WIDE = grid("2"), grid("1"), grid("22")


def answers(*rows: tuple[Grid | None, float], task: str = "a", test: int = 0) -> list[Prediction]:
    return [Prediction(task, test, "t0|||0123456789", answer, logit) for answer, logit in rows]


def task_of(*inputs: Grid, name: str = "a") -> Task:
    return Task(name, (Pair(BLUE, RED),), tuple(Pair(input, None) for input in inputs))


def rank_candidates(rows: list[Prediction], ranker: str = "count") -> Sequence[Candidate]:
    return vote(make_predictions({}, rows), [task_of(WIDE)], ranker)["a"][0]


def ranked(rows: list[Prediction]) -> list[tuple[list, int]]:
    return [(candidate.grid.tolist(), candidate.count) for candidate in rank_candidates(rows)]


def test_more_predictions_win_over_confidence():
    assert ranked(answers((BLUE, 9.0), (RED, -9.0), (RED, -9.0))) == [([[2]], 2), ([[1]], 1)]


def test_equal_counts_are_settled_by_mean_halting_probability_not_mean_logit():
    # Mean logits 3 and 2, mean probabilities 0.5 + (sigmoid(6) - 0.5) / 2 = 0.749 and sigmoid(2) = 0.881.
    rows = answers((BLUE, 6.0), (BLUE, 0.0), (RED, 2.0), (RED, 2.0))
    first, second = rank_candidates(rows)
    assert first.grid.tolist() == [[2]]
    assert second.confidence == pytest.approx((1 / (1 + math.exp(-6)) + 0.5) / 2)


def test_full_ties_keep_the_order_first_seen():
    rows = answers((WIDE, 0.0), (BLUE, 0.0), (RED, 0.0), (RED, 0.0), (BLUE, 0.0), (WIDE, 0.0))
    assert [candidate.grid.tolist() for candidate in rank_candidates(rows)] == [[[2, 2]], [[1]], [[2]]]


def test_empty_and_malformed_crops_are_never_candidates():
    assert ranked(answers((None, 9.0), (None, 9.0), (np.zeros((0, 3), np.uint8), 9.0), (RED, -9.0))) == [([[2]], 1)]


def test_grids_of_another_shape_with_the_same_cells_are_others():
    assert len(rank_candidates(answers((grid("12"), 0.0), (grid("1", "2"), 0.0)))) == 2


def test_extreme_logits_stay_probabilities():
    low, high, unknown = (rank_candidates(answers((RED, logit)))[0] for logit in (-1e4, 1e4, math.nan))
    assert (low.confidence, high.confidence, unknown.confidence) == (0.0, 1.0, 0.0)


def test_unknown_ranker_is_named_with_the_choices():
    with pytest.raises(ValueError, match=r"'loudest'.*count"):
        rank_candidates(answers((RED, 0.0)), "loudest")


def test_every_test_input_has_a_list_even_without_predictions():
    ballot = vote(make_predictions({}, answers((RED, 0.0), test=1)), [task_of(BLUE, RED), task_of(RED, name="b")])
    assert [len(candidates) for candidates in ballot["a"]] == [0, 1]
    assert [len(candidates) for candidates in ballot["b"]] == [0]


def test_equal_test_inputs_of_a_task_share_their_predictions():
    rows = answers((RED, 0.0)) + answers((BLUE, 0.0), (BLUE, 0.0), test=1)
    first, second = vote(make_predictions({}, rows), [task_of(WIDE, WIDE)])["a"]
    assert [candidate.count for candidate in first] == [candidate.count for candidate in second] == [2, 1]


def test_predictions_of_other_tasks_are_ignored():
    rows = answers((RED, 0.0)) + answers((BLUE, 0.0), task="other")
    assert vote(make_predictions({}, rows), [task_of(BLUE)])["a"][0][0].grid.tolist() == [[2]]


def test_predictions_of_another_source_are_refused():
    with pytest.raises(ValueError, match="none of the 1 predictions"):
        vote(make_predictions({}, answers((RED, 0.0), task="z")), [task_of(BLUE)])


def test_the_error_for_a_prediction_of_a_missing_test_input_names_the_task():
    with pytest.raises(ValueError, match=r"task a: .*test input 3"):
        vote(make_predictions({}, answers((RED, 0.0), test=3)), [task_of(BLUE)])


@given(st.lists(st.tuples(st.sampled_from([RED, BLUE, WIDE, None]), st.integers(-3, 3)), max_size=12))
def test_every_prediction_with_a_grid_is_one_vote(rows):
    candidates = rank_candidates(answers(*rows))
    assert sum(candidate.count for candidate in candidates) == sum(answer is not None for answer, _ in rows)
    keys = [(candidate.count, candidate.confidence) for candidate in candidates]
    assert keys == sorted(keys, reverse=True)


@given(st.lists(st.tuples(st.sampled_from([RED, BLUE, WIDE, None]), st.integers(-3, 3)), max_size=12))
def test_the_attempts_differ_wherever_there_are_two_candidates(rows):
    for name in ("count", "confidence", "likelihood", "shape"):
        ballot = vote(make_predictions({}, answers(*rows)), [task_of(WIDE)], name)
        (entry,) = make_submission(ballot, [task_of(WIDE)])["a"]
        assert (entry["attempt_1"] != entry["attempt_2"]) == (len(ballot["a"][0]) > 1)
