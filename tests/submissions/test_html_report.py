"""The data and the HTML of a report; tests/end_to_end/test_report_in_browser.py opens the page in a browser."""

import json
import re
import zlib
from base64 import b64decode
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from augment.task import Pair, Task
from submissions.report.html_report import write_report
from submissions.report.svg_grid import Sheet, find_boxes, mark_cells
from submissions.report.views import TaskView, read_canvas, view_task, view_tile, write_canvas
from submissions.score import score_submission
from submissions.submission_file import make_submission, placeholder_submission
from submissions.vote import Candidate
from tests.helpers.html_page import INPUT, OTHER, SMALL, TASK, TRUTH, Page, candidates, grid, recursion


def view(*lists: list[Candidate], task: Task = TASK) -> TaskView:
    ballot = {task.id: list(lists)}
    return view_task(task, make_submission(ballot, [task]), ballot)


def write_page(tmp_path: Path, lists, **details) -> tuple[str, Page]:
    ballot = {TASK.id: lists}
    write_report(tmp_path / "report.html", [TASK], make_submission(ballot, [TASK]), title="here", **details)
    text = (tmp_path / "report.html").read_text()
    return text, Page(text)


def everything() -> dict:
    """All optional arguments of `write_report`."""
    ballot = {TASK.id: [candidates(OTHER, TRUTH)]}
    score = score_submission(make_submission(ballot, [TASK]), [TASK], "here", ballot)
    curves = [{"step": 10 * step, "loss": 1 / step, "exact": 0.1 * step} for step in range(1, 6)]
    details = {"ballot": ballot, "score": score, "curves": curves, "recursions": {(TASK.id, 0): recursion()}}
    return details | {"run_info": {"seed": "<7>"}}


def unpack(blob: str) -> dict:
    return json.loads(zlib.decompress(b64decode(blob), wbits=-zlib.MAX_WBITS))


def test_the_page_is_whole_and_asks_for_nothing_outside_itself(tmp_path: Path) -> None:
    text, page = write_page(tmp_path, [candidates(OTHER, TRUTH)], **everything())
    assert page.open == []
    assert len(page.ids) == len(set(page.ids))
    assert {link[1:] for link in page.links if link.startswith("#")} <= set(page.ids)
    assert {link for link in page.links if not link.startswith("#")} == {"data:,"}
    assert not re.search(r"https?:|//[a-z]|url\(|@import", text)


def test_the_page_says_the_score_and_escapes_what_it_is_given(tmp_path: Path) -> None:
    _, page = write_page(tmp_path, [candidates(OTHER, TRUTH)], **everything())
    words = " ".join(page.words.split())
    assert "100.0% macro pass@2, 95% interval 20.7% to 100.0%" in words
    assert "1 of 1 test outputs solved, 1 of 1 tasks completely" in words
    assert "The tasks trained on are not known" in words
    assert "<7>" in words


def test_the_remark_on_what_was_trained_on_and_pooled_is_shown(tmp_path: Path) -> None:
    ballot = {TASK.id: [candidates(OTHER, TRUTH)]}
    submission = make_submission(ballot, [TASK])
    score = score_submission(submission, [TASK], "here", ballot, [TASK.id], merged=["one", "two"])
    text, page = write_page(tmp_path, ballot[TASK.id], score=score)
    assert re.search(r'class="remark marked">NO SCORE ON UNSEEN TASKS: 1 of 1', text)
    assert "one, two" in page.words


def test_what_is_not_known_is_simply_absent(tmp_path: Path) -> None:
    titles = {"Right among the first K", "Votes against correctness", "Training loss", "Examples solved in training"}
    _, page = write_page(tmp_path, [candidates(OTHER, TRUTH)], **everything())
    assert {title for title in {*titles, "Solved by kind"} if title in page.words} == {*titles, "Solved by kind"}
    _, page = write_page(tmp_path, [candidates(OTHER, TRUTH)])
    assert not {title for title in {*titles, "Solved by kind", "Charts"} if title in page.words}


