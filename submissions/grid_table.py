"""Many grids in few arrays, each different one once, numbered and with an ID that is the same everywhere.

In: grids one by one, or as rows of cells. Out: `Grids`, which gives them back by number, and their Parquet columns.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numba import njit
from numpy.typing import NDArray

from augment.grid import MAX_SIDE, Grid

MAX_CELLS = MAX_SIDE**2
SCHEMA = pa.schema(
    [
        pa.field("id", pa.uint64(), nullable=False),
        pa.field("height", pa.uint8(), nullable=False),
        pa.field("width", pa.uint8(), nullable=False),
        pa.field("cells", pa.binary(), nullable=False),
    ]
)

# FNV-1a (Fowler, Noll, Vo) with 64 bits, then the finaliser of SplitMix64 (Steele et al. 2014).
_FNV_START = np.uint64(0xCBF29CE484222325)
_FNV_PRIME = np.uint64(0x100000001B3)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
_S27 = np.uint64(27)
_S30 = np.uint64(30)
_S31 = np.uint64(31)


@dataclass(frozen=True, eq=False)
class Grids:
    """Different grids, by number.

    ids: uint64 (G,), decided by the grid alone; heights, widths: uint8 (G,); cells: uint8, all grids end to end;
    starts: int64 (G + 1,), where each begins
    """

    ids: NDArray[np.uint64]
    heights: NDArray[np.uint8]
    widths: NDArray[np.uint8]
    starts: NDArray[np.int64]
    cells: NDArray[np.uint8]

    def __len__(self) -> int:
        """How many."""
        return len(self.ids)

    def __getitem__(self, number: int) -> Grid:
        """The grid with this number, as a view."""
        cells = self.cells[self.starts[number] : self.starts[number + 1]]
        return cells.reshape(self.heights[number], self.widths[number])

    def take(self, numbers: NDArray[np.integer]) -> "Grids":
        """Some of them, numbered from 0 in the order given."""
        heights = self.heights[numbers]
        widths = self.widths[numbers]
        starts = _ends(heights, widths)
        return Grids(self.ids[numbers], heights, widths, starts, _copy_cells(self.cells, self.starts[numbers], starts))


def collect_grids(grids: Iterable[Grid]) -> tuple[Grids, NDArray[np.int32]]:
    """The different ones among `grids`, in the order first seen, and the number of each given."""
    given = list(grids)
    heights, widths = np.array([grid.shape for grid in given], np.uint8).reshape(-1, 2).T
    cells = np.zeros((len(given), MAX_CELLS), np.uint8)
    for row, grid in zip(cells, given, strict=True):
        row[: grid.size] = grid.ravel()
    return collect_rows(heights, widths, cells)


def collect_rows(
    heights: NDArray[np.uint8], widths: NDArray[np.uint8], cells: NDArray[np.uint8]
) -> tuple[Grids, NDArray[np.int32]]:
    """The different grids among rows of cells (n, MAX_CELLS), in the order first seen, and each row's number.

    heights, widths: (n,), 0 where a row holds no grid; its number is -1.
    """
    held = np.flatnonzero(heights)
    starts = _ends(heights[held], widths[held])
    packed = _copy_cells(cells.reshape(-1), held * cells.shape[1], starts)
    every = Grids(hash_grids(heights[held], widths[held], packed), heights[held], widths[held], starts, packed)
    first, number = number_by_first(every.ids)
    different = every.take(first)
    _refuse_collisions(every, different, number)
    numbers = np.full(len(heights), -1, np.int32)
    numbers[held] = number
    return different, numbers


def join_grids(parts: Sequence[Grids]) -> tuple[Grids, list[NDArray[np.int32]]]:
    """The different grids of all parts, in the order first seen; and for each part its grids' numbers among them."""
    heights, widths = (np.concatenate([getattr(part, name) for part in parts]) for name in ("heights", "widths"))
    cells, ids = (np.concatenate([getattr(part, name) for part in parts]) for name in ("cells", "ids"))
    every = Grids(ids, heights, widths, _ends(heights, widths), cells)
    first, number = number_by_first(ids)
    return every.take(first), np.split(number.astype(np.int32), np.cumsum([len(part) for part in parts])[:-1])


def to_columns(grids: Grids) -> pa.Table:
    """As a Parquet table."""
    starts = pa.py_buffer(grids.starts.astype(np.int32).tobytes())
    cells = pa.Array.from_buffers(pa.binary(), len(grids), [None, starts, pa.py_buffer(grids.cells)])
    arrays = [pa.array(grids.ids), pa.array(grids.heights), pa.array(grids.widths), cells]
    return pa.table(arrays, schema=SCHEMA)


def from_columns(table: pa.Table) -> Grids:
    """Undo `to_columns`."""
    ids, heights, widths = (table.column(name).to_numpy() for name in ("id", "height", "width"))
    chunks = table.column("cells").chunks
    cells = [np.frombuffer(chunk.buffers()[2] or b"", np.uint8)[_extent(chunk)] for chunk in chunks]
    flat = np.concatenate(cells) if cells else np.zeros(0, np.uint8)
    return Grids(ids, heights, widths, _ends(heights, widths), flat)


def _extent(chunk: pa.BinaryArray) -> slice:
    """Which bytes of its buffer a chunk uses."""
    offsets = np.frombuffer(chunk.buffers()[1], np.int32)[chunk.offset : chunk.offset + len(chunk) + 1]
    return slice(int(offsets[0]), int(offsets[-1])) if len(offsets) else slice(0, 0)


def _ends(heights: NDArray[np.uint8], widths: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Where each grid begins when they stand end to end, and at last where the last one ends."""
    starts = np.zeros(len(heights) + 1, np.int64)
    np.cumsum(heights.astype(np.int64) * widths, out=starts[1:])
    return starts


def number_by_first(ids: NDArray[np.integer]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Number the different values in the order first seen: (where each is first, the number of every value)."""
    _, first, inverse = np.unique(ids, return_index=True, return_inverse=True)
    order = np.argsort(first)
    numbers = np.empty(len(order), np.int64)
    numbers[order] = np.arange(len(order))
    return first[order], numbers[inverse.reshape(-1)]


def _refuse_collisions(every: Grids, different: Grids, number: NDArray[np.int64]) -> None:
    """ValueError where two different grids have one ID: one in 10^19 pairs."""
    if not _all_same(
        every.heights, every.cells, every.starts, different.heights, different.cells, different.starts, number
    ):
        raise ValueError("two different grids have the same 64-bit ID: leave one of their tasks out and predict again")


@njit(cache=True, nogil=True)
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
    """The ID that a grid has everywhere."""
    height, width = (np.array([side], np.uint8) for side in grid.shape)
    return hash_grids(height, width, grid.ravel())[0]


@njit(cache=True, nogil=True)
def hash_grids(heights, widths, cells):
    """IDs, uint64 (n,), of grids that stand end to end in `cells`."""
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


@njit(cache=True, nogil=True)
def _copy_cells(cells, starts, new_starts):
    """The cells that begin at `starts`, end to end as `new_starts` says."""
    copied = np.empty(new_starts[-1], np.uint8)
    for row in range(len(starts)):
        length = new_starts[row + 1] - new_starts[row]
        copied[new_starts[row] : new_starts[row + 1]] = cells[starts[row] : starts[row] + length]
    return copied
