import re
from html.parser import HTMLParser

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from augment.task import Pair, Task
from submissions.format import filler_submission, make_submission
from submissions.picture import Sheet, find_boxes, mark_cells
from submissions.report import view_task, write_report
from submissions.score import score_submission
from submissions.vote import Candidate

VOID = {"meta", "link", "br", "input"}


def grid(*rows: str) -> np.ndarray:
    return np.array([[int(cell) for cell in row] for row in rows], np.uint8)


INPUT, TRUTH, OTHER, SMALL = grid("12", "34"), grid("11", "22"), grid("11", "23"), grid("1")
TASK = Task("task<1>", (Pair(INPUT, TRUTH),), (Pair(INPUT, TRUTH),))


def candidates(*grids: np.ndarray) -> list[Candidate]:
    return [Candidate(answer, len(grids) - place, 0.5) for place, answer in enumerate(grids)]


def view(*lists: list[Candidate], task: Task = TASK):
    ballot = {task.id: list(lists)}
    return view_task(task, make_submission(ballot, [task]), ballot, Sheet())


class Page(HTMLParser):
    """Collects links, IDs and text, and minds that every tag is closed in order."""

    def __init__(self, text: str):
        super().__init__()
        self.links, self.ids, self.open, self.words = [], [], [], ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.links += [value for name, value in attrs if name in ("href", "src", "xlink:href")]
        self.ids += [value for name, value in attrs if name == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words += data if "style" not in self.open else ""


def write_page(tmp_path, lists, **details) -> tuple[str, Page]:
    ballot = {TASK.id: lists}
    write_report(tmp_path / "report.html", [TASK], make_submission(ballot, [TASK]), title="here", **details)
    text = (tmp_path / "report.html").read_text()
    return text, Page(text)


def test_the_page_is_whole_and_asks_for_nothing_outside_itself(tmp_path):
    ballot = {TASK.id: [candidates(OTHER, TRUTH)]}
    score = score_submission(make_submission(ballot, [TASK]), [TASK], "here", ballot)
    text, page = write_page(tmp_path, ballot[TASK.id], ballot=ballot, score=score, run_info={"seed": "<7>"})
    assert page.open == []
    assert len(page.ids) == len(set(page.ids))
    assert {link[1:] for link in page.links if link.startswith("#")} <= set(page.ids)
    assert {link for link in page.links if not link.startswith("#")} == {"data:,"}
    assert not re.search(r"https?:|//[a-z]|url\(|@import|<script", text)


def test_the_page_says_the_score_and_escapes_what_it_is_given(tmp_path):
    ballot = {TASK.id: [candidates(OTHER, TRUTH)]}
    score = score_submission(make_submission(ballot, [TASK]), [TASK], "here", ballot)
    _, page = write_page(tmp_path, ballot[TASK.id], ballot=ballot, score=score, run_info={"seed": "<7>"})
    words = " ".join(page.words.split())
    assert "100.0% macro pass@2, 95% interval 20.7% to 100.0%" in words
    assert "1 of 1 test outputs solved, 1 of 1 tasks completely" in words
    assert "task<1>" in words
    assert "<7>" in words


def test_hidden_tasks_get_a_page_without_a_score(tmp_path):
    write_report(tmp_path / "r.html", [TASK.hidden()], filler_submission([TASK]), title="hidden")
    words = Page((tmp_path / "r.html").read_text()).words
    assert "nothing is scored" in words
    assert "Truth" not in words


@pytest.mark.parametrize(
    ("offered", "outcome"),
    [
        ([TRUTH], "solved"),
        ([OTHER, TRUTH], "solved"),
        ([OTHER, SMALL, TRUTH], "found"),
        ([OTHER, SMALL], "missed"),
        ([], "missed"),
    ],
)
def test_the_outcome_of_a_task(offered, outcome):
    assert view(candidates(*offered)).outcome == outcome
    assert view(candidates(*offered), task=TASK.hidden()).outcome == "hidden"


def test_a_task_is_partly_solved_when_one_of_its_outputs_is():
    task = Task("two", TASK.demonstrations, (*TASK.tests, Pair(SMALL, TRUTH)))
    assert view(candidates(TRUTH), candidates(OTHER), task=task).outcome == "partly"
    assert view(candidates(TRUTH), candidates(TRUTH), task=task).outcome == "solved"


def test_attempts_say_how_they_are_wrong():
    first, second = view(candidates(OTHER, SMALL)).tests[0].attempts
    assert (first.remark, first.marks) == ("1 of 4 wrong", "M1.5 1.5h0")
    assert second.remark == "1×1, not 2×2"
    assert view(candidates(TRUTH)).tests[0].attempts[0].right
    assert view(candidates(OTHER)).tests[0].attempts[1].remark == "the same again"


def test_filler_is_shown_as_no_answer_unless_it_was_voted_for():
    assert [attempt.picture for attempt in view([]).tests[0].attempts] == [None, None]
    assert view(candidates(grid("0"))).tests[0].attempts[0].picture is not None


def test_votes_show_the_first_five_and_the_right_one_wherever_it_is():
    others = [grid(str(colour)) for colour in range(1, 9)]
    votes = view(candidates(*others, TRUTH)).tests[0].votes
    assert [(vote.place, vote.right) for vote in votes] == [*((n, False) for n in range(1, 6)), (9, True)]
    assert votes[0].share == pytest.approx(9 / 45)


def test_each_different_grid_is_drawn_once():
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
