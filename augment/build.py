"""From tasks to a puzzle set: tasks by source and role come in, every task's augmentations go out.

Each task draws from a random stream of its own, keyed by (seed, task ID), so the set does not depend on the
number of workers, the order of the sources, or the other tasks; and a set can be extended without moving what it has.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import numpy as np
from joblib import Parallel, delayed
from numpy.typing import NDArray

from augment.canvas import task_canvas
from augment.colour_draws import Draws, draw_transforms
from augment.distinct import draw_augmentations
from augment.merge import Duplicates, Entry, MergedSources, OnLeak, SourcedTasks, merge
from augment.puzzle_set import MAX_PAIRS, PuzzleSet
from augment.rng import task_rng
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
    max_pairs: int = MAX_PAIRS,
    on_leak: OnLeak = "stop",
    duplicates: Duplicates = "keep",
    draws: Draws = "distinct",
) -> PuzzleSet:
    """The tasks sorted by ID, each unchanged and under up to `augmentations` augmentations.

    Args:
        max_pairs: of a train task without tests, a long list of pairs, at most so many are drawn and kept in order.
        on_leak: a train task that holds a scored one (`augment.contamination`) stops the build, is dropped, or is
            allowed and listed in the set's `leaks`.
        duplicates: whether a train task with the pairs of another, under another ID, is kept.
        draws: distinct augmentations, or the 8 transforms under colour draws (`augment.colour_draws`).

    Raises:
        LeakError: listing every leak, where `on_leak` is "stop".
        ValueError: for settings that cannot be, a task scored twice, and no tasks at all.
    """
    settings = _Settings(augmentations, seed, board_side, max_pairs, draws)
    return _draw_set(merge(_entries(sources, settings), on_leak, duplicates), {}, settings, workers)


def extend_puzzle_set(
    old: PuzzleSet,
    sources: Sequence[SourcedTasks],
    workers: int = 1,
    *,
    on_leak: OnLeak = "stop",
    duplicates: Duplicates = "keep",
) -> PuzzleSet:
    """The set with more tasks, built with its own settings; the tasks it has keep their keys and draws.

    Only `on_leak` "drop" takes an old train task out, where it holds a task that is now scored. Leaks that the set was
    built to allow stay, and stay marked.
    """
    settings = _Settings(old.requested, old.seed, old.board_side, old.max_pairs, old.draws)
    had = [
        Entry(source, role, task, whole=task, old=True)
        for source, role, task in zip(old.sources, old.roles, old.tasks, strict=True)
    ]
    merged = merge([*had, *_entries(sources, settings)], on_leak, duplicates, old.leaks)
    merged = replace(merged, dropped=tuple(sorted({*old.dropped, *merged.dropped})))
    numbers = dict(zip((task.id for task in old.tasks), np.split(old.augmentations, old.starts[1:-1]), strict=True))
    return _draw_set(merged, numbers, settings, workers)


@dataclass(frozen=True)
class _Settings:
    """What a set is built by, and extended by."""

    augmentations: int
    seed: int
    board_side: int
    max_pairs: int
    draws: Draws

    def __post_init__(self) -> None:
        if self.augmentations < 0:
            raise ValueError(f"augmentations is {self.augmentations}; give 0 (the tasks unchanged) or more")
        if self.max_pairs < 1:
            raise ValueError(f"max_pairs is {self.max_pairs}; give at least 1")
        if not 1 <= self.board_side <= np.iinfo(np.uint8).max:
            raise ValueError(f"board_side is {self.board_side}; give 1 to {np.iinfo(np.uint8).max}")


def _entries(sources: Sequence[SourcedTasks], settings: _Settings) -> list[Entry]:
    """Every task as its role has it: test outputs of scored ones go no further."""
    return [
        Entry(source.source, source.role, task.hidden(), whole=task.hidden())
        if source.role == "scored"
        else Entry(source.source, source.role, _draw_pairs(task, settings), whole=task)
        for source in sources
        for task in source.tasks
    ]


def _draw_pairs(task: Task, settings: _Settings) -> Task:
    """Of a task that is a list of pairs at most `max_pairs`, in its order; any other task as it is."""
    count = len(task.demonstrations)
    if task.tests or count <= settings.max_pairs:
        return task
    drawn = task_rng(settings.seed, task.id, "pairs").choice(count, size=settings.max_pairs, replace=False)
    return replace(task, demonstrations=tuple(task.demonstrations[number] for number in sorted(drawn)))


def _draw_set(merged: MergedSources, drawn: dict[str, Numbers], settings: _Settings, workers: int) -> PuzzleSet:
    """The set of these tasks; what is `drawn` already, by ID of the old tasks, stays."""
    entries = merged.entries
    if not entries:
        raise ValueError("there are no tasks to build from; give at least one source to score or to train on")
    if workers < 1:
        raise ValueError(f"workers is {workers}; give at least 1")
    canvases = np.array([task_canvas(entry.task, settings.board_side) for entry in entries], dtype=np.uint8)
    new = [entry.task for entry in entries if not entry.old]
    fresh = _draw_all(new, settings, workers)
    drawn = drawn | dict(zip((task.id for task in new), fresh, strict=True))
    numbers = [drawn[entry.task.id] for entry in entries]
    return PuzzleSet(
        tasks=tuple(entry.task for entry in entries),
        roles=tuple(entry.role for entry in entries),
        sources=tuple(entry.source for entry in entries),
        canvases=canvases,
        starts=np.cumsum([0, *map(len, numbers)], dtype=np.int64),
        augmentations=np.concatenate(numbers),
        seed=settings.seed,
        requested=settings.augmentations,
        board_side=settings.board_side,
        max_pairs=settings.max_pairs,
        draws=settings.draws,
        dropped=merged.dropped,
        leaks=merged.leaks,
    )


def _draw_all(tasks: list[Task], settings: _Settings, workers: int) -> list[Numbers]:
    jobs = [tasks[start : start + TASKS_PER_JOB] for start in range(0, len(tasks), TASKS_PER_JOB)]
    results: Any = Parallel(n_jobs=workers)(delayed(_draw_job)(job, settings) for job in jobs)
    return list(chain.from_iterable(results))


def _draw_job(tasks: list[Task], settings: _Settings) -> list[Numbers]:
    return [_draw(task, settings) for task in tasks]


def _draw(task: Task, settings: _Settings) -> Numbers:
    """What tells a task's puzzles apart is every pair, hidden outputs as hidden."""
    count = settings.augmentations
    seed = settings.seed
    if settings.draws == "distinct":
        return draw_augmentations(task.demonstrations + task.tests, count, task_rng(seed, task.id))
    return draw_transforms(task, count, settings.draws, task_rng(seed, task.id, "colours"))
