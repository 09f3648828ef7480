"""Count a task's distinct augmentations, and draw a random sample of them.

The input is the list of a task's pairs; the output is an array of augmentation numbers, each of which gives a
different puzzle. Two puzzles are equal if their sets of (input, output) pairs are equal.

Puzzles are counted and drawn without rendering them. A task that uses k non-black colours has 8 * 9!/(9-k)!
*variants*. A variant is a dihedral transform and the ordered choice of the k new colours; its number is
dihedral * 9!/(9-k)! + rank of the choice. The task's symmetries form a group, which partitions the variants into
cosets of equal size. Each coset is one puzzle and is represented by its smallest variant.

The symmetry group is built from a few of its members, with a stabiliser chain. Level i of the chain contains the
symmetries that leave all cells in place and fix the first i used colours. Level i is the product of level i + 1 and
a set of coset representatives: one symmetry for each colour to which the next used colour can be mapped. One
symmetry for each possible dihedral transform completes the group.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import perm

import numpy as np
from numpy.typing import NDArray

from augment.augmentation import CHANGEABLE, PERMUTATIONS, Augmentation, rank_choice, unrank_choice
from augment.dihedral import DIHEDRAL_PRODUCT, DIHEDRALS, TRANSPOSES, apply, source_cell
from augment.grid import COLOURS, Grid
from augment.kernels import kernel
from augment.task import Pair

_UNMOVED = np.arange(COLOURS, dtype=np.int8)
_BITS = 1 << np.arange(COLOURS)
_OPEN = np.int8(-1)
"""Value in a colour map for a colour that is not mapped yet."""


def find_symmetries(pairs: Sequence[Pair]) -> list[Augmentation]:
    """Return the task's symmetries: the augmentations that map its set of pairs to itself, identity first.

    A hidden output matches only a hidden output. Colours that the pairs do not use are mapped to themselves.
    """
    dihedrals, colours = _find_symmetries(_describe(pairs))
    return [Augmentation(*symmetry) for symmetry in zip(dihedrals.tolist(), map(tuple, colours.tolist()), strict=True)]


def count_distinct(pairs: Sequence[Pair]) -> int:
    """Return how many different puzzles the pairs have under all augmentations, including the unchanged one."""
    pair_set = _describe(pairs)
    return DIHEDRALS * perm(CHANGEABLE, len(pair_set.used)) // len(_find_symmetries(pair_set)[0])


def draw_augmentations(pairs: Sequence[Pair], count: int, rng: np.random.Generator) -> NDArray[np.uint32]:
    """Draw 1 + `count` augmentations that give different puzzles; number 0 (the unchanged task) comes first.

    Returns:
        Augmentation numbers (1 + count,). If the task has fewer distinct puzzles, all of them, in random order.
    """
    pair_set = _describe(pairs)
    used = np.array(pair_set.used, dtype=np.uint8)
    (dihedrals, colours) = _find_symmetries(pair_set)
    choices = perm(CHANGEABLE, len(used))
    variants = DIHEDRALS * choices
    distinct = variants // len(dihedrals)
    cosets = np.empty(min(count + 1, distinct), dtype=np.int64)
    seen = np.zeros(choices, dtype=np.uint8)
    # Start with the unchanged task: its used colours are in ascending order, so it is the smallest of its coset.
    batch = np.array([rank_choice(used)])
    filled = 0
    while (filled := _add_unseen(batch, cosets, filled, seen, used, dihedrals, colours)) < len(cosets):
        # If at least half of all puzzles are needed, random draws would mostly repeat earlier ones: list all instead.
        list_all = 2 * count >= distinct
        batch = rng.permutation(variants) if list_all else rng.integers(variants, size=2 * count)
    return _complete(cosets, used, choices).astype(np.uint32)


@dataclass(frozen=True)
class _PairSet:
    """The different pairs of a task, with the data that narrows the search for their symmetries."""

    pairs: dict[object, Pair]
    """Pairs by content, without repetitions."""
    used: list[int]
    """The k non-black colours that the pairs use, ascending."""
    kinds: NDArray[np.int8]
    """(10,): the class of each colour. A symmetry maps each colour to a colour of the same class."""
    steps: list[tuple[Pair, list[Pair]]]
    """Pairs that together contain all used colours, each with the pairs whose last unmapped colours it maps."""


def _describe(pairs: Sequence[Pair]) -> _PairSet:
    """Collect the different pairs, their colours and the order in which the search matches them."""
    by_content = {_content(pair.input, pair.output): pair for pair in pairs}
    unique_pairs = list(by_content.values())
    counts = np.array([_count_cells(pair) for pair in unique_pairs])
    # Two colours can be exchanged only if they have the same cell counts over the pairs, in any order of the pairs.
    columns = [column.tobytes() for column in np.sort(counts, axis=0).T]
    return _PairSet(
        by_content,
        (np.flatnonzero(counts[:, 1:].any(axis=0)) + 1).tolist(),
        np.array([columns.index(column) for column in columns], dtype=np.int8),
        _plan_steps(unique_pairs, ((counts > 0) @ _BITS).tolist()),
    )


def _content(*grids: Grid | None) -> object:
    return tuple(None if grid is None else (grid.shape, grid.tobytes()) for grid in grids)


def _count_cells(pair: Pair) -> NDArray[np.int64]:
    """Count the pair's cells of each colour (10,): those of the input in the high 32 bits, of the output in the low."""
    inputs, outputs = (
        np.bincount(() if grid is None else grid.ravel(), minlength=COLOURS) for grid in (pair.input, pair.output)
    )
    return inputs << 32 | outputs


