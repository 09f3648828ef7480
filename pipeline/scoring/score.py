"""The `score` command: scores submissions, predictions folders and run folders, and compares them.

Predictions and run folders record their sources and selected tasks; a selection on the command line restricts these
further. Every remaining task counts, including those without a prediction.
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
from pipeline.scoring.scored_tasks import load_scored
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
    """Something that can be scored: a submission, predictions (`answers`), or both.

    `asked` has the selection of tasks of each source that was predicted; it is empty for a submission alone. `about` is
    the content of the .about.json file that `vote` writes beside a submission.
    """

    path: Path
    submission: Path | None
    answers: Predictions | None
    asked: dict[str, Selection] = field(default_factory=dict)
    ranker: str = BASELINE
    about: dict[str, Any] = field(default_factory=dict)

    def only_source(self) -> str:
        """Return the source that was predicted; UserError unless exactly one is known."""
        if len(self.asked) != 1:
            sources = f"has the sources {', '.join(self.asked)}" if self.asked else "does not record its source"
            raise UserError(f"{self.path}: {sources}", "name the SOURCE after it")
        return next(iter(self.asked))

    def sources(self, source: str | None, selection: Selection) -> list[str]:
        """Return the given source, or all that were predicted; UserError for none, or for task IDs with several."""
        if source:
            return [find_source_label(source)]
        return list(self.asked) if self.asked and not selection.tasks else [self.only_source()]

    def narrow(self, source: str, selection: Selection) -> Selection:
        """Return the user's selection, restricted by the selection of the prediction; named task IDs replace its."""
        own = self.asked.get(source, Selection())
        sides = [side for side in (selection.max_side, own.max_side) if side]
        limits = [limit for limit in (selection.limit, own.limit) if limit]
        return Selection(selection.tasks or own.tasks, min(sides, default=None), min(limits, default=None))

    def load(self, source: str, selection: Selection, console: Console | None = None) -> list[Task]:
        """Load the tasks that `narrow` selects; a line on the console, if there is one, says what is left out."""
        return load_scored(source, self.narrow(source, selection), console)

    def ballot(self, tasks: list[Task]) -> Ballot | None:
        """Vote on the predictions; None where there are none."""
        return vote(self.answers, tasks, self.ranker) if self.answers else None

    def score(self, submission: Submission, tasks: list[Task], source: str, ballot: Ballot | None) -> Score:
        """Score a submission; with predictions, the score also has coverage, selection and pass@K."""
        if self.answers is None or ballot is None:
            provenance = self.about.get("trained_on"), self.about.get("merged", ())
            return score_submission(submission, tasks, source, trained_on=provenance[0], merged=provenance[1])
        return score_predictions(self.answers, tasks, source, ballot, submission)


@dataclass(frozen=True)
class ScoreComparison:
    """A comparison of two scorables on the same tasks: their paths, scores, and paired differences."""

    names: tuple[Path, Path]
    scores: tuple[Score, Score]
    comparison: Comparison

    def to_json(self) -> dict[str, Any]:
        """Return the first score, with the second one and the comparison under "against"."""
        (score, other_score) = self.scores
        against = {"name": str(self.names[1]), "score": other_score.to_json(), **self.comparison.to_json()}
        return {**score.to_json(), "against": against}


@dataclass(frozen=True)
class RankerScores:
    """Scores of several rankers on the same predictions, best first.

    `own` is the predictions' default ranker; `left_out` gives the reason for each ranker that cannot be used.
    """

    own: str
    ranked: list[RankerComparison]
    left_out: dict[str, str]

    def to_json(self) -> dict[str, Any]:
        """Return one JSON object with a list of rankers."""
        best = self.ranked[0].score.to_json()
        common = ("source", "tasks", "outputs", "trained_on", "merged", "malformed")
        own = ("pass@1", "pass@2", "coverage", "selection", "selection_interval")
        rankers = []
        for entry in self.ranked:
            score = entry.score.to_json()
            figures = {name: score[name] for name in own}
            rankers.append({"ranker": entry.ranker, **figures, f"against_{BASELINE}": entry.against.to_json()})
        rest = {"ranker": self.own, "rankers": rankers, "left_out": self.left_out}
        return {name: best[name] for name in common} | rest


Result = Score | ScoreComparison | RankerScores


