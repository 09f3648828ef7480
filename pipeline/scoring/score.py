"""Submissions, predictions or runs in; scores and comparisons out: the `score` command.

Predictions and runs know their sources and which of their tasks were asked for; a selection narrows that down. Every
task that is left counts, answered or not.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from augment import Selection, Task, load_tasks
from augment.errors import UserError
from augment.sources.load import find_source_label
from augment.storage import read_json, write_json
from augment.task import select_tasks
from pipeline.config.run_config import build_config
from pipeline.runtime.console import Console
from submissions.compare import BASELINE, Comparison, RankerComparison, compare, compare_rankers
from submissions.prediction_files import METADATA_FILE, read_predictions
from submissions.predictions import Predictions, merge_predictions
from submissions.rankers import RANKERS, find_ranker
from submissions.score import Score, score_predictions, score_submission
from submissions.submission_file import Submission, make_submission, read_submission
from submissions.vote import Ballot, vote

SHOWN = 5


@dataclass(frozen=True)
class Scorable:
    """What there is to score: a submission, predictions or both, and which tasks of which sources were asked for."""

    path: Path
    submission: Path | None
    answers: Predictions | None
    asked: dict[str, Selection] = field(default_factory=dict)
    ranker: str = BASELINE
    about: dict[str, Any] = field(default_factory=dict)
    """what `vote` wrote beside a submission"""

    def only_source(self) -> str:
        """The source it answers; ValueError where there is none or more than one."""
        if len(self.asked) != 1:
            known = f"answers {', '.join(self.asked)}" if self.asked else "does not say what it answers"
            raise UserError(f"{self.path}: {known}", "name the SOURCE after it")
        return next(iter(self.asked))

    def sources(self, source: str | None, selection: Selection) -> list[str]:
        """The source given, else all that it answers; ValueError where none is known, or tasks of several are named."""
        if source:
            return [find_source_label(source)]
        return list(self.asked) if self.asked and not selection.tasks else [self.only_source()]

    def narrow(self, source: str, selection: Selection) -> Selection:
        """The selection given, and where it leaves something open, what was asked for."""
        asked = self.asked.get(source, Selection())
        sides = [side for side in (selection.max_side, asked.max_side) if side]
        limits = [limit for limit in (selection.limit, asked.limit) if limit]
        return Selection(selection.tasks or asked.tasks, min(sides, default=None), min(limits, default=None))

    def load(self, source: str, selection: Selection) -> list[Task]:
        """The tasks selected, of those asked for unless they are named."""
        return load_tasks(source, self.narrow(source, selection))

    def ballot(self, tasks: list[Task]) -> Ballot | None:
        """The vote of its predictions, where there are some."""
        return vote(self.answers, tasks, self.ranker) if self.answers else None

    def score(self, submission: Submission, tasks: list[Task], source: str, ballot: Ballot | None) -> Score:
        """The score of its submission, with all that its predictions add."""
        if self.answers is None or ballot is None:
            known = self.about.get("trained_on"), self.about.get("merged", ())
            return score_submission(submission, tasks, source, trained_on=known[0], merged=known[1])
        return score_predictions(self.answers, tasks, source, ballot, submission)


@dataclass(frozen=True)
class Match:
    """Two answers to the same tasks: paths, scores, and what one solves that the other does not."""

    names: tuple[Path, Path]
    scores: tuple[Score, Score]
    comparison: Comparison

    def to_json(self) -> dict[str, Any]:
        """The first one's score, and under `against` the other's and how the two compare."""
        (_, other) = self.names
        (ours, theirs) = self.scores
        against = {"name": str(other), "score": theirs.to_json(), **self.comparison.to_json()}
        return {**ours.to_json(), "against": against}


@dataclass(frozen=True)
class RankerScores:
    """Rankers on the same predictions, best first; `own` is the one that these are voted by, `left_out` says why."""

    own: str
    ranked: list[RankerComparison]
    left_out: dict[str, str]

    def to_json(self) -> dict[str, Any]:
        """One JSON object with a list of rankers."""
        about = self.ranked[0].score.to_json()
        common = ("source", "tasks", "outputs", "trained_on", "merged", "malformed")
        own = ("pass@1", "pass@2", "coverage", "selection", "selection_interval")
        rankers = []
        for each in self.ranked:
            score = each.score.to_json()
            compared = {f"against_{BASELINE}": each.against.to_json()}
            rankers.append({"ranker": each.ranker, **{name: score[name] for name in own}, **compared})
        chosen = {"ranker": self.own, "rankers": rankers, "left_out": self.left_out}
        return {**{name: about[name] for name in common}, **chosen}


Result = Score | Match | RankerScores


def score_anything(
    what: Path,
    source: str | None,
    selection: Selection,
    console: Console,
    against: Path | None = None,
    rankers: str = "",
    merge: Sequence[Path] = (),
) -> Sequence[Result]:
    """Score an answer, pooled with the predictions in `merge`: one result for each source that it answers.

    against: another answer to compare it with; rankers: "all", or names with commas between them, to compare those
    """
    if against and rankers:
        raise UserError("score: --against compares answers and --rankers compares rankers", "give one of them")
    answer = find_scorable(what, merge)
    if against:
        return compare_scorables(answer, find_scorable(against), source, selection, console)
    if rankers:
        return score_rankers(answer, rankers, source, selection)
    return [
        _judge(answer, name, answer.load(name, selection), console)[1] for name in answer.sources(source, selection)
    ]


def to_json(results: Sequence[Result]) -> dict[str, Any]:
    """One JSON object for one result, and one with a list of them for several."""
    values = [result.to_json() for result in results]
    return values[0] if len(values) == 1 else {"scores": values}


def find_scorable(what: Path, merge: Sequence[Path] = ()) -> Scorable:
    """Whatever there is to score at this path, a run's folder, a predictions folder or a submission.

    The predictions of others, pooled with its own on purpose, make it an answer of its own.
    """
    answer = _find_one(what)
    if not merge:
        return answer
    pooled = read_pooled([what, *merge])
    return Scorable(what, None, pooled, _asked(pooled), answer.ranker)


def write_about(submission: Path, predictions: Predictions, ranker: str) -> None:
    """Write beside a submission what Kaggle's format has no place for: what was pooled, by which ranker."""
    about = {"ranker": ranker, "merged": predictions.merged, "trained_on": predictions.trained_on}
    write_json(_about_file(submission), about | {"submission_sha256": _digest(submission)})


