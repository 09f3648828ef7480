import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from submissions import grid_table
from submissions.grid_table import Grids, collect_grids, join_grids
from tests.helpers.strategies import grids as any_grids


def as_lists(grids: Grids) -> list[list]:
    return [grids[number].tolist() for number in range(len(grids))]


@given(st.lists(any_grids(), max_size=8))
def test_every_grid_is_returned_by_its_number(input_grids):
    doubled = input_grids + input_grids
    unique, numbers = collect_grids(doubled)
    assert [unique[number].tolist() for number in numbers] == [grid.tolist() for grid in doubled]
    assert len(unique) == len({(grid.shape, grid.tobytes()) for grid in input_grids})
    assert as_lists(grid_table.from_columns(grid_table.to_columns(unique))) == as_lists(unique)


@given(st.lists(any_grids(), max_size=5), st.lists(any_grids(), max_size=5))
def test_joined_grids_keep_their_ids(one, two):
    parts = [collect_grids(some)[0] for some in (one, two)]
    joined, numbers = join_grids(parts)
    assert len(set(joined.ids.tolist())) == len(joined) == len({(g.shape, g.tobytes()) for g in [*one, *two]})
    for part, number in zip(parts, numbers, strict=True):
        assert [joined[n].tolist() for n in number] == as_lists(part)


def test_ids_are_the_same_everywhere():
    """The expected values are fixed, because existing files contain these IDs."""
    grids, _ = collect_grids([np.array([[1, 2, 3]], np.uint8), np.array([[1], [2], [3]], np.uint8)])
    assert grids.ids.tolist() == [9813623344248792072, 8814747090162069664]


def test_two_grids_with_one_id_are_noticed(monkeypatch):
    monkeypatch.setattr(grid_table, "hash_grids", lambda heights, widths, cells: np.zeros(len(heights), np.uint64))
    with pytest.raises(ValueError, match="same 64-bit ID"):
        collect_grids([np.array([[1]], np.uint8), np.array([[2]], np.uint8)])
