"""Deduplicated grids stored in a few arrays, with numbers and 64-bit content hashes as IDs.

Grids come in one by one or as rows of cells. The result is a `Grids`, which returns each grid by its number and
converts to and from Parquet columns. The ID of a grid depends only on its content, so it is the same in every file.

Shape symbols: G different grids, n input rows.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from augment.errors import UserError
from augment.grid import MAX_SIDE, Grid
from augment.kernels import kernel
from augment.schema import join_bytes

MAX_CELLS = MAX_SIDE**2
SCHEMA = pa.schema(
    [
        pa.field("id", pa.uint64(), nullable=False),
        pa.field("height", pa.uint8(), nullable=False),
        pa.field("width", pa.uint8(), nullable=False),
        pa.field("cells", pa.binary(), nullable=False),
    ]
)

# The hash is 64-bit FNV-1a (Fowler, Noll, Vo), then the finaliser of SplitMix64 (Steele et al. 2014). The IDs are
# stored in files, so neither the constants nor the order of the operations may change.
_FNV_START = np.uint64(0xCBF29CE484222325)
_FNV_PRIME = np.uint64(0x100000001B3)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
_S27 = np.uint64(27)
_S30 = np.uint64(30)
_S31 = np.uint64(31)


@dataclass(frozen=True, eq=False)
class Grids:
    """Different grids, numbered from 0.

    Attributes:
        ids: uint64 (G,), content hash of each grid.
        heights, widths: uint8 (G,).
        starts: int64 (G + 1,), offset of each grid in `cells`, and the total number of cells at the end.
        cells: uint8, the cells of all grids, concatenated.
    """

    ids: NDArray[np.uint64]
    heights: NDArray[np.uint8]
    widths: NDArray[np.uint8]
    starts: NDArray[np.int64]
    cells: NDArray[np.uint8]

    def __len__(self) -> int:
        """Return the number of grids."""
        return len(self.ids)

    def __getitem__(self, number: int) -> Grid:
        """Return the grid with this number, as a view of `cells`."""
        cells = self.cells[self.starts[number] : self.starts[number + 1]]
        return cells.reshape(self.heights[number], self.widths[number])

    def take(self, numbers: NDArray[np.integer]) -> "Grids":
        """Return the grids with these numbers, renumbered from 0 in this order."""
        heights = self.heights[numbers]
        widths = self.widths[numbers]
        starts = _offsets(heights, widths)
        return Grids(self.ids[numbers], heights, widths, starts, _copy_cells(self.cells, self.starts[numbers], starts))


def collect_grids(grids: Iterable[Grid]) -> tuple[Grids, NDArray[np.int32]]:
    """Return the different grids among `grids`, in order of first appearance, and the number of each input (n,)."""
    grid_list = list(grids)
    heights, widths = np.array([grid.shape for grid in grid_list], np.uint8).reshape(-1, 2).T
    cells = np.zeros((len(grid_list), MAX_CELLS), np.uint8)
    for row, grid in zip(cells, grid_list, strict=True):
        row[: grid.size] = grid.ravel()
    return collect_rows(heights, widths, cells)


def collect_rows(
    heights: NDArray[np.uint8], widths: NDArray[np.uint8], cells: NDArray[np.uint8]
) -> tuple[Grids, NDArray[np.int32]]:
    """Return the different grids among rows of cells, in order of first appearance, and the number of each row (n,).

    Args:
        heights, widths: (n,), 0 for a row without a grid, which gets the number -1.
        cells: (n, MAX_CELLS), the cells of each grid in row-major order, then padding.

    Raises:
        ValueError: if two different grids have the same ID.
    """
    rows = np.flatnonzero(heights)
    starts = _offsets(heights[rows], widths[rows])
    flat = _copy_cells(cells.reshape(-1), rows * cells.shape[1], starts)
    grids = Grids(hash_grids(heights[rows], widths[rows], flat), heights[rows], widths[rows], starts, flat)
    first, number = number_by_first(grids.ids)
    unique = grids.take(first)
    _refuse_collisions(grids, unique, number)
    numbers = np.full(len(heights), -1, np.int32)
    numbers[rows] = number
    return unique, numbers


def join_grids(parts: Sequence[Grids]) -> tuple[Grids, list[NDArray[np.int32]]]:
    """Return the different grids of all parts, in order of first appearance, and the new numbers of each part's grids.

    Raises:
        UserError: if two different grids have the same ID.
    """
    heights, widths = (np.concatenate([getattr(part, name) for part in parts]) for name in ("heights", "widths"))
    cells, ids = (np.concatenate([getattr(part, name) for part in parts]) for name in ("cells", "ids"))
    grids = Grids(ids, heights, widths, _offsets(heights, widths), cells)
    first, number = number_by_first(ids)
    unique = grids.take(first)
    _refuse_collisions(grids, unique, number)
    return unique, np.split(number.astype(np.int32), np.cumsum([len(part) for part in parts])[:-1])


def to_columns(grids: Grids) -> pa.Table:
    """Return the grids as a table with the columns of SCHEMA."""
    # Built from buffers, because `starts` and `cells` already are an Arrow binary array's offsets and data.
    starts = pa.py_buffer(grids.starts.astype(np.int32).tobytes())
    cells = pa.Array.from_buffers(pa.binary(), len(grids), [None, starts, pa.py_buffer(grids.cells)])
    arrays = [pa.array(grids.ids), pa.array(grids.heights), pa.array(grids.widths), cells]
    return pa.table(arrays, schema=SCHEMA)


def from_columns(table: pa.Table) -> Grids:
    """Return the grids of a table made by `to_columns`."""
    ids, heights, widths = (table.column(name).to_numpy() for name in ("id", "height", "width"))
    cells = [join_bytes(chunk) for chunk in table.column("cells").chunks]
    flat = np.concatenate(cells) if cells else np.zeros(0, np.uint8)
    return Grids(ids, heights, widths, _offsets(heights, widths), flat)


def _offsets(heights: NDArray[np.uint8], widths: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return the offset (n + 1,) of each grid in an array of concatenated cells, and the total at the end."""
    starts = np.zeros(len(heights) + 1, np.int64)
    np.cumsum(heights.astype(np.int64) * widths, out=starts[1:])
    return starts