def test_hidden_tasks_get_a_page_without_a_score(tmp_path: Path) -> None:
    write_report(tmp_path / "r.html", [TASK.hidden()], placeholder_submission([TASK]), title="hidden")
    page = Page((tmp_path / "r.html").read_text())
    assert "nothing is scored" in page.words
    assert "pass@2" not in page.words
    assert unpack(page.scripts["blob-0"])["tests"][0]["truth"] is None


def test_the_page_holds_the_wall_and_a_blob_for_each_task(tmp_path: Path) -> None:
    _, page = write_page(tmp_path, [candidates(OTHER, TRUTH)], **everything())
    wall = json.loads(page.scripts["tiles"])
    assert [(tile["id"], tile["outcome"], tile["outputs"]) for tile in wall["tiles"]] == [
        (TASK.id, "solved", [{"outcome": "solved", "grid": "11/22"}])
    ]
    task = unpack(page.scripts["blob-0"])
    assert task["demonstrations"] == [["12/34", "11/22"]]
    assert [candidate["grid"] for candidate in task["tests"][0]["candidates"]] == ["11/23", "11/22"]
    assert task["tests"][0]["recursion"]["halting"] == [0.5, None, 1], "JSON cannot represent NaN"


def test_an_id_cannot_leave_the_script_it_stands_in(tmp_path: Path) -> None:
    task = replace(TASK, id="</script><script>alert(1)</script><!--<script>")
    write_report(tmp_path / "r.html", [task], placeholder_submission([task]), title="</title><script>")
    page = Page((tmp_path / "r.html").read_text())
    assert json.loads(page.scripts["tiles"])["tiles"][0]["id"] == task.id
    assert unpack(page.scripts["blob-0"])["id"] == task.id
    assert page.open == []
    assert "alert(1)" not in page.words


def test_the_folder_holds_the_same_and_its_files_have_safe_names(tmp_path: Path) -> None:
    task = replace(TASK, id="../up")
    for form in ("file", "folder"):
        write_report(tmp_path / form, [TASK, task], placeholder_submission([TASK, task]), title="here", form=form)
    whole, index = (Page(path.read_text()) for path in (tmp_path / "file", tmp_path / "folder" / "index.html"))
    assert whole.scripts["tiles"] == index.scripts["tiles"]
    files = {path.relative_to(tmp_path / "folder").as_posix(): path for path in (tmp_path / "folder").rglob("*.*")}
    assert files.keys() == {"index.html", "tasks/0.js", "tasks/1.js"}
    assert files["tasks/1.js"].read_text() == f'receiveBlob(1,"{whole.scripts["blob-1"]}")\n'
    assert "blob-0" not in index.scripts


def test_a_report_replaces_an_older_one_and_nothing_else(tmp_path: Path) -> None:
    for tasks in ([TASK, replace(TASK, id="b")], [TASK]):
        write_report(tmp_path / "new", tasks, placeholder_submission(tasks), title="here", form="folder")
    assert [path.name for path in (tmp_path / "new" / "tasks").iterdir()] == ["0.js"]
    (tmp_path / "new" / "mine.txt").write_text("keep")
    with pytest.raises(ValueError, match="something other than a report"):
        write_report(tmp_path / "new", [TASK], placeholder_submission([TASK]), title="here", form="folder")
    assert (tmp_path / "new" / "mine.txt").exists()


@pytest.mark.parametrize(
    ("grids", "outcome"),
    [
        ([TRUTH], "solved"),
        ([OTHER, TRUTH], "solved"),
        ([OTHER, SMALL, TRUTH], "found"),
        ([OTHER, SMALL], "missed"),
        ([], "missed"),
    ],
)
def test_the_outcome_of_a_task(grids: list[np.ndarray], outcome: str) -> None:
    assert view(candidates(*grids)).outcome == outcome
    assert view(candidates(*grids), task=TASK.hidden()).outcome == "hidden"


