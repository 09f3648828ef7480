"""Grids as pictures: SVG symbols, each different grid drawn once, referred to by as many figures as show it.

In: grids. Out: for each a Picture to refer to; the sheet lists the symbols that the document has to hold.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from augment.grid import COLOURS, Grid, grid_hash

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
