"""Results of supervision steps that are collected on the device are those that were added, after one copy."""

import numpy as np
import pytest
import torch
from torch import Tensor

from solver.model import step_records
from solver.model.step_records import StepRecords, copy_to_host
from tests.helpers.pretended_gpu import pretended_gpu

SIZES = {
    torch.uint8: (3, 5),
    torch.float32: (3, 5, 2),
    torch.float64: (3,),
    torch.bfloat16: (3, 7),
    torch.bool: (3, 1),
    torch.int64: (3, 0),
}


def make_results(seed: int) -> list[Tensor]:
    """Return a tensor of each data type, with an odd number of bytes before the larger elements."""
    generator = torch.Generator().manual_seed(seed)
    return [(100 * torch.rand(shape, generator=generator)).to(dtype) for dtype, shape in SIZES.items()]


def test_one_copy_of_any_data_types() -> None:
    results = make_results(0)
    results.append(torch.arange(6.0).view(3, 2)[:, 1])  # is not contiguous
    with pretended_gpu() as traffic:
        copies = copy_to_host([tensor.to("cuda") for tensor in results])
        waits = traffic.waits.total()
    assert waits == 1
    for copy, tensor in zip(copies, results, strict=True):
        assert copy.dtype == tensor.dtype
        assert torch.equal(copy, tensor)


def test_tensors_of_the_cpu_are_not_copied() -> None:
    results = make_results(0)
    assert all(copy is tensor for copy, tensor in zip(copy_to_host(results), results, strict=True))


@pytest.mark.parametrize(("most", "waits"), [(2**28, 1), (0, 6), (500, 2)])
def test_steps_are_stacked_with_a_bound_on_what_is_on_the_device(
    most: int, waits: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step has 3 x (5 + 40 + 8 + 1) = 162 bytes: with more than 500, at the fourth step, they are copied."""
    monkeypatch.setattr(step_records, "MOST_BYTES", most)
    steps = [[tensor for tensor in make_results(seed) if tensor.dtype != torch.bfloat16] for seed in range(6)]
    with pretended_gpu() as traffic:
        records = StepRecords()
        for results in steps:
            records.add([tensor.to("cuda") for tensor in results])
        columns = records.stacked()
        assert traffic.waits.total() == waits
    for column, tensors in zip(columns, zip(*steps, strict=True), strict=True):
        assert np.array_equal(column, torch.stack(tensors, dim=1).numpy())
