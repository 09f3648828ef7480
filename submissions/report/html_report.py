"""Write the HTML report of a run: tasks, attempts, candidates and scores, viewable offline.

The input is tasks, their submission and, where available, ballot, score, training curves and recursion traces. The
output is one file or, for large sets, a folder. Neither loads anything else.

    report.html              everything in one file, or
    FOLDER/index.html        the overview with a tile per task
    FOLDER/tasks/0.js ...    the data of each task page, loaded when the page is opened

`views.py` defines the data shown for a task, `charts.py` the charts over all tasks. `report.html.j2`, `report.css`,
`drawing.js`, `task.js` and `report.js` define appearance and behaviour. The page contains the tiles as JSON, and one
blob per task: deflated JSON in base64, which the browser decompresses when the task page is opened.
"""

import json
import zlib
from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from augment.errors import UserError
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
    """Write the report to the file or folder `path` atomically, replacing an older report there.

    Args:
        path: the HTML file, or with `form` "folder" the folder.
        tasks: the tasks to show.
        submission: the attempts; a missing attempt is shown as "no prediction".
        title: name of the source or run.
        ballot: the candidates with their votes.
        score: figures for the headline.
        run_info: facts about the run, shown unchanged.
        curves: lines of the run's metrics.jsonl.
        recursions: recursion traces by (task ID, index of the test input).
        form: "file", or "folder" for one file per task page.

    Raises:
        ValueError: if the folder to replace contains something other than a report.
    """
    path = Path(path)
    views = [view_task(task, submission, ballot or {}, recursions) for task in tasks]
    blobs = [_pack(view) for view in views]
    page = _render_report(
        views,
        title=title,
        score=score,
        run_info=run_info or {},
        charts=draw_charts(views, score, curves),
        blobs=blobs if form == "file" else [],
    )
    if form == "file":
        write_file(path, page)
    else:
        _write_folder(path, page, blobs)


def _render_report(views: Sequence[TaskView], **values: object) -> str:
    """Return the page with the overview of `views`; `values` are the other variables of the template."""
    return render_page(
        "report.html.j2",
        kind="report",
        outcomes=_count_outcomes(views),
        labels=OUTCOMES,
        tasks=len(views),
        outputs=sum(len(view.tests) for view in views),
        wall=_to_script({"labels": OUTCOMES, "tiles": [asdict(view_tile(view)) for view in views]}),
        **values,
    )


def _write_folder(path: Path, page: str, blobs: Sequence[str]) -> None:
    """Write the page as the index and each blob as a script, named by number because an ID may not be a file name."""
    if path.exists() and not (path.is_dir() and {entry.name for entry in path.iterdir()} <= {INDEX, TASKS_FOLDER}):
        raise UserError(f"{path}: contains something other than a report and is not replaced", "name another folder")
    with new_folder(path, replace=True) as folder:
        (folder / TASKS_FOLDER).mkdir()
        (folder / INDEX).write_text(page, encoding="utf-8", newline="")
        for number, blob in enumerate(blobs):
            (folder / TASKS_FOLDER / f"{number}.js").write_text(f'receiveBlob({number},"{blob}")\n', encoding="ascii")


def _count_outcomes(views: Iterable[TaskView]) -> dict[str, int]:
    """Return the number of tasks per outcome, without outcomes that do not occur."""
    outcomes = [view.outcome for view in views]
    return {outcome: outcomes.count(outcome) for outcome in OUTCOMES if outcome in outcomes}


def _pack(view: TaskView) -> str:
    """Return the view of a task as a blob."""
    # A raw deflate stream (negative wbits) is what the browser's DecompressionStream("deflate-raw") expects.
    compressor = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    return b64encode(compressor.compress(_to_json(asdict(view)).encode()) + compressor.flush()).decode()


def _to_script(value: Any) -> str:
    """Return JSON with every "<" escaped, so that no text in it can end the enclosing script element."""
    return _to_json(value).replace("<", "\\u003c")


def _to_json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), allow_nan=False)
