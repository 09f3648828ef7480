"""The `score` command: scores submissions, predictions folders and run folders, and compares them.

Predictions and run folders record their sources and selected tasks; a selection on the command line restricts these
further. Every remaining task counts, including those without a prediction.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from augment import Selection, Task, load_tasks
from augment.errors import UserError
from augment.task import select_tasks
from pipeline.runtime.console import Console
from pipeline.scoring.scorable import Scorable, find_scorable
from submissions.compare import BASELINE, Comparison, RankerComparison, compare, compare_rankers
from submissions.rankers import RANKERS, find_ranker
from submissions.scorable_submission import describe_gaps, select_scorable
from submissions.score import Score
from submissions.submission_file import Submission, make_submission, read_submission

SHOWN = 5


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
    return [_score_source(scorable, name, scorable.load(name, selection), console)[1] for name in sources]


def to_json(results: Sequence[Result]) -> dict[str, Any]:
    """Return a single result as its JSON object, and several results as a list under "scores"."""
    scores = [result.to_json() for result in results]
    return scores[0] if len(scores) == 1 else {"scores": scores}


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
