"""Make, write, read and validate a `submission.json` in the competition's format.

A submission is made from a ballot or read from a file. Its format is
{task ID: [{"attempt_1": grid, "attempt_2": grid}, ...]}, with one entry per test input, in the order of the test
inputs. A grid is a list of rows of integers 0-9, with 1 to 30 rows and columns.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from augment.grid import GridError, parse_grid
from augment.sources.fast_json import escape
from augment.sources.lenient import UnreadableTask
from augment.storage import write_file
from augment.task import Task
from submissions.benchmarking_folder import read_benchmarking_folder
from submissions.submission_json import SubmissionError, read_submission_json
from submissions.vote import Ballot, Candidate

Submission = dict[str, list[dict[str, list[list[int]]]]]

ATTEMPTS = ("attempt_1", "attempt_2")
PLACEHOLDER = [[0]]
"""The attempt for a test input without predictions."""
EMPTY = {"attempt_1": PLACEHOLDER, "attempt_2": PLACEHOLDER}
"""The entry for a test input without predictions."""
PROBLEMS_SHOWN = 10


class Counts(NamedTuple):
    """Size of a valid submission: the number of tasks, and of entries (one per test input)."""

    tasks: int
    entries: int


def make_submission(ballot: Ballot, tasks: Iterable[Task]) -> Submission:
    """Return the first two candidates of every test input of `tasks` as a submission.

    As in the published evaluator, a single candidate is used for both attempts. Without candidates, both attempts are
    the placeholder [[0]].
    """
    return {
        task.id: [_to_entry(candidates) for candidates in ballot.get(task.id, [[]] * len(task.tests))] for task in tasks
    }


def placeholder_submission(tasks: Iterable[Task]) -> Submission:
    """Return a complete, valid submission with the placeholder for every test input."""
    return make_submission({}, tasks)


def write_submission(path: str | Path, submission: Submission) -> None:
    """Write `submission` to `path` atomically, tasks sorted by ID; SubmissionError if it is malformed."""
    write_file(Path(path), encode_submission(submission, path))


def encode_submission(submission: Submission, path: str | Path) -> str:
    """Return the text of a submission's file, tasks sorted by ID; SubmissionError if it is malformed."""
    _refuse(_find_malformed(submission), path)
    return json.dumps(dict(sorted(submission.items())))


def read_submission(path: str | Path) -> Submission:
    """Read a submission from a file, or from a folder of arc-agi-benchmarking (`submissions.benchmarking_folder`).

    Its content is checked by `validate_submission`, or when it is scored (`submissions.scorable_submission`): until
    then, attempts may be None or no grids.

    Raises:
        SubmissionError: if the path cannot be read, is not JSON (with line and column) or is not a JSON object.
    """
    path = Path(path)
    if path.is_dir():
        return read_benchmarking_folder(path)
    submission = read_submission_json(path)
    if isinstance(submission, list):
        raise SubmissionError(
            f"{path} is not a submission (not an object with task IDs but a list)",
            "if it is one task of a folder of arc-agi-benchmarking, give that folder",
        )
    if not isinstance(submission, dict):
        raise SubmissionError(f"{path} is not a submission (not an object with task IDs): write the file again")
    return submission


def validate_submission(submission: Submission, tasks: Iterable[Task], file: str | Path = "submission") -> Counts:
    """Check a submission against `tasks` by every rule of the format.

    Args:
        submission: the submission to check.
        tasks: the tasks that it must cover, no more and no fewer.
        file: the name of the submission in messages.

    Raises:
        SubmissionError: with the first problems, at most PROBLEMS_SHOWN, and their number.
    """
    tasks = list(tasks)
    problems = _find_mismatches(submission, tasks) + _find_wrong_names(submission)
    _refuse(problems + _find_malformed(submission), file)
    return Counts(len(submission), sum(len(entries) for entries in submission.values()))


def check_grids(submission: Submission, file: str | Path = "submission") -> None:
    """Check the entries of a submission, which may be incomplete: attempts may be missing, null or [].

    Raises:
        SubmissionError: with the entries that are malformed.
    """
    _refuse(_find_malformed(submission, grids_required=False), file)


