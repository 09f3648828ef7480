"""Encode augmentations as numbers and names, and puzzles as keys; each encoder has its inverse next to it.

An augmentation is a dihedral transform and a permutation of the nine colours other than black. Its number is
dihedral * 9! + lexicographic rank of the permutation; number 0 is the identity. A puzzle is a task under one
augmentation. Its key is its published name.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import perm

import numpy as np
from numpy.typing import NDArray

from augment.dihedral import DIHEDRALS, apply, invert
from augment.errors import UserError
from augment.grid import COLOURS, Grid
from augment.kernels import kernel
from augment.task import KEY_SEPARATOR

CHANGEABLE = COLOURS - 1
PERMUTATIONS = perm(CHANGEABLE)
AUGMENTATIONS = DIHEDRALS * PERMUTATIONS

_DIGIT = np.uint8(ord("0"))
_NAME = re.compile(r"t([0-7])\|\|\|(0[1-9]{9})")


@dataclass(frozen=True)
class Augmentation:
    """A dihedral transform (0-7) and the new colour of each colour (10 numbers; black stays 0)."""

    dihedral: int
    colours: tuple[int, ...]

    def __post_init__(self) -> None:
        if not 0 <= self.dihedral < DIHEDRALS:
            raise UserError(f"dihedral is {self.dihedral}", f"it must be 0 to {DIHEDRALS - 1}")
        if self.colours[:1] != (0,) or sorted(self.colours) != list(range(COLOURS)):
            raise UserError(f"colours are {self.colours}", f"they must be 0, then 1 to {CHANGEABLE} in any order")

    @property
    def number(self) -> int:
        """Number of the augmentation: dihedral * 9! + lexicographic rank of colours[1:]."""
        return self.dihedral * PERMUTATIONS + int(rank_choice(np.array(self.colours[1:], dtype=np.uint8)))

    @classmethod
    def from_number(cls, number: int) -> "Augmentation":
        """Return the augmentation with this number (0 to 8 * 9! - 1)."""
        dihedrals, colours = decode_numbers(np.array([number]))
        return cls(int(dihedrals[0]), tuple(colours[0].tolist()))

    @property
    def name(self) -> str:
        """Published name, for example "t3|||0981543267": digit c is the new colour of colour c."""
        return f"t{self.dihedral}{KEY_SEPARATOR}{''.join(map(str, self.colours))}"

    @classmethod
    def from_name(cls, name: str) -> "Augmentation":
        """Return the augmentation with this name; raises ValueError for any other text."""
        match = _NAME.fullmatch(name)
        if match is None:
            raise UserError(
                f"{name!r} is not an augmentation", "the form is t3|||0981543267 (0, then 1-9 in any order)"
            )
        return cls(int(match[1]), tuple(map(int, match[2])))

    def apply(self, grid: Grid) -> Grid:
        """Return the augmented grid."""
        return apply(grid, self.dihedral, np.array(self.colours, dtype=np.uint8))

    def invert(self, grid: Grid) -> Grid:
        """Undo `apply`."""
        return invert(grid, self.dihedral, np.array(self.colours, dtype=np.uint8))


IDENTITY = Augmentation(0, tuple(range(COLOURS)))


def decode_numbers(numbers: NDArray[np.integer]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return the dihedrals (n,) and colours (n, 10) of the augmentations with these numbers (n,)."""
    if len(numbers) and not (numbers.min() >= 0 and numbers.max() < AUGMENTATIONS):
        raise UserError(
            f"augmentation numbers run from 0 to {AUGMENTATIONS - 1}", f"these are {numbers.min()} to {numbers.max()}"
        )
    dihedrals, ranks = np.divmod(numbers.astype(np.int64), PERMUTATIONS)
    return dihedrals.astype(np.uint8), _unrank_all(ranks)


def puzzle_key(task_id: str, number: int) -> str:
    """Return the key of a puzzle: task ID|||name of the augmentation, or the task ID alone for number 0."""
    return task_id if number == 0 else f"{task_id}{KEY_SEPARATOR}{Augmentation.from_number(number).name}"


