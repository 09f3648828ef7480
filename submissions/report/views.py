"""What a report shows, as values that JSON can hold: tasks, their submission and ballot in, views out.

A view says what is so (right or not, how many votes); `task.js` says how it looks. Grids travel as text, a letter a
cell and rows parted by "/": digits are colours, "." is an empty cell of a canvas, "|" an end mark.
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
"""What can become of a task, in the order shown; a test output is never `partly`.

`found`: the right grid is among the candidates, but not one of the first two.
"""
FIRST_COLOUR = 2
LETTERS = np.frombuffer(b".|0123456789", np.uint8)
"""How a token of a canvas is written: empty, end mark, then the colours from FIRST_COLOUR on."""

TOKENS = np.zeros(128, np.uint8)
"""And back."""
TOKENS[LETTERS] = np.arange(len(LETTERS))

Recursions = Mapping[tuple[str, int], Recursion]
"""By (task ID, test input)."""


@dataclass(frozen=True)
class CandidateView:
    """A candidate: its place from 1, votes and their share, mean halting probability, and if it is right.

    augmentations: how many different ones gave it; log_prob: mean log-probability, None where that is not known
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
    """An attempt; no grid where there is no answer. `remark` says in a few words how it compares with the truth."""

    grid: str | None
    right: bool
    remark: str


@dataclass(frozen=True)
class RecursionView:
    """T supervision steps: what the output head reads from the latents, how far each moved, halting probability.

    reasoning: empty where the model has none; moved: by step, then by update within it
    """

    answer: list[str]
    reasoning: list[str]
    answer_moved: list[list[float | None]]
    reasoning_moved: list[list[float | None]]
    halting: list[float | None]


@dataclass(frozen=True)
class TestView:
    """A test input, its attempts, the truth where known, candidates that are shown, of how many with how many votes."""

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
        """The attempt that stands for this output: the right one, else the first."""
        return next((attempt for attempt in self.attempts if attempt.right), self.attempts[0])


@dataclass(frozen=True)
class TaskView:
    """A task, its demonstrations as (input, output)."""

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
    """A test output on the wall: what became of it and the grid that stands for it."""

    outcome: str
    grid: str | None


@dataclass(frozen=True)
class Tile:
    """A task on the wall, with what the wall can be sorted by.

    share, confidence: of the first candidates, mean over the test inputs; candidates: the most that a test input has
    size: cells of the largest grid shown of its tests
    """

    id: str
    outcome: str
    outputs: list[OutputTile]
    share: float
    confidence: float
    candidates: int
    size: int


def view_task(task: Task, submission: Submission, ballot: Ballot, recursions: Recursions | None = None) -> TaskView:
    """Everything shown of `task`."""
    entries = submission.get(task.id, [])
    entries = entries + [{}] * (len(task.tests) - len(entries))
    lists = ballot.get(task.id, [[]] * len(task.tests))
    steps = [(recursions or {}).get((task.id, test)) for test in range(len(task.tests))]
    shown = [(pair.input, pair.output) for pair in task.demonstrations if pair.output is not None]
    return TaskView(
        task.id,
        [(write_grid(asked), write_grid(answer)) for asked, answer in shown],
        [view_test(*test) for test in zip(task.tests, entries, lists, steps, strict=True)],
    )


def view_test(
    pair: Pair, entry: Mapping[str, list[list[int]]], candidates: Sequence[Candidate], recursion: Recursion | None
) -> TestView:
    """Everything shown of one test input and its `entry` in the submission."""
    candidates = list(candidates)
    answers = [candidate.grid for candidate in candidates] + ([] if pair.output is None else [pair.output])
    grids = [_to_answer(entry.get(name), answers) for name in ATTEMPTS]
    attempts = [view_attempt(place, grids, pair.output) for place in range(len(ATTEMPTS))]
    shown = view_candidates(candidates, pair.output)
    unsolved = "found" if any(candidate.right for candidate in shown) else "missed"
    scored = "solved" if any(attempt.right for attempt in attempts) else unsolved
    return TestView(
        write_grid(pair.input),
        None if pair.output is None else write_grid(pair.output),
        attempts,
        shown,
        len(candidates),
        sum(candidate.count for candidate in candidates),
        "hidden" if pair.output is None else scored,
        recursion and view_recursion(recursion),
    )


