"""Monitor a prediction pass: read its parts from disk, update the submission with them and measure its speed."""

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
"""Seconds between two votes during a pass, at least."""
VOTING_SHARE = 0.05
"""Largest share of the time that votes during a pass may take."""


def remove_parts(run: RunFolder) -> None:
    """Remove the parts of all passes of an earlier start of the run, which were made with other weights."""
    for folder in [*(run.path / "passes").glob("*.parts"), shards_folder(run.predictions)]:
        shutil.rmtree(folder, ignore_errors=True)


class PassMonitor:
    """One prediction pass: its predictions folder, and the folder of its parts until it is complete.

    Creating it removes what an earlier start of the same run left in both folders.
    """

    def __init__(
        self,
        run: RunFolder,
        out: Path,
        puzzle_set: PuzzleSet,
        config: RunConfig,
        best: BestSubmission,
        report_incident: Callable[[str], None],
    ):
        self.run = run
        self.out = out
        self.config = config
        self.best = best
        self.report_incident = report_incident
        self.parts = shards_folder(out)
        roles = zip(puzzle_set.tasks, puzzle_set.roles, strict=True)
        self.tasks = [task.id for task, role in roles if role == "scored"]
        self.inputs = sum(len(task.tests) for task in best.tasks)
        self.ready_at: float | None = None
        self.predictions: Predictions | None = None
        self._parts_in_vote = 0
        self._next_vote = time.monotonic() + VOTE_EVERY
        # Predictions of an earlier start were made with other weights and must not be mixed with new ones.
        for folder in (out, self.parts):
            shutil.rmtree(folder, ignore_errors=True)

    def poll(self, name: str) -> None:
        """Vote if there are new parts and enough time has passed; called repeatedly while the pass runs."""
        now = time.monotonic()
        if self.ready_at is None and (self.parts / ABOUT).exists():
            self.ready_at = now
        if now < self._next_vote or len(find_shards(self.parts)) <= self._parts_in_vote:
            return
        self._vote(name, self._read_parts())
        duration = time.monotonic() - now
        self._next_vote = time.monotonic() + max(VOTE_EVERY, duration / VOTING_SHARE)

    def finish(self, name: str) -> Predictions | None:
        """Vote on all predictions of the pass and return them; None if there are none."""
        self._end = time.monotonic()
        predictions = None
        if self.out.exists():
            try:
                predictions = read_predictions(self.out)
            except (ValueError, OSError) as error:
                self.report_incident(f"{error}")
        self._vote(name, predictions or self._read_parts(), complete=predictions is not None)
        return self.predictions

    def durations(self, begin: float) -> tuple[float, float]:
        """Return how long the pass took, in seconds, if its process was started at `begin` (monotonic).

        Returns:
            (from the start until it was ready to predict, from then until its end)
        """
        ready = min(max(self.ready_at or self._end, begin), self._end)
        return ready - begin, self._end - ready

    def completed_share(self, augmentations: int) -> float:
        """Return the share of the pass's predictions that were made, of those under so many augmentations."""
        if self.predictions is None:
            return 0.0
        answers = self.predictions.answers
        queries = augmentations * self.inputs * self.config.predict.trajectories
        return min(1.0, float((answers.last & ~answers.board).sum()) / queries)

    def _read_parts(self) -> Predictions | None:
        self._parts_in_vote = len(find_shards(self.parts))
        return read_shards(self.parts, self.tasks, {})

    def _vote(self, name: str, predictions: Predictions | None, complete: bool = False) -> None:
        """Update the submission; a ranker that cannot be applied is replaced by the plain count of votes."""
        if predictions is None:
            return
        self.predictions = predictions
        ranker = self.config.predict.ranker
        # Candidates are rescored at the end of the last pass only: before that their scores do not exist.
        if find_ranker(ranker).rescored and predictions.scores is None:
            ranker = "count"
        try:
            ballot = vote(predictions, self.best.tasks, ranker)
        except ValueError as error:
            self.report_incident(f"{error}; votes are counted instead")
            ballot = vote(predictions, self.best.tasks)
        self.best.update(ballot, complete)
        answered = self.best.answered
        inputs = self.best.inputs
        self.run.log(f"submission: {answered} of {inputs} test inputs answered ({name})")
