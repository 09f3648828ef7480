"""Turned heads: heads of attention whose keys stand where a dihedral transform of the input grid moves them.

Rotary angles tell a head how far a key is from its query. Where a task turns, mirrors or transposes its input, the cell
that an answer's cell takes its colour from is at another distance for each cell; to a head whose keys are moved by the
same transform it is at no distance. Angles are those of two-dimensional rotary positions (SE-RRM, 2603.02193); turning
them is ours.

In: tokens and cell numbers of a batch. Out: cosines and sines for each cell, query or key, and head.

Shape letters: B examples, C cells, H heads, K head size, N the two of query and key.
"""

import torch
from torch import Tensor

from augment.transform import FLIPS_COLUMNS, FLIPS_ROWS, TRANSPOSES
from solver.layers import angles_2d, turns
from solver.settings import ModelConfig
from solver.tokens import COLOUR

TRANSFORMS = (0, 4, 5, 6, 2, 1, 3, 7)
"""Of the heads in order: none, two mirrors, transpose, half a turn, two quarter turns, the other transpose."""


def turned_angles(config: ModelConfig, tokens_BC: Tensor, cells_BC: Tensor) -> tuple[Tensor, Tensor]:
    """Cosines and signed sines, (B, C, N, H, K), float32; what it is where no cell is (number -1) means nothing.

    Where the output is larger than the input, its cells past the last row or column are moved to before the first.
    """
    rows_BC = cells_BC.clamp(min=0) // config.board_side
    columns_BC = cells_BC.clamp(min=0) % config.board_side
    held_BC = (tokens_BC >= COLOUR) & (cells_BC >= 0)
    last_B2 = [torch.where(held_BC, lines_BC, 0).amax(1, keepdim=True) for lines_BC in (rows_BC, columns_BC)]
    size = config.hidden // config.heads
    own_BCK, keys_BCHK = angles_2d(rows_BC, columns_BC, size, config.rope_theta), []
    for head in range(config.heads):
        moved = move(TRANSFORMS[head % len(TRANSFORMS)], rows_BC, columns_BC, *last_B2)
        keys_BCHK.append(angles_2d(*moved, size, config.rope_theta))
    queries = own_BCK[:, :, None].expand(-1, -1, config.heads, -1)
    return turns(torch.stack((queries, torch.stack(keys_BCHK, dim=2)), dim=2))


def move(dihedral: int, row: Tensor, column: Tensor, last_row: Tensor, last_column: Tensor) -> tuple[Tensor, Tensor]:
    """The row and column to which a transform (`augment.transform`) moves a cell of a grid with these last ones."""
    if FLIPS_ROWS[dihedral]:
        row = last_row - row
    if FLIPS_COLUMNS[dihedral]:
        column = last_column - column
    return (column, row) if TRANSPOSES[dihedral] else (row, column)