def view_candidates(candidates: Sequence[Candidate], truth: Grid | None) -> list[CandidateView]:
    """The first candidates, and the right one wherever it stands."""
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
    """Attempt number `place` (from 0) of `grids`, compared with `truth` when that is known."""
    grid = grids[place]
    if grid is None:
        return AttemptView(None, False, "no answer")
    shown = write_grid(grid)
    if place and _same(grid, grids[0]):
        return AttemptView(shown, False, "the same again")
    if truth is None or _same(grid, truth):
        return AttemptView(shown, truth is not None, "right" if truth is not None else "")
    if grid.shape != truth.shape:
        return AttemptView(shown, False, f"{_size(grid)}, not {_size(truth)}")
    wrong = grid != truth
    return AttemptView(shown, False, f"{wrong.sum()} of {wrong.size} wrong")


def view_recursion(recursion: Recursion) -> RecursionView:
    """The recursion as text and numbers."""
    answer, reasoning = ([*map(write_canvas, latent)] for latent in (recursion.answer, recursion.reasoning))
    answer_moved, reasoning_moved = (
        [[*map(_number, step)] for step in moved.tolist()]
        for moved in (recursion.answer_moved, recursion.reasoning_moved)
    )
    halting = [*map(_number, recursion.halting.tolist())]
    return RecursionView(answer, reasoning, answer_moved, reasoning_moved, halting)


def view_tile(view: TaskView) -> Tile:
    """The task on the wall."""
    first = [test.candidates[0] for test in view.tests if test.candidates]
    drawn = [grid for test in view.tests for grid in (test.input, test.truth, test.best.grid) if grid]
    return Tile(
        view.id,
        view.outcome,
        [OutputTile(test.outcome, test.best.grid) for test in view.tests],
        _mean([candidate.share for candidate in first]),
        _mean([candidate.confidence for candidate in first]),
        max(test.candidates_in_all for test in view.tests),
        max(len(grid.replace("/", "")) for grid in drawn),
    )


def write_canvas(tokens: NDArray[np.uint8]) -> str:
    """A canvas (rows, columns) of tokens as text."""
    return "/".join(row.tobytes().decode() for row in LETTERS[tokens])


def read_canvas(text: str) -> NDArray[np.uint8]:
    """Undo `write_canvas`."""
    rows = [np.frombuffer(row.encode(), np.uint8) for row in text.split("/")]
    return TOKENS[np.stack(rows)]


def write_grid(grid: Grid) -> str:
    """A grid as text."""
    return write_canvas(grid + np.uint8(FIRST_COLOUR))


def _to_answer(grid: list[list[int]] | None, answers: Sequence[Grid]) -> Grid | None:
    """The grid of an attempt, None for filler that nobody voted for and that is not the truth by chance."""
    if grid is None:
        return None
    filler = grid == PLACEHOLDER and not any(answer.tolist() == PLACEHOLDER for answer in answers)
    return None if filler else parse_grid(grid, "attempt")


def _same(grid: Grid, other: Grid | None) -> bool:
    return other is not None and grid.shape == other.shape and bool((grid == other).all())


def _size(grid: Grid) -> str:
    return "×".join(map(str, grid.shape))


def _mean(values: Sequence[float]) -> float:
    return round(sum(values) / len(values), 4) if values else 0.0


def _number(value: float) -> float | None:
    """Rounded for showing; JSON has no word for what is not a number."""
    return round(value, 4) if math.isfinite(value) else None
