"""The puzzle set on disk: round trip, byte-identical builds, and refusal of damaged files."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest

from augment import (
    Pair,
    PuzzleSet,
    Selection,
    SourcedTasks,
    Task,
    build_puzzle_set,
    load_tasks,
    open_puzzle_set,
    write_puzzle_set,
)
from augment.puzzle_set_files import summarise
from tests.helpers.paths import ROOT

FILES = ("puzzle_set.json", "puzzles.parquet", "tasks.parquet")


@pytest.fixture(scope="module")
def puzzle_set() -> PuzzleSet:
    scored = load_tasks("arc-agi-1/evaluation", Selection(limit=4))
    train = load_tasks("arc-agi-1/training", Selection(limit=3))
    leaked = replace(scored[0], tests=scored[0].tests + train[0].tests)
    pairs = Task("pairs", train[1].demonstrations, ())
    also = SourcedTasks("other", "train", [train[0], leaked, pairs])
    sources = [SourcedTasks("e", "scored", scored), SourcedTasks("n", "train", train), also]
    return build_puzzle_set(sources, 30, 7, on_leak="allow")


@pytest.fixture
def folder(puzzle_set: PuzzleSet, tmp_path: Path) -> Path:
    write_puzzle_set(puzzle_set, tmp_path / "sets" / "mine")
    return tmp_path / "sets" / "mine"


def flat(pairs: tuple[Pair, ...]) -> list[list]:
    return [[None if grid is None else grid.tolist() for grid in (pair.input, pair.output)] for pair in pairs]


def test_a_puzzle_set_is_read_as_it_was_written(puzzle_set: PuzzleSet, folder: Path) -> None:
    opened = open_puzzle_set(folder)
    for name in ("canvases", "starts", "augmentations"):
        array = getattr(opened, name)
        expected = getattr(puzzle_set, name)
        np.testing.assert_array_equal(array, expected)
        assert (array.dtype, array.flags.writeable, array.flags.c_contiguous) == (expected.dtype, True, True)
    for name in ("roles", "sources", "seed", "requested", "board_side", "dropped", "leaks"):
        assert getattr(opened, name) == getattr(puzzle_set, name)
    assert opened.keys() == puzzle_set.keys()
    assert [(dropped.source, dropped.reason) for dropped in opened.dropped] == [("other", "repeats")]
    assert [overlap.task for overlap in opened.leaks] == [opened.tasks[0].id]
    for task, expected in zip(opened.tasks, puzzle_set.tasks, strict=True):
        assert task.id == expected.id
        assert flat(task.demonstrations) == flat(expected.demonstrations)
        assert flat(task.tests) == flat(expected.tests)
        assert all(
            grid.dtype == np.uint8 and grid.flags.writeable for pair in task.demonstrations for grid in pair.grids()
        )


def test_only_the_three_files_are_left_behind(folder: Path) -> None:
    assert sorted(path.name for path in folder.iterdir()) == list(FILES)
    assert list(folder.parent.iterdir()) == [folder]


def test_no_test_output_of_a_scored_task_is_written(folder: Path) -> None:
    opened = open_puzzle_set(folder)
    scored = [task for task, role in zip(opened.tasks, opened.roles, strict=True) if role == "scored"]
    assert len(scored) == 4
    assert all(pair.output is None for task in scored for pair in task.tests)


def test_the_summary_lists_sources_and_settings(puzzle_set: PuzzleSet, folder: Path) -> None:
    summary = json.loads((folder / "puzzle_set.json").read_text())
    assert [(source["source"], source["role"], source["tasks"]) for source in summary["sources"]] == [
        ("e", "scored", 4),
        ("n", "train", 3),
        ("other", "train", 2),
    ]
    assert (summary["seed"], summary["requested"], summary["puzzles"]) == (7, 30, len(puzzle_set))
    assert summary["versions"]["numpy"] == np.__version__
    assert summary["sha256"] == open_puzzle_set(folder).digest


def test_any_change_of_a_task_changes_the_digest_of_its_source(puzzle_set: PuzzleSet) -> None:
    def digests(first: Task) -> list[str]:
        changed = replace(puzzle_set, tasks=(first, *puzzle_set.tasks[1:]))
        return [source["sha256"] for source in summarise(changed)["sources"]]

    first = puzzle_set.tasks[0]
    before = digests(first)
    demonstrations = first.demonstrations
    tests = first.tests
    swapped = Pair(demonstrations[0].output, demonstrations[0].input)  # type: ignore[arg-type]
    for changed in (
        replace(first, id="0"),
        replace(first, tests=tests + demonstrations[:1]),
        replace(first, demonstrations=demonstrations[:1], tests=demonstrations[1:] + tests),
        replace(first, demonstrations=(swapped, *demonstrations[1:])),
    ):
        assert [a == b for a, b in zip(before, digests(changed), strict=True)] == [False, True, True]


BUILD = """
import sys
from augment import SourcedTasks, build_puzzle_set, load_tasks, write_puzzle_set
folder, workers, seed, *names = sys.argv[1:]
sources = [SourcedTasks(name, "train", load_tasks(name)) for name in names]
sources.insert(len(names) // 2, SourcedTasks("arc-agi-1/evaluation", "scored", load_tasks("arc-agi-1/evaluation")))
write_puzzle_set(build_puzzle_set(sources, 20, int(seed), workers=int(workers), on_leak="drop"), folder)
"""


def start_build(folder: Path, workers: int, hash_seed: str, names: list[str], seed: int = 3) -> subprocess.Popen:
    """Start a separate process that builds a set in the folder."""
    environment = os.environ | {"PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, "-c", BUILD, str(folder), str(workers), str(seed), *names], env=environment
    )


def test_workers_hash_seeds_and_the_order_of_sources_do_not_change_a_byte(tmp_path: Path) -> None:
    names = ["arc-agi-1/training", "concept", "kaggle-2025/evaluation"]
    processes = [
        start_build(tmp_path / "one", 1, "1", names),
        start_build(tmp_path / "two", 2, "2", names[::-1]),
        start_build(tmp_path / "eight", 8, "random", [names[1], names[0], names[2]]),
        start_build(tmp_path / "other", 1, "1", names, seed=4),
    ]
    assert [process.wait() for process in processes] == [0, 0, 0, 0]
    one, two, eight, other = (
        {name: sha256((tmp_path / folder / name).read_bytes()).hexdigest() for name in FILES}
        for folder in ("one", "two", "eight", "other")
    )
    assert one == two == eight
    assert one["tasks.parquet"] == other["tasks.parquet"]
    assert all(one[name] != other[name] for name in ("puzzles.parquet", "puzzle_set.json"))


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["missing", "truncated", "altered", "empty"])
def test_damaged_files_are_refused_by_name(folder: Path, name: str, damage: str) -> None:
    path = folder / name
    content = path.read_bytes()
    path.unlink()
    middle = len(content) // 2
    if damage == "truncated":
        path.write_bytes(content[:-20])
    elif damage == "altered":
        path.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
    elif damage == "empty":
        path.touch()
    with pytest.raises(ValueError, match=rf"mine/{name} (is missing|was|does not exist).* build"):
        open_puzzle_set(folder)


@pytest.mark.parametrize("value", [[], 3, {}, {"sha256": 3}])
def test_other_json_is_refused_as_summary(folder: Path, value: object) -> None:
    (folder / "puzzle_set.json").write_text(json.dumps(value))
    with pytest.raises(ValueError, match=r"puzzle_set.json (is missing|was)[, ]*cut short or altered"):
        open_puzzle_set(folder)


def test_an_altered_seed_is_refused(folder: Path) -> None:
    path = folder / "puzzle_set.json"
    path.write_text(path.read_text().replace('"seed": 7', '"seed": 8'))
    with pytest.raises(ValueError, match="altered"):
        open_puzzle_set(folder)


def test_another_format_is_refused(folder: Path) -> None:
    path = folder / "puzzle_set.json"
    summary = json.loads(path.read_text())
    del summary["sha256"]
    summary["format"] = 99
    summary["sha256"] = sha256(json.dumps(summary).encode()).hexdigest()
    path.write_text(json.dumps(summary))
    with pytest.raises(ValueError, match="has format 99, but this version reads format 2"):
        open_puzzle_set(folder)


def test_an_existing_folder_is_not_changed(puzzle_set: PuzzleSet, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "keep.txt").write_text("mine")
    with pytest.raises(ValueError, match="full already exists"):
        write_puzzle_set(puzzle_set, tmp_path / "full")
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["keep.txt"]


def test_a_failed_write_leaves_nothing(puzzle_set: PuzzleSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_space(path: Path) -> None:
        raise OSError("no space left")

    monkeypatch.setattr("augment.storage.sync", no_space)
    with pytest.raises(OSError, match="no space"):
        write_puzzle_set(puzzle_set, tmp_path / "mine")
    assert list(tmp_path.iterdir()) == []
