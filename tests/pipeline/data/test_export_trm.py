"""Export in the published layout: equal to the golden build byte by byte, and readable by independent code."""

import json
import shutil
from collections import Counter
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from augment import Augmentation, Pair, PuzzleSet, Selection, SourcedTasks, Task, build_puzzle_set, load_tasks
from augment.augmentation import parse_puzzle_key
from pipeline.data.export_trm import CHUNK, Split, draw_shifts, export_published
from solver.data.tokens import encode
from tests.helpers.golden_set import pipeline_part

TASKS = load_tasks("arc-agi-1/training", Selection(limit=5))
SCORED = {task.id: task for task in TASKS[:3]}
FIELDS = ("inputs", "labels", "puzzle_identifiers", "puzzle_indices", "group_indices")


def build(augmentations: int = 4, seed: int = 0, scored: list[Task] = TASKS[:3]) -> PuzzleSet:
    sources = [SourcedTasks("a", "scored", scored), SourcedTasks("b", "train", TASKS[3:])]
    return build_puzzle_set(sources, augmentations, seed)


def read(folder: Path) -> dict[str, np.ndarray]:
    """The arrays of one half of a folder."""
    return {name: np.load(folder / f"all__{name}.npy") for name in FIELDS}


def read_text(folder: Path, name: str):
    return json.loads((folder / name).read_text())


# ---- the golden build ----------------------------------------------------------------------------------------------


def golden_set(build: dict, tasks: list[Task]) -> PuzzleSet:
    """The published tiny build as a puzzle set: its tasks in its order, not sorted, under its augmentations."""
    keys = [parse_puzzle_key(name) for name in build["identifiers"][1:]]
    counts = Counter(task_id for task_id, _ in keys)  # in the order of the names
    scored, train = ([task for task in tasks if task.id in build[part]] for part in ("evaluation", "training"))
    sources = [SourcedTasks("a", "scored", scored), SourcedTasks("b", "train", train)]
    ours = build_puzzle_set(sources, 0, build["config"]["seed"])
    order = [[task.id for task in ours.tasks].index(task_id) for task_id in counts]
    return replace(
        ours,
        tasks=tuple(ours.tasks[n] for n in order),
        roles=tuple(ours.roles[n] for n in order),
        sources=tuple(ours.sources[n] for n in order),
        canvases=ours.canvases[order],
        starts=np.cumsum([0, *counts.values()], dtype=np.int64),
        augmentations=np.array([number for _, number in keys], np.uint32),
    )


def golden_shifts(build: dict, split: Split, task: int) -> np.ndarray:
    """Where the top left cells of the golden inputs stand: those shifts come from another random stream than ours."""
    golden, rows = build["splits"]["train"], split.rows(task)
    examples = slice(golden["puzzle_indices"][rows[0]], golden["puzzle_indices"][rows[-1] + 1])
    # In reading order the first cell that is not empty is the grid's top left one.
    corners = [divmod(len(board) - len(board.lstrip("0")), 30) for board in golden["inputs_seq"][examples]]
    return np.reshape(corners, (len(rows), -1, 2))


def test_the_golden_build_comes_out_exactly_under_its_own_order_augmentations_and_shifts(tmp_path: Path) -> None:
    """Exact: every array (values, shape, type, SHA-256), dataset.json of both halves, identifiers.json.

    Task order, augmentations and shifts are random in the published build and taken from it.
    """
    golden = pipeline_part("tiny_build")
    tasks = load_tasks("arc-agi-1/training", Selection(tuple(golden["training"] + golden["evaluation"])))
    export_published(
        golden_set(golden, tasks),
        {task.id: task for task in tasks},
        tmp_path / "out",
        shifts=lambda split, task: golden_shifts(golden, split, task),
    )
    assert read_text(tmp_path / "out", "identifiers.json") == golden["identifiers"]
    for name, expected in golden["splits"].items():
        assert read_text(tmp_path / "out" / name, "dataset.json") == expected["metadata"]
        for field, array in read(tmp_path / "out" / name).items():
            assert (list(array.shape), str(array.dtype)) == (expected["shapes"][field], expected["dtypes"][field])
            assert sha256(array.tobytes()).hexdigest() == expected["sha256"][field], (name, field)


# ---- what a reader gets --------------------------------------------------------------------------------------------


def read_examples(folder: Path, name: str) -> dict[str, list[tuple[np.ndarray, np.ndarray]]]:
    """Boards by published name, found as a reader does: group -> puzzles -> examples."""
    arrays, names = read(folder / name), read_text(folder, "identifiers.json")
    found: dict[str, list] = {}
    for first, end in zip(arrays["group_indices"], arrays["group_indices"][1:], strict=False):
        for puzzle in range(first, end):
            examples = range(arrays["puzzle_indices"][puzzle], arrays["puzzle_indices"][puzzle + 1])
            boards = [tuple(arrays[part][n].reshape(30, 30) for part in ("inputs", "labels")) for n in examples]
            assert names[arrays["puzzle_identifiers"][puzzle]] not in found
            found[names[arrays["puzzle_identifiers"][puzzle]]] = boards
        # A group is one task.
        ids = arrays["puzzle_identifiers"][first:end]
        assert len({parse_puzzle_key(names[i])[0] for i in ids}) == 1
    return found


