"""Score a submission by three figures, and measure how many correct candidates the vote did not select.

Input: a submission, tasks with solutions and, if there are predictions, the ballot that the submission was made from.
Output: a `Score`. Every test output counts, predicted or not. The three figures, each with a 95% interval:

    macro            mean over tasks of (outputs solved / outputs), as on the leaderboard
    micro            outputs solved / outputs
    all_or_nothing   tasks with every output solved / tasks
"""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import chain
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from augment.errors import UserError
from augment.grid import Grid
from augment.task import Task
from submissions.breakdown import Kind, find_kinds
from submissions.confidence_intervals import Interval, bootstrap_mean, bootstrap_ratio, wilson_interval
from submissions.predictions import Predictions
from submissions.scorable_submission import select_scorable
from submissions.submission_file import ATTEMPTS, Submission, make_submission
from submissions.vote import ArrayCandidates, Ballot, Candidate

MAX_DEPTH = 1000
"""The largest K of the pass@K curve; coverage is the limit of the curve."""
NOT_FOUND = math.inf
NO_GRID = np.zeros((0, 0), np.uint8)

Ranks = list[list[float]]
"""For each task and test output, the rank (from 1) of the correct grid among the grids given, or NOT_FOUND."""


@dataclass(frozen=True)
class Figures:
    """The macro, micro and all-or-nothing figures from 0 to 1, each with its 95% interval (low, high)."""

    macro: float
    macro_interval: Interval
    micro: float
    micro_interval: Interval
    all_or_nothing: float
    all_or_nothing_interval: Interval


@dataclass(frozen=True)
class Score:
    """The score of one submission on one source; `coverage` to `malformed` are None without predictions.

    Attributes:
        source: the source of the tasks.
        tasks: number of tasks.
        outputs: number of test outputs.
        pass_1: figures for the first attempt alone.
        pass_2: figures for both attempts.
        trained_on: scored tasks whose test outputs the model was trained on (contamination); None if unknown.
        kinds: solve rates by kind of test output.
        merged: names of the predictions that were pooled deliberately, if any.
        coverage: figures for outputs whose correct grid is among the candidates at any rank.
        rank: for covered outputs, the median rank of the correct grid and the number of outputs at each rank.
        pass_at: macro for the first K candidates, K = "1" to "1000".
        selection: share of the covered outputs that an attempt solves; None if no output is covered.
        selection_interval: 95% interval of `selection`.
        malformed: share of the predictions that are not a grid.
    """

    source: str
    tasks: int
    outputs: int
    pass_1: Figures
    pass_2: Figures
    trained_on: tuple[str, ...] | None = None
    kinds: tuple[Kind, ...] = ()
    merged: tuple[str, ...] = ()
    coverage: Figures | None = None
    rank: dict[str, Any] | None = None
    pass_at: dict[str, float] | None = None
    selection: float | None = None
    selection_interval: Interval | None = None
    malformed: float | None = None

    @property
    def remark(self) -> str:
        """The warnings that belong with the score: contamination (certain or unknown), and pooled predictions."""
        pooled = f"Pooled from {len(self.merged)} predictions: {', '.join(self.merged)}." if self.merged else ""
        return " ".join(filter(None, (self._training_remark(), pooled)))

    def _training_remark(self) -> str:
        if self.trained_on is None:
            return "The tasks trained on are not known, so this may not be a score on unseen tasks."
        if not self.trained_on:
            return ""
        return (
            f"NO SCORE ON UNSEEN TASKS: {len(self.trained_on)} of {self.tasks} tasks were trained on, test outputs "
            f"included: {', '.join(self.trained_on)}."
        )

    def to_json(self) -> dict[str, Any]:
        """Return the score as a JSON object, with the published names `pass@1` and `pass@2`."""
        score: dict[str, Any] = {"source": self.source, "tasks": self.tasks, "outputs": self.outputs}
        score |= {"pass@1": asdict(self.pass_1), "pass@2": asdict(self.pass_2)}
        score["trained_on"] = None if self.trained_on is None else list(self.trained_on)
        score |= {"merged": list(self.merged), "kinds": [asdict(kind) for kind in self.kinds]}
        if self.coverage is not None:
            score |= {"coverage": asdict(self.coverage), "rank": self.rank, "pass@K": self.pass_at}
            score |= {"selection": self.selection, "selection_interval": self.selection_interval}
            score["malformed"] = self.malformed
        return score


