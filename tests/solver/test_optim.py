import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from solver.model.config import ModelConfig, OptimizerName
from solver.model.model import RecursiveModel
from solver.model.puzzle_embedding import PuzzleEmbedding
from solver.training.ema import MovingAverage
from solver.training.muon import NorMuon
from solver.training.optim import (
    AdamAtan2,
    AdamW,
    cycles_at,
    load_optimizer_tensors,
    make_optimizers,
    optimizer_tensors,
    scheduled_rate,
)


def test_adam_atan2_by_hand() -> None:
    lr = 0.1
    decay = 0.5
    beta1 = 0.9
    beta2 = 0.95
    parameter = torch.nn.Parameter(torch.tensor([2.0], dtype=torch.float64))
    optimizer = AdamAtan2([parameter], lr, (beta1, beta2), decay)
    value = 2.0
    mean = 0.0
    square = 0.0
    for step, gradient in enumerate((3.0, -1.0, 0.5), start=1):
        parameter.grad = torch.tensor([gradient], dtype=torch.float64)
        optimizer.step()
        mean = beta1 * mean + (1 - beta1) * gradient
        square = beta2 * square + (1 - beta2) * gradient**2
        root = math.sqrt(square / (1 - beta2**step))
        value = value * (1 - lr * decay) - lr / (1 - beta1**step) * math.atan2(mean, root)
        assert parameter.item() == pytest.approx(value, rel=1e-12)


def test_the_scale_of_the_gradient_does_not_matter() -> None:
    results = []
    for scale in (1.0, 1024.0):
        parameter = torch.nn.Parameter(torch.ones(3))
        optimizer = AdamAtan2([parameter], 0.1)
        parameter.grad = scale * torch.tensor([1.0, -2.0, 0.0])
        optimizer.step()
        results.append(parameter.detach())
    assert_close(results[0], results[1])


def test_a_parameter_without_a_gradient_decays_all_the_same() -> None:
    parameter = torch.nn.Parameter(torch.ones(2))
    AdamAtan2([parameter], 0.1, weight_decay=0.5).step()
    assert_close(parameter.detach(), torch.full((2,), 0.95))


def test_the_rate_warms_up_then_falls_to_its_minimum_and_stays() -> None:
    rates = [scheduled_rate(step, 1.0, warmup=4, total=12, min_ratio=0.2) for step in (1, 2, 4, 8, 12, 20)]
    assert rates == pytest.approx([0.25, 0.5, 1.0, 0.6, 0.2, 0.2])
    assert scheduled_rate(1, 3.0, warmup=0, total=0) == 3.0


def test_a_constant_rate_falls_along_a_line_at_the_end() -> None:
    steps = (2, 4, 15, 16, 18, 20, 30)
    rates = [scheduled_rate(step, 1.0, 4, 20, 0.2, "wsd", decay=0.2) for step in steps]
    assert rates == pytest.approx([0.5, 1.0, 1.0, 1.0, 0.6, 0.2, 0.2])
    assert scheduled_rate(7, 3.0, 0, 10, 1.0, "wsd") == 3.0, "a smallest share of 1 keeps it constant"
    assert scheduled_rate(1, 3.0, 0, 0, 0.5, "wsd") == 1.5


@given(st.integers(1, 300), st.integers(0, 50), st.floats(0, 1), st.floats(0.01, 1))
def test_a_rate_never_rises_after_its_warm_up(total: int, warmup: int, least: float, decay: float) -> None:
    rates = [scheduled_rate(step, 1.0, warmup, total, least, "wsd", decay) for step in range(warmup, total + 2)]
    assert all(later <= earlier + 1e-12 for earlier, later in pairwise(rates))
    assert all(least - 1e-12 <= rate <= 1 for rate in rates)
    assert not rates or rates[-1] == pytest.approx(least)


STAGES = (0.3, 1, 2), (0.6, 2, 4)


def test_cycles_grow_after_each_share_of_the_steps() -> None:
    cycles = [cycles_at(step, 10, STAGES, own=(3, 6)) for step in range(1, 12)]
    assert cycles == [(1, 2)] * 3 + [(2, 4)] * 3 + [(3, 6)] * 5
    assert cycles_at(1, 10, (), own=(3, 6)) == (3, 6)


@pytest.mark.parametrize("share", [share / 100 for share in range(1, 100)])
def test_a_stage_lasts_exactly_its_share(share: float) -> None:
    stage = [cycles_at(step, 100, ((share, 1, 1),), own=(2, 2)) for step in range(1, 101)]
    assert stage.count((1, 1)) == round(share * 100)


OPTIMIZERS: tuple[OptimizerName, ...] = ("adam_atan2", "muon", "adamw", "normuon")


def tiny_model() -> RecursiveModel:
    torch.manual_seed(0)
    return RecursiveModel(ModelConfig(hidden=8, heads=2, expansion=1, layers=1, board_side=2))


