"""Turned heads: a key stands where its head's transform of the input grid moves it."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from augment.transform import DIHEDRALS, apply, source_cell
from solver.batches import Batch
from solver.kernels import attend
from solver.model import RecursiveModel
from solver.settings import ModelConfig
from solver.symbols import SymbolBlock, SymbolLayout
from solver.tokens import COLOUR
from solver.turned_heads import TRANSFORMS, move, turned_angles

SIDE, HEADS = 7, 8
CONFIG = ModelConfig(
    hidden=64,
    heads=HEADS,
    expansion=1,
    inner_multiple=16,
    board_side=SIDE,
    id_slots=1,
    canvas="task",
    positions="rope2d",
    rope_theta=30.0,
    turned_heads=True,
)
SYMBOLS = replace(CONFIG, symbols=True, id_slots=0, halting="random")
SIZES = [(2, 4), (3, 3), (4, 1)]
"""Heights and widths of input grids, each in the corner of a canvas."""
CANVAS = 5


def make_batch() -> Batch:
    cells = torch.tensor([y * SIDE + x for y, x in product(range(CANVAS), repeat=2)]).expand(len(SIZES), -1).clone()
    tokens = torch.zeros_like(cells)
    for number, (height, width) in enumerate(SIZES):
        for y, x in product(range(height), range(width)):
            tokens[number, y * CANVAS + x] = COLOUR + (3 * x + y) % 4
    cells[2, -7:] = -1
    symbols = torch.zeros(len(SIZES), 12, dtype=torch.bool)
    symbols[:, : COLOUR + 4] = True
    return Batch(tokens, tokens, cells, torch.zeros(len(SIZES), dtype=torch.int64), symbols_BV=symbols)


BATCH = make_batch()


@pytest.mark.parametrize("dihedral", range(DIHEDRALS))
def test_a_cell_is_moved_as_the_transform_of_a_grid_moves_it(dihedral: int) -> None:
    height, width = 2, 4
    for row, column in product(range(height), range(width)):
        grid = np.zeros((height, width), np.uint8)
        grid[row, column] = 1
        landed = np.argwhere(apply(grid, dihedral, np.arange(10, dtype=np.uint8)) == 1)[0].tolist()
        moved = move(dihedral, *(torch.tensor(number) for number in (row, column, height - 1, width - 1)))
        assert [int(number) for number in moved] == landed


def test_the_cell_that_a_colour_comes_from_is_at_no_distance() -> None:
    """To the head of a transform, the key of an answer's source cell has the angles of the answer's cell."""
    cos, sin = turned_angles(CONFIG, BATCH.tokens_BS, BATCH.cells_BS)
    number, (height, width) = 0, SIZES[0]
    for head, dihedral in enumerate(TRANSFORMS):
        moves = dihedral in (1, 3, 6, 7)
        for row, column in product(range(width if moves else height), range(height if moves else width)):
            source_row, source_column = source_cell(dihedral, row, column, height, width)
            query, key = row * CANVAS + column, source_row * CANVAS + source_column
            for table in (cos, sin):
                assert_close(table[number, query, 0, head], table[number, key, 1, head])


def test_the_first_head_is_as_without_turns() -> None:
    model, plain = RecursiveModel(CONFIG), RecursiveModel(replace(CONFIG, turned_heads=False))
    turned, straight = model.layout(BATCH), plain.layout(BATCH)
    assert isinstance(turned, type(straight))
    for part in range(2):
        assert_close(turned.cos[:, part, 0], straight.cos[:, 0, 0])
        assert_close(turned.sin[:, part, 0], straight.sin[:, 0, 0])


def test_the_loops_turn_each_head_by_its_own_angles() -> None:
    """The attention of `solver.kernels` and PyTorch's agree, with their gradients."""
    torch.manual_seed(0)
    block = SymbolBlock(SYMBOLS).double()
    layout = RecursiveModel(SYMBOLS).double().layout(BATCH)
    assert isinstance(layout, SymbolLayout)
    rows = sum(group.length for group in layout.groups)
    results = []
    for ours in (True, False):
        x_TD = torch.randn(rows, SYMBOLS.hidden, generator=torch.Generator().manual_seed(1)).double().requires_grad_()
        if ours:
            qkv_TNHK = block.mixer.qkv(x_TD).unflatten(-1, (3, HEADS, -1))
            mixed_THK = attend(qkv_TNHK, layout.over_cells, (layout.cos, layout.sin))
        else:
            mixed_THK = layout.attend_cells(*block.mixer.project(x_TD, layout.cos, layout.sin))
        mixed_THK.square().sum().backward()
        results.append((mixed_THK.detach(), x_TD.grad))
    assert_close(results[0], results[1], rtol=0, atol=1e-12)


@pytest.mark.parametrize("config", [CONFIG, SYMBOLS])
def test_each_example_is_what_it_is_alone(config: ModelConfig) -> None:
    torch.manual_seed(0)
    model = RecursiveModel(config).double()
    ids = torch.randn(len(SIZES), config.id_length, dtype=torch.float64)
    together = model(model.initial_latents(len(SIZES), CANVAS**2), BATCH, ids).logits_BCV
    for row in range(len(SIZES)):
        one = BATCH.each(lambda tensor, row=row: tensor[row : row + 1])
        alone = model(model.initial_latents(1, CANVAS**2), one, ids[row : row + 1]).logits_BCV
        used = BATCH.cells_BS[row] >= 0
        assert_close(together[row][used], alone[0][used])


def test_turned_heads_need_rows_and_columns() -> None:
    with pytest.raises(ValueError, match="turned_heads = True: needs"):
        replace(CONFIG, positions="rope")
