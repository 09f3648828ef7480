"""Options of training in complete optimizer steps: random halting, resuming, chunks, several processes."""

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.testing import assert_close

from solver.data.batch import Batch
from solver.model.equations import GRAM
from solver.model.puzzle_embedding import PuzzleEmbedding
from solver.training.deep_supervision import draw_random_halts, predict_steps
from solver.training.learner import Learner
from solver.training.learner_config import LearnerConfig
from solver.training.loss import log_probabilities
from solver.training.process_group import ProcessGroup, own_part
from tests.helpers.process_threads import Threads, in_threads
from tests.helpers.small_model import CONFIG, gradients_of, make_batch, make_learner, make_model

OPTIONS: dict[str, dict[str, Any]] = {
    "adamw": {"optimizer": "adamw", "schedule": "wsd", "min_ratio": 0.1, "total_steps": 12, "warmup": 2},
    "normuon": {"optimizer": "normuon", "muon_lr": 1e-3},
    "adam_ids": {"id_optimizer": "adam", "id_weight_decay": 0.1},
    "softmax": {"loss": "softmax", "label_smoothing": 0.1, "halting_loss": 0.2},
    "corrupted": {"corrupted": 0.5},
    "random": {"halting": "random", "exploration": 0.3},
    "dropout": {"dropout": 0.2},
}
OPTIONS["together"] = {name: value for options in OPTIONS.values() for name, value in options.items()}
OF_MODEL = {"halting", "exploration", "dropout"}