def optimizers_of(model: RecursiveModel, name: OptimizerName, backwards: bool = False) -> list[torch.optim.Optimizer]:
    named = list(model.named_parameters())
    return make_optimizers(named[::-1] if backwards else named, name, 1e-2, 3e-2, (0.9, 0.95), 0.1)


def take_steps(model: RecursiveModel, optimizers: list[torch.optim.Optimizer], seeds: range) -> None:
    for seed in seeds:
        for number, parameter in enumerate(model.parameters()):
            noise = torch.Generator().manual_seed(100 * seed + number)
            parameter.grad = torch.randn(parameter.shape, generator=noise).to(parameter.dtype)
        for optimizer in optimizers:
            optimizer.step()


def test_adam_atan2_is_one_optimizer_over_all_parameters_in_order() -> None:
    model = tiny_model()
    plain = tiny_model()
    take_steps(model, optimizers_of(model, "adam_atan2"), range(3))
    take_steps(plain, [AdamAtan2(plain.parameters(), 1e-2)], range(3))
    assert_close(model.state_dict(), plain.state_dict(), rtol=0, atol=0)


def test_muon_takes_the_matrices_of_the_blocks_and_nothing_else() -> None:
    model = tiny_model()
    muon, rest = optimizers_of(model, "muon")
    assert isinstance(muon, torch.optim.Muon)
    assert isinstance(rest, AdamAtan2)
    matrices = {parameter for group in muon.param_groups for parameter in group["params"]}
    names = {name for name, parameter in model.named_parameters() if parameter in matrices}
    assert names == {name for name, _ in model.named_parameters() if name.startswith("network.")}
    others = {parameter for group in rest.param_groups for parameter in group["params"]}
    assert matrices | others == set(model.parameters())
    assert not matrices & others


def test_with_normuon_the_rest_is_left_to_adamw() -> None:
    model = tiny_model()
    normuon, rest = optimizers_of(model, "normuon")
    assert isinstance(normuon, NorMuon)
    assert type(rest) is AdamW
    matrices = {parameter for group in normuon.param_groups for parameter in group["params"]}
    names = {name for name, parameter in model.named_parameters() if parameter in matrices}
    assert names == {name for name, _ in model.named_parameters() if name.startswith("network.")}
    assert [group["base_lr"] for optimizer in (normuon, rest) for group in optimizer.param_groups] == [3e-2, 1e-2]


def test_adamw_is_that_of_torch() -> None:
    model = tiny_model().double()
    reference = tiny_model().double()
    take_steps(model, optimizers_of(model, "adamw"), range(5))
    take_steps(reference, [torch.optim.AdamW(reference.parameters(), 1e-2, (0.9, 0.95), 1e-8, 0.1)], range(5))
    assert_close(model.state_dict(), reference.state_dict(), rtol=1e-12, atol=1e-13)


def test_a_bias_within_a_block_is_no_matter_of_muon() -> None:
    named = {"network.0.weight": torch.ones(2, 2), "network.0.bias": torch.ones(2), "head.weight": torch.ones(2, 2)}
    muon, rest = make_optimizers(named.items(), "muon", 1e-2, 3e-2, (0.9, 0.95), 0.1)
    assert muon.param_groups[0]["params"] == [named["network.0.weight"]]
    assert len(rest.param_groups[0]["params"]) == 2


def test_every_group_knows_its_own_peak_rate() -> None:
    rates = [group["base_lr"] for optimizer in optimizers_of(tiny_model(), "muon") for group in optimizer.param_groups]
    assert rates == [3e-2, 1e-2]


def test_an_update_of_muon_is_as_large_as_one_of_adam_at_the_same_rate() -> None:
    square = torch.nn.Parameter(torch.zeros(64, 64))
    head = torch.nn.Parameter(torch.zeros(1))
    muon, _ = make_optimizers([("network.0", square), ("head", head)], "muon", 1.0, 0.5, (0.9, 0.95), 0.0)
    square.grad = torch.randn(64, 64, generator=torch.Generator().manual_seed(0))
    muon.step()
    # Liu et al. 2025, section 2.2: 0.2 times the rate, what AdamW's updates are like; Newton-Schulz is within a third.
    assert square.square().mean().sqrt().item() == pytest.approx(0.5 * 0.2, rel=0.35)


