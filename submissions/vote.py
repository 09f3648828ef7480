"""From many predictions of a test input to its candidates, best first.

In: predictions, and the tasks they answer. Out: a ballot, for every task one ranked list of candidates per test
input. Predictions are pooled by the test input itself, as published: two equal test inputs of a task share theirs.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from augment.grid import Grid, grid_hash
from augment.task import Task
from submissions.grid_table import Grids, grid_id, number_by_first
from submissions.predictions import NO_GRID, PredictionRows, Predictions, ScoreRows, current_predictions
from submissions.rankers import Ranker, Votes, find_ranker


@dataclass(frozen=True, eq=False)
class Candidate:
    """A grid, how many answers gave it, and the mean halting probability (0 to 1) of those.

    augmentations: under how many different augmentations; log_prob: mean of the answers' mean log-probabilities
    """

    grid: Grid
    count: int
    confidence: float
    augmentations: int = 1
    log_prob: float = float("nan")


Candidates = Sequence[Sequence[Candidate]]
"""Per test input of a task, best first."""

Ballot = Mapping[str, Candidates]
"""Every task's candidates."""


class ArrayCandidates(Sequence[Candidate]):
    """The rows `start` to `end` of columns, each a candidate that is made when it is looked at."""

    def __init__(self, grids: Grids, columns: list[NDArray[Any]], start: int, end: int):
        self._grids = grids
        self._columns = columns
        self._rows = range(start, end)

    def __len__(self) -> int:
        """How many."""
        return len(self._rows)

    @overload
    def __getitem__(self, place: int) -> Candidate: ...
    @overload
    def __getitem__(self, place: slice) -> list[Candidate]: ...
    def __getitem__(self, place: int | slice) -> Candidate | list[Candidate]:
        """One by its place, or several."""
        if isinstance(place, slice):
            return [self._make(row) for row in self._rows[place]]
        return self._make(self._rows[place])

    def find(self, grid: Grid) -> int | None:
        """The place of this grid, from 0, or None; no candidate is made for it."""
        numbers_C = self._columns[0][self._rows.start : self._rows.stop]
        for place in np.flatnonzero(self._grids.ids[numbers_C] == grid_id(grid)).tolist():
            if np.array_equal(self._grids[numbers_C[place]], grid):
                return place
        return None

    def _make(self, row: int) -> Candidate:
        grid, *votes = (column[row].item() for column in self._columns)
        return Candidate(self._grids[grid], *votes)


class ArrayBallot(Mapping[str, Candidates]):
    """A ballot whose candidates are made from arrays when they are looked at.

    numbers_C: the number of each candidate's grid; order_C: all candidates, by test input, best first; inputs: per
    task the number of each of its test inputs
    """

    def __init__(
        self,
        votes: Votes,
        grids: Grids,
        numbers_C: NDArray[np.int32],
        order_C: NDArray[np.int64],
        inputs: dict[str, list[int]],
    ):
        self._grids = grids
        self._inputs = inputs
        self._sorted_inputs = votes.input_C[order_C]
        columns = (
            numbers_C,
            votes.count.astype(np.int64),
            votes.confidence,
            _count_augmentations(votes),
            votes.log_prob,
        )
        self._columns = [column[order_C] for column in columns]

    def __getitem__(self, task: str) -> Candidates:
        """The candidates of each test input."""
        borders = [np.searchsorted(self._sorted_inputs, (number, number + 1)) for number in self._inputs[task]]
        return [ArrayCandidates(self._grids, self._columns, *border.tolist()) for border in borders]

    def __iter__(self) -> Iterator[str]:
        """The tasks' IDs."""
        return iter(self._inputs)

    def __len__(self) -> int:
        """Number of tasks."""
        return len(self._inputs)


