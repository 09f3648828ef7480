"""Which of two answers to the same tasks is better, and how sure that is; and every ranker on the same predictions.

In: two submissions (or predictions and the names of rankers) and tasks with solutions. Out: a Comparison: what one
solves and the other does not, the difference in macro pass@2 and a paired test; or one such and a Score per ranker.
"""

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from itertools import compress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from augment.task import Task
from submissions.confidence_intervals import Interval, bootstrap_mean, wilson_interval
from submissions.predictions import Predictions
from submissions.rankers import RANKERS, find_ranker
from submissions.score import Score, measure_macro, score_predictions, solved_shares, submission_ranks
from submissions.submission_file import ATTEMPTS, Submission, make_submission
from submissions.vote import vote

RARE = 0.05
SMALLEST = 0.001
BASELINE = "count"
"""Every ranker is compared with the published one."""


@dataclass(frozen=True)
class Comparison:
    """One submission against another, on the same tasks, by pass@2.

    gained, lost, both, neither: test outputs that only the one, only the other, both or neither solved
    macro: difference of the macro figures, with its 95% interval: paired bootstrap over tasks
    p_value: two-sided exact McNemar test, a sign test on the outputs that tell the two apart (McNemar 1947)
    gained_tasks, lost_tasks: IDs of the tasks that these outputs belong to
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
        """The p-value as far as it matters."""
        return f"= {self.p_value:.3f}" if self.p_value >= SMALLEST else f"< {SMALLEST}"

    @property
    def meaning(self) -> str:
        """The p-value in plain words."""
        if not self.gained + self.lost:
            return "p = 1: no test output tells the two apart."
        share = f"{self.p_value:.1%}" if self.p_value >= SMALLEST else f"less than {SMALLEST:.1%}"
        verdict = "seldom enough to believe in a difference" if self.p_value < RARE else "too often to tell them apart"
        return (
            f"p {self.p_text}: were both equally good, outputs would fall {self.gained} to {self.lost} or more "
            f"unevenly in {share} of such comparisons, {verdict} (exact McNemar test, two-sided)."
        )

    def to_json(self) -> dict[str, Any]:
        """One JSON object."""
        return asdict(self)


@dataclass(frozen=True)
class RankerComparison:
    """What one ranker scores, and how that compares with BASELINE on the same predictions."""

    ranker: str
    score: Score
    against: Comparison


def compare(submission: Submission, other: Submission, tasks: Iterable[Task], source: str) -> Comparison:
    """Compare `submission` with `other` on `tasks`; what is missing counts as wrong; errors as in scoring."""
    tasks = list(tasks)
    depth = len(ATTEMPTS)
    ranks, their_ranks = (submission_ranks(each, tasks, source) for each in (submission, other))
    ours, theirs = (np.concatenate(each) <= depth for each in (ranks, their_ranks))
    gained = ours & ~theirs
    lost = theirs & ~ours
    return Comparison(
        int(gained.sum()),
        int(lost.sum()),
        int((ours & theirs).sum()),
        int((~ours & ~theirs).sum()),
        measure_macro(ranks, depth) - measure_macro(their_ranks, depth),
        difference_interval(solved_shares(ranks, depth) - solved_shares(their_ranks, depth)),
        sign_test(int(gained.sum()), int(lost.sum())),
        _tasks_of(gained, tasks),
        _tasks_of(lost, tasks),
    )


def compare_rankers(
    predictions: Predictions, tasks: Iterable[Task], source: str, names: Iterable[str]
) -> tuple[list[RankerComparison], dict[str, str]]:
    """Every ranker named, best macro pass@2 first; and those that the predictions lack something for, with the reason.

    Raises:
        ValueError: where a ranker is not known, or none of them can rank these predictions.
    """
    tasks = list(tasks)
    ranked = []
    left_out = {}
    baseline = make_submission(vote(predictions, tasks, BASELINE), tasks)
    for name in dict.fromkeys(find_ranker(name).name for name in names):
        try:
            ballot = vote(predictions, tasks, name)
        except ValueError as error:
            left_out[name] = str(error)
            continue
        score = score_predictions(predictions, tasks, source, ballot)
        ranked.append(RankerComparison(name, score, compare(make_submission(ballot, tasks), baseline, tasks, source)))
    if not ranked:
        raise ValueError("; ".join(left_out.values()) or f"no ranker is named: choose of {', '.join(RANKERS)}")
    return sorted(ranked, key=lambda each: -each.score.pass_2.macro), left_out


def sign_test(gained: int, lost: int) -> float:
    """Two-sided p-value: how likely fair coins fall at least so unevenly as `gained` heads to `lost` tails."""
    tosses = gained + lost
    tail = sum(math.comb(tosses, heads) for heads in range(min(gained, lost) + 1))
    return min(1.0, 2 * tail / 2**tosses)


def difference_interval(differences: NDArray[np.float64]) -> Interval:
    """The 95% interval of the mean of differences (tasks,), each from -1 to 1.

    Where all are alike a bootstrap would be sure of it, so it is Wilson's then, as for the figures themselves.
    """
    if np.ptp(differences) > 0:
        return bootstrap_mean(differences)
    low, high = wilson_interval(abs(differences[0]), len(differences))
    if differences[0] == 0:
        return -high, high
    return (low, high) if differences[0] > 0 else (-high, -low)


def _tasks_of(outputs: NDArray[np.bool_], tasks: list[Task]) -> tuple[str, ...]:
    """The IDs of the tasks that these outputs belong to."""
    owners = [task.id for task in tasks for _ in task.tests]
    return tuple(dict.fromkeys(compress(owners, outputs)))
