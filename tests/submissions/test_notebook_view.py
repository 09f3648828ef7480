"""The notebook view of a task: it shows everything in its view, and escapes text."""

from dataclasses import replace

import numpy as np

from augment import Task, load_tasks
from submissions import make_submission
from submissions.report.notebook_view import excerpt, trace
from submissions.report.views import view_task, write_grid
from tests.helpers.html_page import OTHER, SMALL, TASK, TRUTH, Page, candidates, recursion


def show(task: Task, *grids: np.ndarray, steps: int = 0) -> tuple[str, Page]:
    ballot = {task.id: [candidates(*grids)]}
    recursions = {(task.id, 0): recursion(steps)} if steps else {}
    text = excerpt(view_task(task, make_submission(ballot, [task]), ballot, recursions))
    return text, Page(text)


def test_every_grid_of_the_view_is_drawn() -> None:
    text, page = show(TASK, OTHER, TRUTH, SMALL, steps=3)
    assert page.open == []
    # A demonstration pair, the test input, two attempts, the truth, three candidates, two latents of three steps.
    assert text.count("<svg") == 2 + 1 + 2 + 1 + 3 + 2 * 3
    words = " ".join(page.words.split())
    assert "6 votes for 3 different grids" in words
    assert "1 of 4 wrong" in words
    assert "2: right" in words
    assert "step 3" in words
    assert "halt unknown" in words


def test_what_is_not_known_is_left_out() -> None:
    _, page = show(TASK.hidden())
    assert not {word for word in ("Truth", "Candidates", "Recursion") if word in page.words}
    assert page.words.count("?") == 2


def test_an_id_is_words_only() -> None:
    task = replace(TASK, id="<script>alert(1)</script>")
    text, page = show(task, OTHER)
    assert "<script" not in text
    assert task.id in page.words


def test_wrong_cells_get_dots_where_the_grids_can_be_compared() -> None:
    assert trace(write_grid(OTHER), write_grid(TRUTH)).marks == "M1.5 1.5h0"
    assert trace(write_grid(SMALL), write_grid(TRUTH)).marks == ""
    assert trace(write_grid(OTHER)).marks == ""


def test_the_paths_cover_every_cell_once() -> None:
    grid = load_tasks("arc-agi-1/training")[7].tests[0].input
    painted = 0
    for _, path in trace(write_grid(grid)).paths:
        for box in path.split("M")[1:]:
            width, height = box.split("h")[1].split("v")[0], box.split("v")[1].split("h")[0]
            painted += int(width) * int(height)
    assert painted == grid.size
