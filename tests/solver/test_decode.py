"""Decoding a batch equals decoding each example and inverting its augmentation separately."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from augment import Augmentation, Grid
from solver.data.decode import DecodedGrids, decode_batch
from solver.data.tokens import COLOUR, PAD, decode, encode
from tests.helpers.strategies import augmentations, grids

SIDE = 32
"""A board side at which a crop can be larger than the largest grid."""


def decode_one(
    tokens: NDArray[np.uint8], augmentation: Augmentation, side: int = SIDE, padding: int = 3
) -> DecodedGrids:
    """Decode one canvas (rows, columns); log-probabilities are 0, 1, 2 ..., those of end marks start at 1000."""
    rows, columns = tokens.shape
    flat = np.append(tokens.ravel(), np.full(padding, 5, np.uint8))[None]
    best = -np.arange(flat.size, dtype=np.float32)[None]
    colours = np.array([augmentation.colours], np.uint8)
    dihedrals = np.array([augmentation.dihedral], np.uint8)
    return decode_batch(flat, best, best - 1000, np.array([[rows, columns]]), dihedrals, colours, side)


def grid_of(decoded: DecodedGrids, row: int = 0) -> Grid:
    height = int(decoded.heights[row])
    width = int(decoded.widths[row])
    return decoded.cells[row, : height * width].reshape(height, width)


def mean_log_prob(tokens: NDArray[np.uint8], height: int, width: int) -> float:
    """Compute the same mean with simple loops, from the log-probabilities that `decode_one` passes."""
    rows, columns = tokens.shape
    values = []
    for row in range(min(rows, height + 1)):
        for column in range(min(columns, width + 1)):
            place = -float(row * columns + column)
            if row < height and column < width:
                values.append(place)
            elif row < height or column < width:
                values.append(place - 1000)
    return sum(values) / len(values)


canvases = arrays(
    np.uint8,
    st.tuples(st.integers(1, SIDE), st.integers(1, SIDE)),
    elements=st.sampled_from([0, 1, *range(2, 12), *range(2, 12), *range(2, 12)]),
    fill=st.sampled_from([3, 7]),
)


@given(canvases, augmentations())
def test_a_batch_decodes_as_each_example_by_itself(tokens: NDArray[np.uint8], augmentation: Augmentation) -> None:
    decoded = decode_one(tokens, augmentation)
    crop = decode(tokens)
    if crop is None or max(crop.shape) > 30:
        assert (decoded.heights[0], decoded.widths[0], decoded.edges[0]) == (0, 0, False)
        assert np.isnan(decoded.log_probs[0])
        return
    assert grid_of(decoded).tolist() == augmentation.invert(crop).tolist()
    rows, columns = tokens.shape
    reaches = (crop.shape[0] == rows and rows < SIDE) or (crop.shape[1] == columns and columns < SIDE)
    assert decoded.edges[0] == reaches
    assert decoded.log_probs[0] == pytest.approx(mean_log_prob(tokens, *crop.shape), rel=1e-5)


@given(grids(30), augmentations())
def test_it_undoes_encoding_under_any_augmentation(grid: Grid, augmentation: Augmentation) -> None:
    decoded = decode_one(encode(augmentation.apply(grid)), augmentation, side=30)
    assert grid_of(decoded).tolist() == grid.tolist()
    assert not decoded.edges[0], "an edge of the board cuts nothing off"


def test_rows_of_a_batch_do_not_touch_each_other() -> None:
    """The canvases differ, and one without a grid is between two with a grid."""
    tokens = np.full((3, 6), PAD, np.uint8)
    tokens[0] = COLOUR + 1
    tokens[2, :4] = COLOUR + 2
    sizes = np.array([[2, 3], [2, 3], [2, 2]])
    zeros = np.zeros((3, 6), np.float32)
    colours = np.tile(np.arange(10, dtype=np.uint8), (3, 1))
    decoded = decode_batch(tokens, zeros, zeros, sizes, np.array([0, 0, 6], np.uint8), colours, 3)
    assert decoded.heights.tolist() == [2, 0, 2]
    assert decoded.widths.tolist() == [3, 0, 2]
    assert decoded.edges.tolist() == [True, False, True]
    assert grid_of(decoded, 2).tolist() == [[2, 2], [2, 2]]
    assert np.isnan(decoded.log_probs).tolist() == [False, True, False]
