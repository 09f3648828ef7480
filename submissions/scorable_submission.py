"""Decide what a score makes of an incomplete submission: what counts as wrong, and what is refused.

A task, entry or attempt that is missing, null or [] counts as wrong, and `describe_gaps` says how many there are.
Refused is what cannot be a submission of these tasks: a malformed grid, more entries than test inputs, none of the
tasks, or no attempt under its name.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

from augment.sources.fast_json import escape
from augment.task import Task
from submissions.submission_file import ATTEMPTS, Submission, check_grids
from submissions.submission_json import SubmissionError

NAMES_SHOWN = 5


def select_scorable(
    submission: Submission, tasks: Sequence[Task], source: str, file: str | Path = "the submission"
) -> Submission:
    """Return the entries of `tasks`, checked. Attempts may still be missing, None or [].

    Args:
        submission: as it was read.
        tasks: the tasks that are scored.
        source: their source, for messages.
        file: the name of the submission in messages.

    Raises:
        SubmissionError: if this cannot be a submission of these tasks.
    """
    selected = {task.id: submission[task.id] for task in tasks if task.id in submission}
    if submission and not selected:
        raise SubmissionError(f"{file}: has none of the selected tasks of {source}", "name the source it is for")
    check_grids(selected, file)
    for task in tasks:
        number = len(selected.get(task.id, []))
        if number > len(task.tests):
            raise SubmissionError(
                f"{file}: task {task.id} has {number} entries for {len(task.tests)} test inputs",
                "score with the source that was predicted",
            )
    entries = [entry for task_entries in selected.values() for entry in task_entries]
    if entries and not any(name in entry for entry in entries for name in ATTEMPTS):
        raise SubmissionError(
            f"{file}: no entry has {' or '.join(ATTEMPTS)}; the names are {_list_names(entries)}", "rename the attempts"
        )
    return selected


def describe_gaps(submission: Submission, tasks: Sequence[Task], source: str, file: str | Path) -> list[str]:
    """Return a line for each kind of gap in a submission, with its number, the first place, and what it counts as.

    Args:
        submission: as it was read; `select_scorable` accepts it for the same tasks.
        tasks: the tasks that are scored.
        source: their source.
        file: the name of the submission.
    """
    entries = [
        (f"task {task.id}, entry {place}", entry)
        for task in tasks
        for place, entry in enumerate(submission.get(task.id, []))
    ]
    attempts = [(f"{place}, {name}", entry, name) for place, entry in entries for name in ATTEMPTS]
    absent = [task.id for task in tasks if task.id not in submission]
    short = [
        f"task {task.id}, entry {place}"
        for task in tasks
        if task.id in submission
        for place in range(len(submission[task.id]), len(task.tests))
    ]
    empty = [place for place, entry, name in attempts if name in entry and not entry[name]]
    missing = [place for place, entry, name in attempts if name not in entry]
    others = [f"{place}: {_list_names([entry])}" for place, entry in entries if entry.keys() - set(ATTEMPTS)]
    foreign = [f"task {escape(task_id)}" for task_id in submission.keys() - {task.id for task in tasks}]
    total = len(attempts)
    outputs = sum(len(task.tests) for task in tasks)
    gaps = [
        (absent, f"of {len(tasks)} tasks are not in {file} and count as wrong"),
        (short, f"of {outputs} test inputs have no entry in {file} and count as wrong"),
        (empty, f"of {total} attempts in {file} are null or [] and count as wrong"),
        (missing, f"of {total} attempts are missing in entries of {file} and count as wrong"),
        (others, f"of {len(entries)} entries of {file} have other names than {' and '.join(ATTEMPTS)}: not scored"),
        (
            sorted(foreign),
            f"of {len(submission)} tasks in {file} are not among the selected ones of {source}: not scored",
        ),
    ]
    return [f"{len(places)} {text} (first: {places[0]})" for places, text in gaps if places]


def _list_names(entries: Iterable[dict]) -> str:
    """Return the names in these entries that are not attempts, the first few."""
    names = list(dict.fromkeys(escape(name) for entry in entries for name in entry if name not in ATTEMPTS))
    return ", ".join(names[:NAMES_SHOWN]) + (", ..." if len(names) > NAMES_SHOWN else "") or "none"
