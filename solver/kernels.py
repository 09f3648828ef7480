"""The symbol axis on a CPU: what stands between the matrix products, each in one pass over the rows.

`add_norm`, `gate`, `turn` and `attend_symbols` are functions of tensors with their gradients. On a CPU, in float32 and
float64, they run in numba, which touches each value once where a chain of PyTorch's operations goes through memory for
each of them; elsewhere they are that chain.

Shape letters: T rows, D columns, H heads, K head size, P symbols of an example.
"""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numba import config, njit, prange, set_num_threads
from torch import Tensor

from solver.layers import rms_norm, rotate

FAST = {"reassoc", "contract", "nsz", "arcp"}
BLOCK = 64
"""Rows that a thread takes at once."""


def runs_here(x: Tensor) -> bool:
    """Whether a tensor is one that the kernels are for."""
    return x.device.type == "cpu" and x.dtype in (torch.float32, torch.float64)


def add_norm(x_TD: Tensor, y_TD: Tensor, epsilon: float) -> Tensor:
    """rms_norm(x + y), (T, D)."""
    if not runs_here(x_TD):
        return rms_norm(x_TD + y_TD, epsilon)
    return _AddNorm.apply(x_TD, y_TD, epsilon)  # pyright: ignore[reportReturnType]


def gate(gate_up: Tensor) -> Tensor:
    """silu(gate) * up of (T, 2 D): (T, D)."""
    if not runs_here(gate_up):
        gates, up = gate_up.chunk(2, dim=-1)
        return F.silu(gates) * up
    return _Gate.apply(gate_up)  # pyright: ignore[reportReturnType]


