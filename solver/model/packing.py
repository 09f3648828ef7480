"""Packing of ragged batches: rows in use for the layers, and groups of similar length for attention.

Examples have different numbers of cells. Layers that act on each position separately run on the T positions in use
only. Attention pads an example to the longest example of its group; variable-length attention needs no padding.

There are two orders of the positions in use. Rows R are in the order of the examples; latents are carried in this
order. Rows T are in the order of the groups; layers work in this order. With one group the two are the same.

Shape letters: B examples, S positions (ID slots, then cells), R and T positions in use, H heads, K head size.
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


class _PickRows(torch.autograd.Function):
    """Select distinct rows of a tensor.

    Since no row is selected twice, the gradient is a copy. That of torch's own indexing is a slow scattered sum.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, rows_T: Tensor) -> Tensor:
        """Return x[rows_T]."""
        ctx.save_for_backward(rows_T)
        ctx.shape = x.shape
        return x.index_select(0, rows_T)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        """Return the gradient at the selected rows, and zero elsewhere."""
        (rows_T,) = ctx.saved_tensors
        return gradients[0].new_zeros(ctx.shape).index_copy_(0, rows_T, gradients[0]), None


def pick_rows(x: Tensor, rows_T: Tensor) -> Tensor:
    """Return x[rows_T], for rows that are all different."""
    return _PickRows.apply(x, rows_T)  # pyright: ignore[reportReturnType]


@dataclass(frozen=True)
class Padding:
    """The mapping between T packed rows and a padded array of `shape`, (B, S), or with a symbol axis (B, V, C).

    used_T: flat index of the place in use that each row stands for; None when all places are in use, in order
    """

    shape: tuple[int, ...]
    used_T: Tensor | None = None

    def pack(self, x: Tensor) -> Tensor:
        """Convert (*shape, ...) to (T, ...)."""
        rows = x.flatten(0, len(self.shape) - 1)
        return rows if self.used_T is None else pick_rows(rows, self.used_T)

    def unpack(self, x: Tensor, fill: float = 0.0) -> Tensor:
        """Convert (T, ...) to (*shape, ...), with `fill` at unused places."""
        if self.used_T is not None:
            x = x.new_full((math.prod(self.shape), *x.shape[1:]), fill).index_copy_(0, self.used_T, x)
        return x.unflatten(0, self.shape)


def mean_over_positions(values_T: Tensor, padding: Padding) -> Tensor:
    """Average values (T,) over the positions in use of each example: (B,)."""
    both_B2 = padding.unpack(torch.stack((values_T, torch.ones_like(values_T)), dim=-1)).sum(1)
    return both_B2[:, 0] / both_B2[:, 1]


@dataclass(frozen=True)
class Group:
    """Examples of similar length, whose `length` rows are contiguous; they are padded for attention.

    mask: bool (b, 1, 1, s), true where a key may be attended to; None when every key may
    """

    length: int
    padding: Padding
    mask: Tensor | None

    def attend(self, qk_TNHK: Tensor, v_THK: Tensor) -> Tensor:
        """Compute attention within each example of the group: (length, H, K)."""
        q_BSHK, k_BSHK = self.padding.unpack(qk_TNHK).unbind(2)
        q_BHSK, k_BHSK, v_BHSK = (t.transpose(1, 2) for t in (q_BSHK, k_BSHK, self.padding.unpack(v_THK)))
        mixed_BHSK = F.scaled_dot_product_attention(q_BHSK, k_BHSK, v_BHSK, attn_mask=self.mask)
        return self.padding.pack(mixed_BHSK.transpose(1, 2))


@dataclass(frozen=True)
class Layout:
    """The positions of one batch.

    rows: the mapping between rows R and the batch's (B, S)
    carried: the mapping between rows T and rows R
    padding: the mapping between rows T and (B, S); rows of a group are contiguous
    groups: examples that are padded to the same length for attention
    ends: for variable-length attention, the row after each example's last, int32 (B + 1), starting with 0
    longest: positions of the longest example
    cos, sin: rotary tables of the positions in use, (T, 1, 1, K); see `solver.model.layers.rotate`
    starts_B: int64, the row T of each example's first position
    first: bool (T, 1), whether a row is one of these
    """

    rows: Padding
    carried: Padding
    padding: Padding
    groups: tuple[Group, ...]
    ends: Tensor | None
    longest: int
    cos: Tensor
    sin: Tensor
    starts_B: Tensor
    first: Tensor

    def attend(self, qk_TNHK: Tensor, v_THK: Tensor) -> Tensor:
        """Compute attention of every position to all positions in use of its own example: (T, H, K)."""
        if self.ends is not None:
            assert varlen_attn is not None
            q_THK, k_THK = qk_TNHK.unbind(1)
            return varlen_attn(q_THK, k_THK, v_THK, self.ends, self.ends, self.longest, self.longest)  # pyright: ignore[reportReturnType]
        if len(self.groups) == 1:
            return self.groups[0].attend(qk_TNHK, v_THK)
        lengths = [group.length for group in self.groups]
        parts = zip(self.groups, qk_TNHK.split(lengths), v_THK.split(lengths), strict=True)
        return torch.cat([group.attend(qk, v) for group, qk, v in parts])


