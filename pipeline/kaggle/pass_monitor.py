"""Prediction watched from outside: parts on disk come in, better submissions and a measure of speed go out."""

import shutil
import time
from collections.abc import Callable
from pathlib import Path

from augment import PuzzleSet
from pipeline.config.run_config import RunConfig
from pipeline.kaggle.best_submission import BestSubmission
from pipeline.prediction.shards import ABOUT, shards_folder
from pipeline.runtime.run_folder import RunFolder
from submissions.prediction_files import find_shards, read_predictions, read_shards
from submissions.predictions import Predictions
from submissions.rankers import find_ranker
from submissions.vote import vote

VOTE_EVERY = 5.0
VOTING_SHARE = 0.05
"""Of the time, what votes on the way may take at most."""


class PassMonitor:
    """One prediction: the folder that it will be, and its parts until then."""

    def __init__(
        self,
        run: RunFolder,
        out: Path,
        puzzle_set: PuzzleSet,
        config: RunConfig,
        standing: BestSubmission,
        report_incident: Callable[[str], None],
    ):
        self.run = run
        self.out = out
        self.config = config
        self.standing = standing
        self.report_incident = report_incident
        self.parts = shards_folder(out)
        roles = zip(puzzle_set.tasks, puzzle_set.roles, strict=True)
        self.tasks = [task.id for task, role in roles if role == "scored"]
        self.inputs = sum(len(task.tests) for task in standing.tasks)
        self.first_seen: float | None = None
        self.found: Predictions | None = None
        self._voted_parts = 0
        self._next_vote = time.monotonic() + VOTE_EVERY
        for old in (out, self.parts):  # of an earlier start of this run, by other weights
            shutil.rmtree(old, ignore_errors=True)

    def look(self, name: str) -> None:
        """Called again and again: vote now and then, where there is more."""
        now = time.monotonic()
        if self.first_seen is None and (self.parts / ABOUT).exists():
            self.first_seen = now
        if now < self._next_vote or len(find_shards(self.parts)) <= self._voted_parts:
            return
        self._vote(name, self._read_parts())
        taken = time.monotonic() - now
        self._next_vote = time.monotonic() + max(VOTE_EVERY, taken / VOTING_SHARE)

    def finish(self, name: str) -> Predictions | None:
        """Vote all there is; None where there is nothing."""
        self._ended = time.monotonic()
        found = None
        if self.out.exists():
            try:
                found = read_predictions(self.out)
            except (ValueError, OSError) as error:
                self.report_incident(f"{error}")
        self._vote(name, found or self._read_parts(), complete=found is not None)
        return self.found

    def seconds(self, begun: float) -> tuple[float, float]:
        """(until the stage, begun then, was ready to answer; from then to its end)."""
        ready = min(max(self.first_seen or self._ended, begun), self._ended)
        return ready - begun, self._ended - ready

    def share(self, views: int) -> float:
        """Of the answers asked under so many augmentations, how many there are."""
        if self.found is None:
            return 0.0
        answers = self.found.answers
        asked = views * self.inputs * self.config.predict.trajectories
        return min(1.0, float((answers.last & ~answers.board).sum()) / asked)

    def _read_parts(self) -> Predictions | None:
        self._voted_parts = len(find_shards(self.parts))
        return read_shards(self.parts, self.tasks, {})

    def _vote(self, name: str, found: Predictions | None, complete: bool = False) -> None:
        """Improve the submission; a ranker that fails is replaced by the plain count of votes."""
        if found is None:
            return
        self.found = found
        chosen = self.config.predict.ranker
        if find_ranker(chosen).rescored and found.scores is None:
            chosen = "count"
        try:
            ballot = vote(found, self.standing.tasks, chosen)
        except ValueError as error:
            self.report_incident(f"{error}; votes are counted instead")
            ballot = vote(found, self.standing.tasks)
        self.standing.improve(ballot, complete)
        answered = self.standing.answered
        inputs = self.standing.inputs
        self.run.log(f"submission: {answered} of {inputs} test inputs answered ({name})")
