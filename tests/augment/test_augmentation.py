"""Encode and decode augmentations as numbers, names and puzzle keys."""

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from augment import IDENTITY, Augmentation, decode_numbers, parse_puzzle_key, puzzle_key
from augment.augmentation import AUGMENTATIONS, PERMUTATIONS, parse_puzzle_keys, puzzle_keys, rank_choice, unrank_choice
from tests.helpers.strategies import augmentations

numbers = st.integers(0, AUGMENTATIONS - 1)


@given(numbers)
def test_numbers_and_names_survive_a_round_trip(number: int) -> None:
    augmentation = Augmentation.from_number(number)
    assert augmentation.number == number
    assert Augmentation.from_name(augmentation.name) == augmentation
    key = puzzle_key("a task", number)
    assert parse_puzzle_key(key) == ("a task", number)


@given(st.lists(numbers, max_size=8))
def test_many_numbers_decode_as_one_by_one(many: list[int]) -> None:
    dihedrals, colours = decode_numbers(np.array(many, dtype=np.uint32))
    decoded = [Augmentation(d, tuple(c)) for d, c in zip(dihedrals.tolist(), colours.tolist(), strict=True)]
    assert decoded == [Augmentation.from_number(number) for number in many]
    assert (dihedrals.dtype, colours.dtype, colours.shape) == (np.uint8, np.uint8, (len(many), 10))


@given(augmentations(), augmentations())
def test_numbers_are_in_lexicographic_order(one: Augmentation, other: Augmentation) -> None:
    assert (one.number < other.number) == ((one.dihedral, one.colours) < (other.dihedral, other.colours))


@pytest.mark.parametrize("length", [0, 1, 3])
def test_ranks_count_ordered_choices_in_order(length: int) -> None:
    for rank, choice in enumerate(permutations(range(1, 10), length)):
        colours = np.empty(length, dtype=np.uint8)
        unrank_choice(rank, colours)
        assert tuple(colours.tolist()) == choice
        assert rank_choice(colours) == rank


def test_known_numbers_and_names() -> None:
    assert (IDENTITY.number, IDENTITY.name) == (0, "t0|||0123456789")
    last = Augmentation(7, (0, 9, 8, 7, 6, 5, 4, 3, 2, 1))
    assert last.number == 8 * PERMUTATIONS - 1
    assert puzzle_key("abc", last.number) == "abc|||t7|||0987654321"
    assert puzzle_key("abc", 0) == "abc"
    assert parse_puzzle_key("abc") == ("abc", 0)


@pytest.mark.parametrize(
    "name", ["", "t8|||0123456789", "t1|||0123456788", "t1|||1023456789", "t1|||012345678", "t1||0123456789"]
)
def test_invalid_names_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"form is|colours are"):
        Augmentation.from_name(name)


@given(st.lists(st.tuples(st.sampled_from(["a", "b~2", "a task"]), numbers | st.just(0))))
def test_puzzle_keys_equal_those_of_puzzle_key(puzzles: list[tuple[str, int]]) -> None:
    task_ids = [task for task, _ in puzzles]
    expected_numbers = np.array([number for _, number in puzzles], np.int64)
    keys = puzzle_keys(task_ids, expected_numbers)
    assert keys == [puzzle_key(*puzzle) for puzzle in puzzles]
    parsed, parsed_numbers = parse_puzzle_keys(keys)
    assert (parsed, parsed_numbers.tolist()) == (task_ids, expected_numbers.tolist())


@pytest.mark.parametrize("key", ["a|||t8|||0123456789", "a|||t1|||0113456789", "a|||t1", "a|||t1|||0123456789|||"])
def test_an_invalid_key_is_refused_among_many(key: str) -> None:
    with pytest.raises(ValueError, match=r"form is|colours are"):
        parse_puzzle_keys(["a", "b|||t1|||0213456789", key])


@pytest.mark.parametrize("number", [-1, AUGMENTATIONS])
def test_invalid_numbers_are_refused(number: int) -> None:
    with pytest.raises(ValueError, match="run from 0 to"):
        Augmentation.from_number(number)


@pytest.mark.parametrize(("dihedral", "colours"), [(8, IDENTITY.colours), (0, (0, 1, 2)), (0, (1, 0, *range(2, 10)))])
def test_impossible_augmentations_are_refused(dihedral: int, colours: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"dihedral|colours"):
        Augmentation(dihedral, colours)
