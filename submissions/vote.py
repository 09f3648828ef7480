"""Pool the predictions for each test input into a ranked list of candidates.

Input: predictions and the tasks they belong to. Output: a ballot, which maps each task ID to one list of candidates
per test input, best first. As in the published evaluator, predictions are pooled by the content of the test input:
two equal test inputs of a task share their predictions.

Shape suffixes: R prediction rows, C candidates, N rescoring rows.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from augment.errors import UserError
from augment.grid import Grid, grid_hash
from augment.task import Task
from submissions.grid_table import Grids, grid_id, number_by_first
from submissions.predictions import NO_GRID, PredictionRows, Predictions, ScoreRows, current_predictions
from submissions.rankers import Ranker, Votes, find_ranker


@dataclass(frozen=True, eq=False)
class Candidate:
    """A grid predicted for a test input, with its votes.

    Attributes:
        grid: the predicted grid.
        count: number of predictions equal to this grid.
        confidence: mean halting probability (0 to 1) of these predictions.
        augmentations: number of different augmentations among these predictions.
        log_prob: mean over these predictions of their mean log-probability.
    """

    grid: Grid
    count: int
    confidence: float
    augmentations: int = 1
    log_prob: float = float("nan")


Candidates = Sequence[Sequence[Candidate]]
"""One list of candidates per test input of a task, best first."""

Ballot = Mapping[str, Candidates]
"""The candidates of every task, by task ID."""


class ArrayCandidates(Sequence[Candidate]):
    """Rows `start` to `end` of the candidate columns; a `Candidate` is created only when its row is read."""

    def __init__(self, grids: Grids, columns: list[NDArray[Any]], start: int, end: int):
        self._grids = grids
        self._columns = columns
        self._rows = range(start, end)

    def __len__(self) -> int:
        """Return the number of candidates."""
        return len(self._rows)

    @overload
    def __getitem__(self, place: int) -> Candidate: ...
    @overload
    def __getitem__(self, place: slice) -> list[Candidate]: ...
    def __getitem__(self, place: int | slice) -> Candidate | list[Candidate]:
        """Return the candidate at a position, or the list of candidates of a slice."""
        if isinstance(place, slice):
            return [self._make(row) for row in self._rows[place]]
        return self._make(self._rows[place])

    def find(self, grid: Grid) -> int | None:
        """Return the position of `grid` among the candidates, from 0, or None; creates no `Candidate`."""
        numbers_C = self._columns[0][self._rows.start : self._rows.stop]
        # Different grids may share an ID (a hash collision), so every match is compared cell by cell.
        for place in np.flatnonzero(self._grids.ids[numbers_C] == grid_id(grid)).tolist():
            if np.array_equal(self._grids[numbers_C[place]], grid):
                return place
        return None

    def _make(self, row: int) -> Candidate:
        grid, *votes = (column[row].item() for column in self._columns)
        return Candidate(self._grids[grid], *votes)


class ArrayBallot(Mapping[str, Candidates]):
    """A ballot stored as arrays, which creates each `Candidate` only when it is read.

    `numbers_C` is the number of each candidate's grid in `grids`. `order_C` lists all candidates, grouped by test input
    and best first. `inputs` has, for each task, the number of each of its test inputs.
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
        """Return one list of candidates per test input of the task."""
        borders = [np.searchsorted(self._sorted_inputs, (number, number + 1)) for number in self._inputs[task]]
        return [ArrayCandidates(self._grids, self._columns, *border.tolist()) for border in borders]

    def __iter__(self) -> Iterator[str]:
        """Iterate over the task IDs."""
        return iter(self._inputs)

    def __len__(self) -> int:
        """Return the number of tasks."""
        return len(self._inputs)


