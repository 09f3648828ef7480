"""The recursive model: a batch, its ID vectors and the latents in; new latents and logits out.

Shape letters: B examples, C cells of the canvas, S positions (ID slots, then cells), D hidden, V vocabulary.
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from augment.canvas import fixed_width
from solver.batches import Batch
from solver.layers import Block, Linear, rotary_tables, truncated_normal_
from solver.layout import Layout, make_layout
from solver.recursion import Latents, recurse
from solver.settings import ModelConfig


@dataclass(frozen=True)
class Output:
    """One supervision step: detached latents, logits (B, C, V), halting and continue logits (B,)."""

    latents: Latents
    logits_BCV: Tensor
    halt_B: Tensor
    continue_B: Tensor


class RecursiveModel(nn.Module):
    """TRM: embedding, one small network applied again and again to two latents, two heads.

    The ID table is not part of the model: the caller looks the vectors up and passes them in. The starting
    latents are buffers, never trained.

    precision: what the recursion computes in; parameters stay as they are and are cast where they are used
    varlen: attend by torch's kernel for examples of different lengths (CUDA, half precision), else in padded groups
    """

    h_start: Tensor
    l_start: Tensor
    rotary_cos: Tensor
    rotary_sin: Tensor

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.config, self.precision, self.varlen = config, torch.get_default_dtype(), False
        hidden, positions = config.hidden, config.id_slots + config.cells
        self.token_embedding = nn.Embedding(config.vocabulary, hidden)
        truncated_normal_(self.token_embedding.weight, hidden**-0.5)
        self.network = nn.ModuleList(
            Block(config.mixer, hidden, config.heads, positions, config.expansion, config.rms_epsilon)
            for _ in range(config.layers)
        )
        self.cell_head = Linear(hidden, config.vocabulary)
        self.halt_head = nn.Linear(hidden, 2)
        nn.init.zeros_(self.halt_head.weight)
        nn.init.constant_(self.halt_head.bias, -5.0)
        self.register_buffer("h_start", truncated_normal_(torch.empty(hidden), 1.0))
        self.register_buffer("l_start", truncated_normal_(torch.empty(hidden), 1.0))
        cos, sin = rotary_tables(positions, hidden // config.heads, config.rope_theta)
        self.register_buffer("rotary_cos", cos, persistent=False)
        self.register_buffer("rotary_sin", sin, persistent=False)

    def initial_latents(self, batch_size: int, cells: int) -> Latents:
        """The starting vectors at every position: two views of shape (batch_size, id_slots + cells, D)."""
        shape = batch_size, self.config.id_slots + cells, self.config.hidden
        return Latents(*(start.to(self.precision).expand(shape) for start in (self.h_start, self.l_start)))

    def forward(
        self,
        latents: Latents,
        batch: Batch,
        ids_BI: Tensor,
        layout: Layout | None = None,
        cycles: tuple[int, int] | None = None,
    ) -> Output:
        """One supervision step: h_cycles cycles, the last with gradient.

        ids_BI: the ID vectors (B, id_size) of the batch's puzzles; layout: the batch's, where it is known already;
        cycles: (h_cycles, l_cycles) in place of the config's.
        """
        layout = layout or self.layout(batch.cells_BS)
        pack, unpack = layout.padding.pack, layout.padding.unpack
        x_TD = pack(self._embed(batch.tokens_BS, ids_BI)).to(self.precision)
        packed = Latents(pack(latents.z_h), pack(latents.z_l))
        h_cycles, l_cycles = cycles or (self.config.h_cycles, self.config.l_cycles)
        new = recurse(lambda z: self._run_network(z, layout), packed, x_TD, h_cycles, l_cycles)
        z_h_BSD = unpack(new.z_h)
        halt_B, continue_B = self.halt_head(z_h_BSD[:, 0].to(self.halt_head.weight.dtype)).unbind(-1)
        carried = Latents(z_h_BSD.detach(), unpack(new.z_l.detach()))
        return Output(carried, self.read_cells(z_h_BSD), halt_B, continue_B)

    def read_cells(self, z_BSD: Tensor) -> Tensor:
        """Logits (B, C, V) that the output head reads from a latent, of the answer or of the reasoning."""
        return self.cell_head(z_BSD[:, self.config.id_slots :])

    def compile_blocks(self, **options: Any) -> None:
        """Compile the blocks (`torch.compile`); what they compute and the names of their weights stay as they are."""
        for block in self.blocks:
            block.compile_parts(**options)

    @property
    def blocks(self) -> list[Block]:
        """The blocks of the network, in order."""
        return [block for block in self.network if isinstance(block, Block)]

    def _embed(self, tokens_BC: Tensor, ids_BI: Tensor) -> Tensor:
        """The ID vector, padded with zeros over its slots, before the tokens; all times sqrt(hidden)."""
        slots, hidden = self.config.id_slots, self.config.hidden
        ids_BND = F.pad(ids_BI, (0, slots * hidden - ids_BI.shape[1])).unflatten(1, (slots, hidden))
        return hidden**0.5 * torch.cat((ids_BND, self.token_embedding(tokens_BC)), dim=1)

    def _run_network(self, z_TD: Tensor, layout: Layout) -> Tensor:
        for block in self.network:
            z_TD = block(z_TD, layout)
        return z_TD

    def layout(self, cells_BC: Tensor) -> Layout:
        """ID slots at positions 0, 1 ..., cells after them at their place on the board, padding left out.

        The slots are always in use, so no row of the attention is empty.
        """
        slots = self.config.id_slots
        cells_B = (cells_BC >= 0).sum(1).cpu().numpy()
        if self.config.mixer == "mlp" and not (cells_B == cells_BC.shape[1]).all() & (
            cells_BC.shape[1] == self.config.cells
        ):
            raise ValueError(f"the MLP mixer needs all {self.config.cells} cells of the board in every example")
        slots_BN = torch.arange(slots, device=cells_BC.device).expand(len(cells_BC), slots)
        positions_BS = torch.cat((slots_BN, torch.where(cells_BC < 0, cells_BC, cells_BC + slots)), dim=1)
        widths_B = fixed_width(cells_B, self.config.board_side)
        return make_layout(positions_BS, widths_B, self.rotary_cos, self.rotary_sin, self.varlen)
