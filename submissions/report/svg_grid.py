"""Grids as pictures: SVG symbols, each different grid drawn once, referred to by as many figures as show it.

In: grids. Out: for each a Picture to refer to; the sheet lists the symbols that the document has to hold.
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
"""The ten colours as ARC's own pages show them, and for eyes that tell fewer colours apart.

The safe ones were searched for among the sRGB colours within CIEDE2000 22 of ARC's (so that "the green cells" stay a
kind of green): the set whose two most similar colours differ most, as seen by all, by protanopes and by deuteranopes
(simulated by Machado et al. 2009, severity 1), tritanopes counting by two thirds. The smallest difference is 20.8, of
ARC's colours 5.6.
"""

Box = tuple[int, int, int, int]
"""(row, column, height, width) in cells."""


@dataclass(frozen=True)
class Picture:
    """A drawn grid: its symbol's name and its sides in cells."""

    symbol: str
    height: int
    width: int


@dataclass(frozen=True)
class Symbol:
    """How a grid is drawn: colours with their SVG paths, one cell a unit, to be painted in this order."""

    picture: Picture
    paths: list[tuple[int, str]]


class Sheet:
    """All grids of a document, without repetition."""

    def __init__(self) -> None:
        self._symbols: dict[str, Symbol] = {}

    @property
    def symbols(self) -> list[Symbol]:
        """In the order first drawn."""
        return list(self._symbols.values())

    def draw(self, grid: Grid) -> Picture:
        """The picture of `grid`, a new one only if this grid was not drawn yet."""
        name = grid_hash(grid)
        if name not in self._symbols:
            picture = Picture(f"g{len(self._symbols)}", *grid.shape)
            self._symbols[name] = draw_symbol(picture, grid)
        return self._symbols[name].picture


def draw_symbol(picture: Picture, grid: Grid) -> Symbol:
    """Paint the most frequent colour first, then every other one as few rectangles."""
    ground = int(np.bincount(grid.ravel(), minlength=COLOURS).argmax())
    others = [colour for colour in np.unique(grid).tolist() if colour != ground]
    paths = [(colour, "".join(map(_to_path, find_boxes(grid == colour)))) for colour in others]
    return Symbol(picture, [(ground, _to_path((0, 0, *grid.shape))), *paths])


def trace_tokens(tokens: NDArray[np.uint8]) -> list[tuple[int, str]]:
    """Each token of a canvas with the SVG path of its cells."""
    return [(token, "".join(map(_to_path, find_boxes(tokens == token)))) for token in np.unique(tokens).tolist()]


def find_boxes(mask: np.ndarray) -> list[Box]:
    """Cover the true cells of `mask` (height, width) with rectangles: runs in a row, then grown down."""
    left = mask.copy()
    boxes = []
    for row, column in np.argwhere(mask).tolist():
        if left[row, column]:
            below = left[row:, column:]
            width = _count_leading(below[0])
            height = _count_leading(below[:, :width].all(axis=1))
            below[:height, :width] = False
            boxes.append((row, column, height, width))
    return boxes


def mark_cells(mask: np.ndarray) -> str:
    """An SVG path with a dot in the middle of every true cell (drawn with round line ends)."""
    return "".join(f"M{column + 0.5:g} {row + 0.5:g}h0" for row, column in np.argwhere(mask).tolist())


def _count_leading(flags: ArrayLike) -> int:
    """How many are true before the first that is not."""
    return int(np.argmin(np.append(flags, False)))


def _to_path(box: Box) -> str:
    row, column, height, width = box
    return f"M{column} {row}h{width}v{height}h-{width}z"
