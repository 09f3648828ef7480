"""Render one task of a report as HTML for a notebook, without scripts.

It shows the same as the task's page in the report, with SVG in ARC's colours.
"""

from dataclasses import dataclass

from submissions.report.svg_grid import PALETTES, mark_cells, trace_tokens
from submissions.report.template import render_page
from submissions.report.views import OUTCOMES, TaskView, read_canvas

FILLS = ("none", "#8888", *PALETTES["arc"])
"""The SVG fill of each token: empty, end mark, then the ten colours."""


@dataclass(frozen=True)
class Drawing:
    """A drawn grid or canvas.

    Attributes:
        height, width: sides in cells.
        paths: (fill, SVG path) for each token.
        marks: SVG path of the dots on wrong cells.
    """

    height: int
    width: int
    paths: list[tuple[str, str]]
    marks: str


def excerpt(view: TaskView) -> str:
    """Return HTML with the demonstrations, test inputs, attempts, candidates with votes and any recursion trace."""
    return render_page("excerpt.html.j2", task=view, labels=OUTCOMES, trace=trace)


def trace(text: str, truth: str | None = None) -> Drawing:
    """Draw a grid, with dots on the cells that differ from a truth of the same shape."""
    tokens = read_canvas(text)
    target = None if truth is None else read_canvas(truth)
    marks = mark_cells(tokens != target) if target is not None and tokens.shape == target.shape else ""
    height, width = tokens.shape
    return Drawing(height, width, [(FILLS[token], path) for token, path in trace_tokens(tokens)], marks)
