"""From tasks to a puzzle set: tasks by source and role come in, every task's distinct augmentations go out.

Each task draws from a random stream of its own, keyed by (seed, task ID), so the set does not depend on the
number of workers, the order of the sources, or the other tasks.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import chain
from typing import Any, Literal, get_args

import numpy as np
from joblib import Parallel, delayed
from numpy.typing import NDArray

from augment.canvas import task_canvas
from augment.distinct import draw_augmentations
from augment.store import PuzzleSet
from augment.task import Pair, Task

Role = Literal["scored", "train"]
TASKS_PER_JOB = 40


@dataclass(frozen=True)
class SourcedTasks:
    """Tasks of one source and what they are for.

    Of "scored" tasks the demonstrations are trained on and the test inputs predicted; of "train" tasks every
    pair is trained on.
    """

    source: str
    role: Role
    tasks: list[Task]

    def __post_init__(self) -> None:
        if self.role not in get_args(Role):
            raise ValueError(f"role of {self.source} is {self.role!r}; it must be one of {get_args(Role)}")


@dataclass(frozen=True)
class _Entry:
    source: str
    role: Role
    task: Task


def build_puzzle_set(
    sources: Sequence[SourcedTasks], augmentations: int, seed: int, workers: int = 1, board_side: int = 30
) -> PuzzleSet:
    """The tasks sorted by ID, each unchanged and under up to `augmentations` distinct augmentations.

    A task both scored and trained on raises ValueError, for its test outputs would be trained on. Of a task
    in several train sources the first source by name is kept; `dropped` lists the others.
    """
    _check_settings(augmentations, workers, board_side)
    scored = _entries(sources, "scored")
    train, dropped = _keep_first(_entries(sources, "train"))
    _refuse_overlaps(scored, train)
    entries = sorted([*scored, *train], key=lambda entry: entry.task.id)
    if not entries:
        raise ValueError("there are no tasks to build from; give at least one source to score or to train on")
    numbers = _draw_all(entries, augmentations, seed, workers)
    return PuzzleSet(
        tasks=tuple(entry.task for entry in entries),
        roles=tuple(entry.role for entry in entries),
        sources=tuple(entry.source for entry in entries),
        canvases=np.array([task_canvas(e.task, board_side) for e in entries], dtype=np.uint8),
        starts=np.cumsum([0, *map(len, numbers)], dtype=np.int64),
        augmentations=np.concatenate(numbers),
        seed=seed,
        requested=augmentations,
        board_side=board_side,
        dropped=tuple((entry.task.id, entry.source) for entry in dropped),
    )


def _check_settings(augmentations: int, workers: int, board_side: int) -> None:
    if augmentations < 0:
        raise ValueError(f"augmentations is {augmentations}; give 0 (the tasks unchanged) or more")
    if workers < 1:
        raise ValueError(f"workers is {workers}; give at least 1")
    if not 1 <= board_side <= np.iinfo(np.uint8).max:
        raise ValueError(f"board_side is {board_side}; give 1 to {np.iinfo(np.uint8).max}")


def _entries(sources: Sequence[SourcedTasks], role: Role) -> list[_Entry]:
    """All tasks of this role, by source name and then ID. Test outputs of scored tasks go no further."""
    return [
        _Entry(source.source, role, task.hidden() if role == "scored" else task)
        for source in sorted(sources, key=lambda source: source.source)
        for task in sorted(source.tasks, key=lambda task: task.id)
        if source.role == role
    ]


def _keep_first(entries: Iterable[_Entry]) -> tuple[list[_Entry], list[_Entry]]:
    """The first entry of each task ID, and the rest."""
    kept: dict[str, _Entry] = {}
    dropped = [entry for entry in entries if kept.setdefault(entry.task.id, entry) is not entry]
    return list(kept.values()), dropped


def _refuse_overlaps(scored: list[_Entry], train: list[_Entry]) -> None:
    counts = Counter(entry.task.id for entry in scored)
    twice = sorted(task_id for task_id, count in counts.items() if count > 1)
    if twice:
        raise ValueError(f"{_name(twice)} scored by more than one source; score one source at a time")
    both = sorted(entry.task.id for entry in train if entry.task.id in counts)
    if both:
        sources = " and ".join(sorted({entry.source for entry in train if entry.task.id in counts}))
        raise ValueError(
            f"{_name(both)} both scored and in the train source {sources}: the test outputs to be scored "
            "would be trained on. Leave that train source out, or select other tasks to score"
        )


def _name(task_ids: list[str]) -> str:
    shown = ", ".join(task_ids[:5]) + (", ..." if len(task_ids) > 5 else "")
    return f"task {shown} is" if len(task_ids) == 1 else f"{len(task_ids)} tasks ({shown}) are"


def _draw_all(entries: list[_Entry], count: int, seed: int, workers: int) -> list[NDArray[np.uint32]]:
    jobs = [entries[start : start + TASKS_PER_JOB] for start in range(0, len(entries), TASKS_PER_JOB)]
    results: Any = Parallel(n_jobs=workers)(delayed(_draw_job)(job, count, seed) for job in jobs)
    return list(chain.from_iterable(results))


def _draw_job(entries: list[_Entry], count: int, seed: int) -> list[NDArray[np.uint32]]:
    return [draw_augmentations(_all_pairs(entry.task), count, _stream(seed, entry.task.id)) for entry in entries]


def _all_pairs(task: Task) -> tuple[Pair, ...]:
    """What tells the task's puzzles apart: every pair, hidden outputs as hidden."""
    return task.demonstrations + task.tests


def _stream(seed: int, task_id: str) -> np.random.Generator:
    digest = sha256(f"{seed}:{task_id}".encode()).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest[:16], "little")))