def _to_entry(candidates: Sequence[Candidate]) -> dict[str, list[list[int]]]:
    grids = [candidate.grid.tolist() for candidate in candidates[: len(ATTEMPTS)]] or [PLACEHOLDER]
    return {name: grids[min(place, len(grids) - 1)] for place, name in enumerate(ATTEMPTS)}


def _refuse(problems: list[str], file: str | Path) -> None:
    if not problems:
        return
    lines = "".join(f"\n  {problem}" for problem in problems[:PROBLEMS_SHOWN])
    more = f"\n  and {len(problems) - PROBLEMS_SHOWN} more" if len(problems) > PROBLEMS_SHOWN else ""
    number = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
    raise SubmissionError(f"{file} is not a valid submission, {number}:{lines}{more}")


def _find_mismatches(submission: Submission, tasks: list[Task]) -> list[str]:
    """Return a message for each task that is missing or unknown or has the wrong number of entries."""
    counts = {task.id: len(task.tests) for task in tasks}
    foreign = map(escape, submission.keys() - counts.keys())
    problems = [f"task {task_id} is missing: add it" for task_id in counts.keys() - submission.keys()]
    problems += [f"task {task_id} is not in the source: remove it" for task_id in foreign]
    for task_id in counts.keys() & submission.keys():
        # Entries that are not a list are reported by _find_malformed.
        number = len(submission[task_id]) if isinstance(submission[task_id], list) else counts[task_id]
        if number != counts[task_id]:
            problems.append(f"task {task_id} has {number} entries: give one per test input ({counts[task_id]})")
    return sorted(problems)


def _find_wrong_names(submission: Submission) -> list[str]:
    """Return a message for each attempt that is missing from an entry, and for each unknown key."""
    problems = []
    for task_id, entries in submission.items():
        for place, entry in enumerate(entries if isinstance(entries, list) else []):
            names = entry.keys() if isinstance(entry, dict) else ATTEMPTS
            messages = [f"{name} is missing: add it" for name in ATTEMPTS if name not in names]
            messages += [f"{escape(name)} is not an attempt: remove it" for name in names if name not in ATTEMPTS]
            problems += [f"task {escape(task_id)}, entry {place}: {message}" for message in messages]
    return problems


def _find_malformed(submission: Submission, grids_required: bool = True) -> list[str]:
    """Return a message for each entry that is not an object, and for each attempt that is not a grid."""
    problems = []
    for task_id, entries in submission.items():
        task = f"task {escape(task_id)}"
        if isinstance(entries, list):
            for place, entry in enumerate(entries):
                problems += _find_bad_grids(entry, f"{task}, entry {place}", grids_required)
        else:
            problems.append(f"{task} is not a list of entries, one per test input")
    return problems


def _find_bad_grids(entry: Any, location: str, grids_required: bool) -> Iterator[str]:
    if not isinstance(entry, dict):
        yield f"{location} is not an object with {' and '.join(ATTEMPTS)}"
        return
    for name in [name for name in ATTEMPTS if name in entry]:
        if entry[name] is None or entry[name] == []:
            if grids_required:
                yield f"{location}, {name} is {json.dumps(entry[name])}: give a grid, for no prediction [[0]]"
            continue
        try:
            parse_grid(entry[name], f"{location}, {name}")
        except GridError as error:
            yield str(error)


def validate_readable(
    submission: Submission, tasks: Sequence[Task], unread: Sequence[UnreadableTask], file: str | Path = "submission"
) -> Counts:
    """Check a submission against `tasks` and the tasks `unread`, which could not be read.

    The unread tasks must be present and well-formed too, but their number of entries is not checked because it is not
    certain.

    Raises:
        SubmissionError: with the problems of `file`.
    """
    unread_ids = {task.task for task in unread}
    readable = {task: entries for task, entries in submission.items() if task not in unread_ids}
    validate_submission(readable, tasks, file)
    if missing := sorted(unread_ids - submission.keys()):
        raise SubmissionError(f"{file} is not a valid submission: task {missing[0]} is missing: add it")
    check_grids(submission, file)
    return Counts(len(submission), sum(map(len, submission.values())))


def placeholder_for(tasks: Sequence[Task], unread: Sequence[UnreadableTask]) -> Submission:
    """Return the placeholder for every test input, including those of tasks that could not be read."""
    unread_entries = {task.task: [dict(EMPTY) for _ in range(task.tests)] for task in unread}
    return placeholder_submission(tasks) | unread_entries
