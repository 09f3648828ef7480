"""Summarises puzzle sets and sources as tables and lines of text."""

from collections import Counter

from rich.table import Table

from augment import PuzzleSet, Task
from augment.canvas import width_shares
from augment.contamination import pairs_of
from augment.sources.load import find_source_label


def describe(puzzle_set: PuzzleSet, **whole: str) -> Table:
    """Return a table of the set, with a row for each source and a total.

    Args:
        puzzle_set: the set to describe.
        whole: further columns, by name, whose values are shown in the total only.
    """
    names = ("source", "role", "tasks", "trained pairs", "test inputs", "puzzles", "short tasks", "leaks", "canvas")
    table = Table(*names, *whole, box=None)
    numbers = range(len(puzzle_set.tasks))
    groups = sorted({(puzzle_set.sources[n], puzzle_set.roles[n]) for n in numbers})
    leaks = _count_leaks(puzzle_set)
    for source, role in groups:
        members = [n for n in numbers if (puzzle_set.sources[n], puzzle_set.roles[n]) == (source, role)]
        table.add_row(source, role, *_count(puzzle_set, members, leaks[source] if role == "train" else 0))
    counts = _count(puzzle_set, list(numbers), leaks.total())
    table.add_row("total", "", *counts, *whole.values(), style="bold")
    table.caption_justify = "left"
    table.caption = (
        f"short tasks: with fewer than {puzzle_set.requested + 1:,} different puzzles; leaks: train tasks that overlap "
        "with a scored one (scaled or framed copies are not found); canvas: mean share of the board's cells"
    )
    return table


def describe_widths(puzzle_set: PuzzleSet) -> str:
    """Return a line with the widths that canvases are padded to, the share of tasks with each, and the padding."""
    shares = width_shares(puzzle_set.canvases, puzzle_set.board_side)
    used = sum(share * width * filled for width, share, filled in shares)
    padded = sum(share * width for width, share, _ in shares)
    widths = ", ".join(f"{width}: {share:.0%} of tasks" for width, share, _ in shares)
    return f"canvases in cells, padded to few widths: {widths}; padding adds {padded / used - 1:.0%} to the cells used"


def describe_exceptions(puzzle_set: PuzzleSet) -> list[str]:
    """Return a line for each source and reason with the tasks left out, one for duplicates and one for overlaps."""
    groups: dict[tuple[str, str], list[str]] = {}
    boards: Counter[str] = Counter()
    for dropped in puzzle_set.dropped:
        if dropped.reason == "boards":
            boards[f"left out of {dropped.source}, boards that equal a test board of {dropped.other}"] += 1
            continue
        label = dropped.task if dropped.task == dropped.other else f"{dropped.task} = {dropped.other}"
        groups.setdefault((dropped.source, dropped.reason), []).append(label)
    reasons = {"leaks": "contain a scored task", "repeats": "have the pairs of another task"}
    lines = [f"{reason}: {count:,}" for reason, count in boards.items()]
    lines += [
        f"left out of {source}, tasks that {reasons[reason]} ({len(labels)}): {', '.join(labels)}"
        for (source, reason), labels in groups.items()
    ]
    if duplicates := _find_duplicates(puzzle_set):
        listed = ", ".join(duplicates)
        lines.append(f"train tasks kept that have the pairs of another task ({len(duplicates)}): {listed}")
    if puzzle_set.leaks:
        listed = ", ".join(map(str, puzzle_set.leaks))
        lines.append(f"LEAKS, every score will be marked: {len(puzzle_set.leaks)} (scored = trained on): {listed}")
    return lines


def _find_duplicates(puzzle_set: PuzzleSet) -> list[str]:
    """Return the train tasks that have the same pairs as an earlier one, as "ID = ID of the earlier one"."""
    first: dict[frozenset, str] = {}
    tasks = [task for task, role in zip(puzzle_set.tasks, puzzle_set.roles, strict=True) if role == "train"]
    pairs = [(task.id, first.setdefault(pairs_of(task), task.id)) for task in tasks]
    return [f"{task_id} = {earlier}" for task_id, earlier in pairs if task_id != earlier]


def _count_leaks(puzzle_set: PuzzleSet) -> Counter[str]:
    """Count the train tasks that contain a scored task by source, those that were left out included."""
    train_ids = {leak.holder for leak in puzzle_set.leaks}
    allowed = (s for s, task in zip(puzzle_set.sources, puzzle_set.tasks, strict=True) if task.id in train_ids)
    return Counter(allowed) + Counter(dropped.source for dropped in puzzle_set.dropped if dropped.reason == "leaks")


def _count(puzzle_set: PuzzleSet, members: list[int], leaks: int) -> list[str]:
    puzzles = [int(puzzle_set.starts[n + 1] - puzzle_set.starts[n]) for n in members]
    test_inputs = sum(len(puzzle_set.tasks[n].tests) for n in members if puzzle_set.roles[n] == "scored")
    pairs = sum(len(puzzle_set.training_pairs(n)) for n in members)
    short = sum(count < puzzle_set.requested + 1 for count in puzzles)
    cells = puzzle_set.canvases[members].astype(int).prod(axis=1).mean()
    counts = [f"{value:,}" for value in (len(members), pairs, test_inputs, sum(puzzles), short, leaks)]
    return [*counts, f"{cells / puzzle_set.board_side**2:.0%}"]


def describe_tasks(source: str, tasks: list[Task]) -> Table:
    """Return a table of the tasks of a source, one property a row.

    The row "checks" states what loading has verified for every grid.
    """
    grids = [grid for task in tasks for pair in task.demonstrations for grid in (pair.input, pair.output)]
    grids += [pair.input for task in tasks for pair in task.tests]
    sides = [task.max_side for task in tasks]
    cells = sorted(grid.size for grid in grids if grid is not None)
    with_tests = sum(bool(task.tests) for task in tasks)
    solved = sum(bool(task.tests) and task.has_solutions for task in tasks)
    table = Table(box=None, show_header=False, title=find_source_label(source), title_justify="left")
    rows = {
        "tasks": f"{len(tasks):,}",
        "demonstrations": f"{sum(len(task.demonstrations) for task in tasks):,}",
        "test inputs": f"{sum(len(task.tests) for task in tasks):,}",
        "solutions": f"known for {solved:,} tasks"
        + (f", hidden for {with_tests - solved:,}" if solved < with_tests else "")
        + (f"; {len(tasks) - with_tests:,} tasks have no tests" if with_tests < len(tasks) else ""),
        "cells per grid": f"{cells[0]} to {cells[-1]}, median {cells[len(cells) // 2]}",
        "tasks by largest side": ", ".join(f"up to {n}: {sum(side <= n for side in sides):,}" for n in (5, 10, 20, 30)),
        "checks": "every grid is rectangular, 1 to 30 cells a side, colours 0 to 9",
    }
    for name, value in rows.items():
        table.add_row(name, value)
    return table
