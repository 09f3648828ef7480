"""A model's tensors are found in whatever wraps them, and those that no model can have are refused by name."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from augment.errors import UserError
from pipeline.checkpoints.published_tensors import select_tensors
from tests.helpers.published import published_tensors

FILE = Path("some", "step_7")
PLAIN = published_tensors("")
AVERAGE = {name: tensor + 1 for name, tensor in PLAIN.items()}
TRAINED = {name: tensor for name, tensor in AVERAGE.items() if not name.endswith(("_init", "puzzle_emb.weights"))}


def under(prefix: str, tensors: dict[str, Tensor] = PLAIN) -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in tensors.items()}


OPTIMIZER = {"state": {0: {"exp_avg": torch.ones(2)}}, "param_groups": [{"lr": 1.0}]}
WRAPPED: dict[str, Any] = {
    "bare": PLAIN,
    "compiled": under("_orig_mod.model.inner."),
    "parallel": under("module.model.inner."),
    "both": under("module._orig_mod.model.inner."),
    "compiled inside": {
        f"model.inner.{name.replace('L_level.', 'L_level._orig_mod.')}": tensor for name, tensor in PLAIN.items()
    },
    "model": {"model": under("model.inner."), "optimizer": OPTIMIZER, "epoch": 3},
    "model_state_dict": {"model_state_dict": under("module."), "optimizer_state_dict": OPTIMIZER, "loss": 0.5},
    "lightning": {
        "state_dict": under("net.model.inner."),
        "hyper_parameters": {"H_cycles": 3},
        "optimizer_states": [OPTIMIZER],
        "pytorch-lightning_version": "2.5",
    },
    "nested": {"checkpoint": {"weights": {"params": under("")}}},
    "swa": {"n_averaged": torch.tensor(5), **under("module.")},
}


@pytest.mark.parametrize("form", WRAPPED)
def test_the_tensors_are_found_in_every_wrapper(form: str) -> None:
    found = select_tensors(WRAPPED[form], FILE)
    assert found.tensors.keys() == PLAIN.keys()
    assert_close(found.tensors, PLAIN, rtol=0, atol=0)
    assert found.remarks == []


AVERAGED: dict[str, Any] = {
    "dictionary": {"model": under("model.inner."), "ema": under("model.inner.", AVERAGE)},
    "state": {"state_dict": under("module."), "ema_state_dict": under("module.", AVERAGE)},
    "timm": {"state_dict": PLAIN, "state_dict_ema": AVERAGE},
    "prefix": {"state_dict": under("model.inner.") | under("ema_model.model.inner.", AVERAGE)},
    "shadow": {"ema": {"shadow": AVERAGE, "decay": 0.999}, "model": PLAIN},
}


@pytest.mark.parametrize("form", AVERAGED)
def test_averaged_weights_are_taken_and_that_is_said(form: str) -> None:
    found = select_tensors(AVERAGED[form], FILE)
    assert_close(found.tensors, AVERAGE, rtol=0, atol=0)
    assert len(found.remarks) == 1
    assert "the averaged weights in" in found.remarks[0]


def test_what_an_average_leaves_out_is_taken_from_the_model() -> None:
    found = select_tensors({"model": PLAIN, "ema": TRAINED}, FILE).tensors
    assert_close(found, PLAIN | TRAINED, rtol=0, atol=0)


def test_several_models_are_named() -> None:
    with pytest.raises(UserError, match=r"step_7 has the tensors of 2 models: 'student', 'teacher'; save one"):
        select_tensors({"teacher": PLAIN, "student": PLAIN}, FILE)


@pytest.mark.parametrize(
    ("content", "description"),
    [
        ([1], "type list"),
        ({}, "an empty dictionary"),
        ({"layer.weight": torch.ones(1), "step": 3}, "the keys layer.weight, step"),
        (torch.ones(2), "type Tensor"),
    ],
)
def test_a_file_of_something_else_is_described(content: Any, description: str) -> None:
    with pytest.raises(UserError, match=f"step_7 has no tensors of a TRM or an HRM: it has .*{description}"):
        select_tensors(content, FILE)


def test_tensors_outside_the_model_are_counted_and_inside_it_refused() -> None:
    outside = {"state_dict": under("model.inner.") | {"loss.scale": torch.ones(1)}}
    assert "1 tensors outside the model are left out" in select_tensors(outside, FILE).remarks[0]
    inside = {"state_dict": under("model.inner.") | {"model.inner.gate.scale": torch.ones(1)}}
    with pytest.raises(UserError, match=r"step_7: tensor state_dict\.model\.inner\.gate\.scale is part of neither"):
        select_tensors(inside, FILE)


def test_a_tensor_that_is_there_twice_is_refused() -> None:
    with pytest.raises(UserError, match=r"has tensor lm_head\.weight twice"):
        select_tensors(PLAIN | {"module.lm_head.weight": torch.ones(12, 32)}, FILE)


WRONG: dict[str, Callable[[Tensor], Tensor]] = {
    "values of type int64": lambda tensor: tensor.long(),
    "values of type bool": lambda tensor: tensor > 0,
    "values of type complex64": lambda tensor: tensor.to(torch.complex64),
    "values of type float8": lambda tensor: tensor.to(torch.float8_e4m3fn),
    "plain floating-point": lambda tensor: tensor.to_sparse(),
    "of type float32": lambda tensor: tensor.to("meta"),
    "NaN or infinite": lambda tensor: tensor.index_fill(0, torch.tensor([1]), float("nan")),
    "are NaN or infinite": lambda tensor: tensor.index_fill(0, torch.tensor([0]), float("-inf")),
    "repeats fewer values": lambda tensor: torch.zeros(1).expand(10**12),
}


@pytest.mark.parametrize("message", WRONG)
@pytest.mark.parametrize("name", ["puzzle_emb.weights", "lm_head.weight"])
def test_values_that_no_model_has_are_refused(message: str, name: str) -> None:
    with pytest.raises(UserError, match=f"step_7: tensor {name} .*{message}"):
        select_tensors(PLAIN | {name: WRONG[message](PLAIN[name])}, FILE)


def test_tensors_that_share_memory_are_copied() -> None:
    """safetensors refuses to write such tensors."""
    memory = torch.randn(24, 32)
    tied = PLAIN | {
        "embed_tokens.embedding_weight": memory[:12],
        "lm_head.weight": memory[12:],
        "q_head.bias": PLAIN["H_init"][:2],
    }
    found = select_tensors(tied, FILE).tensors
    assert_close(found, tied, rtol=0, atol=0)
    places = [tensor.untyped_storage().data_ptr() for tensor in found.values()]
    assert len(set(places)) == len(places)
