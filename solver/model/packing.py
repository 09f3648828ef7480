"""Where a batch's positions are: packed for the layers, and in groups of similar length for attention.

Examples have different numbers of cells. Layers that look at one position at a time run on the T positions in use only.
Attention pads an example no further than the longest of its group; with varlen attention nothing is padded at all.

Shape letters: B examples, S positions (ID slots, then cells), T positions in use, H heads, K head size.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

try:
    from torch.nn.attention.varlen import varlen_attn
except ImportError:  # torch before 2.10
    varlen_attn = None


class PickRows(torch.autograd.Function):
    """Rows of a tensor, none of them twice, so that the gradient is a copy and not a slow sum."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, rows_T: Tensor) -> Tensor:
        """x[rows_T]."""
        ctx.save_for_backward(rows_T)
        ctx.shape = x.shape
        return x.index_select(0, rows_T)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        """The gradient at the rows picked, zero elsewhere."""
        (rows_T,) = ctx.saved_tensors
        return gradients[0].new_zeros(ctx.shape).index_copy_(0, rows_T, gradients[0]), None


@dataclass(frozen=True)
class Padding:
    """Between T rows and a padded array of `shape`, (B, S), or with a symbol axis (B, V, C).

    used_T: numbers of the places in use, one for each row; None when all are, in order
    """

    shape: tuple[int, ...]
    used_T: Tensor | None = None

    def pack(self, x: Tensor) -> Tensor:
        """(*shape, ...) -> (T, ...)."""
        rows = x.flatten(0, len(self.shape) - 1)
        return rows if self.used_T is None else PickRows.apply(rows, self.used_T)  # pyright: ignore[reportReturnType]

    def unpack(self, x: Tensor, fill: float = 0.0) -> Tensor:
        """(T, ...) -> (*shape, ...), `fill` where a place is not in use."""
        if self.used_T is not None:
            x = x.new_full((math.prod(self.shape), *x.shape[1:]), fill).index_copy_(0, self.used_T, x)
        return x.unflatten(0, self.shape)


@dataclass(frozen=True)
class Group:
    """Examples of similar length, whose rows stand together: `length` rows, padded to attend.

    mask: bool (b, 1, 1, s), true where a key may be attended to, None when everywhere
    """

    length: int
    padding: Padding
    mask: Tensor | None

    def attend(self, qk_TNHK: Tensor, v_THK: Tensor) -> Tensor:
        """Attention within each example of the group: (length, H, K)."""
        q_BSHK, k_BSHK = self.padding.unpack(qk_TNHK).unbind(2)
        q_BHSK, k_BHSK, v_BHSK = (t.transpose(1, 2) for t in (q_BSHK, k_BSHK, self.padding.unpack(v_THK)))
        mixed_BHSK = F.scaled_dot_product_attention(q_BHSK, k_BHSK, v_BHSK, attn_mask=self.mask)
        return self.padding.pack(mixed_BHSK.transpose(1, 2))


@dataclass(frozen=True)
class Layout:
    """The positions of one batch.

    padding: between the T positions in use and the batch's (B, S); examples of a group stand together
    groups: what attends together; ends: for varlen attention, where each example ends, int32 (B + 1), from 0
    longest: positions of the longest example
    cos, sin: rotary angles of the positions in use, (T, 1, 1, K); see `solver.model.layers.rotate`
    first: bool (T, 1), the first position of each example
    """

    padding: Padding
    groups: tuple[Group, ...]
    ends: Tensor | None
    longest: int
    cos: Tensor
    sin: Tensor
    first: Tensor

    def attend(self, qk_TNHK: Tensor, v_THK: Tensor) -> Tensor:
        """Every position looks at all positions in use of its own example: (T, H, K)."""
        if self.ends is not None:
            assert varlen_attn is not None
            q_THK, k_THK = qk_TNHK.unbind(1)
            return varlen_attn(q_THK, k_THK, v_THK, self.ends, self.ends, self.longest, self.longest)  # pyright: ignore[reportReturnType]
        if len(self.groups) == 1:
            return self.groups[0].attend(qk_TNHK, v_THK)
        lengths = [group.length for group in self.groups]
        parts = zip(self.groups, qk_TNHK.split(lengths), v_THK.split(lengths), strict=True)
        return torch.cat([group.attend(qk, v) for group, qk, v in parts])


def make_layout(positions_BS: Tensor, widths_B: np.ndarray, cos: Tensor, sin: Tensor, varlen: bool = False) -> Layout:
    """The layout of a batch.

    Args:
        positions_BS: what place each position has in the rotary tables, -1 where it is not in use.
        widths_B: examples with equal numbers here attend as one group.
        cos: rotary table (positions, K), and `sin` likewise.
        varlen: attend without padding, by torch's kernel for that (CUDA, half precision).
    """
    used_BS = positions_BS >= 0
    lengths_B = used_BS.sum(1).cpu().numpy()
    order_B = np.argsort(widths_B, kind="stable")
    borders = np.flatnonzero(np.diff(widths_B[order_B])) + 1
    groups = tuple(_make_group(lengths, positions_BS.device) for lengths in np.split(lengths_B[order_B], borders))
    used_T = None
    if len(groups) > 1 or not (lengths_B == positions_BS.shape[1]).all():
        order = torch.from_numpy(order_B).to(positions_BS.device)
        numbers_BS = torch.arange(positions_BS.numel(), device=positions_BS.device).view(positions_BS.shape)
        used_T = numbers_BS[order][used_BS[order]]
    padding = Padding((positions_BS.shape[0], positions_BS.shape[1]), used_T)
    positions_T = padding.pack(positions_BS)
    ends = torch.from_numpy(np.cumsum([0, *lengths_B[order_B]], dtype=np.int32)).to(cos.device) if varlen else None
    angles = cos[positions_T][:, None, None], sin[positions_T][:, None, None]
    first_BS = torch.zeros_like(used_BS)
    first_BS[:, 0] = True
    return Layout(padding, groups, ends, int(lengths_B.max()), *angles, padding.pack(first_BS)[:, None])


def _make_group(lengths: np.ndarray, device: torch.device) -> Group:
    shape = (len(lengths), int(lengths.max()))
    total = int(lengths.sum())
    if total == shape[0] * shape[1]:
        return Group(total, Padding(shape), None)
    used = torch.from_numpy(np.arange(shape[1]) < lengths[:, None]).to(device)
    return Group(total, Padding(shape, used.flatten().nonzero()[:, 0]), used[:, None, None])
