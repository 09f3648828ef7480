"""The models of the family: parsing of equations, published sizes and depths, gradients, halting."""

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from solver.model.config import ModelConfig
from solver.model.equations import (
    DIRECT,
    HRM,
    SEPARATE,
    SINGLE,
    TRM,
    RecursionConfig,
    Update,
    multi_scale,
    parse_update,
)
from solver.model.model import RecursiveModel
from solver.model.output import Output
from solver.model.recursion import recurse
from solver.training.deep_supervision import continue_target
from tests.helpers.small_model import CONFIG, make_batch, make_learner, make_model

FAMILY = {
    "trm": TRM, "separate": SEPARATE, "hrm": HRM, "single": SINGLE, "direct": DIRECT, "scales": multi_scale(6),
}  # fmt: skip


def parameters(**settings: Any) -> int:
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in RecursiveModel(ModelConfig(**settings)).parameters())


def test_equations_are_read() -> None:
    assert parse_update("z_l = f_l(z_l + z_h + x) * l_cycles") == Update("z_l", "f_l", ("z_l", "z_h", "x"), None)
    assert parse_update("z = f(z) * 3") == Update("z", "f", ("z",), 3)
    assert TRM.latents == HRM.latents == ("z_h", "z_l")
    assert (TRM.networks, HRM.networks) == (("f",), ("f_l", "f_h"))
    assert SINGLE.latents == ("z",)
    assert multi_scale(2).latents == ("z_h", "z_1", "z_2")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"updates": ()}, "at least one equation"),
        ({"updates": ("z_h = f(z_h + q)",)}, "q is read, but no equation defines it"),
        ({"updates": ("z_h = f(z_h)",)}, "no equation reads x"),
        ({"updates": ("z_h := f(z_h + x)",)}, "is no equation; write it as"),
        ({"updates": ("y = f(z_h + x)",)}, "is no equation"),
        ({"updates": ("z_h = f(z_h + x) * 0",)}, "is no equation"),
        ({"layers": (("f_h", 2),)}, "must be one of f with a positive number"),
        ({"layers": (("f", 0),)}, "must be one of f with a positive number"),
        ({"gradient": "none"}, "gradient = 'none': must be one of cycle, update, all"),
        ({"carry": "some"}, "carry = 'some': must be one of keep, reset"),
    ],
)
def test_what_is_no_recursion_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RecursionConfig(**settings)


SUDOKU: dict[str, Any] = {"board_side": 9, "vocabulary": 11, "mixer": "mlp", "h_cycles": 3, "l_cycles": 6}
"""TRM-MLP on Sudoku-Extreme; the published vocabulary has no end mark."""
ATTENTION = SUDOKU | {"mixer": "attention"}
HRM_SIZE: dict[str, Any] = {"layers": 4, "h_cycles": 2, "l_cycles": 2, "recursion": HRM, "halting": "q_learning"}


@pytest.mark.parametrize(
    ("settings", "millions", "depth", "passes"),
    [
        (ATTENTION | HRM_SIZE, 27, 24, 2),
        (SUDOKU, 5, 42, 1),
        (SUDOKU | {"halting": "q_learning"}, 5, 42, 2),
        (SUDOKU | {"recursion": SEPARATE}, 10, 42, 1),
        (SUDOKU | {"layers": 4, "l_cycles": 3}, 10, 48, 1),
        (ATTENTION, 7, 42, 1),
        (SUDOKU | {"h_cycles": 2, "l_cycles": 2}, 5, 12, 1),
        (SUDOKU | {"recursion": replace(TRM, gradient="update")}, 5, 42, 1),
        (SUDOKU | {"recursion": SINGLE}, 5, 42, 1),
        (SUDOKU | {"recursion": multi_scale(6)}, 5, 42, 1),
        ({"mixer": "mlp", "board_side": 30}, 19, 30, 1),
        ({"layers": 8, "recursion": DIRECT, "h_cycles": 1, "max_steps": 1}, 27, 8, 1),
    ],
)
def test_sizes_depths_and_passes_are_those_published(
    settings: dict[str, Any], millions: int, depth: int, passes: int
) -> None:
    """TRM, tables 1, 2, 4 and 5."""
    config = ModelConfig(**settings)
    assert round(parameters(**settings) / 1e6) == millions
    assert config.effective_depth == depth
    assert config.forward_passes == passes


def test_parameters_of_the_published_trm() -> None:
    assert parameters() == 6_829_058


@pytest.mark.parametrize(
    ("k", "cycles", "hrm", "trm"), [(2, 2, 24, 20), (3, 3, 48, 42), (4, 4, 80, 72), (3, 6, 96, 84)]
)
def test_depths_of_table_3(k: int, cycles: int, hrm: int, trm: int) -> None:
    assert ModelConfig(layers=4, h_cycles=cycles, l_cycles=k, recursion=HRM).effective_depth == hrm
    assert ModelConfig(layers=2, h_cycles=cycles, l_cycles=2 * k).effective_depth == trm


def test_layers_of_a_network_of_its_own() -> None:
    config = ModelConfig(recursion=replace(HRM, layers=(("f_h", 1),)), h_cycles=2, l_cycles=3)
    assert (config.layers_of("f_h"), config.layers_of("f_l")) == (1, 2)
    assert config.effective_depth == 2 * (3 * 2 + 1)


