"""The competition's submission format: making, writing, reading and strictly checking a `submission.json`.

In: a ballot, or a file. Out: {task ID: [{"attempt_1": grid, "attempt_2": grid}, ...]}, one entry per test
input in their order, grids as lists of rows of whole numbers 0-9, 1 to 30 cells a side.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from augment.grid import GridError, parse_grid
from augment.sources.lenient import UnreadableTask
from augment.storage import write_file
from augment.task import Task
from submissions.vote import Ballot, Candidate

Submission = dict[str, list[dict[str, list[list[int]]]]]

ATTEMPTS = ("attempt_1", "attempt_2")
PLACEHOLDER = [[0]]
PROBLEMS_SHOWN = 10


class SubmissionError(ValueError):
    """A submission that would be refused; the message lists what is wrong with it."""


class Counts(NamedTuple):
    """How much a valid submission holds: `entries` is the number of test inputs answered."""

    tasks: int
    entries: int


def make_submission(ballot: Ballot, tasks: Iterable[Task]) -> Submission:
    """The first two candidates of every test input of `tasks`.

    A single candidate is given twice, as published; without any, both attempts are the filler [[0]].
    """
    return {
        task.id: [_to_entry(candidates) for candidates in ballot.get(task.id, [[]] * len(task.tests))] for task in tasks
    }


def placeholder_submission(tasks: Iterable[Task]) -> Submission:
    """A complete valid submission that answers nothing."""
    return make_submission({}, tasks)


def write_submission(path: str | Path, submission: Submission) -> None:
    """Write `submission` to `path` in one step, tasks sorted by ID; SubmissionError if it is malformed."""
    _refuse(_find_malformed(submission), path)
    write_file(Path(path), json.dumps(dict(sorted(submission.items()))))


def read_submission(path: str | Path) -> Submission:
    """Read a JSON object from `path`; SubmissionError with line and column where it is not one.

    What the object holds is checked by `validate_submission`, and by scoring it.
    """
    try:
        submission = json.loads(Path(path).read_text(encoding="utf-8"), object_pairs_hook=_refuse_repeated)
    except OSError as error:
        message = f"{path} cannot be read ({error.strerror}): give an existing submission.json"
        raise SubmissionError(message) from error
    except json.JSONDecodeError as error:
        where = f"{path}, line {error.lineno}, column {error.colno}"
        raise SubmissionError(f"{where} is not JSON ({error.msg}): write the file again") from error
    except (ValueError, RecursionError) as error:
        raise SubmissionError(f"{path} is not a submission ({error}): write the file again") from error
    if not isinstance(submission, dict):
        raise SubmissionError(f"{path} is not a submission (no object of task IDs): write the file again")
    return submission


def validate_submission(submission: Submission, tasks: Iterable[Task], file: str | Path = "submission") -> Counts:
    """Check every rule of the format against `tasks`; SubmissionError lists the problems of `file`."""
    tasks = list(tasks)
    problems = _find_mismatches(submission, tasks) + _find_wrong_names(submission)
    _refuse(problems + _find_malformed(submission), file)
    return Counts(len(submission), sum(len(entries) for entries in submission.values()))


def check_grids(submission: Submission, file: str | Path = "submission") -> None:
    """Check what is there, not what is missing; SubmissionError lists the malformed parts of `file`."""
    _refuse(_find_malformed(submission), file)


def _to_entry(candidates: Sequence[Candidate]) -> dict[str, list[list[int]]]:
    grids = [candidate.grid.tolist() for candidate in candidates[: len(ATTEMPTS)]] or [PLACEHOLDER]
    return {name: grids[min(place, len(grids) - 1)] for place, name in enumerate(ATTEMPTS)}


def _refuse(problems: list[str], file: str | Path) -> None:
    if not problems:
        return
    shown = "".join(f"\n  {problem}" for problem in problems[:PROBLEMS_SHOWN])
    more = f"\n  and {len(problems) - PROBLEMS_SHOWN} more" if len(problems) > PROBLEMS_SHOWN else ""
    number = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
    raise SubmissionError(f"{file} is not a valid submission, {number}:{shown}{more}")


def _find_mismatches(submission: Submission, tasks: list[Task]) -> list[str]:
    """Task IDs and entries that are missing or too many."""
    wanted = {task.id: len(task.tests) for task in tasks}
    problems = [f"task {task_id} is missing: add it" for task_id in wanted.keys() - submission.keys()]
    problems += [f"task {task_id} is not wanted: remove it" for task_id in submission.keys() - wanted.keys()]
    for task_id in wanted.keys() & submission.keys():
        found = len(submission[task_id]) if isinstance(submission[task_id], list) else wanted[task_id]
        if found != wanted[task_id]:
            problems.append(f"task {task_id} has {found} entries: give one per test input, {wanted[task_id]}")
    return sorted(problems)


def _find_wrong_names(submission: Submission) -> list[str]:
    """Attempts that are missing or too many in the entries."""
    problems = []
    for task_id, entries in submission.items():
        for place, entry in enumerate(entries if isinstance(entries, list) else []):
            names = entry.keys() if isinstance(entry, dict) else ATTEMPTS
            wrong = [f"{name} is missing: add it" for name in ATTEMPTS if name not in names]
            wrong += [f"{name} is not an attempt: remove it" for name in names if name not in ATTEMPTS]
            problems += [f"task {task_id}, entry {place}: {what}" for what in wrong]
    return problems


def _find_malformed(submission: Submission) -> list[str]:
    """Entries that are no objects of attempts, and attempts that are no grids."""
    problems = []
    for task_id, entries in submission.items():
        if isinstance(entries, list):
            for place, entry in enumerate(entries):
                problems += _find_bad_grids(entry, f"task {task_id}, entry {place}")
        else:
            problems.append(f"task {task_id} is not a list of entries, one per test input")
    return problems


def _find_bad_grids(entry: Any, where: str) -> Iterator[str]:
    if not isinstance(entry, dict):
        yield f"{where} is not an object with {' and '.join(ATTEMPTS)}"
        return
    for name in [name for name in ATTEMPTS if name in entry]:
        try:
            parse_grid(entry[name], f"{where}, {name}")
        except GridError as error:
            yield str(error)


def _refuse_repeated(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        repeated = min(key for key, times in Counter(key for key, _ in pairs).items() if times > 1)
        raise ValueError(f"{repeated} is there twice")
    return members


EMPTY = {"attempt_1": PLACEHOLDER, "attempt_2": PLACEHOLDER}


def validate_readable(
    submission: Submission, tasks: Sequence[Task], unread: Sequence[UnreadableTask], file: str | Path = "submission"
) -> Counts:
    """Check every rule of the format against tasks of which some could not be read; SubmissionError lists problems.

    Those must be there too, well-formed; how many entries they need cannot be told.
    """
    unknown = {each.task for each in unread}
    known = {task: entries for task, entries in submission.items() if task not in unknown}
    validate_submission(known, tasks, file)
    if missing := sorted(unknown - submission.keys()):
        raise SubmissionError(f"{file} is not a valid submission: task {missing[0]} is missing: add it")
    check_grids(submission, file)
    return Counts(len(submission), sum(map(len, submission.values())))


def placeholder_for(tasks: Sequence[Task], unread: Sequence[UnreadableTask]) -> Submission:
    """The filler for every test input, those of tasks that could not be read included."""
    empty = {each.task: [dict(EMPTY) for _ in range(each.tests)] for each in unread}
    return placeholder_submission(tasks) | empty
