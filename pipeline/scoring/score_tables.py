"""Terminal tables of scores, comparisons and rankers, up to 100 columns wide."""

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.constrain import Constrain
from rich.table import Table

from pipeline.scoring.results import RankerScores, ScoreComparison
from submissions.compare import BASELINE, Comparison, RankerComparison
from submissions.confidence_intervals import Interval
from submissions.score import Figures, Score

DEPTHS = (1, 2, 3, 5, 10, 20, 50, 100, 200, 500, 1000)
GROUPS = {"shape": "shape", "size": "larger side", "colours": "colours", "candidates": "candidates"}
TASKS_SHOWN = 10
WIDTH = 100
NAME_WIDTH = 30


def score_table(score: Score) -> Table:
    """Return a table of the figures with their 95% intervals, macro (the leaderboard's figure) first."""
    table = _figures_table(_title(score))
    for name, figures in {"pass@1": score.pass_1, "pass@2": score.pass_2, "coverage": score.coverage}.items():
        if figures is not None:
            table.add_row(name, *_columns(figures), style="bold" if name == "pass@2" else "")
    if score.selection is not None and score.selection_interval is not None:
        table.add_row("selection", "", _share(score.selection, score.selection_interval), "")
    _add_remarks(table, [score])
    return table


def show_result(result: Score | ScoreComparison | RankerScores) -> RenderableType:
    """Return everything that the terminal shows of a result of `score`, followed by an empty line."""
    if isinstance(result, Score):
        content = _show_score(result)
    else:
        content = _show_match(result) if isinstance(result, ScoreComparison) else _show_rankers(result)
    return Constrain(Group(content, ""), WIDTH)


def _show_score(score: Score) -> RenderableType:
    """Return the figures, pass@K, the share of malformed predictions, and the share solved by kind of output."""
    parts: list[RenderableType] = [score_table(score)]
    if score.pass_at is not None and score.rank is not None:
        parts += ["", _curve_table(score.pass_at), _describe_candidates(score)]
    return Group(*parts, "", _kinds_table(score))


def _show_match(match: ScoreComparison) -> RenderableType:
    """Return both scores, their difference, and the test outputs that only one of them solves."""
    table = _figures_table(f"{_title(match.scores[0])}, pass@2")
    table.columns[0].max_width = NAME_WIDTH
    table.columns[0].overflow = "fold"
    for name, score in zip(match.names, match.scores, strict=True):
        table.add_row(str(name), *_columns(score.pass_2))
    comparison = match.comparison
    low, high = comparison.macro_interval
    difference = f"{100 * comparison.macro:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]"
    table.add_row("difference", difference, "", "", style="bold")
    _add_remarks(table, match.scores, match.names)
    return Group(table, "", "\n".join(_describe_pairs(comparison)))


def _show_rankers(rankers: RankerScores) -> RenderableType:
    """Return the figures of every ranker, the best macro pass@2 first."""
    first = rankers.ranked[0].score
    table = Table(title=_title(first), title_justify="left", box=None, padding=(0, 1))
    table.add_column("ranker")
    names = ("pass@1\nmacro", "\nmicro", "pass@2\nmacro", "\nmicro", "selec-\ntion", "cover-\nage")
    for name in (*names, f"gained, lost\nto {BASELINE}", "\np"):
        table.add_column(name, justify="right")
    for entry in rankers.ranked:
        table.add_row(*_ranker_row(entry, entry.ranker == rankers.own))
    _add_remarks(table, [first])
    notes = [f"{name}: {reason}" for name, reason in rankers.left_out.items()]
    notes.append("* is the ranker that `score` uses here. Coverage and selection are micro; p as in score --against.")
    return Group(table, "", "\n".join(notes))


def _title(score: Score) -> str:
    return f"{score.source}: {score.tasks} tasks, {score.outputs} test outputs"


