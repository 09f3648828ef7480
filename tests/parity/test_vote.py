"""Vote order, attempts and pass@K against the published TRM: tests that `tests/parity/test_models.py` collects.

The only differences are declared: an empty grid is never an attempt, and a task without predictions gets placeholders.
"""

import math
from functools import cache
from typing import Any

import numpy as np
import pytest

from augment.augmentation import Augmentation, parse_puzzle_key
from augment.grid import grid_hash, parse_grid
from augment.task import Pair, Task
from solver.data.tokens import decode
from submissions.predictions import Prediction, make_predictions
from submissions.score import candidate_ranks, measure_macro
from submissions.submission_file import PLACEHOLDER, make_submission, validate_submission
from submissions.vote import Ballot, vote
from tests.helpers.golden_set import pipeline_part, read_board

EMPTY_HASH = grid_hash(np.zeros((0, 0), np.uint8))


@cache
def read_vote() -> tuple[dict[str, Any], list[Task], Ballot]:
    """Return the golden vote, its tasks, and our ballot on its predictions."""
    golden = pipeline_part("vote")
    tasks = read_tasks(golden)
    return golden, tasks, vote(read_predictions(golden, tasks), tasks)


def read_tasks(golden):
    def pair(value):
        return Pair(parse_grid(value["input"], "golden"), parse_grid(value["output"], "golden"))

    return [Task(task_id, (), tuple(map(pair, task["test"]))) for task_id, task in golden["test_puzzles"].items()]


def read_predictions(golden, tasks):
    places = {
        (task.id, grid_hash(pair.input)): place
        for task in tasks
        for place, pair in reversed(list(enumerate(task.tests)))
    }
    rows = []
    for prediction in golden["predictions"]:
        name = golden["identifiers"][prediction["puzzle_identifier"]]
        if name == "<blank>":
            continue
        task_id, number = parse_puzzle_key(name)
        augmentation = Augmentation.from_number(number)
        input_grid, answer = (decode(read_board(prediction[name])) for name in ("input_seq", "pred_seq"))
        assert input_grid is not None
        place = places[task_id, grid_hash(augmentation.invert(input_grid))]
        grid = None if answer is None else augmentation.invert(answer)
        rows.append(Prediction(task_id, place, augmentation.name, grid, prediction["q_halt_logit"]))
    return make_predictions({}, rows)


def test_candidates_have_the_published_counts_and_confidences() -> None:
    golden, tasks, ballot = read_vote()
    for task in tasks:
        pools = golden["pools_by_input_hash"].get(task.id, {})
        for pair, candidates in zip(task.tests, ballot[task.id], strict=True):
            expected = {}
            for row in pools.get(grid_hash(pair.input), []):
                expected.setdefault(row["pred_sha256"], []).append(row["sigmoid_q"])
            expected.pop(EMPTY_HASH, None)
            assert {grid_hash(c.grid): c.count for c in candidates} == {h: len(q) for h, q in expected.items()}
            for candidate in candidates:
                assert candidate.confidence == pytest.approx(np.mean(expected[grid_hash(candidate.grid)]), abs=1e-12)


def submissions_of(golden):
    return {int(name.removeprefix("submission_K")): golden[name] for name in golden if name.startswith("submission_K")}


def test_order_of_candidates_is_the_published_one() -> None:
    """The ranking equals the published one, without empty grids and the repeated rank 1 that fills missing ranks."""
    golden, tasks, ballot = read_vote()
    for depth, published in submissions_of(golden).items():
        for task in tasks:
            for entry, candidates in zip(published["submission"][task.id], ballot[task.id], strict=False):
                attempts = [entry[f"attempt_{place}"] for place in range(1, depth + 1)]
                expected = [grid for place, grid in enumerate(attempts) if grid and grid not in attempts[:place]]
                grids = [candidate.grid.tolist() for candidate in candidates]
                assert grids[: len(expected)] == expected
                ran_out = attempts[-1] in attempts[:-1]
                assert len(grids) == len(expected) or not ran_out


def test_attempts_are_the_published_ones_but_never_empty_nor_missing() -> None:
    golden, tasks, ballot = read_vote()
    submission = make_submission(ballot, tasks)
    validate_submission(submission, tasks)
    published = golden["submission_K2"]["submission"]
    for task in tasks:
        entries = published[task.id] or [{}] * len(task.tests)
        for attempts, published_attempts, candidates in zip(submission[task.id], entries, ballot[task.id], strict=True):
            if not candidates:
                assert attempts == {"attempt_1": PLACEHOLDER, "attempt_2": PLACEHOLDER}
            elif [] not in published_attempts.values():
                assert attempts == published_attempts


def empty_rank(golden, task, place):
    """Return the rank of the empty grid in the published vote on a test input, or infinity if it is no candidate."""
    pool = golden["pools_by_input_hash"].get(task.id, {}).get(grid_hash(task.tests[place].input), [])
    scores = {}
    for row in pool:
        scores.setdefault(row["pred_sha256"], []).append(row["sigmoid_q"])
    order = sorted(scores, key=lambda name: (len(scores[name]), sum(scores[name]) / len(scores[name])), reverse=True)
    return order.index(EMPTY_HASH) + 1 if EMPTY_HASH in order else math.inf


def test_pass_at_k_is_the_published_one() -> None:
    """Scores are equal if an empty grid keeps its rank as published, and never lower without it."""
    golden, tasks, ballot = read_vote()
    ranks = [candidate_ranks(ballot, task) for task in tasks]
    with_empty = [
        [rank + (rank >= empty_rank(golden, task, place)) for place, rank in enumerate(task_ranks)]
        for task, task_ranks in zip(tasks, ranks, strict=True)
    ]
    for published in submissions_of(golden).values():
        assert published["result"]
        for name, expected in published["result"].items():
            depth = int(name.partition("pass@")[2])
            assert measure_macro(with_empty, depth) == pytest.approx(expected, abs=1e-12)
            assert measure_macro(ranks, depth) >= measure_macro(with_empty, depth)
