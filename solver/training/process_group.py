"""The processes that train one model together, as one of them sees them.

What each holds is equal, but for the batch slots: every process has a part of them. This class is a process alone; the
pipeline brings one that talks to others.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor


class ProcessGroup:
    """index: this process, from 0; count: how many there are."""

    index = 0
    count = 1

    def sum_(self, tensor: Tensor) -> Tensor:
        """The sum over all processes, in place."""
        return tensor

    def gather(self, tensor: Tensor) -> list[Tensor]:
        """The tensor of every process, in their order; all must have one shape."""
        return [tensor]

    def gather_rows(self, rows: Tensor, sizes: Sequence[int]) -> Tensor:
        """The rows of every process as one tensor, of which process i holds sizes[i]."""
        if self.count == 1:
            return rows
        padded = F.pad(rows, (0, 0) * (rows.dim() - 1) + (0, max(sizes) - len(rows)))
        return torch.cat([part[:size] for part, size in zip(self.gather(padded), sizes, strict=True)])

    def any(self, flag: bool) -> bool:
        """Whether the flag is set in any process."""
        return flag if self.count == 1 else bool(self.sum_(torch.tensor([float(flag)])) > 0)

    def sizes(self, total: int) -> list[int]:
        """How many of `total` slots each process has; they differ by one at most."""
        borders = [total * index // self.count for index in range(self.count + 1)]
        return [end - start for start, end in pairwise(borders)]


def own_part(sizes: Sequence[int], index: int) -> slice:
    """The rows of process `index` among all rows, where process i has sizes[i] of them."""
    start = sum(sizes[:index])
    return slice(start, start + sizes[index])
