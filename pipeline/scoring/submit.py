"""The last stages of a run, from predictions to submission, score and report, and the commands that repeat them."""

from pathlib import Path
from typing import Literal

from rich.table import Table

from augment import Selection, Task, load_tasks
from augment.errors import UserError
from augment.sources.load import find_source_label
from augment.storage import refuse_existing, write_json, write_new_file
from augment.text_files import read_json
from pipeline.config.run_config import RunConfig, build_config
from pipeline.runtime.console import Console
from pipeline.runtime.provenance import read_versions
from pipeline.runtime.run_folder import RunFolder, read_metrics
from pipeline.scoring.score import find_scorable, read_pooled, write_about
from pipeline.scoring.score_tables import score_table
from pipeline.scoring.scored_tasks import load_scored
from pipeline.scoring.unreachable_colours import describe_unreachable
from submissions.predictions import Predictions
from submissions.rankers import RANKERS
from submissions.report.html_report import write_report
from submissions.report.views import Recursions
from submissions.scorable_submission import select_scorable
from submissions.score import Score, score_predictions
from submissions.submission_file import (
    Submission,
    encode_submission,
    make_submission,
    placeholder_submission,
    read_submission,
    write_submission,
)
from submissions.vote import Ballot, vote


def open_submission(tasks: list[Task], run: RunFolder) -> None:
    """Write a valid submission of placeholders, unless an earlier part of this run already wrote a submission."""
    if run.first and not run.submission.exists():
        write_submission(run.submission, placeholder_submission(tasks))


def submit(ballot: Ballot, tasks: list[Task], run: RunFolder) -> Submission:
    """Write the first two candidates of each test input to submission.json, and return them."""
    submission = make_submission(ballot, tasks)
    write_submission(run.submission, submission)
    return submission


def score_run(
    config: RunConfig,
    tasks: list[Task],
    predictions: Predictions | None,
    ballot: Ballot | None,
    submission: Submission,
    run: RunFolder,
) -> Score | None:
    """Write the report, and, if all solutions are known, score.json; returns the score, or None without solutions."""
    score = None
    if predictions and ballot is not None and all(task.has_solutions for task in tasks):
        score = score_predictions(predictions, tasks, find_source_label(config.source), ballot, submission)
        write_json(run.score, score.to_json())
        run.show(score_table(score))
        if unreachable := describe_unreachable(config, tasks):
            run.log(unreachable)
    recursions = predictions.recursions if predictions else None
    draw_report(run.path, tasks, submission, ballot, score, recursions)
    return score


def vote_file(folders: list[Path], source: str, selection: Selection, ranker: str, out: Path, console: Console) -> None:
    """Write the submission of the selected tasks from a vote on predictions, pooled if there are several folders.

    Raises:
        UserError: `out` exists already and is not this submission.
    """
    predictions = read_pooled(folders)
    tasks = load_scored(source, selection, console)
    ballot = vote(predictions, tasks, ranker)
    empty = [task.id for task in tasks for candidates in ballot[task.id] if not candidates]
    if empty:
        total = sum(len(task.tests) for task in tasks)
        console.log(
            f"{len(empty)} of {total} test inputs have no prediction and get the placeholder [[0]] "
            f"(first task: {empty[0]})"
        )
    text = encode_submission(make_submission(ballot, tasks), out)
    if out.exists() and (not out.is_file() or out.read_bytes() != text.encode()):
        refuse_existing(out)
    write_about(out, text, predictions, ranker)
    is_new = write_new_file(out, text)
    console.log(f"written: {out}" if is_new else f"{out} holds this submission already")


def rankers_table() -> Table:
    """Return a table of all rankers, with their rule, source and measured score."""
    table = Table("ranker", "orders by", "source", "scored", box=None, title="Rankers", title_justify="left")
    for ranker in RANKERS.values():
        table.add_row(ranker.name, (ranker.rank.__doc__ or "").strip(), ranker.source, ranker.scored)
    return table


def redraw_report(path: Path, form: Literal["file", "folder"] = "file") -> Path:
    """Write a run's report again from its submission and predictions; returns the file, or the folder of files.

    Raises:
        UserError: `path` is not a run folder.
    """
    if not (path / "config.json").is_file():
        raise UserError(f"{path}: is not a run folder (it has no config.json)", "name the folder of a run")
    scorable = find_scorable(path)
    source = scorable.only_source()
    tasks = load_tasks(source, scorable.asked[source])
    ballot = scorable.ballot(tasks)
    file = path / "submission.json"
    submission = select_scorable(read_submission(file), tasks, source, file)
    solutions_known = all(task.has_solutions for task in tasks)
    score = scorable.score(submission, tasks, source, ballot) if solutions_known else None
    recursions = scorable.answers.recursions if scorable.answers else None
    return draw_report(path, tasks, submission, ballot, score, recursions, form)


def draw_report(
    path: Path,
    tasks: list[Task],
    submission: Submission,
    ballot: Ballot | None,
    score: Score | None,
    recursions: Recursions | None = None,
    form: Literal["file", "folder"] = "file",
) -> Path:
    """Write a run's report, with settings, versions and training curves from the files of the run folder."""
    config = build_config(read_json(path / "config.json"))
    versions = read_versions(path)
    info = {
        "recipe": config.recipe,
        "source": config.source,
        "seed": config.seed,
        "augmentations": config.puzzles.augmentations,
        "commit": versions.get("commit") or "unknown",
        "torch": versions.get("torch"),
    }
    report = path / ("report.html" if form == "file" else "report")
    write_report(
        report, tasks, submission, title=f"{config.source}, recipe {config.recipe}", ballot=ballot, score=score,
        run_info=info, curves=read_metrics(path), recursions=recursions, form=form,
    )  # fmt: skip
    return report