def vote(predictions: Predictions, tasks: Iterable[Task], ranker: str = "count") -> Ballot:
    """Rank the candidates of every test input of `tasks`; one without predictions gets an empty list.

    Predictions of other tasks are left out. An empty or malformed crop is never a candidate.

    Raises:
        ValueError: where none are left, where an answer is to a test input that its task does not have, where the
            ranker is not known or needs what was not predicted.
    """
    chosen, inputs, lookup = find_ranker(ranker), *_number_inputs(predictions.tasks, list(tasks))
    _refuse_missing(predictions, chosen)
    answers = _answers_that_count(predictions.answers, chosen)
    _refuse_strangers(predictions, answers, lookup)
    votes, numbers_C = tally(predictions, answers, lookup)
    return ArrayBallot(votes, predictions.grids, numbers_C, rank(votes, chosen), inputs)


def tally(
    predictions: Predictions, answers: PredictionRows, lookup: NDArray[np.int64]
) -> tuple[Votes, NDArray[np.int32]]:
    """The table that rankers see, and the grid number of each candidate.

    lookup: (tasks, tests), the number of each test input, -1 where it is not voted on
    """
    input_R = _find_inputs(answers, lookup)
    answers = answers.take(known := input_R >= 0)
    input_R = input_R[known]
    keys_R = input_R * len(predictions.grids) + answers.grid
    first_C, candidate_R = number_by_first(keys_R)
    numbers_C = answers.grid[first_C]
    votes = Votes(
        candidate_R, _sigmoid(answers.halt_logit), answers.log_prob, answers.step, answers.augmentation,
        input_R[first_C], predictions.grids.heights[numbers_C], predictions.grids.widths[numbers_C],
        _average_scores(predictions, lookup, keys_R[first_C]), answers.value,
    )  # fmt: skip
    return votes, numbers_C


def rank(votes: Votes, ranker: Ranker) -> NDArray[np.int64]:
    """All candidates, those of a test input together and best first; what is not a number ranks last."""
    falling = [np.where(np.isnan(key), np.inf, -key) for key in _checked(ranker, votes)]
    # The sort is stable: what is equal keeps the order first seen.
    return np.lexsort((*reversed(falling), votes.input_C))


def _checked(ranker: Ranker, votes: Votes) -> list[NDArray[np.float64]]:
    """What the ranker returns; ValueError where it fails, or returns something else than one value per candidate."""
    try:
        keys = ranker.rank(votes)
        columns = [np.asarray(key, np.float64) for key in keys] if isinstance(keys, tuple) else []
    except Exception as error:
        raise ValueError(f"the ranker '{ranker.name}' fails: {type(error).__name__}: {error}") from error
    if not columns or any(column.shape != votes.input_C.shape for column in columns):
        raise ValueError(
            f"the ranker '{ranker.name}' must return a tuple of arrays, each with one value per candidate "
            f"({len(votes.input_C)} here)"
        )
    return columns


def _refuse_missing(predictions: Predictions, ranker: Ranker) -> None:
    """ValueError where the ranker needs what was not predicted."""
    answers = predictions.answers
    if ranker.steps == "all" and answers.last.all() and (answers.step > 1).any():
        raise ValueError(f"the ranker '{ranker.name}' needs the answers of all steps: run predict with --steps all")
    if ranker.steps == "all" and predictions.metadata.get("steps_differ"):
        raise ValueError(
            f"the ranker '{ranker.name}' needs the answers of all steps in each of {', '.join(predictions.merged)}: "
            "one with the last step only would have fewer votes"
        )
    if ranker.judged and np.isnan(answers.value).any():
        raise ValueError(
            f"the ranker '{ranker.name}' needs the value head, which only a recursion with noise has; choose 'best', "
            "which takes the halting head"
        )
    if ranker.rescored and predictions.merged:
        raise ValueError(f"the ranker '{ranker.name}' is for one model's candidates; vote each of those merged alone")
    if ranker.rescored and predictions.scores is None:
        raise ValueError(
            f"the ranker '{ranker.name}' needs candidates scored under every augmentation: run predict --rescore 10"
        )


