"""The positions of a batch: which of them are in use, and their layout for a model.

Positions are the ID slots 0, 1, ..., then the cells of the canvas.

Shape letters: B examples, S positions, R positions in use, K head size.
"""

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from augment.canvas import fixed_width
from solver.data.batch import Batch
from solver.model.config import ModelConfig
from solver.model.layers import rotary_tables, rotary_tables_2d
from solver.model.packing import Layout, Padding, make_layout, rows_in_use


def rows_of(config: ModelConfig, batch: Batch) -> NDArray[np.int64]:
    """Return how many positions of each example are in use (B,), in main memory: its rows in a latent."""
    return config.id_slots + batch.lengths_B


def padding_of(config: ModelConfig, batch: Batch) -> Padding:
    """Return the mapping between the rows R of a latent and the positions (B, S) of a batch."""
    in_use_BS = F.pad(batch.cells_BS >= 0, (config.id_slots, 0), value=True)
    return rows_in_use(in_use_BS, rows_of(config, batch) if batch.is_compact else None)[0]


def rotary_tables_of(config: ModelConfig) -> tuple[Tensor, Tensor]:
    """Return cosines and signed sines of all positions of a full board, (id_slots + cells, K)."""
    size = config.hidden // config.heads
    if config.positions == "rope2d":
        return rotary_tables_2d(config.id_slots, config.board_side, size, config.rope_theta)
    return rotary_tables(config.id_slots + config.cells, size, config.rope_theta)


def layout_of(config: ModelConfig, batch: Batch, cos: Tensor, sin: Tensor, varlen: bool) -> Layout:
    """Return the layout of a batch, for models without a symbol axis; see `solver.model.packing.make_layout`.

    Padding has no position. Since the ID slots are always in use, no row of the attention mask is empty.

    Raises:
        ValueError: if the MLP mixer gets a batch that does not use every cell of the board.
    """
    if config.mixer == "mlp" and (batch.lengths_B != config.cells).any():
        raise ValueError(
            f"the MLP mixer needs all {config.cells} cells of the board in every example: "
            "render the batch on full canvases (model.canvas=full)"
        )
    slots = config.id_slots
    cells_BC = batch.cells_BS
    slots_BN = torch.arange(slots, device=cells_BC.device).expand(len(cells_BC), slots)
    positions_BS = torch.cat((slots_BN, torch.where(cells_BC < 0, cells_BC, cells_BC + slots)), dim=1)
    widths_B = fixed_width(batch.lengths_B, config.board_side)
    return make_layout(positions_BS, widths_B, cos, sin, varlen, rows_of(config, batch) if batch.is_compact else None)