def vote(predictions: Predictions, tasks: Iterable[Task], ranker: str = "count") -> Ballot:
    """Rank the candidates of every test input of `tasks`.

    A test input without predictions gets an empty list. Predictions of other tasks are ignored. An empty or malformed
    prediction is never a candidate. `ranker` is the name of a ranker or the path of a .py file that defines one.

    Raises:
        ValueError: if no prediction belongs to `tasks`, if a task lacks the test input of a prediction, if the ranker
            is unknown, or if the predictions lack data that the ranker needs.
    """
    method = find_ranker(ranker)
    inputs, lookup = _number_inputs(predictions.tasks, list(tasks))
    _require_ranker_data(predictions, method)
    rows = _select_votes(predictions.answers, method)
    _refuse_unknown_inputs(predictions, rows, lookup)
    votes, numbers_C = tally(predictions, rows, lookup)
    return ArrayBallot(votes, predictions.grids, numbers_C, rank(votes, method), inputs)


def tally(
    predictions: Predictions, answers: PredictionRows, lookup: NDArray[np.int64]
) -> tuple[Votes, NDArray[np.int32]]:
    """Return the table of votes that rankers read, and the grid number of each candidate (C,).

    Args:
        predictions: the source of the grids and of the rescoring.
        answers: the prediction rows that count as votes.
        lookup: (tasks, tests), the number of each test input, or -1 if it is not voted on.
    """
    input_R = _find_inputs(answers, lookup)
    known = input_R >= 0
    answers = answers.take(known)
    input_R = input_R[known]
    # One integer key per pair of test input and grid: a candidate is a different key, numbered in order of appearance.
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
    """Return all candidates (C,), grouped by test input and best first; a NaN key ranks last."""
    descending_keys = [np.where(np.isnan(key), np.inf, -key) for key in _rank_keys(ranker, votes)]
    # np.lexsort is stable, so candidates with equal keys stay in the order in which they were first predicted.
    return np.lexsort((*reversed(descending_keys), votes.input_C))


def _rank_keys(ranker: Ranker, votes: Votes) -> list[NDArray[np.float64]]:
    """Return the keys of the ranker; ValueError if it fails or does not return one value per candidate."""
    try:
        keys = ranker.rank(votes)
        columns = [np.asarray(key, np.float64) for key in keys] if isinstance(keys, tuple) else []
    except Exception as error:  # rankers are user code, which may raise anything
        raise UserError(f"the ranker '{ranker.name}' fails: {type(error).__name__}: {error}") from error
    if not columns or any(column.shape != votes.input_C.shape for column in columns):
        raise UserError(
            f"the ranker '{ranker.name}' must return a tuple of arrays, each with one value per candidate "
            f"({len(votes.input_C)} here)"
        )
    return columns


def _require_ranker_data(predictions: Predictions, ranker: Ranker) -> None:
    """Raise ValueError if the predictions lack data that the ranker needs."""
    rows = predictions.answers
    if ranker.steps == "all" and rows.last.all() and (rows.step > 1).any():
        raise UserError(
            f"the ranker '{ranker.name}' needs the predictions of all supervision steps: run predict with --steps all"
        )
    if ranker.steps == "all" and predictions.metadata.get("steps_differ"):
        raise UserError(
            f"the ranker '{ranker.name}' needs the predictions of all supervision steps in each of "
            f"{', '.join(predictions.merged)}, because a model with the last step only would have fewer votes: "
            "run predict with --steps all for each"
        )
    if ranker.judged and np.isnan(rows.value).any():
        raise UserError(
            f"the ranker '{ranker.name}' needs the value head, which only models with a noisy recursion have: "
            "choose 'best', which uses the halting head"
        )
    if ranker.rescored and predictions.merged:
        raise UserError(
            f"the ranker '{ranker.name}' is for one model's predictions: vote on each of the merged predictions alone"
        )
    if ranker.rescored and predictions.scores is None:
        raise UserError(
            f"the ranker '{ranker.name}' needs candidates scored under every augmentation: run predict --rescore 10"
        )


