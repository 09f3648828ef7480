"""The recursive model: one supervision step maps a batch, its ID vectors and the latents to new latents and logits.

`ModelConfig.recursion` selects the member of the model family (TRM, HRM, GRAM, URM and others).

Shape letters: B examples, C cells of the canvas, S positions (ID slots, then cells), D hidden, V vocabulary.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from augment.canvas import fixed_width
from augment.dihedral import DIHEDRALS
from solver.data.batch import Batch
from solver.model.config import LossName, ModelConfig, PosteriorUse
from solver.model.dropout import Dropout, make_dropout
from solver.model.equilibrium import make_settler
from solver.model.layers import Block, Linear, rotary_tables, rotary_tables_2d, truncated_normal_
from solver.model.learned_noise import Guidance, LearnedNoise
from solver.model.noise import NoiseSource
from solver.model.output import Output
from solver.model.packing import Layout, Padding, make_layout, mean_over_positions
from solver.model.parameter_names import guidance_name, module_name, start_name
from solver.model.probability import least_confidence
from solver.model.recursion import Latents, Network, Watch, recurse
from solver.model.symbol_axis import NEVER, SymbolBlock, SymbolEmbedding, SymbolLayout, make_symbol_layout


class RecursiveModel(nn.Module):
    """An input embedding, networks that update latents repeatedly (`solver.model.equations`), and output heads.

    The ID table is not part of the model: the caller looks up the ID vectors and passes them in. The starting
    latents are buffers and are never trained.

    Attributes:
        precision: dtype of the recursion; parameters keep their own dtype and are cast where they are used.
        varlen: use torch's kernel for examples of different lengths (CUDA, half precision), not padded groups.
        loss: the loss that the logits are trained with; it defines the probabilities that the logits represent.
    """

    rotary_cos: Tensor
    rotary_sin: Tensor

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.config = config
        self.precision = torch.get_default_dtype()
        self.varlen = False
        self.loss: LossName = "stablemax"
        hidden = config.hidden
        if config.symbols:
            self.symbol_embedding = SymbolEmbedding(config)
        else:
            self.token_embedding = nn.Embedding(config.vocabulary, hidden)
            truncated_normal_(self.token_embedding.weight, hidden**-0.5)
        for name in config.recursion.networks:
            blocks = ((SymbolBlock if config.symbols else Block)(config) for _ in range(config.layers_of(name)))
            self.add_module(module_name(name), nn.ModuleList(blocks))
        self.cell_head = Linear(hidden, 1 if config.symbols else config.vocabulary)
        if not config.symbols:
            self.halt_head = nn.Linear(hidden, 2)
            # sigmoid(-5) is about 0.007, so an untrained model hardly ever halts early.
            nn.init.zeros_(self.halt_head.weight)
            nn.init.constant_(self.halt_head.bias, -5.0)
        if config.transform_vectors:
            self.transform_embedding = nn.Embedding(DIHEDRALS, config.id_length - config.shared_id_length)
            truncated_normal_(self.transform_embedding.weight, hidden**-0.5)
        if config.recursion.noisy:
            self.value_head = nn.Linear(hidden, 1)
            nn.init.zeros_(self.value_head.weight)
        if config.learns_noise:
            for name in config.recursion.noisy:
                self.add_module(guidance_name(name), Guidance(config))
        for name in config.recursion.latents:
            self.register_buffer(start_name(name), truncated_normal_(torch.empty(hidden), 1.0))
        cos, sin = self._rotary_tables()
        self.register_buffer("rotary_cos", cos, persistent=False)
        self.register_buffer("rotary_sin", sin, persistent=False)

    def _rotary_tables(self) -> tuple[Tensor, Tensor]:
        config = self.config
        size = self.config.hidden // self.config.heads
        if config.positions == "rope2d":
            return rotary_tables_2d(config.id_slots, config.board_side, size, config.rope_theta)
        return rotary_tables(config.id_slots + config.cells, size, config.rope_theta)

    @property
    def device(self) -> torch.device:
        """The device of the model's parameters."""
        return self.cell_head.weight.device

    def initial_latents(self, batch_size: int, cells: int) -> Latents:
        """Return the starting vectors at every position, by name: views of shape (batch_size, id_slots + cells, D).

        With a symbol axis, latents have shape (batch_size, cells, V x D) outside this module.
        """
        repeats = self.config.vocabulary if self.config.symbols else 1
        shape = batch_size, self.config.id_slots + cells, repeats * self.config.hidden
        starts = {name: self.get_buffer(start_name(name)).repeat(repeats) for name in self.config.recursion.latents}
        return {name: start.to(self.precision).expand(shape) for name, start in starts.items()}

    def forward(
        self,
        latents: Latents,
        batch: Batch,
        ids_BI: Tensor,
        layout: Layout | SymbolLayout | None = None,
        cycles: tuple[int, int] | None = None,
        watch: Watch | None = None,
        chance: NoiseSource | None = None,
        posterior: PosteriorUse | None = None,
    ) -> Output:
        """Run one supervision step: h_cycles cycles, with gradient where the recursion's config asks for it.

        Args:
            latents: the latents (B, S, D) by name; ignored if the recursion's `carry` is "reset".
            batch: the examples.
            ids_BI: the ID vectors (B, id_size) of the batch's puzzles.
            layout: the layout of the batch, if it is already computed.
            cycles: (h_cycles, l_cycles), instead of those of the config.
            watch: a callback that receives every update of a latent, (T, D).
            chance: the noise source for equations with noise and for dropout; None uses the mean of the noise.
            posterior: in training, which transitions draw from the posterior, which sees the labels (`EvidenceConfig`).
        """
        layout = layout or self.layout(batch)
        padding = layout.padding
        recursion = self.config.recursion
        x_TD = padding.pack(self._embed(batch, ids_BI)).to(self.precision)
        if recursion.carry == "reset":
            latents = self.initial_latents(*batch.tokens_BS.shape)
        packed = {name: self._pack(padding, z_BSD) for name, z_BSD in latents.items()}
        dropout = make_dropout(chance, padding)
        networks = {name: self._network(name, layout, dropout) for name in recursion.networks}
        guide = self._guide(padding, chance, batch.labels_BS if posterior else None, posterior)
        figures: dict[str, Tensor] = {}
        new_latents = recurse(
            recursion,
            networks,
            packed,
            x_TD,
            *(cycles or (self.config.h_cycles, self.config.l_cycles)),
            watch,
            guide,
            make_settler(self.config.equilibrium, padding, figures),
        )
        return self._make_output(new_latents, guide, figures, batch, padding)

    def _make_output(
        self, new_latents: Latents, guide: LearnedNoise, figures: dict[str, Tensor], batch: Batch, padding: Padding
    ) -> Output:
        """Apply the heads to the answer and detach the latents that the next supervision step starts from.

        The accuracies, the halting logits and the value are computed from the answer drawn from the prior, if there is
        one: at prediction no other answer exists.
        """
        answer = self.config.recursion.answer
        answer_BSD = self._unpack(padding, new_latents.pop(answer))
        judged_BSD = answer_BSD if guide.prior_answer_TD is None else self._unpack(padding, guide.prior_answer_TD)
        others = {name: self._unpack(padding, z_TD.detach()) for name, z_TD in new_latents.items()}
        logits_BCV = self.read_cells(answer_BSD, batch.symbols_BV)
        prior_logits_BCV = None if guide.prior_answer_TD is None else self.read_cells(judged_BSD, batch.symbols_BV)
        return Output(
            {answer: answer_BSD.detach()} | others,
            logits_BCV,
            *self._judge(judged_BSD, logits_BCV if prior_logits_BCV is None else prior_logits_BCV, batch),
            None if guide.kl_T2 is None else self._unpack(padding, guide.kl_T2).sum(1),
            prior_logits_BCV,
            figures | {name: mean_over_positions(width_T, padding) for name, width_T in guide.widths.items()},
        )

    def _judge(self, z_BSD: Tensor, logits_BCV: Tensor, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Return the halting logit, the continue logit and the value, read from the first ID slot of the answer.

        With random halting, the halting logit is the confidence of the least confident cell. With a symbol axis there
        are no ID slots, so the continue logit and the value are NaN.
        """
        halt_B = continue_B = value_B = logits_BCV.new_full((len(batch),), torch.nan)
        if not self.config.symbols:
            first_BD = z_BSD[:, 0].to(self.halt_head.weight.dtype)
            halt_B, continue_B = self.halt_head(first_BD).unbind(-1)
            value_B = torch.full_like(halt_B, torch.nan)
            if self.config.recursion.noisy:
                value_B = self.value_head(first_BD)[:, 0]
        if self.config.halting == "random":
            halt_B = least_confidence(logits_BCV, batch.labels_BS, batch.cells_BS >= 0, self.loss)
        return halt_B, continue_B, value_B

    def _pack(self, padding: Padding, z_BSD: Tensor) -> Tensor:
        """Pack a latent (B, S, D), or with a symbol axis (B, C, V x D), into rows (T, D)."""
        if not self.config.symbols:
            return padding.pack(z_BSD)
        return padding.pack(z_BSD.unflatten(-1, (self.config.vocabulary, -1)).transpose(1, 2))

    def _unpack(self, padding: Padding, z_TD: Tensor) -> Tensor:
        """Invert `_pack`."""
        z = padding.unpack(z_TD)
        return z.transpose(1, 2).flatten(2) if self.config.symbols else z

    def _guide(
        self, padding: Padding, chance: NoiseSource | None, labels_BC: Tensor | None, posterior: PosteriorUse | None
    ) -> LearnedNoise:
        """Make the noise of one supervision step; with labels, its posterior sees the embedded target.

        The target is zero at the ID slots and at unlabelled cells.
        """
        config = self.config
        parts = {}
        target_TD = None
        if config.learns_noise:
            parts = {name: self._guidance_of(name) for name in config.recursion.noisy}
            if labels_BC is not None:
                target_BCD = config.hidden**0.5 * self.token_embedding(labels_BC) * (labels_BC != 0)[..., None]
                target_TD = padding.pack(F.pad(target_BCD, (0, 0, config.id_slots, 0))).to(self.precision)
        width = config.noise_width
        return LearnedNoise(parts, padding, chance, target_TD, posterior == "all", config.recursion.answer, width)

    def _guidance_of(self, latent: str) -> Guidance:
        part = self.get_submodule(guidance_name(latent))
        assert isinstance(part, Guidance)
        return part

    def read_cells(self, z_BSD: Tensor, symbols_BV: Tensor) -> Tensor:
        """Return the logits (B, C, V) that the output head reads from any latent, answer or reasoning."""
        if not self.config.symbols:
            return self.cell_head(z_BSD[:, self.config.id_slots :])
        logits_BCV = self.cell_head(z_BSD.unflatten(-1, (self.config.vocabulary, -1)))[..., 0]
        return logits_BCV.to(self.cell_head.weight.dtype).masked_fill(~symbols_BV[:, None], NEVER)

    def compile_blocks(self, **options: Any) -> None:
        """Compile the blocks (`torch.compile`); the names of their weights do not change."""
        for block in self.blocks:
            block.compile_parts(**options)

    @property
    def blocks(self) -> list[Block | SymbolBlock]:
        """The blocks of every network, in order."""
        return [block for name in self.config.recursion.networks for block in self._blocks_of(name)]

    def _blocks_of(self, network: str) -> list[Block | SymbolBlock]:
        modules = self.get_submodule(module_name(network)).children()
        return [block for block in modules if isinstance(block, Block | SymbolBlock)]

    def _embed(self, batch: Batch, ids_BI: Tensor) -> Tensor:
        """Embed the input as (B, S, D), or with a symbol axis as (B, V, C, D).

        The ID vector, padded with zeros to fill its slots, precedes the tokens. Both are scaled by sqrt(hidden).
        """
        slots = self.config.id_slots
        hidden = self.config.hidden
        if self.config.transform_vectors:
            transforms_BI = self.transform_embedding(batch.transforms_B)
            ids_BI = ids_BI + F.pad(transforms_BI, (0, ids_BI.shape[1] - transforms_BI.shape[1]))
        if self.config.symbols:
            return self.symbol_embedding(batch.tokens_BS, ids_BI)
        ids_BND = F.pad(ids_BI, (0, slots * hidden - ids_BI.shape[1])).unflatten(1, (slots, hidden))
        return torch.cat((hidden**0.5 * ids_BND, self.embed_tokens(batch.tokens_BS)), dim=1)

    def embed_tokens(self, tokens_BC: Tensor) -> Tensor:
        """Embed tokens (B, C) as in the input but without an ID vector, in the shape of a latent's cells."""
        if self.config.symbols:
            return self.symbol_embedding.embed_tokens(tokens_BC).transpose(1, 2).flatten(2)
        return self.config.hidden**0.5 * self.token_embedding(tokens_BC)

    def _network(self, name: str, layout: Any, dropout: Dropout | None) -> Network:
        """Return the network as a function of its input (T, D)."""
        blocks = self._blocks_of(name)

        def run(z_TD: Tensor) -> Tensor:
            for block in blocks:
                z_TD = block(z_TD, layout, None if dropout is None else dropout.factors(z_TD))
            return z_TD

        return run

    def layout(self, batch: Batch) -> Layout | SymbolLayout:
        """Return the layout of a batch: ID slots at positions 0, 1, ..., then each cell at its board position.

        Padding has no position. Since the ID slots are always in use, no row of the attention mask is empty.

        Raises:
            ValueError: if the MLP mixer gets a batch that does not use every cell of the board.
        """
        slots = self.config.id_slots
        cells_BC = batch.cells_BS
        if self.config.symbols:
            angles = self.rotary_cos, self.rotary_sin
            return make_symbol_layout(cells_BC, batch.symbols_BV, *angles, batch.lengths_B)
        if self.config.mixer == "mlp" and (batch.lengths_B != self.config.cells).any():
            raise ValueError(
                f"the MLP mixer needs all {self.config.cells} cells of the board in every example: "
                "render the batch on full canvases (model.canvas=full)"
            )
        slots_BN = torch.arange(slots, device=cells_BC.device).expand(len(cells_BC), slots)
        positions_BS = torch.cat((slots_BN, torch.where(cells_BC < 0, cells_BC, cells_BC + slots)), dim=1)
        widths_B = fixed_width(batch.lengths_B, self.config.board_side)
        lengths_B = slots + batch.lengths_B if batch.is_compact else None
        return make_layout(positions_BS, widths_B, self.rotary_cos, self.rotary_sin, self.varlen, lengths_B)
