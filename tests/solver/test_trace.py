"""A recorded trace equals the latents of the model when it is called step by step."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from solver.model.equations import DIRECT, SINGLE, TRM, multi_scale
from solver.model.puzzle_embedding import PuzzleEmbedding
from solver.model.trace import Movement, TraceRecorder, relative
from solver.training.deep_supervision import predict_steps
from tests.helpers.small_model import CONFIG, make_batch, make_learner, make_model


def test_a_trace_is_what_direct_calls_of_the_model_give() -> None:
    """The traced row 1 of three is padded, and its unused positions do not count."""
    model = make_model(replace(CONFIG, h_cycles=2, l_cycles=2))
    table = PuzzleEmbedding(3, CONFIG.id_length)
    batch = make_batch([4, 3, 2])
    steps = 3
    trace = TraceRecorder(model, batch, np.array([1, 2]))
    for output in predict_steps(model, table, batch, steps, watch=trace.watch):
        trace.add(output)
    traces = trace.examples()
    assert len(traces) == 2

    alone = batch.each(lambda tensor: tensor[1:2]).padded(3)
    cells = 3
    latents = model.initial_latents(alone)
    ids_BI = table.lookup(alone.puzzles_B)
    for step in range(steps):
        changes: dict[str, list[float]] = {"z_h": [], "z_l": []}

        def watch(name: str, old: Tensor, new: Tensor, into: dict[str, list[float]] = changes) -> None:
            into[name].append(float((new - old).norm() / new.norm()))

        with torch.no_grad():
            output = model(latents, alone, ids_BI, watch=watch)
            for name, z in (("answer", output.latents["z_h"]), ("reasoning", output.latents["z_l"])):
                tokens = model.cell_head(z[CONFIG.id_slots :]).argmax(-1)
                assert getattr(traces[0], name)[step, :cells].tolist() == tokens.tolist()
            assert traces[0].answer_moved[step].tolist() == pytest.approx(changes["z_h"], abs=1e-5)
            assert traces[0].reasoning_moved[step].tolist() == pytest.approx(changes["z_l"], abs=1e-5)
            assert abs(float(traces[0].halting[step]) - float(output.halt_B.sigmoid())) < 1e-6
        latents = output.latents
    assert traces[0].answer.shape == (steps, 4)
    assert traces[0].answer_moved.shape == (steps, 2)
    assert traces[0].reasoning_moved.shape == (steps, 4)


@pytest.mark.parametrize(
    ("recursion", "answer", "others"), [(TRM, 2, 4), (SINGLE, 6, 0), (DIRECT, 2, 0), (multi_scale(3), 2, 6)]
)
def test_every_model_of_the_family_can_be_followed(recursion: object, answer: int, others: int) -> None:
    model = make_model(replace(CONFIG, h_cycles=2, l_cycles=2, recursion=recursion))
    batch = make_batch([4, 2])
    trace = TraceRecorder(model, batch, np.array([0]))
    for output in predict_steps(model, PuzzleEmbedding(2, CONFIG.id_length), batch, 3, watch=trace.watch):
        trace.add(output)
    (example,) = trace.examples()
    assert example.answer_moved.shape == (3, answer)
    assert example.reasoning_moved.shape == (3, others)
    assert example.reasoning.shape == (3, 4 if others else 0)


def test_following_nobody_is_allowed() -> None:
    model = make_model()
    table = PuzzleEmbedding(2, CONFIG.id_length)
    batch = make_batch([4, 4])
    trace = TraceRecorder(model, batch, np.zeros(0, np.int64))
    for output in predict_steps(model, table, batch, 2, watch=trace.watch):
        trace.add(output)
    assert trace.examples() == []


def test_movement_by_hand() -> None:
    movement = Movement()
    for old, new in (([3.0, 0.0], [3.0, 4.0]), ([0.0, 0.0], [6.0, 8.0])):
        movement.begin()
        movement("z_h", torch.tensor([old]), torch.tensor([new]))
        movement("z_h", torch.tensor([new]), torch.tensor([new]))
    # The first update moves by 4 and by 10, to lengths of 5 and 10.
    assert relative(movement.squares["z_h"]) == pytest.approx([(116 / 125) ** 0.5, 0.0])


@pytest.mark.parametrize("micro_batch", [None, 2])
def test_movement_in_training_does_not_depend_on_the_chunks(micro_batch: int | None) -> None:
    model = make_model(replace(CONFIG, h_cycles=2, l_cycles=2, canvas="full"))
    learner = make_learner(model, micro_batch=micro_batch)
    learner.step(make_batch([16, 16, 16]), watched=True)
    changes = {name: relative(squares) for name, squares in learner.movement.squares.items()}
    assert [len(changes[name]) for name in ("z_h", "z_l")] == [2, 4]
    whole = make_learner(make_model(model.config))
    whole.step(make_batch([16, 16, 16]), watched=True)
    for name, squares in whole.movement.squares.items():
        assert changes[name] == pytest.approx(relative(squares), rel=1e-4)
    whole.step(make_batch([16, 16, 16]))
    assert {name: len(squares) for name, squares in whole.movement.squares.items()} == {"z_h": 2, "z_l": 4}
