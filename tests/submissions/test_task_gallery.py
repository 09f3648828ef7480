"""The page of tasks: it opens offline, and shows the tasks and some of their augmentations."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from augment import DIHEDRALS, Augmentation, Pair, Selection, Task, apply, count_distinct, load_tasks, task_canvas
from submissions.report import task_gallery
from submissions.report.svg_grid import Sheet
from submissions.report.task_gallery import DIHEDRAL_WORDS, PAIRS_SHOWN, draw_task, write_gallery
from tests.helpers.commands import refuse, run
from tests.helpers.html_page import Page

TASKS = load_tasks("arc-agi-1/training", Selection(limit=3))
ODD = replace(TASKS[0].hidden(), id='g0 <b>"&%20')


def write(tmp_path: Path, tasks: list[Task], augmentations: int = 3) -> tuple[str, Page]:
    write_gallery(tmp_path / "new" / "tasks.html", "here & <there>", tasks, augmentations)
    text = (tmp_path / "new" / "tasks.html").read_text()
    return text, Page(text)


def test_the_page_is_whole_and_asks_for_nothing_outside_itself(tmp_path: Path) -> None:
    text, page = write(tmp_path, [*TASKS, ODD])
    assert page.open == []
    assert len(page.ids) == len(set(page.ids))
    assert {link[1:] for link in page.links if link.startswith("#")} <= set(page.ids)
    assert {link for link in page.links if not link.startswith("#")} == {"data:,"}
    assert not re.search(r"https?:|//[a-z]|url\(|@import|<script", text)


def test_the_index_links_to_every_task_with_any_id(tmp_path: Path) -> None:
    _, page = write(tmp_path, [*TASKS, ODD])
    anchors = [f"task-{task.id}" for task in [*TASKS, ODD]]
    assert [link[1:] for link in page.links if link.startswith("#task-")] == anchors
    assert [name for name in page.ids if name.startswith("task-")] == anchors
    assert ODD.id in page.words
    assert "here & <there>" in page.words


def test_the_page_counts_pairs_and_says_canvas_and_distinct_puzzles(tmp_path: Path) -> None:
    words = " ".join(write(tmp_path, [*TASKS, ODD])[1].words.split())
    demonstrations = sum(len(task.demonstrations) for task in [*TASKS, ODD])
    assert f"4 tasks with {demonstrations} demonstrations and 4 test inputs, 1 of them with a hidden output." in words
    for task in TASKS:
        rows, columns = task_canvas(task)
        puzzles = count_distinct(task.demonstrations + task.tests)
        assert f"{task.id}canvas {rows} × {columns}{puzzles:,} distinct puzzles" in words
    assert words.count("output hidden") == 1


def test_the_pictures_are_those_of_the_task_and_of_its_augmentations() -> None:
    sheet = Sheet()
    task = TASKS[1]
    drawn = draw_task(task, 4, sheet)
    before = len(sheet.symbols)
    for pictures, pairs in ((drawn.demonstrations, task.demonstrations), (drawn.tests, task.tests)):
        assert pictures == [tuple(map(sheet.draw, pair.grids())) for pair in pairs]
    assert len({augmentation.name for augmentation in drawn.augmentations}) == 4
    for augmentation in drawn.augmentations:
        change = Augmentation.from_name(augmentation.name)
        assert augmentation.words == DIHEDRAL_WORDS[change.dihedral]
        expected = [tuple(sheet.draw(change.apply(grid)) for grid in pair.grids()) for pair in task.demonstrations[:2]]
        assert augmentation.pairs == expected
    assert len(sheet.symbols) == before


@pytest.mark.parametrize("dihedral", range(DIHEDRALS))
def test_the_words_say_what_the_transform_does(dihedral: int) -> None:
    transforms = {
        "colours only": lambda grid: grid,
        "quarter turn counter-clockwise": np.rot90,
        "half turn": lambda grid: np.rot90(grid, 2),
        "quarter turn clockwise": lambda grid: np.rot90(grid, -1),
        "flipped left to right": np.fliplr,
        "flipped upside down": np.flipud,
        "flipped over the main diagonal": np.transpose,
        "flipped over the other diagonal": lambda grid: np.rot90(grid, 2).T,
    }
    grid = np.arange(6, dtype=np.uint8).reshape(2, 3)
    expected = transforms[DIHEDRAL_WORDS[dihedral]](grid)
    assert np.array_equal(apply(grid, dihedral, np.arange(10, dtype=np.uint8)), expected)


def test_a_task_always_has_the_same_augmentations_and_no_more_than_there_are() -> None:
    alone, again = (draw_task(TASKS[2], 3, Sheet()) for _ in range(2))
    assert alone == again
    black = Task("black", (Pair(np.zeros((1, 1), np.uint8), np.zeros((1, 2), np.uint8)),), ())
    # Its only distinct puzzles are the task itself and the task turned by a quarter.
    assert (draw_task(black, 3, Sheet()).distinct, len(draw_task(black, 3, Sheet()).augmentations)) == (2, 1)
    assert draw_task(TASKS[2], 0, Sheet()).augmentations == []


def test_a_hidden_output_is_no_picture_and_not_guessed() -> None:
    public, hidden = (draw_task(task, 1, Sheet()) for task in (TASKS[0], TASKS[0].hidden()))
    assert [output is None for _, output in hidden.tests] == [True]
    assert (hidden.demonstrations, hidden.tests[0][0]) == (public.demonstrations, public.tests[0][0])


def test_long_tasks_without_tests_are_cut_and_say_so(tmp_path: Path) -> None:
    long = Task("long", TASKS[0].demonstrations * 5, ())
    drawn = draw_task(long, 1, Sheet())
    assert (len(drawn.demonstrations), drawn.tests, drawn.left_out) == (PAIRS_SHOWN, [], 25 - PAIRS_SHOWN)
    words = write(tmp_path, [long])[1].words
    assert "13 more pairs are not shown" in words
    assert "Test" not in words


def test_the_command_writes_a_new_file_and_overwrites_none(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    out = tmp_path / "new" / "tasks.html"
    line = ["tasks", "arc-agi-1/training", "--limit", "2", "--html", str(out), "--augmentations", "1"]
    assert run(*line) == 0
    assert Page(out.read_text()).words.count("|||") == 2
    written = out.read_bytes()
    assert run(*line) == 0
    assert "holds this page already" in capsys.readouterr().out
    assert "exists already" in refuse(capsys, *line[:-1], "2")
    assert out.read_bytes() == written


def test_more_drawings_than_a_page_can_hold_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(task_gallery, "MOST_AUGMENTATIONS", 1000)
    out = tmp_path / "tasks.html"
    words = ("tasks", "arc-agi-1/training", "--limit", "2", "--html", out, "--augmentations", str(10**12))
    assert "drawings of 2 tasks are more than the 1,000 that a page can hold" in refuse(capsys, *words)
    assert not out.exists()
    black = Task("black", (Pair(np.zeros((1, 1), np.uint8), np.zeros((1, 2), np.uint8)),), ())
    write_gallery(out, "one augmentation is all that there is", [black], 10**12)
    assert out.exists()


@pytest.mark.slow
def test_four_hundred_tasks_make_a_page_that_can_be_sent(tmp_path: Path) -> None:
    write_gallery(tmp_path / "tasks.html", "evaluation", load_tasks("arc-agi-1/evaluation"))
    assert (tmp_path / "tasks.html").stat().st_size < 15e6