def _about_file(submission: Path) -> Path:
    return submission.with_name(f"{submission.stem}.about.json")


def _read_about(submission: Path) -> dict[str, Any]:
    """What `write_about` wrote of this very file."""
    file = _about_file(submission)
    about = read_json(file) if file.is_file() and submission.is_file() else {}
    return about if isinstance(about, dict) and about.get("submission_sha256") == _digest(submission) else {}


def _digest(file: Path) -> str:
    return sha256(file.read_bytes()).hexdigest()


def read_pooled(folders: list[Path]) -> Predictions:
    """The predictions of one folder, or of several pooled on purpose."""
    folders = [_predictions_folder(folder) for folder in folders]
    several = {str(folder): read_predictions(folder) for folder in folders}
    if len({_digest(folder / METADATA_FILE) for folder in folders}) < len(folders):
        names = ", ".join(map(str, folders))
        raise UserError(f"{names}: two of these hold the same predictions, which would count twice", "name each once")
    return merge_predictions(several) if len(several) > 1 else several[str(folders[0])]


def compare_scorables(
    ours: Scorable, theirs: Scorable, source: str | None, selection: Selection, console: Console
) -> list[Match]:
    """Compare two answers, source by source, on the same tasks."""
    matches = []
    for name in _same_sources(ours, theirs, source, selection):
        tasks = _same_tasks(ours, theirs, name, selection)
        (submission, score), (other, their_score) = (_judge(each, name, tasks, console) for each in (ours, theirs))
        comparison = compare(submission, other, tasks, name)
        matches.append(Match((ours.path, theirs.path), (score, their_score), comparison))
    return matches


