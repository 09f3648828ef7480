"""One HTML page that shows what was asked, what was answered and what was right; it opens offline.

In: tasks, their submission and, where there are, the ballot and the score. Out: a file without any external
request. This module says what is shown; `report.html.j2` says how it looks.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from augment.folder import write_file
from augment.grid import Grid, parse_grid
from augment.task import Pair, Task
from submissions.format import ATTEMPTS, FILLER, Submission
from submissions.page import render_page
from submissions.picture import Picture, Sheet, mark_cells
from submissions.score import Score
from submissions.vote import Ballot, Candidate

CANDIDATES_SHOWN = 5
OUTCOMES = {
    "solved": "Solved",
    "partly": "Partly solved",
    "found": "Found, not chosen",
    "missed": "Not solved",
    "hidden": "Not scored",
}
"""What can become of a task, in the order shown; a test output is never `partly`.

`found`: the right grid is among the candidates, but not one of the first two.
"""


@dataclass(frozen=True)
class VoteView:
    """A candidate: place, picture, votes and their share, mean halting probability, and if it is right."""

    place: int
    picture: Picture
    count: int
    share: float
    confidence: float
    right: bool


@dataclass(frozen=True)
class AttemptView:
    """An attempt; no picture where there is no answer. `marks`: SVG path with a dot on each wrong cell."""

    label: str
    picture: Picture | None
    right: bool
    remark: str
    marks: str


@dataclass(frozen=True)
class TestView:
    """A test input, its attempts, the truth when known, and the candidates with their votes in all."""

    input: Picture
    truth: Picture | None
    attempts: list[AttemptView]
    votes: list[VoteView]
    voters: int
    outcome: str

    @property
    def pictures(self) -> list[Picture]:
        """All that are drawn large."""
        drawn = [self.input, self.truth, *(attempt.picture for attempt in self.attempts)]
        return [picture for picture in drawn if picture is not None]

    @property
    def best(self) -> AttemptView:
        """The attempt that stands for this output: the right one, else the first."""
        return next((attempt for attempt in self.attempts if attempt.right), self.attempts[0])


@dataclass(frozen=True)
class TaskView:
    """A task, its demonstrations as (input, output)."""

    id: str
    demonstrations: list[tuple[Picture, Picture]]
    tests: list[TestView]

    @property
    def side(self) -> int:
        """Longest side of all its pictures, in cells."""
        pictures = [picture for pair in self.demonstrations for picture in pair]
        pictures += [picture for test in self.tests for picture in test.pictures]
        return max(max(picture.height, picture.width) for picture in pictures)

    @property
    def column(self) -> int:
        """Width of the widest picture among its tests, in cells."""
        return max(picture.width for test in self.tests for picture in test.pictures)

    @property
    def outcome(self) -> str:
        """One of OUTCOMES."""
        outcomes = {test.outcome for test in self.tests}
        if outcomes > {"solved"} and "hidden" not in outcomes:
            return "partly"
        return next(outcome for outcome in ("hidden", "solved", "found", "missed") if outcome in outcomes)


def write_report(
    path: str | Path,
    tasks: Iterable[Task],
    submission: Submission,
    *,
    title: str,
    ballot: Ballot | None = None,
    score: Score | None = None,
    run_info: Mapping[str, object] | None = None,
) -> None:
    """Write the page to `path`, whole or not at all.

    `title` names what was solved, `run_info` (shown as it is) says how.
    """
    sheet = Sheet()
    views = [view_task(task, submission, ballot or {}, sheet) for task in tasks]
    groups = {outcome: [view for view in views if view.outcome == outcome] for outcome in OUTCOMES}
    page = render_page(
        "report.html.j2",
        title=title,
        kind="report",
        score=score,
        run_info=run_info or {},
        groups={outcome: group for outcome, group in groups.items() if group},
        labels=OUTCOMES,
        symbols=sheet.symbols,
    )
    write_file(Path(path), page)


def view_task(task: Task, submission: Submission, ballot: Ballot, sheet: Sheet) -> TaskView:
    """Everything shown of `task`, its grids drawn on `sheet`."""
    entries = submission.get(task.id, [])
    entries = entries + [{}] * (len(task.tests) - len(entries))
    lists = ballot.get(task.id, [[]] * len(task.tests))
    shown = [(pair.input, pair.output) for pair in task.demonstrations if pair.output is not None]
    return TaskView(
        task.id,
        [(sheet.draw(asked), sheet.draw(answer)) for asked, answer in shown],
        [view_test(*test, sheet) for test in zip(task.tests, entries, lists, strict=True)],
    )


def view_test(pair: Pair, entry: dict, candidates: list[Candidate], sheet: Sheet) -> TestView:
    """Everything shown of one test input and its `entry` in the submission."""
    truth = None if pair.output is None else sheet.draw(pair.output)
    answers = [candidate.grid for candidate in candidates] + ([] if pair.output is None else [pair.output])
    grids = [_to_answer(entry.get(name), answers) for name in ATTEMPTS]
    attempts = [view_attempt(place, grids, pair.output, sheet) for place in range(len(ATTEMPTS))]
    votes = view_votes(candidates, pair.output, sheet)
    voters = sum(candidate.count for candidate in candidates)
    unsolved = "found" if any(vote.right for vote in votes) else "missed"
    scored = "solved" if any(attempt.right for attempt in attempts) else unsolved
    outcome = "hidden" if truth is None else scored
    return TestView(sheet.draw(pair.input), truth, attempts, votes, voters, outcome)


def view_votes(candidates: list[Candidate], truth: Grid | None, sheet: Sheet) -> list[VoteView]:
    """The first candidates, and the right one wherever it stands."""
    voters = sum(candidate.count for candidate in candidates)
    views = []
    for place, candidate in enumerate(candidates, 1):
        right = _same(candidate.grid, truth)
        if right or place <= CANDIDATES_SHOWN:
            share, picture = candidate.count / voters, sheet.draw(candidate.grid)
            views.append(VoteView(place, picture, candidate.count, share, candidate.confidence, right))
    return views


def view_attempt(place: int, grids: list[Grid | None], truth: Grid | None, sheet: Sheet) -> AttemptView:
    """Attempt number `place` (from 0) of `grids`, compared with `truth` when that is known."""
    label, grid = f"Attempt {place + 1}", grids[place]
    if grid is None:
        return AttemptView(label, None, False, "no answer", "")
    picture = sheet.draw(grid)
    if place and _same(grid, grids[0]):
        return AttemptView(label, picture, False, "the same again", "")
    if truth is None or _same(grid, truth):
        return AttemptView(label, picture, truth is not None, "right" if truth is not None else "", "")
    if grid.shape != truth.shape:
        return AttemptView(label, picture, False, f"{_size(grid)}, not {_size(truth)}", "")
    wrong = grid != truth
    return AttemptView(label, picture, False, f"{wrong.sum()} of {wrong.size} wrong", mark_cells(wrong))


def _to_answer(grid: list[list[int]] | None, answers: list[Grid]) -> Grid | None:
    """The grid of an attempt, None for filler that nobody voted for and that is not the truth by chance."""
    meant = any(answer.tolist() == FILLER for answer in answers)
    return None if grid is None or (grid == FILLER and not meant) else parse_grid(grid, "attempt")


def _size(grid: Grid) -> str:
    return "×".join(map(str, grid.shape))


def _same(grid: Grid, other: Grid | None) -> bool:
    return other is not None and np.array_equal(grid, other)