def _figures_table(title: str) -> Table:
    return Table("", "macro", "micro", "all or nothing", title=title, title_justify="left", box=None)


def _add_remarks(table: Table, scores: Sequence[Score], names: Sequence[object] = ()) -> None:
    """Add the scores' remarks as a caption, with the names of the scores where they have different remarks."""
    remarks = list(dict.fromkeys(score.remark for score in scores))
    if len(remarks) > 1:
        remarks = [f"{name}: {score.remark}" for name, score in zip(names, scores, strict=True) if score.remark]
    if any(remarks):
        table.caption = "\n".join(remarks)
        table.caption_justify = "left"
        table.caption_style = "bold red" if any(score.trained_on for score in scores) else "dim"


def _curve_table(pass_at: dict[str, float]) -> Table:
    table = Table("pass@K", box=None, padding=(0, 1))
    for depth in DEPTHS:
        table.add_column(str(depth), justify="right")
    table.add_row("macro", *(f"{100 * pass_at[str(depth)]:.1f}%" for depth in DEPTHS))
    return table


def _describe_candidates(score: Score) -> str:
    """Describe the median rank of the right grid among the candidates, and the share of malformed predictions."""
    assert score.rank is not None
    median = score.rank["median"]
    rank = "the right grid is never among the candidates" if median is None else f"right grid, median rank: {median:g}"
    malformed = "" if score.malformed is None else f"; malformed predictions (no grid): {100 * score.malformed:.1f}%"
    return f" {rank}{malformed}"


def _kinds_table(score: Score) -> Table:
    table = Table("test outputs by", "", box=None)
    for name in ("outputs", "solved", "covered"):
        table.add_column(name, justify="right")
    previous = ""
    for kind in score.kinds:
        shares = [_part(kind.solved, kind.outputs), "" if kind.covered is None else _part(kind.covered, kind.outputs)]
        table.add_row("" if kind.group == previous else GROUPS[kind.group], kind.label, str(kind.outputs), *shares)
        previous = kind.group
    return table


def _describe_pairs(pairs: Comparison) -> list[str]:
    lines = [
        f"test outputs: {pairs.gained} gained, {pairs.lost} lost, {pairs.both} solved by both, {pairs.neither} by none",
        pairs.meaning,
    ]
    for word, tasks in (("gained", pairs.gained_tasks), ("lost", pairs.lost_tasks)):
        more = f" and {len(tasks) - TASKS_SHOWN} more" if len(tasks) > TASKS_SHOWN else ""
        lines += [f"{word}: {', '.join(tasks[:TASKS_SHOWN])}{more}"] if tasks else []
    return lines


def _ranker_row(entry: RankerComparison, own: bool) -> list[str]:
    score = entry.score
    against = entry.against
    assert score.coverage is not None
    figures = (score.pass_1.macro, score.pass_1.micro, None, score.pass_2.micro, score.selection, score.coverage.micro)
    cells = ["-" if value is None else f"{100 * value:.1f}%" for value in figures]
    cells[2] = _share(score.pass_2.macro, score.pass_2.macro_interval)
    # The baseline has no paired test: it would be compared with itself.
    paired = (
        ["", ""]
        if entry.ranker == BASELINE
        else [f"{against.gained}, {against.lost}", against.p_text.removeprefix("= ")]
    )
    return [f"{entry.ranker}{' *' if own else ''}", *cells, *paired]


def _columns(figures: Figures) -> list[str]:
    values = [
        (figures.macro, figures.macro_interval),
        (figures.micro, figures.micro_interval),
        (figures.all_or_nothing, figures.all_or_nothing_interval),
    ]
    return [_share(value, interval) for value, interval in values]


def _share(value: float, interval: Interval) -> str:
    low, high = interval
    return f"{100 * value:.1f}% [{100 * low:.1f}, {100 * high:.1f}]"


def _part(number: int, whole: int) -> str:
    return f"{number} ({100 * number / whole:.1f}%)"
