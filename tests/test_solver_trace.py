"""What is shown of the recursion is what the model, called step by step, holds."""

from dataclasses import replace

import numpy as np
import torch

from solver.embedding import IdTable
from solver.supervision import predict_steps
from solver.trace import Trace
from tests.small_model import CONFIG, make_batch, make_model


def test_a_trace_is_what_direct_calls_of_the_model_give() -> None:
    """Row 1 of three, padded: its unused positions do not count."""
    model, table = make_model(replace(CONFIG, h_cycles=2, l_cycles=2)), IdTable(3, CONFIG.id_length)
    batch, steps = make_batch([4, 3, 2]), 3
    trace = Trace(model, batch, np.array([1, 2]))
    for output in predict_steps(model, table, batch, steps):
        trace.add(output)
    shown = trace.examples()
    assert len(shown) == 2

    alone, cells = batch.each(lambda tensor: tensor[1:2]).padded(3), 3
    latents, ids_BI = model.initial_latents(1, cells), table.lookup(alone.puzzles_B)
    for step in range(steps):
        with torch.no_grad():
            output = model(latents, alone, ids_BI)
            for name, z in (("answer", output.latents.z_h), ("reasoning", output.latents.z_l)):
                read = model.cell_head(z[0, CONFIG.id_slots :]).argmax(-1)
                assert getattr(shown[0], name)[step, :cells].tolist() == read.tolist()
            for name, new, old in (
                ("answer_moved", output.latents.z_h, latents.z_h),
                ("reasoning_moved", output.latents.z_l, latents.z_l),
            ):
                moved = float((new - old).norm() / new.norm())
                assert abs(float(getattr(shown[0], name)[step]) - moved) < 1e-5
            assert abs(float(shown[0].halting[step]) - float(output.halt_B.sigmoid())) < 1e-6
        latents = output.latents
    assert shown[0].answer.shape == (steps, 4)


def test_following_nobody_is_allowed() -> None:
    model, table, batch = make_model(), IdTable(2, CONFIG.id_length), make_batch([4, 4])
    trace = Trace(model, batch, np.zeros(0, np.int64))
    for output in predict_steps(model, table, batch, 2):
        trace.add(output)
    assert trace.examples() == []
