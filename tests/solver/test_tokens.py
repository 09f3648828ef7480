"""Tokens: encode and decode are inverses, and the batch renderer agrees with them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from augment import Grid
from solver.data.tokens import COLOUR, END, PAD, decode, encode
from tests.helpers.strategies import grids


@given(grids(max_side=30))
def test_decode_undoes_encode(grid: Grid) -> None:
    decoded = decode(encode(grid))
    assert decoded is not None
    assert np.array_equal(decoded, grid)


def test_end_marks_lie_below_and_right_and_leave_the_corner_empty() -> None:
    board = encode(np.array([[1, 2]], np.uint8), side=4, shift=(1, 0))
    assert board.tolist() == [
        [PAD, PAD, PAD, PAD],
        [COLOUR + 1, COLOUR + 2, END, PAD],
        [END, END, PAD, PAD],
        [PAD, PAD, PAD, PAD],
    ]


def test_end_marks_are_left_out_at_the_edge_of_the_board() -> None:
    board = encode(np.zeros((3, 2), np.uint8), side=3)
    assert board[:, 2].tolist() == [END] * 3
    assert board[:, :2].tolist() == [[COLOUR, COLOUR]] * 3


def test_a_grid_that_leaves_the_board_is_refused() -> None:
    with pytest.raises(ValueError, match="does not fit on the 5x5 board"):
        encode(np.zeros((3, 3), np.uint8), side=5, shift=(0, 3))


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [
        ([[END, COLOUR], [COLOUR, COLOUR]], None),
        ([[PAD]], None),
        # Six cells as 2x3 and as 3x2: the one with fewer rows.
        ([[2, 2, 2], [2, 2, 2], [2, 2, 0]], (2, 3)),
        # A hole cuts the rectangle, but not below the area that is left.
        ([[2, 2, 2], [2, 0, 2], [2, 2, 2]], (1, 3)),
        ([[2, 2, 0], [2, 2, 0], [2, 2, 0]], (3, 2)),
    ],
)
def test_decode_finds_the_largest_corner_rectangle(tokens: list, expected: tuple[int, int] | None) -> None:
    grid = decode(np.array(tokens, np.uint8))
    assert (None if grid is None else grid.shape) == expected


@given(st.lists(st.lists(st.integers(0, 11), min_size=4, max_size=4), min_size=4, max_size=4))
def test_decode_agrees_with_trying_every_rectangle(rows: list[list[int]]) -> None:
    tokens = np.array(rows, np.uint8)
    shapes = [(h, w) for h in range(1, 5) for w in range(1, 5) if (tokens[:h, :w] >= COLOUR).all()]
    best = max(shapes, key=lambda shape: (shape[0] * shape[1], -shape[0]), default=None)
    grid = decode(tokens)
    assert (None if grid is None else grid.shape) == best
