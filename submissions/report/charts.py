"""A report's charts: figures in, lines and bars in a unit square out, which `charts.html.j2` draws as SVG.

Positions run from 0 to 1, to the right and upwards. Every chart says in `words` what it shows, for those who cannot
see it. A chart without data is None.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from submissions.confidence_intervals import wilson_interval
from submissions.report.views import TaskView
from submissions.score import Score

BINS = 10
PERCENT = "{:.0%}"
POINTS = 240
"""A curve drawn finer than that is no more exact on a screen."""

Point = tuple[float, float]
Curves = Sequence[Mapping[str, Any]]
"""Lines of a run's metrics.jsonl."""


@dataclass(frozen=True)
class Tick:
    """A place on an axis and what is written there."""

    at: float
    text: str


@dataclass(frozen=True)
class Line:
    """A curve and its name; `look` is one of "first", "second" and "limit"."""

    name: str
    points: list[Point]
    look: str = "first"


@dataclass(frozen=True)
class Bar:
    """An upright bar with its 95% interval (low, high) and what is written over it."""

    left: float
    right: float
    height: float
    interval: Point
    text: str


@dataclass(frozen=True)
class Chart:
    """Axes, what is drawn between them, and the same in words."""

    title: str
    words: str
    x_label: str
    y_label: str
    x_ticks: list[Tick]
    y_ticks: list[Tick]
    lines: list[Line] = field(default_factory=list)
    bars: list[Bar] = field(default_factory=list)


def draw_charts(views: Iterable[TaskView], score: Score | None, curves: Curves) -> list[Chart]:
    """All charts there are data for."""
    charts = [
        draw_pass_at(score),
        draw_votes(views),
        draw_curves("Training loss", "loss a cell", {"loss": "loss"}, curves),
        draw_curves(
            "Examples solved in training",
            "share exact",
            {"exact": "trained on", "held_out_exact": "held out"},
            curves,
            shares=True,
        ),
    ]
    return [chart for chart in charts if chart is not None]


def draw_pass_at(score: Score | None) -> Chart | None:
    """Macro pass@K against K on a logarithmic axis, with coverage as its limit."""
    if score is None or not score.pass_at or score.coverage is None:
        return None
    depths = {int(depth): value for depth, value in score.pass_at.items()}
    last = max(min(depth for depth, value in depths.items() if value == max(depths.values())), 10)
    # One tick beyond where the curve ends to rise.
    ticks = [depth for depth in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000) if depth <= max(depths)]
    end = next((tick for tick in ticks if tick >= last), max(depths))
    top = _scale_of(score.coverage.macro, 1)
    scale = math.log(end)
    places = {depth: (math.log(depth) / scale, depths[depth] / top) for depth in sorted(depths) if depth <= end}
    limit = score.coverage.macro / top
    said = ", ".join(f"pass@{depth} {depths[depth]:.1%}" for depth in (1, 2, 10, 100, 1000) if depth in depths)
    return Chart(
        "Right among the first K",
        f"Macro pass@K: {said}; coverage, its limit, {score.coverage.macro:.1%}.",
        "K, candidates looked at",
        "macro pass@K",
        [Tick(places[tick][0], str(tick)) for tick in ticks if tick in places],
        _ticks(top, PERCENT),
        [
            Line("coverage", [(0, limit), (1, limit)], "limit"),
            Line("pass@K", _without_flats([*places.values()])),
        ],
    )


