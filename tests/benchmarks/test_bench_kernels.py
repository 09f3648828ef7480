"""Rates of kernels: operations by hand over a time that is given, and the reason where a kernel is not there."""

import pytest
import torch

from benchmarks import bench_kernels
from tests.helpers import varlen_on_cpu  # noqa: F401  registers kernels

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def microseconds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every call is made once, and takes a microsecond."""
    monkeypatch.setattr(bench_kernels, "median_seconds", lambda work, _: [work(), 1e-6][1])


def test_products_are_those_of_a_block() -> None:
    sizes = bench_kernels.product_sizes()
    assert sizes == {"qkv": (512, 1536), "attention out": (512, 512), "gate and up": (512, 3072), "down": (1536, 512)}
    assert bench_kernels.time_product(512, 1536, 10, CPU, torch.float32) == pytest.approx(2 * 10 * 512 * 1536 / 1e-6)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_every_kernel_has_its_rates_or_a_reason() -> None:
    text = bench_kernels.describe(1, CPU)
    rows = dict(line.strip("| ").split(" | ", 1) for line in text.splitlines() if line.startswith("| "))
    forward = 4 * 8 * 916**2 * 64 / 1e-6 / 1e12
    assert rows["varlen"] == f"{forward:,.3g} | {2.5 * forward:,.3g}"
    assert rows["varlen, FlashAttention 3"].startswith(("not installed", "torch before"))
    assert {"cuDNN", "FlashAttention 2", "memory-efficient"} <= rows.keys()
    assert "1 full boards, 916 positions" in text


def test_both_kinds_of_attention_compute_the_same() -> None:
    attention = bench_kernels.make_attention(2, CPU, torch.float32)
    torch.testing.assert_close(attention.varlen(), attention.padded().transpose(1, 2).flatten(0, 1))
