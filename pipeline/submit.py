"""Predictions in; submission, score and report out: the last stage of a run, and the commands that repeat it."""

from dataclasses import dataclass, field
from pathlib import Path

from rich.table import Table

from augment import Selection, Task, load_tasks
from augment.source import find_source_label
from pipeline.config import build_config
from pipeline.rundir import RunFolder, read_json, write_json
from submissions.format import (
    Submission,
    make_submission,
    read_submission,
    validate_submission,
    write_submission,
)
from submissions.prediction import Predictions, read_predictions
from submissions.report import write_report
from submissions.score import Figures, Score, score_submission
from submissions.vote import Ballot, vote


def submit(predictions: Predictions, tasks: list[Task], ranker: str, source: str, run: RunFolder) -> Score | None:
    """Vote, write submission.json, score it where the solutions are known, and draw the report."""
    ballot = vote(predictions, tasks, ranker)
    submission = make_submission(ballot, tasks)
    write_submission(run.submission, submission)
    score = None
    if all(task.has_solutions for task in tasks):
        score = score_submission(submission, tasks, source, ballot)
        write_json(run.score, score.to_json())
        run.show(score_table(score))
    draw_report(run.path, tasks, submission, ballot, score)
    return score


def vote_file(folder: Path, source: str, selection: Selection, ranker: str, out: Path) -> None:
    """Vote a predictions folder into a submission for every task of the source that is selected."""
    if out.exists():
        raise ValueError(f"{out}: exists already and is not overwritten; name another file with --out")
    predictions, tasks = read_predictions(folder), load_tasks(source, selection)
    write_submission(out, make_submission(vote(predictions, tasks, ranker), tasks))


def score_anything(what: Path, source: str | None, selection: Selection) -> Score:
    """Score a submission file, a predictions folder or a run's folder against the source's solutions.

    Predictions and runs know their source and what was asked of it; a source or a selection given here holds instead.
    Every task selected counts, answered or not.
    """
    about = _about(what)
    same = source is None or about.source == find_source_label(source)
    source = source or about.source
    if source is None:
        raise ValueError(f"{what}: a submission does not say what it answers; name the SOURCE after it")
    if same and selection == Selection():
        selection = about.selection
    tasks = load_tasks(source, selection)
    predictions = read_predictions(about.predictions) if about.predictions else None
    ballot = vote(predictions, tasks, about.ranker) if predictions else None
    if about.submission:
        submission = read_submission(about.submission)
        validate_submission(submission, tasks, about.submission)
    else:
        submission = make_submission(ballot or {}, tasks)
    return score_submission(submission, tasks, source, ballot)


@dataclass(frozen=True)
class _About:
    """What there is to score, and what it knows of where it came from."""

    submission: Path | None
    predictions: Path | None
    source: str | None = None
    selection: Selection = field(default_factory=Selection)
    ranker: str = "count"


def _about(what: Path) -> _About:
    if (what / "config.json").is_file():
        config = build_config(read_json(what / "config.json"))
        predictions = what / "predictions"
        label, chosen = find_source_label(config.source), config.selection.selection()
        found = predictions if predictions.exists() else None
        return _About(what / "submission.json", found, label, chosen, config.predict.ranker)
    if what.is_dir():
        metadata = read_predictions(what).metadata
        return _About(None, what, metadata.get("source"), Selection(tuple(metadata.get("tasks", ()))))
    return _About(what, None)


def redraw_report(path: Path) -> Path:
    """Draw a run's report again from its submission and predictions; returns the file."""
    about = _about(path)
    if about.source is None:
        raise ValueError(f"{path}: not a run's folder (no config.json)")
    tasks = load_tasks(about.source, about.selection)
    ballot = vote(read_predictions(about.predictions), tasks, about.ranker) if about.predictions else None
    submission = read_submission(path / "submission.json")
    known = all(task.has_solutions for task in tasks)
    score = score_submission(submission, tasks, about.source, ballot) if known else None
    draw_report(path, tasks, submission, ballot, score)
    return path / "report.html"


def draw_report(
    path: Path, tasks: list[Task], submission: Submission, ballot: Ballot | None, score: Score | None
) -> None:
    """Write a run's report.html, with what the run's own files say of how it was made."""
    config, made = read_json(path / "config.json"), read_json(path / "versions.json")
    info = {
        "recipe": config["recipe"],
        "source": config["source"],
        "seed": config["seed"],
        "augmentations": config["puzzles"]["augmentations"],
        "commit": made["commit"] or "unknown",
        "torch": made["torch"],
    }
    title = f"{config['source']}, recipe {config['recipe']}"
    write_report(path / "report.html", tasks, submission, title=title, ballot=ballot, score=score, run_info=info)


def score_table(score: Score) -> Table:
    """The figures side by side, each with its 95% interval, macro (the leaderboard's) first."""
    title = f"{score.source}: {score.tasks} tasks, {score.outputs} test outputs"
    table = Table("", "macro", "micro", "all or nothing", title=title, title_justify="left", box=None)
    for name, figures in {"pass@1": score.pass_1, "pass@2": score.pass_2, "coverage": score.coverage}.items():
        if figures is not None:
            table.add_row(name, *_columns(figures), style="bold" if name == "pass@2" else "")
    return table


def _columns(figures: Figures) -> list[str]:
    shown = [
        (figures.macro, figures.macro_interval),
        (figures.micro, figures.micro_interval),
        (figures.all_or_nothing, figures.all_or_nothing_interval),
    ]
    return [f"{100 * value:.1f}% [{100 * low:.1f}, {100 * high:.1f}]" for value, (low, high) in shown]