def crop(board: np.ndarray) -> list[list[int]]:
    """The grid on a board, wherever it stands."""
    rows, columns = np.nonzero(board > 1)
    return (board[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1] - 2).tolist()


def augmented(pairs: tuple[Pair, ...], number: int) -> list[list]:
    change = Augmentation.from_number(number)
    return [[change.apply(grid).tolist() for grid in pair.grids()] for pair in pairs]


def trained(task: Task) -> tuple[Pair, ...]:
    return task.demonstrations if task.id in SCORED else task.demonstrations + task.tests


def test_a_reader_finds_every_pair_of_every_puzzle_under_its_name(tmp_path: Path) -> None:
    puzzle_set, by_id = build(), {task.id: task for task in TASKS}
    export_published(puzzle_set, SCORED, tmp_path / "out")
    train, test = (read_examples(tmp_path / "out", name) for name in ("train", "test"))
    names = puzzle_set.keys()
    assert list(train) == names
    assert list(test) == [name for name in names if parse_puzzle_key(name)[0] in SCORED]
    for key, boards in train.items():
        task_id, number = parse_puzzle_key(key)
        assert [[crop(board) for board in pair] for pair in boards] == augmented(trained(by_id[task_id]), number)
    for key, boards in test.items():
        task_id, number = parse_puzzle_key(key)
        pairs = augmented(by_id[task_id].tests, number)
        expected = [[encode(np.array(grid, np.uint8)).tolist() for grid in pair] for pair in pairs]
        assert [[board.tolist() for board in pair] for pair in boards] == expected  # in the corner, end marks and all


def test_sizes_and_test_puzzles_are_those_of_the_source(tmp_path: Path) -> None:
    export_published(build(), SCORED, tmp_path / "out")
    puzzles = read_text(tmp_path / "out", "test_puzzles.json")
    assert list(puzzles) == list(SCORED)
    for task_id, parts in puzzles.items():
        for name, pairs in {"train": SCORED[task_id].demonstrations, "test": SCORED[task_id].tests}.items():
            assert [[pair["input"], pair["output"]] for pair in parts[name]] == augmented(pairs, 0)
    for name, tasks in {"train": TASKS, "test": TASKS[:3]}.items():
        about = read_text(tmp_path / "out" / name, "dataset.json")
        pairs = [len(trained(task) if name == "train" else task.tests) for task in tasks]
        assert (about["total_groups"], about["total_puzzles"]) == (len(tasks), 5 * len(tasks))
        assert about["mean_puzzle_examples"] == pytest.approx(np.mean(pairs))
        assert (about["num_puzzle_identifiers"], about["seq_len"], about["sets"]) == (26, 900, ["all"])


def test_test_outputs_of_scored_tasks_stay_out_of_train(tmp_path: Path) -> None:
    """Whatever the outputs are, and even where the set itself holds them."""
    puzzle_set = build(augmentations=1)
    full = replace(puzzle_set, tasks=tuple(SCORED.get(task.id, task) for task in puzzle_set.tasks))
    other = {
        task.id: replace(task, tests=tuple(Pair(p.input, np.full((3, 3), 9, np.uint8)) for p in task.tests))
        for task in TASKS[:3]
    }
    for name, made, tasks in [("a", puzzle_set, SCORED), ("b", puzzle_set, other), ("c", full, SCORED)]:
        export_published(made, tasks, tmp_path / name)
    a, b, c = (read(tmp_path / name / "train") for name in "abc")
    assert all(np.array_equal(a[field], b[field]) and np.array_equal(a[field], c[field]) for field in FIELDS)
    assert not np.array_equal(read(tmp_path / "a" / "test")["labels"], read(tmp_path / "b" / "test")["labels"])


def test_hidden_outputs_are_one_black_cell(tmp_path: Path) -> None:
    export_published(build(), {task.id: task.hidden() for task in TASKS[:3]}, tmp_path / "out")
    labels = read(tmp_path / "out" / "test")["labels"]
    assert all(np.array_equal(board, encode(np.zeros((1, 1), np.uint8)).ravel()) for board in labels)
    puzzles = read_text(tmp_path / "out", "test_puzzles.json")
    assert all(pair["output"] == [[0]] for task in puzzles.values() for pair in task["test"])


def test_without_scored_tasks_there_is_no_test_half(tmp_path: Path) -> None:
    export_published(build(scored=[]), {}, tmp_path / "out")
    assert not (tmp_path / "out" / "test").exists()
    assert read_text(tmp_path / "out", "test_puzzles.json") == {}


# ---- shifts --------------------------------------------------------------------------------------------------------


def shifts_of(puzzle_set: PuzzleSet, task: int) -> np.ndarray:
    return draw_shifts(Split("train", puzzle_set, {task: range(len(puzzle_set.training_pairs(task)))}), task)


