"""The build command: what it prints, and that each option reaches the set."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from augment import Pair, Selection, SourcedTasks, Task, build_puzzle_set, load_tasks, open_puzzle_set
from pipeline.config.run_config import PuzzleSettings
from pipeline.data.build import make_puzzle_set
from pipeline.data.summary import describe, describe_exceptions, describe_widths
from tests.helpers.commands import refuse, run
from tests.helpers.strategies import disguise

TASKS = load_tasks("arc-agi-1/training", Selection(max_side=5))


def cells(table: object) -> list[list[str]]:
    """The rows of a rich table."""
    columns = [list(column.cells) for column in table.columns]  # type: ignore[attr-defined]
    return [list(map(str, row)) for row in zip(*columns, strict=True)]


def test_the_table_counts_what_is_in_the_set() -> None:
    scored, train = TASKS[:3], TASKS[3:8]
    leaking = [*train, disguise(scored[0], 1, "copy")]
    sources = [SourcedTasks("s", "scored", scored), SourcedTasks("t", "train", leaking)]
    for on_leak, trained in (("allow", leaking), ("drop", train)):
        puzzle_set = build_puzzle_set(sources, 600, 0, on_leak=on_leak)  # type: ignore[arg-type]
        sizes = np.diff(puzzle_set.starts)
        is_train = np.array(puzzle_set.roles) == "train"
        pairs = sum(len(task.demonstrations) for task in scored)
        more = sum(len(task.demonstrations + task.tests) for task in trained)
        asked = sum(len(task.tests) for task in scored)
        short, puzzles = [(sizes < 601)[part].sum() for part in (~is_train, is_train)], sizes.sum()
        assert sum(short) > 0
        expected = [
            ["s", "scored", 3, pairs, asked, sizes[~is_train].sum(), short[0], 0],
            ["t", "train", len(trained), more, 0, sizes[is_train].sum(), short[1], 1],
            ["total", "", 3 + len(trained), pairs + more, asked, puzzles, sum(short), 1],
        ]
        rows = cells(describe(puzzle_set, bytes="7"))
        assert [row[:8] for row in rows] == [[f"{n:,}" if n != str(n) else n for n in row] for row in expected]
        assert rows[-1][-1] == "7"


def test_too_large_train_tasks_are_left_out_and_scored_ones_are_not() -> None:
    """Of a train task every grid counts, the test outputs too."""
    small, wide = np.zeros((2, 2), np.uint8), np.zeros((2, 6), np.uint8)

    def make(name: str, *grids: np.ndarray) -> Task:
        return Task(name, (Pair(grids[0], grids[1]),), (Pair(grids[2], grids[3]),))

    train = [make(f"wide{place}", *(wide if place == other else small for other in range(4))) for place in range(4)] + [
        make("small", small, small, small, small)
    ]
    sources = [SourcedTasks("s", "scored", [make("scored", wide, wide, wide, wide)]), SourcedTasks("t", "train", train)]
    built = {side: make_puzzle_set(sources, PuzzleSettings(augmentations=1, max_side=side), 0) for side in (None, 5, 6)}
    left = {side: sorted(task.id for task in puzzle_set.tasks) for side, puzzle_set in built.items()}
    assert left[5] == ["scored", "small"]
    assert len(left[None]) == len(left[6]) == 6


def test_what_was_left_out_is_listed_in_full() -> None:
    sources = [SourcedTasks("s", "scored", TASKS[:2]), SourcedTasks("t", "train", TASKS)]
    lines = describe_exceptions(build_puzzle_set(sources, 1, 0, on_leak="drop"))
    assert lines == [f"left out of t, tasks that contain a scored task (2): {TASKS[0].id}, {TASKS[1].id}"]


def test_duplicates_that_are_kept_are_listed() -> None:
    again = [replace(TASKS[4], id="again"), disguise(TASKS[5], 1, "another")]
    puzzle_set = build_puzzle_set([SourcedTasks("t", "train", TASKS), SourcedTasks("u", "train", again)], 1, 0)
    line = f"train tasks kept that have the pairs of another task (1): again = {TASKS[4].id}"
    assert describe_exceptions(puzzle_set) == [line]


def test_the_widths_and_their_waste_add_up() -> None:
    """Canvases of 6x6 and 4x6 cells, both padded to 36, and one of 7x7, padded to 121."""
    grids = [np.zeros(shape, np.uint8) for shape in ((5, 5), (3, 5), (6, 6))]
    tasks = [Task(str(number), (Pair(grid, grid),), ()) for number, grid in enumerate(grids)]
    line = describe_widths(build_puzzle_set([SourcedTasks("t", "train", tasks)], 0, 0))
    waste = (36 + 36 + 121) / (36 + 24 + 49) - 1
    assert line.endswith(f"36: 67% of tasks, 121: 33% of tasks; padding adds {waste:.0%} to the cells used")


def write_lists(folder: Path) -> Path:
    """A RE-ARC-style source: three tasks of many pairs."""
    folder.mkdir()
    for number, task in enumerate(TASKS[:3]):
        others = [pair for other in TASKS[3:] for pair in other.demonstrations]
        pairs = [*task.demonstrations, *others][: 30 + number]
        values = [{"input": p.input.tolist(), "output": p.output.tolist()} for p in pairs if p.output is not None]
        (folder / f"list{number}.json").write_text(json.dumps(values))
    return folder


def test_lists_of_pairs_and_extensions_are_built_by_the_command(tmp_path: Path) -> None:
    lists, words = write_lists(tmp_path / "lists"), ("build", "--augmentations", "3")
    assert run(*words, "--train", lists, "--pairs", "7", "--seed", "5", "--out", tmp_path / "old") == 0
    old = open_puzzle_set(tmp_path / "old")
    assert [len(old.training_pairs(task)) for task in range(3)] == [7, 7, 7]
    assert run(*words, "--train", lists, "--out", tmp_path / "default") == 0
    assert len(open_puzzle_set(tmp_path / "default").training_pairs(0)) == 20
    more = ("--train", lists, "--score", "arc-agi-1/training", "--limit", "2")
    assert run("build", "--extend", tmp_path / "old", *more, "--out", tmp_path / "new") == 0
    new = open_puzzle_set(tmp_path / "new")
    assert len(new.tasks) == 5, "the lists are the tasks that the set has"
    assert set(new.keys()) > set(old.keys())
    assert (new.seed, new.requested, new.max_pairs) == (5, 3, 7)


def test_the_published_layout_is_written_by_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("build", "--score", "arc-agi-1/training", "--limit", "2", "--augmentations", "2", "--format", "published")
    assert run(*words, "--out", tmp_path / "out") == 0
    names = json.loads((tmp_path / "out" / "identifiers.json").read_text())
    assert names[0] == "<blank>"
    assert len(names) == 7
    assert (tmp_path / "out" / "test" / "all__labels.npy").exists()
    assert "total" in capsys.readouterr().out


def test_options_that_cannot_go_together_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = ("--out", tmp_path / "out")
    assert "--score" in refuse(capsys, "build", "--train", "concept", "--max-side", "5", *out)
    published = ("build", "--train", "concept", "--extend", tmp_path / "old", "--format", "published", *out)
    assert "build from sources" in refuse(capsys, *published)
    assert list(tmp_path.iterdir()) == []
