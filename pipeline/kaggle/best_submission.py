"""The best submission so far: ballots come in as predictions are made, and files that are always valid go out.

A pass that is done replaces the attempts of the one before, whose model had learnt less. One that is under way, or was
cut short, replaces those of test inputs that it has at least as many answers to, so that nothing else suffers.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from augment import Task
from augment.sources.lenient import UnreadableTask
from submissions.submission_file import (
    EMPTY,
    Submission,
    SubmissionError,
    make_submission,
    placeholder_for,
    read_submission,
    validate_readable,
    write_submission,
)
from submissions.vote import Ballot

MANY = 10**9
"""Answers that stand for those of a run that is gone on with: only a pass that is done replaces them."""


class BestSubmission:
    """The submission of one run, in all the files that it is written to.

    Args:
        tasks: those that are answered.
        unread: those that could not be read, which keep the filler.
        files: where it is written; the first is read when a run goes on.
        report_incident: told what went wrong.
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
        self._answers: dict[tuple[str, int], int] = {}
        self._failed: set[Path] = set()

    @property
    def inputs(self) -> int:
        """How many test inputs there are."""
        return sum(map(len, self.submission.values()))

    @property
    def answered(self) -> int:
        """How many of them have an answer that is not the filler."""
        return sum(entry != EMPTY for entries in self.submission.values() for entry in entries)

    def begin(self) -> None:
        """Write the filler; where the run is gone on with, what it had reached."""
        with suppress(SubmissionError, TypeError, AttributeError):
            before = read_submission(self.files[0])
            validate_readable(before, self.tasks, self.unread, self.files[0])
            if _sizes(before) == _sizes(self.submission):
                self.submission = before
                places = ((task, test) for task, entries in before.items() for test in range(len(entries)))
                self._answers = {(task, test): MANY for task, test in places if before[task][test] != EMPTY}
        self.write()

    def improve(self, ballot: Ballot, complete: bool = False) -> None:
        """Take over what this ballot knows at least as well, of a complete pass all that it knows, and write it."""
        better = make_submission(ballot, self.tasks)
        for task in self.tasks:
            for test, candidates in enumerate(ballot.get(task.id, ())):
                answers = sum(candidate.count for candidate in candidates)
                if answers and (complete or answers >= self._answers.get((task.id, test), 0)):
                    self._answers[task.id, test] = answers
                    self.submission[task.id][test] = better[task.id][test]
        self.write()

    def write(self) -> None:
        """Write every file in one step each; one that cannot be written keeps what it held, and that is said once."""
        for file in self.files:
            try:
                write_submission(file, self.submission)
                self._failed.discard(file)
            except OSError as error:
                if file not in self._failed:
                    self.report_incident(f"{file} could not be written ({error.strerror}) and keeps what it held")
                self._failed.add(file)

    def is_valid(self) -> bool:
        """Whether every file holds a complete and valid submission."""
        try:
            for file in self.files:
                validate_readable(read_submission(file), self.tasks, self.unread, file)
        except SubmissionError:
            return False
        return True


def _sizes(submission: Submission) -> dict[str, int]:
    return {task: len(entries) for task, entries in submission.items()}
