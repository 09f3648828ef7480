"""The layers of the network: initialisation, RMS norm, rotary positions, attention, SwiGLU, block.

A block maps (T, D) to (T, D), one row per position in use; the layout gives the position of each row. The numerics are
those of the published TRM.

Shape letters: T positions in use, B examples, S positions (ID slots, then cells), D hidden, H heads, K head
size, N the three of query, key and value.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from solver.model.config import ModelConfig
from solver.model.dropout import drop
from solver.model.packing import Layout

TRUNCATED_STD = 0.8796256610342398
"""Standard deviation of a unit normal truncated at +-2."""


@torch.no_grad()
def truncated_normal_(tensor: Tensor, std: float) -> Tensor:
    """Fill `tensor` from a normal truncated at two of its own sigmas, such that the resulting deviation is `std`."""
    inner = std / TRUNCATED_STD
    return nn.init.trunc_normal_(tensor, std=inner, a=-2 * inner, b=2 * inner)


class Linear(nn.Linear):
    """A linear layer without bias that computes in its input's precision; weights start at deviation 1/sqrt(inputs).

    cast: the weight in the input's precision, for passes without gradient (`solver.model.networks.cast_weights`)
    """

    cast: Tensor | None = None

    def __init__(self, inputs: int, outputs: int):
        super().__init__(inputs, outputs, bias=False)
        truncated_normal_(self.weight, inputs**-0.5)

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102
        weight = self.weight if self.cast is None or torch.is_grad_enabled() else self.cast
        return F.linear(x, weight.to(x.dtype))


class _LookUp(torch.autograd.Function):
    """Select rows of a small table by number, many times each.

    The gradient is a product with a one-hot matrix, which sums in float32 whatever the precision. Torch's own sums in
    half precision on the CPU, where one more summand among thousands is rounded away.
    """

    @staticmethod
    def forward(ctx: Any, numbers: Tensor, table_VD: Tensor) -> Tensor:
        ctx.save_for_backward(numbers)
        ctx.rows = len(table_VD)
        return F.embedding(numbers, table_VD)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, Tensor]:
        (numbers,) = ctx.saved_tensors
        gradient_TD = gradients[0].flatten(0, -2)
        one_hot_TV = gradient_TD.new_zeros(len(gradient_TD), ctx.rows).scatter_(1, numbers.flatten()[:, None], 1.0)
        return None, one_hot_TV.T @ gradient_TD


def look_up(numbers: Tensor, table_VD: Tensor) -> Tensor:
    """Return the rows (..., D) of a small table with these numbers (...)."""
    return _LookUp.apply(numbers, table_VD)  # pyright: ignore[reportReturnType]


def rms_norm(x: Tensor, epsilon: float) -> Tensor:
    """Divide by the root mean square over the last axis, computed in float32 or wider, without learnt weights."""
    x32 = x.to(torch.promote_types(x.dtype, torch.float32))
    scale = torch.rsqrt(x32.square().mean(-1, keepdim=True) + epsilon)
    return (x32 * scale).to(x.dtype)


def rotary_tables(length: int, head_size: int, theta: float) -> tuple[Tensor, Tensor]:
    """Return cosines and signed sines of positions 0..length-1, (length, head_size), float32 (RoFormer, eq. 34).

    The first half of the sines is negated, so that the rotation is x * cos + swap_halves(x) * sin.
    """
    frequencies = 1.0 / theta ** (torch.arange(0, head_size, 2, dtype=torch.float32) / head_size)
    return _cos_and_signed_sin(torch.outer(torch.arange(length, dtype=torch.float32), frequencies))


def rotary_tables_2d(slots: int, side: int, head_size: int, theta: float) -> tuple[Tensor, Tensor]:
    """Return the tables of `slots` ID slots, then of a board's cells, (slots + side x side, head_size), float32.

    The frequencies are every other one of `rotary_tables`; each rotates one pair of channels by the cell's row and
    another pair by its column (SE-RRM, 2603.02193). The ID slots are placed in a row above the board.
    """
    frequencies = 1.0 / theta ** (torch.arange(0, head_size, 4, dtype=torch.float32) / head_size)
    cells = torch.arange(side * side)
    line = torch.arange(slots)
    rows = torch.cat((torch.full((slots,), -1), cells // side)).float()
    columns = torch.cat((line, cells % side)).float()
    return _cos_and_signed_sin(torch.cat((torch.outer(rows, frequencies), torch.outer(columns, frequencies)), dim=-1))


def _cos_and_signed_sin(angles: Tensor) -> tuple[Tensor, Tensor]:
    """Return cosines and signed sines, each twice as wide as the angles."""
    return angles.cos().repeat(1, 2), torch.cat((-angles.sin(), angles.sin()), dim=-1)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate each pair (x[i], x[i + K/2]) of the last axis by its position's angle, in the precision of the angles."""
    return (x * cos + x.roll(x.shape[-1] // 2, -1) * sin).to(x.dtype)


def inner_size(size: int, expansion: float, multiple: int = 256) -> int:
    """Return two thirds of expansion x size, rounded up to a multiple of `multiple`; 256 is the published value."""
    return math.ceil(round(expansion * size * 2 / 3) / multiple) * multiple


class SwiGLU(nn.Module):
    """down(silu(gate) * up) over the last axis (Shazeer 2020).

    Args:
        inputs: size of the last axis of the input.
        expansion: see `inner_size`.
        multiple: see `inner_size`.
        outputs: size of the last axis of the output; None: as the input's.
        size: the size that the inner size is computed from; None: `inputs`.
    """

    def __init__(
        self, inputs: int, expansion: float, multiple: int, outputs: int | None = None, size: int | None = None
    ):
        super().__init__()
        inner = inner_size(size or inputs, expansion, multiple)
        self.gate_up = Linear(inputs, 2 * inner)
        self.down = Linear(inner, outputs or inputs)

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., inputs) to (..., outputs)."""
        gate, up = self.gate_up(x).chunk(2, dim=-1)
        return self.down(F.silu(gate) * up)


class ConvSwiGLU(SwiGLU):
    """down(silu(conv(silu(gate) * up))): each channel also sees the position before its own (URM, section 3.2).

    The convolution is depthwise, has 2 taps and a bias, and is padded with zero before an example's first position.
    """

    TAPS = 2

    def __init__(self, size: int, expansion: float, multiple: int):
        super().__init__(size, expansion, multiple)
        inner = self.down.in_features
        bound = self.TAPS**-0.5
        self.conv = nn.Parameter(torch.empty(inner, 1, self.TAPS).uniform_(-bound, bound))
        self.conv_bias = nn.Parameter(torch.empty(inner).uniform_(-bound, bound))

    def forward(self, x_TD: Tensor, first_T1: Tensor) -> Tensor:
        """Map (T, D) to (T, D); first_T1 is 1 at the first position of each example, else 0."""
        gate, up = self.gate_up(x_TD).chunk(2, dim=-1)
        gated = F.silu(gate) * up
        # Packed rows of different examples are adjacent, so the shift must not cross an example's first position.
        before = F.pad(gated, (0, 0, 1, 0))[:-1] * (1 - first_T1.to(gated.dtype))
        earlier, own = self.conv.to(gated.dtype)[:, 0].unbind(-1)
        return self.down(F.silu(earlier * before + own * gated + self.conv_bias.to(gated.dtype)))


class Attention(nn.Module):
    """Projections of self-attention without bias; rows of `qkv` are all heads' queries, then keys, then values.

    size: the size of a head; None: hidden / heads
    """

    def __init__(self, hidden: int, heads: int, size: int | None = None):
        super().__init__()
        self.heads = heads
        inner = heads * size if size else hidden
        self.qkv = Linear(hidden, 3 * inner)
        self.out = Linear(inner, hidden)

    def project(self, x_TD: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
        """Return queries and keys (T, 2, H, K), rotated by their positions, and values (T, H, K)."""
        qk_TNHK, v_TNHK = self.qkv(x_TD).unflatten(-1, (3, self.heads, -1)).split((2, 1), dim=1)
        # A copy of the values: a view would keep queries and keys in memory until the backward pass.
        return rotate(qk_TNHK, cos, sin), v_TNHK.squeeze(1).contiguous()


class Block(nn.Module):
    """x = rms(x + mixer(x)), then x = rms(x + mlp(x)).

    The mixer is attention over positions or, as in TRM-MLP, a SwiGLU along the position axis. With the SwiGLU, the
    first norm is along the position axis too.
    """

    def __init__(self, config: ModelConfig):
        super().__init__()
        hidden = config.hidden
        positions = config.id_slots + config.cells
        sizes = config.expansion, config.inner_multiple
        self.mixer = Attention(hidden, config.heads) if config.mixer == "attention" else SwiGLU(positions, *sizes)
        self.mlp = (ConvSwiGLU if config.mlp == "conv_swiglu" else SwiGLU)(hidden, *sizes)
        self.epsilon = config.rms_epsilon

    def forward(self, x_TD: Tensor, layout: Layout, factors_2TD: Tensor | None = None) -> Tensor:
        """Apply the block to (T, D); factors_2TD: dropout factors for the outputs of the mixer and the MLP."""
        if isinstance(self.mixer, Attention):
            mixed_THK = layout.attend(*self.mixer.project(x_TD, layout.cos, layout.sin))
            return self.finish(x_TD, mixed_THK, layout.first, factors_2TD)
        on_mixer_TD, on_mlp_TD = (None, None) if factors_2TD is None else factors_2TD.unbind()
        x_BDS = layout.padding.unpack(x_TD).transpose(1, 2)
        on_mixer_BDS = None if on_mixer_TD is None else layout.padding.unpack(on_mixer_TD).transpose(1, 2)
        mixed_BDS = drop(self.mixer(x_BDS), on_mixer_BDS)
        x_TD = layout.padding.pack(rms_norm(x_BDS + mixed_BDS, self.epsilon).transpose(1, 2))
        return self._apply_mlp(x_TD, layout.first, on_mlp_TD)

    def finish(self, x_TD: Tensor, mixed_THK: Tensor, first_T1: Tensor, factors_2TD: Tensor | None = None) -> Tensor:
        """Apply the part of the block that follows attention, whose output is `mixed_THK`."""
        assert isinstance(self.mixer, Attention)
        on_mixer_TD, on_mlp_TD = (None, None) if factors_2TD is None else factors_2TD.unbind()
        mixed_TD = drop(self.mixer.out(mixed_THK.flatten(1)), on_mixer_TD)
        return self._apply_mlp(rms_norm(x_TD + mixed_TD, self.epsilon), first_T1, on_mlp_TD)

    def _apply_mlp(self, x_TD: Tensor, first_T1: Tensor, factors_TD: Tensor | None) -> Tensor:
        output_TD = self.mlp(x_TD, first_T1) if isinstance(self.mlp, ConvSwiGLU) else self.mlp(x_TD)
        return rms_norm(x_TD + drop(output_TD, factors_TD), self.epsilon)

    def compile_parts(self, **options: Any) -> None:
        """Compile (`torch.compile`) the parts before and after attention; attention's kernels need no fusing."""
        # The number of positions differs between batches, and torch gives up after a few compilations of one function.
        options = {"dynamic": True} | options
        if isinstance(self.mixer, Attention):
            self.mixer.project = torch.compile(self.mixer.project, fullgraph=True, **options)
            self.finish = torch.compile(self.finish, fullgraph=True, **options)
        else:
            self.compile(**options)
