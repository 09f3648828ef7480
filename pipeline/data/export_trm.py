"""Exports a puzzle set in the format of the published TRM, so that other code can train on the same puzzles.

FOLDER/identifiers.json   names by ID: "<blank>", then the puzzles in row order (ID = row + 1)
FOLDER/test_puzzles.json  the scored tasks, as ARC JSON
FOLDER/puzzle_set.json    not in the published format: sources, seed, versions, omitted tasks, allowed overlaps
FOLDER/train/, test/      dataset.json (sizes) and, with the prefix all__, five .npy files: inputs and labels (uint8,
                          examples x cells); puzzle_identifiers, puzzle_indices (first example of each puzzle) and
                          group_indices (first puzzle of each task), int32, the last two with the end appended

The layout is that of `dataset/build_arc_dataset.py` in SamsungSAILMontreal/TinyRecursiveModels.
"""

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from augment import TRANSPOSES, Pair, PuzzleSet, Task
from augment.errors import UserError
from augment.puzzle_set_files import summarise
from augment.rng import task_rng
from augment.storage import new_folder
from pipeline.runtime.console import Console
from pipeline.runtime.progress import Progress
from solver.data.batch import Batch
from solver.data.batches import PuzzleDataset
from solver.data.tokens import PAD, VOCABULARY

BLANK = "<blank>"
HIDDEN = np.zeros((1, 1), np.uint8)
"""Placeholder for an unknown output, as published."""
CHUNK = 1024
"""Examples rendered and written at a time."""


@dataclass(frozen=True)
class Split:
    """A part of the export: some pairs of some tasks under all their puzzles; each task is one group.

    Attributes:
        name: the name of its folder.
        puzzle_set: the puzzles.
        spans: which pairs of which tasks.
    """

    name: str
    puzzle_set: PuzzleSet
    spans: dict[int, range]
    """Task number -> the numbers of its pairs in `PuzzleDataset`."""

    @cached_property
    def examples(self) -> PuzzleDataset:
        """All pairs of the set, on the whole board."""
        return PuzzleDataset(self.puzzle_set, canvas="full")

    @property
    def puzzle_counts(self) -> NDArray[np.int64]:
        """(groups,): puzzles of each task."""
        return np.diff(self.puzzle_set.starts)[list(self.spans)]

    @property
    def pair_counts(self) -> NDArray[np.int64]:
        """(groups,): pairs of each puzzle of a task."""
        return np.array([len(span) for span in self.spans.values()], np.int64)

    def __len__(self) -> int:
        """Number of examples."""
        return int(self.puzzle_counts @ self.pair_counts)

    def rows(self, task: int) -> NDArray[np.int64]:
        """(puzzles,): the task's puzzle rows."""
        return np.arange(*self.puzzle_set.starts[task : task + 2])


Shifts = Callable[[Split, int], NDArray[np.int64]]
"""Returns, for a task number, the (row, column) by which each pair of each puzzle is moved: (puzzles, pairs, 2)."""


def draw_shifts(split: Split, task: int) -> NDArray[np.int64]:
    """Draw the shifts of a task's pairs as in the published code; returns (puzzles, pairs, 2).

    In each puzzle one random pair stays in the corner, and the others move to any place where both grids fit. The
    result depends only on the set's seed and the task ID, not on the other tasks of the set.
    """
    rng = task_rng(split.puzzle_set.seed, split.puzzle_set.tasks[task].id, "export")
    examples = split.examples
    span = split.spans[task]
    rows = split.rows(task)
    first = examples.first_pair[task]
    sizes = examples.sizes[first + span.start : first + span.stop].max(axis=1)
    transposed = TRANSPOSES[examples.dihedrals[rows], None, None]
    shifts = rng.integers(split.puzzle_set.board_side + 1 - np.where(transposed, sizes[:, ::-1], sizes))
    shifts[np.arange(len(rows)), rng.integers(len(span), size=len(rows))] = 0
    return shifts


