"""Corrupted starts: which slots get one, how it is made, and that it depends on its own slot only."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from solver.data.batch import Batch
from solver.model.noise import NoiseSource, make_keys
from solver.training.corrupted_starts import corrupt_starts, corrupted_labels
from solver.training.deep_supervision import Carry, refill, start_carry
from tests.helpers.small_model import CONFIG, make_batch, make_learner, make_model


def chance_of(slots: int) -> NoiseSource:
    return NoiseSource(make_keys([[0, 1, slot] for slot in range(slots)]))


def filled(slots: int, cells: int = 4) -> tuple[Carry, Tensor]:
    model = make_model()
    return refill(start_carry(model, slots), make_batch([cells] * slots), model), torch.ones(slots, dtype=torch.bool)


def test_a_start_is_the_usual_one_plus_the_embedded_target() -> None:
    model = make_model()
    carry, fresh_B = filled(3)
    labels_BC = carry.batch.labels_BS.clone()
    labels_BC[0, 2] = 0
    carry = replace(carry, batch=replace(carry.batch, labels_BS=labels_BC))
    corrupted = corrupt_starts(carry, fresh_B, model, chance_of(3), 1.0, (0.0, 0.0))
    embedded = 4 * model.token_embedding.weight.detach()[labels_BC] * (labels_BC != 0)[..., None]
    added = corrupted.latents["z_h"] - carry.latents["z_h"]
    added = added.unflatten(0, (len(labels_BC), -1))
    assert_close(added[:, 2:], embedded)
    assert not added[:, :2].any(), "ID slots do not change"
    assert corrupted.latents["z_l"] is carry.latents["z_l"]
    assert not corrupted.latents["z_h"].requires_grad


def test_only_fresh_slots_and_their_share_start_so() -> None:
    model = make_model()
    carry, fresh_B = filled(400)
    for share, low, high in ((0.0, 0, 0), (0.3, 80, 160), (1.0, 400, 400)):
        corrupted = corrupt_starts(carry, fresh_B, model, chance_of(400), share, (0.3, 1.0))
        changed_B = (corrupted.latents["z_h"] != carry.latents["z_h"]).view(400, -1).any(1)
        assert low <= int(changed_B.sum()) <= high
    fresh_B = torch.arange(400) % 2 == 0
    corrupted = corrupt_starts(carry, fresh_B, model, chance_of(400), 1.0, (0.3, 1.0))
    assert_close((corrupted.latents["z_h"] != carry.latents["z_h"]).view(400, -1).any(1), fresh_B)


def labelled(labels_BC: torch.Tensor) -> Batch:
    """Return examples with these labels, of tasks that use every colour."""
    return Batch(labels_BC, labels_BC, torch.arange(labels_BC.shape[1]).expand_as(labels_BC), labels_BC[:, 0])


def test_only_colours_of_the_task_come_in() -> None:
    batch = labelled(torch.full((3, 400), 2))
    batch.symbols_BV[:] = False
    batch.symbols_BV[:, [0, 1, 2, 5, 9]] = True
    given_BC = corrupted_labels(batch, chance_of(3), (1.0, 1.0))
    assert given_BC.unique().tolist() == [2, 5, 9]


def test_each_example_draws_its_share_and_colours_evenly() -> None:
    labels_BC = torch.ones(300, 400, dtype=torch.int64)
    labels_BC[:, 300:] = 0
    given_BC = corrupted_labels(labelled(labels_BC), chance_of(300), (0.3, 1.0))
    assert not given_BC[:, 300:].any(), "unlabelled cells do not change"
    shares_B = (given_BC[:, :300] != 1).float().mean(1)
    assert 0.2 < shares_B.min() < 0.35
    assert 0.95 < shares_B.max() <= 1
    assert float(shares_B.mean()) == pytest.approx(0.65, abs=0.03)
    colours = given_BC[given_BC > 1]
    counts = torch.bincount(colours, minlength=12)[2:]
    assert len(counts) == 10
    assert counts.min() > 0.95 * counts.float().mean()
    assert counts.max() < 1.05 * counts.float().mean()


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 5), st.integers(1, 12), st.floats(0, 1), st.floats(0, 1))
def test_a_slot_has_the_same_in_any_batch_of_any_width(slot: int, cells: int, one: float, other: float) -> None:
    levels = min(one, other), max(one, other)
    labels_BC = torch.full((6, 12), 3)
    chance = chance_of(6)
    together = corrupted_labels(labelled(labels_BC), chance, levels)[slot, :cells]
    alone = corrupted_labels(labelled(labels_BC[:1, :cells]), NoiseSource(chance.keys_B[slot : slot + 1]), levels)[0]
    assert together.equal(alone)


def test_the_learner_corrupts_when_slots_are_filled_and_only_then(monkeypatch: pytest.MonkeyPatch) -> None:
    fresh_slots = []

    def record(carry: Carry, fresh_B: Tensor, *rest: object) -> Carry:
        fresh_slots.append(fresh_B.tolist())
        return corrupt_starts(carry, fresh_B, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr("solver.training.learner.corrupt_starts", record)
    learner = make_learner(make_model(), corrupted=0.5)
    for _ in range(4):
        learner.step(make_batch([4, 3]))
    assert fresh_slots == [[True, True], [False, False], [False, False], [True, True]]


def test_it_makes_the_first_answers_better_once_it_is_learnt() -> None:
    """Random labels cannot be predicted, except by a model that starts from the target."""
    torch.set_num_threads(1)
    model = make_model(replace(CONFIG, hidden=32, max_steps=1))
    learner = make_learner(model, rows=64, lr=3e-3, corrupted=1.0, corruption=(0.0, 0.0), id_lr=1e-6)
    rights = []
    for step in range(150):
        batch = make_batch([4] * 8)
        random = torch.randint(2, 12, batch.labels_BS.shape, generator=torch.Generator().manual_seed(step))
        result = learner.step(replace(batch, labels_BS=random))
        rights.append(float(result.losses.correct_B.sum() / result.losses.labelled_B.sum()))
    assert sum(rights[-10:]) / 10 > 0.8, "a random guess is right with probability 0.1"
