"""Memory of the device: which errors mean that it ran out, and how much of it is free."""

import gc
from collections.abc import Iterator
from typing import Protocol

import torch

OUT_OF_MEMORY_TEXTS = (
    "out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
    "DefaultCPUAllocator",
)
"""Parts of the messages of errors that mean a lack of memory: of CUDA, Triton and torch's CUDA allocator, of libraries
that allocate for themselves (cuBLAS at the first product of each thread, pytorch#128601), and of torch's CPU allocator.
"""
MEMORY_ERRORS = (RuntimeError, MemoryError)
"""The classes of all errors that `ran_out_of_memory` recognises. torch.OutOfMemoryError, torch.AcceleratorError and
torch._inductor.exc.InductorError are RuntimeErrors."""


def ran_out_of_memory(error: BaseException) -> bool:
    """Return whether an error means that the device or the host ran out of memory, by its class, text or causes.

    A compiler raises an error of its own in place of that of the allocator, so the errors that an error was raised from
    (`__cause__`), or during the handling of which it was raised (`__context__`), count too.
    """
    return any(
        isinstance(each, torch.OutOfMemoryError | MemoryError) or any(text in str(each) for text in OUT_OF_MEMORY_TEXTS)
        for each in _with_causes(error)
    )


def _with_causes(error: BaseException) -> Iterator[BaseException]:
    """Yield the error and all errors that led to it, each once."""
    pending = [error]
    known = {id(error)}
    while pending:
        yield (each := pending.pop())
        causes = [cause for cause in (each.__cause__, each.__context__) if cause and id(cause) not in known]
        known |= {id(cause) for cause in causes}
        pending += causes


def free_memory() -> None:
    """Release the memory of a failed attempt, including torch's cached GPU blocks."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


class DeviceMemory(Protocol):
    """Measures the memory of a device, in bytes."""

    def allocated(self) -> int:
        """Return the bytes that tensors take now; the peak is counted anew from here."""
        ...

    def peak(self) -> int:
        """Return the most bytes that tensors took since the last call of `allocated`."""
        ...

    def free(self) -> int:
        """Return the bytes that tensors can still take."""
        ...

    def total(self) -> int:
        """Return the bytes that the device has."""
        ...


class CudaMemory:
    """The memory of a CUDA device; a `DeviceMemory`."""

    def __init__(self, device: torch.device):
        self.device = device

    def allocated(self) -> int:  # noqa: D102
        torch.cuda.reset_peak_memory_stats(self.device)
        return torch.cuda.memory_allocated(self.device)

    def peak(self) -> int:  # noqa: D102
        return torch.cuda.max_memory_allocated(self.device)

    def free(self) -> int:  # noqa: D102
        free, _ = torch.cuda.mem_get_info(self.device)
        # Blocks that torch's allocator keeps without a tensor in them can be used again.
        return free + torch.cuda.memory_reserved(self.device) - torch.cuda.memory_allocated(self.device)

    def total(self) -> int:  # noqa: D102
        return torch.cuda.get_device_properties(self.device).total_memory


def open_memory(device: torch.device) -> DeviceMemory | None:
    """Return what measures the device's memory; None for a CPU, whose memory is not measured."""
    return CudaMemory(device) if device.type == "cuda" else None
