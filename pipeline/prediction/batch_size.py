"""How much a device holds at once: work cut into batches that fit, halved when they do not.

In: how many examples there are and how wide they are. Out: the results, batch by batch. A batch is counted in boards:
so many positions as that many full boards have.
"""

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import torch

from pipeline.runtime.exit_codes import OutOfMemoryError
from solver.model.config import ModelConfig
from solver.training.micro_batches import free_memory, ran_out_of_memory

CPU_BOARDS = 4
"""On a CPU larger batches gain nothing: of the model of the `cpu` recipe an example takes 7.1 ms in batches of 0.3 full
boards, 6.2 to 6.4 ms in batches of 0.7 to 4 and 7.0 to 7.7 ms in batches of 8 and 16 (one AVX2 core)."""
FEWEST_BOARDS = 8
MOST_BOARDS = 4096
MOST_MEMORY = 0.8
"""The share of a GPU's memory that batches may take by what was seen of smaller ones."""

Result = TypeVar("Result")


class BatchSize:
    """Cuts work into batches of at most so many positions; a batch that does not fit is halved, and those after it."""

    def __init__(self, config: ModelConfig, boards: int, log: Callable[[str], Any]):
        self.slots = config.id_slots
        self.most = boards * (config.id_slots + config.cells)
        self.log = log

    def rows(self, width: int) -> int:
        """How many examples of this width go into a batch."""
        return max(1, self.most // (self.slots + width))

    def batches(self, total: int, width: int, work: Callable[[slice], Result]) -> Iterator[Result]:
        """The results of `work` on slices of `total` examples that are `width` cells wide each.

        Raises:
            OutOfMemoryError: where a single example does not fit.
        """
        start = 0
        while start < total:
            rows = slice(start, min(total, start + self.rows(width)))
            done, result = self._try(work, rows)
            if done:
                start = rows.stop
                yield result
            else:
                self.most = (rows.stop - rows.start) // 2 * (self.slots + width)
                free_memory()
                self.log(f"a batch did not fit in memory: from now on at most {self.most} positions at once")

    def _try(self, work: Callable[[slice], Any], rows: slice) -> tuple[bool, Any]:
        """(whether it fitted, the result)."""
        try:
            return True, work(rows)
        except (RuntimeError, MemoryError) as error:
            if not ran_out_of_memory(error):
                raise
            if rows.stop - rows.start == 1:
                raise OutOfMemoryError(
                    f"out of memory with a single example ({str(error).splitlines()[0][:200]})",
                    "free memory, or take a device with more",
                ) from error
        return False, None


def find_boards(device: torch.device, most: int, work: Callable[[int], Any]) -> int:
    """How many full boards to compute at once: doubled while memory allows it, and never above `most`.

    work: computes that many boards' worth of the widest examples there are.
    """
    if device.type != "cuda":
        return CPU_BOARDS
    total = torch.cuda.get_device_properties(device).total_memory

    def share_taken(boards: int) -> float:
        torch.cuda.reset_peak_memory_stats(device)
        work(boards)
        return torch.cuda.max_memory_allocated(device) / total

    return grow(share_taken, min(most, MOST_BOARDS))


def grow(share_taken: Callable[[int], float], most: int) -> int:
    """Double from FEWEST_BOARDS while what the next size would take is below MOST_MEMORY, and it does not fail.

    share_taken: the share of memory that so many boards took at their peak; it may run out of memory.
    """
    boards = FEWEST_BOARDS
    try:
        while boards < most and 2 * share_taken(boards) < MOST_MEMORY:
            boards *= 2
        return boards
    except RuntimeError as error:
        if not ran_out_of_memory(error):
            raise
    free_memory()
    return max(1, boards // 2)
