"""Commands for predictions and submissions: vote, score, validate, report. None of them imports torch."""

import json
from pathlib import Path
from typing import Annotated

import typer

from augment import Selection
from augment.sources.lenient import load_readable_tasks
from pipeline.cli.app import Limit, MaxSide, Source, Tasks, app, selected
from pipeline.config.run_config import ConfigError
from pipeline.runtime.console import Console
from pipeline.scoring.results import to_json
from pipeline.scoring.score import score_path
from pipeline.scoring.score_tables import show_result
from pipeline.scoring.submit import rankers_table, redraw_report, vote_file
from submissions.submission_file import read_submission, validate_readable


@app.command("vote")
def vote_command(
    predictions: Annotated[Path | None, typer.Argument(help="A predictions folder")] = None,
    source: Annotated[str | None, typer.Argument(help="The source that was predicted")] = None,
    out: Annotated[Path | None, typer.Option(help="The submission file to write")] = None,
    ranker: Annotated[str, typer.Option(help="How candidates are ranked: a name, or a .py file")] = "count",
    merge: Annotated[
        list[Path] | None, typer.Option("--merge", metavar="FOLDER", help="Pool these predictions with the first ones")
    ] = None,
    listed: Annotated[bool, typer.Option("--list", help="List the rankers and what each has scored")] = False,
    tasks: Tasks = None,
    max_side: MaxSide = None,
    limit: Limit = None,
) -> None:
    """Make a submission from predictions by voting."""
    if listed:
        return Console().show(rankers_table())
    if predictions is None or source is None or out is None:
        raise ConfigError(
            "vote: predictions, SOURCE or --out is missing", "name all three, or use --list to see the rankers"
        )
    selection = Selection(**selected(tasks, max_side, limit))
    vote_file([predictions, *(merge or [])], source, selection, ranker, out, Console())


@app.command("score")
def score_command(
    what: Annotated[
        Path, typer.Argument(help="A submission.json, or a folder of predictions, a run or arc-agi-benchmarking")
    ],
    source: Annotated[
        str | None, typer.Argument(help="The source that was predicted; runs and predictions name their own")
    ] = None,
    against: Annotated[
        Path | None, typer.Option("--against", metavar="OTHER", help="Compare with another, on the same tasks")
    ] = None,
    rankers: Annotated[
        str, typer.Option("--rankers", metavar="all|NAME,NAME", help="Compare rankers on these predictions")
    ] = "",
    merge: Annotated[
        list[Path] | None, typer.Option("--merge", metavar="FOLDER", help="Pool these predictions with its own")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object")] = False,
    tasks: Tasks = None,
    max_side: MaxSide = None,
    limit: Limit = None,
) -> None:
    """Score against the source's solutions."""
    console = Console(stderr=as_json)
    selection = Selection(**selected(tasks, max_side, limit))
    results = score_path(what, source, selection, console, against, rankers, merge or [])
    if as_json:
        return print(json.dumps(to_json(results)))
    for result in results:
        console.show(show_result(result))


@app.command("validate")
def validate_command(
    submission: Annotated[Path, typer.Argument(help="A submission.json")],
    source: Source,
    tasks: Tasks = None,
    max_side: MaxSide = None,
    limit: Limit = None,
) -> None:
    """Check a submission by the competition's rules."""
    readable, unread = load_readable_tasks(source, Selection(**selected(tasks, max_side, limit)))
    counts = validate_readable(read_submission(submission), readable, unread, submission)
    console = Console()
    for task in unread:
        console.log(
            f"warning: task {task.task} of {source} cannot be read, and its entries were not counted ({task.why})"
        )
    console.log(f"{submission}: valid, {counts.tasks} tasks, {counts.entries} entries")


@app.command("report")
def report_command(
    run: Annotated[Path, typer.Argument(help="A run's folder")],
    folder: Annotated[
        bool,
        typer.Option(
            "--folder", help="For many tasks: write a folder of files, which a browser loads when a task is opened"
        ),
    ] = False,
) -> None:
    """Write a run's report again."""
    Console().log(f"written: {redraw_report(run, 'folder' if folder else 'file')}")
