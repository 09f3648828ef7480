"""The symbol axis: a vector per symbol and cell, and blocks that are equivariant to colours (SE-RRM, 2603.02193).

A block attends over cells for each symbol, then over symbols in each cell. Permuting the colours of input and ID vector
permutes the logits. Only the symbols that an example uses (its palette) have vectors: by symmetry, the vectors of all
other colours would be equal.

A block maps (T, D) to (T, D), with one row for each example, symbol and cell in use, in this order.

Shape letters: T rows, B examples, C cells, V vocabulary, P symbols of a group's examples, D hidden, H heads, K head
size, N the three of query, key and value.
"""

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from solver.data.tokens import COLOUR
from solver.model import symbol_kernels as kernels
from solver.model.config import ModelConfig
from solver.model.dropout import drop
from solver.model.layers import Attention, SwiGLU, rms_norm, truncated_normal_
from solver.model.packing import Padding

NEVER = -1e9
"""Logit of a symbol outside the palette. It is below `solver.model.probability.MASKED`, so label smoothing ignores the
symbol."""


class SymbolEmbedding(nn.Module):
    """Embeds tokens and ID vectors as one vector for each symbol and cell.

    The vector at the symbol of a cell is sqrt(V) times the symbol's embedding; at the cell's other symbols it is zero
    (SE-RRM, section 3). Empty and end mark have embeddings of their own, and all colours share one. In addition to
    SE-RRM, each of these kinds of symbol has a vector, initialised to zero, that is added at every cell.
    """

    KINDS = COLOUR + 1

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.vocabulary = config.vocabulary
        self.hidden = config.hidden
        self.present = nn.Parameter(truncated_normal_(torch.empty(self.KINDS, config.hidden), 1.0))
        self.absent = nn.Parameter(torch.zeros(self.KINDS, config.hidden))
        kinds_V = torch.arange(config.vocabulary).clamp(max=COLOUR)
        self.register_buffer("kinds_V", kinds_V, persistent=False)

    def forward(self, tokens_BC: Tensor, ids_BI: Tensor) -> Tensor:
        """Return (B, V, C, D).

        The first D values of the ID vector are added at every symbol and cell, the V x D values after them per symbol.
        """
        kinds_V = self.get_buffer("kinds_V")
        ids_BD = ids_BI[:, : self.hidden]
        ids_BVD = ids_BI[:, self.hidden :].unflatten(1, (self.vocabulary, -1))
        everywhere_BVD = self.absent[kinds_V] + ids_BVD + ids_BD[:, None]
        return self.embed_tokens(tokens_BC) + everywhere_BVD[:, :, None]

    def embed_tokens(self, tokens_BC: Tensor) -> Tensor:
        """Return (B, V, C, D): the embedding of each cell's symbol at that symbol, zero at all others."""
        present_BVC = F.one_hot(tokens_BC, self.vocabulary).transpose(1, 2).to(self.present.dtype)
        return present_BVC[..., None] * (self.vocabulary**0.5 * self.present[self.get_buffer("kinds_V")])[:, None]


@dataclass(frozen=True)
class SymbolGroup:
    """Examples with the same number of symbols and the same number of cells, whose rows are contiguous."""

    examples: int
    symbols: int
    cells: int

    @property
    def length(self) -> int:
        """The number of rows of the group."""
        return self.examples * self.symbols * self.cells

    def attend_cells(self, qk_TNHK: Tensor, v_THK: Tensor) -> Tensor:
        """Compute attention over the cells of each symbol of each example: (T, H, K)."""
        shape = self.examples * self.symbols, self.cells
        q_SCHK, k_SCHK = qk_TNHK.unflatten(0, shape).unbind(2)
        q_SHCK, k_SHCK, v_SHCK = (t.transpose(1, 2) for t in (q_SCHK, k_SCHK, v_THK.unflatten(0, shape)))
        return F.scaled_dot_product_attention(q_SHCK, k_SHCK, v_SHCK).transpose(1, 2).flatten(0, 1)

    def attend_symbols(self, qkv_TNHK: Tensor) -> Tensor:
        """Compute attention over the symbols of each cell of each example: (T, H, K)."""
        shape = self.examples, self.symbols, self.cells
        q_BCHPK, k_BCHPK, v_BCHPK = qkv_TNHK.unflatten(0, shape).permute(3, 0, 2, 4, 1, 5).unbind(0)
        weights_BCHPP = (q_BCHPK @ k_BCHPK.transpose(-1, -2) * q_BCHPK.shape[-1] ** -0.5).softmax(-1)
        return (weights_BCHPP @ v_BCHPK).permute(0, 3, 1, 2, 4).flatten(0, 2)


