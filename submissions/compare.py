"""Compare two submissions on the same tasks, or several rankers on the same predictions, with a paired test.

Two submissions and tasks with solutions give a `Comparison`: the test outputs that only one of them solves, the
difference in macro pass@2 and a paired significance test. Predictions and the names of rankers give a `Score` and a
`Comparison` per ranker.
"""

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from itertools import compress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from augment.errors import UserError
from augment.task import Task
from submissions.confidence_intervals import Interval, bootstrap_mean, wilson_interval
from submissions.predictions import Predictions
from submissions.rankers import RANKERS, find_ranker
from submissions.score import Score, measure_macro, score_predictions, solved_shares, submission_ranks
from submissions.submission_file import ATTEMPTS, Submission, make_submission
from submissions.vote import vote

SIGNIFICANCE_LEVEL = 0.05
"""The significance level: a smaller p-value counts as a significant difference."""
SMALLEST = 0.001
"""The smallest p-value that is printed; smaller ones appear as "< 0.001"."""
BASELINE = "count"
"""The published ranker, with which every other one is compared."""


@dataclass(frozen=True)
class Comparison:
    """Comparison of one submission with another by pass@2, on the same tasks.

    Attributes:
        gained, lost, both, neither: number of test outputs that only the first, only the second, both or neither of the
            submissions solve.
        macro: difference of the macro figures.
        macro_interval: its 95% interval, by paired bootstrap over tasks.
        p_value: of the two-sided exact McNemar test, a sign test on the outputs that only one solves (McNemar 1947).
        gained_tasks, lost_tasks: IDs of the tasks that the gained and lost outputs belong to.
    """

    gained: int
    lost: int
    both: int
    neither: int
    macro: float
    macro_interval: Interval
    p_value: float
    gained_tasks: tuple[str, ...]
    lost_tasks: tuple[str, ...]

    @property
    def p_text(self) -> str:
        """The p-value with its sign, "= 0.123" or "< 0.001"."""
        return f"= {self.p_value:.3f}" if self.p_value >= SMALLEST else f"< {SMALLEST}"

    @property
    def meaning(self) -> str:
        """The p-value explained in a sentence."""
        if not self.gained + self.lost:
            return "p = 1: no test output is solved by only one of the two."
        share = f"{self.p_value:.1%}" if self.p_value >= SMALLEST else f"less than {SMALLEST:.1%}"
        verdict = "is significant" if self.p_value < SIGNIFICANCE_LEVEL else "is not significant"
        return (
            f"p {self.p_text}: if both were equally good, a split at least as uneven as {self.gained} to {self.lost} "
            f"would occur in {share} of such comparisons. The difference {verdict} at the {SIGNIFICANCE_LEVEL:.0%} "
            "level (exact McNemar test, two-sided)."
        )

    def to_json(self) -> dict[str, Any]:
        """Return the comparison as a JSON object."""
        return asdict(self)


@dataclass(frozen=True)
class RankerComparison:
    """The score of one ranker, and its comparison with BASELINE on the same predictions."""

    ranker: str
    score: Score
    against: Comparison


def compare(submission: Submission, other: Submission, tasks: Iterable[Task], source: str) -> Comparison:
    """Compare `submission` with `other` on `tasks`; a missing task or attempt counts as wrong.

    Raises:
        ValueError: if a task has no solutions.
        SubmissionError: if either submission cannot be scored, see `score_submission`.
    """
    tasks = list(tasks)
    depth = len(ATTEMPTS)
    ranks = submission_ranks(submission, tasks, source)
    other_ranks = submission_ranks(other, tasks, source)
    solved = np.concatenate(ranks) <= depth
    other_solved = np.concatenate(other_ranks) <= depth
    gained = solved & ~other_solved
    lost = other_solved & ~solved
    return Comparison(
        int(gained.sum()),
        int(lost.sum()),
        int((solved & other_solved).sum()),
        int((~solved & ~other_solved).sum()),
        measure_macro(ranks, depth) - measure_macro(other_ranks, depth),
        difference_interval(solved_shares(ranks, depth) - solved_shares(other_ranks, depth)),
        sign_test(int(gained.sum()), int(lost.sum())),
        _tasks_of(gained, tasks),
        _tasks_of(lost, tasks),
    )


def compare_rankers(
    predictions: Predictions, tasks: Iterable[Task], source: str, names: Iterable[str]
) -> tuple[list[RankerComparison], dict[str, str]]:
    """Score every named ranker on the same predictions and compare it with BASELINE.

    Returns:
        The rankers with their scores, best macro pass@2 first.
        The rankers that need data which the predictions lack, each with the error message.

    Raises:
        ValueError: if a ranker is unknown, or if none of them can rank these predictions.
    """
    tasks = list(tasks)
    comparisons = []
    errors = {}
    baseline = make_submission(vote(predictions, tasks, BASELINE), tasks)
    for name in dict.fromkeys(find_ranker(name).name for name in names):
        try:
            ballot = vote(predictions, tasks, name)
        except ValueError as error:
            errors[name] = str(error)
            continue
        score = score_predictions(predictions, tasks, source, ballot)
        against = compare(make_submission(ballot, tasks), baseline, tasks, source)
        comparisons.append(RankerComparison(name, score, against))
    if not comparisons:
        raise UserError("; ".join(errors.values()) or f"no ranker is named: choose one or more of {', '.join(RANKERS)}")
    return sorted(comparisons, key=lambda comparison: -comparison.score.pass_2.macro), errors


def sign_test(gained: int, lost: int) -> float:
    """Return the two-sided p-value of the exact sign test.

    This is the probability that `gained + lost` fair coin tosses split at least as unevenly as `gained` to `lost`.
    """
    tosses = gained + lost
    tail = sum(math.comb(tosses, heads) for heads in range(min(gained, lost) + 1))
    return min(1.0, 2 * tail / 2**tosses)


def difference_interval(differences: NDArray[np.float64]) -> Interval:
    """Return the 95% interval of the mean of differences (tasks,), each from -1 to 1.

    If all differences are equal, the bootstrap interval would have no width, so the Wilson interval is used, as for the
    figures themselves.
    """
    if np.ptp(differences) > 0:
        return bootstrap_mean(differences)
    low, high = wilson_interval(abs(differences[0]), len(differences))
    if differences[0] == 0:
        return -high, high
    return (low, high) if differences[0] > 0 else (-high, -low)


def _tasks_of(outputs: NDArray[np.bool_], tasks: list[Task]) -> tuple[str, ...]:
    """Return the IDs of the tasks that the marked outputs (outputs,) belong to."""
    owners = [task.id for task in tasks for _ in task.tests]
    return tuple(dict.fromkeys(compress(owners, outputs)))
