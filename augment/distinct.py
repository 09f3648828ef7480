"""Distinct augmentations of a task: its pairs come in, augmentations that give different puzzles go out.

Two puzzles are the same where their sets of (input, output) pairs are equal. They are counted and drawn
without rendering any: a task that uses k colours besides black has 8 * 9!/(9-k)! *variants* (dihedral, where
each used colour goes), numbered dihedral * 9!/(9-k)! + rank of the choice. The task's own symmetries form a
group that cuts the variants into cosets of equal size; each coset is one puzzle, named here by its smallest
variant.
"""

from collections.abc import Iterator, Sequence
from math import perm

import numpy as np
from numba import njit
from numpy.typing import NDArray

from augment.grid import COLOURS, Grid
from augment.puzzle import CHANGEABLE, PERMUTATIONS, Augmentation, rank_choice, unrank_choice
from augment.task import Pair
from augment.transform import DIHEDRAL_PRODUCT, DIHEDRALS, TRANSPOSES, source_cell


def stabiliser(pairs: Sequence[Pair]) -> list[Augmentation]:
    """The task's own symmetries: the augmentations that map its set of pairs to itself, the identity first.

    A hidden output matches only a hidden output. Colours the pairs do not use stay in place.
    """
    pairs = list({tuple(_cells(grid) for grid in (pair.input, pair.output)): pair for pair in pairs}.values())
    black = np.zeros(COLOURS, dtype=np.int8)
    black[1:] = -1
    return [
        Augmentation(dihedral, _keep_unused(colours))
        for dihedral in range(DIHEDRALS)
        for colours in _matchings(pairs, pairs, dihedral, black)
    ]


def _cells(grid: Grid | None) -> tuple[tuple[int, ...], bytes] | None:
    return None if grid is None else (grid.shape, grid.tobytes())


def _keep_unused(colours: NDArray[np.int8]) -> tuple[int, ...]:
    return tuple(int(new) if new >= 0 else colour for colour, new in enumerate(colours))


def _matchings(
    sources: list[Pair], targets: list[Pair], dihedral: int, colours: NDArray[np.int8]
) -> Iterator[NDArray[np.int8]]:
    """Every colour map that extends `colours` (-1: open) and takes the sources one to one to the targets."""
    if not sources:
        yield colours
        return
    for number, target in enumerate(targets):
        extended = colours.copy()
        if _match_pair(sources[0], target, dihedral, extended):
            yield from _matchings(sources[1:], targets[:number] + targets[number + 1 :], dihedral, extended)


def _match_pair(source: Pair, target: Pair, dihedral: int, colours: NDArray[np.int8]) -> bool:
    if not _match_grid(source.input, target.input, dihedral, colours):
        return False
    if source.output is None or target.output is None:
        return source.output is target.output
    return _match_grid(source.output, target.output, dihedral, colours)


def _match_grid(source: Grid, target: Grid, dihedral: int, colours: NDArray[np.int8]) -> bool:
    shape = source.shape[::-1] if TRANSPOSES[dihedral] else source.shape
    return shape == target.shape and _match_cells(source, target, dihedral, colours)


@njit(cache=True)
def _match_cells(source: Grid, target: Grid, dihedral: int, colours: NDArray[np.int8]) -> bool:
    """Extend the colour map in place so that it takes the transformed source to the target, if one can."""
    height, width = source.shape
    for row in range(target.shape[0]):
        for column in range(target.shape[1]):
            source_row, source_column = source_cell(dihedral, row, column, height, width)
            old, new = source[source_row, source_column], target[row, column]
            if colours[old] == -1:
                colours[old] = new
            elif colours[old] != new:
                return False
    return True


def count_distinct(pairs: Sequence[Pair]) -> int:
    """How many different puzzles the pairs have under all augmentations, the unchanged one included."""
    return _count_variants(_used_colours(pairs)) // len(stabiliser(pairs))