def puzzle_keys(task_ids: Iterable[str], numbers: NDArray[np.integer]) -> list[str]:
    """Return the keys of many puzzles, from the task ID and the augmentation number (n,) of each."""
    dihedrals, colours = decode_numbers(numbers)
    digits = (colours + _DIGIT).view(f"S{COLOURS}").ravel().astype(str)
    rows = zip(task_ids, numbers.tolist(), dihedrals.tolist(), digits.tolist(), strict=True)
    return [
        f"{task_id}{KEY_SEPARATOR}t{dihedral}{KEY_SEPARATOR}{colours}" if number else task_id
        for task_id, number, dihedral, colours in rows
    ]


def parse_puzzle_key(key: str) -> tuple[str, int]:
    """Return the task ID and the augmentation number of a puzzle key: undo `puzzle_key`."""
    task_id, _, name = key.partition(KEY_SEPARATOR)
    return task_id, Augmentation.from_name(name).number if name else 0


def parse_puzzle_keys(keys: Sequence[str]) -> tuple[list[str], NDArray[np.int64]]:
    """Return the task IDs and the augmentation numbers (n,) of puzzle keys: undo `puzzle_keys`.

    Raises:
        ValueError: for the first key whose augmentation is invalid.
    """
    parts = [key.partition(KEY_SEPARATOR) for key in keys]
    names = [name or IDENTITY.name for _, _, name in parts]
    matches = [match for match in map(_NAME.fullmatch, names) if match]
    digits = "".join(match[2] for match in matches).encode()
    colours = np.frombuffer(digits, dtype=np.uint8).reshape(-1, COLOURS) - _DIGIT
    if len(matches) < len(names) or (np.sort(colours, axis=1) != np.arange(COLOURS)).any():
        for name in names:
            # Raises the error that describes the first invalid name.
            Augmentation.from_name(name)
    dihedrals = np.array([int(match[1]) for match in matches], dtype=np.int64)
    return [task_id for task_id, _, _ in parts], dihedrals * PERMUTATIONS + rank_all(colours)


# The lexicographic rank of an ordered choice of k of the colours 1-9 is below 9!/(9-k)!. It is a number of k digits in
# the mixed bases 9, 8, 7, ... Each digit is the number of smaller colours that are not used by an earlier place.


@kernel()
def rank_choice(colours: NDArray[np.uint8]) -> int:
    """Return the lexicographic rank of distinct colours (k,) among all ordered choices of k of the colours 1-9."""
    rank = 0
    for place in range(len(colours)):
        digit = colours[place] - 1
        for earlier in range(place):
            digit -= colours[earlier] < colours[place]
        rank = rank * (CHANGEABLE - place) + digit
    return rank


@kernel()
def unrank_choice(rank: int, colours: NDArray[np.uint8]) -> None:
    """Undo `rank_choice`: write the choice with this rank to `colours` (k,), in place."""
    for place in range(len(colours) - 1, -1, -1):
        colours[place] = rank % (CHANGEABLE - place) + 1
        rank //= CHANGEABLE - place
        # Later places count only free colours. Each one at or above the colour used here moves up by one.
        for later in range(place + 1, len(colours)):
            colours[later] += colours[later] >= colours[place]


@kernel()
def rank_all(colours: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return the ranks (n,) of full permutations (n, 10), which have black first."""
    ranks = np.empty(len(colours), dtype=np.int64)
    for index in range(len(colours)):
        ranks[index] = rank_choice(colours[index, 1:])
    return ranks


@kernel()
def _unrank_all(ranks: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Return the full permutations (n, 10), black first, with these ranks (n,)."""
    colours = np.zeros((len(ranks), COLOURS), dtype=np.uint8)
    for index in range(len(ranks)):
        unrank_choice(ranks[index], colours[index, 1:])
    return colours