def stay_in_corner(split: Split, task: int) -> NDArray[np.int64]:
    """Return zero shifts, (puzzles, pairs, 2): the published test pairs are not moved."""
    return np.zeros((len(split.rows(task)), len(split.spans[task]), 2), np.int64)


def export_published(
    puzzle_set: PuzzleSet,
    tasks: Mapping[str, Task],
    folder: Path,
    console: Console | None = None,
    shifts: Shifts = draw_shifts,
) -> None:
    """Write the set to a new folder in the published layout, atomically; a folder that holds this set is kept.

    `train` has the pairs to train on, with the fixed shifts that `shifts` returns. `test` has the test pairs of scored
    tasks, and is omitted if there are none. A hidden test output is written as one black cell, as published, in `test`
    and in test_puzzles.json; nothing can be scored by it.

    Args:
        puzzle_set: the set to export; it has no test outputs of scored tasks.
        tasks: the scored tasks by ID, with the test outputs that their source contains.
        folder: the folder to create; memory use does not depend on its size.
        console: where progress is shown.
        shifts: how the pairs to train on are moved.

    Raises:
        UserError: if the folder holds something else, the disk is too full, or `tasks` lacks a scored task or has other
            tests for it.
    """
    solved_tasks = {
        number: _solve(task, tasks, puzzle_set.board_side)
        for number, (task, role) in enumerate(zip(puzzle_set.tasks, puzzle_set.roles, strict=True))
        if role == "scored"
    }
    train = _train_split(puzzle_set)
    test = _test_split(puzzle_set, solved_tasks)
    about = {
        "identifiers.json": [BLANK, *puzzle_set.keys()],
        "puzzle_set.json": summarise(puzzle_set),
        "test_puzzles.json": {task.id: _to_json(task) for task in solved_tasks.values()},
    }
    if all(_contains(folder / name, value) for name, value in about.items()):
        return
    with new_folder(folder) as unfinished, Progress(console or Console(), "export", len(train) + len(test)) as progress:
        _check_space(unfinished, folder, train, test)
        for name, value in about.items():
            _write_json(unfinished / name, value)
        _write_split(unfinished, train, shifts, progress)
        if len(test):
            _write_split(unfinished, test, stay_in_corner, progress)


def _train_split(puzzle_set: PuzzleSet) -> Split:
    spans = {number: range(len(puzzle_set.training_pairs(number))) for number in range(len(puzzle_set.tasks))}
    return Split("train", puzzle_set, spans)


def _test_split(puzzle_set: PuzzleSet, solved_tasks: Mapping[int, Task]) -> Split:
    """Return the split of the test pairs of scored tasks."""
    tasks = tuple(solved_tasks.get(number, task) for number, task in enumerate(puzzle_set.tasks))
    # Test pairs are rendered with their outputs only if the role of the task is "train".
    solved = replace(puzzle_set, tasks=tasks, roles=("train",) * len(tasks))
    spans = {
        number: range(len(task.demonstrations), len(task.demonstrations) + len(task.tests))
        for number, task in solved_tasks.items()
        if task.tests
    }
    return Split("test", solved, spans)


def _solve(task: Task, tasks: Mapping[str, Task], board_side: int) -> Task:
    """Return the task with its test outputs from `tasks`; hidden outputs are replaced by the placeholder."""
    solved = tasks.get(task.id)
    inputs = [pair.input.tolist() for pair in task.tests]
    if solved is None or [pair.input.tolist() for pair in solved.tests] != inputs:
        raise UserError(
            f"task {task.id} is scored in the puzzle set, but the source "
            f"{'has no such task' if solved is None else 'has other test inputs for it'}",
            "export with the source that the set was built from",
        )
    longest = max(max(grid.shape) for pair in solved.tests for grid in pair.grids())
    if longest > board_side:
        raise UserError(
            f"task {task.id} has a test output with a side of {longest} but the board's is {board_side}",
            "build with a larger board side, or leave the task out",
        )
    return replace(task, tests=tuple(Pair(p.input, HIDDEN if p.output is None else p.output) for p in solved.tests))