def score_path(
    what: Path,
    source: str | None,
    selection: Selection,
    console: Console,
    against: Path | None = None,
    rankers: str = "",
    merge: Sequence[Path] = (),
) -> Sequence[Result]:
    """Score a run folder, a predictions folder or a submission: one result for each source, or for `source` alone.

    `against` is another path to compare it with; `rankers` are rankers to compare, "all" or names separated by commas;
    `merge` are other predictions, pooled with those of `what` before the vote.
    """
    if against and rankers:
        raise UserError("score: --against and --rankers cannot be combined", "give one of them")
    scorable = find_scorable(what, merge)
    if against:
        return compare_scorables(scorable, find_scorable(against), source, selection, console)
    if rankers:
        return score_rankers(scorable, rankers, source, selection)
    sources = scorable.sources(source, selection)
    return [_score_source(scorable, name, scorable.load(name, selection, console), console)[1] for name in sources]


def to_json(results: Sequence[Result]) -> dict[str, Any]:
    """Return a single result as its JSON object, and several results as a list under "scores"."""
    scores = [result.to_json() for result in results]
    return scores[0] if len(scores) == 1 else {"scores": scores}


def find_scorable(what: Path, merge: Sequence[Path] = ()) -> Scorable:
    """Return the scorable at a path; with predictions to merge, their pooled vote replaces its own submission."""
    scorable = _read_scorable(what)
    if not merge:
        return scorable
    pooled = read_pooled([what, *merge])
    return Scorable(what, None, pooled, _recorded_selections(pooled), scorable.ranker)


def write_about(submission: Path, predictions: Predictions, ranker: str) -> None:
    """Write beside a submission what its format has no field for: pooled folders, tasks trained on, and ranker."""
    about = {"ranker": ranker, "merged": predictions.merged, "trained_on": predictions.trained_on}
    write_json(_about_file(submission), about | {"submission_sha256": _digest(submission)})


def _about_file(submission: Path) -> Path:
    return submission.with_name(f"{submission.stem}.about.json")


def _read_about(submission: Path) -> dict[str, Any]:
    """Return what `write_about` wrote for a submission; empty where that was for another file of the same name."""
    file = _about_file(submission)
    about = read_json(file) if file.is_file() and submission.is_file() else {}
    # Without the digest, an old .about.json would be applied to a submission that replaced the one it describes.
    return about if isinstance(about, dict) and about.get("submission_sha256") == _digest(submission) else {}


def _digest(file: Path) -> str:
    return sha256(file.read_bytes()).hexdigest()


def read_pooled(folders: list[Path]) -> Predictions:
    """Read the predictions of one folder, or of several, pooled; UserError where two have the same predictions."""
    folders = [_predictions_folder(folder) for folder in folders]
    predictions = {str(folder): read_predictions(folder) for folder in folders}
    # Compared by content, since one folder can be spelled in several ways, or be copied.
    if len({_digest(folder / METADATA_FILE) for folder in folders}) < len(folders):
        names = ", ".join(map(str, folders))
        raise UserError(f"{names}: two of these have the same predictions, which would count twice", "name each once")
    return merge_predictions(predictions) if len(predictions) > 1 else predictions[str(folders[0])]


def compare_scorables(
    ours: Scorable, theirs: Scorable, source: str | None, selection: Selection, console: Console
) -> list[ScoreComparison]:
    """Compare two scorables on the same tasks: one match for each source."""
    matches = []
    for name in _shared_sources(ours, theirs, source, selection):
        tasks = _shared_tasks(ours, theirs, name, selection)
        scores = (_score_source(scorable, name, tasks, console) for scorable in (ours, theirs))
        (submission, score), (other_submission, other_score) = scores
        comparison = compare(submission, other_submission, tasks, name)
        matches.append(ScoreComparison((ours.path, theirs.path), (score, other_score), comparison))
    return matches


def score_rankers(answer: Scorable, names: str, source: str | None, selection: Selection) -> list[RankerScores]:
    """Score the same predictions with several rankers: "all", or names separated by commas."""
    if answer.answers is None:
        raise UserError(f"{answer.path}: has no predictions to rank", "name a predictions folder or a run that has one")
    rankers = list(RANKERS) if names == "all" else list(filter(None, map(str.strip, names.split(","))))
    own = find_ranker(answer.ranker).name
    return [
        RankerScores(own, *compare_rankers(answer.answers, answer.load(name, selection), name, rankers))
        for name in answer.sources(source, selection)
    ]


