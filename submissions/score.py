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
from itertools import chain
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from augment.grid import Grid
from augment.task import Task
from submissions.breakdown import Kind, find_kinds
from submissions.confidence_intervals import Interval, bootstrap_mean, bootstrap_ratio, wilson_interval
from submissions.predictions import Predictions
from submissions.submission_file import ATTEMPTS, Submission, SubmissionError, check_grids, make_submission
from submissions.vote import ArrayCandidates, Ballot, Candidate

DEEPEST = 1000
"""The curve of pass@K ends here; coverage is its limit."""
NOT_FOUND = math.inf
NO_GRID = np.zeros((0, 0), np.uint8)

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
    """The score of one submission on one source; those from `coverage` to `malformed` are None without predictions.

    trained_on: tasks scored here whose test outputs were trained on, so that this is no score on unseen tasks; None
        where that is not known
    kinds: solve rates by kind of test output
    merged: names of the predictions that were pooled on purpose, if any were
    coverage: the right grid is among the candidates at all
    rank: over the outputs covered, the median place of the right grid, and how many have it at each place
    pass_at: macro for the first K candidates, K = "1" to "1000"
    selection: of the outputs covered, the share that an attempt solves, with its interval; None where none is covered
    malformed: share of the answers that are no grid
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
        """What a reader must know: that tasks were trained on, or nobody knows; and that predictions were pooled."""
        pooled = f"Pooled from {len(self.merged)} predictions: {', '.join(self.merged)}." if self.merged else ""
        return " ".join(filter(None, (self._training_remark(), pooled)))

    def _training_remark(self) -> str:
        if self.trained_on is None:
            return "What was trained on is not known, so this may be no score on unseen tasks."
        if not self.trained_on:
            return ""
        return (
            f"NO SCORE ON UNSEEN TASKS: {len(self.trained_on)} of {self.tasks} tasks were trained on, test outputs "
            f"included: {', '.join(self.trained_on)}."
        )

    def to_json(self) -> dict[str, Any]:
        """One JSON object with the published names, `pass@1` and `pass@2`."""
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
    """Score `submission` on `tasks`; what is missing from it counts as wrong, what is malformed is refused.

    trained_on: IDs of tasks whose test outputs the model was trained on, or None where that is not known
    malformed, merged: what the predictions say of themselves, see Score

    ValueError for tasks without solutions; SubmissionError for malformed grids, for more entries than a task
    has test inputs, and for a submission with none of the tasks.
    """
    tasks = list(tasks)
    ranks = submission_ranks(submission, tasks, source)
    marked = None if trained_on is None else tuple(sorted({task.id for task in tasks} & set(trained_on)))
    score = Score(
        source, len(tasks), sum(map(len, ranks)), measure(ranks, 1), measure(ranks, len(ATTEMPTS)), marked,
        kinds=find_kinds(tasks, found_outputs(ranks)), merged=tuple(merged),
    )  # fmt: skip
    return score if ballot is None else replace(_add_ballot(score, ranks, tasks, ballot), malformed=malformed)


def score_predictions(
    predictions: Predictions,
    tasks: Iterable[Task],
    source: str,
    ballot: Ballot,
    submission: Submission | None = None,
) -> Score:
    """Score the vote of predictions, or the submission that was made of it, with what they say of themselves."""
    tasks = list(tasks)
    return score_submission(
        make_submission(ballot, tasks) if submission is None else submission, tasks, source, ballot,
        predictions.trained_on, malformed=share_malformed(predictions, tasks), merged=predictions.merged,
    )  # fmt: skip


def share_malformed(predictions: Predictions, tasks: Iterable[Task]) -> float | None:
    """Share of the answers to these tasks, after the last supervision step, that are no grid."""
    wanted = {task.id for task in tasks}
    answers = predictions.answers
    places = [place for place, name in enumerate(predictions.tasks) if name in wanted]
    return replace(predictions, answers=answers.take(np.isin(answers.task, places))).malformed


def _add_ballot(score: Score, attempted: Ranks, tasks: list[Task], ballot: Ballot) -> Score:
    """The score with what the candidates add to it."""
    ranks = [candidate_ranks(ballot, task) for task in tasks]
    solved = found_outputs(attempted)
    covered = found_outputs(ranks)
    counts = [len(candidates) for task in tasks for candidates in ballot.get(task.id, [[]] * len(task.tests))]
    places = sorted(int(rank) for rank in chain.from_iterable(ranks) if rank != NOT_FOUND)
    selection = (solved & covered).sum() / covered.sum() if covered.any() else None
    return replace(
        score,
        kinds=find_kinds(tasks, solved, covered, counts),
        coverage=measure(ranks),
        rank={"median": median(places) if places else None, "places": dict(Counter(map(str, places)))},
        pass_at={str(depth): value for depth, value in enumerate(measure_curve(ranks, DEEPEST).tolist(), 1)},
        selection=None if selection is None else float(selection),
        selection_interval=None if selection is None else wilson_interval(selection, covered.sum()),
    )


def submission_ranks(submission: Submission, tasks: list[Task], source: str) -> Ranks:
    """1 or 2 for the first right attempt at each test output, else NOT_FOUND; refuses as `score_submission` does."""
    require_solutions(tasks, source)
    check_grids(submission)
    if submission and not submission.keys() & {task.id for task in tasks}:
        raise SubmissionError(f"the submission has no task of {source}: score with the source it answers")
    return [attempt_ranks(submission, task) for task in tasks]


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
    offered = [[np.array(entry.get(name, NO_GRID), np.uint8) for name in ATTEMPTS] for entry in entries]
    return [_find_rank(pair.output, grids) for pair, grids in zip(task.tests, offered, strict=True)]


def candidate_ranks(ballot: Ballot, task: Task) -> list[float]:
    """Per test output of `task`: the place of the right grid among its candidates, else NOT_FOUND."""
    lists = ballot.get(task.id, [[]] * len(task.tests))
    return [find_candidate(pair.output, candidates) for pair, candidates in zip(task.tests, lists, strict=True)]


def measure(ranks: Ranks, depth: float = math.inf) -> Figures:
    """The three figures when an output counts as solved whose right grid is among the first `depth`."""
    solved = np.array([sum(rank <= depth and rank != NOT_FOUND for rank in task) for task in ranks])
    outputs = np.array([len(task) for task in ranks])
    macro = solved / outputs
    micro = solved.sum() / outputs.sum()
    whole = np.mean(solved == outputs)
    if np.ptp(macro) == 0:
        intervals = (wilson_interval(macro[0], len(ranks)),) * 2
    else:
        intervals = (bootstrap_mean(macro), bootstrap_ratio(solved, outputs))
    wilson = wilson_interval(whole, len(ranks))
    return Figures(float(macro.mean()), intervals[0], float(micro), intervals[1], float(whole), wilson)


def measure_curve(ranks: Ranks, deepest: int) -> NDArray[np.float64]:
    """The macro figure for the first 1, 2, ... `deepest` candidates, (deepest,): the published pass@K."""
    shares = np.zeros(deepest)
    for task in ranks:
        for rank in task:
            if rank <= deepest:
                shares[int(rank) - 1] += 1 / len(task)
    # Rounded so that equal figures come out equal, whatever the order of the sum.
    return np.cumsum(shares / len(ranks)).round(12)


def measure_macro(ranks: Ranks, depth: float) -> float:
    """The macro figure alone, without its interval."""
    return float(solved_shares(ranks, depth).mean())


def solved_shares(ranks: Ranks, depth: float) -> NDArray[np.float64]:
    """Per task the share of its outputs whose right grid is among the first `depth`, (tasks,)."""
    return np.array([float(np.mean([rank <= depth and rank != NOT_FOUND for rank in task])) for task in ranks])


def found_outputs(ranks: Ranks) -> NDArray[np.bool_]:
    """Whether the right grid was offered, for each test output in the order of the tasks, (outputs,)."""
    return np.array([rank != NOT_FOUND for rank in chain.from_iterable(ranks)], bool)


def _find_rank(truth: Grid | None, offered: Iterable[Grid]) -> float:
    assert truth is not None
    cells = truth.tobytes()
    for place, grid in enumerate(offered, 1):
        # The shape first: most wrong grids have another one, or are told apart by their bytes without numpy's detours.
        if grid.shape == truth.shape and grid.tobytes() == cells:
            return place
    return NOT_FOUND


def find_candidate(truth: Grid | None, candidates: Sequence[Candidate]) -> float:
    """The rank of a grid among the candidates of a test input, from 1, or NOT_FOUND."""
    if not isinstance(candidates, ArrayCandidates):
        return _find_rank(truth, (candidate.grid for candidate in candidates))
    assert truth is not None
    place = candidates.find(truth)  # hundreds of times faster than one by one
    return NOT_FOUND if place is None else place + 1
