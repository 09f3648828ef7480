"""Compare the algebra of distinct augmentations with rendering every puzzle."""

from collections import Counter
from collections.abc import Iterator, Sequence
from hashlib import sha256
from itertools import combinations, permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from augment import Augmentation, Grid, Pair, Task, count_distinct, draw_augmentations, find_symmetries, load_tasks
from tests.helpers.strategies import pairs

few_pairs = st.lists(pairs(), min_size=1, max_size=3)


def used_colours(task_pairs: Sequence[Pair]) -> list[int]:
    grids = [grid for pair in task_pairs for grid in pair.grids()]
    return sorted({int(colour) for grid in grids for colour in np.unique(grid)} - {0})


def every_variant(used: Sequence[int]) -> Iterator[Augmentation]:
    """Yield one augmentation for each dihedral transform and each ordered choice of new colours for the used ones."""
    unused = [colour for colour in range(1, 10) if colour not in used]
    for dihedral in range(8):
        for choice in permutations(range(1, 10), len(used)):
            unused_images = [colour for colour in range(1, 10) if colour not in choice]
            images = dict(zip([0, *used, *unused], [0, *choice, *unused_images], strict=True))
            yield Augmentation(dihedral, tuple(images[colour] for colour in range(10)))


def render(task_pairs: Sequence[Pair], augmentation: Augmentation) -> frozenset:
    """Render the puzzle as the set of its augmented pairs."""

    def cells(grid: Grid | None) -> tuple | None:
        if grid is None:
            return None
        rendered = augmentation.apply(grid)
        return rendered.shape, rendered.tobytes()

    return frozenset((cells(pair.input), cells(pair.output)) for pair in task_pairs)


def draw(task_pairs: Sequence[Pair], count: int, seed: int = 0) -> list[Augmentation]:
    numbers = draw_augmentations(task_pairs, count, np.random.default_rng(seed))
    assert numbers.dtype == np.uint32
    return [Augmentation.from_number(number) for number in numbers.tolist()]


def check_against_rendering(task_pairs: Sequence[Pair]) -> None:
    puzzles = {render(task_pairs, variant) for variant in every_variant(used_colours(task_pairs))}
    assert count_distinct(task_pairs) == len(puzzles)
    drawn = draw(task_pairs, 10_000)
    assert len(drawn) == len(puzzles)
    assert {render(task_pairs, augmentation) for augmentation in drawn} == puzzles


@settings(max_examples=40)
@given(few_pairs)
def test_small_pairs_have_as_many_puzzles_as_rendering_gives(task_pairs: list[Pair]) -> None:
    check_against_rendering(task_pairs)


@pytest.mark.parametrize(
    ("grids", "symmetries"),
    [
        ([[[1, 1], [0, 0]]], {"t0|||0123456789", "t4|||0123456789"}),
        ([[[1, 0], [2, 0]]], {"t0|||0123456789", "t5|||0213456789"}),
        ([[[1]], [[2]], [[3], [0]]], {f"t{d}|||0{c}3456789" for d in (0, 4) for c in ("12", "21")}),
        ([[[1, 2], [3, 0]], [[2, 0], [1, 3]]], {"t0|||0123456789", "t5|||0132456789"}),
    ],
)
def test_asymmetric_symmetry_groups_have_as_many_puzzles_as_rendering_gives(grids: list, symmetries: set[str]) -> None:
    """With single flips and single colour swaps, composing a symmetry and a variant in the wrong order would fail."""
    task_pairs = [Pair(np.array(grid, dtype=np.uint8), None) for grid in grids]
    assert {symmetry.name for symmetry in find_symmetries(task_pairs)} == symmetries
    check_against_rendering(task_pairs)


@pytest.fixture(scope="module")
def training_tasks() -> list[Task]:
    return load_tasks("arc-agi-1/training")


@pytest.fixture(scope="module")
def evaluation_tasks() -> list[Task]:
    """The tasks as they are scored, with hidden test outputs."""
    return [task.hidden() for task in load_tasks("arc-agi-1/evaluation")]


def all_pairs(task: Task) -> tuple[Pair, ...]:
    return task.demonstrations + task.tests