def turn(qkv_TNHK: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Queries and keys turned by the angles of their row (T, 1, 1, K), values as they are: (T, 3, H, K)."""
    if not runs_here(qkv_TNHK):
        qk_TNHK, v_TNHK = qkv_TNHK.split((2, 1), dim=1)
        return torch.cat((rotate(qk_TNHK, cos, sin), v_TNHK), dim=1)
    return _Turn.apply(qkv_TNHK, cos, sin)  # pyright: ignore[reportReturnType]


def attend_symbols(qkv_TNHK: Tensor, groups: np.ndarray) -> Tensor:
    """Softmax attention over the symbols of each cell, (T, H, K).

    groups: int64 (groups, 3), for each the examples, symbols and cells whose rows follow, in this order of nesting.
    """
    return _AttendSymbols.apply(qkv_TNHK, groups)  # pyright: ignore[reportReturnType]


def _use_threads() -> None:
    """As many threads as PyTorch may use."""
    set_num_threads(min(torch.get_num_threads(), config.NUMBA_NUM_THREADS))


class _AddNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, epsilon: float) -> Tensor:
        out, scale = torch.empty_like(x, memory_format=torch.contiguous_format), x.new_empty(len(x))
        _use_threads()
        _add_norm(x.contiguous().numpy(), y.contiguous().numpy(), epsilon, out.numpy(), scale.numpy())
        ctx.save_for_backward(out, scale)
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        out, scale = ctx.saved_tensors
        given = torch.empty_like(out)
        _use_threads()
        _add_norm_back(gradients[0].contiguous().numpy(), out.numpy(), scale.numpy(), given.numpy())
        return given, given, None


@njit(cache=True, parallel=True, fastmath=FAST)
def _add_norm(x, y, epsilon, out, scale):
    columns = x.shape[1]
    for block in prange((len(x) + BLOCK - 1) // BLOCK):
        for row in range(block * BLOCK, min(len(x), (block + 1) * BLOCK)):
            total = x[row, 0] * 0
            for column in range(columns):
                value = x[row, column] + y[row, column]
                out[row, column] = value
                total += value * value
            scale[row] = 1 / np.sqrt(total / columns + epsilon)
            for column in range(columns):
                out[row, column] *= scale[row]


@njit(cache=True, parallel=True, fastmath=FAST)
def _add_norm_back(gradient, out, scale, given):
    columns = out.shape[1]
    for block in prange((len(out) + BLOCK - 1) // BLOCK):
        for row in range(block * BLOCK, min(len(out), (block + 1) * BLOCK)):
            along = out[row, 0] * 0
            for column in range(columns):
                along += gradient[row, column] * out[row, column]
            along /= columns
            for column in range(columns):
                given[row, column] = scale[row] * (gradient[row, column] - along * out[row, column])


class _Gate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gate_up: Tensor) -> Tensor:
        inner = gate_up.shape[1] // 2
        open_TD = gate_up[:, :inner].sigmoid()
        ctx.save_for_backward(gate_up, open_TD)
        return (gate_up[:, :inner] * open_TD).mul_(gate_up[:, inner:])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        gate_up, open_TD = ctx.saved_tensors
        given = torch.empty_like(gate_up)
        _use_threads()
        _gate_back(gradients[0].contiguous().numpy(), gate_up.numpy(), open_TD.numpy(), given.numpy())
        return given


@njit(cache=True, parallel=True, fastmath=FAST)
def _gate_back(gradient, gate_up, opened, given):
    inner = opened.shape[1]
    for block in prange((len(opened) + BLOCK - 1) // BLOCK):
        for row in range(block * BLOCK, min(len(opened), (block + 1) * BLOCK)):
            for column in range(inner):
                value, share = gate_up[row, column], opened[row, column]
                passed = gradient[row, column] * share
                given[row, column] = passed * gate_up[row, inner + column] * (1 + value * (1 - share))
                given[row, inner + column] = passed * value


class _Turn(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, qkv: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        cos, sin = (table.flatten(1).to(qkv.dtype) for table in (cos, sin))
        ctx.save_for_backward(cos, sin)
        return _turned(qkv, cos, sin)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        cos, sin = ctx.saved_tensors
        return _turned(gradients[0], cos, -sin), None, None


def _turned(qkv: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    turned = torch.empty_like(qkv, memory_format=torch.contiguous_format)
    _use_threads()
    _turn(qkv.contiguous().numpy(), cos.numpy(), sin.numpy(), turned.numpy())
    return turned


@njit(cache=True, parallel=True, fastmath=FAST)
def _turn(qkv, cos, sin, turned):
    _, _, heads, size = qkv.shape
    half = size // 2
    for block in prange((len(qkv) + BLOCK - 1) // BLOCK):
        for row in range(block * BLOCK, min(len(qkv), (block + 1) * BLOCK)):
            for part in range(2):
                for head in range(heads):
                    for place in range(half):
                        first, second = qkv[row, part, head, place], qkv[row, part, head, half + place]
                        turned[row, part, head, place] = first * cos[row, place] + second * sin[row, place]
                        turned[row, part, head, half + place] = (
                            second * cos[row, half + place] + first * sin[row, half + place]
                        )
            turned[row, 2] = qkv[row, 2]


class _AttendSymbols(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, qkv: Tensor, groups: np.ndarray) -> Tensor:
        qkv = qkv.contiguous()
        rows, _, heads, size = qkv.shape
        mixed, weights = qkv.new_empty(rows, heads, size), qkv.new_empty(rows, heads, int(groups[:, 1].max(initial=1)))
        examples = _list_examples(groups)
        _use_threads()
        _attend_symbols(qkv.numpy(), examples, size**-0.5, mixed.numpy(), weights.numpy())
        ctx.save_for_backward(qkv, weights)
        ctx.examples = examples
        return mixed

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        qkv, weights = ctx.saved_tensors
        given = torch.empty_like(qkv)
        _use_threads()
        scale = qkv.shape[-1] ** -0.5
        _attend_symbols_back(
            gradients[0].contiguous().numpy(), qkv.numpy(), ctx.examples, scale, weights.numpy(), given.numpy()
        )
        return given, None


def _list_examples(groups: np.ndarray) -> np.ndarray:
    """(examples, 3): first row, symbols and cells of each."""
    symbols, cells = (np.repeat(groups[:, column], groups[:, 0]) for column in (1, 2))
    sizes = symbols * cells
    return np.stack([np.cumsum(sizes) - sizes, symbols, cells], axis=1)


@njit(cache=True, parallel=True, fastmath=FAST)
def _attend_symbols(qkv, examples, scale, mixed, weights):
    _, _, heads, size = qkv.shape
    for example in prange(len(examples)):
        start, symbols, cells = examples[example]
        own = np.empty((3, symbols, size), qkv.dtype)
        scores = np.empty(symbols, qkv.dtype)
        made = np.empty(size, qkv.dtype)
        for cell in range(cells):
            for head in range(heads):
                _gather(qkv, start + cell, cells, head, own)
                for symbol in range(symbols):
                    for other in range(symbols):
                        scores[other] = _dot(own[0, symbol], own[1, other]) * scale
                    _softmax(scores)
                    made[:] = 0
                    for other in range(symbols):
                        _add(made, scores[other], own[2, other])
                    row = start + cell + symbol * cells
                    weights[row, head, :symbols] = scores
                    mixed[row, head] = made


@njit(cache=True, parallel=True, fastmath=FAST)
def _attend_symbols_back(gradient, qkv, examples, scale, weights, given):
    _, _, heads, size = qkv.shape
    for example in prange(len(examples)):
        start, symbols, cells = examples[example]
        own = np.empty((3, symbols, size), qkv.dtype)
        back = np.empty((3, symbols, size), qkv.dtype)
        slopes = np.empty(symbols, qkv.dtype)
        for cell in range(cells):
            for head in range(heads):
                _gather(qkv, start + cell, cells, head, own)
                back[:] = 0
                for symbol in range(symbols):
                    row = start + cell + symbol * cells
                    arrived, shares = gradient[row, head], weights[row, head]
                    mean = slopes[0] * 0
                    for other in range(symbols):
                        slopes[other] = _dot(arrived, own[2, other])
                        mean += slopes[other] * shares[other]
                    for other in range(symbols):
                        slope = shares[other] * (slopes[other] - mean) * scale
                        _add(back[0, symbol], slope, own[1, other])
                        _add(back[1, other], slope, own[0, symbol])
                        _add(back[2, other], shares[other], arrived)
                for symbol in range(symbols):
                    for part in range(3):
                        given[start + cell + symbol * cells, part, head] = back[part, symbol]


@njit(inline="always")
def _gather(qkv, first, step, head, own):
    for symbol in range(own.shape[1]):
        for part in range(3):
            for place in range(own.shape[2]):
                own[part, symbol, place] = qkv[first + symbol * step, part, head, place]


@njit(inline="always")
def _dot(one, other):
    total = one[0] * 0
    for place in range(len(one)):
        total += one[place] * other[place]
    return total


@njit(inline="always")
def _add(into, factor, what):
    for place in range(len(into)):
        into[place] += factor * what[place]


@njit(inline="always")
def _softmax(scores):
    most = scores[0]
    for place in range(1, len(scores)):
        most = max(most, scores[place])
    total = most * 0
    for place in range(len(scores)):
        scores[place] = np.exp(scores[place] - most)
        total += scores[place]
    for place in range(len(scores)):
        scores[place] /= total
