"""Read the results of arcprize/arc-agi-benchmarking: a folder with a file per task, as a submission.

A file TASK.json holds a list with one entry per test input:

    [{"attempt_1": {"answer": grid, "metadata": {"pair_index": 0, ...}, ...}, "attempt_2": null}, ...]

An answer is a grid, as a list or as JSON text, or [] for none. The number of the test input is `pair_index`; an entry
without any is for the test input at its own place. An entry that is left out has no answers.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from augment.sources.fast_json import escape
from submissions.submission_json import SubmissionError, read_submission_json

TOTALS_FILE = "results.json"
"""The totals that the benchmark's scorer may write into the folder."""
MAX_TESTS = 100
"""Far more test inputs than any task has; a higher `pair_index` is an error."""


def find_task_files(folder: Path) -> list[Path]:
    """Return the files of tasks in a benchmarking folder, sorted by name; hidden files and the totals are no tasks."""
    files = folder.glob("*.json")
    return sorted(file for file in files if file.name != TOTALS_FILE and not file.name.startswith("."))


def read_benchmarking_folder(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """Return the attempts of every task in the folder in the form of a submission; an attempt may be None.

    Raises:
        SubmissionError: if there is no task file, or if a file has another form; the message names the file.
    """
    files = find_task_files(folder)
    if not files:
        raise SubmissionError(
            f"{folder} is a folder without .json files",
            "give a submission.json, or a folder of arc-agi-benchmarking with a .json file per task",
        )
    return {file.stem: _read_task(file) for file in files}


def _read_task(file: Path) -> list[dict[str, Any]]:
    entries = read_submission_json(file)
    if not isinstance(entries, list):
        raise SubmissionError(
            f"{file} is not a list with an entry per test input, as in a folder of arc-agi-benchmarking",
            "to score a submission.json, give the path of the file instead of its folder",
        )
    by_place: dict[int, dict[str, Any]] = {}
    for number, entry in enumerate(entries):
        where = f"{file}, entry {number}"
        if not isinstance(entry, dict):
            raise SubmissionError(f"{where} is not an object with attempt_1 and attempt_2", "correct the file")
        place = _find_place(entry, number, where)
        if place is None:  # an entry without answers
            continue
        if place in by_place:
            raise SubmissionError(f"{where} is for pair_index {place}, as an entry before it is", "correct the file")
        by_place[place] = {name: _find_answer(attempt, f"{where}, {escape(name)}") for name, attempt in entry.items()}
    count = max([len(entries), *(place + 1 for place in by_place)])
    return [by_place.get(place, {"attempt_1": None, "attempt_2": None}) for place in range(count)]


def _find_place(entry: Mapping[str, Any], number: int, where: str) -> int | None:
    """Return the number of the test input of the entry at `number` in the file; None if the entry has no attempts."""
    attempts = [attempt for attempt in entry.values() if attempt is not None]
    metadata = [attempt.get("metadata") for attempt in attempts if isinstance(attempt, dict)]
    stated = [values["pair_index"] for values in metadata if isinstance(values, dict) and "pair_index" in values]
    places = [place for place in stated if place is not None]
    for place in places:
        if type(place) is not int or not 0 <= place < MAX_TESTS or place != places[0]:
            fix = f"write one number from 0 to {MAX_TESTS - 1} for all attempts of an entry"
            raise SubmissionError(f"{where}: pair_index is {place!r:.40}", fix)
    own = number if attempts else None
    return places[0] if places else own


def _find_answer(attempt: Any, where: str) -> Any:
    """Return the grid of an attempt as it is written; None where there is none."""
    if not isinstance(attempt, dict):
        return attempt
    if "answer" not in attempt:
        raise SubmissionError(f'{where} has no "answer"', 'write {"answer": grid}, or null for no attempt')
    answer = attempt["answer"]
    if not isinstance(answer, str):
        return answer
    try:
        return json.loads(answer)
    except (ValueError, RecursionError):
        raise SubmissionError(
            f"{where}: the answer {answer!r:.40} is not a grid", "write null for no attempt"
        ) from None
