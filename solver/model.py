"""The recursive model, any of the family: a batch, its ID vectors and the latents in; new latents and logits out.

Shape letters: B examples, C cells of the canvas, S positions (ID slots, then cells), D hidden, V vocabulary.
"""

from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from augment.canvas import fixed_width
from solver.batches import Batch
from solver.dropout import Dropout, make_dropout
from solver.equilibrium import settle, with_gradient
from solver.guidance import Guidance, Guide
from solver.layers import Block, Linear, rotary_tables, truncated_normal_
from solver.layout import Layout, Padding, make_layout
from solver.noise import Chance
from solver.probability import least_confidence
from solver.recursion import Latents, Network, Settle, Watch, recurse
from solver.settings import LossName, ModelConfig, Told


@dataclass(frozen=True)
class Output:
    """One supervision step: detached latents by name, logits (B, C, V), halting and continue logits (B,).

    halt_B: of the halting head; where halting is "random" how sure the least sure cell is (`least_confidence`)
    value_B: where noise is drawn, what share of the cells the value head thinks right; else not a number
    kl_B2: where noise is learnt, in training: nats that the posterior is from the prior, as a cost of the one and of
    the other. judged_BCV: the answer as the prior would have had it, which accuracies and halting are of
    figures: (B,) by name, see ModelConfig.figures
    """

    latents: Latents
    logits_BCV: Tensor
    halt_B: Tensor
    continue_B: Tensor
    value_B: Tensor
    kl_B2: Tensor | None = None
    judged_BCV: Tensor | None = None
    figures: dict[str, Tensor] = field(default_factory=dict)


