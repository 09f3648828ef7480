"""Build a puzzle set: merge the tasks of all sources and draw each task's augmentations.

Each task has its own random generator, keyed by (seed, task ID). Therefore a task's augmentations do not depend on the
number of workers, the order of the sources, or the other tasks. A set can be extended without changing its puzzles.
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
from augment.errors import UserError
from augment.merge import Duplicates, Entry, MergedSources, OnLeak, SourcedTasks, merge
from augment.puzzle_set import MAX_PAIRS, PuzzleSet
from augment.rng import task_rng
from augment.schema import LARGEST
from augment.task import Task

TASKS_PER_JOB = 40
"""Tasks per joblib job, so that starting a job costs little compared with its work."""
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
    """Build a puzzle set of the tasks sorted by ID, each unchanged and under up to `augmentations` augmentations.

    Args:
        sources: the tasks of each source, with their role.
        augmentations: number of augmentations per task, not counting the unchanged task; fewer if a task has fewer.
        seed: seed of all random draws.
        workers: number of parallel processes; it does not affect the result.
        board_side: side of the board that all grids must fit.
        max_pairs: number of pairs drawn from a train task without tests that is a longer list of pairs. The drawn
            pairs keep their order.
        on_leak: what to do about a train task that contains a scored task (`augment.contamination`): stop the build,
            drop the train task, or allow it and list the overlap in the set's `leaks`.
        duplicates: whether to keep a train task that has the pairs of another train task under another ID.
        draws: distinct augmentations, or the 8 transforms under colour draws (`augment.colour_draws`).

    Raises:
        LeakError: if `on_leak` is "stop" and there are overlaps; the message lists all of them.
        ValueError: for invalid settings, a task scored twice, a grid larger than the board, or no tasks at all.
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
    """Add tasks to a puzzle set, with the settings it was built with; its tasks keep their keys and augmentations.

    An old train task is removed only if `on_leak` is "drop" and it contains a task that is now scored. Overlaps that
    were allowed when the set was built stay in it and stay marked.

    The arguments and errors are those of `build_puzzle_set`.
    """
    settings = _Settings(old.requested, old.seed, old.board_side, old.max_pairs, old.draws)
    old_entries = [
        Entry(source, role, task, whole=task, old=True)
        for source, role, task in zip(old.sources, old.roles, old.tasks, strict=True)
    ]
    merged = merge([*old_entries, *_entries(sources, settings)], on_leak, duplicates, old.leaks)
    merged = replace(merged, dropped=tuple(sorted({*old.dropped, *merged.dropped})))
    numbers = dict(zip((task.id for task in old.tasks), np.split(old.augmentations, old.starts[1:-1]), strict=True))
    return _draw_set(merged, numbers, settings, workers)


@dataclass(frozen=True)
class _Settings:
    """The settings that a set is built with, and extended with; see `build_puzzle_set`."""

    augmentations: int
    seed: int
    board_side: int
    max_pairs: int
    draws: Draws

    def __post_init__(self) -> None:
        if not 0 <= self.augmentations <= LARGEST:
            raise UserError(f"augmentations is {self.augmentations}", f"give 0 (the tasks unchanged) to {LARGEST}")
        if not 0 <= self.seed <= LARGEST:
            raise UserError(f"seed is {self.seed}", f"give 0 to {LARGEST}")
        if not 1 <= self.max_pairs <= LARGEST:
            raise UserError(f"max_pairs is {self.max_pairs}", f"give 1 to {LARGEST}")
        if not 1 <= self.board_side <= np.iinfo(np.uint8).max:
            raise UserError(f"board_side is {self.board_side}", f"give 1 to {np.iinfo(np.uint8).max}")


def _entries(sources: Sequence[SourcedTasks], settings: _Settings) -> list[Entry]:
    """Prepare the tasks of all sources for their roles: hide test outputs of scored tasks, draw pairs of train tasks.

    Of the later steps only the search for overlaps reads the test outputs of a scored task (`Entry.whole`).
    """
    return [
        Entry(source.source, source.role, task.hidden(), whole=task)
        if source.role == "scored"
        else Entry(source.source, source.role, _draw_pairs(task, settings), whole=task)
        for source in sources
        for task in source.tasks
    ]


def _draw_pairs(task: Task, settings: _Settings) -> Task:
    """Draw at most `max_pairs` pairs, in their order, of a task that is a list of pairs; return other tasks
    unchanged."""
    count = len(task.demonstrations)
    if task.tests or count <= settings.max_pairs:
        return task
    numbers = task_rng(settings.seed, task.id, "pairs").choice(count, size=settings.max_pairs, replace=False)
    return replace(task, demonstrations=tuple(task.demonstrations[number] for number in sorted(numbers)))


def _draw_set(merged: MergedSources, numbers_by_id: dict[str, Numbers], settings: _Settings, workers: int) -> PuzzleSet:
    """Draw the augmentations of the new tasks and assemble the puzzle set.

    Args:
        merged: the merged tasks.
        numbers_by_id: augmentation numbers of the old tasks, by task ID.
        settings: settings of the set.
        workers: number of parallel processes.
    """
    entries = merged.entries
    if not entries:
        raise UserError("there are no tasks to build from", "give at least one source to score or to train on")
    if workers < 1:
        raise UserError(f"workers is {workers}", "give at least 1")
    # Before the draws, which take long, because a grid that is larger than the board raises an error here.
    canvases = np.array([task_canvas(entry.task, settings.board_side) for entry in entries], dtype=np.uint8)
    new_tasks = [entry.task for entry in entries if not entry.old]
    new_numbers = _draw_all(new_tasks, settings, workers)
    numbers_by_id = numbers_by_id | dict(zip((task.id for task in new_tasks), new_numbers, strict=True))
    numbers = [numbers_by_id[entry.task.id] for entry in entries]
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
    """Draw the augmentation numbers of each task, in parallel."""
    jobs = [tasks[start : start + TASKS_PER_JOB] for start in range(0, len(tasks), TASKS_PER_JOB)]
    results: Any = Parallel(n_jobs=workers)(delayed(_draw_job)(job, settings) for job in jobs)
    return list(chain.from_iterable(results))


def _draw_job(tasks: list[Task], settings: _Settings) -> list[Numbers]:
    return [_draw(task, settings) for task in tasks]


def _draw(task: Task, settings: _Settings) -> Numbers:
    """Draw a task's augmentation numbers; all pairs, hidden outputs included, decide which puzzles are distinct."""
    count = settings.augmentations
    seed = settings.seed
    if settings.draws == "distinct":
        return draw_augmentations(task.demonstrations + task.tests, count, task_rng(seed, task.id))
    return draw_transforms(task, count, settings.draws, task_rng(seed, task.id, "colours"))
