"""Which row of the ID table each puzzle has: a puzzle set comes in, the rows' keys and each puzzle's row go out.

"augmentation": every puzzle has a row of its own. "transform": those of a task under one dihedral transform share one.
"task": all those of a task share one, and the model tells transforms apart. With these two, training draws colours anew
at each visit. "shared": all those of a task share one, and nothing tells them apart.
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
    "outputs": "the 8 transforms under colour draws that leave alone black and the colours of outputs alone",
    "black": "the 8 transforms under colour draws that leave alone black only",
}


def draws_colours(ids: Ids) -> bool:
    """Whether training draws an example's colours anew at each visit."""
    return ids in ("transform", "task")


def needed_draws(ids: Ids, fixed_colours: FixedColours) -> Draws:
    """What the puzzles of a set must be."""
    return fixed_colours if draws_colours(ids) else "distinct"


def check_draws(puzzle_set: PuzzleSet, ids: Ids, fixed_colours: FixedColours) -> None:
    """ValueError where the set's puzzles are not what these settings need, saying how to build or set them."""
    needed = needed_draws(ids, fixed_colours)
    held = puzzle_set.draws
    if held == needed:
        return
    options = "--ids augmentation" if needed == "distinct" else f"--ids {ids} --fixed-colours {needed}"
    others = "augmentation or shared" if held == "distinct" else f"transform or task, and puzzles.fixed_colours={held}"
    raise ValueError(
        f"the puzzle set holds {KINDS[held]}, but puzzles.ids={ids} needs {KINDS[needed]}: build the set with "
        f"{options}, or set puzzles.ids={others}"
    )


def find_rows(puzzle_set: PuzzleSet, ids: Ids) -> tuple[list[str], NDArray[np.int64]]:
    """The key of every row of the ID table, those of a task together, and the row of every puzzle (puzzles,).

    A shared row has the key of the puzzle that shows the task's own colours: under that transform with "transform",
    which gives every task 8 rows, and else unchanged.
    """
    if ids == "augmentation":
        return puzzle_set.keys(), np.arange(len(puzzle_set))
    tasks = np.repeat(np.arange(len(puzzle_set.tasks)), np.diff(puzzle_set.starts))
    names = puzzle_set.tasks
    if ids != "transform":
        return [task.id for task in names], tasks
    numbers = np.tile(np.arange(DIHEDRALS) * PERMUTATIONS, len(names))
    keys = puzzle_keys((task.id for task in names for _ in range(DIHEDRALS)), numbers)
    return keys, tasks * DIHEDRALS + puzzle_set.augmentations // PERMUTATIONS
