"""Sources in, puzzle set out: the first stage of a run.

Of a scored source the demonstrations are trained on and the test inputs predicted; of a train source every pair.
"""

from pathlib import Path

from rich.table import Table

from augment import (
    PuzzleSet,
    Selection,
    SourcedTasks,
    Task,
    build_puzzle_set,
    load_tasks,
    open_puzzle_set,
    write_puzzle_set,
)
from augment.source import find_source_label
from pipeline.config import PuzzleSettings


def gather(scored: list[str], selection: Selection, train: list[str]) -> list[SourcedTasks]:
    """The tasks of every source, with what may be done with them. The selection holds for scored sources only."""
    return [
        *(SourcedTasks(find_source_label(name), "scored", load_tasks(name, selection)) for name in scored),
        *(SourcedTasks(find_source_label(name), "train", load_tasks(name)) for name in train),
    ]


def prepare(
    folder: Path, sources: list[SourcedTasks], settings: PuzzleSettings, seed: int, board_side: int = 30
) -> PuzzleSet:
    """The puzzle set of the sources, read from `folder` where a run has already built it, else built and written."""
    if not folder.exists():
        puzzle_set = build_puzzle_set(sources, settings.augmentations, seed, settings.workers, board_side)
        write_puzzle_set(puzzle_set, folder)
    return open_puzzle_set(folder)


def describe(puzzle_set: PuzzleSet) -> Table:
    """A table of the set: a row for each source and one for all."""
    table = Table(
        "source", "role", "tasks", "trained pairs", "test inputs", "puzzles", "tasks with fewer than asked", box=None
    )
    numbers = range(len(puzzle_set.tasks))
    groups = sorted({(puzzle_set.sources[n], puzzle_set.roles[n]) for n in numbers})
    for source, role in groups:
        members = [n for n in numbers if (puzzle_set.sources[n], puzzle_set.roles[n]) == (source, role)]
        table.add_row(source, role, *_count(puzzle_set, members))
    if len(groups) > 1:
        table.add_row("total", "", *_count(puzzle_set, list(numbers)), style="bold")
    if puzzle_set.dropped:
        named = ", ".join(f"{task} of {source}" for task, source in puzzle_set.dropped[:3])
        table.caption = f"{len(puzzle_set.dropped)} tasks left out, their ID being in an earlier source: {named} ..."
    return table


def _count(puzzle_set: PuzzleSet, members: list[int]) -> list[str]:
    puzzles = [int(puzzle_set.starts[n + 1] - puzzle_set.starts[n]) for n in members]
    asked = sum(len(puzzle_set.tasks[n].tests) for n in members if puzzle_set.roles[n] == "scored")
    pairs = sum(len(puzzle_set.training_pairs(n)) for n in members)
    short = sum(count < puzzle_set.requested + 1 for count in puzzles)
    return [f"{value:,}" for value in (len(members), pairs, asked, sum(puzzles), short)]


def describe_tasks(source: str, tasks: list[Task]) -> Table:
    """What a source holds, one fact a row. Loading has checked every grid: rectangular, 1-30 a side, colours 0-9."""
    grids = [grid for task in tasks for pair in task.demonstrations for grid in (pair.input, pair.output)]
    grids += [pair.input for task in tasks for pair in task.tests]
    sides = [task.max_side for task in tasks]
    cells = sorted(grid.size for grid in grids if grid is not None)
    known = sum(task.has_solutions for task in tasks)
    table = Table(box=None, show_header=False, title=find_source_label(source), title_justify="left")
    rows = {
        "tasks": f"{len(tasks):,}",
        "demonstrations": f"{sum(len(task.demonstrations) for task in tasks):,}",
        "test inputs": f"{sum(len(task.tests) for task in tasks):,}",
        "solutions": f"known for {known:,} tasks"
        + (f", hidden for {len(tasks) - known:,}" if known < len(tasks) else ""),
        "cells per grid": f"{cells[0]} to {cells[-1]}, median {cells[len(cells) // 2]}",
        "tasks by largest side": ", ".join(f"up to {n}: {sum(side <= n for side in sides):,}" for n in (5, 10, 20, 30)),
        "checks": "every grid is rectangular, 1 to 30 cells a side, colours 0 to 9",
    }
    for name, value in rows.items():
        table.add_row(name, value)
    return table
