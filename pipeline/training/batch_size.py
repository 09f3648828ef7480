"""Chooses batch sizes without training: cuts work into batches that fit in memory, and shrinks those that do not.

Batch sizes are given in boards: a size of B boards allows as many positions as B full boards have. `BatchSize` takes
the number and width of examples, or the length of each, and yields the results batch by batch. `find_boards` measures
the size that fits.
"""

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.runtime.exit_codes import OutOfMemoryError
from pipeline.runtime.system_errors import first_line
from solver.model.config import ModelConfig
from solver.training.device_memory import MEMORY_ERRORS, DeviceMemory, free_memory, ran_out_of_memory
from solver.training.micro_batches import cut_slots
from solver.training.position_limit import most_positions, reduce_size

CPU_BOARDS = 4
"""Batch size on a CPU, where larger batches gain nothing. With the model of the `cpu` recipe an example takes 7.1 ms in
batches of 0.3 full boards, 6.2 to 6.4 ms in batches of 0.7 to 4, and 7.0 to 7.7 ms in batches of 8 and 16 (one AVX2
core)."""
FEWEST_BOARDS = 8
MOST_BOARDS = 4096
MOST_MEMORY = 0.8
"""Largest share of a GPU's memory that a batch may take, extrapolated from the measured peak of smaller batches."""

Result = TypeVar("Result")


class BatchSize:
    """Cuts work into batches with a bounded number of positions.

    After a batch that does not fit in memory, the bound is reduced by a quarter for it and for all later batches.

    Args:
        config: the model's settings.
        boards: the largest batch, in full boards; a GPU computes at most `most_positions` at once.
        log: called with a message when the bound is reduced.
        device: the device that computes.
    """

    def __init__(self, config: ModelConfig, boards: int, log: Callable[[str], Any], device: torch.device):
        self.slots = config.id_slots
        positions = boards * (config.id_slots + config.cells)
        self.largest = self.most = min(positions, most_positions(config, device) or positions)
        self.log = log

    def rows(self, width: int) -> int:
        """Return how many examples of this width (in cells) go into a batch."""
        return max(1, self.most // (self.slots + width))

    def batches(self, total: int, width: int, work: Callable[[slice], Result]) -> Iterator[Result]:
        """Yield the results of `work` on consecutive slices of `total` examples.

        Args:
            total: how many examples there are.
            width: the width of each, in cells.
            work: computes a slice of the examples; it may run out of memory.

        Raises:
            OutOfMemoryError: if a single example does not fit.
        """
        start = 0
        while start < total:
            rows = slice(start, min(total, start + self.rows(width)))
            fits, result = self._try(work, rows, rows.stop - rows.start)
            if fits:
                start = rows.stop
                yield result
            else:
                self._reduce(reduce_size(rows.stop - rows.start) * (self.slots + width))

    def ragged_batches(
        self,
        lengths: NDArray[np.int64],
        work: Callable[[NDArray[np.int64]], Result],
        share: slice = slice(None),
    ) -> Iterator[Result]:
        """Yield the results of `work` on batches of examples of different lengths, longest first.

        Args:
            lengths: how many positions each example has.
            work: computes the examples with the given numbers; it may run out of memory.
            share: which of the batches are computed. Processes that each take a share compute every example once,
                whichever of them runs out of memory: a share is that of the batches as they are before any is reduced.

        Raises:
            OutOfMemoryError: if a single example does not fit.
        """
        batches = deque(cut_slots(lengths, self.largest)[share])
        if self.most < self.largest:
            batches = self._cut(lengths, batches)
        while batches:
            fits, result = self._try(work, batches[0], len(batches[0]))
            if fits:
                batches.popleft()
                yield result
            else:
                self._reduce(reduce_size(int(lengths[batches[0]].sum())))
                batches = self._cut(lengths, batches)

    def _cut(self, lengths: NDArray[np.int64], batches: deque[NDArray[np.int64]]) -> deque[NDArray[np.int64]]:
        """Cut the examples of some batches again, by the present bound."""
        rows = np.concatenate([*batches, np.zeros(0, np.int64)])
        return deque(rows[part] for part in cut_slots(lengths[rows], self.most) if len(part))

    def _reduce(self, most: int) -> None:
        """Lower the bound after a batch did not fit in memory."""
        self.most = most
        free_memory()
        self.log(f"a batch did not fit in memory: from now on at most {self.most} positions at once")

    def _try(self, work: Callable[[Any], Any], rows: Any, number: int) -> tuple[bool, Any]:
        """Return (whether these rows, `number` of them, fit in memory, the result)."""
        try:
            return True, work(rows)
        except MEMORY_ERRORS as error:
            if not ran_out_of_memory(error):
                raise
            if number == 1:
                raise OutOfMemoryError(
                    f"out of memory with a single example ({first_line(error)})",
                    "free memory, or use a device with more memory",
                ) from error
        return False, None


def largest_size(config: ModelConfig, device: torch.device) -> int:
    """Return the largest batch in full boards that is computed on a device whatever its memory, at least 1."""
    positions = most_positions(config, device)
    return MOST_BOARDS if positions is None else max(1, min(MOST_BOARDS, positions // (config.id_slots + config.cells)))


def find_boards(memory: DeviceMemory | None, most: int, largest: int, work: Callable[[int], Any]) -> int:
    """Return how many full boards to compute at once: CPU_BOARDS on a CPU, what fits in memory on a GPU.

    Args:
        memory: of the device that computes; None for a CPU (`solver.training.device_memory.open_memory`).
        most: no size at or above it is doubled.
        largest: the largest size that may be tried or returned.
        work: computes a batch of the given size in boards, with the widest examples; called with growing sizes.
    """
    if memory is None:
        return CPU_BOARDS
    total = memory.total()

    def share_taken(boards: int) -> float:
        memory.allocated()  # the peak counts from here
        work(boards)
        return memory.peak() / total

    return min(largest, grow(share_taken, min(most, largest)))


def grow(share_taken: Callable[[int], float], most: int) -> int:
    """Return the largest batch size, doubling from FEWEST_BOARDS, whose expected peak is below MOST_MEMORY.

    Args:
        share_taken: measures the peak share of memory that a batch of the given size takes; it may run out of memory.
        most: no size at or above it is doubled.
    """
    boards = FEWEST_BOARDS
    try:
        while boards < most and 2 * share_taken(boards) < MOST_MEMORY:
            boards *= 2
        return boards
    except MEMORY_ERRORS as error:
        if not ran_out_of_memory(error):
            raise
    # Outside the except block: the error's traceback keeps the tensors alive that are to be freed.
    free_memory()
    return max(1, boards // 2)