def test_in_each_puzzle_a_random_pair_stays_and_the_others_go_wherever_both_grids_fit() -> None:
    puzzle_set = build(augmentations=3000)
    for task in range(3, 5):
        shifts, pairs = shifts_of(puzzle_set, task), puzzle_set.training_pairs(task)
        numbers = puzzle_set.augmentations[puzzle_set.starts[task] : puzzle_set.starts[task + 1]]
        stays = (shifts == 0).all(axis=2)
        assert stays.any(axis=1).all()
        assert np.ptp(stays.mean(axis=0)) < 0.05  # no pair is preferred
        for number, pair in enumerate(pairs):
            largest = np.zeros(np.max([grid.shape for grid in pair.grids()], axis=0), np.uint8)
            sizes = [Augmentation.from_number(int(n)).apply(largest).shape for n in numbers]
            reach = shifts[:, number] / (30 - np.array(sizes))
            moved = reach[~stays[:, number]]
            assert (reach.min(), reach.max()) == (0, 1)
            assert moved.mean() == pytest.approx(0.5, abs=0.03)


def test_the_same_set_gives_the_same_bytes_and_another_seed_other_shifts(tmp_path: Path) -> None:
    for name, puzzle_set in {"a": build(), "b": build(), "c": replace(build(), seed=1)}.items():
        export_published(puzzle_set, SCORED, tmp_path / name)
    files = sorted(file.relative_to(tmp_path / "a") for file in (tmp_path / "a").rglob("*.*"))
    contents = {name: [(tmp_path / name / file).read_bytes() for file in files] for name in "abc"}
    assert len(files) == 15
    assert contents["a"] == contents["b"]
    changed = [str(file) for file, one, two in zip(files, contents["a"], contents["c"], strict=True) if one != two]
    assert changed == ["puzzle_set.json", "train/all__inputs.npy", "train/all__labels.npy"]


def test_shifts_of_a_task_depend_on_no_other_task() -> None:
    whole = build_puzzle_set([SourcedTasks("a", "train", TASKS)], 4, 0)
    alone = build_puzzle_set([SourcedTasks("a", "train", TASKS[2:3])], 4, 0)
    assert np.array_equal(shifts_of(whole, 2), shifts_of(alone, 0))


# ---- files ---------------------------------------------------------------------------------------------------------


def test_many_examples_are_written_in_parts_that_fit_together(tmp_path: Path) -> None:
    """More examples of one task than are rendered at a time: each board is still that of its puzzle."""
    puzzle_set = build_puzzle_set([SourcedTasks("a", "train", TASKS[:1])], 250, 0)
    export_published(puzzle_set, {}, tmp_path / "out")
    boards = read_examples(tmp_path / "out", "train")
    assert sum(map(len, boards.values())) > CHUNK
    for key in (puzzle_set.key(0), puzzle_set.key(len(puzzle_set) // 2), puzzle_set.key(len(puzzle_set) - 1)):
        pairs = TASKS[0].demonstrations + TASKS[0].tests
        assert [[crop(board) for board in pair] for pair in boards[key]] == augmented(pairs, parse_puzzle_key(key)[1])


def test_an_existing_folder_a_full_disk_and_a_foreign_source_are_refused(tmp_path: Path, monkeypatch) -> None:
    with pytest.raises(ValueError, match=f"{TASKS[0].id} is scored .* no such task"):
        export_published(build(), {}, tmp_path / "out")
    with pytest.raises(ValueError, match="has other test inputs"):
        export_published(build(), SCORED | {TASKS[0].id: replace(TASKS[1], id=TASKS[0].id)}, tmp_path / "out")
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda place: SimpleNamespace(free=150_000))
        with pytest.raises(ValueError, match=r"needs 0.00 GB and the disk has 0.00 GB free"):
            export_published(build(), SCORED, tmp_path / "out")
    assert not list(tmp_path.iterdir())
    (tmp_path / "out").mkdir()
    with pytest.raises(ValueError, match="already exists"):
        export_published(build(), SCORED, tmp_path / "out")


def test_an_export_says_what_it_was_made_of_leaks_included(tmp_path: Path) -> None:
    leaking = [SourcedTasks("s", "scored", TASKS[:1]), SourcedTasks("t", "train", TASKS[:2])]
    puzzle_set = build_puzzle_set(leaking, 2, 5, on_leak="allow")
    export_published(puzzle_set, {TASKS[0].id: TASKS[0]}, tmp_path / "out")
    made = json.loads((tmp_path / "out" / "puzzle_set.json").read_text())
    assert (made["seed"], made["leaks"]) == (5, [[TASKS[0].id, f"{TASKS[0].id}~2", True]])


def test_a_test_output_larger_than_the_board_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    small, large = np.ones((2, 2), np.uint8), np.ones((2, 9), np.uint8)
    task = Task("large", (Pair(small, small),), (Pair(small, large),))
    puzzle_set = build_puzzle_set([SourcedTasks("s", "scored", [task])], 2, 0, board_side=8)
    with pytest.raises(ValueError, match=r"task large has a test output with a side of 9 but the board's is 8"):
        export_published(puzzle_set, {"large": task}, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []
