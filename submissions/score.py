"""How good a submission is, told three ways, and how much of that the vote left behind.

In: a submission (and, when there are predictions, the ballot it was made from) and tasks with solutions.
Out: a Score. Every test output counts, predicted or not. The three figures, each with a 95% interval:

    macro            mean over tasks of (outputs solved / outputs): the leaderboard's
    micro            outputs solved / outputs
    all_or_nothing   tasks with every output solved / tasks
"""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from statistics import median
from typing import Any

import numpy as np

from augment.grid import Grid
from augment.task import Task
from submissions.format import ATTEMPTS, Submission, SubmissionError, check_grids
from submissions.vote import Ballot

RESAMPLES = 10_000
SEED = 0
NORMAL_95 = 1.959963984540054
DEPTHS = (1, 2, 3, 5, 10, 20, 50, 100)
NOT_FOUND = math.inf

Interval = tuple[float, float]
Ranks = list[list[float]]
"""Per task and test output: the place (from 1) of the right grid among those offered, or NOT_FOUND."""


@dataclass(frozen=True)
class Figures:
    """Macro, micro and all-or-nothing, fractions between 0 and 1, each with its 95% interval (low, high)."""

    macro: float
    macro_interval: Interval
    micro: float
    micro_interval: Interval
    all_or_nothing: float
    all_or_nothing_interval: Interval


@dataclass(frozen=True)
class Score:
    """The score of one submission on one source; the last three are None without predictions.

    `trained_on`: tasks scored here whose test outputs were trained on, so that this is no score on unseen tasks; None
    where that is not known. `coverage`: the right grid is among the candidates at all. `rank`: over the outputs
    covered, the median place of the right grid, and how many have it at each place. `pass_at`: macro for the first
    K candidates.
    """

    source: str
    tasks: int
    outputs: int
    pass_1: Figures
    pass_2: Figures
    trained_on: tuple[str, ...] | None = None
    coverage: Figures | None = None
    rank: dict[str, Any] | None = None
    pass_at: dict[str, float] | None = None

    @property
    def remark(self) -> str:
        """What a reader must know about it: that some of its tasks were trained on, or that nobody knows."""
        if self.trained_on is None:
            return "What was trained on is not known, so this may be no score on unseen tasks."
        if not self.trained_on:
            return ""
        return (
            f"NO SCORE ON UNSEEN TASKS: {len(self.trained_on)} of {self.tasks} tasks were trained on, test outputs "
            f"included: {', '.join(self.trained_on)}"
        )

    def to_json(self) -> dict[str, Any]:
        """One JSON object with the published names, `pass@1` and `pass@2`."""
        score = {"source": self.source, "tasks": self.tasks, "outputs": self.outputs}
        score |= {"pass@1": asdict(self.pass_1), "pass@2": asdict(self.pass_2)}
        score["trained_on"] = None if self.trained_on is None else list(self.trained_on)
        if self.coverage is not None:
            score |= {"coverage": asdict(self.coverage), "rank": self.rank, "pass@K": self.pass_at}
        return score


def score_submission(
    submission: Submission,
    tasks: Iterable[Task],
    source: str,
    ballot: Ballot | None = None,
    trained_on: Iterable[str] | None = None,
) -> Score:
    """Score `submission` on `tasks`; what is missing from it counts as wrong, what is malformed is refused.

    `trained_on`: IDs of tasks whose test outputs the model was trained on, or None where that is not known.

    ValueError for tasks without solutions; SubmissionError for malformed grids, for more entries than a task
    has test inputs, and for a submission with none of the tasks.
    """
    tasks = list(tasks)
    require_solutions(tasks, source)
    check_grids(submission)
    if submission and not submission.keys() & {task.id for task in tasks}:
        raise SubmissionError(f"the submission has no task of {source}: score with the source it answers")
    ranks = [attempt_ranks(submission, task) for task in tasks]
    outputs = sum(len(task.tests) for task in tasks)
    marked = None if trained_on is None else tuple(sorted({task.id for task in tasks} & set(trained_on)))
    score = Score(source, len(tasks), outputs, measure(ranks, 1), measure(ranks, len(ATTEMPTS)), marked)
    if ballot is None:
        return score
    ranks = [candidate_ranks(ballot, task) for task in tasks]
    found = sorted(int(rank) for task_ranks in ranks for rank in task_ranks if rank != NOT_FOUND)
    return replace(
        score,
        coverage=measure(ranks),
        rank={"median": median(found) if found else None, "places": dict(Counter(map(str, found)))},
        pass_at={str(depth): measure_macro(ranks, depth) for depth in DEPTHS},
    )