def test_a_torch_without_muon_is_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.optim, "Muon")
    with pytest.raises(ValueError, match=r"torch 2\.9"):
        optimizers_of(tiny_model(), "muon")


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("steps", [0, 3])
def test_a_restored_optimizer_goes_on_bit_for_bit(name: OptimizerName, steps: int) -> None:
    model = tiny_model()
    other = tiny_model()
    optimizers = optimizers_of(model, name)
    restored = optimizers_of(other, name, backwards=True)
    take_steps(model, optimizers, range(steps))
    state = {key: tensor.clone() for key, tensor in optimizer_tensors(optimizers, model.named_parameters()).items()}
    assert bool(state) == bool(steps)
    other.load_state_dict(model.state_dict())
    take_steps(tiny := tiny_model(), restored_from := optimizers_of(tiny, name), range(7, 9))
    load_optimizer_tensors(restored, other.named_parameters(), state)
    load_optimizer_tensors(restored_from, tiny.named_parameters(), state)
    tiny.load_state_dict(model.state_dict())
    for trained, trained_optimizers in ((model, optimizers), (other, restored), (tiny, restored_from)):
        take_steps(trained, trained_optimizers, range(steps, steps + 2))
    assert_close(other.state_dict(), model.state_dict(), rtol=0, atol=0)
    assert_close(tiny.state_dict(), model.state_dict(), rtol=0, atol=0, msg="what was there before is gone")


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_state_is_named_after_its_parameter_and_not_copied(name: OptimizerName) -> None:
    model = tiny_model()
    optimizers = optimizers_of(model, name)
    take_steps(model, optimizers, range(2))
    state = optimizer_tensors(optimizers, model.named_parameters())
    assert {key.rpartition("/")[0] for key in state} == {label for label, _ in model.named_parameters()}
    assert state["halt_head.bias/step"].dtype == torch.int64
    assert state["halt_head.bias/step"].item() == 2
    before = state["halt_head.bias/mean"].clone()
    take_steps(model, optimizers, range(2, 3))
    assert not torch.equal(before, state["halt_head.bias/mean"])


def test_restoring_copies_and_does_not_share() -> None:
    model = tiny_model()
    optimizers = optimizers_of(model, "adam_atan2")
    take_steps(model, optimizers, range(1))
    state = {key: tensor.clone() for key, tensor in optimizer_tensors(optimizers, model.named_parameters()).items()}
    load_optimizer_tensors(optimizers, model.named_parameters(), state)
    before = {key: tensor.clone() for key, tensor in state.items()}
    take_steps(model, optimizers, range(1, 2))
    assert_close(state, before, rtol=0, atol=0)


def test_state_of_an_unknown_parameter_is_refused() -> None:
    model = tiny_model()
    with pytest.raises(ValueError, match=r"conv\.weight/mean: state of a parameter"):
        load_optimizer_tensors(
            optimizers_of(model, "adam_atan2"), model.named_parameters(), {"conv.weight/mean": torch.ones(1)}
        )


def test_gradients_of_equal_ids_are_summed_before_the_sign() -> None:
    table = PuzzleEmbedding(4, 2)
    gradients = torch.tensor([[3.0, 1.0], [-1.0, -2.0], [-1.0, 1.0], [0.0, -5.0]])
    table.sign_sgd_(torch.tensor([1, 1, 1, 2]), gradients, lr=0.1, weight_decay=0.0)
    # Row 1: the sums are 1 and 0; signs summed instead would give -1 and +1.
    assert_close(table.weights_PI, torch.tensor([[0, 0], [-0.1, 0], [0, 0.1], [0, 0]]))


def test_only_the_rows_of_the_batch_decay() -> None:
    table = PuzzleEmbedding(3, 1)
    table.weights_PI.fill_(1.0)
    table.sign_sgd_(torch.tensor([2, 2]), torch.zeros(2, 1), lr=0.1, weight_decay=0.5)
    assert_close(table.weights_PI[:, 0], torch.tensor([1.0, 1.0, 0.95]))


def test_looked_up_vectors_collect_their_own_gradient_and_leave_the_table_alone() -> None:
    table = PuzzleEmbedding(2, 3)
    ids = table.lookup(torch.tensor([1, 1]))
    (ids * torch.tensor([[1.0], [2.0]])).sum().backward()
    assert_close(ids.grad, torch.tensor([[1.0], [2.0]]).expand(2, 3))
    with torch.no_grad():
        ids.add_(1)
    assert table.weights_PI.abs().max() == 0


def test_moving_average_by_hand() -> None:
    model = torch.nn.BatchNorm1d(1)
    average = MovingAverage(model, decay=0.75)
    with torch.no_grad():
        model.weight.fill_(5.0)
    average.update()
    average.update()
    # 1 -> 0.75 x 1 + 0.25 x 5 = 2 -> 0.75 x 2 + 0.25 x 5 = 2.75
    assert average.state["weight"].item() == 2.75
    assert average.state.keys() == {"weight", "bias"}, "buffers are not averaged"


def test_a_growing_decay_forgets_the_start() -> None:
    average = MovingAverage(torch.nn.Linear(1, 1), decay=0.9)
    assert [average.growing_decay(step) for step in (1, 8, 80, 10_000)] == [2 / 11, 0.5, 0.9, 0.9]


def test_averages_are_lent_and_taken_back() -> None:
    model = torch.nn.Linear(1, 1, bias=False)
    average = MovingAverage(model, decay=0.5)
    before = model.weight.item()
    with torch.no_grad():
        model.weight.add_(2.0)
    average.update()
    with average.averaged():
        assert model.weight.item() == pytest.approx(before + 1)
    assert model.weight.item() == pytest.approx(before + 2)
