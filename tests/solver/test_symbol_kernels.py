"""The kernels against the chains of PyTorch operations that they replace: results, gradients, threads, support."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.testing import assert_close

from solver.data.batch import Batch
from solver.model import symbol_kernels as kernels
from solver.model.layers import rms_norm, rotary_tables, rotate
from solver.model.symbol_axis import SymbolBlock, SymbolLayout, make_symbol_layout
from tests.helpers.symbol_model import CONFIG as SYMBOL_CONFIG

HEADS = 2
SIZE = 12
SIDE = 9
EPSILON = 1e-5


def make_layout() -> SymbolLayout:
    """The layout of six examples, with several combinations of numbers of symbols and cells."""
    cells_B = [1, 9, 4, 9, 4, 6]
    symbols_B = [3, 5, 5, 5, 12, 3]
    cells_BC = torch.arange(SIDE).expand(6, SIDE).clone()
    cells_BC[cells_BC >= torch.tensor(cells_B)[:, None]] = -1
    symbols_BV = torch.arange(12) < torch.tensor(symbols_B)[:, None]
    cos, sin = rotary_tables(SIDE, SIZE, 30.0)
    batch = Batch(cells_BC, cells_BC, cells_BC, cells_BC[:, 0], symbols_BV=symbols_BV)
    return make_symbol_layout(batch, cos.double(), sin.double())


LAYOUT = make_layout()
ROWS = sum(group.length for group in LAYOUT.groups)


def draw(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_()


def plain_gate(gate_up: Tensor) -> Tensor:
    gates, up = gate_up.chunk(2, dim=-1)
    return F.silu(gates) * up


def plain_attention_over_cells(qkv_TNHK: Tensor) -> Tensor:
    qk_TNHK, v_TNHK = qkv_TNHK.split((2, 1), dim=1)
    return LAYOUT.attend_cells(rotate(qk_TNHK, LAYOUT.cos, LAYOUT.sin), v_TNHK.squeeze(1))


def attention_over_cells(qkv_TNHK: Tensor) -> Tensor:
    return kernels.attend(qkv_TNHK, LAYOUT.over_cells, (LAYOUT.cos, LAYOUT.sin))


def attention_over_symbols(qkv_TNHK: Tensor) -> Tensor:
    return kernels.attend(qkv_TNHK, LAYOUT.over_symbols)


QKV = (ROWS, 3, HEADS, SIZE)
PAIRS = {
    "add_norm": (
        lambda x, y: kernels.add_norm(x, y, EPSILON),
        lambda x, y: rms_norm(x + y, EPSILON),
        [(50, 24), (50, 24)],
    ),
    "gate": (kernels.gate, plain_gate, [(1001, 202)]),
    "attention over cells": (attention_over_cells, plain_attention_over_cells, [QKV]),
    "attention over symbols": (attention_over_symbols, LAYOUT.attend_symbols, [QKV]),
}
Function = Callable[..., Tensor]


def with_gradients(function: Function, inputs: list[Tensor]) -> list[Tensor]:
    result = function(*inputs)
    arriving = torch.linspace(-1, 2, result.numel(), dtype=result.dtype).view_as(result)
    return [result, *torch.autograd.grad(result, inputs, arriving)]


@pytest.mark.parametrize("name", PAIRS)
def test_a_kernel_gives_what_the_chain_gives(name: str) -> None:
    kernel, chain, shapes = PAIRS[name]
    inputs = [draw(*shape, seed=seed) for seed, shape in enumerate(shapes)]
    assert_close(with_gradients(kernel, inputs), with_gradients(chain, inputs), atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("name", PAIRS)
def test_inputs_and_gradients_need_not_be_contiguous(name: str) -> None:
    kernel, _, shapes = PAIRS[name]
    inputs = [draw(*shape, seed=seed) for seed, shape in enumerate(shapes)]
    strided = [x.detach().transpose(0, 1).contiguous().transpose(0, 1).requires_grad_() for x in inputs]
    assert not strided[0].is_contiguous()

    def transposed(*args: Tensor) -> Tensor:
        return kernel(*args).transpose(0, 1).contiguous().transpose(0, 1)

    assert_close(with_gradients(transposed, strided), with_gradients(kernel, inputs), atol=0, rtol=0)


def test_gradients_are_those_of_differences() -> None:
    assert torch.autograd.gradcheck(lambda x, y: kernels.add_norm(x, y, EPSILON), (draw(3, 8), draw(3, 8, seed=1)))
    assert torch.autograd.gradcheck(kernels.gate, draw(3, 8))
    qkv_TNHK = draw(*QKV)
    assert torch.autograd.gradcheck(attention_over_cells, qkv_TNHK, fast_mode=True)
    assert torch.autograd.gradcheck(attention_over_symbols, qkv_TNHK, fast_mode=True)


def test_small_blocks_and_weights_computed_again_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = [draw(*QKV)]
    whole = with_gradients(attention_over_cells, inputs)
    monkeypatch.setattr(kernels, "BLOCK_SCORES", 100)
    monkeypatch.setattr(kernels, "KEPT_LENGTH", 5)
    small_blocks = replace(LAYOUT).over_cells
    assert len(small_blocks.blocks) > len(LAYOUT.over_cells.blocks)
    in_parts = with_gradients(lambda qkv: kernels.attend(qkv, small_blocks, (LAYOUT.cos, LAYOUT.sin)), inputs)
    assert_close(in_parts, whole, atol=1e-14, rtol=1e-14)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", PAIRS)
def test_the_number_of_threads_changes_no_bit(name: str, dtype: torch.dtype) -> None:
    kernel, _, shapes = PAIRS[name]
    inputs = [draw(*shape, seed=seed).detach().to(dtype).requires_grad_() for seed, shape in enumerate(shapes)]
    before = torch.get_num_threads()
    results = []
    for threads in (1, 2, 1):
        torch.set_num_threads(threads)
        results.append(with_gradients(kernel, inputs))
    torch.set_num_threads(before)
    assert_close(results[0], results[1], atol=0, rtol=0)
    assert_close(results[0], results[2], atol=0, rtol=0)


def test_a_gradient_of_a_gradient_is_refused() -> None:
    x = draw(3, 8)
    with pytest.raises(RuntimeError, match="no gradients of gradients"):
        torch.autograd.grad(kernels.gate(x).sum(), x, create_graph=True)


def test_they_fit_full_precision_on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    assert kernels.fits(torch.zeros(1))
    assert kernels.fits(torch.zeros(1, dtype=torch.float64))
    assert not kernels.fits(torch.zeros(1, dtype=torch.bfloat16))
    assert not kernels.fits(torch.zeros(1, device="meta"))
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    assert not kernels.fits(torch.zeros(1))


def test_a_block_is_the_same_without_them(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    config = replace(SYMBOL_CONFIG, hidden=HEADS * SIZE, heads=HEADS, symbol_heads=3)
    block = SymbolBlock(config).double()
    x_TD = draw(ROWS, HEADS * SIZE)
    factors_2TD = 1.5 * (draw(2, ROWS, HEADS * SIZE, seed=1).detach() > 0)
    inputs = [x_TD, *block.parameters()]
    results = []
    for fits in (kernels.fits, lambda _: False):
        monkeypatch.setattr(kernels, "fits", fits)
        results.append(with_gradients(lambda x, *_: block(x, LAYOUT, factors_2TD), inputs))
    assert_close(results[0], results[1], atol=1e-11, rtol=1e-11)
