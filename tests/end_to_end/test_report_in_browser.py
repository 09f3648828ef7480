"""The report in a browser: what it shows, what keys and clicks do, and that it asks for nothing."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from augment import Selection, Task, load_tasks
from benchmarks.bench_report import describe, make_up, measure
from submissions import make_submission, score_submission, write_report
from tests.helpers.browser import NAMES, Browser, find_chromium

CHROMIUM = find_chromium()
pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason=f"none of {', '.join(NAMES)} is on PATH: apt-get install chromium"
)
TASKS = load_tasks("arc-agi-1/evaluation", Selection(limit=24))
HOSTILE = '</script><img src=x onerror="window.harmed=1">\'&#\\ %3C+'
DRAWN = "document.querySelector('#task:not([aria-busy]) canvas.drawn')"


def write(path: Path, tasks: list[Task], **details: Any) -> Path:
    made = make_up(tasks, candidates=8, steps=5)
    submission = make_submission(made["ballot"], tasks)
    score = score_submission(submission, tasks, "here", made["ballot"], [])
    write_report(path, tasks, submission, **{"title": "here", "score": score, **made, **details})
    return path


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of 24 tasks."""
    return write(tmp_path_factory.mktemp("report") / "report.html", TASKS)


@pytest.fixture(scope="module")
def started() -> Iterator[Browser]:
    """One browser for all tests."""
    with Browser(str(CHROMIUM)) as browser:
        yield browser


@pytest.fixture
def browser(started: Browser) -> Iterator[Browser]:
    """The browser; whatever a test did with it, the page complained of nothing and asked for itself only."""
    started.resize(1440, 1000)
    yield started
    assert started.errors == []
    assert {request.split("#")[0] for request in started.requests} == {started.evaluate("location.href.split('#')[0]")}


def ids(browser: Browser) -> list[str]:
    """The tasks on the wall, in order."""
    return browser.evaluate("[...document.querySelectorAll('.tile .id')].map((id) => id.textContent)")


def choose(browser: Browser, element: str, value: str) -> None:
    """Give a control another value, as a user would."""
    browser.evaluate(
        f"(() => {{ const control = document.querySelector({element!r}); control.value = {value!r};"
        "for (const kind of ['input', 'change']) control.dispatchEvent(new Event(kind, { bubbles: true })); })()"
    )


def open_task(browser: Browser, report: Path, number: int = 0) -> str:
    """Open the page at a task; returns its ID."""
    browser.open(report, f"#task={TASKS[number].id}")
    browser.wait_for(DRAWN)
    return browser.evaluate("document.querySelector('#task h1').textContent")


def pixels(browser: Browser, canvas: str) -> str:
    """What is painted on a canvas."""
    return browser.evaluate(f"document.querySelector({canvas!r}).toDataURL()")


def test_the_wall_has_a_tile_for_every_task_and_draws_those_in_sight(browser: Browser, report: Path) -> None:
    browser.open(report)
    assert ids(browser) == sorted(task.id for task in TASKS)
    assert browser.evaluate("document.getElementById('count').textContent") == "24 tasks"
    browser.evaluate("document.getElementById('wall').scrollIntoView({ behavior: 'instant' })")
    browser.wait_for("document.querySelectorAll('#wall canvas.drawn').length >= 24")
    label = browser.evaluate("document.querySelector('#wall canvas').getAttribute('aria-label')")
    assert label.startswith("grid of ")
    assert browser.evaluate("document.querySelectorAll('.chart').length") == 5


def test_filters_narrow_the_wall_and_the_address_keeps_them(browser: Browser, report: Path) -> None:
    browser.open(report)
    browser.evaluate("document.querySelector('.chips .solved input').click()")
    solved = ids(browser)
    assert 0 < len(solved) < 24
    assert browser.evaluate("document.querySelectorAll('.tile.solved').length") == len(solved)
    assert browser.evaluate("document.getElementById('count').textContent") == f"{len(solved)} of 24 tasks"
    choose(browser, "#find", solved[0][:5].upper())
    assert ids(browser) == [solved[0]]
    place = browser.evaluate("location.hash")
    browser.open(report, place)
    assert ids(browser) == [solved[0]]
    assert browser.evaluate("document.getElementById('find').value") == solved[0][:5].upper()


def test_sorting_changes_the_order_and_can_be_turned(browser: Browser, report: Path) -> None:
    browser.open(report)
    for sort in ("outcome", "share", "confidence", "size", "candidates"):
        choose(browser, "#sort", sort)
        values = browser.evaluate(f"listed().map((number) => tiles[number].{sort})")
        if sort == "outcome":
            values = [["solved", "partly", "found", "missed"].index(value) for value in values]
        assert values == sorted(values, reverse=sort not in ("outcome", "size"))
        assert ids(browser) != sorted(ids(browser))
    before = ids(browser)
    browser.evaluate("document.getElementById('turned').click()")
    assert ids(browser) == before[::-1]


