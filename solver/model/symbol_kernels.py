"""Fused CPU operations of the symbol axis, with hand-written gradients: norm, gate and attention.

`add_norm`, `gate` and `attend` are functions of tensors, for a CPU and float32 or float64. They pass over memory once,
where a chain of PyTorch operations passes over it once per operation, and they avoid copies for splitting and joining.
On other devices and inside `torch.compile`, the callers run that chain instead (see `fits`). The loops run on one
thread and the matrix products on PyTorch's threads; the results are bitwise equal for any number of threads. A
gradient of a gradient raises RuntimeError.

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
"""Longest sequences whose attention weights are stored; those of longer ones are recomputed in the backward pass."""

BLOCK_SCORES = 2**20
"""Most attention scores per head that are computed at once; a block has at least one sequence, even if it has more."""


Angles = tuple[Tensor, Tensor]
"""Cosines and signed sines of each row, (T, 1, 1, K)."""


def fits(x: Tensor) -> bool:
    """Return whether these functions support a tensor here: on a CPU, float32 or float64, not being compiled."""
    is_supported = x.device.type == "cpu" and x.dtype in (torch.float32, torch.float64)
    return is_supported and not torch.compiler.is_compiling()


def add_norm(x_TD: Tensor, y_TD: Tensor, epsilon: float) -> Tensor:
    """Return `solver.model.layers.rms_norm` of x + y: (T, D)."""
    return _AddNorm.apply(x_TD, y_TD, epsilon)  # pyright: ignore[reportReturnType]


def gate(gate_up: Tensor) -> Tensor:
    """Return silu(gate) * up, (T, D), from (T, 2 D) whose first half is the gate."""
    return _Gate.apply(gate_up)  # pyright: ignore[reportReturnType]


@dataclass(frozen=True)
class Sequences:
    """The sequences of rows that attend to one another.

    rows_T: int64, the rows of all sequences, one sequence after another, each row once
    blocks: int64 (blocks, 2), number and length of the sequences of each block of `rows_T`
    """

    rows_T: np.ndarray
    blocks: np.ndarray


def make_sequences(parts: list[np.ndarray]) -> Sequences:
    """Join arrays of rows, each (sequences, length), in blocks of equal length with at most BLOCK_SCORES scores."""
    rows = []
    blocks = []
    for length in sorted({part.shape[1] for part in parts}):
        sequences = np.concatenate([part for part in parts if part.shape[1] == length])
        most = max(1, BLOCK_SCORES // length**2)
        blocks += [(len(sequences[start : start + most]), length) for start in range(0, len(sequences), most)]
        rows.append(sequences.ravel())
    return Sequences(np.concatenate(rows), np.array(blocks))


def attend(qkv_TNHK: Tensor, sequences: Sequences, angles: Angles | None = None) -> Tensor:
    """Compute softmax attention of every row to all rows of its sequence: (T, H, K).

    angles: cos and sin (T, 1, 1, K) that rotate queries and keys first; see `solver.model.layers.rotate`.
    """
    return _Attend.apply(qkv_TNHK, sequences, angles)  # pyright: ignore[reportReturnType]


def _refuse_second_gradient() -> None:
    if torch.is_grad_enabled():
        raise RuntimeError(
            "solver.model.symbol_kernels: no gradients of gradients are implemented; call backward without create_graph"
        )


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
        x_gradient = torch.empty_like(out)
        loops.add_norm_back(gradients[0].contiguous().numpy(), out.numpy(), scale.numpy(), x_gradient.numpy())
        return x_gradient, x_gradient, None


class _Gate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gate_up: Tensor) -> Tensor:
        gate_up = gate_up.contiguous()
        # Not PyTorch's sigmoid, whose bits depend on the number of threads.
        open_TD = gate_up[:, : gate_up.shape[1] // 2].neg().exp_()
        out = torch.empty_like(open_TD)
        loops.gate(gate_up.numpy(), open_TD.numpy(), out.numpy())
        ctx.save_for_backward(gate_up, open_TD)
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        _refuse_second_gradient()
        gate_up, open_TD = ctx.saved_tensors
        gate_up_gradient = torch.empty_like(gate_up)
        loops.gate_back(gradients[0].contiguous().numpy(), gate_up.numpy(), open_TD.numpy(), gate_up_gradient.numpy())
        return gate_up_gradient


class _Attend(torch.autograd.Function):
    """Attention block by block: each block is a batch of matrices for each of query, key and value.

    Rows are copied to this layout before and back after it (`_lay_out`, `_put_back`).
    """

    @staticmethod
    def forward(ctx: Any, qkv: Tensor, sequences: Sequences, angles: Angles | None) -> Tensor:
        heads, size = qkv.shape[2:]
        qkv_blocks = _lay_out(qkv, sequences, angles)
        mixed = qkv.new_empty(len(qkv) * heads * size)
        weights = []
        blocks = zip(_cut(qkv_blocks, 3, heads, sequences), _cut(mixed, 1, heads, sequences), strict=True)
        for (q_RLK, k_RLK, v_RLK), (mixed_RLK,) in blocks:
            weights_RLL = _weigh(q_RLK, k_RLK)
            torch.bmm(weights_RLL, v_RLK, out=mixed_RLK)
            weights.append(weights_RLL if ctx.needs_input_grad[0] and q_RLK.shape[1] <= KEPT_LENGTH else None)
        ctx.sequences = sequences
        ctx.angles = angles
        ctx.shape = qkv.shape
        ctx.save_for_backward(qkv_blocks, *weights)
        return _put_back(mixed, (len(qkv), 1, heads, size), sequences)[:, 0]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        _refuse_second_gradient()
        qkv_blocks, *weights = ctx.saved_tensors
        output_gradient = _lay_out(gradients[0][:, None], ctx.sequences)
        qkv_gradient = torch.empty_like(qkv_blocks)
        arrays = (qkv_blocks, 3), (qkv_gradient, 3), (output_gradient, 1)
        cuts = (_cut(x, parts, ctx.shape[2], ctx.sequences) for x, parts in arrays)
        for qkv_NRLK, gradient_NRLK, (output_RLK,), weights_RLL in zip(*cuts, weights, strict=True):
            _attend_back(qkv_NRLK, weights_RLL, output_RLK, gradient_NRLK)
        return _put_back(qkv_gradient, ctx.shape, ctx.sequences, ctx.angles), None, None


def _weigh(q_RLK: Tensor, k_RLK: Tensor) -> Tensor:
    """Return softmax(q k' / sqrt(K)), (R, L, L).

    It is computed in single operations because PyTorch's own softmax is slow along a short axis.
    """
    scores_RLL = q_RLK.new_empty(*q_RLK.shape[:2], k_RLK.shape[1])
    scores_RLL.baddbmm_(q_RLK, k_RLK.mT, beta=0, alpha=q_RLK.shape[-1] ** -0.5)
    weights_RLL = scores_RLL.sub_(scores_RLL.amax(-1, keepdim=True)).exp_()
    return weights_RLL.div_(weights_RLL.sum(-1, keepdim=True))


def _attend_back(qkv_NRLK: Tensor, weights_RLL: Tensor | None, output_RLK: Tensor, gradient_NRLK: Tensor) -> None:
    """Write the gradient of a block to `gradient_NRLK`; `output_RLK` is the gradient of the block's output."""
    q_RLK, k_RLK, v_RLK = qkv_NRLK
    if weights_RLL is None:
        weights_RLL = _weigh(q_RLK, k_RLK)
    torch.bmm(weights_RLL.mT, output_RLK, out=gradient_NRLK[2])
    slopes_RLL = torch.bmm(output_RLK, v_RLK.mT)
    slopes_RLL.sub_((slopes_RLL * weights_RLL).sum(-1, keepdim=True)).mul_(weights_RLL)
    scale = q_RLK.shape[-1] ** -0.5
    gradient_NRLK[0].baddbmm_(slopes_RLL, k_RLK, beta=0, alpha=scale)
    gradient_NRLK[1].baddbmm_(slopes_RLL.mT, q_RLK, beta=0, alpha=scale)


def _cut(values: Tensor, parts: int, heads: int, sequences: Sequences) -> Iterator[Tensor]:
    """Yield the blocks of a result of `_lay_out` as views, each (N, R, L, K)."""
    row_size = len(values) // len(sequences.rows_T)
    counts = (sequences.blocks.prod(axis=1) * row_size).tolist()
    for block, (count, length) in zip(values.split(counts), sequences.blocks.tolist(), strict=True):
        yield block.view(parts, count * heads, length, -1)


def _lay_out(x_TNHK: Tensor, sequences: Sequences, angles: Angles | None = None) -> Tensor:
    """Copy the rows, rotated if there are angles, to blocks (N, R, L, K), flattened and joined along one axis."""
    x_TNHK = x_TNHK.contiguous()
    values = x_TNHK.new_empty(x_TNHK.numel())
    loops.gather(x_TNHK.numpy(), sequences.rows_T, sequences.blocks, *_tables(x_TNHK, angles), values.numpy())
    return values


def _put_back(values: Tensor, shape: Any, sequences: Sequences, angles: Angles | None = None) -> Tensor:
    """Invert `_lay_out`, with a rotation by the opposite angles: (T, N, H, K)."""
    x_TNHK = values.new_empty(shape)
    tables = _tables(x_TNHK, None if angles is None else (angles[0], -angles[1]))
    loops.scatter(values.numpy(), sequences.rows_T, sequences.blocks, *tables, x_TNHK.numpy())
    return x_TNHK


def _tables(x_TNHK: Tensor, angles: Angles | None) -> tuple[np.ndarray, np.ndarray, tuple[int, ...]]:
    """Return cosines and sines (T, K), without rows if there are no angles, and a tuple of K / 2 zeros.

    The length of the tuple is part of its type, so it tells the compiler the length of the inner loop.
    """
    size = x_TNHK.shape[-1]
    tables = (x_TNHK.new_empty(0, size),) * 2 if angles is None else angles
    cos_TK, sin_TK = (table.flatten(1).to(x_TNHK.dtype).contiguous().numpy() for table in tables)
    return cos_TK, sin_TK, (0,) * (size // 2)
