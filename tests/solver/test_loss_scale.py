"""Half precision, scaled losses, and gradients that are not finite."""

import pytest
import torch
from torch.testing import assert_close

from solver.training.loss_scale import LossScale
from solver.training.step_result import NotFiniteError
from tests.helpers.small_model import gradients_of, make_batch, make_learner, make_model


def test_half_precision_learns_nearly_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    losses = {}
    for precision in (torch.float32, torch.bfloat16, torch.float16):
        learner = make_learner(make_model(), scale_loss=precision == torch.float16)
        learner.model.precision = precision
        totals = [learner.step(make_batch([4, 3, 2])).losses.total for _ in range(30)]
        assert learner.carry is not None
        assert learner.carry.latents["z_h"].dtype == precision
        losses[precision] = float(torch.stack(totals[-5:]).mean())
        assert {parameter.dtype for parameter in learner.model.parameters()} == {torch.float32}
    assert losses[torch.bfloat16] == pytest.approx(losses[torch.float32], rel=0.15)
    assert losses[torch.float16] == pytest.approx(losses[torch.float32], rel=0.15)


def test_a_step_whose_gradients_overflow_is_left_out_and_the_scale_halved() -> None:
    learner = make_learner(make_model(), scale_loss=True)
    assert learner.scale is not None
    learner.model.precision = torch.float16
    learner.scale.value = 2.0**40
    learner.step(make_batch([4, 4]))
    before = [parameter.clone() for parameter in learner.model.parameters()]
    start = list(make_model().parameters())
    assert_close(before, start, rtol=0, atol=0)
    assert (learner.steps, learner.scale.value) == (1, 2.0**39)
    for _ in range(40):
        learner.step(make_batch([4, 4]))
    assert 1 < learner.scale.value < 2.0**30
    assert not torch.equal(next(learner.model.parameters()), before[0])


def test_the_scale_does_not_change_what_is_learnt() -> None:
    plain = make_learner(make_model())
    scaled = make_learner(make_model(), scale_loss=True)
    for _ in range(3):
        results = [learner.step(make_batch([4, 2])) for learner in (plain, scaled)]
    assert_close(results[0].id_gradients_BI, results[1].id_gradients_BI, rtol=1e-5, atol=0)
    assert_close(gradients_of(plain), gradients_of(scaled), rtol=1e-5, atol=1e-9)


def test_the_scale_doubles_after_calm_steps() -> None:
    scale = LossScale(8.0, patience=3)
    for finite in (True, True, False, True, True, True, True):
        scale.update(finite)
    assert scale.numbers() == {"value": 8.0, "calm": 1}


@pytest.mark.parametrize("scale_loss", [False, True])
@pytest.mark.parametrize("where", ["weights", "ids"])
def test_what_is_not_finite_stops_before_anything_changes(where: str, scale_loss: bool) -> None:
    """The error is also raised with a loss scale, because no factor helps if the loss itself is not finite."""
    learner = make_learner(make_model(), scale_loss=scale_loss)
    learner.step(make_batch([4, 3]))
    if where == "weights":
        with torch.no_grad():
            learner.model.cell_head.weight[5] = torch.inf
    else:
        learner.table.weights_PI[1, 3] = torch.nan
    before = {name: tensor.clone() for group in learner.tensors().values() for name, tensor in group.items()}
    with pytest.raises(NotFiniteError, match="step 2") as error:
        learner.step(make_batch([4, 3]))
    after = {name: tensor for group in learner.tensors().values() for name, tensor in group.items()}
    assert_close(after, before, rtol=0, atol=0, equal_nan=True)
    assert learner.steps == 1
    assert error.value.carry.batch.puzzles_B.tolist() == [0, 1]


# The whole state is restored.