def learner_with(name: str, processes: ProcessGroup | None = None) -> Learner:
    """Return a learner in float64, with ID rows that are not zero."""
    options = OPTIONS[name]
    of_model = {key: options[key] for key in options.keys() & OF_MODEL}
    model = make_model(replace(CONFIG, **{"board_side": 30, "max_steps": 4, "exploration": 0.5} | of_model)).double()
    model.precision = torch.float64
    table = PuzzleEmbedding(64, 16)
    table.weights_PI = torch.randn(64, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    settings = {"lr": 1e-3, "warmup": 0, "total_steps": 300} | {key: options[key] for key in options.keys() - OF_MODEL}
    return Learner(model, table, LearnerConfig(**settings), processes)


def batches(count: int) -> list[Batch]:
    return [make_batch([36 + step, 2, 25, 9, 16], first_puzzle=5 * step % 40) for step in range(count)]


def copied(tensors: dict) -> dict:
    return {name: copied(value) if isinstance(value, dict) else value.clone() for name, value in tensors.items()}


@pytest.mark.parametrize("name", OPTIONS)
def test_a_state_goes_on_bit_for_bit(name: str) -> None:
    straight, first, second = (learner_with(name) for _ in range(3))
    for batch in batches(10):
        straight.step(batch)
    for batch in batches(10)[:5]:
        first.step(batch)
    second.load(copied(first.tensors()), [copied(first.slots())], json.loads(json.dumps(first.numbers())))
    for batch in batches(10)[5:]:
        second.step(batch)
    assert_close(second.tensors(), straight.tensors(), rtol=0, atol=0)
    assert_close(second.slots(), straight.slots(), rtol=0, atol=0)
    assert ("id_optimizer" in straight.tensors()) == ("id_optimizer" in OPTIONS[name])


def train_in_threads(name: str, sizes: Sequence[int], steps: int) -> list[Learner]:
    """Train one learner per thread; `sizes` are their numbers of slots."""

    def train(processes: Threads) -> Learner:
        learner = learners[processes.index]
        learner.processes = processes
        part = own_part(sizes, processes.index)
        for batch in batches(steps):
            learner.step(batch.each(lambda tensor: tensor[part]))
        return learner

    learners = [learner_with(name) for _ in sizes]
    return in_threads(len(sizes), train)


@pytest.mark.parametrize("name", OPTIONS)
def test_two_processes_learn_what_one_does(name: str) -> None:
    alone = learner_with(name)
    for batch in batches(8):
        alone.step(batch)
    for learner in train_in_threads(name, (2, 3), 8):
        assert learner.steps == 8
        assert_close(learner.tensors(), alone.tensors(), rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", OPTIONS)
def test_chunks_change_nothing(name: str) -> None:
    learners = []
    for most in (None, 40):
        learner = learner_with(name)
        learner.limit.most = most
        for batch in batches(6):
            learner.step(batch)
        learners.append(learner)
    assert_close(learners[0].tensors(), learners[1].tensors(), rtol=0, atol=1e-9)


def test_slots_that_halt_by_chance_do_so_whatever_they_answer() -> None:
    learner = learner_with("random")
    with torch.no_grad():
        learner.model.halt_head.bias.fill_(50.0)
    steps_B = torch.zeros(5, dtype=torch.int64)
    for number, batch in enumerate(batches(20), 1):
        result = learner.step(batch)
        steps_B += 1
        expected_B = draw_random_halts(0, number, 5, 0.3) | (steps_B >= 4)
        assert result.halted_B.equal(expected_B)
        steps_B[expected_B] = 0


def test_where_chance_halts_nothing_is_learnt_about_halting() -> None:
    learner = learner_with("random")
    result = learner.step(batches(1)[0])
    for parameter in learner.model.halt_head.parameters():
        assert parameter.grad is not None
        assert not parameter.grad.any()
    assert_close(result.losses.total, result.losses.cells)
    assert float(result.losses.halting) > 0, "it is reported nevertheless"


@pytest.mark.parametrize("loss", ["stablemax", "softmax"])
def test_where_chance_halts_the_halting_logit_is_of_the_least_sure_cell(loss: Any) -> None:
    model = make_model(replace(CONFIG, halting="random"))
    learner = make_learner(model, loss=loss)
    batch = make_batch([4, 3])
    for output in predict_steps(model, learner.table, batch):
        tokens = torch.arange(12).expand(output.logits_BCV.shape)
        best_BC = log_probabilities(output.logits_BCV, tokens, loss).amax(-1).double().exp()
        expected_B = torch.stack([best_BC[0].min(), best_BC[1, :3].min()]).logit()
        assert_close(output.halt_B.double(), expected_B, rtol=1e-4, atol=1e-5)
        assert not output.halt_B.requires_grad


def test_softmax_learns_by_softmax() -> None:
    learner = make_learner(make_model(), loss="softmax", halting_loss=0.0)
    batch = make_batch([4, 3])
    result = learner.step(batch)
    logs = log_probabilities(result.output.logits_BCV, batch.labels_BS[..., None], "softmax")[..., 0]
    used_BS = batch.labels_BS != 0
    assert_close(result.losses.total, -((logs * used_BS).sum(1) / used_BS.sum(1)).sum())
    assert result.losses.total.dtype == torch.float32
    assert learner.model.loss == "softmax"


def test_adam_moves_only_the_rows_in_the_batch() -> None:
    learner = make_learner(make_model(), rows=1000, id_optimizer="adam")
    learner.step(make_batch([4, 4]))
    assert learner.table.weights_PI.any(1).nonzero()[:, 0].tolist() == [0, 1]
    assert learner.id_adam is not None
    assert learner.id_adam.adams["rows"].steps_P.nonzero()[:, 0].tolist() == [0, 1]
    assert_close(learner.table.weights_PI[:2].abs().amax(), torch.tensor(1e-2), rtol=1e-3, atol=0)


def test_the_schedule_reaches_the_weights() -> None:
    learner = make_learner(make_model(), schedule="wsd", decay=0.5, min_ratio=0.2, total_steps=4)
    rates = []
    for number in range(4):
        learner.step(make_batch([4, 4], first_puzzle=2 * number))
        rates.append(learner.optimizers[0].param_groups[0]["lr"])
    assert rates == pytest.approx([1e-3, 1e-3, 0.6e-3, 0.2e-3])


def test_what_is_not_asked_for_changes_nothing() -> None:
    """The published learner equals one with every option set explicitly to its default."""
    defaults = {"id_optimizer": "sign", "schedule": "cosine", "loss": "stablemax", "label_smoothing": 0.0}
    plain = make_learner(make_model())
    named = make_learner(make_model(), **defaults, halting_loss=0.5, corrupted=0.0)
    for learner in (plain, named):
        learner.step(make_batch([4, 3]))
    assert_close(gradients_of(named), gradients_of(plain), rtol=0, atol=0)
    assert_close(named.tensors(), plain.tensors(), rtol=0, atol=0)


def test_a_value_is_still_judged_where_halting_is_random() -> None:
    model = make_model(replace(CONFIG, recursion=GRAM, halting="random"))
    batch = make_batch([4, 3])
    table = PuzzleEmbedding(2, CONFIG.id_length)
    output = model(model.initial_latents(batch), batch, table.lookup(batch.puzzles_B))
    assert output.value_B.isfinite().all()
    assert output.halt_B.isfinite().all()
