"""The 8 transforms of a task under one colour draw after another: a task comes in, augmentation numbers go out.

What a puzzle set holds where puzzles of one transform share an ID row and training draws colours anew at each visit
(`puzzles.ids` is "transform" or "task"). `augment.distinct` draws what it holds otherwise.
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
"""What a set's puzzles are: distinct augmentations (`augment.distinct`), or the 8 transforms under colour draws that
leave alone black and the colours of outputs alone ("outputs"), or black only ("black")."""


def find_colours(task: Task) -> NDArray[np.bool_]:
    """Which colours the inputs hold, and the outputs that are known: (2, 10)."""
    found = np.zeros((2, COLOURS), bool)
    for pair in (*task.demonstrations, *task.tests):
        found[0, np.unique(pair.input)] = True
        if pair.output is not None:
            found[1, np.unique(pair.output)] = True
    return found


def shown_colours(task: Task) -> NDArray[np.bool_]:
    """Which colours (10,) the grids that are known show."""
    inputs, outputs = find_colours(task)
    return inputs | outputs


def find_fixed(task: Task, rule: FixedColours) -> NDArray[np.bool_]:
    """Which colours (10,) a draw leaves alone: black, and with "outputs" those of outputs that no input holds.

    Nothing in an input tells the latter, so a model cannot know where a draw took them.
    """
    inputs, outputs = find_colours(task)
    fixed = outputs & ~inputs if rule == "outputs" else np.zeros(COLOURS, bool)
    fixed[0] = True
    return fixed


def draw_transforms(task: Task, count: int, rule: FixedColours, rng: np.random.Generator) -> NDArray[np.uint32]:
    """Numbers of 1 + `count` augmentations: the 8 transforms with colours as they are, then under a second draw ...

    Draws differ in where they take the colours that the task uses; unused colours are filled in ascending. Where there
    are no more such draws the task has fewer puzzles. A task that looks the same turned or flipped has the same puzzle
    under several transforms.

    Args:
        task: with the outputs that may be known; others are None.
        count: puzzles besides the unchanged task; 7 gives the 8 transforms.
        rule: which colours every draw leaves alone (`find_fixed`).
    """
    fixed = find_fixed(task, rule)
    used = shown_colours(task) & ~fixed
    draws = -(-(count + 1) // DIHEDRALS)
    ranks = rank_all(_draw_colours(np.flatnonzero(used), np.flatnonzero(~fixed), draws, rng))
    numbers = np.arange(DIHEDRALS) * PERMUTATIONS + ranks[:, None]
    return numbers.ravel()[: count + 1].astype(np.uint32)


def permute_free(fixed: NDArray[np.bool_], keys: NDArray[np.float64]) -> NDArray[np.uint8]:
    """A permutation of the colours (n, 10) for each row: the free ones in the order of their keys, which are below 1.

    fixed, keys: (n, 10). Uniform over all permutations of the free colours where the keys are.
    """
    colours = np.empty(fixed.shape, np.uint8)
    places = np.argsort(fixed, axis=1, kind="stable")
    order = np.argsort(np.where(fixed, 1.0, keys), axis=1, kind="stable")
    np.put_along_axis(colours, places, order.astype(np.uint8), axis=1)
    return colours


def _draw_colours(
    used: NDArray[np.intp], free: NDArray[np.intp], most: int, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Up to `most` permutations (n, 10), the identity first, that take the used of the free colours elsewhere.

    A draw is an ordered choice of len(used) of the free colours, of which there are perm(len(free), len(used)).
    """
    total = perm(len(free), len(used))
    identity = _rank(np.searchsorted(free, used), len(free))
    others = rng.choice(total - 1, size=min(most, total) - 1, replace=False)
    ranks = np.append(identity, others + (others >= identity))
    choices = _unrank(ranks, len(used), len(free))
    taken = np.zeros((len(ranks), len(free)), bool)
    np.put_along_axis(taken, choices, True, axis=1)
    rest = np.argsort(taken, axis=1, kind="stable")[:, : len(free) - len(used)]
    colours = np.tile(np.arange(COLOURS, dtype=np.uint8), (len(ranks), 1))
    colours[:, used] = free[choices]
    colours[:, np.setdiff1d(free, used)] = free[rest]
    return colours


def _rank(choice: NDArray[np.intp], among: int) -> int:
    """Lexicographic rank of an ascending choice (k,) of the numbers below `among`, among all ordered choices of k."""
    rank = 0
    for place, number in enumerate(choice.tolist()):
        rank = rank * (among - place) + number - place
    return rank


def _unrank(ranks: NDArray[np.int64], chosen: int, among: int) -> NDArray[np.int64]:
    """The ordered choices (n, chosen) of the numbers below `among` that have these ranks (n,)."""
    choices = np.zeros((len(ranks), chosen), np.int64)
    for place in reversed(range(chosen)):
        ranks, choices[:, place] = np.divmod(ranks, among - place)
        later = choices[:, place + 1 :]
        later += later >= choices[:, place : place + 1]
    return choices
