"""A table's claims judged by its results: rows with their spread over seeds, and whether an ordering is reproduced."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import mean, stdev
from typing import Any, Literal

from pipeline.experiments.spec import Claim, Row
from pipeline.experiments.trial import unpack
from submissions.compare import RARE, sign_test

Results = dict[tuple[str, int], dict[str, Any]]
"""By (training, seed)."""


Verdict = Literal["reproduced", "reversed", "not told apart", "not run"]


@dataclass(frozen=True)
class ResultLine:
    """A row as it came out.

    seeds: those that came to their end; values: a share for each; steps: mean share by supervision step of prediction
    more: other figures by name, as they are shown
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
        """Over seeds; None where there is none."""
        return mean(self.values) if self.values else None

    @property
    def deviation(self) -> float | None:
        """Sample standard deviation over seeds; None of fewer than two."""
        return stdev(self.values) if len(self.values) > 1 else None


@dataclass(frozen=True)
class Judgement:
    """A published ordering, and what came of it.

    difference: of the means; seeds: in how many of them the first is above; gained, lost: test inputs, of all seeds,
    that only the first or only the second has right; p_value: sign test on these
    """

    claim: Claim
    verdict: Verdict
    difference: float = 0.0
    seeds: str = ""
    gained: int = 0
    lost: int = 0
    p_value: float = 1.0


def make_line(row: Row, results: Results) -> ResultLine:
    """What the trials gave for this row."""
    mine = {seed: result for (name, seed), result in sorted(results.items()) if name == row.training}
    done = {seed: result for seed, result in mine.items() if str(row.ask) in result.get("answers", {})}
    answers = [result["answers"][str(row.ask)] for result in done.values()]
    steps = [mean(column) for column in zip(*(answer["steps"] for answer in answers if "steps" in answer), strict=True)]
    failed = [result["failed"] for result in mine.values() if "failed" in result]
    values = [answer["value"] for answer in answers]
    more = _more(answers)
    return ResultLine(row, list(done), values, failed, list(done.values()), steps, more)


def _more(answers: Sequence[dict[str, Any]]) -> dict[str, str]:
    """Means over seeds of what answers say besides their value, in percent; and how much was computed for one."""
    names = list(answers[0].get("more", {})) if answers else []
    shown = {f"{name}, %": percent(mean(answer["more"][name] for answer in answers)) for name in names}
    return shown | ({"compute": f"{answers[0]['compute']}x"} if names else {})


def judge(claim: Claim, lines: Mapping[str, ResultLine]) -> Judgement:
    """Reproduced, where every seed of the first is above every seed of the second and the test inputs say so too.

    Were both alike, n seeds each would fall apart like that, one way or the other, in two of comb(2n, n) times: with 3
    seeds once in 10. The sign test on test inputs, pooled over the seeds, must give p < 0.05 besides. Reversed
    likewise.
    """
    if not all(name in lines and lines[name].values for name in (claim.above, claim.below)):
        return Judgement(claim, "not run")
    above = lines[claim.above]
    below = lines[claim.below]
    gained, lost = _count_apart(above, below)
    p_value = sign_test(gained, lost)
    pairs = _same_seeds(above, below)
    wins = sum(above.values[one] > below.values[other] for one, other in pairs)
    verdict: Verdict = "not told apart"
    if p_value < RARE and len(above.values) > 1 and len(below.values) > 1:
        if min(above.values) > max(below.values):
            verdict = "reproduced"
        elif max(above.values) < min(below.values):
            verdict = "reversed"
    difference = mean(above.values) - mean(below.values)
    return Judgement(claim, verdict, difference, f"{wins} of {len(pairs)}", gained, lost, p_value)


def _same_seeds(above: ResultLine, below: ResultLine) -> list[tuple[int, int]]:
    """Where in the one and where in the other the seeds are that both came to an end with."""
    return [(place, below.seeds.index(seed)) for place, seed in enumerate(above.seeds) if seed in below.seeds]


def _count_apart(above: ResultLine, below: ResultLine) -> tuple[int, int]:
    """Test inputs, of all seeds, that only the one and only the other has right, each after its last step."""
    gained = lost = 0
    for one, other in _same_seeds(above, below):
        ours = _right(above, above.results[one])
        theirs = _right(below, below.results[other])
        gained = gained + int((ours & ~theirs).sum())
        lost = lost + int((~ours & theirs).sum())
    return gained, lost


def _right(line: ResultLine, result: dict[str, Any]) -> Any:
    """Which test inputs count as solved: after as many steps as in training, which the value is of."""
    answer = result["answers"][str(line.row.ask)]
    steps = min(len(answer["right"]), result["config"]["model"]["max_steps"])
    return unpack(answer, steps - 1)


def percent(value: float | None) -> str:
    """A share in percent; empty where there is none."""
    return "" if value is None else f"{100 * value:.1f}"
