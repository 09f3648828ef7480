"""A batch of examples as tensors.

Shape letters: B examples, S cells of the widest canvas in the batch, V vocabulary, K colours.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from solver.data.tokens import COLOUR, VOCABULARY


@dataclass(frozen=True)
class Batch:
    """Examples as tensors; every field is (B, ...)."""

    tokens_BS: Tensor  # input tokens, int64; 0 where the board is empty
    labels_BS: Tensor  # output tokens, int64; 0 = no label
    cells_BS: Tensor  # board cell number (row * side + column), int64; -1 pads the batch and is never attended to
    puzzles_B: Tensor  # row of the ID table, int64
    transforms_B: Tensor = None  # type: ignore[assignment]  # dihedral transform, int64; default: the identity
    symbols_BV: Tensor = None  # type: ignore[assignment]  # tokens that the task uses, bool; default: all

    def __post_init__(self) -> None:
        """Set the defaults, which depend on the other tensors."""
        if self.transforms_B is None:
            object.__setattr__(self, "transforms_B", torch.zeros_like(self.puzzles_B))
        if self.symbols_BV is None:
            object.__setattr__(self, "symbols_BV", self.puzzles_B.new_ones(len(self), VOCABULARY, dtype=torch.bool))

    def __len__(self) -> int:
        return len(self.puzzles_B)

    def each(self, change: Callable[[Tensor], Tensor]) -> "Batch":
        """Return the batch with a function applied to every tensor."""
        return Batch(*(change(getattr(self, name)) for name in self.__dataclass_fields__))

    def to(self, device: torch.device | str) -> "Batch":
        """Return the batch on `device`."""
        return self.each(lambda tensor: tensor.to(device)).with_counts_of(self)

    def padded(self, width: int) -> "Batch":
        """Return the batch with `width` columns: cut, or padded with cell -1."""
        padding = 0, width - self.cells_BS.shape[1]
        padded = replace(
            self,
            tokens_BS=F.pad(self.tokens_BS, padding),
            labels_BS=F.pad(self.labels_BS, padding),
            cells_BS=F.pad(self.cells_BS, padding, value=-1),
        )
        known = self.__dict__.get("_counts")
        return padded if known is None or known[1].max(initial=0) > width else padded.with_counts(known)

    @cached_property
    def _counts(self) -> NDArray[np.int64]:
        """Cells in use of each example, columns up to the last of them, and its symbols: (2 + V, B), in main memory.

        The processor waits for a GPU when it reads them, so they are read once, and kept by `to`, `padded`
        and `take`. They are known without reading where the batch was rendered (`PuzzleDataset.render`).
        """
        used_BS = self.cells_BS >= 0
        numbers_S = torch.arange(1, used_BS.shape[1] + 1, device=used_BS.device)
        columns_B = F.pad(used_BS * numbers_S, (1, 0)).amax(1)
        return torch.cat((torch.stack((used_BS.sum(1), columns_B)), self.symbols_BV.T)).cpu().numpy()

    @property
    def lengths_B(self) -> NDArray[np.int64]:
        """The number of cells in use of each example (B,), in main memory."""
        return self._counts[0]

    @property
    def palettes_BV(self) -> NDArray[np.bool_]:
        """`symbols_BV` in main memory."""
        return self._counts[2:].T.astype(bool)

    @property
    def is_compact(self) -> bool:
        """Whether the cells in use of every example come first, as `PuzzleDataset` renders them."""
        return bool((self._counts[0] == self._counts[1]).all())

    def used_width(self) -> int:
        """Return the number of columns up to the last one in use; 0 if none is."""
        return int(self._counts[1].max(initial=0))

    def take(self, rows: NDArray[np.int64]) -> "Batch":
        """Return the given examples, padded no wider than they need."""
        indices = torch.from_numpy(rows).to(self.cells_BS.device)
        taken = self.each(lambda tensor: tensor[indices]).with_counts(self._counts[:, rows])
        return taken.padded(taken.used_width())

    def with_counts_of(self, batch: "Batch") -> "Batch":
        """Note what is known in main memory of a batch of the same examples, if anything; return the batch itself."""
        known = batch.__dict__.get("_counts")
        return self if known is None else self.with_counts(known)

    def with_counts(self, counts: NDArray[np.int64]) -> "Batch":
        """Note what is known of the examples in main memory (2 + V, B), see `_counts`; return the batch itself."""
        self.__dict__["_counts"] = counts  # where cached_property looks for it
        return self


def move_cells(batch: Batch, cells_BS: NDArray[np.int64], colours_BK: NDArray[np.int64]) -> Batch:
    """Apply symmetries to whole boards: cells_BS is the old cell of each place, colours_BK each colour's new colour."""
    sources_BS = torch.from_numpy(cells_BS)
    tokens_BV = np.tile(np.arange(VOCABULARY), (len(batch), 1))
    tokens_BV[:, COLOUR:] = colours_BK + COLOUR
    new_BV = torch.from_numpy(tokens_BV)
    boards = batch.tokens_BS, batch.labels_BS
    tokens_BS, labels_BS = (new_BV.gather(1, tokens_BS.gather(1, sources_BS)) for tokens_BS in boards)
    symbols_BV = torch.zeros_like(batch.symbols_BV).scatter(1, new_BV, batch.symbols_BV)
    return replace(batch, tokens_BS=tokens_BS, labels_BS=labels_BS, symbols_BV=symbols_BV)
