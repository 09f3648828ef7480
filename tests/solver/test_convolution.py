"""URM's short convolution: it equals torch's, for each example independently of its neighbours in memory."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from solver.model.equations import UNIVERSAL
from solver.model.layers import ConvSwiGLU
from solver.model.puzzle_embedding import PuzzleEmbedding
from solver.training.optim import make_optimizers
from tests.helpers.small_model import CONFIG, make_batch, make_model

URM = replace(CONFIG, recursion=UNIVERSAL, mlp="conv_swiglu", h_cycles=2, l_cycles=2)


def test_it_is_the_published_layer() -> None:
    """The reference is a Conv1d over the gated values, padded by one and cut at the end, as in the authors' code."""
    torch.manual_seed(0)
    mlp = ConvSwiGLU(8, 2, 8)
    x_BSD = torch.randn(3, 5, 8)
    first_BS1 = (torch.arange(5) == 0).expand(3, 5)[..., None]
    output = mlp(x_BSD.flatten(0, 1), first_BS1.flatten(0, 1)).unflatten(0, (3, 5))
    gate, up = mlp.gate_up(x_BSD).chunk(2, dim=-1)
    gated = (F.silu(gate) * up).transpose(1, 2)
    mixed = F.conv1d(gated, mlp.conv, mlp.conv_bias, padding=1, groups=gated.shape[1])[..., :5]
    assert_close(output, mlp.down(F.silu(mixed).transpose(1, 2)))


def test_an_example_is_answered_alike_in_any_batch() -> None:
    model = make_model(URM)
    table = PuzzleEmbedding(3, 16)
    together = make_batch([4, 2, 3])
    widths = [4, 2, 3]
    outputs = model(model.initial_latents(together), together, table.lookup(together.puzzles_B))
    for row, width in enumerate(widths):
        alone = make_batch([width], first_puzzle=row)
        output = model(model.initial_latents(alone), alone, table.lookup(alone.puzzles_B))
        assert_close(outputs.logits_BCV[row, :width], output.logits_BCV[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("changed", [0, 2])
def test_each_position_sees_the_one_before_it_and_none_after(changed: int) -> None:
    torch.manual_seed(0)
    mlp = ConvSwiGLU(8, 2, 8)
    x_TD = torch.randn(4, 8)
    other_TD = x_TD.clone()
    other_TD[changed] += 1
    first_T1 = (torch.arange(4) == 0)[:, None]
    moved_T = (mlp(x_TD, first_T1) - mlp(other_TD, first_T1)).abs().amax(1) > 1e-6
    assert moved_T.tolist() == [place in (changed, changed + 1) for place in range(4)]


def test_half_of_the_updates_carry_gradient() -> None:
    model = make_model(URM)
    batch = make_batch([4, 4])
    table = PuzzleEmbedding(2, 16)
    runs = list(model.config.recursion.schedule(2, 2))
    assert [(run.times, run.gradient) for run in runs] == [(2, False), (2, True)]
    z_TD = model.initial_latents(batch)["z"]
    x = []
    output = model(model.initial_latents(batch), batch, table.lookup(batch.puzzles_B))
    layout = model.layout(batch)
    x_TD = model._embed(batch, table.lookup(batch.puzzles_B), layout)
    for _ in range(4):
        z_TD = z_TD + x_TD
        for block in model.blocks:
            z_TD = block(z_TD, layout)
        x.append(z_TD)
    assert_close(output.latents["z"], x[-1].detach())


def test_muon_takes_the_matrices_and_leaves_the_convolution() -> None:
    model = make_model(URM)
    muon, rest = make_optimizers(model.named_parameters(), "muon", 1e-3, 1e-3, (0.9, 0.95), 0.1)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    muon_names, adam_names = (
        {names[id(parameter)] for group in one.param_groups for parameter in group["params"]} for one in (muon, rest)
    )
    assert {"network.0.mlp.gate_up.weight", "network.1.mixer.qkv.weight"} <= muon_names
    assert {"network.0.mlp.conv", "network.0.mlp.conv_bias", "halt_head.weight"} <= adam_names
