"""Noise source: the noise of an example is independent of others, Gaussian, and the same in any batch."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from solver.model.noise import NoiseSource, make_keys
from solver.model.packing import Padding
from solver.model.puzzle_embedding import PuzzleEmbedding
from solver.training.deep_supervision import predict_steps
from tests.helpers.small_model import make_batch, make_model


def test_the_numbers_are_standard_normal_and_no_two_draws_places_or_channels_are_alike() -> None:
    padding = Padding((3, 200))
    noise = torch.cat([NoiseSource(make_keys([[1], [2], [3]])).normal(draw, padding, 512) for draw in (0, 1)])
    assert_close(noise.mean(), torch.tensor(0.0), rtol=0, atol=0.01)
    assert_close(noise.std(), torch.tensor(1.0), rtol=0, atol=0.01)
    assert_close((noise**4).mean(), torch.tensor(3.0), rtol=0, atol=0.05)
    rows = torch.corrcoef(noise[::24])
    channels = torch.corrcoef(noise.T[::16])
    assert (rows - torch.eye(len(rows))).abs().max() < 0.25
    assert (channels - torch.eye(len(channels))).abs().max() < 0.2
    assert len(noise.unique()) > 0.99 * noise.numel() * (1 - noise.numel() / 2**25)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2**62), st.integers(0, 50)), min_size=1, max_size=6, unique=True), st.data())
def test_noise_is_an_examples_own_in_any_batch_of_any_width(numbers: list, data: st.DataObject) -> None:
    keys_B = make_keys(np.array(numbers))
    row = data.draw(st.integers(0, len(numbers) - 1))
    used_BS = torch.arange(7) < torch.tensor([data.draw(st.integers(1, 7)) for _ in numbers])[:, None]
    padding = Padding((len(numbers), 7), used_BS.flatten().nonzero()[:, 0])
    together = padding.unpack(NoiseSource(keys_B).at(4).normal(2, padding, 6))[row][used_BS[row]]
    alone = NoiseSource(keys_B[row : row + 1]).at(4).normal(2, Padding((1, int(used_BS[row].sum()))), 6)
    assert_close(together, alone, rtol=0, atol=0)


def test_another_example_step_or_draw_has_other_noise() -> None:
    padding = Padding((1, 4))
    chance = NoiseSource(make_keys([[5, 1]]))
    others = [NoiseSource(make_keys([[5, 2]])), NoiseSource(make_keys([[1, 5]])), chance.at(1), chance.at(2)]
    noise = [source.normal(1, padding, 8) for source in (chance, *others)] + [chance.normal(2, padding, 8)]
    assert len({tuple(values.flatten().tolist()) for values in noise}) == len(noise)


def test_noise_between_steps_is_added_to_every_latent() -> None:
    rows = Padding((3, 6))
    zeros = {name: torch.zeros(18, 512) for name in ("z_h", "z_l")}
    chance = NoiseSource(make_keys([[0, 5, 1], [0, 6, 1], [1, 5, 1]]), noise=0.3)
    noisy = chance.at(2).disturb(zeros, rows)
    second = {name: z[6:12] for name, z in zeros.items()}
    alone = NoiseSource(chance.keys_B[1:2], 0.3).at(2).disturb(second, Padding((1, 6)))
    for name in zeros:
        assert_close(alone[name], noisy[name][6:12], rtol=0, atol=0)
    later = chance.at(3).disturb(zeros, rows)
    noise = torch.cat([noisy["z_h"], noisy["z_l"], later["z_h"], later["z_l"]]).view(12, -1)
    assert_close(noise.std(dim=1), torch.full((12,), 0.3), rtol=0.05, atol=0)
    correlations = torch.corrcoef(noise) - torch.eye(12)
    assert correlations.abs().max() < 0.1, "the noise of different rows, latents and steps is uncorrelated"
    assert not zeros["z_h"].any(), "the input latents are not changed"


def test_noise_is_added_before_every_supervision_step() -> None:
    model = make_model()
    table = PuzzleEmbedding(2, 16)
    batch = make_batch([4, 4])
    chance = NoiseSource(make_keys([[1], [2]]), noise=0.5)
    latents = model.initial_latents(batch)
    rows = model.layout(batch).rows
    for step, output in enumerate(predict_steps(model, table, batch, 3, chance), 1):
        with torch.no_grad():
            by_hand = model(chance.at(step).disturb(latents, rows), batch, table.lookup(batch.puzzles_B))
        assert_close(output.logits_BCV, by_hand.logits_BCV, rtol=0, atol=0)
        latents = by_hand.latents
    *_, without = predict_steps(model, table, batch, 3)
    assert not torch.equal(without.logits_BCV, output.logits_BCV)
