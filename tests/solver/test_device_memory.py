"""Every form in which a lack of memory shows is recognised, and nothing else is."""

import pytest
import torch
from torch._inductor.exc import InductorError

from solver.training.device_memory import MEMORY_ERRORS, CudaMemory, open_memory, ran_out_of_memory

FORMS = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB"),
    torch.OutOfMemoryError("of unknown text"),
    MemoryError(),
    RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory: you tried to"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    torch.AcceleratorError("CUDA error: out of memory"),
    RuntimeError("Triton Error [CUDA]: out of memory"),
    InductorError(torch.OutOfMemoryError("CUDA out of memory"), None),
]


@pytest.mark.parametrize("error", FORMS, ids=str)
def test_every_form_is_recognised_and_caught(error: Exception) -> None:
    assert ran_out_of_memory(error)
    assert isinstance(error, MEMORY_ERRORS)


def chained(cause: Exception, explicit: bool) -> Exception:
    """Return the error of a compiler that met another error, raised from it or while it was handled."""
    try:
        try:
            raise cause
        except Exception:
            if explicit:
                raise InductorError(ValueError("lowering failed"), None) from cause
            raise InductorError(ValueError("lowering failed"), None) from None
    except InductorError as error:
        return error


@pytest.mark.parametrize("explicit", [True, False])
def test_the_errors_that_led_to_an_error_count(explicit: bool) -> None:
    assert ran_out_of_memory(chained(MemoryError(), explicit))
    assert ran_out_of_memory(chained(chained(RuntimeError("CUDA error: out of memory"), explicit), explicit))
    assert not ran_out_of_memory(chained(RuntimeError("shapes differ"), explicit))


def test_errors_that_led_to_each_other_end() -> None:
    first = RuntimeError("one")
    second = RuntimeError("two")
    first.__cause__ = second
    second.__context__ = first
    assert not ran_out_of_memory(first)


@pytest.mark.parametrize(
    "text", ["CUDA error: an illegal memory access was encountered", "CUBLAS_STATUS_NOT_SUPPORTED"]
)
def test_other_errors_are_not_taken_for_it(text: str) -> None:
    assert not ran_out_of_memory(RuntimeError(text))


def test_memory_is_measured_on_cuda_only(monkeypatch: pytest.MonkeyPatch) -> None:
    assert open_memory(torch.device("cpu")) is None
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (30, 80))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _: 40)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda _: 15)
    memory = open_memory(torch.device("cuda", 1))
    assert isinstance(memory, CudaMemory)
    assert memory.free() == 30 + 40 - 15, "torch's empty blocks are free"