def test_a_click_opens_a_task_and_back_returns_to_the_wall(browser: Browser, report: Path) -> None:
    browser.open(report)
    browser.evaluate("document.querySelectorAll('.tile')[5].click()")
    browser.wait_for(DRAWN)
    wanted = sorted(task.id for task in TASKS)[5]
    assert browser.evaluate("document.querySelector('#task h1').textContent") == wanted
    assert browser.evaluate("document.activeElement.tagName") == "H1"
    assert browser.evaluate("location.hash") == f"#task={wanted}"
    browser.evaluate("history.back()")
    browser.wait_for("document.getElementById('task').hidden")
    assert len(ids(browser)) == 24
    assert browser.evaluate("document.activeElement.querySelector('.id').textContent") == wanted


def test_keys_go_through_the_tasks_of_the_filter(browser: Browser, report: Path) -> None:
    browser.open(report)
    browser.evaluate("document.querySelector('.chips .found input').click()")
    found = ids(browser)
    for key in ("j", "ArrowRight", "j", "k", "Enter"):
        browser.press(key)
    browser.wait_for(DRAWN)
    title = "document.querySelector('#task h1').textContent"
    assert browser.evaluate(title) == found[1]
    for key, place in (("j", 2), ("ArrowLeft", 1), ("k", 0), ("k", 0)):
        browser.press(key)
        browser.wait_for(f"{title} === '{found[place]}'")
    browser.press("Escape")
    assert browser.evaluate("document.getElementById('task').hidden")
    browser.press("/")
    assert browser.evaluate("document.activeElement.id") == "find"
    browser.press("j")
    assert browser.evaluate("document.getElementById('find').value") == "j", "in the search a letter is a letter"


def test_arrows_move_by_rows_on_the_wall(browser: Browser, report: Path) -> None:
    browser.open(report)
    columns = browser.evaluate(
        "getComputedStyle(document.getElementById('wall')).gridTemplateColumns.split(' ').length"
    )
    for key in ("j", "ArrowDown", "ArrowRight"):
        browser.press(key)
    focused = browser.evaluate("document.activeElement.querySelector('.id').textContent")
    assert focused == ids(browser)[columns + 1]
    assert browser.evaluate("document.querySelectorAll('.tile[tabindex=\"0\"]').length") == 1


def test_help_opens_and_escape_closes_only_that(browser: Browser, report: Path) -> None:
    open_task(browser, report)
    browser.press("?")
    assert browser.evaluate("document.getElementById('help').open")
    browser.press("Escape")
    browser.wait_for("!document.getElementById('help').open")
    assert not browser.evaluate("document.getElementById('task').hidden")


def test_a_task_page_shows_everything_of_the_task(browser: Browser, report: Path) -> None:
    assert open_task(browser, report) == TASKS[0].id
    pairs = len(TASKS[0].demonstrations)
    assert browser.evaluate("document.querySelectorAll('.pair canvas').length") == 2 * pairs
    names = browser.evaluate("[...document.querySelectorAll('.figures-row b')].map((name) => name.textContent)")
    assert names == ["Test input", "Attempt 1", "Attempt 2", "Truth"]
    assert browser.evaluate("document.querySelectorAll('.candidates tbody tr').length") >= 5
    assert browser.evaluate("document.querySelectorAll('.candidates tbody tr.right').length") == 1
    assert browser.evaluate("document.querySelectorAll('.strip thead button').length") == 5


def test_wrong_cells_are_marked_where_they_differ(browser: Browser, report: Path) -> None:
    browser.open(report)
    assert browser.evaluate("findWrong('12/34', '12/33')") == [[False, False], [False, True]]
    assert browser.evaluate("findWrong('12', '12/33')") is None
    found = browser.evaluate("findWrongOnCanvas('12|./3|../||00', '12/34')")
    assert (found["wrong"], found["of"]) == (2, 8), "one cell and an end mark; what lies further out does not count"
    assert browser.evaluate("findWrongOnCanvas('1', '12/34')")["wrong"] == 3, "what the canvas cannot hold is wrong"


def test_the_recursion_moves_by_keys_clicks_and_by_itself(browser: Browser, report: Path) -> None:
    open_task(browser, report)
    browser.evaluate("document.querySelector('.player').scrollIntoView({ block: 'center', behavior: 'instant' })")
    browser.wait_for("document.querySelectorAll('.player canvas.drawn').length === 2")
    step = "document.querySelector('.facts b').textContent"
    assert browser.evaluate(step) == "Supervision step 5 of 5"
    last = pixels(browser, ".player canvas")
    for key, shown in ((".", 5), (",", 4), (",", 3), (".", 4)):
        browser.press(key)
        assert browser.evaluate(step) == f"Supervision step {shown} of 5"
    browser.evaluate("document.querySelector('.strip thead button').click()")
    assert browser.evaluate(step) == "Supervision step 1 of 5"
    assert pixels(browser, ".player canvas") != last
    assert browser.evaluate("[...document.querySelectorAll('.strip .now')].map((cell) => cell.cellIndex)") == [1] * 7
    browser.evaluate("document.activeElement.blur()")
    browser.press(" ")
    browser.wait_for(f"{step} === 'Supervision step 3 of 5'")
    browser.press(" ")
    assert browser.evaluate("playing === null")


