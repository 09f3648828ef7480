"""Board symmetries: a function of (seed, pair, number) alone, and uniform over all symmetries."""

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from augment.logic_puzzles.symmetry import Symmetries, turn_cells


@pytest.mark.parametrize("side", [4, 6, 9])
def test_a_symmetry_is_a_function_of_seed_pair_and_number(side: int) -> None:
    symmetries = Symmetries("sudoku", 1000, side)
    pairs = np.arange(64)
    cells, colours = symmetries.draw(7, pairs, pairs % 5)
    again, _ = symmetries.draw(7, pairs[::-1].copy(), pairs[::-1] % 5)
    assert (again[::-1] == cells).all()
    assert (np.sort(cells, axis=1) == np.arange(side**2)).all()
    assert (np.sort(colours, axis=1) == np.arange(10)).all()
    assert (colours[:, 0] == 0).all()
    unchanged = pairs % 5 == 0
    assert (cells[unchanged] == np.arange(side**2)).all()
    assert (colours[unchanged] == np.arange(10)).all()
    assert len({row.tobytes() for row in cells[~unchanged]}) > 10
    assert (symmetries.draw(8, pairs, pairs % 5)[0] != cells).any()


def test_the_requested_number_of_symmetries_is_drawn_and_at_most_seven_dihedral_ones() -> None:
    rng = np.random.default_rng(0)
    assert set(Symmetries("sudoku", 3, 9).draw_numbers(rng, 1000).tolist()) == {0, 1, 2, 3}
    assert set(Symmetries("dihedral", 1000, 5).draw_numbers(rng, 1000).tolist()) == set(range(8))
    assert set(Symmetries("dihedral", 0, 5).draw_numbers(rng, 9).tolist()) == {0}


def test_any_number_of_symmetries_can_be_drawn_from() -> None:
    symmetries = Symmetries("sudoku", 2**63 - 1, 4)
    numbers = symmetries.draw_numbers(np.random.default_rng(0), 100)
    assert numbers.max() > 2**62 > numbers.min() >= 0
    cells, _ = symmetries.draw(7, np.zeros(100, np.int64), numbers)
    assert (np.sort(cells, axis=1) == np.arange(16)).all()
    assert len({row.tobytes() for row in cells}) > 50


@given(st.integers(0, 2**63 - 1), st.lists(st.tuples(st.integers(0, 2**20), st.integers(0, 2**20)), min_size=1))
def test_a_symmetry_does_not_depend_on_the_other_examples(seed: int, drawn: list[tuple[int, int]]) -> None:
    pairs, numbers = np.array(drawn, np.int64).T.copy()
    for symmetries, symmetry_numbers in (
        (Symmetries("sudoku", 2**20, 6), numbers),
        (Symmetries("dihedral", 7, 5), numbers % 8),
    ):
        cells, colours = symmetries.draw(seed, pairs, symmetry_numbers)
        alone = symmetries.draw(seed, pairs[-1:], symmetry_numbers[-1:])
        assert (alone[0][0] == cells[-1]).all()
        assert (alone[1][0] == colours[-1]).all()


def test_every_symmetry_of_side_four_is_drawn_as_often() -> None:
    """There are 128 cell symmetries, not counting digits: each is drawn about 100 times in 12,800 draws."""
    cells, colours = Symmetries("sudoku", 2**20, 4).draw(0, np.zeros(12_800, np.int64), np.arange(1, 12_801))
    moves, counts = np.unique(cells, axis=0, return_counts=True)
    assert len(moves) == 128
    assert 50 < counts.min() < counts.max() < 160
    assert len(np.unique(colours, axis=0)) == 24


def test_each_pair_has_its_own_order_of_dihedral_transforms() -> None:
    symmetries = Symmetries("dihedral", 1000, 6)
    sides = turn_cells(6)
    orders = set()
    for pair in range(20):
        cells, colours = symmetries.draw(1, np.full(8, pair), np.arange(8))
        order = [int((sides == row).all(1).argmax()) for row in cells]
        assert order[0] == 0
        assert sorted(order) == list(range(8))
        assert (colours == np.arange(10)).all()
        orders.add(tuple(order))
    assert len(orders) > 10


def test_a_board_of_six_is_never_transposed() -> None:
    """Boxes are 2 rows by 3 columns, so cells of a row stay in a row."""
    cells, _ = Symmetries("sudoku", 1000, 6).draw(0, np.arange(200), np.ones(200, np.int64))
    assert (np.ptp(cells.reshape(-1, 6, 6) // 6, axis=2) == 0).all()


def test_the_published_batch_is_drawn_fast() -> None:
    symmetries = Symmetries("sudoku", 1000, 9)
    pairs = np.arange(768)
    symmetries.draw(0, pairs, pairs)
    seconds = []
    for seed in range(10):
        start = time.perf_counter()
        symmetries.draw(seed, pairs, pairs)
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 0.005


def test_boards_without_sudoku_symmetries_are_refused() -> None:
    with pytest.raises(ValueError, match="sudoku, which has sides 4, 6, 9; the board's is 5"):
        Symmetries("sudoku", 10, 5)
