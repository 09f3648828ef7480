"""Draw colour permutations of a task and combine each with the 8 dihedral transforms, as augmentation numbers.

A puzzle set contains these augmentations if puzzles with the same transform share a puzzle embedding (`puzzles.ids` is
"transform" or "task"). Training then draws new colours at each visit of a puzzle. Otherwise a set contains the
augmentations of `augment.distinct`.
"""

from math import perm
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from augment.augmentation import PERMUTATIONS, rank_all
from augment.dihedral import DIHEDRALS
from augment.grid import COLOURS
from augment.task import Task

FixedColours = Literal["outputs", "black"]
Draws = Literal["distinct", "outputs", "black"]
"""How a set's augmentations are drawn.

"distinct": distinct augmentations (`augment.distinct`). "outputs": the 8 transforms under colour draws that do not
change black and the colours that occur only in outputs. "black": the same, but only black does not change.
"""


def find_colours(task: Task) -> NDArray[np.bool_]:
    """Return which colours occur in the inputs (row 0) and in the known outputs (row 1): (2, 10)."""
    has_colour = np.zeros((2, COLOURS), bool)
    for pair in (*task.demonstrations, *task.tests):
        has_colour[0, np.unique(pair.input)] = True
        if pair.output is not None:
            has_colour[1, np.unique(pair.output)] = True
    return has_colour


def shown_colours(task: Task) -> NDArray[np.bool_]:
    """Return which colours (10,) occur in the inputs or the known outputs."""
    inputs, outputs = find_colours(task)
    return inputs | outputs


def find_fixed(task: Task, rule: FixedColours) -> NDArray[np.bool_]:
    """Return which colours (10,) a draw does not change.

    These are black and, with the rule "outputs", the colours of outputs that occur in no input. An input does not show
    these colours, so a model could not know to which colours a draw had mapped them.
    """
    inputs, outputs = find_colours(task)
    fixed = outputs & ~inputs if rule == "outputs" else np.zeros(COLOURS, bool)
    fixed[0] = True
    return fixed


def draw_transforms(task: Task, count: int, rule: FixedColours, rng: np.random.Generator) -> NDArray[np.uint32]:
    """Draw 1 + `count` augmentations: the 8 transforms with unchanged colours, then under a second draw, and so on.

    Draws differ in the new colours of the colours that the task uses; unused colours are assigned in ascending order.
    If there are not enough different draws, the task has fewer puzzles. A task that is symmetric under a rotation or
    flip has equal puzzles under several transforms.

    Args:
        task: the task; outputs that must not be known are None.
        count: number of puzzles, not counting the unchanged task; 7 gives the 8 transforms.
        rule: which colours no draw changes (`find_fixed`).
        rng: the random generator of the draws.

    Returns:
        Augmentation numbers (at most 1 + count,), in which number 0 (the unchanged task) comes first.
    """
    fixed = find_fixed(task, rule)
    used = shown_colours(task) & ~fixed
    # Round up: the last draw may have fewer than 8 transforms.
    draws = -(-(count + 1) // DIHEDRALS)
    ranks = rank_all(_draw_colours(np.flatnonzero(used), np.flatnonzero(~fixed), draws, rng))
    numbers = np.arange(DIHEDRALS) * PERMUTATIONS + ranks[:, None]
    return numbers.ravel()[: count + 1].astype(np.uint32)


def permute_free(fixed: NDArray[np.bool_], keys: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Permute the free colours of each row by sorting random keys; fixed colours do not change.

    Args:
        fixed: (n, 10) colours that do not change.
        keys: (n, 10) numbers below 1. If they are uniform, so are the permutations of the free colours.

    Returns:
        (n, 10) new colour of each colour.
    """
    colours = np.empty(fixed.shape, np.uint8)
    places = np.argsort(fixed, axis=1, kind="stable")
    # Keys are below 1, so fixed colours sort last; the stable sort keeps them in ascending order, as in `places`.
    order = np.argsort(np.where(fixed, 1.0, keys), axis=1, kind="stable")
    np.put_along_axis(colours, places, order.astype(np.uint8), axis=1)
    return colours


def _draw_colours(
    used: NDArray[np.intp], free: NDArray[np.intp], most: int, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Draw up to `most` permutations (n, 10) that differ in the new colours of the used ones; the identity is first.

    A draw is an ordered choice of len(used) of the free colours; there are perm(len(free), len(used)) of them.

    Args:
        used: the free colours that the task uses, ascending.
        free: all colours that a draw may change, ascending.
        most: maximum number of permutations.
        rng: the random generator.
    """
    total = perm(len(free), len(used))
    identity = _rank(np.searchsorted(free, used), len(free))
    # Draw without replacement from all ranks but the identity's, which is skipped by shifting the ranks above it.
    others = rng.choice(total - 1, size=min(most, total) - 1, replace=False)
    ranks = np.append(identity, others + (others >= identity))
    choices = _unrank(ranks, len(used), len(free))
    is_chosen = np.zeros((len(ranks), len(free)), bool)
    np.put_along_axis(is_chosen, choices, True, axis=1)
    rest = np.argsort(is_chosen, axis=1, kind="stable")[:, : len(free) - len(used)]
    colours = np.tile(np.arange(COLOURS, dtype=np.uint8), (len(ranks), 1))
    colours[:, used] = free[choices]
    colours[:, np.setdiff1d(free, used)] = free[rest]
    return colours


def _rank(choice: NDArray[np.intp], among: int) -> int:
    """Return the lexicographic rank of an ascending choice (k,) of numbers below `among` among all ordered choices."""
    rank = 0
    for place, number in enumerate(choice.tolist()):
        rank = rank * (among - place) + number - place
    return rank


def _unrank(ranks: NDArray[np.int64], chosen: int, among: int) -> NDArray[np.int64]:
    """Return the ordered choices (n, chosen) of the numbers below `among` with these ranks (n,)."""
    choices = np.zeros((len(ranks), chosen), np.int64)
    for place in reversed(range(chosen)):
        ranks, choices[:, place] = np.divmod(ranks, among - place)
        later = choices[:, place + 1 :]
        later += later >= choices[:, place : place + 1]
    return choices