@dataclass(frozen=True)
class SymbolLayout:
    """The rows of one batch.

    padding: the mapping between the T rows and (B, V, C); rows of a group are contiguous
    groups: examples of equal shape, which are attended to together without padding
    cos, sin: rotary tables of each row's cell, (T, 1, 1, K); see `solver.model.layers.rotate`
    """

    padding: Padding
    groups: tuple[SymbolGroup, ...]
    cos: Tensor
    sin: Tensor

    def attend_cells(self, qk_TNHK: Tensor, v_THK: Tensor) -> Tensor:
        """Compute attention over the cells of each symbol: (T, H, K)."""
        lengths = [group.length for group in self.groups]
        parts = zip(self.groups, qk_TNHK.split(lengths), v_THK.split(lengths), strict=True)
        return _joined([group.attend_cells(qk, v) for group, qk, v in parts])

    def attend_symbols(self, qkv_TNHK: Tensor) -> Tensor:
        """Compute attention over the symbols of each cell: (T, H, K)."""
        parts = zip(self.groups, qkv_TNHK.split([group.length for group in self.groups]), strict=True)
        return _joined([group.attend_symbols(qkv) for group, qkv in parts])

    @cached_property
    def over_cells(self) -> kernels.Sequences:
        """The cells of each symbol of each example, as sequences for `solver.model.symbol_kernels`."""
        return kernels.make_sequences([rows_EPC.reshape(-1, rows_EPC.shape[2]) for rows_EPC in self._rows()])

    @cached_property
    def over_symbols(self) -> kernels.Sequences:
        """The symbols of each cell of each example, as sequences for `solver.model.symbol_kernels`."""
        return kernels.make_sequences(
            [rows_EPC.transpose(0, 2, 1).reshape(-1, rows_EPC.shape[1]) for rows_EPC in self._rows()]
        )

    def _rows(self) -> list[np.ndarray]:
        """Return the row numbers of each group, (examples, symbols, cells)."""
        ends = np.cumsum([group.length for group in self.groups])
        parts = np.split(np.arange(ends[-1]), ends[:-1])
        shapes = [(group.examples, group.symbols, group.cells) for group in self.groups]
        return [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]


