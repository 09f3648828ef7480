"""Batch slots between optimizer steps: refill, halting, exploration."""

from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from solver.data.batch import Batch
from solver.training.deep_supervision import draw_random_halts, halting, minimum_steps, refill, start_carry
from tests.helpers.small_model import CONFIG, make_batch, make_model


def test_halted_slots_take_the_row_of_their_own_index() -> None:
    model = make_model()
    first = refill(start_carry(model, 3), make_batch([4, 4, 4]), model)
    assert first.batch.puzzles_B.tolist() == [0, 1, 2]
    latents = {"z_h": first.latents["z_h"] + 1, "z_l": first.latents["z_l"] - 1}
    steps_B, halted_B = torch.tensor([2, 1, 3]), torch.tensor([False, True, False])
    carry = replace(first, latents=latents, steps_B=steps_B, halted_B=halted_B)
    second = refill(carry, make_batch([4, 4, 4], first_puzzle=5), model)
    assert second.batch.puzzles_B.tolist() == [0, 6, 2]
    assert second.steps_B.tolist() == [2, 0, 3]
    assert second.batch.tokens_BS[1].tolist() == [7, 8, 9, 10]
    assert second.batch.labels_BS[2].tolist() == [3, 4, 5, 6]
    assert second.rows_B.tolist() == [6, 6, 6], "two ID slots and four cells each"
    kept = [0, 1, 2, 3, 4, 5, 12, 13, 14, 15, 16, 17]
    assert_close(second.latents["z_h"][kept], latents["z_h"][kept])
    assert_close(second.latents["z_l"][6:12], model.get_buffer("l_start").expand(6, 16))


def test_the_width_is_the_fixed_one_that_holds_the_widest_row_in_the_slots() -> None:
    model = make_model(replace(CONFIG, board_side=30))
    carry = refill(start_carry(model, 2), make_batch([121, 2]), model)
    carry = replace(carry, halted_B=torch.tensor([True, False]))
    narrow = refill(carry, make_batch([3, 196], first_puzzle=2), model)
    assert [row[row >= 0].tolist() for row in narrow.batch.cells_BS] == [[0, 1, 2], [0, 1]]
    assert narrow.batch.cells_BS.shape == (2, 36)
    assert narrow.latents["z_h"].shape == (5 + 4, 16), "two ID slots each, and no row for padding"
    wide = refill(replace(narrow, halted_B=torch.tensor([False, True])), make_batch([1, 121]), model)
    assert [len(row[row >= 0]) for row in wide.batch.cells_BS] == [3, 121]
    assert wide.batch.cells_BS.shape == (2, 121)
    assert wide.batch.tokens_BS[0].tolist() == [3, 4, 5] + [0] * 118


def test_examples_for_halted_slots_go_to_them_in_order() -> None:
    model = make_model()
    first = refill(start_carry(model, 4), make_batch([4] * 4), model)
    latents = {"z_h": first.latents["z_h"] + 1, "z_l": first.latents["z_l"] - 1}
    halted_B = torch.tensor([False, True, False, True])
    carry = replace(first, latents=latents, steps_B=torch.tensor([2, 1, 1, 3]), halted_B=halted_B)
    second = refill(carry, make_batch([3, 4], first_puzzle=5), model)
    assert second.batch.puzzles_B.tolist() == [0, 5, 2, 6]
    assert second.steps_B.tolist() == [2, 0, 1, 0]
    assert second.batch.tokens_BS.tolist() == [[1, 2, 3, 4], [6, 7, 8, 0], [3, 4, 5, 6], [7, 8, 9, 10]]
    assert second.batch.cells_BS[1].tolist() == [0, 1, 2, -1]
    assert second.rows_B.tolist() == [6, 5, 6, 6]
    assert_close(second.latents["z_h"][:6], latents["z_h"][:6])
    assert_close(second.latents["z_h"][11:17], latents["z_h"][12:18])
    assert_close(second.latents["z_l"][[*range(6, 11), *range(17, 23)]], model.get_buffer("l_start").expand(11, 16))
    running = replace(second, halted_B=torch.zeros(4, dtype=torch.bool))
    nothing = make_batch([4])
    nothing = Batch(*(getattr(nothing, name)[:0] for name in nothing.__dataclass_fields__))
    assert refill(running, nothing, model).batch.puzzles_B.tolist() == [0, 5, 2, 6]


def test_a_batch_of_another_size_is_refused() -> None:
    model = make_model()
    carry = replace(start_carry(model, 4), halted_B=torch.tensor([True, False, True, False]))
    with pytest.raises(ValueError, match="3 examples offered to 4 batch slots, 2 of them halted"):
        refill(carry, make_batch([4, 4, 4]), model)


def test_halting_by_hand() -> None:
    steps_B = torch.tensor([1, 1, 2, 4, 4])
    halt_B = torch.tensor([-1.0, 1.0, 1.0, -1.0, 1.0])
    minimum_B = torch.tensor([0, 0, 3, 4, 4])
    assert halting(steps_B, halt_B, minimum_B, 4).tolist() == [False, True, False, True, True]


def test_exploration_only_prolongs() -> None:
    steps_B = torch.arange(1, 5).repeat(100)
    halt_B = torch.randn(400)
    without = halting(steps_B, halt_B, torch.zeros(400, dtype=torch.int64), 4)
    halted_B = halting(steps_B, halt_B, minimum_steps(0, 0, 400, 4, 0.5), 4)
    assert not (halted_B & ~without).any()
    assert (without & ~halted_B).any()
    assert halted_B[steps_B == 4].all()


def test_minimum_steps_are_drawn_with_their_probability_between_2_and_the_most() -> None:
    minimum_B = minimum_steps(seed=3, step=7, batch_size=20_000, max_steps=5, probability=0.1)
    minimums = minimum_B[minimum_B > 0]
    assert len(minimums) == pytest.approx(2000, rel=0.1)
    assert minimums.unique().tolist() == [2, 3, 4, 5]
    assert minimum_B.equal(minimum_steps(3, 7, 20_000, 5, 0.1))
    assert not minimum_B.equal(minimum_steps(3, 8, 20_000, 5, 0.1))
    assert not minimum_steps(3, 7, 100, 5, 0.0).any()
    assert minimum_steps(3, 7, 100, 1, 1.0).max() == 1


def test_slots_end_by_chance_with_their_probability_and_always_alike() -> None:
    ends_B = draw_random_halts(3, 7, 20_000, 0.1)
    assert int(ends_B.sum()) == pytest.approx(2000, rel=0.1)
    assert ends_B.equal(draw_random_halts(3, 7, 20_000, 0.1))
    assert not ends_B.equal(draw_random_halts(3, 8, 20_000, 0.1))
    assert ends_B[:50].equal(draw_random_halts(3, 7, 50, 0.1))
    assert not draw_random_halts(3, 7, 100, 0.0).any()
    assert draw_random_halts(3, 7, 100, 1.0).all()
