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
from augment.storage import write_json
from augment.task import select_tasks
from augment.text_files import read_json
from pipeline.config.run_config import build_config
from pipeline.runtime.console import Console
from pipeline.scoring.results import RankerScores, Result, ScoreComparison
from pipeline.scoring.scored_tasks import load_scored
from submissions.benchmarking_folder import find_task_files
from submissions.compare import BASELINE, compare, compare_rankers
from submissions.prediction_files import METADATA_FILE, read_predictions
from submissions.predictions import Predictions, merge_predictions
from submissions.rankers import RANKERS, find_ranker
from submissions.scorable_submission import describe_gaps, select_scorable
from submissions.score import Score, score_predictions, score_submission
from submissions.submission_file import Submission, make_submission, read_submission
from submissions.training_record import TrainingRecord
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
            trained_on = TrainingRecord.from_json(self.about).contaminated(tasks)
            return score_submission(submission, tasks, source, None, trained_on, merged=self.about.get("merged", ()))
        return score_predictions(self.answers, tasks, source, ballot, submission)


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


def find_scorable(what: Path, merge: Sequence[Path] = ()) -> Scorable:
    """Return the scorable at a path; with predictions to merge, their pooled vote replaces its own submission."""
    scorable = _read_scorable(what)
    if not merge:
        return scorable
    pooled = read_pooled([what, *merge])
    return Scorable(what, None, pooled, _recorded_selections(pooled), scorable.ranker)


def write_about(submission: Path, text: str, predictions: Predictions, ranker: str) -> None:
    """Write what the format of a submission with this text has no field for; before it, so that it never lacks it."""
    about = {"ranker": ranker, "merged": predictions.merged, **predictions.training.to_json()}
    write_json(_about_file(submission), about | {"submission_sha256": sha256(text.encode()).hexdigest()})


def _about_file(submission: Path) -> Path:
    return submission.with_name(f"{submission.stem}.about.json")


def _read_about(submission: Path) -> dict[str, Any]:
    """Return what `write_about` wrote for a submission; empty where that was for another file of the same name."""
    file = _about_file(submission)
    if not file.is_file() or not submission.is_file():
        return {}
    about = read_json(file)
    # Without the digest, an old .about.json would be applied to a submission that replaced the one it describes.
    return about if isinstance(about, dict) and about.get("submission_sha256") == _digest(submission) else {}


def _digest(file: Path) -> str:
    return sha256(file.read_bytes()).hexdigest()


def read_pooled(folders: list[Path]) -> Predictions:
    """Read the predictions of one folder, or of several, pooled.

    Raises:
        UserError: if two have the same predictions, or if one is no predictions folder.
    """
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
    if _is_benchmarking_folder(path):
        return Scorable(path, path, None)
    if path.is_dir():
        predictions = read_predictions(path)
        return Scorable(path, None, predictions, _recorded_selections(predictions))
    return Scorable(path, path, None, about=_read_about(path))


def _recorded_selections(predictions: Predictions) -> dict[str, Selection]:
    """Return, for each source in the predictions' metadata, the tasks that were predicted."""
    return {name: Selection(tuple(ids)) for name, ids in predictions.metadata.get("sources", {}).items()}


def _predictions_folder(path: Path) -> Path:
    """Return the predictions folder of a run; any other path is one itself; UserError for a submission."""
    if (path / "config.json").is_file():
        return path / "predictions"
    if path.is_file() or _is_benchmarking_folder(path):
        kind = "a file" if path.is_file() else "a folder of arc-agi-benchmarking"
        raise UserError(f"{path}: is {kind}, which has no predictions to vote on", "name a predictions folder or a run")
    return path


def _is_benchmarking_folder(path: Path) -> bool:
    """Return whether a folder has files of tasks and no predictions."""
    return path.is_dir() and not (path / METADATA_FILE).exists() and bool(find_task_files(path))


def _score_source(scorable: Scorable, source: str, tasks: list[Task], console: Console) -> tuple[Submission, Score]:
    """Return the part of the submission that is for these tasks, and its score."""
    ballot = scorable.ballot(tasks)
    file = scorable.submission
    path = scorable.path
    submission = make_submission(ballot or {}, tasks) if file is None else read_submission(file)
    selected = select_scorable(submission, tasks, source, file or path)
    for line in describe_gaps(submission, tasks, source, file or path):
        console.log(line)
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
