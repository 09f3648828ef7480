"""The puzzle set, in memory and on disk: a built set goes into a folder, a checked one comes back.

A puzzle is stored as a recipe (task, augmentation number), never as pixels: a million of them take a few
megabytes. The folder holds `tasks.parquet` (grids, role, source, canvas), `puzzles.parquet` (task row,
augmentation number) and `puzzle_set.json` (settings, counts, checksums). The same build gives the same bytes.
"""

from bisect import bisect_right
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from augment.folder import new_folder, seal, unseal
from augment.grid import Grid
from augment.puzzle import decode_numbers, puzzle_key
from augment.task import KEY_SEPARATOR, Pair, Task

FORMAT = 1
SUMMARY_FILE = "puzzle_set.json"
TASKS_FILE = "tasks.parquet"
PUZZLES_FILE = "puzzles.parquet"

_GRID = pa.struct({"height": pa.uint8(), "width": pa.uint8(), "cells": pa.binary()})
_PAIRS = pa.list_(pa.struct({"input": _GRID, "output": _GRID}))
_TASKS = pa.schema(
    {
        "id": pa.string(),
        "role": pa.string(),
        "source": pa.string(),
        "canvas_rows": pa.uint8(),
        "canvas_columns": pa.uint8(),
        "demonstrations": _PAIRS,
        "tests": _PAIRS,
    }
)
_PUZZLES = pa.schema({"task": pa.int32(), "augmentation": pa.uint32()})


@dataclass(frozen=True, eq=False)
class PuzzleSet:
    """Tasks sorted by ID and their puzzles; a puzzle is a row, task i owns rows starts[i] to starts[i + 1].

    Each task's first puzzle is the unchanged task (augmentation 0). Tasks with the role "scored" hold no test
    outputs.
    """

    tasks: tuple[Task, ...]
    roles: tuple[str, ...]
    """Per task: "scored" (demonstrations are trained on) or "train" (every pair is)."""
    sources: tuple[str, ...]
    """Per task: the source it came from."""
    canvases: NDArray[np.uint8]
    """(tasks, 2): rows and columns of the board each task needs."""
    starts: NDArray[np.int64]
    """(tasks + 1,): first puzzle row of each task, then the number of puzzles."""
    augmentations: NDArray[np.uint32]
    """(puzzles,): augmentation numbers."""
    seed: int
    requested: int
    """Augmentations asked for per task, besides the unchanged one."""
    board_side: int
    dropped: tuple[tuple[str, str], ...] = ()
    """(task ID, source) left out because an earlier source has the ID."""

    def __len__(self) -> int:
        """Number of puzzles."""
        return len(self.augmentations)

    def task_of(self, row: int) -> int:
        """Index of the task that the puzzle in this row augments."""
        if not 0 <= row < len(self):
            raise IndexError(f"puzzle row {row} of {len(self)}")
        return bisect_right(self.starts, row) - 1

    def key(self, row: int) -> str:
        """Published name of the puzzle in this row."""
        return puzzle_key(self.tasks[self.task_of(row)].id, int(self.augmentations[row]))

    def keys(self) -> list[str]:
        """Published names of all puzzles, in row order."""
        dihedrals, colours = decode_numbers(self.augmentations)
        digits = (colours + np.uint8(ord("0"))).view("S10").ravel().astype(str)
        task_ids = np.repeat(np.array([task.id for task in self.tasks], dtype=object), np.diff(self.starts))
        rows = zip(task_ids, self.augmentations.tolist(), dihedrals.tolist(), digits.tolist(), strict=True)
        return [
            f"{task_id}{KEY_SEPARATOR}t{dihedral}{KEY_SEPARATOR}{colours}" if number else task_id
            for task_id, number, dihedral, colours in rows
        ]

    def training_pairs(self, task: int) -> tuple[Pair, ...]:
        """The pairs of task number `task` to train on: of a scored task the demonstrations only."""
        pairs = self.tasks[task].demonstrations
        if self.roles[task] == "train":
            pairs += tuple(pair for pair in self.tasks[task].tests if pair.output is not None)
        return pairs


