"""The puzzle set in memory: tasks, and their puzzles as augmentation numbers (`augment.puzzle_set_files` stores it)."""

from bisect import bisect_right
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from augment.augmentation import puzzle_key, puzzle_keys
from augment.colour_draws import Draws
from augment.contamination import Overlap, SeenTasks
from augment.merge import DroppedTask, Role
from augment.task import Pair, Task

MAX_PAIRS = 20


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
