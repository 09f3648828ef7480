"""Dropout: its share, which example its random numbers belong to, and where it is off."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from solver.model.config import ModelConfig
from solver.model.dropout import Dropout, drop, make_dropout
from solver.model.layers import Block, rms_norm
from solver.model.noise import NoiseSource, make_keys
from solver.model.packing import Padding
from solver.model.puzzle_embedding import PuzzleEmbedding
from solver.training.deep_supervision import predict_steps
from tests.helpers.small_model import CONFIG, gradients_of, make_batch, make_learner, make_model


def chance_of(share: float, numbers: list[list[int]] | None = None) -> NoiseSource:
    return NoiseSource(make_keys(numbers or [[0, 1, slot] for slot in range(8)]), dropout=share)


def test_uniform_numbers_are_uniform_and_unlike_each_other() -> None:
    draws = chance_of(0).uniform(3, Padding((8, 100)), 64)
    assert draws.shape == (2, 800, 64)
    assert 0 <= draws.min() < 0.001
    assert 0.999 < draws.max() < 1
    assert_close(draws.mean(), torch.tensor(0.5), rtol=0, atol=0.01)
    assert_close(draws.var(), torch.tensor(1 / 12), rtol=0.02, atol=0)
    assert torch.corrcoef(draws.flatten(1))[0, 1].abs() < 0.02
    correlations = torch.corrcoef(draws[0, ::50]) - torch.eye(16)
    assert correlations.abs().max() < 0.6


def test_its_share_is_left_out_and_the_mean_stays() -> None:
    factors = Dropout(chance_of(0.25), Padding((8, 100))).factors(torch.zeros(800, 64))
    assert factors.unique().tolist() == pytest.approx([0, 4 / 3])
    assert float((factors == 0).float().mean()) == pytest.approx(0.25, abs=0.01)
    assert float(factors.mean()) == pytest.approx(1, abs=0.01)


def test_every_application_step_and_slot_has_masks_of_its_own() -> None:
    padding = Padding((1, 20))
    x_TD = torch.zeros(20, 16)
    dropout = Dropout(chance_of(0.5, [[0, 1, 2]]), padding)
    draws = [dropout.factors(x_TD) for _ in range(3)]
    draws += [Dropout(chance_of(0.5, [other]), padding).factors(x_TD) for other in ([0, 2, 2], [0, 1, 3], [1, 1, 2])]
    assert len({tuple(mask.flatten().tolist()) for factors in draws for mask in factors}) == 12
    again = Dropout(chance_of(0.5, [[0, 1, 2]]), padding).factors(x_TD)
    assert_close(again, draws[0], rtol=0, atol=0)


@pytest.mark.parametrize("mixer", ["attention", "mlp"])
def test_a_block_drops_what_its_parts_give_before_it_is_added(mixer: str) -> None:
    model = make_model(replace(CONFIG, canvas="full", mixer=mixer))
    block = model.blocks[0]
    batch = make_batch([16, 16])
    layout = model.layout(batch)
    x_TD = torch.randn(36, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        ones = torch.ones(2, 36, 16)
        assert_close(block(x_TD, layout, ones), block(x_TD, layout), rtol=0, atol=0)
        nothing = rms_norm(rms_norm(x_TD, 1e-5), 1e-5)
        if mixer == "mlp":
            columns = layout.padding.unpack(x_TD).transpose(1, 2)
            nothing = rms_norm(layout.padding.pack(rms_norm(columns, 1e-5).transpose(1, 2)), 1e-5)
        assert_close(block(x_TD, layout, torch.zeros(2, 36, 16)), nothing)
        only_mlp = block(x_TD, layout, torch.stack((torch.zeros(36, 16), torch.ones(36, 16))))
        assert not torch.equal(only_mlp, nothing)


def test_nothing_is_dropped_where_none_is_asked_for() -> None:
    assert make_dropout(None, Padding((1, 1))) is None
    assert make_dropout(chance_of(0), Padding((1, 1))) is None
    output = torch.ones(2)
    assert drop(output, None) is output


def test_only_training_drops_and_each_block_application_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The additional forward pass of Q-learning has no dropout, and neither has prediction."""
    has_factors: list[bool] = []
    forward = Block.forward

    def record(block: Block, x_TD: Tensor, layout: object, factors_2TD: Tensor | None = None) -> Tensor:
        has_factors.append(factors_2TD is not None)
        return forward(block, x_TD, layout, factors_2TD)  # type: ignore[arg-type]

    monkeypatch.setattr(Block, "forward", record)
    model = make_model(replace(CONFIG, dropout=0.3, halting="q_learning", h_cycles=2))
    make_learner(model).step(make_batch([4, 4]))
    applications = model.config.effective_depth
    assert has_factors[: len(has_factors) // 2] == [True] * (len(has_factors) // 2)
    assert has_factors[len(has_factors) // 2 :] == [False] * (len(has_factors) // 2)
    assert len(has_factors) % applications == 0
    has_factors.clear()
    list(predict_steps(model, PuzzleEmbedding(2, 16), make_batch([4, 4])))
    assert has_factors
    assert not any(has_factors)


def test_chunks_drop_the_same() -> None:
    gradients = []
    for most in (None, 30):
        model = make_model(replace(CONFIG, board_side=30, dropout=0.3)).double()
        model.precision = torch.float64
        learner = make_learner(model)
        learner.table.weights_PI = learner.table.weights_PI.double()
        learner.limit.most = most
        for _ in range(2):
            learner.step(make_batch([25, 9, 16, 4]))
        gradients.append(gradients_of(learner))
    assert_close(gradients[0], gradients[1], rtol=0, atol=1e-11)


def test_it_changes_what_is_learnt() -> None:
    gradients = []
    for share in (0.0, 0.3):
        learner = make_learner(make_model(replace(CONFIG, dropout=share)))
        learner.step(make_batch([4, 4]))
        gradients.append(gradients_of(learner))
    assert not torch.equal(gradients[0][0], gradients[1][0])


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")
def test_compiled_blocks_drop_the_same() -> None:
    results = []
    for compiled in (False, True):
        learner = make_learner(make_model(replace(CONFIG, dropout=0.3)))
        if compiled:
            learner.model.compile_blocks(backend="aot_eager")
        results.append(learner.step(make_batch([16, 3, 9])).output.logits_BCV)
    assert_close(results[0], results[1], rtol=0, atol=1e-6)


def test_impossible_shares_are_refused() -> None:
    with pytest.raises(ValueError, match=r"model\.dropout = 1\.0: must be below 1"):
        ModelConfig(dropout=1.0)
    with pytest.raises(ValueError, match=r"model\.dropout = -0\.1"):
        ModelConfig(dropout=-0.1)
