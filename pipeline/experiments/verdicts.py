"""Summarises the results of a table's rows over seeds, and judges whether the published orderings are reproduced."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import mean, stdev
from typing import Any, Literal

from pipeline.experiments.spec import Claim, Row
from pipeline.experiments.trial import unpack
from submissions.compare import SIGNIFICANCE_LEVEL, sign_test

Results = dict[tuple[str, int], dict[str, Any]]
"""Content of result.json by (name of the training, seed)."""

Verdict = Literal["reproduced", "reversed", "not told apart", "not run"]


@dataclass(frozen=True)
class ResultLine:
    """The results of a row.

    Attributes:
        row: the row.
        seeds: the seeds with a result.
        values: the share of right tests for each of these seeds.
        failed: error messages of the seeds that failed.
        results: content of result.json for each of these seeds.
        steps: mean share of right tests after each supervision step of prediction; empty if not measured.
        more: formatted values of other figures by name.
    """

    row: Row
    seeds: list[int]
    values: list[float]
    failed: list[str]
    results: list[dict[str, Any]]
    steps: list[float]
    more: dict[str, str] = field(default_factory=dict)

    @property
    def mean(self) -> float | None:
        """Mean over seeds; None without results."""
        return mean(self.values) if self.values else None

    @property
    def deviation(self) -> float | None:
        """Sample standard deviation over seeds; None for fewer than two."""
        return stdev(self.values) if len(self.values) > 1 else None


@dataclass(frozen=True)
class Judgement:
    """A published ordering and whether it is reproduced.

    Attributes:
        claim: the ordering.
        verdict: the result of `judge`.
        difference: difference of the means, first row minus second.
        seeds: in how many of the shared seeds the first row is above, such as "2 of 3".
        gained, lost: number of test inputs, summed over seeds, that only the first or only the second row has right.
        p_value: p-value of the sign test on `gained` and `lost`.
    """

    claim: Claim
    verdict: Verdict
    difference: float = 0.0
    seeds: str = ""
    gained: int = 0
    lost: int = 0
    p_value: float = 1.0


def make_line(row: Row, results: Results) -> ResultLine:
    """Collect the results of a row from those of all trials."""
    by_seed = {seed: result for (name, seed), result in sorted(results.items()) if name == row.training}
    evaluated = {seed: result for seed, result in by_seed.items() if str(row.ask) in result.get("answers", {})}
    answers = [result["answers"][str(row.ask)] for result in evaluated.values()]
    steps = [mean(column) for column in zip(*(answer["steps"] for answer in answers if "steps" in answer), strict=True)]
    failed = [result["failed"] for result in by_seed.values() if "failed" in result]
    values = [answer["value"] for answer in answers]
    more = _other_figures(answers)
    return ResultLine(row, list(evaluated), values, failed, list(evaluated.values()), steps, more)


def _other_figures(answers: Sequence[dict[str, Any]]) -> dict[str, str]:
    """Return the means over seeds of an evaluation's other figures, in percent, and its relative compute."""
    names = list(answers[0].get("more", {})) if answers else []
    figures = {f"{name}, %": percent(mean(answer["more"][name] for answer in answers)) for name in names}
    return figures | ({"compute": f"{answers[0]['compute']}x"} if names else {})


def judge(claim: Claim, lines: Mapping[str, ResultLine]) -> Judgement:
    """Judge a published ordering by the results of its two rows.

    It is reproduced if every seed of the first row is above every seed of the second, and a sign test on test inputs,
    pooled over the seeds, gives p < 0.05. It is reversed if the same holds the other way round. If both rows were
    equally good, n seeds of each would be separated like this, in one direction or the other, with probability
    2 / comb(2n, n): with 3 seeds once in 10.
    """
    if not all(name in lines and lines[name].values for name in (claim.above, claim.below)):
        return Judgement(claim, "not run")
    above = lines[claim.above]
    below = lines[claim.below]
    gained, lost = _count_differences(above, below)
    p_value = sign_test(gained, lost)
    pairs = _same_seeds(above, below)
    wins = sum(above.values[first] > below.values[second] for first, second in pairs)
    verdict: Verdict = "not told apart"
    if p_value < SIGNIFICANCE_LEVEL and len(above.values) > 1 and len(below.values) > 1:
        if min(above.values) > max(below.values):
            verdict = "reproduced"
        elif max(above.values) < min(below.values):
            verdict = "reversed"
    difference = mean(above.values) - mean(below.values)
    return Judgement(claim, verdict, difference, f"{wins} of {len(pairs)}", gained, lost, p_value)


def _same_seeds(above: ResultLine, below: ResultLine) -> list[tuple[int, int]]:
    """Return the pairs of indices, in the one row and the other, of the seeds that both have results for."""
    return [(index, below.seeds.index(seed)) for index, seed in enumerate(above.seeds) if seed in below.seeds]


def _count_differences(above: ResultLine, below: ResultLine) -> tuple[int, int]:
    """Count the test inputs, over all shared seeds, that only the first row and only the second row has right."""
    gained = 0
    lost = 0
    for first, second in _same_seeds(above, below):
        above_right = _right(above, above.results[first])
        below_right = _right(below, below.results[second])
        gained = gained + int((above_right & ~below_right).sum())
        lost = lost + int((~above_right & below_right).sum())
    return gained, lost


def _right(line: ResultLine, result: dict[str, Any]) -> Any:
    """Return which test inputs are right after as many steps as in training, which is also what the value counts."""
    answer = result["answers"][str(line.row.ask)]
    steps = min(len(answer["right"]), result["config"]["model"]["max_steps"])
    return unpack(answer, steps - 1)


def percent(value: float | None) -> str:
    """Format a share as a percentage, without the sign; an empty string for None."""
    return "" if value is None else f"{100 * value:.1f}"
