"""Each ranker on a small table, with the expected order derived in a comment."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from augment.augmentation import Augmentation
from augment.grid import Grid
from augment.task import Pair, Task
from submissions import RANKERS, find_ranker
from submissions.predictions import Prediction, Predictions, ScoreRows, make_predictions, merge_predictions
from submissions.vote import Candidate, vote

A, B, C = (np.full((1, 1), colour, np.uint8) for colour in (1, 2, 3))
WIDE, WIDER = np.array([[4, 4]], np.uint8), np.array([[5, 5]], np.uint8)
NAMES = {A.tobytes(): "A", B.tobytes(): "B", C.tobytes(): "C", WIDE.tobytes(): "WIDE", WIDER.tobytes(): "WIDER"}
TASK = Task("a", (Pair(A, B),), (Pair(C, None),))


def logit(probability: float) -> float:
    return math.log(probability / (1 - probability))


def answer(grid: Grid | None, halting: float, log_prob: float = -1.0, view: int = 0, **more) -> Prediction:
    return Prediction("a", 0, Augmentation.from_number(view).name, grid, logit(halting), log_prob, **more)


def candidates(predictions: Predictions, ranker: str) -> Sequence[Candidate]:
    return vote(predictions, [TASK], ranker)["a"][0]


def order(rows: list[Prediction], ranker: str) -> list[str]:
    return [NAMES[candidate.grid.tobytes()] for candidate in candidates(make_predictions({}, rows), ranker)]


#        votes     sum of halting   mean halting   mean log-probability
# A      3         0.6              0.2            -3
# B      2         1.6              0.8            -2
# C      1         0.9              0.9            -1
# WIDE   2         1.0              0.5            -4
# WIDER  2         0.8              0.4            -5
TABLE = [
    *(answer(A, 0.2, -3.0, view) for view in (0, 1, 1)),
    *(answer(B, 0.8, log_prob) for log_prob in (-1.0, -3.0)),
    answer(C, 0.9, -1.0),
    answer(None, 0.99, math.nan),
    *(answer(WIDE, 0.5, -4.0) for _ in range(2)),
    *(answer(WIDER, 0.4, -5.0) for _ in range(2)),
]


def test_count_orders_by_answers_then_mean_halting_probability():
    # 3 answers; then those with 2 by 0.8, 0.5, 0.4; then 1.
    assert order(TABLE, "count") == ["A", "B", "WIDE", "WIDER", "C"]


def test_confidence_orders_by_the_sum_of_halting_probabilities():
    # 1.6, 1.0, 0.9, 0.8, 0.6
    assert order(TABLE, "confidence") == ["B", "WIDE", "C", "WIDER", "A"]


def test_likelihood_orders_by_mean_log_probability():
    # -1, -2, -3, -4, -5
    assert order(TABLE, "likelihood") == ["C", "B", "A", "WIDE", "WIDER"]


def test_likelihood_puts_an_unknown_log_probability_last():
    assert order([answer(A, 0.9, math.nan), answer(A, 0.9, -1.0), answer(B, 0.1, -9.0)], "likelihood") == ["B", "A"]


def test_shape_orders_by_the_votes_on_the_shape_first():
    # 1x1: A 3, B 2, C 1 = 6 votes; 1x2: WIDE 2, WIDER 2 = 4. With two more for 1x2 (WIDER 4): 6 each, so by count.
    assert order(TABLE, "shape") == ["A", "B", "C", "WIDE", "WIDER"]
    # One more for WIDER: 1x2 has 7 votes against 6, so WIDER 5, WIDE 2 come before A 3.
    assert order([*TABLE, *(answer(WIDER, 0.4) for _ in range(3))], "shape") == ["WIDER", "WIDE", "A", "B", "C"]


def test_steps_pools_all_supervision_steps():
    # At the last step A has 2, B 1. Over all steps A has 2, B 1 + 2 = 3, and C, which the last step dropped, 1.
    rows = [
        answer(B, 0.5, step=1, last=False), answer(B, 0.5, step=2, last=False), answer(C, 0.5, step=2, last=False),
        answer(A, 0.5, step=3), answer(A, 0.5, step=3, view=1), answer(B, 0.5, step=3, view=2),
    ]  # fmt: skip
    assert order(rows, "count") == ["A", "B"]
    assert order(rows, "steps") == ["B", "A", "C"]


def test_steps_asks_for_all_steps_where_only_the_last_was_recorded():
    with pytest.raises(ValueError, match="--steps all"):
        order([answer(A, 0.5, step=3), answer(B, 0.5, step=3)], "steps")
    assert order([answer(A, 0.5)], "steps") == ["A"], "a single supervision step is all of them"


def rescored(rows: dict[str, list[float]]) -> Predictions:
    """The table with log-probabilities of some candidates under augmentation 0, 1 ..."""
    predictions = make_predictions({}, TABLE)
    numbers = {NAMES[predictions.grids[number].tobytes()]: number for number in range(len(predictions.grids))}
    entries = [(view, numbers[name], value) for name, scores in rows.items() for view, value in enumerate(scores)]
    views, grids, values = zip(*entries, strict=True)
    zeros = np.zeros(len(entries), np.int32)
    columns = np.array(views, np.uint32), np.array(grids, np.int32), np.array(values, np.float32)
    return replace(predictions, scores=ScoreRows(zeros, zeros, *columns))


def test_product_orders_by_log_probability_under_every_augmentation():
    # Means over augmentations: WIDE -2, A -2.5, C -3; WIDER has -inf under one; B was not rescored. The last two
    # are equal there (-inf), so by count (2 each), then by mean halting probability (B 0.8, WIDER 0.4).
    scores = {"A": [-1.0, -4.0], "C": [-3.0, -3.0], "WIDE": [-2.0, -2.0], "WIDER": [-0.1, -math.inf]}
    names = [NAMES[candidate.grid.tobytes()] for candidate in candidates(rescored(scores), "product")]
    assert names == ["WIDE", "A", "C", "B", "WIDER"]


def test_product_asks_for_rescoring_where_there_is_none():
    with pytest.raises(ValueError, match="predict --rescore"):
        order(TABLE, "product")


def test_candidates_say_how_many_augmentations_gave_them():
    by_name = {NAMES[c.grid.tobytes()]: c for c in candidates(make_predictions({}, TABLE), "count")}
    assert (by_name["A"].count, by_name["A"].augmentations) == (3, 2)
    assert (by_name["B"].count, by_name["B"].augmentations, by_name["B"].log_prob) == (2, 1, -2.0)


@pytest.mark.parametrize("name", sorted(set(RANKERS) - {"steps", "product", "value"}))
def test_every_ranker_offers_every_candidate_once(name):
    assert sorted(order(TABLE, name)) == ["A", "B", "C", "WIDE", "WIDER"]
    assert order([], name) == []


def test_a_ranker_of_ones_own_is_a_file(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(
        "from submissions import ranker\n"
        "@ranker('fewest', source='a test', scored='nothing')\n"
        "def by_fewest(votes):\n"
        "    return (-votes.count,)\n"
    )
    try:
        # 1, then the three with 2 in the order first seen, then 3.
        assert order(TABLE, str(file)) == ["C", "B", "WIDE", "WIDER", "A"]
        assert find_ranker("fewest").source == "a test"
    finally:
        RANKERS.pop("fewest", None)


def test_a_file_without_a_ranker_is_refused(tmp_path):
    (tmp_path / "empty.py").write_text("")
    for name, message in (("empty.py", "defines no ranker"), ("missing.py", "no such file")):
        with pytest.raises(ValueError, match=message):
            find_ranker(str(tmp_path / name))


def test_every_ranker_says_where_it_comes_from_and_what_it_scored():
    assert set(RANKERS) >= {"count", "confidence", "likelihood", "steps", "product", "shape"}
    assert all(entry.source and entry.scored and entry.rank.__doc__ for entry in RANKERS.values())


def test_a_merge_is_not_ranked_by_scores_that_only_one_model_gave():
    merged = merge_predictions({"one": rescored({"A": [-1.0]}), "two": rescored({"B": [-1.0]})})
    with pytest.raises(ValueError, match="'product' is for one model"):
        candidates(merged, "product")


def test_steps_needs_all_steps_of_every_one_of_a_merge():
    all_steps = [answer(A, 0.5, step=1, last=False), answer(A, 0.5, step=2)]
    last_step = all_steps[1:]
    merged = merge_predictions({"one": make_predictions({}, all_steps), "two": make_predictions({}, last_step)})
    with pytest.raises(ValueError, match="all supervision steps in each of one, two"):
        candidates(merged, "steps")


def test_scores_of_other_tasks_are_left_out():
    rows = [Prediction("other", 0, Augmentation.from_number(0).name, A, 0.0), answer(None, 0.5)]
    predictions = make_predictions({}, rows)
    one = np.zeros(1, np.int32)
    scores = ScoreRows(one, one, one.astype(np.uint32), one, np.zeros(1, np.float32))
    assert len(candidates(replace(predictions, scores=scores), "product")) == 0


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("return (votes.x,)", "'broken' fails: AttributeError"),
        ("return votes.count", "must return a tuple"),
        ("return (votes.halting_R,)", "one value per candidate"),
    ],
)
def test_a_broken_ranker_is_named(tmp_path, body, message):
    file = tmp_path / "mine.py"
    file.write_text(
        f"from submissions import ranker\n@ranker('broken', source='', scored='')\ndef f(votes):\n    {body}\n"
    )
    try:
        with pytest.raises(ValueError, match=message):
            order(TABLE, str(file))
    finally:
        RANKERS.pop("broken", None)


def test_a_file_that_is_no_python_is_named(tmp_path):
    (tmp_path / "mine.py").write_text("def")
    with pytest.raises(ValueError, match=r"mine.py: cannot be run .*SyntaxError"):
        find_ranker(str(tmp_path / "mine.py"))


def test_best_takes_the_one_answer_that_the_halting_head_trusts_most():
    # 0.95 of a single answer, then 0.9; 0.6 and 0.5 are above four times 0.2.
    rows = [*(answer(A, 0.2) for _ in range(4)), answer(B, 0.1), answer(B, 0.95), answer(C, 0.9)]
    assert order([*rows, answer(WIDE, 0.5), answer(WIDER, 0.6)], "best") == ["B", "C", "WIDER", "WIDE", "A"]


def test_value_takes_the_one_answer_that_the_value_head_trusts_most():
    rows = [answer(A, 0.9, value=0.1), answer(A, 0.9, value=0.2), answer(B, 0.1, value=0.8), answer(C, 0.5, value=0.3)]
    assert order(rows, "value") == ["B", "C", "A"]


def test_value_is_refused_where_no_head_has_given_one():
    with pytest.raises(ValueError, match="needs the value head"):
        order(TABLE, "value")
