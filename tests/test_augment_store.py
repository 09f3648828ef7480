"""The puzzle set on disk: what is written comes back, builds repeat to the byte, damage is refused."""

import json
import os
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest

from augment import (
    Pair,
    PuzzleSet,
    Selection,
    SourcedTasks,
    build_puzzle_set,
    load_tasks,
    open_puzzle_set,
    write_puzzle_set,
)

FILES = ("puzzle_set.json", "puzzles.parquet", "tasks.parquet")


@pytest.fixture(scope="module")
def puzzle_set() -> PuzzleSet:
    scored = load_tasks("arc-agi-1/evaluation", Selection(limit=4))
    train = load_tasks("arc-agi-1/training", Selection(limit=3))
    also = SourcedTasks("other", "train", train[:1])
    return build_puzzle_set([SourcedTasks("e", "scored", scored), SourcedTasks("n", "train", train), also], 30, 7)


@pytest.fixture
def folder(puzzle_set: PuzzleSet, tmp_path: Path) -> Path:
    write_puzzle_set(puzzle_set, tmp_path / "sets" / "mine")
    return tmp_path / "sets" / "mine"


def flat(pairs: tuple[Pair, ...]) -> list[list]:
    return [[None if grid is None else grid.tolist() for grid in (pair.input, pair.output)] for pair in pairs]


def test_a_puzzle_set_comes_back_as_it_was(puzzle_set: PuzzleSet, folder: Path) -> None:
    opened = open_puzzle_set(folder)
    for name in ("canvases", "starts", "augmentations"):
        array, expected = getattr(opened, name), getattr(puzzle_set, name)
        np.testing.assert_array_equal(array, expected)
        assert (array.dtype, array.flags.writeable, array.flags.c_contiguous) == (expected.dtype, True, True)
    for name in ("roles", "sources", "seed", "requested", "board_side", "dropped"):
        assert getattr(opened, name) == getattr(puzzle_set, name)
    assert opened.keys() == puzzle_set.keys()
    assert opened.dropped == ((puzzle_set.dropped[0][0], "other"),)
    for task, expected in zip(opened.tasks, puzzle_set.tasks, strict=True):
        assert task.id == expected.id
        assert flat(task.demonstrations) == flat(expected.demonstrations)
        assert flat(task.tests) == flat(expected.tests)
        assert task.tests[0].input.dtype == np.uint8


def test_only_the_three_files_are_left_behind(folder: Path) -> None:
    assert sorted(path.name for path in folder.iterdir()) == list(FILES)
    assert list(folder.parent.iterdir()) == [folder]


def test_no_test_output_of_a_scored_task_is_written(folder: Path) -> None:
    opened = open_puzzle_set(folder)
    scored = [task for task, role in zip(opened.tasks, opened.roles, strict=True) if role == "scored"]
    assert len(scored) == 4
    assert all(pair.output is None for task in scored for pair in task.tests)


BUILD_WITH_TWO_WORKERS = """
import sys
from augment import Selection, SourcedTasks, build_puzzle_set, load_tasks, write_puzzle_set
tasks = load_tasks("arc-agi-1/training", Selection(limit=90))
write_puzzle_set(build_puzzle_set([SourcedTasks("s", "scored", tasks)], 20, 3, workers=2), sys.argv[1])
"""


def test_workers_and_hash_seeds_do_not_change_a_byte(tmp_path: Path) -> None:
    tasks = load_tasks("arc-agi-1/training", Selection(limit=90))
    write_puzzle_set(build_puzzle_set([SourcedTasks("s", "scored", tasks)], 20, 3), tmp_path / "one")
    hash_seed = "1" if os.environ.get("PYTHONHASHSEED") != "1" else "2"
    environment = os.environ | {"PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(Path(__file__).parents[1])}
    command = [sys.executable, "-c", BUILD_WITH_TWO_WORKERS, str(tmp_path / "two")]
    subprocess.run(command, check=True, env=environment)
    for name in FILES:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes(), name


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
def test_other_json_is_no_summary(folder: Path, value: object) -> None:
    (folder / "puzzle_set.json").write_text(json.dumps(value))
    with pytest.raises(ValueError, match=r"puzzle_set.json (is missing|was)[, ]*cut short or altered"):
        open_puzzle_set(folder)


def test_an_altered_seed_is_noticed(folder: Path) -> None:
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
    with pytest.raises(ValueError, match="has format 99, and this version reads 1"):
        open_puzzle_set(folder)


def test_an_existing_folder_is_left_alone(puzzle_set: PuzzleSet, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "keep.txt").write_text("mine")
    with pytest.raises(ValueError, match="full already exists"):
        write_puzzle_set(puzzle_set, tmp_path / "full")
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["keep.txt"]


def test_a_failed_write_leaves_nothing(puzzle_set: PuzzleSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_space(path: Path) -> None:
        raise OSError("no space left")

    monkeypatch.setattr("augment.folder._sync", no_space)
    with pytest.raises(OSError, match="no space"):
        write_puzzle_set(puzzle_set, tmp_path / "mine")
    assert list(tmp_path.iterdir()) == []
