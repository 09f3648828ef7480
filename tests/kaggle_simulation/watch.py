"""What a run's submission is worth while it goes: files and the tasks' outputs come in, a history of looks goes out."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from augment import Task
from submissions.submission_file import PLACEHOLDER, Submission, read_submission, validate_submission
from submissions.submission_json import SubmissionError

FIRST_WITHIN = 10.0
"""Seconds after which a complete and valid submission must lie there."""


@dataclass(frozen=True)
class Look:
    """One look: seconds since the start, what is wrong with the files, test inputs answered and outputs right."""

    seconds: float
    problem: str
    answered: int
    solved: int


class Watch:
    """The looks at the files of one submission, of which the first is judged.

    Args:
        tasks: those that the submission must answer.
        judged: those whose outputs count, and are known.
        due: seconds after which a submission must be there.
    """

    def __init__(self, files: Sequence[Path], tasks: Sequence[Task], judged: Sequence[Task], due: float = FIRST_WITHIN):
        self.files, self.tasks, self.judged, self.due = files, tasks, judged, due
        self.looks: list[Look] = []

    def look(self, seconds: float) -> None:
        """Read every file as it is now; before a first submission is due, one that is missing is no problem."""
        problems, answered, solved = [], 0, 0
        for number, file in enumerate(self.files):
            if seconds < self.due and not self.looks and not file.exists():
                return
            try:
                submission = read_submission(file)
                validate_submission(submission, self.tasks, file)
            except SubmissionError as error:
                problems.append(str(error))
                continue
            if number == 0:
                answered, solved = count_answered(submission), count_solved(submission, self.judged)
        self.looks.append(Look(seconds, "; ".join(problems), answered, solved))

    @property
    def problems(self) -> list[Look]:
        """The looks that found something wrong."""
        return [look for look in self.looks if look.problem]

    @property
    def last(self) -> Look:
        """The last look; one that found nothing where there was none."""
        return self.looks[-1] if self.looks else Look(0.0, "no submission was seen", 0, 0)


def count_answered(submission: Submission) -> int:
    """Test inputs with an answer that is not the placeholder."""
    placeholder = {"attempt_1": PLACEHOLDER, "attempt_2": PLACEHOLDER}
    return sum(entry != placeholder for entries in submission.values() for entry in entries)


def count_solved(submission: Submission, judged: Sequence[Task]) -> int:
    """Test outputs that are one of the two attempts."""
    return sum(
        pair.output is not None and pair.output.tolist() in entry.values()
        for task in judged
        for pair, entry in zip(task.tests, submission[task.id], strict=True)
    )
