"""Distinct augmentations of a task: its pairs come in, augmentations that give different puzzles go out.

Two puzzles are the same where their sets of (input, output) pairs are equal. They are counted and drawn
without rendering any: a task that uses k colours besides black has 8 * 9!/(9-k)! *variants* (dihedral, where
each used colour goes), numbered dihedral * 9!/(9-k)! + rank of the choice. The task's own symmetries form a
group that cuts the variants into cosets of equal size; each coset is one puzzle, named here by its smallest
variant.

The group is put together from a few of its members. Those that leave the cells in place and keep the first
used colours make a chain of smaller and smaller groups; one member for each colour that the next used colour can
go to, times the smaller group, is the larger one. One member for each dihedral transform makes the whole.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import perm

import numpy as np
from numba import njit
from numpy.typing import NDArray

from augment.augmentation import CHANGEABLE, PERMUTATIONS, Augmentation, rank_choice, unrank_choice
from augment.dihedral import DIHEDRAL_PRODUCT, DIHEDRALS, TRANSPOSES, apply, source_cell
from augment.grid import COLOURS, Grid
from augment.task import Pair

_UNMOVED = np.arange(COLOURS, dtype=np.int8)
_BITS = 1 << np.arange(COLOURS)
_OPEN = np.int8(-1)
"""Stands in a colour map for a colour that is not mapped yet."""


def stabiliser(pairs: Sequence[Pair]) -> list[Augmentation]:
    """The task's own symmetries: the augmentations that map its set of pairs to itself, the identity first.

    A hidden output matches only a hidden output. Colours the pairs do not use stay in place.
    """
    dihedrals, colours = _find_symmetries(_describe(pairs))
    return [Augmentation(*symmetry) for symmetry in zip(dihedrals.tolist(), map(tuple, colours.tolist()), strict=True)]


def count_distinct(pairs: Sequence[Pair]) -> int:
    """How many different puzzles the pairs have under all augmentations, the unchanged one included."""
    pair_set = _describe(pairs)
    return DIHEDRALS * perm(CHANGEABLE, len(pair_set.used)) // len(_find_symmetries(pair_set)[0])


def draw_augmentations(pairs: Sequence[Pair], count: int, rng: np.random.Generator) -> NDArray[np.uint32]:
    """Numbers of 1 + `count` augmentations that give different puzzles, number 0 (the unchanged task) first.

    Fewer where the task has fewer; then all of them, in random order.
    """
    pair_set = _describe(pairs)
    used = np.array(pair_set.used, dtype=np.uint8)
    (dihedrals, colours) = _find_symmetries(pair_set)
    choices = perm(CHANGEABLE, len(used))
    variants = DIHEDRALS * choices
    puzzles = variants // len(dihedrals)
    found = np.empty(min(count + 1, puzzles), dtype=np.int64)
    seen = np.zeros(choices, dtype=np.uint8)
    # The unchanged task: the used colours in ascending order, the smallest variant of its coset.
    batch = np.array([rank_choice(used)])
    filled = 0
    while (filled := _add_unseen(batch, found, filled, seen, used, dihedrals, colours)) < len(found):
        # Drawing would mostly meet what it has met when half of all puzzles or more are wanted: then list them.
        listed = 2 * count >= puzzles
        batch = rng.permutation(variants) if listed else rng.integers(variants, size=2 * count)
    return _complete(found, used, choices).astype(np.uint32)


@dataclass(frozen=True)
class _PairSet:
    """The different pairs of a task, and what narrows the search for their symmetries."""

    pairs: dict[object, Pair]
    """By content."""
    used: list[int]
    """The k colours used besides black, ascending."""
    kinds: NDArray[np.int8]
    """(10,): a symmetry takes each colour to one of its own kind."""
    steps: list[tuple[Pair, list[Pair]]]
    """Pairs that hold all used colours together, each with the pairs whose colours are known once it is matched."""


def _describe(pairs: Sequence[Pair]) -> _PairSet:
    by_content = {_content(pair.input, pair.output): pair for pair in pairs}
    different = list(by_content.values())
    counts = np.array([_count_cells(pair) for pair in different])
    columns = [column.tobytes() for column in np.sort(counts, axis=0).T]
    return _PairSet(
        by_content,
        (np.flatnonzero(counts[:, 1:].any(axis=0)) + 1).tolist(),
        np.array([columns.index(column) for column in columns], dtype=np.int8),
        _plan_steps(different, ((counts > 0) @ _BITS).tolist()),
    )


def _content(*grids: Grid | None) -> object:
    return tuple(None if grid is None else (grid.shape, grid.tobytes()) for grid in grids)


def _count_cells(pair: Pair) -> NDArray[np.int64]:
    """(10,): how often the pair has each colour, its input and its output kept apart in one number."""
    inputs, outputs = (
        np.bincount(() if grid is None else grid.ravel(), minlength=COLOURS) for grid in (pair.input, pair.output)
    )
    return inputs << 32 | outputs


def _plan_steps(pairs: list[Pair], colours: list[int]) -> list[tuple[Pair, list[Pair]]]:
    """The steps of a _PairSet, `colours` being the colours of each pair as bits. Most new colours come first."""
    steps = []
    known = 0
    while any(held & ~known for held in colours):
        best = max(range(len(pairs)), key=lambda number: (colours[number] & ~known).bit_count())
        before = known
        known = known | colours[best]
        settled = [pair for pair, held in zip(pairs, colours, strict=True) if held & ~before and not held & ~known]
        steps.append((pairs[best], settled))
    return steps


def _find_symmetries(pair_set: _PairSet) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Dihedrals (m,) and colours (m, 10) of all symmetries, the identity first."""
    group = _UNMOVED[None]
    for place in reversed(range(len(pair_set.used))):
        if movers := _find_movers(pair_set, place):
            group = np.concatenate([group, *(mover[group] for mover in movers)])
    start = _map_colours([], [])
    found = {dihedral: _find_symmetry(pair_set, dihedral, start) for dihedral in range(1, DIHEDRALS)}
    members = {0: _UNMOVED} | {dihedral: member for dihedral, member in found.items() if member is not None}
    dihedrals = np.repeat(np.array(list(members), dtype=np.uint8), len(group))
    return dihedrals, np.concatenate([member[group] for member in members.values()]).astype(np.uint8)