def test_symmetric_real_tasks_have_as_many_puzzles_as_rendering_gives(
    training_tasks: list[Task], evaluation_tasks: list[Task]
) -> None:
    tasks = [*training_tasks, *evaluation_tasks]
    symmetric = [task for task in tasks if count_distinct(all_pairs(task)) < 576]
    assert sorted(count_distinct(all_pairs(task)) for task in symmetric) == [9, 18, *[72] * 18, 288, 288]
    for task in symmetric:
        check_against_rendering(all_pairs(task))


@pytest.mark.slow
def test_real_tasks_of_few_colours_have_as_many_puzzles_as_rendering_gives(
    training_tasks: list[Task], evaluation_tasks: list[Task]
) -> None:
    for task in [*training_tasks, *evaluation_tasks]:
        if len(used_colours(all_pairs(task))) <= 3:
            check_against_rendering(all_pairs(task))


def test_the_published_set_of_960_tasks_has_the_known_number_of_puzzles(
    training_tasks: list[Task], evaluation_tasks: list[Task]
) -> None:
    tasks = [*training_tasks, *evaluation_tasks, *load_tasks("concept")]
    counts = [min(count_distinct(all_pairs(task)), 1001) for task in tasks]
    assert (len(tasks), sum(counts)) == (960, 876_419)
    short = Counter(count for count in counts if count < 1001)
    assert short == {576: 134, 72: 25, 288: 2, 36: 1, 18: 1, 9: 1}


def test_drawn_puzzles_of_real_tasks_render_differently(
    training_tasks: list[Task], evaluation_tasks: list[Task]
) -> None:
    for task in [*training_tasks[::40], *evaluation_tasks[::40]]:
        drawn = draw(all_pairs(task), 100)
        assert len({render(all_pairs(task), augmentation) for augmentation in drawn}) == len(drawn)


@pytest.mark.parametrize(
    ("count", "digest"),
    [
        (15, "17ad03d0d39dbf5205268b68666ef5a38ef47ce2571b1e6f909ccc160687d096"),
        (1000, "2205a162f9e217bddd699d1eb04c50f88089c2a718758e006d69c4608d78c4c5"),
    ],
)
def test_draws_equal_those_of_the_recorded_results(training_tasks: list[Task], count: int, digest: str) -> None:
    drawn = [
        draw_augmentations(all_pairs(task), count, np.random.default_rng(number))
        for number, task in enumerate(training_tasks)
    ]
    assert sha256(np.concatenate(drawn).astype("<u4").tobytes()).hexdigest() == digest


@pytest.mark.parametrize("puzzles", [1_451_520, 2_903_040])
def test_a_million_puzzles_of_one_task_are_distinct(training_tasks: list[Task], puzzles: int) -> None:
    """All 1,451,520 puzzles are listed; 2,903,040 are more than twice the count, so they are drawn instead."""
    task = next(task for task in training_tasks if count_distinct(all_pairs(task)) == puzzles)
    numbers = draw_augmentations(all_pairs(task), 1_000_000, np.random.default_rng(0))
    assert len(numbers) == len(np.unique(numbers)) == 1_000_001


def dots(*rows: Sequence[int]) -> list[Pair]:
    """Create a pair for each row of colours: the input is one row with these cells, and the output is hidden."""
    return [Pair(np.array([row], dtype=np.uint8), None) for row in rows]


def one_to_one(*colours: tuple[int, int]) -> list[Pair]:
    """Create a pair of single-cell grids for each two colours."""
    return [Pair(np.array([[one]], dtype=np.uint8), np.array([[other]], dtype=np.uint8)) for one, other in colours]


NINE = range(1, 10)


@pytest.mark.parametrize(
    ("task_pairs", "symmetries"),
    [
        (one_to_one(*((one, other) for one in range(10) for other in range(10))), 8 * 362_880),
        (dots(*([colour] for colour in NINE)), 8 * 362_880),
        (dots(*([colour] for colour in NINE), NINE), 4),
        (one_to_one(*((colour, colour % 9 + 1) for colour in NINE)), 8 * 9),
        (dots(*combinations(NINE, 2)), 4),
        (dots(*combinations(NINE, 3)), 4),
        (dots(*permutations(NINE, 3)), 4 * 362_880),
        (dots(*((a, b) for third in ((1, 2, 3), (4, 5, 6), (7, 8, 9)) for a, b in permutations(third, 2))), 4 * 6**4),
    ],
)
def test_pairs_with_many_possible_matches_are_handled_quickly(task_pairs: list[Pair], symmetries: int) -> None:
    """The counts are derived by hand; trying every pair against every pair, or every colour map, would take hours."""
    puzzles = 8 * 362_880 // symmetries
    assert count_distinct(task_pairs) == puzzles
    assert len(draw(task_pairs, 100)) == min(101, puzzles)


