"""Checking and hashing grids."""

from hashlib import sha256

import numpy as np
import pytest
from hypothesis import given

from augment import MAX_SIDE, Grid, GridError, grid_hash, parse_grid
from tests.helpers.strategies import grids, json_values


@given(grids(MAX_SIDE))
def test_a_grid_survives_being_written_as_lists_or_as_an_array(grid: Grid) -> None:
    for value in (grid.tolist(), grid.astype(np.int64), np.asfortranarray(grid)):
        parsed = parse_grid(value, "here")
        assert parsed.dtype == np.uint8
        assert parsed.flags.c_contiguous
        np.testing.assert_array_equal(parsed, grid)


@given(grids(MAX_SIDE))
def test_a_grid_is_returned_itself(grid: Grid) -> None:
    assert parse_grid(grid, "here") is grid


@given(json_values)
def test_any_other_value_is_refused_by_name(value: object) -> None:
    try:
        result = parse_grid(value, "here").tolist()
    except GridError as error:
        result = str(error)
    assert result == value or str(result).startswith("here: ")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([], "non-empty list of rows"),
        ([[]], "1 x 0"),
        ("01", "non-empty list of rows"),
        (None, "non-empty list of rows"),
        ([1, 2], "non-empty list of rows"),
        ([[1, 2], [3]], "row 1 has 1 cells, row 0 has 2"),
        ([[1], [True]], "row 1, column 0 is True"),
        ([[1, 2.0]], "row 0, column 1 is 2.0"),
        ([[10]], "column 0 is 10"),
        ([[-1]], "column 0 is -1"),
        ([["1"]], "column 0 is '1'"),
        ([[[1]]], r"column 0 is \[1\]"),
        ([[0] * 31], "1 x 31"),
        ([[0]] * 31, "31 x 1"),
        (np.zeros((2, 2)), "column 0 is 0.0"),
        (np.zeros((2, 2), dtype=bool), "column 0 is False"),
        (np.full((2, 2), 10, dtype=np.uint8), "column 0 is 10"),
        (np.zeros((31, 1), dtype=np.uint8), "31 x 1"),
        (np.zeros((1, 0), dtype=np.uint8), "1 x 0"),
        (np.zeros(3, dtype=np.uint8), "non-empty list of rows"),
        ([[1, 256]], "column 1 is 256"),
        ([[10**30]], "column 0 is 1000"),
        (np.zeros(3, dtype=int), "non-empty list of rows"),
    ],
)
def test_broken_grids_are_refused_with_the_reason(value: object, message: str) -> None:
    with pytest.raises(GridError, match=f"^file, task t, input: .*{message}"):
        parse_grid(value, "file, task t, input")


def test_the_hash_covers_shape_and_cells() -> None:
    grid = parse_grid([[1, 2, 3], [4, 5, 6]], "here")
    assert grid_hash(grid) == sha256(bytes([2, 3, 1, 2, 3, 4, 5, 6])).hexdigest()
    assert grid_hash(grid) != grid_hash(grid.reshape(3, 2))
    assert grid_hash(np.asfortranarray(grid)) == grid_hash(grid)
