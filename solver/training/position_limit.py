"""How many positions are computed at once: measured, lowered when memory runs out, raised when it has long sufficed."""

import math
from typing import Any, Literal

import torch

from solver.model.config import ModelConfig
from solver.model.layers import inner_size

MOST_POSITIONS = 262_144
"""The most positions that a GPU computes at once; nothing is gained above some 100,000."""
MOST_ELEMENTS = 2**31 - 1
"""The most elements of a tensor on a GPU. More need kernels with 64-bit indices, which are slower, and hardly tried for
products."""
GROWTH_STEPS = 1000
"""Steps without lack of memory after which the limit is raised."""


def most_positions(config: ModelConfig, device: torch.device) -> int | None:
    """Return the most positions that a device computes at once whatever its memory; None for any number, on a CPU."""
    if device.type != "cuda":
        return None
    return max(1, min(MOST_POSITIONS, MOST_ELEMENTS // values_per_position(config)))


def values_per_position(config: ModelConfig) -> int:
    """Return how many values for each position the widest tensor of a model's layers has.

    It is that of gate and up projections, or of queries, keys and values. On a symbol axis every position has a row for
    each symbol.
    """
    sizes = config.expansion, config.inner_multiple
    head = config.hidden // config.heads
    widths = [2 * inner_size(config.hidden, *sizes), 3 * head * max(config.heads, config.symbol_heads or 0)]
    if config.mixer == "mlp":
        positions = config.id_slots + config.cells
        widths.append(math.ceil(2 * inner_size(positions, *sizes) * config.hidden / positions))
    return max(widths) * (config.vocabulary if config.symbols else 1)


def reduce_size(size: int) -> int:
    """Return the number of positions to try after `size` of them, two or more, did not fit in memory.

    It is three quarters. Half would lose up to a half of what fits, a smaller reduction needs more failed attempts.
    """
    return max(1, size * 3 // 4)


class PositionLimit:
    """The limit of positions that a step computes at once.

    After lack of memory it is three quarters of what did not fit. After every `GROWTH_STEPS` steps in memory it is
    raised by a quarter, but not above `ceiling`, and at first not above the size that failed. That size may have failed
    by accident, because memory was fragmented or another program used the device, so it is tried once more. If it then
    fits for `GROWTH_STEPS` steps, its failure is forgotten. If it fails again, the lowered limit is final. Failed
    attempts thus cost at most one step in a thousand.

    Args:
        configured: the limit that a setting gives, which is never exceeded; None for none.
        of_device: that of the device (`most_positions`).

    Attributes:
        most: the limit; None for none.
        ceiling: what a setting, the kind of device or a measurement allows at most; None for any number.
        failed: the size that failed once and has not been tried again; None if there is none.
        barred: the limit that is never raised, as a larger one failed twice; None if there is none.
        steps: steps in memory that count for the next raise.
        change: why `most` has its value, in words.
        measured_for: what `ceiling` was measured for (`solver.training.micro_batches.measure_limit`); None before.
    """

    def __init__(self, configured: int | None, of_device: int | None = None):
        self._base = _smallest(configured, of_device)
        self.ceiling = self.most = self._base
        self.failed: int | None = None
        self.barred: int | None = None
        self.steps = 0
        self._reason: Literal["measured", "lowered", "raised"] = "measured"
        self.measured_for: Any = None

    @property
    def change(self) -> str:
        """The last change of the limit, for the log."""
        reasons = {
            "measured": "the memory was measured",
            "lowered": "a batch did not fit in memory",
            "raised": f"memory sufficed for {GROWTH_STEPS} steps",
        }
        return f"{reasons[self._reason]}: from now on at most {self.most} positions at once"

    def lower(self, size: int) -> None:
        """Lower the limit, as chunks of up to `size` positions, each of two or more slots, did not fit in memory."""
        reduced = reduce_size(size)
        if self.failed is not None and (self.most or size) >= self.failed:
            self.failed = None
            self.barred = reduced
        else:
            self.failed = size
        self.most = reduced
        self.steps = 0
        self._reason = "lowered"

    def count_step(self) -> None:
        """Count a step that fitted in memory, and raise the limit if it is time to."""
        bound = self._bound()
        if self.most is None or (self.failed is None and bound is not None and self.most >= bound):
            return  # there is nothing to raise
        self.steps += 1
        if self.steps < GROWTH_STEPS:
            return
        self.steps = 0
        if self.failed is not None and self.most >= self.failed:
            self.failed = None
        raised = _smallest(self.most + max(1, self.most // 4), self._bound())
        assert raised is not None
        if raised > self.most:
            self.most = raised
            self._reason = "raised"

    def measure(self, positions: int, measured_for: Any) -> None:
        """Take over how many positions fit in memory by a measurement, at most what setting and device allow."""
        self.ceiling = _smallest(self._base, max(1, positions))
        self.measured_for = measured_for
        most = _smallest(self.most, self.ceiling)
        if most != self.most:
            self.most = most
            self._reason = "measured"

    def _bound(self) -> int | None:
        return _smallest(self.ceiling, self.barred, self.failed)

    def numbers(self) -> dict[str, int | None]:
        """Return the state to save, as plain JSON values."""
        failures = {"failed_positions": self.failed, "barred_positions": self.barred}
        return {"most_positions": self.most, "steps_in_memory": self.steps, **failures}

    def load(self, numbers: dict[str, Any]) -> None:
        """Resume from `numbers`; those of version 0.1 have "most_positions" only."""
        self.most = _smallest(numbers["most_positions"], self.ceiling)
        self.steps = numbers.get("steps_in_memory", 0)
        self.failed = numbers.get("failed_positions")
        self.barred = numbers.get("barred_positions")


def _smallest(*numbers: int | None) -> int | None:
    """Return the smallest of the numbers that are given; None if none is."""
    return min((number for number in numbers if number is not None), default=None)