def test_symmetries_of_a_task_of_a_thousand_pairs_are_found() -> None:
    grids = np.random.default_rng(0).integers(0, 10, (1000, 2, 5, 5), dtype=np.uint8)
    task_pairs = [Pair(*grid) for grid in grids]
    assert len(find_symmetries(task_pairs)) == 1
    turned = [Pair(*np.rot90(grid, axes=(1, 2)).copy()) for grid in grids]
    assert len(find_symmetries([*task_pairs, *turned])) == 1
    half_turned = [Pair(*np.rot90(grid, 2, axes=(1, 2)).copy()) for grid in grids]
    assert [symmetry.dihedral for symmetry in find_symmetries([*task_pairs, *half_turned])] == [0, 2]


@settings(max_examples=40)
@given(few_pairs, st.integers(0, 30), st.integers(0, 3))
def test_draws_give_different_puzzles_and_the_unchanged_one_first(
    task_pairs: list[Pair], count: int, seed: int
) -> None:
    drawn = draw(task_pairs, count, seed)
    assert len(drawn) == min(count + 1, count_distinct(task_pairs))
    assert len({render(task_pairs, augmentation) for augmentation in drawn}) == len(drawn)
    assert drawn[0].number == 0


@settings(max_examples=40)
@given(few_pairs)
def test_symmetries_leave_the_task_unchanged(task_pairs: list[Pair]) -> None:
    symmetries = find_symmetries(task_pairs)
    assert symmetries[0].number == 0
    assert len(set(symmetries)) == len(symmetries)
    unchanged = {(variant.dihedral, variant.colours) for variant in same_puzzle_variants(task_pairs)}
    assert {(symmetry.dihedral, symmetry.colours) for symmetry in symmetries} == unchanged


def same_puzzle_variants(task_pairs: Sequence[Pair]) -> Iterator[Augmentation]:
    """Find by rendering the variants that keep the set of pairs, and therefore also the set of used colours."""
    used = used_colours(task_pairs)
    original = render(task_pairs, Augmentation.from_number(0))
    return (variant for variant in every_variant(used) if render(task_pairs, variant) == original)


def test_a_hidden_output_matches_hidden_outputs_only() -> None:
    dot = np.array([[1, 0]], dtype=np.uint8)
    other = np.array([[0, 1]], dtype=np.uint8)
    assert len(find_symmetries([Pair(dot, None), Pair(other, None)])) == 4
    assert len(find_symmetries([Pair(dot, dot), Pair(other, None)])) == 2


def test_a_repeated_pair_changes_nothing() -> None:
    pair = Pair(np.array([[1, 2]], dtype=np.uint8), np.array([[2]], dtype=np.uint8))
    assert count_distinct([pair, pair]) == count_distinct([pair]) == 288


def test_draws_spread_evenly_over_transforms_and_colours() -> None:
    grid = np.array([[1, 2, 3], [4, 5, 6]], dtype=np.uint8)
    drawn = draw([Pair(grid, grid)], 4000)[1:]
    dihedrals = np.bincount([augmentation.dihedral for augmentation in drawn])
    new_ones = np.bincount([augmentation.colours[1] for augmentation in drawn])[1:]
    assert dihedrals.min() > 400
    assert new_ones.min() > 350
    assert draw([Pair(grid, grid)], 50, seed=1) != draw([Pair(grid, grid)], 50, seed=2)


def test_a_task_of_all_nine_colours_has_all_permutations() -> None:
    grid = np.arange(10, dtype=np.uint8).reshape(2, 5)
    assert count_distinct([Pair(grid, None)]) == 8 * 362_880
    assert len(draw([Pair(grid, None)], 100)) == 101


def test_a_black_task_has_dihedral_puzzles_only() -> None:
    grid = np.zeros((1, 2), dtype=np.uint8)
    assert count_distinct([Pair(grid, None)]) == 2
    assert len(draw([Pair(grid, None)], 5)) == 2
