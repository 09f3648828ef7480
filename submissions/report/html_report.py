"""One HTML page that shows what was asked, what was answered and what was right; it opens offline.

In: tasks, their submission and, where there are, ballot, score, training curves and recursions. Out: a file, or for
large sets a folder, that asks for nothing outside itself.

    report.html              everything in one file, or
    FOLDER/index.html        the overview and the wall of tasks
    FOLDER/tasks/0.js ...    what a task's page shows, fetched when it is opened

`views.py` says what is shown of a task, `charts.py` of all together; `report.html.j2`, `report.css`, `drawing.js`,
`task.js` and `report.js` say how it looks and moves. The page holds the wall as JSON, and of each task a blob: JSON,
deflated, in base64, inflated by the browser when the task is opened.
"""

import json
import zlib
from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from augment.storage import new_folder, write_file
from augment.task import Task
from submissions.report.charts import Curves, draw_charts
from submissions.report.template import render_page
from submissions.report.views import OUTCOMES, Recursions, TaskView, view_task, view_tile
from submissions.score import Score
from submissions.submission_file import Submission
from submissions.vote import Ballot

INDEX = "index.html"
TASKS_FOLDER = "tasks"
Form = Literal["file", "folder"]


def write_report(
    path: str | Path,
    tasks: Iterable[Task],
    submission: Submission,
    *,
    title: str,
    ballot: Ballot | None = None,
    score: Score | None = None,
    run_info: Mapping[str, object] | None = None,
    curves: Curves = (),
    recursions: Recursions | None = None,
    form: Form = "file",
) -> None:
    """Write the page to the file or folder `path`, whole or not at all; an older report there is replaced.

    Args:
        path: the HTML file, or with `form` "folder" the folder.
        tasks: what was asked.
        submission: what was answered; what is missing from it is shown as no answer.
        title: what was solved.
        ballot: the candidates with their votes.
        score: shown as the headline.
        run_info: how it was made, shown as it is.
        curves: lines of the run's metrics.jsonl.
        recursions: by (task ID, test input).
        form: one file, or a folder whose task pages are files of their own.

    Raises:
        ValueError: where the folder to replace holds something else than a report.
    """
    path = Path(path)
    views = [view_task(task, submission, ballot or {}, recursions) for task in tasks]
    blobs = [_pack(view) for view in views]
    page = render_page(
        "report.html.j2",
        title=title,
        kind="report",
        score=score,
        run_info=run_info or {},
        outcomes=_count_outcomes(views),
        labels=OUTCOMES,
        tasks=len(views),
        outputs=sum(len(view.tests) for view in views),
        charts=draw_charts(views, score, curves),
        wall=_to_script({"labels": OUTCOMES, "tiles": [asdict(view_tile(view)) for view in views]}),
        blobs=blobs if form == "file" else [],
    )
    if form == "file":
        write_file(path, page)
    else:
        _write_folder(path, page, blobs)


def _write_folder(path: Path, page: str, blobs: Sequence[str]) -> None:
    """The page as an index, and a script for each blob, named by the task's number: an ID may be no file name."""
    if path.exists() and not (path.is_dir() and {entry.name for entry in path.iterdir()} <= {INDEX, TASKS_FOLDER}):
        raise ValueError(f"{path}: holds something else than a report and is not replaced; name another folder")
    with new_folder(path, replace=True) as folder:
        (folder / TASKS_FOLDER).mkdir()
        (folder / INDEX).write_text(page, encoding="utf-8", newline="")
        for number, blob in enumerate(blobs):
            (folder / TASKS_FOLDER / f"{number}.js").write_text(f'receiveBlob({number},"{blob}")\n', encoding="ascii")


def _count_outcomes(views: Iterable[TaskView]) -> dict[str, int]:
    """How many tasks ended how, without what never occurred."""
    found = [view.outcome for view in views]
    return {outcome: found.count(outcome) for outcome in OUTCOMES if outcome in found}


def _pack(view: TaskView) -> str:
    """A task's view as a blob."""
    packer = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    return b64encode(packer.compress(_to_json(asdict(view)).encode()) + packer.flush()).decode()


def _to_script(value: Any) -> str:
    """JSON that cannot end the script element it stands in, whatever it holds."""
    return _to_json(value).replace("<", "\\u003c")


def _to_json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), allow_nan=False)