def _answers_that_count(answers: PredictionRows, ranker: Ranker) -> PredictionRows:
    """Those with a grid, of the supervision steps that the ranker looks at, but for those asked again."""
    answers = current_predictions(answers)
    counts = answers.grid != NO_GRID
    return answers.take(counts if ranker.steps == "all" else counts & answers.last)


def _number_inputs(names: Sequence[str], tasks: list[Task]) -> tuple[dict[str, list[int]], NDArray[np.int64]]:
    """Per task the numbers of its test inputs, equal ones alike; and the same by (place in `names`, test), else -1.

    The last column is -1 throughout: it stands for all tests beyond.
    """
    numbers: dict[tuple[str, str], int] = {}
    inputs = {
        task.id: [numbers.setdefault((task.id, grid_hash(pair.input)), len(numbers)) for pair in task.tests]
        for task in tasks
    }
    lookup = np.full((len(names), 1 + max(map(len, inputs.values()), default=0)), -1, np.int64)
    for row, name in zip(lookup, names, strict=True):
        row[: len(inputs.get(name, ()))] = inputs.get(name, ())
    return inputs, lookup


def _find_inputs(rows: PredictionRows | ScoreRows, lookup: NDArray[np.int64]) -> NDArray[np.int64]:
    """The number of the test input of each row."""
    return lookup[rows.task, np.minimum(rows.test, lookup.shape[1] - 1)]


def _refuse_strangers(predictions: Predictions, answers: PredictionRows, lookup: NDArray[np.int64]) -> None:
    """ValueError for answers to test inputs that their task does not have, and where no task is answered."""
    known = (lookup >= 0).sum(axis=1)
    stray = np.flatnonzero((known[answers.task] > 0) & (answers.test >= known[answers.task]))
    if len(stray):
        task = answers.task[stray[0]]
        raise ValueError(
            f"task {predictions.tasks[task]}: a prediction answers test pair {answers.test[stray[0]]}, but the task "
            f"has {known[task]} test pairs: vote with the source that was predicted"
        )
    if len(predictions.tasks) and not known.any():
        raise ValueError(
            f"none of the {len(predictions.answers)} predictions (first task: {predictions.tasks[0]}) belongs to the "
            "tasks given: vote with the source that was predicted"
        )


def _average_scores(
    predictions: Predictions, lookup: NDArray[np.int64], keys_C: NDArray[np.int64]
) -> NDArray[np.float64] | None:
    """Each candidate's mean log-probability over the augmentations it was rescored under, -inf where it was not."""
    scores = predictions.scores
    if scores is None:
        return None
    inputs_N = _find_inputs(scores, lookup)
    scores = scores.take(known := inputs_N >= 0)
    inputs_N = inputs_N[known]
    keys_N = inputs_N * len(predictions.grids) + scores.grid
    order = np.argsort(keys_C)
    places_N = np.searchsorted(keys_C[order], keys_N)
    found_N = np.append(keys_C[order], -1)[places_N] == keys_N
    candidate_N = order[places_N[found_N]]
    sums, counts = (np.bincount(candidate_N, weights, len(keys_C)) for weights in (scores.log_prob[found_N], None))
    return np.where(counts > 0, sums / np.maximum(counts, 1), -np.inf)


def _count_augmentations(votes: Votes) -> NDArray[np.int64]:
    """Under how many different augmentations each candidate was given."""
    pairs = np.sort(votes.candidate_R << 32 | votes.augmentation_R)
    different = pairs[np.diff(pairs, prepend=-1) != 0]
    return np.bincount(different >> 32, minlength=len(votes.input_C))


def _sigmoid(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Halting probabilities; a logit that is not a number is no confidence at all."""
    with np.errstate(over="ignore"):
        return np.nan_to_num(1 / (1 + np.exp(-logits)), nan=0.0)
