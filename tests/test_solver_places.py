"""Vectors of places: a cell is told its row and column, and how far it is from the last ones of the input grid."""

from dataclasses import replace
from itertools import product

import pytest
import torch
from torch.testing import assert_close

from solver.batches import Batch
from solver.model import RecursiveModel
from solver.places import PlaceEmbedding
from solver.settings import ModelConfig
from solver.tokens import COLOUR

SIDE = 6
CONFIG = ModelConfig(
    hidden=16, heads=2, expansion=2, inner_multiple=16, board_side=SIDE, id_slots=1, canvas="task", places="edges"
)
GRIDS = [(2, 3), (4, 1), (3, 3)]
"""Heights and widths."""


def make_tokens(canvas: int, row: int = 0, column: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens and cell numbers of a square canvas at this place of the board, the grids in its corner."""
    cells = torch.tensor([(row + y) * SIDE + column + x for y, x in product(range(canvas), repeat=2)])
    tokens = torch.zeros(len(GRIDS), canvas * canvas, dtype=torch.int64)
    for number, (height, width) in enumerate(GRIDS):
        for y, x in product(range(height), range(width)):
            tokens[number, y * canvas + x] = COLOUR + (x + y) % 3
    return tokens, cells.expand(len(GRIDS), -1)


@pytest.mark.parametrize("corner", [(0, 0), (1, 2)])
def test_a_place_is_the_sum_of_what_it_is_counted_from(corner: tuple[int, int]) -> None:
    torch.manual_seed(0)
    embedding, canvas = PlaceEmbedding(CONFIG), 4
    placed = embedding(*make_tokens(canvas, *corner))
    vectors = embedding.vectors
    for number, (height, width) in enumerate(GRIDS):
        for place, (y, x) in enumerate(product(range(canvas), repeat=2)):
            expected = vectors["row"][corner[0] + y] + vectors["column"][corner[1] + x]
            expected = expected + vectors["rows_left"][height - 1 - y + SIDE - 1]
            expected = expected + vectors["columns_left"][width - 1 - x + SIDE - 1]
            assert_close(placed[number, place], expected)


def test_on_the_board_only_row_and_column_count() -> None:
    embedding = PlaceEmbedding(replace(CONFIG, places="board"))
    tokens, cells = make_tokens(4)
    assert_close(embedding(tokens, cells), embedding(torch.zeros_like(tokens), cells))


@pytest.mark.parametrize("places", ["board", "edges"])
@pytest.mark.parametrize("symbols", [False, True])
def test_a_model_with_places_tells_cells_apart_that_nothing_else_does(places: str, symbols: bool) -> None:
    """One colour everywhere: without places all cells of a board with rotary angles by row and column are alike."""
    shape = {"id_slots": 0, "halting": "random", "exploration": 0.0, "symbols": True} if symbols else {}
    tokens, cells = torch.full((1, 9), COLOUR), torch.tensor([[0, 1, 2, 6, 7, 8, 12, 13, 14]])
    palette = torch.zeros(1, 12, dtype=torch.bool)
    palette[:, : COLOUR + 2] = True
    batch = Batch(tokens, tokens, cells, torch.zeros(1, dtype=torch.int64), symbols_BV=palette)
    spread = {}
    for name in ("none", places):
        torch.manual_seed(0)
        model = RecursiveModel(replace(CONFIG, **shape, positions="rope2d", places=name))
        ids = torch.zeros(1, model.config.id_length)
        logits = model(model.initial_latents(1, 9), batch, ids).logits_BCV[..., COLOUR : COLOUR + 2]
        spread[name] = logits.std(dim=1).max().item()
    assert spread[places] > 1e-3
    assert not symbols or spread["none"] < 1e-5


def test_unknown_places_are_refused() -> None:
    with pytest.raises(ValueError, match=r"model.places = 'corner': must be one of none, board, edges"):
        replace(CONFIG, places="corner")
