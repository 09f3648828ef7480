"""The log-probability of a grid under an augmentation is that of the tokens it is rendered as."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from augment import Augmentation, Grid
from solver.data.likelihood import score_grids
from solver.data.tokens import COLOUR, END
from tests.helpers.strategies import augmentations, grids


def plain_score(table: np.ndarray, grid: Grid) -> float:
    """Score a grid with loops over the canvas; table: (rows, columns, 12), grid: transformed as on the canvas."""
    rows, columns, _ = table.shape
    height, width = grid.shape
    if height > rows or width > columns:
        return -np.inf
    total = sum(table[row, column, COLOUR + grid[row, column]] for row, column in np.ndindex(height, width))
    total += sum(table[row, width, END] for row in range(height) if width < columns)
    return float(total + sum(table[height, column, END] for column in range(width) if height < rows))


@given(st.lists(st.tuples(augmentations(), st.integers(1, 7), st.integers(1, 7)), min_size=1, max_size=3), st.data())
def test_a_score_is_the_sum_over_cells_and_end_marks(
    examples: list[tuple[Augmentation, int, int]], data: st.DataObject
) -> None:
    candidates = [(row, data.draw(grids(6))) for row in range(len(examples)) for _ in range(2)]
    rng = np.random.default_rng(0)
    table = -rng.random((len(examples), 50, 12), np.float32)
    canvases = np.array([[rows, columns] for _, rows, columns in examples])
    cells = np.concatenate([grid.ravel() for _, grid in candidates])
    starts = np.cumsum([0, *(grid.size for _, grid in candidates)])[:-1]
    heights, widths = np.array([grid.shape for _, grid in candidates], np.uint8).T
    scores = score_grids(
        table, canvases, np.array([augmentation.dihedral for augmentation, _, _ in examples], np.uint8),
        np.array([augmentation.colours for augmentation, _, _ in examples], np.uint8),
        np.array([row for row, _ in candidates]), heights, widths, starts, cells,
    )  # fmt: skip
    expected = []
    for row, grid in candidates:
        augmentation, rows, columns = examples[row]
        used = table[row, : rows * columns].reshape(rows, columns, 12)
        expected.append(plain_score(used, augmentation.apply(grid)))
    assert_allclose(scores, expected, rtol=1e-5)
