"""Assignment of puzzles to rows of the ID table.

`find_rows` takes a puzzle set and returns the keys of the rows and the row of each puzzle. The setting `Ids` decides
which puzzles of a task share a row:

"augmentation": none, each puzzle has its own row
"transform": those under the same dihedral transform; training draws new colours at each visit
"task": all; the model has a vector for each transform, and training draws new colours at each visit
"shared": all, and the model gets no information on the augmentation
"""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from augment.augmentation import PERMUTATIONS, puzzle_keys
from augment.colour_draws import Draws, FixedColours
from augment.dihedral import DIHEDRALS
from augment.puzzle_set import PuzzleSet

Ids = Literal["augmentation", "transform", "task", "shared"]
KINDS: dict[Draws, str] = {
    "distinct": "distinct augmentations",
    "outputs": "the 8 transforms with colour draws that keep black and the colours that only outputs have",
    "black": "the 8 transforms with colour draws that keep only black",
}


def draws_colours(ids: Ids) -> bool:
    """Return whether training draws new colours for an example at each visit."""
    return ids in ("transform", "task")


def needed_draws(ids: Ids, fixed_colours: FixedColours) -> Draws:
    """Return which kind of augmentations the puzzle set must have."""
    return fixed_colours if draws_colours(ids) else "distinct"


def check_draws(puzzle_set: PuzzleSet, ids: Ids, fixed_colours: FixedColours) -> None:
    """Check that the puzzle set has the augmentations that these settings need.

    Raises:
        ValueError: if it has others; the message states how to build the set or change the settings.
    """
    needed = needed_draws(ids, fixed_colours)
    actual = puzzle_set.draws
    if actual == needed:
        return
    options = "--ids augmentation" if needed == "distinct" else f"--ids {ids} --fixed-colours {needed}"
    if actual == "distinct":
        others = "augmentation or shared"
    else:
        others = f"transform or task, and puzzles.fixed_colours={actual}"
    raise ValueError(
        f"the puzzle set holds {KINDS[actual]}, but puzzles.ids={ids} needs {KINDS[needed]}: build the set with "
        f"{options}, or set puzzles.ids={others}"
    )


def find_rows(puzzle_set: PuzzleSet, ids: Ids) -> tuple[list[str], NDArray[np.int64]]:
    """Return the key of every row of the ID table, grouped by task, and the row of every puzzle (puzzles,).

    A shared row has the key of the puzzle with the task's own colours. With "transform", every task has 8 rows, one for
    each transform; otherwise the key is that of the unchanged task.
    """
    if ids == "augmentation":
        return puzzle_set.keys(), np.arange(len(puzzle_set))
    tasks = np.repeat(np.arange(len(puzzle_set.tasks)), np.diff(puzzle_set.starts))
    task_ids = [task.id for task in puzzle_set.tasks]
    if ids != "transform":
        return task_ids, tasks
    numbers = np.tile(np.arange(DIHEDRALS) * PERMUTATIONS, len(task_ids))
    keys = puzzle_keys((task_id for task_id in task_ids for _ in range(DIHEDRALS)), numbers)
    return keys, tasks * DIHEDRALS + puzzle_set.augmentations // PERMUTATIONS