def _check_space(place: Path, folder: Path, *splits: Split) -> None:
    """Raise a UserError if the disk of `place` is too full for the export."""
    board = splits[0].puzzle_set.board_side ** 2
    # Two boards for each example, and a name and a few numbers (64 bytes) for each puzzle.
    needed = sum(2 * board * len(split) + 64 * int(split.puzzle_counts.sum()) for split in splits)
    free = shutil.disk_usage(place).free
    if needed > free:
        raise UserError(
            f"{folder}: the export needs {needed / 1e9:.2f} GB and the disk has {free / 1e9:.2f} GB free",
            "free some space, name a folder on another disk, or build with fewer augmentations",
        )


def _write_split(parent: Path, split: Split, shifts: Shifts, progress: Progress) -> None:
    folder = parent / split.name
    folder.mkdir()
    _write_json(folder / "dataset.json", _describe(split))
    _write_indices(folder, split)
    with (folder / "all__inputs.npy").open("wb") as inputs, (folder / "all__labels.npy").open("wb") as labels:
        for file in (inputs, labels):
            _write_header(file, (len(split), split.puzzle_set.board_side**2))
        for batch in _render(split, shifts):
            inputs.write(batch.tokens_BS.numpy().astype(np.uint8).tobytes())
            labels.write(batch.labels_BS.numpy().astype(np.uint8).tobytes())
            progress.advance(len(batch))


def _describe(split: Split) -> dict:
    puzzles = int(split.puzzle_counts.sum())
    return {
        "pad_id": PAD,
        "ignore_label_id": PAD,
        "blank_identifier_id": 0,
        "vocab_size": VOCABULARY,
        "seq_len": split.puzzle_set.board_side**2,
        "num_puzzle_identifiers": len(split.puzzle_set) + 1,
        "total_groups": len(split.spans),
        "mean_puzzle_examples": len(split) / puzzles,
        "total_puzzles": puzzles,
        "sets": ["all"],
    }


def _write_indices(folder: Path, split: Split) -> None:
    arrays = {
        "puzzle_identifiers": np.concatenate([split.rows(task) + 1 for task in split.spans]),
        "puzzle_indices": np.append(0, np.cumsum(np.repeat(split.pair_counts, split.puzzle_counts))),
        "group_indices": np.append(0, np.cumsum(split.puzzle_counts)),
    }
    for name, array in arrays.items():
        np.save(folder / f"all__{name}.npy", array.astype(np.int32))


def _write_header(file: IO[bytes], shape: tuple[int, ...]) -> None:
    """Write the header that numpy.save writes before the bytes of a uint8 array of this shape.

    The bytes are then appended in chunks. A memory map is not used, as it would kill the process when the disk is full.
    """
    np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})


def _render(split: Split, shifts: Shifts) -> Iterator[Batch]:
    """Yield all examples in order, in batches of at most `CHUNK`."""
    for task, span in split.spans.items():
        rows = split.rows(task)
        puzzles = np.repeat(rows, len(span))
        pairs = np.tile(span, len(rows))
        offsets = shifts(split, task).reshape(-1, 2)
        for start in range(0, len(puzzles), CHUNK):
            part = slice(start, start + CHUNK)
            yield split.examples.render(puzzles[part], pairs[part], offsets[part])


def _to_json(task: Task) -> dict:
    parts = {"train": task.demonstrations, "test": task.tests}
    return {
        name: [dict(zip(("input", "output"), (grid.tolist() for grid in pair.grids()), strict=True)) for pair in pairs]
        for name, pairs in parts.items()
    }


def _contains(file: Path, value: object) -> bool:
    """Return whether `_write_json` wrote this value to the file."""
    return file.is_file() and file.read_text(encoding="utf-8") == json.dumps(value)


def _write_json(file: Path, value: object) -> None:
    file.write_text(json.dumps(value), encoding="utf-8")
