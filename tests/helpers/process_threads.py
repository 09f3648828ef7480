"""Processes that train together, simulated by threads of one process."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import torch
from torch import Tensor

from solver.training.process_group import ProcessGroup

Result = TypeVar("Result")


class Threads(ProcessGroup):
    """One of several processes, simulated by a thread."""

    def __init__(self, index: int, count: int, barrier: threading.Barrier, shared: dict[int, Tensor]):
        self.index = index
        self.count = count
        self.barrier = barrier
        self.shared = shared

    def gather(self, tensor: Tensor) -> list[Tensor]:
        self.shared[self.index] = tensor.detach().clone()
        self.barrier.wait(timeout=30)
        parts = [self.shared[index] for index in range(self.count)]
        self.barrier.wait(timeout=30)
        return parts

    def sum_(self, tensor: Tensor) -> Tensor:
        return tensor.copy_(torch.stack(self.gather(tensor)).sum(0))


def in_threads(count: int, work: Callable[[Any], Result], kind: type[Threads] = Threads) -> list[Result]:
    """Run the work in as many processes, simulated by threads; return what each of them returns."""
    barrier, shared = threading.Barrier(count), {}
    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(work, [kind(index, count, barrier, shared) for index in range(count)]))