def _read_scorable(path: Path) -> Scorable:
    if (path / "config.json").is_file():
        config = build_config(read_json(path / "config.json"))
        folder = path / "predictions"
        selections = {find_source_label(config.source): config.selection.selection()}
        predictions = read_predictions(folder) if folder.exists() else None
        return Scorable(path, path / "submission.json", predictions, selections, config.predict.ranker)
    if path.is_dir():
        predictions = read_predictions(path)
        return Scorable(path, None, predictions, _recorded_selections(predictions))
    return Scorable(path, path, None, about=_read_about(path))


def _recorded_selections(predictions: Predictions) -> dict[str, Selection]:
    """Return, for each source in the predictions' metadata, the tasks that were predicted."""
    return {name: Selection(tuple(ids)) for name, ids in predictions.metadata.get("sources", {}).items()}


def _predictions_folder(path: Path) -> Path:
    """Return the predictions folder of a run; any other path is one itself."""
    return path / "predictions" if (path / "config.json").is_file() else path


def _score_source(scorable: Scorable, source: str, tasks: list[Task], console: Console) -> tuple[Submission, Score]:
    """Return the part of the submission that is for these tasks, and its score."""
    ballot = scorable.ballot(tasks)
    file = scorable.submission
    path = scorable.path
    submission = make_submission(ballot or {}, tasks) if file is None else read_submission(file)
    missing = [task.id for task in tasks if task.id not in submission]
    if missing:
        console.log(f"{len(missing)} of {len(tasks)} tasks are not in {path} and count as wrong (first: {missing[0]})")
    task_ids = {task.id for task in tasks}
    if submission and not task_ids & submission.keys():
        raise UserError(f"{path}: has none of the selected tasks of {source}", "name the source it is for")
    selected = {name: submission[name] for name in submission if name in task_ids}
    return selected, scorable.score(selected, tasks, source, ballot)


def _shared_sources(first: Scorable, second: Scorable, source: str | None, selection: Selection) -> list[str]:
    """Return the sources to compare on; a submission does not record its source, so the other's sources are used."""
    if not source and first.asked and second.asked and first.asked.keys() != second.asked.keys():
        raise UserError(
            f"{first.path} has the sources {', '.join(first.asked)} and {second.path} has {', '.join(second.asked)}",
            "name the SOURCE to compare them on after the first",
        )
    return (first if first.asked else second).sources(source, selection)


def _shared_tasks(first: Scorable, second: Scorable, source: str, selection: Selection) -> list[Task]:
    """Return the selected tasks; UserError where the two were made for different tasks, or for none of these."""
    known = [scorable for scorable in (first, second) if source in scorable.asked] or [first]
    all_tasks = load_tasks(source)
    lists = [_select_recorded(scorable, source, all_tasks, selection) for scorable in known]
    first_ids, second_ids = ([task.id for task in tasks] for tasks in (lists[0], lists[-1]))
    if first_ids != second_ids:
        raise UserError(
            f"{first.path} and {second.path} are for different tasks of {source}: only the first "
            f"{_describe_extra(first_ids, second_ids)}; only the second {_describe_extra(second_ids, first_ids)}",
            "select tasks of both with --tasks, --max-side or --limit",
        )
    if not first_ids:
        raise UserError(f"{known[0].path}: has none of the selected tasks of {source}", "change the selection")
    return lists[0]


def _select_recorded(scorable: Scorable, source: str, tasks: list[Task], selection: Selection) -> list[Task]:
    """Return the selected tasks, without those that the scorable was not made for."""
    recorded = {task.id for task in select_tasks(tasks, scorable.asked.get(source, Selection()), source)}
    return [task for task in select_tasks(tasks, scorable.narrow(source, selection), source) if task.id in recorded]


def _describe_extra(tasks: list[str], others: list[str]) -> str:
    """Return the number of tasks that are not among the others, with the IDs of the first few."""
    extra = [task for task in tasks if task not in others]
    return f"{len(extra)} ({', '.join(extra[:SHOWN])}{', ...' if len(extra) > SHOWN else ''})" if extra else "none"
