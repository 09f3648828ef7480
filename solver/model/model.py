"""The recursive model: one supervision step maps a batch, its ID vectors and the latents to new latents and logits.

`ModelConfig.recursion` selects the member of the model family (TRM, HRM, GRAM, URM and others).

Shape letters: B examples, C cells of the canvas, S positions (ID slots, then cells), D hidden, V vocabulary.
"""

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from augment.dihedral import DIHEDRALS
from solver.data.batch import Batch
from solver.model.config import LossName, ModelConfig, PosteriorUse
from solver.model.dropout import Dropout, make_dropout
from solver.model.equilibrium import make_settler
from solver.model.layers import Block, Linear, look_up, truncated_normal_
from solver.model.learned_noise import Guidance, LearnedNoise
from solver.model.networks import cast_weights, compile_blocks, run_blocks
from solver.model.noise import NoiseSource
from solver.model.output import Output
from solver.model.packing import Layout, Padding, mean_over_positions, pick_rows
from solver.model.parameter_names import guidance_name, module_name, start_name
from solver.model.positions import layout_of, rotary_tables_of, rows_of
from solver.model.probability import least_confidence
from solver.model.recursion import Latents, Network, Watch, recurse
from solver.model.symbol_axis import NEVER, SymbolBlock, SymbolEmbedding, SymbolLayout, make_symbol_layout


