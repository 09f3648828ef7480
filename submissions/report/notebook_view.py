"""One task of a report for a notebook: a view comes in, a piece of HTML goes out that needs no script.

It shows what the task's page in the report shows, with SVG in ARC's colours.
"""

from dataclasses import dataclass

from submissions.report.svg_grid import PALETTES, mark_cells, trace_tokens
from submissions.report.template import render_page
from submissions.report.views import OUTCOMES, TaskView, read_canvas

FILLS = ("none", "#8888", *PALETTES["arc"])
"""By token: empty, end mark, the ten colours."""


@dataclass(frozen=True)
class Drawing:
    """A grid or canvas: its sides in cells, SVG paths with their fills, and the path of dots on wrong cells."""

    height: int
    width: int
    paths: list[tuple[str, str]]
    marks: str


def excerpt(view: TaskView) -> str:
    """Demonstrations, test inputs, attempts, candidates with their votes, and the recursion where it is known."""
    return render_page("excerpt.html.j2", task=view, labels=OUTCOMES, trace=trace)


def trace(text: str, truth: str | None = None) -> Drawing:
    """The drawing of a grid, with dots where it differs from a truth of the same shape."""
    tokens = read_canvas(text)
    wanted = None if truth is None else read_canvas(truth)
    marks = mark_cells(tokens != wanted) if wanted is not None and tokens.shape == wanted.shape else ""
    height, width = tokens.shape
    return Drawing(height, width, [(FILLS[token], path) for token, path in trace_tokens(tokens)], marks)