@pytest.mark.parametrize(
    ("recursion", "expected"),
    [
        (TRM, "lllhLLLH"),
        (replace(TRM, gradient="all"), "LLLHLLLH"),
        (HRM, "lllhllLH"),
        (replace(SINGLE, gradient="update"), "zzzzzzzZ"),
        (multi_scale(2), "12h[1][2]H"),
    ],
)
def test_gradients_start_where_the_config_says(recursion: RecursionConfig, expected: str) -> None:
    """Each update is one letter, that of its latent, in capitals or brackets if it carries a gradient."""
    letters: list[str] = []

    def watch(name: str, old: Tensor, new: Tensor) -> None:
        letter = name.removeprefix("z_")
        letters.append((f"[{letter}]" if letter.isdigit() else letter.upper()) if torch.is_grad_enabled() else letter)

    networks = {name: lambda z: 0.5 * z for name in recursion.networks}
    latents = {name: torch.ones(1) for name in recursion.latents}
    recurse(recursion, networks, latents, torch.ones(1, requires_grad=True), 2, 3, watch)
    assert "".join(letters) == expected


def test_the_one_step_gradient_is_that_of_the_last_two_updates() -> None:
    """z_h = (z_h' + (z_l' + z_h' + x) / 2) / 2: x counts once, by a quarter."""
    x = torch.ones(1, requires_grad=True)
    networks = {name: lambda z: 0.5 * z for name in HRM.networks}
    recurse(HRM, networks, {"z_h": torch.ones(1), "z_l": torch.ones(1)}, x, 2, 3)["z_h"].backward()
    assert x.grad is not None
    assert x.grad.item() == 0.25


def test_many_latents_by_hand() -> None:
    """Each scale reads all current values: z_1 = (1+1)+(1+1) = 4, z_2 = (4+1)+(1+1) = 7, z_h = 1+(4+7) = 12."""
    start = {name: torch.ones(1) for name in ("z_h", "z_1", "z_2")}
    end = recurse(multi_scale(2), {"f": lambda z: z}, start, torch.ones(1), 1, 1)
    assert {name: z.item() for name, z in end.items()} == {"z_1": 4, "z_2": 7, "z_h": 12}


@pytest.mark.parametrize("name", FAMILY)
def test_every_model_learns_a_copy_task(name: str) -> None:
    model = make_model(replace(CONFIG, hidden=32, recursion=FAMILY[name], halting="q_learning", h_cycles=2, l_cycles=2))
    learner = make_learner(model, lr=3e-3, ema_decay=None)
    losses = [float(learner.step(make_batch([4, 3, 4])).losses.cells) for _ in range(60)]
    assert sum(losses[-5:]) < 0.7 * sum(losses[:5])
    changes = [
        parameter.grad is not None and bool(parameter.grad.any())
        for block in model.blocks
        for parameter in block.parameters()
    ]
    assert all(changes), "every network gets a gradient"


def test_a_carry_that_is_reset_makes_every_step_the_first() -> None:
    config = replace(CONFIG, recursion=replace(TRM, carry="reset"))
    keep = make_model()
    reset = make_model(config)
    batch = make_batch([4, 2])
    ids_BI = torch.zeros(2, CONFIG.hidden)
    first = reset(reset.initial_latents(batch), batch, ids_BI)
    second = reset(first.latents, batch, ids_BI)
    assert_close(second.logits_BCV, first.logits_BCV, rtol=0, atol=0)
    assert not torch.equal(keep(first.latents, batch, ids_BI).logits_BCV, first.logits_BCV)


def test_the_continue_target_is_the_better_of_the_next_logits() -> None:
    """After the last step (4) there is no next step, so only halting counts."""
    logits = torch.tensor([1.0, -1.0, -1.0]), torch.tensor([0.0, 2.0, 2.0])
    after = Output({}, torch.zeros(0), *logits, torch.zeros(3))
    target_B = continue_target(after, torch.tensor([2, 3, 4]), 4)
    assert_close(target_B, torch.tensor([1.0, 2.0, -1.0]).sigmoid())


def test_q_learning_halts_where_stopping_is_worth_more_than_going_on() -> None:
    for halting, halts in (("halt", [True, False]), ("q_learning", [False, True])):
        model = make_model(replace(CONFIG, halting=halting))
        learner = make_learner(model)
        learner.step(make_batch([4, 4]))
        for bias, answers in (([1.0, 2.0], halts[0]), ([-2.0, -3.0], halts[1])):
            with torch.no_grad():
                model.halt_head.weight.zero_()
                model.halt_head.bias.copy_(torch.tensor(bias))
            learner.carry = None
            assert learner.step(make_batch([4, 4])).halted_B.tolist() == [answers] * 2


def test_a_single_supervision_step_has_no_continue_loss() -> None:
    calls: Counter[str] = Counter()
    for steps, passes in ((1, 1), (2, 2)):
        model = make_model(replace(CONFIG, halting="q_learning", max_steps=steps))
        model.register_forward_hook(lambda *_, name=str(steps): calls.update([name]))
        loss = make_learner(model).step(make_batch([4])).losses
        assert calls[str(steps)] == passes == model.config.forward_passes
        assert bool(loss.continuing > 0) == (steps > 1)
