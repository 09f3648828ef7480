"""Collective operations of the processes that train one model together (data parallelism).

All processes have the same state, except the batch slots, of which each process has a part. The class here is the group
of a single process; the pipeline has a subclass that communicates.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor


class ProcessGroup:
    """A group of one process.

    index: the number of this process, from 0; count: the number of processes
    """

    index = 0
    count = 1

    def sum_(self, tensor: Tensor) -> Tensor:
        """Sum a tensor over all processes, in place, and return it."""
        return tensor

    def start_sum(self, tensor: Tensor) -> Callable[[], Tensor]:
        """Start to sum a tensor over all processes, in place; the function returned waits for the sum and returns it.

        The tensor must not be read or changed before. Here the sum is complete at once; a subclass may communicate
        while the caller works.
        """
        summed = self.sum_(tensor)
        return lambda: summed

    def gather(self, tensor: Tensor) -> list[Tensor]:
        """Return the tensors of all processes in their order; all must have the same shape."""
        return [tensor]

    def gather_rows(self, rows: Tensor, sizes: Sequence[int]) -> Tensor:
        """Return the rows of all processes as one tensor; process i has sizes[i] of them."""
        if self.count == 1:
            return rows
        padded = F.pad(rows, (0, 0) * (rows.dim() - 1) + (0, max(sizes) - len(rows)))
        return torch.cat([part[:size] for part, size in zip(self.gather(padded), sizes, strict=True)])

    def any(self, flag: bool) -> bool:
        """Return whether the flag is set in any process."""
        return flag if self.count == 1 else bool(self.sum_(torch.tensor([float(flag)])) > 0)

    def sizes(self, total: int) -> list[int]:
        """Return how many of `total` slots each process has; the numbers differ by at most one."""
        borders = [total * index // self.count for index in range(self.count + 1)]
        return [end - start for start, end in pairwise(borders)]


def own_part(sizes: Sequence[int], index: int) -> slice:
    """Return the rows of process `index` among all rows, if process i has sizes[i] of them."""
    start = sum(sizes[:index])
    return slice(start, start + sizes[index])
