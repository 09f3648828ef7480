"""Steps in which only ID rows learn: what does not change, what does, and that a saved state resumes identically."""

from copy import deepcopy
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from solver.training.learner import Learner
from tests.helpers.commands import run
from tests.helpers.resume import STEPS as SEVENTEEN_STEPS
from tests.helpers.resume import TRAIN, Crash, after, crash, same_run
from tests.helpers.small_model import CONFIG, make_batch, make_learner, make_model

STEPS = 12
SHARE = 0.25
"""A quarter of twelve steps: three."""


def learner(**settings: object) -> Learner:
    return make_learner(make_model(), **{"total_steps": STEPS, "ids_only": SHARE, **settings})


def advance(trained: Learner, steps: int) -> Learner:
    for _ in range(steps):
        trained.step(make_batch([4, 3], first_puzzle=2 * (trained.steps % 3)))
    return trained


def copies(trained: Learner) -> dict[str, dict[str, torch.Tensor]]:
    return deepcopy({part: {n: v.detach() for n, v in named.items()} for part, named in trained.tensors().items()})


@pytest.mark.parametrize("optimizer", ["adam_atan2", "muon"])
def test_at_first_only_id_rows_learn_and_then_all(optimizer: str) -> None:
    trained = learner(optimizer=optimizer, weight_decay=0.1)
    before = copies(trained)
    after = copies(advance(trained, 3))
    for part in ("model", "average", "optimizer"):
        assert_close(after[part], before[part], rtol=0, atol=0)
    assert after["ids"]["rows"].any()
    updated = copies(advance(trained, 1))
    for part in ("model", "average"):
        same = [name for name, value in updated[part].items() if torch.equal(value, after[part][name])]
        assert all(name.endswith("_start") for name in same), "the starting latents are never trained"
    assert updated["optimizer"]
    assert not torch.equal(updated["ids"]["rows"], after["ids"]["rows"])


def test_the_first_step_is_that_of_any_training() -> None:
    """The forward pass, its losses and the update of the ID rows are the same; only the weights' update differs."""
    usual = learner(ids_only=0.0)
    ids_only = learner()
    batch = make_batch([4, 3])
    for trained in (usual, ids_only):
        result = trained.step(batch)
        assert result.losses.total.isfinite()
    assert torch.equal(usual.table.weights_PI, ids_only.table.weights_PI)
    assert not torch.equal(usual.model.cell_head.weight, ids_only.model.cell_head.weight)


def test_rates_follow_the_schedule_as_ever() -> None:
    """Warm-up counts all steps from the first, including those in which only ID rows learn."""
    trained = advance(learner(warmup=6), 4)
    assert trained.optimizers[0].param_groups[0]["lr"] == pytest.approx(1e-3 * 4 / 6)


def test_the_share_is_one_of_the_steps_that_are_planned_now() -> None:
    trained = learner()
    trained.plan_steps(8)
    start = trained.model.cell_head.weight.clone()
    assert torch.equal(advance(trained, 2).model.cell_head.weight, start)
    assert not torch.equal(advance(trained, 1).model.cell_head.weight, start)


@pytest.mark.parametrize("saved_at", [2, 3, 4])
def test_a_saved_state_goes_on_the_same_across_the_border(saved_at: int) -> None:
    whole = advance(learner(), 7)
    first = advance(learner(), saved_at)
    second = make_learner(make_model(CONFIG), total_steps=STEPS, ids_only=SHARE)
    second.load(copies(first), [deepcopy(first.slots())], first.numbers())
    assert_close(copies(advance(second, 7 - saved_at)), copies(whole), rtol=0, atol=0)


def test_a_run_that_is_killed_on_either_side_of_the_border_goes_on_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the first 8 of 17 steps only ID rows learn; a checkpoint is written every 4 steps."""
    few = ("--score", "arc-agi-1/training", "--max-side", "3", "--limit", "4", "--augmentations", "2")
    assert run("build", *few, "--out", tmp_path / "set") == 0
    words = ("train", "--puzzles", tmp_path / "set", *TRAIN, *SEVENTEEN_STEPS, "--set", "train.ids_only=0.5")
    assert run(*words, "--run-dir", tmp_path / "alone") == 0
    for step in (7, 10):
        with monkeypatch.context() as patch:
            patch.setattr(Learner, "step", after(step, crash))
            with pytest.raises(Crash):
                run(*words, "--run-dir", tmp_path / "killed")
    assert run(*words, "--run-dir", tmp_path / "killed") == 0
    same_run(tmp_path / "alone", tmp_path / "killed")
