"""From many predictions of a test input to its candidates, best first.

In: predictions in the order first seen, and the tasks they answer. Out: a ballot, for every task one ranked
list of candidates per test input. Predictions are pooled by the test input itself, as published: two equal
test inputs of a task share theirs.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from augment.grid import Grid, grid_hash
from augment.task import Task
from submissions.prediction import Prediction, Predictions


@dataclass(frozen=True, eq=False)
class Candidate:
    """A grid, how many predictions gave it, and the mean halting probability (0 to 1) of those."""

    grid: Grid
    count: int
    confidence: float


Ballot = dict[str, list[list[Candidate]]]
Ranker = Callable[[Candidate], tuple[float, ...]]


def by_count(candidate: Candidate) -> tuple[float, ...]:
    """The published order: most predictions first, then the higher mean halting probability."""
    return candidate.count, candidate.confidence


RANKERS: dict[str, Ranker] = {"count": by_count}


def rank_candidates(predictions: Iterable[Prediction], ranker: str = "count") -> list[Candidate]:
    """The different grids among the predictions of one test input, best first, ties in the order first seen.

    An empty or malformed crop is never a candidate. ValueError for an unknown ranker.
    """
    logits: dict[bytes, list[float]] = {}
    grids: dict[bytes, Grid] = {}
    for prediction in predictions:
        if prediction.grid is not None and prediction.grid.size:
            key = bytes(prediction.grid.shape) + prediction.grid.tobytes()
            grids.setdefault(key, prediction.grid)
            logits.setdefault(key, []).append(prediction.halt_logit)
    candidates = [Candidate(grids[key], len(seen), mean_confidence(seen)) for key, seen in logits.items()]
    # Python's sort is stable in reverse too: equal keys keep the order first seen.
    return sorted(candidates, key=_find_ranker(ranker), reverse=True)


def vote(predictions: Predictions, tasks: Iterable[Task], ranker: str = "count") -> Ballot:
    """Rank the candidates of every test input of `tasks`; one without predictions gets an empty list.

    Predictions of other tasks are left out. ValueError if that leaves none of them, if a prediction answers a
    test input that its task does not have, or for an unknown ranker.
    """
    by_id = {task.id: task for task in tasks}
    pools = _pool_by_input(predictions.rows, by_id)
    return {
        task.id: [rank_candidates(pools[task.id, grid_hash(pair.input)], ranker) for pair in task.tests]
        for task in by_id.values()
    }


def mean_confidence(halt_logits: list[float]) -> float:
    """Mean of sigmoid(halting logit)."""
    # One by one, as published: rounding can decide a tie, and `sum` rounds otherwise from Python 3.12 on.
    total = 0.0
    for logit in halt_logits:
        total += _sigmoid(logit)
    return total / len(halt_logits)


def _sigmoid(logit: float) -> float:
    # A logit that is not a number compares false and so counts as no confidence at all.
    return 1 / (1 + math.exp(-logit)) if logit > -700 else 0.0


def _pool_by_input(rows: list[Prediction], tasks: dict[str, Task]) -> dict[tuple[str, str], list[Prediction]]:
    keys = {
        (task.id, test): (task.id, grid_hash(pair.input))
        for task in tasks.values()
        for test, pair in enumerate(task.tests)
    }
    pools: dict[tuple[str, str], list[Prediction]] = {key: [] for key in keys.values()}
    for row in rows:
        if row.task not in tasks:
            continue
        if (row.task, row.test) not in keys:
            raise ValueError(
                f"task {row.task}: a prediction answers test pair {row.test}, but the task has "
                f"{len(tasks[row.task].tests)} test pairs: vote with the source that was predicted"
            )
        pools[keys[row.task, row.test]].append(row)
    if rows and not any(pools.values()):
        raise ValueError(
            f"none of the {len(rows)} predictions (first task: {rows[0].task}) belongs to the tasks given: "
            "vote with the source that was predicted"
        )
    return pools


def _find_ranker(name: str) -> Ranker:
    if name not in RANKERS:
        raise ValueError(f"unknown ranker '{name}': choose one of {', '.join(sorted(RANKERS))}")
    return RANKERS[name]