def _find_movers(pair_set: _PairSet, place: int) -> list[NDArray[np.int8]]:
    """For each colour used[place] can go to, one symmetry of colours alone that keeps the used colours before it."""
    colour = pair_set.used[place]
    kept = pair_set.used[:place]
    later = pair_set.used[place + 1 :]
    alike = [goes_to for goes_to in later if pair_set.kinds[goes_to] == pair_set.kinds[colour]]
    starts = [_map_colours([*kept, colour], [*kept, goes_to]) for goes_to in alike]
    movers = [_find_symmetry(pair_set, 0, start) for start in starts]
    return [mover for mover in movers if mover is not None]


def _map_colours(colours: list[int], go_to: list[int]) -> NDArray[np.int8]:
    mapped = np.full(COLOURS, _OPEN)
    mapped[[0, *colours]] = [0, *go_to]
    return mapped


def _find_symmetry(
    pair_set: _PairSet, dihedral: int, colours: NDArray[np.int8], step: int = 0
) -> NDArray[np.int8] | None:
    """A symmetry with this transform that extends the colour map `colours`, or None."""
    if step == len(pair_set.steps):
        return np.where(colours == _OPEN, _UNMOVED, colours)
    source, settled = pair_set.steps[step]
    for target in pair_set.pairs.values():
        extended = colours.copy()
        if _match_pair(source, target, dihedral, extended, pair_set.kinds) and all(
            _content(*_move(pair, dihedral, extended)) in pair_set.pairs for pair in settled
        ):
            symmetry = _find_symmetry(pair_set, dihedral, extended, step + 1)
            if symmetry is not None:
                return symmetry
    return None


def _move(pair: Pair, dihedral: int, colours: NDArray[np.int8]) -> Iterator[Grid | None]:
    for grid in (pair.input, pair.output):
        yield None if grid is None else apply(grid, dihedral, colours.astype(np.uint8))


def _match_pair(source: Pair, target: Pair, dihedral: int, colours: NDArray[np.int8], kinds: NDArray[np.int8]) -> bool:
    if not _match_grid(source.input, target.input, dihedral, colours, kinds):
        return False
    if source.output is None or target.output is None:
        return source.output is target.output
    return _match_grid(source.output, target.output, dihedral, colours, kinds)


def _match_grid(source: Grid, target: Grid, dihedral: int, colours: NDArray[np.int8], kinds: NDArray[np.int8]) -> bool:
    shape = source.shape[::-1] if TRANSPOSES[dihedral] else source.shape
    return shape == target.shape and _match_cells(source, target, dihedral, colours, kinds)


@njit(cache=True)
def _match_cells(source: Grid, target: Grid, dihedral: int, colours: NDArray[np.int8], kinds: NDArray[np.int8]) -> bool:
    """Extend the colour map in place so that it takes the transformed source to the target, if one can."""
    height, width = source.shape
    for row in range(target.shape[0]):
        for column in range(target.shape[1]):
            source_row, source_column = source_cell(dihedral, row, column, height, width)
            old = source[source_row, source_column]
            new = target[row, column]
            if colours[old] == _OPEN and kinds[old] == kinds[new] and not (colours == new).any():
                colours[old] = new
            elif colours[old] != new:
                return False
    return True


@njit(cache=True)
def _add_unseen(
    variants: NDArray[np.int64],
    found: NDArray[np.int64],
    filled: int,
    seen: NDArray[np.uint8],
    used: NDArray[np.uint8],
    dihedrals: NDArray[np.uint8],
    symmetries: NDArray[np.uint8],
) -> int:
    """Put the smallest variant of each unseen coset that `variants` (n,) meets behind the `filled` ones of `found`.

    Stops when `found` is full; returns how many it holds. `seen` (variants per dihedral,) has a bit for each
    dihedral. `dihedrals` (m,) and `symmetries` (m, 10): the task's own symmetries, the identity first.
    """
    choices = len(seen)
    colours = np.zeros(COLOURS, dtype=np.uint8)
    choice = np.empty(len(used), dtype=np.uint8)
    for variant in variants:
        if filled == len(found):
            break
        if seen[variant % choices] >> (variant // choices) & 1:
            continue
        unrank_choice(variant % choices, choice)
        for place in range(len(used)):
            colours[used[place]] = choice[place]
        found[filled] = variant
        seen[variant % choices] |= 1 << (variant // choices)
        for symmetry in range(1, len(dihedrals)):
            for place in range(len(used)):
                choice[place] = colours[symmetries[symmetry, used[place]]]
            dihedral = DIHEDRAL_PRODUCT[variant // choices, dihedrals[symmetry]]
            rank = rank_choice(choice)
            seen[rank] |= 1 << dihedral
            found[filled] = min(found[filled], dihedral * choices + rank)
        filled += 1
    return filled


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