def write_puzzle_set(puzzle_set: PuzzleSet, folder: Path | str) -> None:
    """Write the set into a new folder, whole or not at all; an existing folder raises ValueError."""
    with new_folder(Path(folder)) as unfinished:
        pq.write_table(_task_table(puzzle_set), unfinished / TASKS_FILE, compression="zstd")
        pq.write_table(_puzzle_table(puzzle_set), unfinished / PUZZLES_FILE, compression="zstd")
        seal(unfinished, SUMMARY_FILE, _summary(puzzle_set))


def open_puzzle_set(folder: Path | str) -> PuzzleSet:
    """Read what `write_puzzle_set` wrote; anything missing or altered raises ValueError naming the file."""
    folder = Path(folder)
    summary = unseal(folder / SUMMARY_FILE, "puzzle set", FORMAT, "build the set again")
    tasks = _read_table(folder / TASKS_FILE).to_pydict()
    puzzles = _read_table(folder / PUZZLES_FILE)
    return PuzzleSet(
        tasks=tuple(map(_decode_task, tasks["id"], tasks["demonstrations"], tasks["tests"])),
        roles=tuple(tasks["role"]),
        sources=tuple(tasks["source"]),
        canvases=np.array([tasks["canvas_rows"], tasks["canvas_columns"]], dtype=np.uint8).T.copy(),
        starts=np.searchsorted(puzzles["task"].to_numpy(), np.arange(len(tasks["id"]) + 1)).astype(np.int64),
        augmentations=puzzles["augmentation"].to_numpy().copy(),
        seed=summary["seed"],
        requested=summary["requested"],
        board_side=summary["board_side"],
        dropped=tuple((task_id, source) for task_id, source in summary["dropped"]),
    )


def _task_table(puzzle_set: PuzzleSet) -> pa.Table:
    columns = {
        "id": [task.id for task in puzzle_set.tasks],
        "role": puzzle_set.roles,
        "source": puzzle_set.sources,
        "canvas_rows": puzzle_set.canvases[:, 0],
        "canvas_columns": puzzle_set.canvases[:, 1],
        "demonstrations": [_encode_pairs(task.demonstrations) for task in puzzle_set.tasks],
        "tests": [_encode_pairs(task.tests) for task in puzzle_set.tasks],
    }
    return pa.table(columns, schema=_TASKS)


def _puzzle_table(puzzle_set: PuzzleSet) -> pa.Table:
    rows = np.repeat(np.arange(len(puzzle_set.tasks), dtype=np.int32), np.diff(puzzle_set.starts))
    return pa.table({"task": rows, "augmentation": puzzle_set.augmentations}, schema=_PUZZLES)


def _read_table(path: Path) -> pa.Table:
    with pq.ParquetFile(path, memory_map=True) as file:
        return file.read()


def _encode_pairs(pairs: tuple[Pair, ...]) -> list[dict]:
    return [{"input": _encode_grid(pair.input), "output": _encode_grid(pair.output)} for pair in pairs]


def _decode_task(task_id: str, demonstrations: list[dict], tests: list[dict]) -> Task:
    return Task(task_id, _decode_pairs(demonstrations), _decode_pairs(tests))


def _decode_pairs(pairs: list[dict]) -> tuple[Pair, ...]:
    return tuple(
        Pair(_decode_grid(pair["input"]), None if pair["output"] is None else _decode_grid(pair["output"]))
        for pair in pairs
    )


def _encode_grid(grid: Grid | None) -> dict | None:
    return None if grid is None else {"height": grid.shape[0], "width": grid.shape[1], "cells": grid.tobytes()}


def _decode_grid(grid: dict) -> Grid:
    return np.frombuffer(grid["cells"], dtype=np.uint8).reshape(grid["height"], grid["width"]).copy()


def _summary(puzzle_set: PuzzleSet) -> dict:
    return {
        "format": FORMAT,
        "tasks": len(puzzle_set.tasks),
        "puzzles": len(puzzle_set),
        "sources": {
            role: sorted({s for s, r in zip(puzzle_set.sources, puzzle_set.roles, strict=True) if r == role})
            for role in sorted(set(puzzle_set.roles))
        },
        "seed": puzzle_set.seed,
        "requested": puzzle_set.requested,
        "board_side": puzzle_set.board_side,
        "dropped": puzzle_set.dropped,
    }
