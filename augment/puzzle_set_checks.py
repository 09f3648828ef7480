"""What the files of a puzzle set must hold: the schemas of its JSON file and tables, and how their values must agree.

The numba kernels that render puzzles do not check their indices. They rely on the checks of this module, which run
once, when a set is opened.
"""

import itertools
from pathlib import Path
from typing import Annotated

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import Field

from augment.augmentation import AUGMENTATIONS
from augment.colour_draws import Draws
from augment.contamination import Overlap
from augment.grid import COLOURS, MAX_SIDE
from augment.merge import DroppedTask, Role
from augment.schema import LARGEST, Count, Schema, SealedHeader, count_items, join_bytes, refuse, require
from augment.task import check_id

FIX = "build the set again"
TASKS_FILE = "tasks.parquet"
PUZZLES_FILE = "puzzles.parquet"

GRID = pa.struct({"height": pa.uint8(), "width": pa.uint8(), "cells": pa.binary()})
PAIRS = pa.list_(pa.struct({"input": GRID, "output": GRID}))
TASKS = pa.schema(
    {
        "id": pa.string(),
        "role": pa.string(),
        "source": pa.string(),
        "canvas_rows": pa.uint8(),
        "canvas_columns": pa.uint8(),
        "demonstrations": PAIRS,
        "tests": PAIRS,
    }
)
PUZZLES = pa.schema({"task": pa.int32(), "augmentation": pa.uint32()})

Positive = Annotated[int, Field(ge=1, le=LARGEST)]


class SourceSummary(Schema):
    """The tasks of one source in one role."""

    source: str
    role: Role
    tasks: Count
    sha256: str


class PuzzleSetHeader(SealedHeader):
    """The contents of puzzle_set.json (docs/file_formats.md)."""

    tasks: Positive
    puzzles: Positive
    sources: tuple[SourceSummary, ...]
    seed: Count
    requested: Count
    board_side: Annotated[int, Field(ge=1, le=255)]
    max_pairs: Positive
    draws: Draws = "distinct"
    dropped: tuple[DroppedTask, ...]
    leaks: tuple[Overlap, ...]
    versions: dict[str, str]


def check_tables(folder: Path, tasks: pa.Table, puzzles: pa.Table, board_side: int, max_pairs: int) -> None:
    """Check the values of both tables against each other.

    Args:
        folder: the folder of the set.
        tasks: the table of tasks.
        puzzles: the table of puzzles.
        board_side: the side of the board, which no canvas exceeds.
        max_pairs: the number of pairs that were drawn of a train task that is a list of pairs.

    Raises:
        DamagedError: naming the file, the row, the field and what is wrong.
    """
    file = folder / TASKS_FILE
    _check_tasks(file, tasks)
    canvases = {name: tasks[f"canvas_{name}"].to_numpy().astype(np.int64) for name in ("rows", "columns")}
    for name, sides in canvases.items():
        require((sides >= 1) & (sides <= board_side), file, f"canvas_{name}: not 1 to {board_side}", FIX)
    roles = tasks["role"].to_numpy()
    for name in ("demonstrations", "tests"):
        _check_pairs(file, name, tasks[name].combine_chunks(), roles, canvases)
    is_list = (roles == "train") & (count_items(tasks["tests"]) == 0)
    counts = count_items(tasks["demonstrations"])
    require(~is_list | (counts <= max_pairs), file, f"demonstrations: more than max_pairs, {max_pairs}", FIX)
    _check_puzzles(folder / PUZZLES_FILE, puzzles, len(tasks))


def _check_tasks(file: Path, tasks: pa.Table) -> None:
    """Check IDs and roles."""
    ids = tasks["id"].to_pylist()
    for row, task_id in enumerate(ids):
        if not check_id(task_id):
            refuse(file, f"row {row:,}: id: {task_id[:80]!a} is no task ID", FIX)
    order = np.array([before < after for before, after in itertools.pairwise(ids)], np.bool_)
    require(order, file, "id: not before the next one, as tasks are sorted and different", FIX)
    require(np.isin(tasks["role"].to_numpy(), ("scored", "train")), file, "role: neither scored nor train", FIX)


