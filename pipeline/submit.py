"""Predictions in; submission, score and report out: the last stage of a run, and the commands that repeat it."""

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from rich.table import Table
from rich.text import Text

from augment import Selection, Task, load_tasks
from augment.source import find_source_label
from pipeline.config import build_config
from pipeline.rundir import Console, RunFolder, read_json, write_json
from submissions.format import (
    Submission,
    make_submission,
    read_submission,
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
        score = score_submission(submission, tasks, source, ballot, predictions.trained_on)
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


def score_anything(what: Path, source: str | None, selection: Selection, console: Console) -> Score:
    """Score a submission file, a predictions folder or a run's folder against the source's solutions.

    Predictions and runs know their source and which of its tasks were asked for; the selection narrows that down.
    Every task selected counts, answered or not.
    """
    answer = find_answer(what)
    source = find_source_label(source or answer.only_source())
    tasks = load_tasks(source, answer.narrow(source, selection))
    ballot = answer.ballot(tasks)
    submission = (
        make_submission(ballot or {}, tasks) if answer.submission is None else read_submission(answer.submission)
    )
    missing = [task.id for task in tasks if task.id not in submission]
    if missing:
        console.log(f"{len(missing)} of {len(tasks)} tasks are not in {what} and count as wrong (first: {missing[0]})")
    wanted = {task.id for task in tasks}
    if submission and not wanted & submission.keys():
        raise ValueError(f"{what}: has no task of {source} that is selected; name the source it answers")
    selected = {name: submission[name] for name in submission if name in wanted}
    return score_submission(selected, tasks, source, ballot, answer.trained_on)


@dataclass(frozen=True)
class Answer:
    """What there is to score: a submission, predictions or both, and which tasks of which source were asked for."""

    path: Path
    submission: Path | None
    predictions: Path | None
    asked: dict[str, Selection] = field(default_factory=dict)
    ranker: str = "count"

    def only_source(self) -> str:
        """The source it answers; ValueError where there is none or more than one."""
        if len(self.asked) != 1:
            known = f"answers {', '.join(self.asked)}" if self.asked else "does not say what it answers"
            raise ValueError(f"{self.path}: {known}; name the SOURCE after it")
        return next(iter(self.asked))

    def narrow(self, source: str, selection: Selection) -> Selection:
        """The selection given, and where it leaves something open, what was asked for."""
        asked = self.asked.get(source, Selection())
        sides = [side for side in (selection.max_side, asked.max_side) if side]
        limits = [limit for limit in (selection.limit, asked.limit) if limit]
        return Selection(selection.tasks or asked.tasks, min(sides, default=None), min(limits, default=None))

    def ballot(self, tasks: list[Task]) -> Ballot | None:
        """The vote of its predictions, where there are some."""
        return vote(self.answers, tasks, self.ranker) if self.answers else None

    @cached_property
    def answers(self) -> Predictions | None:
        """Its predictions, where there are some."""
        return read_predictions(self.predictions) if self.predictions else None

    @property
    def trained_on(self) -> list[str] | None:
        """Tasks answered whose test outputs the model was trained on; None where that is not known."""
        return self.answers.trained_on if self.answers else None


def find_answer(what: Path) -> Answer:
    """Whatever there is to score at this path: a run's folder, a predictions folder or a submission."""
    if (what / "config.json").is_file():
        config = build_config(read_json(what / "config.json"))
        predictions = what / "predictions" if (what / "predictions").exists() else None
        asked = {find_source_label(config.source): config.selection.selection()}
        return Answer(what, what / "submission.json", predictions, asked, config.predict.ranker)
    if what.is_dir():
        sources = read_predictions(what).metadata.get("sources", {})
        return Answer(what, None, what, {name: Selection(tuple(ids)) for name, ids in sources.items()})
    return Answer(what, what, None)


def redraw_report(path: Path) -> Path:
    """Draw a run's report again from its submission and predictions; returns the file."""
    if not (path / "config.json").is_file():
        raise ValueError(f"{path}: not a run's folder (no config.json)")
    answer = find_answer(path)
    source = answer.only_source()
    tasks = load_tasks(source, answer.asked[source])
    ballot, submission = answer.ballot(tasks), read_submission(path / "submission.json")
    known = all(task.has_solutions for task in tasks)
    score = score_submission(submission, tasks, source, ballot, answer.trained_on) if known else None
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
        "commit": made.get("commit") or "unknown",
        "torch": made.get("torch"),
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
    if score.remark:
        table.caption, table.caption_style = Text(score.remark), "bold red" if score.trained_on else "dim"
        table.caption_justify = "left"
    return table


def _columns(figures: Figures) -> list[str]:
    shown = [
        (figures.macro, figures.macro_interval),
        (figures.micro, figures.micro_interval),
        (figures.all_or_nothing, figures.all_or_nothing_interval),
    ]
    return [f"{100 * value:.1f}% [{100 * low:.1f}, {100 * high:.1f}]" for value, (low, high) in shown]