def make_layout(
    positions_BS: Tensor,
    widths_B: np.ndarray,
    cos: Tensor,
    sin: Tensor,
    varlen: bool = False,
    lengths_B: np.ndarray | None = None,
) -> Layout:
    """Return the layout of a batch.

    Args:
        positions_BS: index of each position in the rotary tables, -1 where it is not in use.
        widths_B: examples with equal values here form one group.
        cos: rotary table of cosines (positions, K).
        sin: rotary table of signed sines (positions, K).
        varlen: attend without padding, with torch's variable-length kernel (CUDA, half precision); without groups.
        lengths_B: positions in use of each example, if they come first in every one; then nothing is read from the
            device. By default they may be anywhere.
    """
    device = positions_BS.device
    rows, lengths_B = rows_in_use(positions_BS >= 0, lengths_B)
    # Variable-length attention needs no groups, so its rows keep the order of the examples.
    order_B = np.arange(len(lengths_B)) if varlen else np.argsort(widths_B, kind="stable")
    borders = np.flatnonzero(np.diff(widths_B[order_B])) + 1
    carried = Padding((int(lengths_B.sum()),))
    if len(borders) and not varlen:
        carried = Padding(carried.shape, consecutive(first_rows(lengths_B)[order_B], lengths_B[order_B], device))
    padding = _compose(rows, carried)
    positions_T = padding.pack(positions_BS)
    angles = cos[positions_T][:, None, None], sin[positions_T][:, None, None]
    ends = torch.from_numpy(np.cumsum([0, *lengths_B], dtype=np.int32)).to(device) if varlen else None
    groups = () if varlen else tuple(_make_group(part, device) for part in np.split(lengths_B[order_B], borders))
    starts_B = torch.from_numpy(first_rows(lengths_B[order_B])[np.argsort(order_B)]).to(device)
    first_T1 = torch.zeros_like(positions_T, dtype=torch.bool).index_fill_(0, starts_B, True)[:, None]
    return Layout(rows, carried, padding, groups, ends, int(lengths_B.max()), *angles, starts_B, first_T1)


def rows_in_use(in_use_BS: Tensor, lengths_B: np.ndarray | None) -> tuple[Padding, np.ndarray]:
    """Return the mapping between rows R and (B, S), and how many rows each example has.

    Args:
        in_use_BS: bool, which positions are in use.
        lengths_B: how many are, if they come first in every example; then nothing is read from the device.
    """
    batch_size, width = in_use_BS.shape
    is_compact = lengths_B is not None
    if lengths_B is None:
        lengths_B = in_use_BS.sum(1).cpu().numpy()
    if (lengths_B == width).all():  # then packing and unpacking are views instead of copies
        return Padding((batch_size, width)), lengths_B
    if is_compact:
        used_R = consecutive(width * np.arange(batch_size), lengths_B, in_use_BS.device)
    else:
        used_R = in_use_BS.flatten().nonzero()[:, 0]
    return Padding((batch_size, width), used_R), lengths_B


def _compose(rows: Padding, carried: Padding) -> Padding:
    """Return the mapping between rows T and (B, S)."""
    if carried.used_T is None:
        return rows
    return Padding(rows.shape, carried.used_T if rows.used_T is None else rows.used_T[carried.used_T])


def first_rows(lengths_B: np.ndarray) -> np.ndarray:
    """Return the first row of each example (B,), where examples of these lengths follow one another."""
    return np.cumsum(lengths_B) - lengths_B


def consecutive(starts_B: np.ndarray, lengths_B: np.ndarray, device: torch.device) -> Tensor:
    """Return the ranges start, start + 1, ..., start + length - 1 of all examples, one after another (R,), int64.

    Nothing is read from the device.
    """
    total = int(lengths_B.sum())
    shifts_2B = torch.from_numpy(np.stack((starts_B - first_rows(lengths_B), lengths_B))).to(device)
    return torch.arange(total, device=device) + shifts_2B[0].repeat_interleave(shifts_2B[1], output_size=total)


def _make_group(lengths: np.ndarray, device: torch.device) -> Group:
    shape = (len(lengths), int(lengths.max()))
    total = int(lengths.sum())
    if total == shape[0] * shape[1]:
        return Group(total, Padding(shape), None)
    used = np.arange(shape[1]) < lengths[:, None]
    rows = torch.from_numpy(np.flatnonzero(used)).to(device)
    return Group(total, Padding(shape, rows), torch.from_numpy(used).to(device)[:, None, None])
