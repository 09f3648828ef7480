"""Compute the charts of the report as lines and bars in a unit square, which `charts.html.j2` draws as SVG.

The input is task views, a score and training curves. Positions run from 0 to 1, from left to right and from bottom to
top. The `words` of a chart describe it in text, for screen readers. A function returns None for a chart without data.
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
"""The most points of a curve; more would not be visible on a screen."""

Point = tuple[float, float]
Curves = Sequence[Mapping[str, Any]]
"""The lines of a run's metrics.jsonl, each as a mapping."""


@dataclass(frozen=True)
class Tick:
    """A position on an axis and its label."""

    at: float
    text: str


@dataclass(frozen=True)
class Line:
    """A curve with its name; `look` is its style: "first", "second" or "limit"."""

    name: str
    points: list[Point]
    look: str = "first"


@dataclass(frozen=True)
class Bar:
    """A vertical bar with its 95% interval (low, high) and the text above it."""

    left: float
    right: float
    height: float
    interval: Point
    text: str


@dataclass(frozen=True)
class Chart:
    """A chart: title, description, axes, lines and bars."""

    title: str
    words: str
    x_label: str
    y_label: str
    x_ticks: list[Tick]
    y_ticks: list[Tick]
    lines: list[Line] = field(default_factory=list)
    bars: list[Bar] = field(default_factory=list)


def draw_charts(views: Iterable[TaskView], score: Score | None, curves: Curves) -> list[Chart]:
    """Return all charts for which there are data."""
    charts = [
        draw_pass_at(score),
        draw_votes(views),
        draw_curves("Training loss", "loss per cell", {"loss": "loss"}, curves),
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
    """Plot macro pass@K against K on a logarithmic axis, with coverage as its limit."""
    if score is None or not score.pass_at or score.coverage is None:
        return None
    depths = {int(depth): value for depth, value in score.pass_at.items()}
    last = max(min(depth for depth, value in depths.items() if value == max(depths.values())), 10)
    ticks = [depth for depth in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000) if depth <= max(depths)]
    # The axis ends at the first tick from which on the curve is flat, but not before 10.
    end = next((tick for tick in ticks if tick >= last), max(depths))
    top = _scale_of(score.coverage.macro, 1)
    scale = math.log(end)
    places = {depth: (math.log(depth) / scale, depths[depth] / top) for depth in sorted(depths) if depth <= end}
    limit = score.coverage.macro / top
    values = ", ".join(f"pass@{depth} {depths[depth]:.1%}" for depth in (1, 2, 10, 100, 1000) if depth in depths)
    return Chart(
        "Right among the first K",
        f"Macro pass@K: {values}; its limit, the coverage, is {score.coverage.macro:.1%}.",
        "K, number of candidates",
        "macro pass@K",
        [Tick(places[tick][0], str(tick)) for tick in ticks if tick in places],
        _ticks(top, PERCENT),
        [
            Line("coverage", [(0, limit), (1, limit)], "limit"),
            Line("pass@K", _without_flats([*places.values()])),
        ],
    )


def draw_votes(views: Iterable[TaskView]) -> Chart | None:
    """Plot how often the first candidate is correct, by its share of the votes, with 95% Wilson intervals."""
    tests = [test for view in views for test in view.tests if test.truth is not None and test.candidates]
    if not tests:
        return None
    first = [test.candidates[0] for test in tests]
    bins = [min(int(candidate.share * BINS), BINS - 1) for candidate in first]
    counts = np.bincount(bins, minlength=BINS).tolist()
    right = np.bincount(bins, [candidate.right for candidate in first], BINS).astype(int).tolist()
    bars = [_share_bar(place, right[place], counts[place]) for place in range(BINS) if counts[place]]
    names = [f"{100 * place // BINS} to {100 * (place + 1) // BINS}% of the votes" for place in range(BINS)]
    values = [f"{name}: {right[place]} of {counts[place]}" for place, name in enumerate(names) if counts[place]]
    return Chart(
        "Votes against correctness",
        f"First candidates that are right, by their share of the votes. {'; '.join(values)}.",
        "votes of the first candidate",
        "share right",
        _ticks(1, PERCENT),
        _ticks(1, PERCENT),
        bars=bars,
    )


def draw_curves(title: str, label: str, names: Mapping[str, str], curves: Curves, shares: bool = False) -> Chart | None:
    """Plot columns of `curves` against the training step.

    Args:
        title: title of the chart.
        label: label of the vertical axis.
        names: the column names, each with the name of its line; at most two columns with data are drawn.
        curves: lines of metrics.jsonl.
        shares: whether the values are shares, so that the vertical axis ends at 1 and has percent labels.
    """
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
    ranges = [f"{names[name]} {column[0][1]:.3g} to {column[-1][1]:.3g}" for name, column in columns.items()]
    x_ticks = [Tick(step / end, f"{step:,}") for step in _round_steps(end)]
    words = f"{title}, from step {columns[next(iter(columns))][0][0]:,} to {end:,}: {'; '.join(ranges)}."
    return Chart(title, words, "training step", label, x_ticks, _ticks(top, PERCENT if shares else "{:.3g}"), lines)


def _share_bar(place: int, right: int, count: int) -> Bar:
    share = right / count
    return Bar(place / BINS, (place + 1) / BINS, share, wilson_interval(share, count), str(count))


def _column(curves: Curves, name: str) -> list[tuple[int, float]]:
    """Return (step, value) for the lines with a finite value in a column."""
    points = [(line.get("step"), line.get(name)) for line in curves]
    return [(step, float(value)) for step, value in points if step and value is not None and math.isfinite(value)]


def _thinned(column: list[tuple[int, float]]) -> list[Point]:
    """Reduce a column to at most POINTS points, each the mean of a group of neighbours."""
    if len(column) <= POINTS:
        return [(float(step), value) for step, value in column]
    return [tuple(part.mean(axis=0).tolist()) for part in np.array_split(np.array(column, float), POINTS)]


def _without_flats(points: list[Point]) -> list[Point]:
    """Remove the points whose neighbours on both sides have the same height."""
    inner = range(1, len(points) - 1)
    flat = {place for place in inner if points[place - 1][1] == points[place][1] == points[place + 1][1]}
    return [point for place, point in enumerate(points) if place not in flat]


def _scale_of(value: float, limit: float = math.inf) -> float:
    """Return a round number that is at least `value`, but at most `limit`: the top of an axis."""
    if value <= 0:
        return min(1.0, limit)
    unit = 10 ** math.floor(math.log10(value))
    return min(next(unit * step for step in (1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10) if unit * step >= value), limit)


def _round_steps(end: int) -> list[int]:
    """Return multiples of 1, 2 or 5 times a power of ten up to `end`: 0 and at most five more."""
    unit = 10 ** math.floor(math.log10(end))
    width = next(step for step in (unit // 5, unit // 2, unit, 2 * unit) if step and end / step <= 5)
    return list(range(0, end + 1, width))


def _ticks(top: float, text: str) -> list[Tick]:
    """Return ticks at round values from 0 to `top`, which `_scale_of` returned, labelled in the format `text`."""
    # Four intervals if that gives round values (for 2, 4, 6 and 8), else five.
    parts = 5 if round(10 * top / 10 ** math.floor(math.log10(top))) % 4 else 4
    return [Tick(part / parts, text.format(round(top * part / parts, 12))) for part in range(parts + 1)]