def score_submission(
    submission: Submission,
    tasks: Iterable[Task],
    source: str,
    ballot: Ballot | None = None,
    trained_on: Iterable[str] | None = None,
    *,
    malformed: float | None = None,
    merged: Iterable[str] = (),
) -> Score:
    """Score `submission` on `tasks`; a task or attempt that is missing, None or [] counts as wrong.

    Args:
        submission: the submission to score.
        tasks: the tasks with their solutions.
        source: name of the source, for the score and for messages.
        ballot: the candidates the submission was made from, if known.
        trained_on: IDs of tasks whose test outputs the model was trained on; None if unknown.
        malformed, merged: properties of the predictions, see `Score`.

    Raises:
        ValueError: if a task has no solutions.
        SubmissionError: if this cannot be a submission of these tasks, see `submissions.scorable_submission`.
    """
    tasks = list(tasks)
    ranks = submission_ranks(submission, tasks, source)
    overlap = None if trained_on is None else tuple(sorted({task.id for task in tasks} & set(trained_on)))
    score = Score(
        source, len(tasks), sum(map(len, ranks)), measure(ranks, 1), measure(ranks, len(ATTEMPTS)), overlap,
        kinds=find_kinds(tasks, ranked_outputs(ranks)), merged=tuple(merged),
    )  # fmt: skip
    return score if ballot is None else replace(_add_ballot(score, ranks, tasks, ballot), malformed=malformed)


def score_predictions(
    predictions: Predictions,
    tasks: Iterable[Task],
    source: str,
    ballot: Ballot,
    submission: Submission | None = None,
) -> Score:
    """Score `submission`, or by default the one made from `ballot`, with the metadata of `predictions`."""
    tasks = list(tasks)
    trained_on = predictions.training.contaminated(tasks)
    return score_submission(
        make_submission(ballot, tasks) if submission is None else submission, tasks, source, ballot, trained_on,
        malformed=share_malformed(predictions, tasks), merged=predictions.merged,
    )  # fmt: skip


def share_malformed(predictions: Predictions, tasks: Iterable[Task]) -> float | None:
    """Return the share of the predictions for these tasks, at the last supervision step, that are not a grid."""
    task_ids = {task.id for task in tasks}
    rows = predictions.answers
    places = [place for place, name in enumerate(predictions.tasks) if name in task_ids]
    return replace(predictions, answers=rows.take(np.isin(rows.task, places))).malformed


def _add_ballot(score: Score, attempts: Ranks, tasks: list[Task], ballot: Ballot) -> Score:
    """Add the figures that need the candidates of the ballot."""
    ranks = [candidate_ranks(ballot, task) for task in tasks]
    solved = ranked_outputs(attempts)
    covered = ranked_outputs(ranks)
    counts = [len(candidates) for task in tasks for candidates in ballot.get(task.id, [[]] * len(task.tests))]
    places = sorted(int(rank) for rank in chain.from_iterable(ranks) if rank != NOT_FOUND)
    # The placeholder [[0]] may solve an output without candidates; nothing was selected there, so it does not count.
    selection = (solved & covered).sum() / covered.sum() if covered.any() else None
    return replace(
        score,
        kinds=find_kinds(tasks, solved, covered, counts),
        coverage=measure(ranks),
        rank={"median": median(places) if places else None, "places": dict(Counter(map(str, places)))},
        pass_at={str(depth): value for depth, value in enumerate(measure_curve(ranks, MAX_DEPTH).tolist(), 1)},
        selection=None if selection is None else float(selection),
        selection_interval=None if selection is None else wilson_interval(selection, covered.sum()),
    )


def submission_ranks(submission: Submission, tasks: list[Task], source: str) -> Ranks:
    """Return for each test output 1 or 2 for the first correct attempt, else NOT_FOUND; raises as in scoring."""
    require_solutions(tasks, source)
    selected = select_scorable(submission, tasks, source)
    return [attempt_ranks(selected, task) for task in tasks]