def _select_votes(rows: PredictionRows, ranker: Ranker) -> PredictionRows:
    """Return the rows that count as votes: current, with a grid, of a supervision step that the ranker uses."""
    rows = current_predictions(rows)
    has_grid = rows.grid != NO_GRID
    return rows.take(has_grid if ranker.steps == "all" else has_grid & rows.last)


def _number_inputs(names: Sequence[str], tasks: list[Task]) -> tuple[dict[str, list[int]], NDArray[np.int64]]:
    """Number the test inputs of `tasks`; equal test inputs of a task get the same number.

    Returns the numbers by task ID, and as a table (names, tests) which is -1 where there is no such test input.
    """
    numbers: dict[tuple[str, str], int] = {}
    inputs = {
        task.id: [numbers.setdefault((task.id, grid_hash(pair.input)), len(numbers)) for pair in task.tests]
        for task in tasks
    }
    # One column more than the most test inputs: it stays -1 and represents all indices that are too large.
    lookup = np.full((len(names), 1 + max(map(len, inputs.values()), default=0)), -1, np.int64)
    for row, name in zip(lookup, names, strict=True):
        row[: len(inputs.get(name, ()))] = inputs.get(name, ())
    return inputs, lookup


def _find_inputs(rows: PredictionRows | ScoreRows, lookup: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the number of the test input of each row, or -1."""
    return lookup[rows.task, np.minimum(rows.test, lookup.shape[1] - 1)]


def _refuse_unknown_inputs(predictions: Predictions, rows: PredictionRows, lookup: NDArray[np.int64]) -> None:
    """Raise ValueError for predictions of missing test inputs, and if no prediction belongs to the tasks."""
    test_counts = (lookup >= 0).sum(axis=1)
    stray = np.flatnonzero((test_counts[rows.task] > 0) & (rows.test >= test_counts[rows.task]))
    if len(stray):
        task = rows.task[stray[0]]
        raise UserError(
            f"task {predictions.tasks[task]}: a prediction is for test input {rows.test[stray[0]]} (the first is "
            f"0), but the task has {test_counts[task]} test inputs: vote with the source that was predicted"
        )
    if len(predictions.tasks) and not test_counts.any():
        raise UserError(
            f"none of the {len(predictions.answers)} predictions (first task: {predictions.tasks[0]}) belongs to the "
            "selected tasks: vote with the source that was predicted"
        )


def _average_scores(
    predictions: Predictions, lookup: NDArray[np.int64], keys_C: NDArray[np.int64]
) -> NDArray[np.float64] | None:
    """Return the mean rescored log-probability of each candidate over its augmentations; -inf without rescoring."""
    scores = predictions.scores
    if scores is None:
        return None
    inputs_N = _find_inputs(scores, lookup)
    known = inputs_N >= 0
    scores = scores.take(known)
    inputs_N = inputs_N[known]
    keys_N = inputs_N * len(predictions.grids) + scores.grid
    order = np.argsort(keys_C)
    places_N = np.searchsorted(keys_C[order], keys_N)
    # searchsorted may return len(keys_C), so -1, which no key equals, is appended.
    match_N = np.append(keys_C[order], -1)[places_N] == keys_N
    candidate_N = order[places_N[match_N]]
    sums, counts = (np.bincount(candidate_N, weights, len(keys_C)) for weights in (scores.log_prob[match_N], None))
    return np.where(counts > 0, sums / np.maximum(counts, 1), -np.inf)


def _count_augmentations(votes: Votes) -> NDArray[np.int64]:
    """Return under how many different augmentations each candidate was predicted."""
    pairs = np.sort(votes.candidate_R << 32 | votes.augmentation_R)
    unique_pairs = pairs[np.diff(pairs, prepend=-1) != 0]
    return np.bincount(unique_pairs >> 32, minlength=len(votes.input_C))


def _sigmoid(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return halting probabilities; the probability of a NaN logit is 0."""
    with np.errstate(over="ignore"):
        return np.nan_to_num(1 / (1 + np.exp(-logits)), nan=0.0)