def require_solutions(tasks: Iterable[Task], source: str) -> None:
    """ValueError, naming the first such task, if the solutions of any task are not known."""
    hidden = [task.id for task in tasks if not task.has_solutions]
    if hidden:
        raise ValueError(
            f"{source}: {len(hidden)} tasks (first: {hidden[0]}) have no known outputs to score against: "
            "put the solutions file beside the challenges, or score another source"
        )


def attempt_ranks(submission: Submission, task: Task) -> list[float]:
    """Per test output of `task`: 1 or 2 for the first right attempt, else NOT_FOUND."""
    entries = submission.get(task.id, [])
    if len(entries) > len(task.tests):
        raise SubmissionError(
            f"task {task.id} has {len(entries)} entries for {len(task.tests)} test inputs: "
            "score with the source that was predicted"
        )
    entries = entries + [{}] * (len(task.tests) - len(entries))
    offered = [[entry.get(name) for name in ATTEMPTS] for entry in entries]
    return [_find_rank(pair.output, grids) for pair, grids in zip(task.tests, offered, strict=True)]


def candidate_ranks(ballot: Ballot, task: Task) -> list[float]:
    """Per test output of `task`: the place of the right grid among its candidates, else NOT_FOUND."""
    lists = ballot.get(task.id, [[] for _ in task.tests])
    offered = [[candidate.grid for candidate in candidates] for candidates in lists]
    return [_find_rank(pair.output, grids) for pair, grids in zip(task.tests, offered, strict=True)]


def measure(ranks: Ranks, depth: float = math.inf) -> Figures:
    """The three figures when an output counts as solved whose right grid is among the first `depth`."""
    solved = np.array([sum(rank <= depth and rank != NOT_FOUND for rank in task) for task in ranks])
    outputs = np.array([len(task) for task in ranks])
    macro, micro, whole = solved / outputs, solved.sum() / outputs.sum(), np.mean(solved == outputs)
    if np.ptp(macro) == 0:
        low_high = wilson_interval(macro[0], len(ranks))
        intervals = (low_high, low_high)
    else:
        drawn = np.random.Generator(np.random.Philox(SEED)).integers(len(ranks), size=(RESAMPLES, len(ranks)))
        intervals = (_middle(macro[drawn].mean(1)), _middle(solved[drawn].sum(1) / outputs[drawn].sum(1)))
    wilson = wilson_interval(whole, len(ranks))
    return Figures(float(macro.mean()), intervals[0], float(micro), intervals[1], float(whole), wilson)


def measure_macro(ranks: Ranks, depth: float) -> float:
    """The macro figure alone, without its interval: the published pass@K."""
    return float(np.mean([np.mean([rank <= depth for rank in task]) for task in ranks]))


def wilson_interval(fraction: float, number: int) -> Interval:
    """The 95% Wilson score interval of a fraction seen in `number` trials (Wilson 1927), within 0 and 1."""
    square = NORMAL_95**2 / number
    centre = (fraction + square / 2) / (1 + square)
    reach = math.sqrt(square * (fraction * (1 - fraction) + square / 4)) / (1 + square)
    # Rounded so that 0 and 1 come out as such.
    return abs(round(float(centre - reach), 12)), round(float(centre + reach), 12)


def _middle(values: np.ndarray) -> Interval:
    """The middle 95% of bootstrapped values."""
    low, high = np.quantile(values, (0.025, 0.975))
    return float(low), float(high)


def _find_rank(truth: Grid | None, offered: Sequence[Grid | list[list[int]] | None]) -> float:
    assert truth is not None
    same = [grid is not None and np.array_equal(grid, truth) for grid in offered]
    return same.index(True) + 1 if True in same else NOT_FOUND
