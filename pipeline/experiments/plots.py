"""Plots of result tables as SVG text, for light and dark colour schemes."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from math import log2

from pipeline.experiments.svg_frame import make_svg

STYLE = """<style>
text { font: 13px system-ui, sans-serif; fill: #1f2328; } .soft, .tick { font-size: 12px; fill: #59636e; }
.rule { stroke: #d1d9e0; fill: none; } .line { fill: none; stroke-width: 2; }
.again { stroke-dasharray: 7 3; } .lead { fill: none; stroke-dasharray: 1 3; }
.seed { fill: #0969da; fill-opacity: .55; }
.mean { stroke: #0969da; stroke-width: 3; } .published { fill: none; stroke: #bc4c00; stroke-width: 1.5; }
.c0 { stroke: #0969da; } .c1 { stroke: #1a7f37; } .c2 { stroke: #bc4c00; } .c3 { stroke: #8250df; }
.c4 { stroke: #bf3989; } .c5 { stroke: #59636e; } .c6 { stroke: #9a6700; }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3; } .soft, .tick { fill: #9198a1; } .rule { stroke: #3d444d; }
.seed { fill: #4493f8; } .mean { stroke: #4493f8; } .published { stroke: #f0883e; }
.c0 { stroke: #4493f8; } .c1 { stroke: #3fb950; } .c2 { stroke: #f0883e; } .c3 { stroke: #ab7df8; }
.c4 { stroke: #db61a2; } .c5 { stroke: #9198a1; } .c6 { stroke: #d29922; } }
</style>"""
WIDTH = 760
NAMES = 250
ROW = 26
TOP = 40
LETTER = 7
LABEL = 17
"""Minimum distance between the labels of two curves, in pixels."""
COLOURS = 7
"""Number of line colours; further curves reuse them with dashed lines."""


@dataclass(frozen=True)
class Dots:
    """A row of a dot plot: its name, a share in [0, 1] for each seed, and the published share, if any."""

    name: str
    values: Sequence[float]
    published: float | None


@dataclass(frozen=True)
class Series:
    """A curve: its name and its points (x, share in [0, 1])."""

    name: str
    points: Sequence[tuple[int, float]]


def draw_dots(title: str, rows: Sequence[Dots], published: bool) -> str:
    """Return an SVG plot with a line for each row: a dot per seed, a bar at their mean, a diamond at the published one.

    Args:
        title: title of the plot.
        rows: from top to bottom.
        published: whether any row has a published share, so that the legend has to explain the diamond.
    """
    height = TOP + ROW * len(rows) + 48
    names = max(NAMES, LETTER * max(len(row.name) for row in rows) + 20)
    at = lambda share: round(names + (WIDTH - NAMES - 30) * share, 1)  # noqa: E731
    parts = [_text(8, 20, title)]
    for share in (0, 0.25, 0.5, 0.75, 1):
        parts += [
            f'<path class="rule" d="M{at(share)} {TOP - 8}V{height - 44}"/>',
            _text(at(share), height - 28, f"{share:.0%}", "tick", "middle"),
        ]
    for place, row in enumerate(rows):
        y = TOP + ROW * place + ROW / 2 - 6
        parts.append(_text(names - 12, y + 4, row.name, anchor="end"))
        parts += [f'<circle class="seed" cx="{at(value)}" cy="{y}" r="5"/>' for value in row.values]
        middle = at(sum(row.values) / len(row.values))
        parts.append(f'<path class="mean" d="M{middle} {y - 9}v18"/>')
        if row.published is not None:
            parts.append(f'<path class="published" d="M{at(row.published)} {y - 7}l6 7l-6 7l-6 -7z"/>')
    legend = "dots: seeds, bar: their mean" + ("; diamond: published, for the published scale" if published else "")
    parts.append(_text(8, height - 8, legend, "soft"))
    summary = "; ".join(f"{row.name} {sum(row.values) / len(row.values):.1%}" for row in rows)
    words = f"{title}: {summary}"
    return make_svg(WIDTH + names - NAMES, height, words, words, STYLE, parts)


def draw_series(title: str, x_label: str, curves: Sequence[Series], log: bool = True) -> str:
    """Return an SVG plot of curves, labelled at their right ends.

    The x axis is logarithmic and starts at 1, or linear and starts at 0.
    """
    left = 52
    right = WIDTH - 190
    last = max(x for curve in curves for x, _ in curve.points)
    # Not 0, by which the positions would be divided: log2(last) is 0 where all points are at x = 1.
    span = max(1e-9, log2(last) if log else last)
    at = lambda x: round(left + (right - left) * (log2(x) if log else x) / span, 1)  # noqa: E731
    up = lambda share: round(330 - 280 * share, 1)  # noqa: E731
    ticks = [2**power for power in range(int(log2(last)) + 1)] if log else [last * part // 5 for part in range(6)]
    parts = [_text(8, 20, title)]
    for share in (0, 0.25, 0.5, 0.75, 1):
        parts.append(f'<path class="rule" d="M{left} {up(share)}H{right}"/>')
        parts.append(_text(left - 8, up(share) + 4, f"{share:.0%}", "tick", "end"))
    parts += [_text(at(x), 350, f"{x:,}", "tick", "middle") for x in ticks]
    parts.append(_text((left + right) / 2, 376, x_label, "soft", "middle"))
    labels = _spread([up(curve.points[-1][1]) for curve in curves], LABEL, lowest=up(0))
    for number, (curve, label) in enumerate(zip(curves, labels, strict=True)):
        points = " ".join(f"{at(x)},{up(share)}" for x, share in curve.points)
        end = f"{at(curve.points[-1][0])} {up(curve.points[-1][1])}"
        colour = f"c{number % COLOURS}" + (" again" if number >= COLOURS else "")
        parts.append(f'<polyline class="line {colour}" points="{points}"/>')
        parts.append(f'<path class="lead {colour}" d="M{end}H{right}L{right + 14} {label}"/>')
        parts.append(_text(right + 18, label + 4, curve.name))
    summary = "; ".join(f"{curve.name}: {curve.points[0][1]:.1%} to {curve.points[-1][1]:.1%}" for curve in curves)
    width = right + 26 + max(190 - 26, LETTER * max(len(curve.name) for curve in curves))
    words = f"{title}, by {x_label}: {summary}"
    return make_svg(width, max(400, int(max(labels)) + LABEL), words, words, STYLE, parts)


def _spread(heights: Sequence[float], least: float, lowest: float) -> list[float]:
    """Move labels vertically, so that two of them are at least `least` apart.

    Heights are SVG's, which grow downwards. No label is moved above TOP, where the title is. None is moved below
    `lowest`, unless there are too many labels for the space between.
    """
    order = sorted(range(len(heights)), key=lambda place: heights[place])
    # A first pass, from the top, moves labels down; a second, from the bottom, moves up those that are then too low.
    moved = [0.0] * len(heights)
    free = float(TOP)
    for place in order:
        moved[place] = max(heights[place], free)
        free = moved[place] + least
    free = max(lowest, TOP + least * (len(heights) - 1))
    for place in reversed(order):
        moved[place] = min(moved[place], free)
        free = moved[place] - least
    return moved


def _text(x: float, y: float, words: str, style: str = "", anchor: str = "start") -> str:
    return f'<text class="{style}" x="{x}" y="{y}" text-anchor="{anchor}">{escape(words)}</text>'
