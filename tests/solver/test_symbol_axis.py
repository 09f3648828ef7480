"""The symbol axis: it is equivariant to colours, and neither unused symbols nor packing change the result."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from solver.data.batch import Batch
from solver.model.config import ModelConfig
from solver.model.equations import UNIVERSAL
from solver.model.model import RecursiveModel
from solver.model.output import Output
from solver.model.puzzle_embedding import PuzzleEmbedding
from solver.model.symbol_axis import NEVER
from solver.training.loss import losses
from tests.helpers.symbol_model import CONFIG, SIDE, VOCABULARY


def make_model(config: ModelConfig = CONFIG) -> RecursiveModel:
    torch.manual_seed(0)
    model = RecursiveModel(config).double()
    model.precision = torch.float64
    torch.nn.init.normal_(model.symbol_embedding.absent)
    return model


def make_batch(sizes: list[tuple[int, int]], palettes: list[list[int]], width: int = SIDE * SIDE) -> Batch:
    """Return canvases of the given rows and columns, filled with random tokens of their palette."""
    generator = torch.Generator().manual_seed(1)
    cells = torch.full((len(sizes), width), -1)
    tokens = torch.zeros_like(cells)
    symbols = torch.zeros(len(sizes), VOCABULARY, dtype=torch.bool)
    for row, ((height, wide), palette) in enumerate(zip(sizes, palettes, strict=True)):
        places = (torch.arange(height)[:, None] * SIDE + torch.arange(wide)).flatten()
        cells[row, : len(places)] = places
        indices = torch.randint(0, len(palette), (len(places),), generator=generator)
        tokens[row, : len(places)] = torch.tensor(palette)[indices]
        symbols[row, palette] = True
    labels = tokens.roll(1, dims=1).masked_fill(cells < 0, 0)
    return Batch(tokens, labels, cells, torch.arange(len(sizes)), symbols_BV=symbols)


def make_ids(batch: Batch, config: ModelConfig = CONFIG) -> Tensor:
    torch.manual_seed(2)
    return torch.randn(len(batch), config.id_length, dtype=torch.float64)


def run(model: RecursiveModel, batch: Batch, ids_BI: Tensor) -> Output:
    latents = model.initial_latents(batch)
    return model(model(latents, batch, ids_BI).latents, batch, ids_BI)


THREE = make_batch([(4, 4), (2, 3), (3, 2)], [[0, 1, 2, 5, 7], [0, 1, 3, 4], [0, 1, 2, 9, 10, 11]])


@pytest.mark.parametrize(
    "config",
    [
        CONFIG,
        replace(CONFIG, recursion=UNIVERSAL, symbol_heads=1),
    ],
)
def test_permuting_colours_permutes_logits_and_gradients(config: ModelConfig) -> None:
    model = make_model(config)
    ids_BI = make_ids(THREE, config)
    order_V = torch.cat([torch.arange(2), 2 + torch.randperm(10, generator=torch.Generator().manual_seed(3))])
    goes_to_V = order_V.argsort()
    hidden = config.hidden
    permuted_ids = torch.cat(
        [ids_BI[:, :hidden], ids_BI[:, hidden:].unflatten(1, (-1, hidden))[:, order_V].flatten(1)], 1
    )
    permuted = replace(
        THREE,
        tokens_BS=goes_to_V[THREE.tokens_BS],
        labels_BS=goes_to_V[THREE.labels_BS],
        symbols_BV=THREE.symbols_BV[:, order_V],
    )
    results = []
    for batch, ids in ((THREE, ids_BI), (permuted, permuted_ids)):
        model.zero_grad()
        output = run(model, batch, ids)
        losses(output, batch.labels_BS).total.backward()
        results.append((output.logits_BCV, [parameter.grad for parameter in model.parameters()]))
    (logits, gradients), (permuted_logits, permuted_gradients) = results
    assert_close(permuted_logits, logits[..., order_V], atol=1e-9, rtol=0)
    for one, other in zip(gradients, permuted_gradients, strict=True):
        assert_close(one, other, atol=1e-9, rtol=1e-9)


def test_each_example_is_what_it_is_alone() -> None:
    model = make_model()
    ids_BI = make_ids(THREE)
    together = run(model, THREE, ids_BI)
    starts = [0, *np.cumsum(THREE.lengths_B)]
    for row in range(len(THREE)):
        batch = THREE.each(lambda tensor, row=row: tensor[row : row + 1])
        alone = run(model, batch, ids_BI[row : row + 1])
        assert_close(together.logits_BCV[row], alone.logits_BCV[0])
        rows = slice(starts[row], starts[row + 1])
        assert_close(together.latents["z_h"][rows], alone.latents["z_h"])


def test_a_symbol_that_is_nowhere_changes_only_what_attends_to_it() -> None:
    """All symbols outside the palette are equivalent by symmetry, so they get equal logits."""
    model = make_model()
    ids_BI = make_ids(THREE)
    ids_BI[:, CONFIG.hidden :] = 0
    every = replace(THREE, symbols_BV=torch.ones_like(THREE.symbols_BV))
    logits_BCV = run(model, every, ids_BI).logits_BCV
    for row in range(len(THREE)):
        outside = logits_BCV[row][:, ~THREE.symbols_BV[row]]
        outside = outside[THREE.cells_BS[row] >= 0]
        assert_close(outside, outside[:, :1].expand_as(outside))


def test_symbols_outside_the_palette_are_never_answered() -> None:
    logits_BCV = run(make_model(), THREE, make_ids(THREE)).logits_BCV
    outside_BCV = ~THREE.symbols_BV[:, None].expand_as(logits_BCV)
    assert (logits_BCV[outside_BCV] == NEVER).all()
    assert (logits_BCV[~outside_BCV] > NEVER).all()


def test_the_canvas_may_lie_anywhere_on_the_board() -> None:
    """Row and column positions are relative: a canvas shifted by a row and a column gives the same logits."""
    model = make_model()
    ids_BI = make_ids(THREE)
    small = make_batch([(2, 3), (3, 2), (3, 3)], [[0, 1, 2, 5], [0, 1, 3, 4], [0, 1, 9]])
    shifted = replace(small, cells_BS=torch.where(small.cells_BS < 0, small.cells_BS, small.cells_BS + SIDE + 1))
    assert_close(run(model, shifted, ids_BI).logits_BCV, run(model, small, ids_BI).logits_BCV, atol=1e-6, rtol=0)


def test_the_values_that_a_task_shares_learn_from_all_of_its_puzzles() -> None:
    table = PuzzleEmbedding(4, 5, 3, torch.tensor([0, 0, 1, 1]))
    gradients_BI = torch.tensor([[1.0, -1, 3, 3, 0], [1, 1, -1, -4, 0]])
    table.sign_sgd_(torch.tensor([0, 1]), gradients_BI, 0.1, 0.0)
    assert_close(table.lookup(torch.tensor([0, 1, 2])).detach(), torch.tensor(
        [[-0.1, 0.1, -0.1, 0.1, 0], [-0.1, -0.1, -0.1, 0.1, 0], [0, 0, 0, 0, 0]]
    ))  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"id_slots": 1}, "id_slots"),
        ({"mixer": "mlp"}, "mixer"),
        ({"mlp": "conv_swiglu"}, "mlp"),
        ({"hidden": 12, "heads": 2}, "positions"),
    ],
)
def test_what_does_not_go_together_is_refused(changes: dict, field: str) -> None:
    with pytest.raises(ValueError, match=f"model.{field}"):
        replace(CONFIG, **changes)