def require_solutions(tasks: Sequence[Task], source: str) -> None:
    """Raise UserError, with the first such task, if the solutions of any task are not known, or one has no tests."""
    without_tests = [task.id for task in tasks if not task.tests]
    if without_tests:
        raise UserError(
            f"{source}: {len(without_tests)} tasks (first: {without_tests[0]}) have no test input to score",
            "add their test inputs, or leave them out of the source",
        )
    unsolved_ids = [task.id for task in tasks if not task.has_solutions]
    if unsolved_ids:
        raise UserError(
            f"{source}: {len(unsolved_ids)} tasks (first: {unsolved_ids[0]}) have no known outputs to score against: "
            "put the solutions file next to the challenges file, or score another source"
        )


def attempt_ranks(submission: Submission, task: Task) -> list[float]:
    """Return for each test output of `task` 1 or 2 for the first correct attempt, else NOT_FOUND."""
    entries = submission.get(task.id, [])
    entries = entries + [{}] * (len(task.tests) - len(entries))
    attempts = [[np.array(entry.get(name) or NO_GRID, np.uint8) for name in ATTEMPTS] for entry in entries]
    return [_find_rank(pair.output, grids) for pair, grids in zip(task.tests, attempts, strict=True)]


def candidate_ranks(ballot: Ballot, task: Task) -> list[float]:
    """Return for each test output of `task` the rank of the correct grid among its candidates, else NOT_FOUND."""
    lists = ballot.get(task.id, [[]] * len(task.tests))
    return [find_candidate(pair.output, candidates) for pair, candidates in zip(task.tests, lists, strict=True)]


def measure(ranks: Ranks, depth: float = math.inf) -> Figures:
    """Return the three figures, where an output is solved if its correct grid is among the first `depth`."""
    solved = np.array([sum(rank <= depth and rank != NOT_FOUND for rank in task) for task in ranks])
    outputs = np.array([len(task) for task in ranks])
    macro = solved / outputs
    micro = solved.sum() / outputs.sum()
    complete = np.mean(solved == outputs)
    # If all tasks have the same share, every bootstrap resample is equal and the interval would have no width.
    if np.ptp(macro) == 0:
        intervals = (wilson_interval(macro[0], len(ranks)),) * 2
    else:
        intervals = (bootstrap_mean(macro), bootstrap_ratio(solved, outputs))
    wilson = wilson_interval(complete, len(ranks))
    return Figures(float(macro.mean()), intervals[0], float(micro), intervals[1], float(complete), wilson)


def measure_curve(ranks: Ranks, deepest: int) -> NDArray[np.float64]:
    """Return the macro figure for the first 1, 2, ... `deepest` candidates, (deepest,): the published pass@K."""
    shares = np.zeros(deepest)
    for task in ranks:
        for rank in task:
            if rank <= deepest:
                shares[int(rank) - 1] += 1 / len(task)
    # Rounded so that equal figures are exactly equal in any order of summation.
    return np.cumsum(shares / len(ranks)).round(12)


def measure_macro(ranks: Ranks, depth: float) -> float:
    """Return the macro figure alone, without its interval."""
    return float(solved_shares(ranks, depth).mean())


def solved_shares(ranks: Ranks, depth: float) -> NDArray[np.float64]:
    """Return for each task the share of its outputs whose correct grid is among the first `depth`, (tasks,)."""
    return np.array([float(np.mean([rank <= depth and rank != NOT_FOUND for rank in task])) for task in ranks])


def ranked_outputs(ranks: Ranks) -> NDArray[np.bool_]:
    """Return whether each test output has a rank, in the order of the tasks, (outputs,)."""
    return np.array([rank != NOT_FOUND for rank in chain.from_iterable(ranks)], bool)


def _find_rank(truth: Grid | None, grids: Iterable[Grid]) -> float:
    assert truth is not None
    cells = truth.tobytes()
    for place, grid in enumerate(grids, 1):
        # The shape is compared first because most wrong grids differ in it; comparing bytes avoids numpy's overhead.
        if grid.shape == truth.shape and grid.tobytes() == cells:
            return place
    return NOT_FOUND


def find_candidate(truth: Grid | None, candidates: Sequence[Candidate]) -> float:
    """Return the rank (from 1) of a grid among the candidates of a test input, or NOT_FOUND."""
    if not isinstance(candidates, ArrayCandidates):
        return _find_rank(truth, (candidate.grid for candidate in candidates))
    assert truth is not None
    place = candidates.find(truth)  # hundreds of times faster than comparing candidate by candidate
    return NOT_FOUND if place is None else place + 1
