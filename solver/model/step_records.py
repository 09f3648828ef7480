"""Collects results of supervision steps on their device, and copies them to main memory in one transfer.

A copy to main memory lets the host wait until the device has finished, and the device then has nothing queued. One copy
for all steps of a batch costs one such wait.
"""

from collections.abc import Sequence
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

MOST_BYTES = 2**28
"""Bytes of results that may be on the device; with more, they are copied before the batch ends. The copy needs as many
bytes again. A prediction batch of B examples with C cells and T steps has B x T x (9 C + 12) bytes: 38 MB with the most
positions of a GPU at once (`solver.training.position_limit`) and 16 recorded steps. The trace of an example has
T x (2 C + 4 U + 4) bytes, where U is the number of updates of latents in a step: 31 KB at 900 cells, 16 steps and 21
updates."""


class StepRecords:
    """The results of several supervision steps: the same number of tensors in each, all on one device."""

    def __init__(self) -> None:
        self._on_host: list[list[Tensor]] = []
        self._on_device: list[Sequence[Tensor]] = []
        self._bytes = 0

    def add(self, results: Sequence[Tensor]) -> None:
        """Add the results of a step, which nobody changes afterwards."""
        self._on_device.append(results)
        self._bytes += sum(tensor.numel() * tensor.element_size() for tensor in results)
        if self._bytes > MOST_BYTES:
            self._copy()

    def stacked(self) -> list[NDArray[Any]]:
        """Return each result of all steps as one array: (B, T, ...) of results (B, ...) in T steps."""
        self._copy()
        return [torch.stack(column, dim=1).numpy() for column in zip(*self._on_host, strict=True)]

    def _copy(self) -> None:
        copies = iter(copy_to_host([tensor for results in self._on_device for tensor in results]))
        self._on_host += [[next(copies) for _ in results] for results in self._on_device]
        self._on_device = []
        self._bytes = 0


def copy_to_host(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Return tensors of one device in main memory, after a single copy; those of the CPU are returned as they are."""
    if all(tensor.device.type == "cpu" for tensor in tensors):
        return list(tensors)
    # The largest elements come first, so that each tensor starts at a multiple of its element size.
    order = sorted(range(len(tensors)), key=lambda number: -tensors[number].element_size())
    flat = [tensors[number].flatten().contiguous().view(torch.uint8) for number in order]
    parts = torch.cat(flat).cpu().split([len(part) for part in flat])
    copies = {
        number: part.view(tensors[number].dtype).view(tensors[number].shape)
        for number, part in zip(order, parts, strict=True)
    }
    return [copies[number] for number in range(len(tensors))]
