"""Convert tasks, their submission and their ballot to view models, which can be written as JSON.

A view contains facts (whether an attempt is correct, how many votes it has); `task.js` defines their appearance. Grids
are text with one letter per cell and rows separated by "/". Digits are colours, "." is an empty cell of a canvas and
"|" an end mark.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from augment.grid import Grid, parse_grid
from augment.task import Pair, Task
from submissions.recursion_trace import Recursion
from submissions.submission_file import ATTEMPTS, PLACEHOLDER, Submission
from submissions.vote import Ballot, Candidate

CANDIDATES_SHOWN = 5
OUTCOMES = {
    "solved": "Solved",
    "partly": "Partly solved",
    "found": "Found, not chosen",
    "missed": "Missed",
    "hidden": "Not scored",
}
"""The outcomes of a task with their labels, in display order; the outcome of a test output is never `partly`.

`found`: the correct grid is among the candidates, but is not one of the first two.
"""
FIRST_COLOUR = 2
LETTERS = np.frombuffer(b".|0123456789", np.uint8)
"""The letter of each token of a canvas: empty, end mark, then the colours from FIRST_COLOUR on."""

TOKENS = np.zeros(128, np.uint8)
"""The token of each ASCII letter; the inverse of LETTERS."""
TOKENS[LETTERS] = np.arange(len(LETTERS))

Recursions = Mapping[tuple[str, int], Recursion]
"""Recursion traces by (task ID, index of the test input)."""


@dataclass(frozen=True)
class CandidateView:
    """A candidate: its rank `place` (from 1), its votes `count` and their `share`, and whether it is `right`.

    `confidence` is the mean halting probability, `augmentations` the number of different augmentations it was predicted
    under, and `log_prob` the mean log-probability (None if unknown).
    """

    place: int
    grid: str
    count: int
    share: float
    confidence: float
    augmentations: int
    log_prob: float | None
    right: bool


@dataclass(frozen=True)
class AttemptView:
    """An attempt; `grid` is None without a prediction. `remark` is a short comparison with the truth."""

    grid: str | None
    right: bool
    remark: str


@dataclass(frozen=True)
class RecursionView:
    """The recursion trace of T supervision steps, each list with one entry per step.

    `answer` and `reasoning` are what the output head reads from each latent; `reasoning` is empty if the model has no
    reasoning latent. `answer_moved` and `reasoning_moved` are how far each latent moved in each update of a step.
    """

    answer: list[str]
    reasoning: list[str]
    answer_moved: list[list[float | None]]
    reasoning_moved: list[list[float | None]]
    halting: list[float | None]


@dataclass(frozen=True)
class TestView:
    """A test input with its truth (None if hidden), attempts, outcome (one of OUTCOMES) and recursion trace.

    `candidates` are those to show, `candidates_in_all` the number of all of them, `votes` the votes for all of them.
    """

    input: str
    truth: str | None
    attempts: list[AttemptView]
    candidates: list[CandidateView]
    candidates_in_all: int
    votes: int
    outcome: str
    recursion: RecursionView | None

    @property
    def best(self) -> AttemptView:
        """The attempt that represents this test output: the first correct one, else the first."""
        return next((attempt for attempt in self.attempts if attempt.right), self.attempts[0])


@dataclass(frozen=True)
class TaskView:
    """A task; its demonstrations are (input, output) pairs of text."""

    id: str
    demonstrations: list[tuple[str, str]]
    tests: list[TestView]

    @property
    def outcome(self) -> str:
        """One of OUTCOMES."""
        outcomes = {test.outcome for test in self.tests}
        if outcomes > {"solved"} and "hidden" not in outcomes:
            return "partly"
        return next(outcome for outcome in ("hidden", "solved", "found", "missed") if outcome in outcomes)


@dataclass(frozen=True)
class OutputTile:
    """A test output in the tile of its task: its outcome and the grid of its best attempt, if there is one."""

    outcome: str
    grid: str | None


@dataclass(frozen=True)
class Tile:
    """A task in the overview, with the values that the overview can be sorted by.

    Attributes:
        share, confidence: of the first candidate, mean over the test inputs that have candidates.
        candidates: largest number of candidates of a test input.
        size: number of cells of the largest grid shown for its tests.
    """

    id: str
    outcome: str
    outputs: list[OutputTile]
    share: float
    confidence: float
    candidates: int
    size: int


def view_task(task: Task, submission: Submission, ballot: Ballot, recursions: Recursions | None = None) -> TaskView:
    """Return everything shown for `task`; a test input without an entry in the submission has no attempts."""
    entries = submission.get(task.id, [])
    entries = entries + [{}] * (len(task.tests) - len(entries))
    lists = ballot.get(task.id, [[]] * len(task.tests))
    steps = [(recursions or {}).get((task.id, test)) for test in range(len(task.tests))]
    pairs = [(pair.input, pair.output) for pair in task.demonstrations if pair.output is not None]
    return TaskView(
        task.id,
        [(write_grid(grid), write_grid(output)) for grid, output in pairs],
        [view_test(*test) for test in zip(task.tests, entries, lists, steps, strict=True)],
    )


def view_test(
    pair: Pair, entry: Mapping[str, list[list[int]]], candidates: Sequence[Candidate], recursion: Recursion | None
) -> TestView:
    """Return everything shown for one test input and its `entry` in the submission."""
    candidates = list(candidates)
    known_grids = [candidate.grid for candidate in candidates] + ([] if pair.output is None else [pair.output])
    grids = [_to_prediction(entry.get(name), known_grids) for name in ATTEMPTS]
    attempts = [view_attempt(place, grids, pair.output) for place in range(len(ATTEMPTS))]
    candidate_views = view_candidates(candidates, pair.output)
    unsolved = "found" if any(candidate.right for candidate in candidate_views) else "missed"
    outcome = "solved" if any(attempt.right for attempt in attempts) else unsolved
    return TestView(
        write_grid(pair.input),
        None if pair.output is None else write_grid(pair.output),
        attempts,
        candidate_views,
        len(candidates),
        sum(candidate.count for candidate in candidates),
        "hidden" if pair.output is None else outcome,
        recursion and view_recursion(recursion),
    )


def view_candidates(candidates: Sequence[Candidate], truth: Grid | None) -> list[CandidateView]:
    """Return the first CANDIDATES_SHOWN candidates, and the correct one at any rank."""
    votes = sum(candidate.count for candidate in candidates)
    views = []
    for place, candidate in enumerate(candidates, 1):
        right = _same(candidate.grid, truth)
        if right or place <= CANDIDATES_SHOWN:
            views.append(_view_candidate(place, candidate, votes, right))
    return views


def _view_candidate(place: int, candidate: Candidate, votes: int, right: bool) -> CandidateView:
    return CandidateView(
        place,
        write_grid(candidate.grid),
        candidate.count,
        candidate.count / votes,
        round(candidate.confidence, 4),
        candidate.augmentations,
        _number(candidate.log_prob),
        right,
    )


def view_attempt(place: int, grids: Sequence[Grid | None], truth: Grid | None) -> AttemptView:
    """Return attempt number `place` (from 0) of `grids`, compared with `truth` if that is known."""
    grid = grids[place]
    if grid is None:
        return AttemptView(None, False, "no prediction")
    text = write_grid(grid)
    if place and _same(grid, grids[0]):
        return AttemptView(text, False, "same as attempt 1")
    if truth is None or _same(grid, truth):
        return AttemptView(text, truth is not None, "right" if truth is not None else "")
    if grid.shape != truth.shape:
        return AttemptView(text, False, f"{_size(grid)}, not {_size(truth)}")
    wrong = grid != truth
    return AttemptView(text, False, f"{wrong.sum()} of {wrong.size} wrong")


def view_recursion(recursion: Recursion) -> RecursionView:
    """Return a recursion trace as text and numbers."""
    answer, reasoning = ([*map(write_canvas, latent)] for latent in (recursion.answer, recursion.reasoning))
    answer_moved, reasoning_moved = (
        [[*map(_number, step)] for step in moved.tolist()]
        for moved in (recursion.answer_moved, recursion.reasoning_moved)
    )
    halting = [*map(_number, recursion.halting.tolist())]
    return RecursionView(answer, reasoning, answer_moved, reasoning_moved, halting)


def view_tile(view: TaskView) -> Tile:
    """Return the tile of a task for the overview."""
    first = [test.candidates[0] for test in view.tests if test.candidates]
    grids = [grid for test in view.tests for grid in (test.input, test.truth, test.best.grid) if grid]
    return Tile(
        view.id,
        view.outcome,
        [OutputTile(test.outcome, test.best.grid) for test in view.tests],
        _mean([candidate.share for candidate in first]),
        _mean([candidate.confidence for candidate in first]),
        max(test.candidates_in_all for test in view.tests),
        max(len(grid.replace("/", "")) for grid in grids),
    )


def write_canvas(tokens: NDArray[np.uint8]) -> str:
    """Return a canvas (rows, columns) of tokens as text."""
    return "/".join(row.tobytes().decode() for row in LETTERS[tokens])


def read_canvas(text: str) -> NDArray[np.uint8]:
    """Return the tokens (rows, columns) of a text made by `write_canvas`."""
    rows = [np.frombuffer(row.encode(), np.uint8) for row in text.split("/")]
    return TOKENS[np.stack(rows)]


def write_grid(grid: Grid) -> str:
    """Return a grid as text."""
    return write_canvas(grid + np.uint8(FIRST_COLOUR))


def _to_prediction(grid: list[list[int]] | None, known_grids: Sequence[Grid]) -> Grid | None:
    """Return the grid of an attempt; None for a placeholder, unless [[0]] is a candidate or the truth."""
    if not grid:
        return None
    placeholder = grid == PLACEHOLDER and not any(known.tolist() == PLACEHOLDER for known in known_grids)
    return None if placeholder else parse_grid(grid, "attempt")


def _same(grid: Grid, other: Grid | None) -> bool:
    return other is not None and grid.shape == other.shape and bool((grid == other).all())


def _size(grid: Grid) -> str:
    return "×".join(map(str, grid.shape))


def _mean(values: Sequence[float]) -> float:
    return round(sum(values) / len(values), 4) if values else 0.0


def _number(value: float) -> float | None:
    """Return the value rounded for display; None for NaN and infinity, which JSON cannot represent."""
    return round(value, 4) if math.isfinite(value) else None