def _check_pairs(
    file: Path, name: str, column: pa.ListArray, roles: NDArray[np.object_], canvases: dict[str, NDArray[np.int64]]
) -> None:
    """Check the grids of one column of pairs, and that they are on the canvas of their task."""
    counts = count_items(column)
    is_scored = roles == "scored"
    needed = 1 if name == "demonstrations" else is_scored.astype(int)
    require(counts >= needed, file, f"{name}: no pair", FIX)
    owners = np.repeat(np.arange(len(column)), counts)
    pairs = column.flatten()
    if pairs.null_count:
        refuse(file, f"{name}: a pair is null", FIX)
    for part, grids in zip(("input", "output"), pairs.flatten(), strict=True):
        hidden = grids.is_null().to_numpy(zero_copy_only=False)
        place = f"{name}.{part}"
        if part == "input" or name == "demonstrations":
            _require(~hidden, owners, file, f"{place}: it is null")
        else:
            _require(hidden | ~is_scored[owners], owners, file, f"{place}: a scored task has a test output")
        known = grids.filter(pa.array(~hidden))
        _check_grids(file, place, known, owners[~hidden], canvases)


def _check_grids(
    file: Path, place: str, grids: pa.StructArray, owners: NDArray[np.int64], canvases: dict[str, NDArray[np.int64]]
) -> None:
    """Check sides, cells and colours of grids; `owners` are the rows of their tasks."""
    heights, widths, cells = grids.flatten()
    if heights.null_count or widths.null_count or cells.null_count:
        refuse(file, f"{place}: height, width or cells are null", FIX)
    areas = 1
    for side, name, axis in ((heights, "height", "rows"), (widths, "width", "columns")):
        sides = side.to_numpy(zero_copy_only=False).astype(np.int64)
        _require((sides >= 1) & (sides <= MAX_SIDE), owners, file, f"{place}.{name}: not 1 to {MAX_SIDE}")
        _require(sides <= canvases[axis][owners], owners, file, f"{place}.{name}: larger than the canvas")
        areas = areas * sides
    lengths = count_items(cells)
    _require(lengths == areas, owners, file, f"{place}.cells: not as many as height x width")
    colours = join_bytes(cells)
    if colours.max(initial=0) >= COLOURS:
        owner = np.repeat(owners, lengths)
        _require(colours < COLOURS, owner, file, f"{place}.cells: a colour above {COLOURS - 1}")


def _require(valid: NDArray[np.bool_], owners: NDArray[np.int64], file: Path, what: str) -> None:
    """Raise DamagedError with the row of the first task that has a value that is not valid."""
    if not valid.all():
        refuse(file, f"row {int(owners[np.argmin(valid)]):,}: {what}", FIX)


def _check_puzzles(file: Path, puzzles: pa.Table, tasks: int) -> None:
    """Check that every task has puzzles, in order, of which the first is the unchanged task."""
    task = puzzles["task"].to_numpy()
    augmentation = puzzles["augmentation"].to_numpy()
    if (task[1:] < task[:-1]).any():
        refuse(file, "task: tasks are not in order", FIX)
    if task[0] < 0 or task[-1] >= tasks:
        require((task >= 0) & (task < tasks), file, f"task: not 0 to {tasks - 1}", FIX)
    starts = first_rows(puzzles, tasks)
    without = np.flatnonzero(np.diff(starts) == 0)
    if len(without):
        refuse(file, f"task: task {without[0]} has no puzzle", FIX)
    if augmentation.max() >= AUGMENTATIONS:
        require(augmentation < AUGMENTATIONS, file, f"augmentation: not 0 to {AUGMENTATIONS - 1}", FIX)
    if augmentation[starts[:-1]].any():
        refuse(file, "augmentation: a task's first puzzle is not the unchanged task", FIX)


def first_rows(puzzles: pa.Table, tasks: int) -> NDArray[np.int64]:
    """Return the first row of each task's puzzles, and the number of rows (tasks + 1,). Rows are sorted by task."""
    task = puzzles["task"].to_numpy()
    # Keys of the column's own type: for others NumPy would convert the whole column.
    return np.searchsorted(task, np.arange(tasks + 1, dtype=task.dtype)).astype(np.int64)