class RecursiveModel(nn.Module):
    """Embedding, small networks applied again and again to latents (`solver.family`), two heads.

    The ID table is not part of the model: the caller looks the vectors up and passes them in. The starting
    latents are buffers, never trained.

    precision: what the recursion computes in; parameters stay as they are and are cast where they are used
    varlen: attend by torch's kernel for examples of different lengths (CUDA, half precision), else in padded groups
    loss: what its logits are trained by, which says what probabilities they mean
    """

    rotary_cos: Tensor
    rotary_sin: Tensor

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.config, self.precision, self.varlen = config, torch.get_default_dtype(), False
        self.loss: LossName = "stablemax"
        hidden, positions = config.hidden, config.id_slots + config.cells
        self.token_embedding = nn.Embedding(config.vocabulary, hidden)
        truncated_normal_(self.token_embedding.weight, hidden**-0.5)
        for name in config.recursion.networks:
            blocks = (Block(config) for _ in range(config.layers_of(name)))
            self.add_module(module_name(name), nn.ModuleList(blocks))
        self.cell_head = Linear(hidden, config.vocabulary)
        self.halt_head = nn.Linear(hidden, 2)
        nn.init.zeros_(self.halt_head.weight)
        nn.init.constant_(self.halt_head.bias, -5.0)
        if config.recursion.noisy:
            self.value_head = nn.Linear(hidden, 1)
            nn.init.zeros_(self.value_head.weight)
        if config.learns_noise:
            for name in config.recursion.noisy:
                self.add_module(guidance_name(name), Guidance(config))
        for name in config.recursion.latents:
            self.register_buffer(start_name(name), truncated_normal_(torch.empty(hidden), 1.0))
        cos, sin = rotary_tables(positions, hidden // config.heads, config.rope_theta)
        self.register_buffer("rotary_cos", cos, persistent=False)
        self.register_buffer("rotary_sin", sin, persistent=False)

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.token_embedding.weight.device

    def initial_latents(self, batch_size: int, cells: int) -> Latents:
        """The starting vectors at every position: views of shape (batch_size, id_slots + cells, D)."""
        shape = batch_size, self.config.id_slots + cells, self.config.hidden
        starts = {name: self.get_buffer(start_name(name)) for name in self.config.recursion.latents}
        return {name: start.to(self.precision).expand(shape) for name, start in starts.items()}

    def forward(
        self,
        latents: Latents,
        batch: Batch,
        ids_BI: Tensor,
        layout: Layout | None = None,
        cycles: tuple[int, int] | None = None,
        watch: Watch | None = None,
        chance: Chance | None = None,
        told: Told | None = None,
    ) -> Output:
        """One supervision step: h_cycles cycles, with gradient where the recursion says.

        ids_BI: the ID vectors (B, id_size) of the batch's puzzles; layout: the batch's, where it is known already;
        cycles: (h_cycles, l_cycles) in place of the config's; watch: is told of every update of a latent, (T, D);
        chance: of the noise that equations add, None for its mean, and of dropout; told: in training, which draws know
        the labels.
        """
        layout, recursion = layout or self.layout(batch.cells_BS), self.config.recursion
        pack, unpack = layout.padding.pack, layout.padding.unpack
        x_TD = pack(self._embed(batch.tokens_BS, ids_BI)).to(self.precision)
        if recursion.carry == "reset":
            latents = self.initial_latents(*batch.tokens_BS.shape)
        packed = {name: pack(z_BSD) for name, z_BSD in latents.items()}
        dropout = make_dropout(chance, layout.padding)
        networks = {name: self._network(name, layout, dropout) for name in recursion.networks}
        guide = self._guide(layout.padding, chance, batch.labels_BS if told else None, told)
        figures: dict[str, Tensor] = {}
        new = recurse(
            recursion,
            networks,
            packed,
            x_TD,
            *(cycles or (self.config.h_cycles, self.config.l_cycles)),
            watch,
            guide,
            self._settler(layout.padding, figures),
        )
        answer_BSD = unpack(new.pop(recursion.answer))
        judged_BSD = answer_BSD if guide.foreseen_TD is None else unpack(guide.foreseen_TD)
        carried = {recursion.answer: answer_BSD.detach()} | {name: unpack(z.detach()) for name, z in new.items()}
        logits_BCV = self.read_cells(answer_BSD)
        judged_BCV = None if guide.foreseen_TD is None else self.read_cells(judged_BSD)
        halt_B, continue_B, value_B = self._judge(judged_BSD[:, 0])
        if self.config.halting == "random":
            seen_BCV = logits_BCV if judged_BCV is None else judged_BCV
            halt_B = least_confidence(seen_BCV, batch.labels_BS, batch.cells_BS >= 0, self.loss)
        return Output(
            carried,
            logits_BCV,
            halt_B,
            continue_B,
            value_B,
            None if guide.kl_T2 is None else unpack(guide.kl_T2).sum(1),
            judged_BCV,
            figures | {name: _mean_over_positions(width_T, layout.padding) for name, width_T in guide.widths.items()},
        )

    def _judge(self, first_BD: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Halting and continue logits and the value that the heads read from the first slot."""
        halt_B, continue_B = self.halt_head(first_BD.to(self.halt_head.weight.dtype)).unbind(-1)
        if not self.config.recursion.noisy:
            return halt_B, continue_B, torch.full_like(halt_B, torch.nan)
        return halt_B, continue_B, self.value_head(first_BD.to(self.value_head.weight.dtype))[:, 0]

    def _guide(self, padding: Padding, chance: Chance | None, labels_BC: Tensor | None, told: Told | None) -> Guide:
        """What adds noise; with labels it knows the target, whose ID slots are empty."""
        config, parts, target_TD = self.config, {}, None
        if config.learns_noise:
            parts = {name: self._guidance_of(name) for name in config.recursion.noisy}
            if labels_BC is not None:
                target_BCD = config.hidden**0.5 * self.token_embedding(labels_BC) * (labels_BC != 0)[..., None]
                target_TD = padding.pack(F.pad(target_BCD, (0, 0, config.id_slots, 0))).to(self.precision)
        return Guide(parts, padding, chance, target_TD, told == "all", config.recursion.answer, config.noise_width)

    def _guidance_of(self, latent: str) -> Guidance:
        part = self.get_submodule(guidance_name(latent))
        assert isinstance(part, Guidance)
        return part

    def _settler(self, padding: Padding, figures: dict[str, Tensor]) -> Settle:
        """What lets a latent settle, and notes how well it did."""

        def run(update: Network, start_TD: Tensor) -> Tensor:
            settled = settle(update, start_TD, padding, self.config.equilibrium)
            figures["residual"], figures["iterations"] = settled.residual_B, settled.iterations_B.float()
            figures["adjoint_residual"] = torch.zeros_like(settled.residual_B)
            if not torch.is_grad_enabled():
                return settled.z_TD
            return with_gradient(update, settled, padding, self.config.equilibrium, figures["adjoint_residual"])

        return run

    def read_cells(self, z_BSD: Tensor) -> Tensor:
        """Logits (B, C, V) that the output head reads from a latent, of the answer or of the reasoning."""
        return self.cell_head(z_BSD[:, self.config.id_slots :])

    def compile_blocks(self, **options: Any) -> None:
        """Compile the blocks (`torch.compile`); what they compute and the names of their weights stay as they are."""
        for block in self.blocks:
            block.compile_parts(**options)

    @property
    def blocks(self) -> list[Block]:
        """The blocks of every network, in order."""
        return [block for name in self.config.recursion.networks for block in self._blocks_of(name)]

    def _blocks_of(self, network: str) -> list[Block]:
        return [block for block in self.get_submodule(module_name(network)).children() if isinstance(block, Block)]

    def _embed(self, tokens_BC: Tensor, ids_BI: Tensor) -> Tensor:
        """The ID vector, padded with zeros over its slots, before the tokens; all times sqrt(hidden)."""
        slots, hidden = self.config.id_slots, self.config.hidden
        ids_BND = F.pad(ids_BI, (0, slots * hidden - ids_BI.shape[1])).unflatten(1, (slots, hidden))
        return hidden**0.5 * torch.cat((ids_BND, self.token_embedding(tokens_BC)), dim=1)

    def _network(self, name: str, layout: Layout, dropout: Dropout | None) -> Network:
        """The network as a function of its input (T, D)."""
        blocks = self._blocks_of(name)

        def run(z_TD: Tensor) -> Tensor:
            for block in blocks:
                z_TD = block(z_TD, layout, None if dropout is None else dropout.factors(z_TD))
            return z_TD

        return run

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


def module_name(network: str) -> str:
    """Where a network's weights are: of f in "network", of f_l in "network_l"."""
    return "network" + network.removeprefix("f")


def guidance_name(latent: str) -> str:
    """Where the prior and posterior of a latent's noise are: of z_h in "guidance_h"."""
    return "guidance" + latent.removeprefix("z")


def _mean_over_positions(values_T: Tensor, padding: Padding) -> Tensor:
    """(T,) to (B,), over the positions in use."""
    both_B2 = padding.unpack(torch.stack((values_T, torch.ones_like(values_T)), dim=-1)).sum(1)
    return both_B2[:, 0] / both_B2[:, 1]


def start_name(latent: str) -> str:
    """Where a latent's starting vector is: of z_h in "h_start", of z in "start"."""
    return f"{latent[2:]}_start".lstrip("_")
