"""The symbol axis on a CPU: what stands between the linear layers, with fewer passes over memory and gradients by hand.

`add_norm`, `gate` and `attend` are functions of tensors. On a CPU, in float32 and float64, they go through memory once
where a chain of PyTorch's operations does so for each of them, and copy nothing that is cut out or put together.
Elsewhere, and inside of `torch.compile`, their callers run that chain (see `fits`). Loops run on one thread, matrix
products on PyTorch's, and results are the same bits for any number. RuntimeError where a gradient of a gradient is
asked for.

Shape letters: T rows, D columns, N parts (query, key and value, or one), H heads, K head size, R sequences x heads of
a block, L length of its sequences.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from solver.model import symbol_loops as loops

KEPT_LENGTH = 128
"""Attention of longer sequences is computed again for the gradient, and not kept."""

BLOCK_SCORES = 2**20
"""So many scores are computed at once for each head, or those of one sequence where it has more."""


Angles = tuple[Tensor, Tensor]
"""Cosines and signed sines of each row, (T, 1, 1, K)."""


def fits(x: Tensor) -> bool:
    """Whether a tensor is one that these functions are for."""
    here = x.device.type == "cpu" and x.dtype in (torch.float32, torch.float64)
    return here and not torch.compiler.is_compiling()


def add_norm(x_TD: Tensor, y_TD: Tensor, epsilon: float) -> Tensor:
    """`solver.model.layers.rms_norm` of x + y: (T, D)."""
    return _AddNorm.apply(x_TD, y_TD, epsilon)  # pyright: ignore[reportReturnType]


def gate(gate_up: Tensor) -> Tensor:
    """silu(gate) * up of (T, 2 D), whose first half is the gate: (T, D)."""
    return _Gate.apply(gate_up)  # pyright: ignore[reportReturnType]


@dataclass(frozen=True)
class Sequences:
    """Which rows attend to one another.

    rows_T: int64, the rows of one sequence after those of another, each row once
    blocks: int64 (blocks, 2), how many sequences of which length follow
    """

    rows_T: np.ndarray
    blocks: np.ndarray


def make_sequences(parts: list[np.ndarray]) -> Sequences:
    """Of arrays of rows, each (sequences, length): in blocks of equal length with at most BLOCK_SCORES scores."""
    rows = []
    blocks = []
    for length in sorted({part.shape[1] for part in parts}):
        same = np.concatenate([part for part in parts if part.shape[1] == length])
        most = max(1, BLOCK_SCORES // length**2)
        blocks += [(len(same[start : start + most]), length) for start in range(0, len(same), most)]
        rows.append(same.ravel())
    return Sequences(np.concatenate(rows), np.array(blocks))


def attend(qkv_TNHK: Tensor, sequences: Sequences, angles: Angles | None = None) -> Tensor:
    """Softmax attention of every row to all rows of its sequence: (T, H, K).

    angles: cos and sin (T, 1, 1, K) by which queries and keys are turned before; see `solver.model.layers.rotate`.
    """
    return _Attend.apply(qkv_TNHK, sequences, angles)  # pyright: ignore[reportReturnType]


def _refuse_second_gradient() -> None:
    if torch.is_grad_enabled():
        raise RuntimeError("solver.model.symbol_kernels: no gradients of gradients; leave create_graph off")


class _AddNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, epsilon: float) -> Tensor:
        out = torch.empty_like(x, memory_format=torch.contiguous_format)
        scale = x.new_empty(len(x))
        loops.add_norm(x.contiguous().numpy(), y.contiguous().numpy(), epsilon, out.numpy(), scale.numpy())
        ctx.save_for_backward(out, scale)
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        _refuse_second_gradient()
        out, scale = ctx.saved_tensors
        given = torch.empty_like(out)
        loops.add_norm_back(gradients[0].contiguous().numpy(), out.numpy(), scale.numpy(), given.numpy())
        return given, given, None


class _Gate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gate_up: Tensor) -> Tensor:
        gate_up = gate_up.contiguous()
        open_TD = gate_up[:, : gate_up.shape[1] // 2].neg().exp_()  # PyTorch's sigmoid has other bits on more threads
        out = torch.empty_like(open_TD)
        loops.gate(gate_up.numpy(), open_TD.numpy(), out.numpy())
        ctx.save_for_backward(gate_up, open_TD)
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        _refuse_second_gradient()
        gate_up, open_TD = ctx.saved_tensors
        given = torch.empty_like(gate_up)
        loops.gate_back(gradients[0].contiguous().numpy(), gate_up.numpy(), open_TD.numpy(), given.numpy())
        return given


class _Attend(torch.autograd.Function):
    """Rows are laid out so that a block is a batch of matrices for each of query, key and value, and back after it."""

    @staticmethod
    def forward(ctx: Any, qkv: Tensor, sequences: Sequences, angles: Angles | None) -> Tensor:
        heads, size = qkv.shape[2:]
        laid = _lay_out(qkv, sequences, angles)
        mixed = qkv.new_empty(len(qkv) * heads * size)
        weights = []
        blocks = zip(_cut(laid, 3, heads, sequences), _cut(mixed, 1, heads, sequences), strict=True)
        for (q_RLK, k_RLK, v_RLK), (mixed_RLK,) in blocks:
            weights_RLL = _weigh(q_RLK, k_RLK)
            torch.bmm(weights_RLL, v_RLK, out=mixed_RLK)
            weights.append(weights_RLL if ctx.needs_input_grad[0] and q_RLK.shape[1] <= KEPT_LENGTH else None)
        ctx.sequences = sequences
        ctx.angles = angles
        ctx.shape = qkv.shape
        ctx.save_for_backward(laid, *weights)
        return _put_back(mixed, (len(qkv), 1, heads, size), sequences)[:, 0]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        _refuse_second_gradient()
        laid, *weights = ctx.saved_tensors
        arrived = _lay_out(gradients[0][:, None], ctx.sequences)
        given = torch.empty_like(laid)
        cuts = (_cut(x, parts, ctx.shape[2], ctx.sequences) for x, parts in ((laid, 3), (given, 3), (arrived, 1)))
        for qkv_NRLK, given_NRLK, (arrived_RLK,), weights_RLL in zip(*cuts, weights, strict=True):
            _attend_back(qkv_NRLK, weights_RLL, arrived_RLK, given_NRLK)
        return _put_back(given, ctx.shape, ctx.sequences, ctx.angles), None, None


def _weigh(q_RLK: Tensor, k_RLK: Tensor) -> Tensor:
    """softmax(q k' / sqrt(K)), in steps: PyTorch's own softmax is slow where its axis is short."""
    scores_RLL = q_RLK.new_empty(*q_RLK.shape[:2], k_RLK.shape[1])
    scores_RLL.baddbmm_(q_RLK, k_RLK.mT, beta=0, alpha=q_RLK.shape[-1] ** -0.5)
    weights_RLL = scores_RLL.sub_(scores_RLL.amax(-1, keepdim=True)).exp_()
    return weights_RLL.div_(weights_RLL.sum(-1, keepdim=True))


def _attend_back(qkv_NRLK: Tensor, weights_RLL: Tensor | None, arrived_RLK: Tensor, given_NRLK: Tensor) -> None:
    """The gradient of a block, written to `given_NRLK`."""
    q_RLK, k_RLK, v_RLK = qkv_NRLK
    if weights_RLL is None:
        weights_RLL = _weigh(q_RLK, k_RLK)
    torch.bmm(weights_RLL.mT, arrived_RLK, out=given_NRLK[2])
    slopes_RLL = torch.bmm(arrived_RLK, v_RLK.mT)
    slopes_RLL.sub_((slopes_RLL * weights_RLL).sum(-1, keepdim=True)).mul_(weights_RLL)
    scale = q_RLK.shape[-1] ** -0.5
    given_NRLK[0].baddbmm_(slopes_RLL, k_RLK, beta=0, alpha=scale)
    given_NRLK[1].baddbmm_(slopes_RLL.mT, q_RLK, beta=0, alpha=scale)


def _cut(laid: Tensor, parts: int, heads: int, sequences: Sequences) -> Iterator[Tensor]:
    """The blocks of what `_lay_out` made, each (N, R, L, K)."""
    of_row = len(laid) // len(sequences.rows_T)
    counts = (sequences.blocks.prod(axis=1) * of_row).tolist()
    for block, (count, length) in zip(laid.split(counts), sequences.blocks.tolist(), strict=True):
        yield block.view(parts, count * heads, length, -1)


def _lay_out(x_TNHK: Tensor, sequences: Sequences, angles: Angles | None = None) -> Tensor:
    """The rows, turned where there are angles, block by block as (N, R, L, K), all in one axis."""
    x_TNHK, laid = x_TNHK.contiguous(), x_TNHK.new_empty(x_TNHK.numel())
    loops.gather(x_TNHK.numpy(), sequences.rows_T, sequences.blocks, *_tables(x_TNHK, angles), laid.numpy())
    return laid


def _put_back(laid: Tensor, shape: Any, sequences: Sequences, angles: Angles | None = None) -> Tensor:
    """The inverse of `_lay_out`, by angles of the other sign: (T, N, H, K)."""
    x_TNHK = laid.new_empty(shape)
    tables = _tables(x_TNHK, None if angles is None else (angles[0], -angles[1]))
    loops.scatter(laid.numpy(), sequences.rows_T, sequences.blocks, *tables, x_TNHK.numpy())
    return x_TNHK


def _tables(x_TNHK: Tensor, angles: Angles | None) -> tuple[np.ndarray, np.ndarray, tuple[int, ...]]:
    """Cosines and sines (T, K), of no rows without angles, and a tuple whose length tells the compiler K / 2."""
    size = x_TNHK.shape[-1]
    tables = (x_TNHK.new_empty(0, size),) * 2 if angles is None else angles
    cos_TK, sin_TK = (table.flatten(1).to(x_TNHK.dtype).contiguous().numpy() for table in tables)
    return cos_TK, sin_TK, (0,) * (size // 2)
