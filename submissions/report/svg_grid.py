"""Draw grids as SVG symbols; each different grid is drawn once and can be used by any number of figures.

`Sheet.draw` returns for each grid a `Picture` that refers to a symbol. The document must contain all symbols of the
sheet.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from augment.grid import COLOURS, Grid, grid_hash

PALETTES = {
    "arc": (
        *("#000000", "#0074D9", "#FF4136", "#2ECC40", "#FFDC00"),
        *("#AAAAAA", "#F012BE", "#FF851B", "#7FDBFF", "#870C25"),
    ),
    "safe": (
        *("#000000", "#0033ee", "#aa0000", "#77ddaa", "#ffff33"),
        *("#778888", "#cc88ff", "#dd7700", "#ddeeff", "#663355"),
    ),
}
"""The ten colours of ARC's own pages ("arc"), and ten colour-blind safe ones ("safe").

The safe palette was searched among the sRGB colours within a CIEDE2000 difference of 22 from ARC's, so that green cells
are still a kind of green. It maximises the smallest difference between two of its colours in normal vision, protanopia
and deuteranopia (simulated as in Machado et al. 2009, severity 1); in tritanopia two thirds of that difference are
enough. The smallest difference is 20.8; that of ARC's colours is 5.6.
"""

Box = tuple[int, int, int, int]
"""(row, column, height, width) in cells."""


@dataclass(frozen=True)
class Picture:
    """A reference to a drawn grid: the name of its symbol and its sides in cells."""

    symbol: str
    height: int
    width: int


@dataclass(frozen=True)
class Symbol:
    """The drawing of a grid: (colour, SVG path) pairs to paint in this order; one unit is one cell."""

    picture: Picture
    paths: list[tuple[int, str]]


class Sheet:
    """The deduplicated grids of a document."""

    def __init__(self) -> None:
        self._symbols: dict[str, Symbol] = {}

    @property
    def symbols(self) -> list[Symbol]:
        """All symbols, in the order in which they were first drawn."""
        return list(self._symbols.values())

    def draw(self, grid: Grid) -> Picture:
        """Return the picture of `grid`, after adding a symbol if this grid was not drawn yet."""
        name = grid_hash(grid)
        if name not in self._symbols:
            picture = Picture(f"g{len(self._symbols)}", *grid.shape)
            self._symbols[name] = draw_symbol(picture, grid)
        return self._symbols[name].picture


def draw_symbol(picture: Picture, grid: Grid) -> Symbol:
    """Draw the most frequent colour as a background, then every other colour as a few rectangles."""
    background = int(np.bincount(grid.ravel(), minlength=COLOURS).argmax())
    colours = [colour for colour in np.unique(grid).tolist() if colour != background]
    paths = [(colour, "".join(map(_to_path, find_boxes(grid == colour)))) for colour in colours]
    return Symbol(picture, [(background, _to_path((0, 0, *grid.shape))), *paths])


def trace_tokens(tokens: NDArray[np.uint8]) -> list[tuple[int, str]]:
    """Return each token of a canvas with the SVG path of its cells."""
    return [(token, "".join(map(_to_path, find_boxes(tokens == token)))) for token in np.unique(tokens).tolist()]


def find_boxes(mask: np.ndarray) -> list[Box]:
    """Cover the true cells of `mask` (height, width) with disjoint rectangles: runs in a row, extended downwards."""
    uncovered = mask.copy()
    boxes = []
    for row, column in np.argwhere(mask).tolist():
        if uncovered[row, column]:
            # A view, so that clearing the box below also clears it in `uncovered`.
            corner = uncovered[row:, column:]
            width = _count_leading(corner[0])
            height = _count_leading(corner[:, :width].all(axis=1))
            corner[:height, :width] = False
            boxes.append((row, column, height, width))
    return boxes


def mark_cells(mask: np.ndarray) -> str:
    """Return an SVG path with a dot in the centre of every true cell, to be drawn with round line caps."""
    return "".join(f"M{column + 0.5:g} {row + 0.5:g}h0" for row, column in np.argwhere(mask).tolist())


def _count_leading(flags: ArrayLike) -> int:
    """Return the number of true values before the first false one."""
    return int(np.argmin(np.append(flags, False)))


def _to_path(box: Box) -> str:
    row, column, height, width = box
    return f"M{column} {row}h{width}v{height}h-{width}z"