def test_a_task_is_partly_solved_when_one_of_its_outputs_is() -> None:
    task = Task("two", TASK.demonstrations, (*TASK.tests, Pair(SMALL, TRUTH)))
    assert view(candidates(TRUTH), candidates(OTHER), task=task).outcome == "partly"
    assert view(candidates(TRUTH), candidates(TRUTH), task=task).outcome == "solved"


def test_attempts_say_how_they_are_wrong() -> None:
    first, second = view(candidates(OTHER, SMALL)).tests[0].attempts
    assert (first.remark, second.remark) == ("1 of 4 wrong", "1×1, not 2×2")
    assert view(candidates(TRUTH)).tests[0].attempts[0].right
    assert view(candidates(OTHER)).tests[0].attempts[1].remark == "same as attempt 1"


def test_a_placeholder_is_shown_as_no_prediction_unless_it_was_voted_for() -> None:
    assert [attempt.grid for attempt in view([]).tests[0].attempts] == [None, None]
    assert view(candidates(grid("0"))).tests[0].attempts[0].grid == "0"


def test_candidates_are_the_first_five_and_the_right_one_at_any_rank() -> None:
    others = [grid(str(colour)) for colour in range(1, 9)]
    test = view(candidates(*others, TRUTH)).tests[0]
    ranks = [(candidate.place, candidate.right) for candidate in test.candidates]
    assert ranks == [*((n, False) for n in range(1, 6)), (9, True)]
    assert (test.candidates_in_all, test.votes) == (9, 45)
    assert test.candidates[0].share == pytest.approx(9 / 45)


def test_a_candidate_keeps_its_figures_and_leaves_out_what_is_no_number() -> None:
    known, unknown = view([Candidate(OTHER, 3, 0.5, 2, -0.25), Candidate(SMALL, 1, 0.5)]).tests[0].candidates
    assert (known.count, known.confidence, known.augmentations, known.log_prob) == (3, 0.5, 2, -0.25)
    assert unknown.log_prob is None


def test_a_tile_has_what_the_wall_is_sorted_by() -> None:
    task = Task("two", TASK.demonstrations, (*TASK.tests, Pair(INPUT, grid("111", "222"))))
    first = [Candidate(OTHER, 3, 0.5), Candidate(TRUTH, 1, 0.25)]
    tile = view_tile(view(first, [Candidate(SMALL, 7, 0.1)], task=task))
    assert [(output.outcome, output.grid) for output in tile.outputs] == [("solved", "11/22"), ("missed", "1")]
    assert (tile.outcome, tile.candidates, tile.size) == ("partly", 2, 6)
    assert (tile.share, tile.confidence) == pytest.approx(((0.75 + 1) / 2, 0.3))


@given(arrays(np.uint8, st.tuples(st.integers(1, 30), st.integers(1, 30)), elements=st.integers(0, 11)))
def test_canvases_survive_a_round_trip_through_text(tokens: np.ndarray) -> None:
    assert np.array_equal(read_canvas(write_canvas(tokens)), tokens)


def test_the_letters_of_a_canvas() -> None:
    assert write_canvas(np.array([[2, 11, 1], [1, 1, 0]], np.uint8)) == "09|/||."


def test_each_different_grid_is_drawn_once() -> None:
    sheet = Sheet()
    first, again, other = sheet.draw(TRUTH), sheet.draw(TRUTH.copy()), sheet.draw(TRUTH.T.copy())
    assert first == again != other
    assert len(sheet.symbols) == 2


@given(arrays(np.bool_, st.tuples(st.integers(1, 7), st.integers(1, 7))))
def test_boxes_cover_exactly_the_cells_once(mask):
    painted = np.zeros(mask.shape, int)
    for row, column, height, width in find_boxes(mask):
        painted[row : row + height, column : column + width] += 1
    assert np.array_equal(painted, mask.astype(int))


def test_a_block_is_one_box():
    assert find_boxes(grid("011", "011") == 1) == [(0, 1, 2, 2)]
    assert mark_cells(grid("011", "000") == 1) == "M1.5 0.5h0M2.5 0.5h0"