def number_by_first(ids: NDArray[np.integer]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Number the different values in order of first appearance.

    Returns:
        The index at which each different value first appears.
        The number of every value (len(ids),).
    """
    _, first, inverse = np.unique(ids, return_index=True, return_inverse=True)
    order = np.argsort(first)
    numbers = np.empty(len(order), np.int64)
    numbers[order] = np.arange(len(order))
    return first[order], numbers[inverse.reshape(-1)]


def _refuse_collisions(grids: Grids, unique: Grids, number: NDArray[np.int64]) -> None:
    """Raise ValueError if two different grids have the same ID, as about one in 10^19 pairs has."""
    if not _all_same(grids.heights, grids.cells, grids.starts, unique.heights, unique.cells, unique.starts, number):
        raise UserError("two different grids have the same 64-bit ID: leave out one of their tasks and predict again")


@kernel(nogil=True)
def _all_same(heights, cells, starts, other_heights, other_cells, other_starts, number):
    for row in range(len(number)):
        other = number[row]
        length = starts[row + 1] - starts[row]
        if heights[row] != other_heights[other] or length != other_starts[other + 1] - other_starts[other]:
            return False
        for cell in range(length):
            if cells[starts[row] + cell] != other_cells[other_starts[other] + cell]:
                return False
    return True


def grid_id(grid: Grid) -> np.uint64:
    """Return the ID of a grid."""
    height, width = (np.array([side], np.uint8) for side in grid.shape)
    return hash_grids(height, width, grid.ravel())[0]


@kernel(nogil=True)
def hash_grids(heights, widths, cells):
    """Return the IDs, uint64 (n,), of grids whose cells are concatenated in `cells`."""
    ids = np.empty(len(heights), np.uint64)
    place = 0
    for row in range(len(heights)):
        value = (_FNV_START ^ np.uint64(heights[row])) * _FNV_PRIME
        value = (value ^ np.uint64(widths[row])) * _FNV_PRIME
        end = place + np.int64(heights[row]) * np.int64(widths[row])
        for cell in range(place, end):
            value = (value ^ np.uint64(cells[cell])) * _FNV_PRIME
        place = end
        value = (value ^ (value >> _S30)) * _MIX_1
        value = (value ^ (value >> _S27)) * _MIX_2
        ids[row] = value ^ (value >> _S31)
    return ids


@kernel(nogil=True)
def _copy_cells(cells, starts, new_starts):
    """Return the runs of cells that begin at `starts`, concatenated at the offsets `new_starts`."""
    new_cells = np.empty(new_starts[-1], np.uint8)
    for row in range(len(starts)):
        length = new_starts[row + 1] - new_starts[row]
        new_cells[new_starts[row] : new_starts[row + 1]] = cells[starts[row] : starts[row] + length]
    return new_cells