def _joined(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def make_symbol_layout(
    cells_BC: Tensor, symbols_BV: Tensor, cos: Tensor, sin: Tensor, lengths_B: np.ndarray | None = None
) -> SymbolLayout:
    """Return the layout of a batch.

    Args:
        cells_BC: index of each cell in the rotary tables, -1 where it is not in use.
        symbols_BV: bool, the symbols that each example has vectors for.
        cos: rotary table of cosines (positions, K).
        sin: rotary table of signed sines (positions, K).
        lengths_B: cells in use of each example; by default they are read from the device.
    """
    if lengths_B is None:
        lengths_B = (cells_BC >= 0).sum(1).cpu().numpy()
    used_BVC = (cells_BC >= 0)[:, None] & symbols_BV[..., None]
    counts_2B = np.stack([lengths_B, symbols_BV.sum(1).cpu().numpy()])
    order_B = np.lexsort(counts_2B)
    counts_2B = counts_2B[:, order_B]
    borders = [0, *(np.flatnonzero(np.diff(counts_2B).any(0)) + 1).tolist(), len(order_B)]
    groups = tuple(
        SymbolGroup(end - start, int(counts_2B[1, start]), int(counts_2B[0, start])) for start, end in pairwise(borders)
    )
    order = torch.from_numpy(order_B).to(cells_BC.device)
    numbers_BVC = torch.arange(used_BVC.numel(), device=cells_BC.device).view(used_BVC.shape)
    padding = Padding(tuple(used_BVC.shape), numbers_BVC[order][used_BVC[order]])
    cells_T = padding.pack(cells_BC[:, None].expand(used_BVC.shape))
    return SymbolLayout(padding, groups, cos[cells_T][:, None, None], sin[cells_T][:, None, None])


class SymbolBlock(nn.Module):
    """x = rms(x + attention over cells), x = rms(x + attention over symbols), x = rms(x + SwiGLU(x))."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        hidden = config.hidden
        size = config.hidden // config.heads
        self.mixer = Attention(hidden, config.heads)
        self.symbols = Attention(hidden, config.symbol_heads or config.heads, size)
        self.mlp = SwiGLU(hidden, config.expansion, config.inner_multiple)
        self.epsilon = config.rms_epsilon

    def forward(self, x_TD: Tensor, layout: SymbolLayout, factors_2TD: Tensor | None = None) -> Tensor:
        """Apply the block to (T, D); factors_2TD: dropout factors for the first attention and the MLP."""
        on_mixer_TD, on_mlp_TD = (None, None) if factors_2TD is None else factors_2TD.unbind()
        x_TD, qkv_TNHK = self.turn_to_symbols(x_TD, self._attend_cells(x_TD, layout), on_mixer_TD)
        if kernels.fits(x_TD):
            return self.finish(x_TD, kernels.attend(qkv_TNHK, layout.over_symbols), on_mlp_TD)
        return self.finish(x_TD, layout.attend_symbols(qkv_TNHK), on_mlp_TD)

    def _attend_cells(self, x_TD: Tensor, layout: SymbolLayout) -> Tensor:
        if not kernels.fits(x_TD):
            return layout.attend_cells(*self.mixer.project(x_TD, layout.cos, layout.sin))
        qkv_TNHK = self.mixer.qkv(x_TD).unflatten(-1, (3, self.mixer.heads, -1))
        return kernels.attend(qkv_TNHK, layout.over_cells, (layout.cos, layout.sin))

    def turn_to_symbols(self, x_TD: Tensor, mixed_THK: Tensor, factors_TD: Tensor | None) -> tuple[Tensor, Tensor]:
        """Apply the part between the two attentions; returns the rows, and queries, keys and values of the second."""
        x_TD = self._add_norm(x_TD, drop(self.mixer.out(mixed_THK.flatten(1)), factors_TD))
        return x_TD, self.symbols.qkv(x_TD).unflatten(-1, (3, self.symbols.heads, -1))

    def finish(self, x_TD: Tensor, mixed_THK: Tensor, factors_TD: Tensor | None) -> Tensor:
        """Apply the part of the block that follows the second attention."""
        x_TD = self._add_norm(x_TD, self.symbols.out(mixed_THK.flatten(1)))
        output_TD = self.mlp.down(kernels.gate(self.mlp.gate_up(x_TD))) if kernels.fits(x_TD) else self.mlp(x_TD)
        return self._add_norm(x_TD, drop(output_TD, factors_TD))

    def _add_norm(self, x_TD: Tensor, output_TD: Tensor) -> Tensor:
        if kernels.fits(x_TD):
            return kernels.add_norm(x_TD, output_TD, self.epsilon)
        return rms_norm(x_TD + output_TD, self.epsilon)

    def compile_parts(self, **options: Any) -> None:
        """Compile (`torch.compile`) the parts before, between and after the two attentions."""
        options = {"dynamic": True, "fullgraph": True} | options
        self.mixer.project = torch.compile(self.mixer.project, **options)
        self.turn_to_symbols = torch.compile(self.turn_to_symbols, **options)
        self.finish = torch.compile(self.finish, **options)
