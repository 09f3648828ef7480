"""What the kernels of a block reach by themselves: its matrix products at the published size, and attention.

    python -m benchmarks.bench_kernels [--boards 192] [--out FILE]      a minute on a GPU; not run there

A step is as fast as these at best (`benchmarks.bench_train`). On the CPU, one board shows only that it runs.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import torch.nn.functional as F
import typer
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from pipeline.checkpoints.attention_choice import flash_attention_3, median_seconds
from pipeline.checkpoints.load_model import choose_precision
from pipeline.runtime.provenance import processor, versions
from solver.model.config import ModelConfig
from solver.model.layers import inner_size
from solver.model.packing import varlen_attn

PUBLISHED = ModelConfig()
LENGTH = PUBLISHED.id_slots + PUBLISHED.cells
BACKENDS = {
    "cuDNN": SDPBackend.CUDNN_ATTENTION,
    "FlashAttention 2": SDPBackend.FLASH_ATTENTION,
    "memory-efficient": SDPBackend.EFFICIENT_ATTENTION,
}
"""Kernels for examples of one length."""
SECONDS = 0.5
"""Each kernel is repeated for so long."""
Way = tuple[AbstractContextManager[Any], Callable[[], Tensor]]
"""How a kernel is chosen, and how it is called."""
BACKWARD = 2.5
"""Operations of attention's backward pass, in those of its forward pass."""


@dataclass(frozen=True)
class Attention:
    """Attention within `boards` full boards: queries, keys and values (boards, LENGTH, heads, head size).

    ends: the row after each board's last, int32 (boards + 1), starting with 0
    """

    qkv: tuple[Tensor, Tensor, Tensor]
    ends: Tensor

    @property
    def flop(self) -> float:
        """Operations of the forward pass."""
        boards, length, heads, size = self.qkv[0].shape
        return 4.0 * boards * heads * length**2 * size

    def padded(self) -> Tensor:
        """Use the kernel that `sdpa_kernel` chose."""
        q_BHSK, k_BHSK, v_BHSK = (tensor.transpose(1, 2) for tensor in self.qkv)
        return F.scaled_dot_product_attention(q_BHSK, k_BHSK, v_BHSK)

    def varlen(self) -> Tensor:
        """Use torch's kernel for examples of different lengths, as training does."""
        if varlen_attn is None:
            raise RuntimeError("torch before 2.10")
        q_THK, k_THK, v_THK = (tensor.flatten(0, 1) for tensor in self.qkv)
        return varlen_attn(q_THK, k_THK, v_THK, self.ends, self.ends, LENGTH, LENGTH)  # pyright: ignore[reportReturnType]


def make_attention(boards: int, device: torch.device, precision: torch.dtype) -> Attention:
    """Draw queries, keys and values at the published sizes."""
    shape = boards, LENGTH, PUBLISHED.heads, PUBLISHED.hidden // PUBLISHED.heads
    q, k, v = (torch.randn(shape, device=device).to(precision).requires_grad_() for _ in range(3))
    ends = torch.arange(0, boards * LENGTH + 1, LENGTH, device=device, dtype=torch.int32)
    return Attention((q, k, v), ends)


def product_sizes() -> dict[str, tuple[int, int]]:
    """Return the inputs and outputs of a block's matrix products."""
    hidden = PUBLISHED.hidden
    inner = inner_size(hidden, PUBLISHED.expansion, PUBLISHED.inner_multiple)
    return {
        "qkv": (hidden, 3 * hidden),
        "attention out": (hidden, hidden),
        "gate and up": (hidden, 2 * inner),
        "down": (inner, hidden),
    }


def time_product(inputs: int, outputs: int, rows: int, device: torch.device, precision: torch.dtype) -> float:
    """Return the rate of (rows, inputs) @ (inputs, outputs), in operations a second."""
    x, weight = (torch.randn(count, inputs, device=device).to(precision) for count in (rows, outputs))
    return 2 * rows * inputs * outputs / median_seconds(lambda: F.linear(x, weight), SECONDS)


def list_attention(attention: Attention) -> dict[str, Way]:
    """Return by name how attention can be computed."""
    ways: dict[str, Way] = {
        "varlen": (nullcontext(), attention.varlen),
        "varlen, FlashAttention 3": (flash_attention_3(), attention.varlen),
    }
    return ways | {name: (sdpa_kernel(backend), attention.padded) for name, backend in BACKENDS.items()}


def time_attention(attention: Attention, chosen: AbstractContextManager[Any], attend: Callable[[], Tensor]) -> str:
    """Return the rates of both passes as cells of a table, or why there are none."""
    try:
        with chosen:
            out = attend()
            gradient = torch.randn_like(out)
            forward = attention.flop / median_seconds(attend, SECONDS)
            repeat = {"retain_graph": True}
            seconds = median_seconds(lambda: torch.autograd.grad(out, attention.qkv, gradient, **repeat), SECONDS)
    except (RuntimeError, TypeError) as error:
        return f"{str(error).splitlines()[0][:100]} | "
    return f"{forward / 1e12:,.3g} | {BACKWARD * attention.flop / seconds / 1e12:,.3g}"


def describe(boards: int, device: torch.device) -> str:
    """Time everything, and return the result file's text."""
    precision = choose_precision("auto", device)
    rows = boards * LENGTH
    sizes = product_sizes()
    products = {name: time_product(*size, rows, device, precision) / 1e12 for name, size in sizes.items()}
    attention = make_attention(boards, device, precision)
    rates = {name: time_attention(attention, *way) for name, way in list_attention(attention).items()}
    made = versions()
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{processor()}, one thread"
    lines = [
        f"# Kernels of a block: {boards} full boards, {rows:,} positions, {str(precision).removeprefix('torch.')}",
        "",
        "| matrix product | inputs, outputs | TFLOP/s |",
        "|---|---|---|",
        *(
            f"| {name} | {', '.join(map(str, product_sizes()[name]))} | {rate:,.3g} |"
            for name, rate in products.items()
        ),
        "",
        "| attention | TFLOP/s forward | backward |",
        "|---|---|---|",
        *(f"| {name} | {cells} |" for name, cells in rates.items()),
        "",
        f"Medians of {SECONDS} s each. {name}. Commit {made['commit']}, torch {made['torch']}.",
    ]
    return "\n".join(lines) + "\n"


def main(
    boards: Annotated[int | None, typer.Option(help="Full boards  [default: 192 on CUDA, 1 on CPU]", min=1)] = None,
    out: Annotated[Path | None, typer.Option(help="Write the text here too")] = None,
) -> None:
    """Time products and attention, and print a table."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    text = describe(boards or (192 if device.type == "cuda" else 1), device)
    print(text)
    if out:
        out.write_text(text)


if __name__ == "__main__":
    typer.run(main)