def test_the_other_palette_paints_other_colours_and_is_remembered(browser: Browser, report: Path) -> None:
    open_task(browser, report)
    first = ".pair canvas"
    before = pixels(browser, first)
    browser.press("p")
    safe = pixels(browser, first)
    assert safe != before
    # Reloaded, not opened: a busy Chromium may end the old page's process before what it stored has come through.
    browser.evaluate("window.old = true, location.reload()")
    browser.wait_for(f"!window.old && {DRAWN}")
    assert pixels(browser, first) == safe
    browser.press("p")
    assert pixels(browser, first) == before


def test_dark_follows_the_system_and_can_be_switched(browser: Browser, report: Path) -> None:
    page = "getComputedStyle(document.body).backgroundColor"
    browser.open(report)
    light = browser.evaluate(page)
    browser.resize(1440, 1000, dark=True)
    dark = browser.evaluate(page)
    assert dark != light
    browser.press("d")
    assert browser.evaluate(page) == light
    browser.press("d")
    browser.resize(1440, 1000)
    assert browser.evaluate(page) == dark
    browser.press("d")
    assert browser.evaluate(page) == light


def test_nothing_sticks_out_on_a_phone(browser: Browser, report: Path) -> None:
    browser.resize(390, 844)
    browser.open(report)
    assert browser.evaluate("document.documentElement.scrollWidth") <= 390
    for number in range(0, 24, 6):
        open_task(browser, report, number)
        assert browser.evaluate("document.documentElement.scrollWidth") <= 390


def test_a_folder_fetches_a_task_when_it_is_opened(browser: Browser, tmp_path: Path) -> None:
    folder = write(tmp_path / "report", TASKS[:3], form="folder")
    browser.open(folder / "index.html")
    browser.evaluate("document.querySelectorAll('.tile')[2].click()")
    browser.wait_for(DRAWN)
    assert browser.evaluate("document.querySelectorAll('.pair').length") == len(TASKS[2].demonstrations)
    assert browser.requests[1:] == [(folder / "tasks" / "2.js").resolve().as_uri()]
    (folder / "tasks" / "1.js").unlink()
    browser.press("k")
    browser.wait_for("document.querySelector('#task .marked')")
    assert "tasks/1.js is missing" in browser.evaluate("document.querySelector('#task .marked').textContent")
    browser.errors.clear()
    browser.requests[1:] = []


def test_hostile_words_stay_words(browser: Browser, tmp_path: Path) -> None:
    tasks = [replace(TASKS[0], id=HOSTILE), *TASKS[1:3]]
    page = write(tmp_path / "report.html", tasks, title=HOSTILE, run_info={HOSTILE: HOSTILE})
    browser.open(page)
    assert set(ids(browser)) == {task.id for task in tasks}
    number = ids(browser).index(HOSTILE)
    browser.evaluate(f"document.querySelectorAll('.tile')[{number}].click()")
    browser.wait_for(DRAWN)
    assert browser.evaluate("document.querySelector('#task h1').textContent") == HOSTILE
    browser.open(page, browser.evaluate("location.hash"))
    browser.wait_for(DRAWN)
    assert browser.evaluate("document.querySelector('#task h1').textContent") == HOSTILE
    assert browser.evaluate("window.harmed") is None
    assert browser.evaluate("document.images.length") == 0


def test_hidden_outputs_and_no_votes_make_a_page_too(browser: Browser, tmp_path: Path) -> None:
    tasks = [task.hidden() for task in TASKS[:2]]
    write_report(tmp_path / "r.html", tasks, {}, title="hidden")
    browser.open(tmp_path / "r.html")
    browser.evaluate("document.querySelector('.tile').click()")
    browser.wait_for(DRAWN)
    assert browser.evaluate("document.querySelectorAll('.blank').length") == 2
    assert browser.evaluate("document.querySelectorAll('.candidates, .recursion').length") == 0


def test_hundreds_of_tests_stay_in_their_tile(browser: Browser, tmp_path: Path) -> None:
    write(tmp_path / "r.html", list(load_tasks("sudoku-4x4/2+60")))
    browser.open(tmp_path / "r.html")
    assert browser.evaluate("document.querySelectorAll('.thumbs > *').length") == 9
    assert browser.evaluate("document.querySelector('.thumbs .more').textContent") == "+52"
    lowest = (
        "Math.max(...[...document.querySelectorAll('.thumbs > *')].map((each) => each.getBoundingClientRect().bottom))"
    )
    assert browser.evaluate(f"{lowest} <= document.querySelector('.name').getBoundingClientRect().top")


def test_the_benchmark_opens_both_forms() -> None:
    rows = measure(TASKS[:2], "here", candidates=3, steps=2, rounds=1)
    assert [row["form"] for row in rows] == ["file", "folder"]
    assert all(row[name] > 0 for row in rows for name in ("bytes", "write", "open", "a task"))
    assert all(f"| {row['form']} | {row['bytes'] / 1e6:.2f} |" in describe(rows, 2, "command") for row in rows)