def _plan_steps(pairs: list[Pair], colours: list[int]) -> list[tuple[Pair, list[Pair]]]:
    """Choose the steps of a _PairSet greedily: the pair with the most new colours comes first.

    Args:
        pairs: the different pairs of the task.
        colours: the colours of each pair as a bit set, black included.
    """
    steps = []
    mapped_bits = 0
    while any(bits & ~mapped_bits for bits in colours):
        best = max(range(len(pairs)), key=lambda number: (colours[number] & ~mapped_bits).bit_count())
        earlier_bits = mapped_bits
        mapped_bits = mapped_bits | colours[best]
        complete_pairs = [
            pair for pair, bits in zip(pairs, colours, strict=True) if bits & ~earlier_bits and not bits & ~mapped_bits
        ]
        steps.append((pairs[best], complete_pairs))
    return steps


def _find_symmetries(pair_set: _PairSet) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return the dihedrals (m,) and colours (m, 10) of all symmetries, identity first."""
    group = _UNMOVED[None]
    for place in reversed(range(len(pair_set.used))):
        if movers := _find_movers(pair_set, place):
            group = np.concatenate([group, *(mover[group] for mover in movers)])
    start = _map_colours([], [])
    symmetries = {dihedral: _find_symmetry(pair_set, dihedral, start) for dihedral in range(1, DIHEDRALS)}
    members = {0: _UNMOVED} | {dihedral: member for dihedral, member in symmetries.items() if member is not None}
    dihedrals = np.repeat(np.array(list(members), dtype=np.uint8), len(group))
    return dihedrals, np.concatenate([member[group] for member in members.values()]).astype(np.uint8)


def _find_movers(pair_set: _PairSet, place: int) -> list[NDArray[np.int8]]:
    """Find a symmetry for each colour to which used[place] can move with cells and earlier used colours in place."""
    colour = pair_set.used[place]
    fixed = pair_set.used[:place]
    later = pair_set.used[place + 1 :]
    candidates = [image for image in later if pair_set.kinds[image] == pair_set.kinds[colour]]
    starts = [_map_colours([*fixed, colour], [*fixed, image]) for image in candidates]
    movers = [_find_symmetry(pair_set, 0, start) for start in starts]
    return [mover for mover in movers if mover is not None]


def _map_colours(colours: list[int], images: list[int]) -> NDArray[np.int8]:
    """Return a partial colour map (10,) that maps black to black and `colours` to `images`."""
    colour_map = np.full(COLOURS, _OPEN)
    colour_map[[0, *colours]] = [0, *images]
    return colour_map


def _find_symmetry(
    pair_set: _PairSet, dihedral: int, colours: NDArray[np.int8], step: int = 0
) -> NDArray[np.int8] | None:
    """Search for a symmetry with this transform that extends the colour map `colours`; None if there is none.

    Backtracks over the pair to which each step's pair is mapped.
    """
    if step == len(pair_set.steps):
        return np.where(colours == _OPEN, _UNMOVED, colours)
    source, complete_pairs = pair_set.steps[step]
    for target in pair_set.pairs.values():
        # `_match_pair` writes to the map even if it fails, so each target gets a copy.
        extension = colours.copy()
        if _match_pair(source, target, dihedral, extension, pair_set.kinds) and all(
            _content(*_move(pair, dihedral, extension)) in pair_set.pairs for pair in complete_pairs
        ):
            symmetry = _find_symmetry(pair_set, dihedral, extension, step + 1)
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


@kernel()
def _match_cells(source: Grid, target: Grid, dihedral: int, colours: NDArray[np.int8], kinds: NDArray[np.int8]) -> bool:
    """Extend the colour map in place to map the transformed source to the target; False if that is impossible."""
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


@kernel()
def _add_unseen(
    variants: NDArray[np.int64],
    puzzles: NDArray[np.int64],
    filled: int,
    seen: NDArray[np.uint8],
    used: NDArray[np.uint8],
    dihedrals: NDArray[np.uint8],
    symmetries: NDArray[np.uint8],
) -> int:
    """Append the smallest variant of each coset in `variants` that was not seen before to `puzzles`, in place.

    Args:
        variants: (n,) variant numbers to try, in order. Stops early when `puzzles` is full.
        puzzles: (capacity,) smallest variants of the cosets; the first `filled` are already set.
        filled: how many elements of `puzzles` are set.
        seen: (variants per dihedral,) one bit for each dihedral: whether the variant's coset is in `puzzles`.
        used: (k,) the used colours, ascending.
        dihedrals: (m,) dihedral transforms of the task's symmetries, identity first.
        symmetries: (m, 10) colour maps of the task's symmetries.

    Returns:
        How many elements of `puzzles` are set now.
    """
    choices = len(seen)
    colours = np.zeros(COLOURS, dtype=np.uint8)
    choice = np.empty(len(used), dtype=np.uint8)
    for variant in variants:
        if filled == len(puzzles):
            break
        if seen[variant % choices] >> (variant // choices) & 1:
            continue
        unrank_choice(variant % choices, choice)
        for place in range(len(used)):
            colours[used[place]] = choice[place]
        puzzles[filled] = variant
        seen[variant % choices] |= 1 << (variant // choices)
        for symmetry in range(1, len(dihedrals)):
            for place in range(len(used)):
                choice[place] = colours[symmetries[symmetry, used[place]]]
            dihedral = DIHEDRAL_PRODUCT[variant // choices, dihedrals[symmetry]]
            rank = rank_choice(choice)
            seen[rank] |= 1 << dihedral
            puzzles[filled] = min(puzzles[filled], dihedral * choices + rank)
        filled += 1
    return filled


@kernel()
def _complete(variants: NDArray[np.int64], used: NDArray[np.uint8], choices: int) -> NDArray[np.int64]:
    """Return the augmentation numbers (n,) of the variants (n,); unused colours are assigned in ascending order."""
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


@kernel()
def _fill_ascending(colours: NDArray[np.uint8]) -> None:
    """Fill the empty (0) places of `colours` (9,) with the missing colours in ascending order, in place."""
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