class RecursiveModel(nn.Module):
    """An input embedding, networks that update latents repeatedly (`solver.model.equations`), and output heads.

    The ID table is not part of the model: the caller looks up the ID vectors and passes them in. The starting
    latents are buffers and are never trained.

    Attributes:
        precision: dtype of the recursion; parameters keep their own dtype and are cast where they are used, or once a
            supervision step for cycles without gradient (`cast_weights`).
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
        self._run_blocks = run_blocks
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
        cos, sin = rotary_tables_of(config)
        self.register_buffer("rotary_cos", cos, persistent=False)
        self.register_buffer("rotary_sin", sin, persistent=False)

    @property
    def device(self) -> torch.device:
        """The device of the model's parameters."""
        return self.cell_head.weight.device

    def initial_latents(self, batch: Batch) -> Latents:
        """Return the starting vectors at every position in use, by name: views of shape (R, D).

        With a symbol axis, the latents outside this module have shape (cells in use, V x D).
        """
        repeats = self.config.vocabulary if self.config.symbols else 1
        shape = int(rows_of(self.config, batch).sum()), repeats * self.config.hidden
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
            latents: the latents by name, one row for each position in use (R, D), as `initial_latents` returns
                them; ignored if the recursion's `carry` is "reset".
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
        x_TD = self._embed(batch, ids_BI, layout)
        if recursion.carry == "reset":
            latents = self.initial_latents(batch)
        in_groups = {name: self._enter(layout, z_RD) for name, z_RD in latents.items()}
        dropout = make_dropout(chance, padding)
        networks = {name: self._network(name, layout, dropout) for name in recursion.networks}
        guide = self._guide(padding, chance, batch.labels_BS if posterior else None, posterior)
        figures: dict[str, Tensor] = {}
        with cast_weights(self.blocks, self.precision):
            new_latents = recurse(
                recursion,
                networks,
                in_groups,
                x_TD,
                *(cycles or (self.config.h_cycles, self.config.l_cycles)),
                watch,
                guide,
                make_settler(self.config.equilibrium, padding, figures),
            )
        return self._make_output(new_latents, guide, figures, batch, layout)

    def _make_output(
        self,
        new_latents: Latents,
        guide: LearnedNoise,
        figures: dict[str, Tensor],
        batch: Batch,
        layout: Layout | SymbolLayout,
    ) -> Output:
        """Apply the heads to the answer and detach the latents that the next supervision step starts from.

        The accuracies, the halting logits and the value are computed from the answer drawn from the prior, if there is
        one: at prediction no other answer exists.
        """
        padding = layout.padding
        answer_TD = new_latents[self.config.recursion.answer]
        prior_TD = guide.prior_answer_TD
        logits_BCV = self._read_rows(answer_TD, layout, batch)
        prior_logits_BCV = None if prior_TD is None else self._read_rows(prior_TD, layout, batch)
        return Output(
            {name: self._leave(layout, z_TD.detach()) for name, z_TD in new_latents.items()},
            logits_BCV,
            *self._judge(
                answer_TD if prior_TD is None else prior_TD,
                logits_BCV if prior_logits_BCV is None else prior_logits_BCV,
                batch,
                layout,
            ),
            None if guide.kl_T2 is None else padding.unpack(guide.kl_T2).sum(1),
            prior_logits_BCV,
            figures | {name: mean_over_positions(width_T, padding) for name, width_T in guide.widths.items()},
        )

    def _judge(
        self, z_TD: Tensor, logits_BCV: Tensor, batch: Batch, layout: Layout | SymbolLayout
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the halting logit, the continue logit and the value, read from the first ID slot of the answer.

        With random halting, the halting logit is the confidence of the least confident cell. With a symbol axis there
        are no ID slots, so the continue logit and the value are NaN.
        """
        halt_B = continue_B = value_B = logits_BCV.new_full((len(batch),), torch.nan)
        if isinstance(layout, Layout):
            first_BD = pick_rows(z_TD, layout.starts_B).to(self.halt_head.weight.dtype)
            halt_B, continue_B = self.halt_head(first_BD).unbind(-1)
            value_B = torch.full_like(halt_B, torch.nan)
            if self.config.recursion.noisy:
                value_B = self.value_head(first_BD)[:, 0]
        if self.config.halting == "random":
            halt_B = least_confidence(logits_BCV, batch.labels_BS, batch.cells_BS >= 0, self.loss)
        return halt_B, continue_B, value_B

    def _enter(self, layout: Layout | SymbolLayout, z_RD: Tensor) -> Tensor:
        """Return the rows (T, D) of a carried latent, in the order of the layers."""
        return layout.carried.pack(z_RD.reshape(-1, self.config.hidden))

    def _leave(self, layout: Layout | SymbolLayout, z_TD: Tensor) -> Tensor:
        """Invert `_enter`; with a symbol axis, symbols that an example does not use are zero."""
        z_RD = layout.carried.unpack(z_TD)
        return z_RD.view(-1, self.config.vocabulary * self.config.hidden) if self.config.symbols else z_RD

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
            parts = {name: cast(Guidance, self.get_submodule(guidance_name(name))) for name in config.recursion.noisy}
            if labels_BC is not None:
                target_BCD = config.hidden**0.5 * self.token_embedding(labels_BC) * (labels_BC != 0)[..., None]
                target_TD = padding.pack(F.pad(target_BCD, (0, 0, config.id_slots, 0))).to(self.precision)
        width = config.noise_width
        return LearnedNoise(parts, padding, chance, target_TD, posterior == "all", config.recursion.answer, width)

    def read_cells(self, z_RD: Tensor, batch: Batch, layout: Layout | SymbolLayout) -> Tensor:
        """Return the logits (B, C, V) that the output head reads from any carried latent, answer or reasoning."""
        logits_RV = self.cell_head(z_RD.reshape(-1, self.config.hidden)).view(-1, self.config.vocabulary)
        return self._at_cells(logits_RV, layout.rows, batch)

    def _read_rows(self, z_TD: Tensor, layout: Layout | SymbolLayout, batch: Batch) -> Tensor:
        """Return the logits (B, C, V) that the output head reads from a latent of the layers."""
        logits_RV = layout.carried.unpack(self.cell_head(z_TD)).view(-1, self.config.vocabulary)
        return self._at_cells(logits_RV, layout.rows, batch)

    def _at_cells(self, logits_RV: Tensor, rows: Padding, batch: Batch) -> Tensor:
        """Return the logits of the cells (B, C, V), zero at padding."""
        logits_BCV = rows.unpack(logits_RV)[:, self.config.id_slots :]
        if not self.config.symbols:
            return logits_BCV
        return logits_BCV.to(self.cell_head.weight.dtype).masked_fill(~batch.symbols_BV[:, None], NEVER)

    def compile_blocks(self, **options: Any) -> None:
        """Compile the networks (`torch.compile`), for the chosen attention kernel; weights keep their names."""
        self._run_blocks = compile_blocks(self.blocks, self.varlen, **options)

    @property
    def blocks(self) -> list[Block | SymbolBlock]:
        """The blocks of every network, in order."""
        return [block for name in self.config.recursion.networks for block in self._blocks_of(name)]

    def _blocks_of(self, network: str) -> list[Block | SymbolBlock]:
        modules = self.get_submodule(module_name(network)).children()
        return [block for block in modules if isinstance(block, Block | SymbolBlock)]

    def _embed(self, batch: Batch, ids_BI: Tensor, layout: Layout | SymbolLayout) -> Tensor:
        """Embed the input as rows (T, D), in the model's precision.

        The ID vector, padded with zeros to fill its slots, precedes the tokens. Both are scaled by sqrt(hidden).
        """
        slots = self.config.id_slots
        hidden = self.config.hidden
        if self.config.transform_vectors:
            transforms_BI = self.transform_embedding(batch.transforms_B)
            ids_BI = ids_BI + F.pad(transforms_BI, (0, ids_BI.shape[1] - transforms_BI.shape[1]))
        if isinstance(layout, SymbolLayout):
            return layout.padding.pack(self.symbol_embedding(batch.tokens_BS, ids_BI)).to(self.precision)
        # Token 0 at the ID slots, whose vectors are overwritten.
        x_TD = self.embed_tokens(layout.padding.pack(F.pad(batch.tokens_BS, (slots, 0))))
        ids_BND = F.pad(ids_BI, (0, slots * hidden - ids_BI.shape[1])).unflatten(1, (slots, hidden))
        ids_T = (layout.starts_B[:, None] + torch.arange(slots, device=x_TD.device)).flatten()
        return x_TD.index_copy_(0, ids_T, (hidden**0.5 * ids_BND).to(self.precision).flatten(0, 1))

    def embed_tokens(self, tokens: Tensor) -> Tensor:
        """Embed tokens (..., C) as in the input, but without an ID vector: (..., C, D), in the model's precision.

        With a symbol axis, tokens (B, C) as (B, C, V x D).
        """
        if self.config.symbols:
            return self.symbol_embedding.embed_tokens(tokens).transpose(1, 2).flatten(2)
        return look_up(tokens, (self.config.hidden**0.5 * self.token_embedding.weight).to(self.precision))

    def _network(self, name: str, layout: Layout | SymbolLayout, dropout: Dropout | None) -> Network:
        """Return the network as a function of its input (T, D)."""
        blocks = self._blocks_of(name)

        def run(z_TD: Tensor) -> Tensor:
            factors = None if dropout is None else [dropout.factors(z_TD) for _ in blocks]
            return self._run_blocks(blocks, z_TD, layout, factors)

        return run

    def layout(self, batch: Batch) -> Layout | SymbolLayout:
        """Return the layout of a batch; see `layout_of` and `make_symbol_layout`."""
        tables = self.rotary_cos, self.rotary_sin
        if self.config.symbols:
            return make_symbol_layout(batch, *tables)
        return layout_of(self.config, batch, *tables, self.varlen)