def draw_votes(views: Iterable[TaskView]) -> Chart | None:
    """How often the first candidate is right, by its share of the votes."""
    tests = [test for view in views for test in view.tests if test.truth is not None and test.candidates]
    if not tests:
        return None
    first = [test.candidates[0] for test in tests]
    bins = [min(int(candidate.share * BINS), BINS - 1) for candidate in first]
    counts = np.bincount(bins, minlength=BINS).tolist()
    right = np.bincount(bins, [candidate.right for candidate in first], BINS).astype(int).tolist()
    bars = [_share_bar(place, right[place], counts[place]) for place in range(BINS) if counts[place]]
    names = [f"{100 * place // BINS} to {100 * (place + 1) // BINS}% of the votes" for place in range(BINS)]
    said = [f"{name}: {right[place]} of {counts[place]}" for place, name in enumerate(names) if counts[place]]
    return Chart(
        "Votes against correctness",
        f"First candidates that are right, by their share of the votes. {'; '.join(said)}.",
        "votes of the first candidate",
        "share right",
        _ticks(1, PERCENT),
        _ticks(1, PERCENT),
        bars=bars,
    )


def draw_curves(title: str, label: str, names: Mapping[str, str], curves: Curves, shares: bool = False) -> Chart | None:
    """Columns of `curves` against the training step, given with what each is called; `shares` are of one."""
    columns = {name: _column(curves, name) for name in names}
    columns = {name: column for name, column in columns.items() if len(column) > 1}
    if not columns:
        return None
    end = max(step for column in columns.values() for step, _ in column)
    top = 1 if shares else _scale_of(max(value for column in columns.values() for _, value in column))
    lines = [
        Line(names[name], [(step / end, value / top) for step, value in _thinned(column)], look)
        for (name, column), look in zip(columns.items(), ("first", "second"), strict=False)
    ]
    said = [f"{names[name]} {column[0][1]:.3g} to {column[-1][1]:.3g}" for name, column in columns.items()]
    x_ticks = [Tick(step / end, f"{step:,}") for step in _round_steps(end)]
    words = f"{title}, from step {columns[next(iter(columns))][0][0]:,} to {end:,}: {'; '.join(said)}."
    return Chart(title, words, "training step", label, x_ticks, _ticks(top, PERCENT if shares else "{:.3g}"), lines)


def _share_bar(place: int, right: int, count: int) -> Bar:
    share = right / count
    return Bar(place / BINS, (place + 1) / BINS, share, wilson_interval(share, count), str(count))


def _column(curves: Curves, name: str) -> list[tuple[int, float]]:
    """(step, value) of the lines that have the value."""
    found = [(line.get("step"), line.get(name)) for line in curves]
    return [(step, float(value)) for step, value in found if step and value is not None and math.isfinite(value)]


def _thinned(column: list[tuple[int, float]]) -> list[Point]:
    """At most POINTS points, each the mean of as many neighbours."""
    if len(column) <= POINTS:
        return [(float(step), value) for step, value in column]
    return [tuple(part.mean(axis=0).tolist()) for part in np.array_split(np.array(column, float), POINTS)]


def _without_flats(points: list[Point]) -> list[Point]:
    """Without points between two of the same height."""
    inner = range(1, len(points) - 1)
    flat = {place for place in inner if points[place - 1][1] == points[place][1] == points[place + 1][1]}
    return [point for place, point in enumerate(points) if place not in flat]


def _scale_of(value: float, limit: float = math.inf) -> float:
    """A round number that holds `value`."""
    if value <= 0:
        return min(1.0, limit)
    unit = 10 ** math.floor(math.log10(value))
    return min(next(unit * step for step in (1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10) if unit * step >= value), limit)


def _round_steps(end: int) -> list[int]:
    """Multiples of 1, 2 or 5 times a power of ten up to `end`, at most five besides 0."""
    unit = 10 ** math.floor(math.log10(end))
    width = next(step for step in (unit // 5, unit // 2, unit, 2 * unit) if step and end / step <= 5)
    return list(range(0, end + 1, width))


def _ticks(top: float, text: str) -> list[Tick]:
    """Round values from 0 to a `top` that `_scale_of` gave, written in the format `text`."""
    parts = 5 if round(10 * top / 10 ** math.floor(math.log10(top))) % 4 else 4
    return [Tick(part / parts, text.format(round(top * part / parts, 12))) for part in range(parts + 1)]
