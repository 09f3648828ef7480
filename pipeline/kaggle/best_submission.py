"""The best submission so far: merges the ballots of prediction passes and keeps every submission file valid.

A complete pass replaces the attempts of the pass before it, whose model was trained for less time. A pass that is
running, or was cut short, replaces only the attempts of test inputs for which it has at least as many predictions.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from augment import Task
from augment.sources.lenient import UnreadableTask
from submissions.submission_file import (
    EMPTY,
    Submission,
    make_submission,
    placeholder_for,
    read_submission,
    validate_readable,
    write_submission,
)
from submissions.submission_json import SubmissionError
from submissions.vote import Ballot

MANY = 10**9
"""Number of predictions assumed behind attempts of a resumed run, so that only a complete pass replaces them."""


class BestSubmission:
    """The submission of one run, and all the files that it is written to.

    Args:
        tasks: the tasks that are predicted.
        unread: the tasks that could not be read, which keep the placeholder.
        files: where it is written; the first is read when a run resumes.
        report_incident: called with a description of each failure.
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        unread: Sequence[UnreadableTask],
        files: Sequence[Path],
        report_incident: Callable[[str], None],
    ):
        self.tasks = tasks
        self.unread = unread
        self.files = files
        self.report_incident = report_incident
        self.submission = placeholder_for(tasks, unread)
        self._counts: dict[tuple[str, int], int] = {}
        self._failed: set[Path] = set()

    @property
    def inputs(self) -> int:
        """Number of test inputs."""
        return sum(map(len, self.submission.values()))

    @property
    def answered(self) -> int:
        """Number of test inputs with attempts that are not the placeholder."""
        return sum(entry != EMPTY for entries in self.submission.values() for entry in entries)

    def open(self) -> None:
        """Write the placeholder, or what the run had reached if a run is resumed."""
        # A file that is missing, invalid or of other tasks is replaced by the placeholder.
        with suppress(SubmissionError, TypeError, AttributeError):
            before = read_submission(self.files[0])
            validate_readable(before, self.tasks, self.unread, self.files[0])
            if _sizes(before) == _sizes(self.submission):
                self.submission = before
                places = ((task, test) for task, entries in before.items() for test in range(len(entries)))
                self._counts = {(task, test): MANY for task, test in places if before[task][test] != EMPTY}
        self.write()

    def update(self, ballot: Ballot, complete: bool = False) -> None:
        """Replace attempts by those of a ballot that has as many predictions of the test input, and write the files.

        Args:
            ballot: the ranked candidates of a pass.
            complete: whether the pass is complete: then its attempts replace others in any case.
        """
        attempts = make_submission(ballot, self.tasks)
        for task in self.tasks:
            for test, candidates in enumerate(ballot.get(task.id, ())):
                count = sum(candidate.count for candidate in candidates)
                if count and (complete or count >= self._counts.get((task.id, test), 0)):
                    self._counts[task.id, test] = count
                    self.submission[task.id][test] = attempts[task.id][test]
        self.write()

    def write(self) -> None:
        """Write every file atomically; one that cannot be written keeps its content, which is reported once."""
        for file in self.files:
            try:
                write_submission(file, self.submission)
                self._failed.discard(file)
            except OSError as error:
                if file not in self._failed:
                    self.report_incident(f"{file} could not be written ({error.strerror}) and keeps its last content")
                self._failed.add(file)

    def is_valid(self) -> bool:
        """Return whether every file holds a complete and valid submission."""
        try:
            for file in self.files:
                validate_readable(read_submission(file), self.tasks, self.unread, file)
        except SubmissionError:
            return False
        return True


def _sizes(submission: Submission) -> dict[str, int]:
    """Return the number of test inputs of each task."""
    return {task: len(entries) for task, entries in submission.items()}