def draw_augmentations(pairs: Sequence[Pair], count: int, rng: np.random.Generator) -> NDArray[np.uint32]:
    """Numbers of 1 + `count` augmentations that give different puzzles, number 0 (the unchanged task) first.

    Fewer where the task has fewer; then all of them, in random order.
    """
    used, symmetries = _used_colours(pairs), stabiliser(pairs)
    variants = _count_variants(used)
    coset = (
        used,
        variants // DIHEDRALS,
        np.array([symmetry.dihedral for symmetry in symmetries], dtype=np.uint8),
        np.array([symmetry.colours for symmetry in symmetries], dtype=np.uint8),
    )
    # The unchanged task: the used colours in ascending order, the smallest variant of its coset.
    found = np.array([rank_choice(used)])
    # Drawing would mostly meet what it has met when half of all puzzles or more are wanted: then list them.
    if 2 * count >= variants // len(symmetries):
        found = _add_unseen(found, _smallest_in_cosets(rng.permutation(variants), *coset))
    while len(found) <= min(count, variants // len(symmetries) - 1):
        found = _add_unseen(found, _smallest_in_cosets(rng.integers(variants, size=2 * count), *coset))
    return _complete(found[: count + 1], used, variants // DIHEDRALS).astype(np.uint32)


def _used_colours(pairs: Sequence[Pair]) -> NDArray[np.uint8]:
    grids = [grid.ravel() for pair in pairs for grid in pair.grids()]
    colours = np.flatnonzero(np.bincount(np.concatenate(grids), minlength=COLOURS))
    return colours[colours > 0].astype(np.uint8)


def _count_variants(used: NDArray[np.uint8]) -> int:
    return DIHEDRALS * perm(CHANGEABLE, len(used))


def _add_unseen(values: NDArray[np.int64], more: NDArray[np.int64]) -> NDArray[np.int64]:
    values = np.concatenate([values, more])
    _, first = np.unique(values, return_index=True)
    return values[np.sort(first)]


@njit(cache=True)
def _smallest_in_cosets(
    variants: NDArray[np.int64],
    used: NDArray[np.uint8],
    choices: int,
    dihedrals: NDArray[np.uint8],
    symmetries: NDArray[np.uint8],
) -> NDArray[np.int64]:
    """For each variant (n,) the smallest that gives the same puzzle.

    `choices`: variants per dihedral. `dihedrals` (m,) and `symmetries` (m, 10): the task's own symmetries.
    """
    smallest = np.empty(len(variants), dtype=np.int64)
    colours = np.zeros(COLOURS, dtype=np.uint8)
    choice = np.empty(len(used), dtype=np.uint8)
    for index in range(len(variants)):
        unrank_choice(variants[index] % choices, choice)
        for place in range(len(used)):
            colours[used[place]] = choice[place]
        smallest[index] = variants[index]
        for symmetry in range(len(dihedrals)):
            for place in range(len(used)):
                choice[place] = colours[symmetries[symmetry, used[place]]]
            dihedral = DIHEDRAL_PRODUCT[variants[index] // choices, dihedrals[symmetry]]
            smallest[index] = min(smallest[index], dihedral * choices + rank_choice(choice))
    return smallest


@njit(cache=True)
def _complete(variants: NDArray[np.int64], used: NDArray[np.uint8], choices: int) -> NDArray[np.int64]:
    """Augmentation numbers of the variants (n,)."""
    numbers = np.empty(len(variants), dtype=np.int64)
    choice = np.empty(len(used), dtype=np.uint8)
    colours = np.zeros(CHANGEABLE, dtype=np.uint8)
    for index in range(len(variants)):
        unrank_choice(variants[index] % choices, choice)
        colours[:] = 0
        for place in range(len(used)):
            colours[used[place] - 1] = choice[place]
        _fill_ascending(colours)
        numbers[index] = variants[index] // choices * PERMUTATIONS + rank_choice(colours)
    return numbers


@njit(cache=True)
def _fill_ascending(colours: NDArray[np.uint8]) -> None:
    """Put the colours that are not there yet into the empty (0) places, in ascending order."""
    free = np.ones(COLOURS, dtype=np.bool_)
    for colour in colours:
        free[colour] = False
    colour = 1
    for place in range(len(colours)):
        if colours[place] == 0:
            while not free[colour]:
                colour += 1
            colours[place] = colour
            colour += 1
