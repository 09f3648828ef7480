"""From tasks to a puzzle set: tasks by source and role come in, every task's distinct augmentations go out.

Each task draws from a random stream of its own, keyed by (seed, task ID), so the set does not depend on the
number of workers, the order of the sources, or the other tasks; and a set can be extended without moving what it has.
"""

from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np
from joblib import Parallel, delayed
from numpy.typing import NDArray

from augment.canvas import task_canvas
from augment.distinct import draw_augmentations
from augment.merge import Duplicates, Entry, Merged, OnLeak, SourcedTasks, merge
from augment.store import PuzzleSet
from augment.stream import task_stream
from augment.task import Task

TASKS_PER_JOB = 40
Numbers = NDArray[np.uint32]


def build_puzzle_set(
    sources: Sequence[SourcedTasks],
    augmentations: int,
    seed: int,
    workers: int = 1,
    board_side: int = 30,
    *,
    on_leak: OnLeak = "stop",
    duplicates: Duplicates = "keep",
) -> PuzzleSet:
    """The tasks sorted by ID, each unchanged and under up to `augmentations` distinct augmentations.

    Args:
        on_leak: a train task that holds a scored one (`augment.seen`) stops the build, is dropped, or is allowed
            and listed in the set's `leaks`.
        duplicates: whether a train task with the pairs of another, under another ID, is kept.

    Raises:
        LeakError: listing every leak, where `on_leak` is "stop".
        ValueError: for settings that cannot be, a task scored twice, and no tasks at all.
    """
    _check_settings(augmentations, workers, board_side)
    merged = merge(_entries(sources), on_leak, duplicates)
    return _draw_set(merged, {}, augmentations, seed, workers, board_side)


def extend_puzzle_set(
    old: PuzzleSet,
    sources: Sequence[SourcedTasks],
    workers: int = 1,
    *,
    on_leak: OnLeak = "stop",
    duplicates: Duplicates = "keep",
) -> PuzzleSet:
    """The set with more tasks, built with its own settings; the tasks it has keep their keys and draws.

    Only `on_leak` "drop" takes an old train task out, where it holds a task that is now scored.
    """
    _check_settings(old.requested, workers, old.board_side)
    had = [
        Entry(source, role, task, old=True)
        for source, role, task in zip(old.sources, old.roles, old.tasks, strict=True)
    ]
    merged = merge([*had, *_entries(sources)], on_leak, duplicates)
    numbers = dict(zip((task.id for task in old.tasks), np.split(old.augmentations, old.starts[1:-1]), strict=True))
    return _draw_set(merged, numbers, old.requested, old.seed, workers, old.board_side)


def _entries(sources: Sequence[SourcedTasks]) -> list[Entry]:
    return [Entry(source.source, source.role, task) for source in sources for task in source.tasks]


def _check_settings(augmentations: int, workers: int, board_side: int) -> None:
    if augmentations < 0:
        raise ValueError(f"augmentations is {augmentations}; give 0 (the tasks unchanged) or more")
    if workers < 1:
        raise ValueError(f"workers is {workers}; give at least 1")
    if not 1 <= board_side <= np.iinfo(np.uint8).max:
        raise ValueError(f"board_side is {board_side}; give 1 to {np.iinfo(np.uint8).max}")


def _draw_set(
    merged: Merged, drawn: dict[str, Numbers], augmentations: int, seed: int, workers: int, board_side: int
) -> PuzzleSet:
    """The set of these tasks; what is `drawn` already, by ID of the old tasks, stays."""
    entries = merged.entries
    if not entries:
        raise ValueError("there are no tasks to build from; give at least one source to score or to train on")
    canvases = np.array([task_canvas(entry.task, board_side) for entry in entries], dtype=np.uint8)
    new = [entry.task for entry in entries if not entry.old]
    drawn = drawn | dict(zip((task.id for task in new), _draw_all(new, augmentations, seed, workers), strict=True))
    numbers = [drawn[entry.task.id] for entry in entries]
    return PuzzleSet(
        tasks=tuple(entry.task for entry in entries),
        roles=tuple(entry.role for entry in entries),
        sources=tuple(entry.source for entry in entries),
        canvases=canvases,
        starts=np.cumsum([0, *map(len, numbers)], dtype=np.int64),
        augmentations=np.concatenate(numbers),
        seed=seed,
        requested=augmentations,
        board_side=board_side,
        dropped=merged.dropped,
        leaks=merged.leaks,
    )


def _draw_all(tasks: list[Task], count: int, seed: int, workers: int) -> list[Numbers]:
    jobs = [tasks[start : start + TASKS_PER_JOB] for start in range(0, len(tasks), TASKS_PER_JOB)]
    results: Any = Parallel(n_jobs=workers)(delayed(_draw_job)(job, count, seed) for job in jobs)
    return list(chain.from_iterable(results))


def _draw_job(tasks: list[Task], count: int, seed: int) -> list[Numbers]:
    """What tells a task's puzzles apart is every pair, hidden outputs as hidden."""
    return [draw_augmentations(task.demonstrations + task.tests, count, task_stream(seed, task.id)) for task in tasks]
