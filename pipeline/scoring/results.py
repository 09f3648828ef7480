"""The results of the `score` command, and their form as JSON."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from submissions.compare import BASELINE, Comparison, RankerComparison
from submissions.score import Score


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


def to_json(results: Sequence[Result]) -> dict[str, Any]:
    """Return a single result as its JSON object, and several results as a list under "scores"."""
    scores = [result.to_json() for result in results]
    return scores[0] if len(scores) == 1 else {"scores": scores}
