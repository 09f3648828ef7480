"""Puzzle set in, the published TRM's folder out, so that other code can train on the same puzzles.

FOLDER/identifiers.json   names by ID: "<blank>", then the puzzles in row order (ID = row + 1)
FOLDER/test_puzzles.json  the scored tasks, as ARC JSON
FOLDER/puzzle_set.json    our own: sources, seed, versions, tasks left out, leaks that were allowed
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
from augment.puzzle_set import summarise
from augment.rng import task_rng
from augment.storage import new_folder
from pipeline.runtime.console import Console
from pipeline.runtime.progress import Progress
from solver.data.batches import Batch, PuzzleDataset
from solver.data.tokens import PAD, VOCABULARY

BLANK = "<blank>"
HIDDEN = np.zeros((1, 1), np.uint8)
"""What stands for an output that is not known, as published."""
CHUNK = 1024
"""Examples rendered and written at a time."""


@dataclass(frozen=True)
class Split:
    """Some pairs of some tasks under every puzzle of theirs: one group a task, puzzles in row order."""

    name: str
    puzzle_set: PuzzleSet
    spans: dict[int, range]
    """Task number -> which of its pairs, as `PuzzleDataset` numbers them."""

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
"""Of the task with this number, the (row, column) by which each pair of each puzzle is moved: (puzzles, pairs, 2)."""


def draw_shifts(split: Split, task: int) -> NDArray[np.int64]:
    """In each puzzle one random pair stays in the corner; the others go anywhere where both grids fit, as published.

    A function of the set's seed and the task, whatever else is in the set.
    """
    rng = task_rng(split.puzzle_set.seed, split.puzzle_set.tasks[task].id, "export")
    examples = split.examples
    span = split.spans[task]
    rows = split.rows(task)
    first = examples.first_pair[task]
    sizes = examples.sizes[first + span.start : first + span.stop].max(axis=1)
    turned = np.array(TRANSPOSES)[examples.dihedrals[rows], None, None]
    shifts = rng.integers(split.puzzle_set.board_side + 1 - np.where(turned, sizes[:, ::-1], sizes))
    shifts[np.arange(len(rows)), rng.integers(len(span), size=len(rows))] = 0
    return shifts


def stay_in_corner(split: Split, task: int) -> NDArray[np.int64]:
    """No pair is moved: how test pairs are published."""
    return np.zeros((len(split.rows(task)), len(split.spans[task]), 2), np.int64)


def export_published(
    puzzle_set: PuzzleSet,
    tasks: Mapping[str, Task],
    folder: Path,
    console: Console | None = None,
    shifts: Shifts = draw_shifts,
) -> None:
    """Write the set into a new folder in the published layout, whole or not at all.

    `train` holds the pairs trained on, shifted once and for all by `shifts`; `test` holds the test pairs of scored
    tasks and is left out where there are none. A hidden test output is written as one black cell, as published, in
    `test` and in test_puzzles.json: nothing can be scored by it.

    Args:
        puzzle_set: what to export; of scored tasks it has no test outputs.
        tasks: the scored tasks by ID, with the test outputs that their source knows.
        folder: the new folder; memory does not grow with what is written.
        console: where progress is shown.
        shifts: how the pairs trained on are moved.

    Raises:
        ValueError: where the folder exists, the disk lacks the room, or `tasks` lacks a scored task as it was built.
    """
    answers = {
        number: _answer(task, tasks, puzzle_set.board_side)
        for number, (task, role) in enumerate(zip(puzzle_set.tasks, puzzle_set.roles, strict=True))
        if role == "scored"
    }
    train = _train_split(puzzle_set)
    test = _test_split(puzzle_set, answers)
    with new_folder(folder) as unfinished, Progress(console or Console(), "export", len(train) + len(test)) as progress:
        _check_room(unfinished, folder, train, test)
        _write_json(unfinished / "identifiers.json", [BLANK, *puzzle_set.keys()])
        _write_json(unfinished / "puzzle_set.json", summarise(puzzle_set))
        _write_json(unfinished / "test_puzzles.json", {task.id: _to_json(task) for task in answers.values()})
        _write_split(unfinished, train, shifts, progress)
        if len(test):
            _write_split(unfinished, test, stay_in_corner, progress)


def _train_split(puzzle_set: PuzzleSet) -> Split:
    spans = {number: range(len(puzzle_set.training_pairs(number))) for number in range(len(puzzle_set.tasks))}
    return Split("train", puzzle_set, spans)


def _test_split(puzzle_set: PuzzleSet, answers: Mapping[int, Task]) -> Split:
    """The test pairs of scored tasks, in a set of their own in which every pair is rendered with its output."""
    tasks = tuple(answers.get(number, task) for number, task in enumerate(puzzle_set.tasks))
    solved = replace(puzzle_set, tasks=tasks, roles=("train",) * len(tasks))
    spans = {
        number: range(len(task.demonstrations), len(task.demonstrations) + len(task.tests))
        for number, task in answers.items()
        if task.tests
    }
    return Split("test", solved, spans)


def _answer(task: Task, tasks: Mapping[str, Task], board_side: int) -> Task:
    """The task with its test outputs, hidden ones as published."""
    known = tasks.get(task.id)
    asked = [pair.input.tolist() for pair in task.tests]
    if known is None or [pair.input.tolist() for pair in known.tests] != asked:
        raise UserError(
            f"task {task.id} is scored in the puzzle set, but the source "
            f"{'has no such task' if known is None else 'asks other test inputs of it'}: "
            "export with the source that the set was built from"
        )
    longest = max(max(grid.shape) for pair in known.tests for grid in pair.grids())
    if longest > board_side:
        raise UserError(
            f"task {task.id} has a test output with a side of {longest} but the board's is {board_side}",
            "build with a larger board side, or leave the task out",
        )
    return replace(task, tests=tuple(Pair(p.input, HIDDEN if p.output is None else p.output) for p in known.tests))


def _check_room(place: Path, folder: Path, *splits: Split) -> None:
    """ValueError where what is to be written would not fit on the disk."""
    board = splits[0].puzzle_set.board_side ** 2
    # The boards, and a name and a few numbers a puzzle.
    needed = sum(2 * board * len(split) + 64 * int(split.puzzle_counts.sum()) for split in splits)
    free = shutil.disk_usage(place).free
    if needed > free:
        raise UserError(
            f"{folder}: the export needs {needed / 1e9:.2f} GB and the disk has {free / 1e9:.2f} GB free: "
            "make room, name a folder on another disk, or build with fewer augmentations"
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
    """What numpy.save writes before the bytes of an array of this shape.

    They follow chunk by chunk. A memory map would do too, but end the process where the disk runs full.
    """
    np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})


def _render(split: Split, shifts: Shifts) -> Iterator[Batch]:
    """All examples in order, `CHUNK` at most at a time."""
    for task, span in split.spans.items():
        rows = split.rows(task)
        puzzles = np.repeat(rows, len(span))
        pairs = np.tile(span, len(rows))
        moved = shifts(split, task).reshape(-1, 2)
        for start in range(0, len(puzzles), CHUNK):
            part = slice(start, start + CHUNK)
            yield split.examples.render(puzzles[part], pairs[part], moved[part])


def _to_json(task: Task) -> dict:
    parts = {"train": task.demonstrations, "test": task.tests}
    return {
        name: [dict(zip(("input", "output"), (grid.tolist() for grid in pair.grids()), strict=True)) for pair in pairs]
        for name, pairs in parts.items()
    }


def _write_json(file: Path, value: object) -> None:
    file.write_text(json.dumps(value), encoding="utf-8")