def score_rankers(answer: Scorable, names: str, source: str | None, selection: Selection) -> list[RankerScores]:
    """Score the predictions by several rankers: "all", or names with commas between them."""
    if answer.answers is None:
        raise UserError(
            f"{answer.path}: holds no predictions to rank", "name a predictions folder or a run that has one"
        )
    chosen = list(RANKERS) if names == "all" else list(filter(None, map(str.strip, names.split(","))))
    own = find_ranker(answer.ranker).name
    return [
        RankerScores(own, *compare_rankers(answer.answers, answer.load(name, selection), name, chosen))
        for name in answer.sources(source, selection)
    ]


def _find_one(what: Path) -> Scorable:
    if (what / "config.json").is_file():
        config = build_config(read_json(what / "config.json"))
        folder = what / "predictions"
        asked = {find_source_label(config.source): config.selection.selection()}
        predictions = read_predictions(folder) if folder.exists() else None
        return Scorable(what, what / "submission.json", predictions, asked, config.predict.ranker)
    if what.is_dir():
        predictions = read_predictions(what)
        return Scorable(what, None, predictions, _asked(predictions))
    return Scorable(what, what, None, about=_read_about(what))


def _asked(predictions: Predictions) -> dict[str, Selection]:
    return {name: Selection(tuple(ids)) for name, ids in predictions.metadata.get("sources", {}).items()}


def _predictions_folder(path: Path) -> Path:
    """The folder of the predictions that are pooled: that given, or a run's."""
    return path / "predictions" if (path / "config.json").is_file() else path


def _judge(answer: Scorable, source: str, tasks: list[Task], console: Console) -> tuple[Submission, Score]:
    """What it submits of these tasks, and its score."""
    ballot = answer.ballot(tasks)
    submission = (
        make_submission(ballot or {}, tasks) if answer.submission is None else read_submission(answer.submission)
    )
    missing = [task.id for task in tasks if task.id not in submission]
    if missing:
        console.log(
            f"{len(missing)} of {len(tasks)} tasks are not in {answer.path} and count as wrong (first: {missing[0]})"
        )
    wanted = {task.id for task in tasks}
    if submission and not wanted & submission.keys():
        raise UserError(f"{answer.path}: has no task of {source} that is selected", "name the source it answers")
    selected = {name: submission[name] for name in submission if name in wanted}
    return selected, answer.score(selected, tasks, source, ballot)


def _same_sources(ours: Scorable, theirs: Scorable, source: str | None, selection: Selection) -> list[str]:
    """The sources to compare on; a submission does not say what it answers and is taken to answer the other's."""
    if not source and ours.asked and theirs.asked and ours.asked.keys() != theirs.asked.keys():
        raise UserError(
            f"{ours.path} answers {', '.join(ours.asked)} and {theirs.path} answers {', '.join(theirs.asked)}",
            "name the SOURCE to compare them on after the first",
        )
    return (ours if ours.asked else theirs).sources(source, selection)


def _same_tasks(ours: Scorable, theirs: Scorable, source: str, selection: Selection) -> list[Task]:
    """The tasks selected that both were asked for; ValueError where one was asked for others."""
    known = [each for each in (ours, theirs) if source in each.asked] or [ours]
    every = load_tasks(source)
    lists = [_select_asked(each, source, every, selection) for each in known]
    first, last = ([task.id for task in tasks] for tasks in (lists[0], lists[-1]))
    if first != last:
        raise UserError(
            f"{ours.path} and {theirs.path} answer different tasks of {source}: only the first {_only(first, last)}; "
            f"only the second {_only(last, first)}",
            "select tasks of both with --tasks, --max-side or --limit",
        )
    if not first:
        raise UserError(f"{known[0].path}: was asked for none of the tasks of {source} that are selected")
    return lists[0]


def _select_asked(answer: Scorable, source: str, tasks: list[Task], selection: Selection) -> list[Task]:
    """The tasks selected, without those that it was not asked for."""
    asked = {task.id for task in select_tasks(tasks, answer.asked.get(source, Selection()), source)}
    return [task for task in select_tasks(tasks, answer.narrow(source, selection), source) if task.id in asked]


def _only(tasks: list[str], others: list[str]) -> str:
    """How many tasks are not among the others, and the first of them."""
    left = [task for task in tasks if task not in others]
    return f"{len(left)} ({', '.join(left[:SHOWN])}{', ...' if len(left) > SHOWN else ''})" if left else "none"
