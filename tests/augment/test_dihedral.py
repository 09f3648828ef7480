"""Compare dihedral transforms with numpy's rotations and flips."""

import numpy as np
import pytest
from hypothesis import given, settings

from augment import (
    DIHEDRAL_INVERSE,
    DIHEDRAL_PRODUCT,
    DIHEDRALS,
    IDENTITY,
    TRANSPOSES,
    Augmentation,
    Grid,
    apply,
    invert,
    source_cell,
)
from tests.helpers.strategies import augmentations, grids

BY_NUMPY = (
    lambda grid: grid,
    lambda grid: np.rot90(grid, 1),
    lambda grid: np.rot90(grid, 2),
    lambda grid: np.rot90(grid, 3),
    np.fliplr,
    np.flipud,
    np.transpose,
    lambda grid: np.fliplr(np.rot90(grid, 1)),
)
NO_CHANGE = np.arange(10, dtype=np.uint8)


@given(grids(8), augmentations())
def test_apply_changes_colours_then_moves_cells(grid: Grid, augmentation: Augmentation) -> None:
    colours = np.array(augmentation.colours, dtype=np.uint8)
    expected = BY_NUMPY[augmentation.dihedral](colours[grid])
    np.testing.assert_array_equal(apply(grid, augmentation.dihedral, colours), expected)
    np.testing.assert_array_equal(augmentation.apply(grid), expected)


@given(grids(8), augmentations())
def test_invert_undoes_apply(grid: Grid, augmentation: Augmentation) -> None:
    colours = np.array(augmentation.colours, dtype=np.uint8)
    np.testing.assert_array_equal(invert(augmentation.apply(grid), augmentation.dihedral, colours), grid)
    np.testing.assert_array_equal(augmentation.invert(augmentation.apply(grid)), grid)
    np.testing.assert_array_equal(augmentation.apply(augmentation.invert(grid)), grid)
    np.testing.assert_array_equal(IDENTITY.apply(grid), grid)


@settings(max_examples=20)
@given(grids(8))
def test_views_give_the_same_as_copies(grid: Grid) -> None:
    for dihedral in range(DIHEDRALS):
        view = grid[::-1, ::-1].T
        np.testing.assert_array_equal(apply(view, dihedral, NO_CHANGE), apply(view.copy(), dihedral, NO_CHANGE))


@pytest.mark.parametrize("first", range(DIHEDRALS))
@pytest.mark.parametrize("then", range(DIHEDRALS))
def test_the_product_is_one_transform_after_another(then: int, first: int) -> None:
    grid = np.arange(6, dtype=np.uint8).reshape(2, 3)
    both = apply(apply(grid, first, NO_CHANGE), then, NO_CHANGE)
    np.testing.assert_array_equal(both, apply(grid, int(DIHEDRAL_PRODUCT[then, first]), NO_CHANGE))


@pytest.mark.parametrize("dihedral", range(DIHEDRALS))
def test_the_tables_agree_with_the_transforms(dihedral: int) -> None:
    grid = np.arange(6, dtype=np.uint8).reshape(2, 3)
    moved = apply(grid, dihedral, NO_CHANGE)
    assert TRANSPOSES[dihedral] == (moved.shape == (3, 2))
    assert DIHEDRAL_PRODUCT[DIHEDRAL_INVERSE[dihedral], dihedral] == 0
    for row, column in np.ndindex(moved.shape):
        assert moved[row, column] == grid[source_cell(dihedral, row, column, 2, 3)]
