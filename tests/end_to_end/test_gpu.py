"""On a GPU training computes what it computes on the CPU; in every other run of the tests GPUs are hidden."""

import os

import pytest
import torch
from torch import Tensor

from pipeline.checkpoints.attention_choice import HOPPER, choose_flash, forget_measurements, varlen_works
from pipeline.checkpoints.compilation import find_compile_error
from pipeline.config.run_config import RunConfig
from pipeline.runtime.launcher import count_gpus
from solver.training.learner import Learner
from tests.helpers.gpu_marker import asks_for_gpu
from tests.helpers.recipe_learner import small_batches, small_learner, small_recipe
from tests.helpers.small_model import gradients_of

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
PLAIN = {"train.precision": "fp32", "train.attention": "padded", "train.compile": False}
FAST = {"train.precision": "bf16", "train.attention": "varlen", "train.compile": True}


@pytest.mark.parametrize("expression", ["", "not slow", "slow", "slow and not gpu"])
def test_no_gpu_is_asked_for_without_its_name(expression: str) -> None:
    assert not asks_for_gpu(expression)


@pytest.mark.parametrize("expression", ["gpu", "gpu and not slow"])
def test_a_gpu_is_asked_for_by_name(expression: str) -> None:
    assert asks_for_gpu(expression)


def test_no_other_test_can_take_a_gpu() -> None:
    assert os.environ["CUDA_VISIBLE_DEVICES"] == ""
    assert count_gpus() == 0
    assert not torch.cuda.is_available()


def make_step(config: RunConfig, device: torch.device) -> tuple[Learner, Tensor, Tensor]:
    """Make one step of a fresh learner; returns it, the logits (B, C, V), and all gradients in one vector."""
    learner = small_learner(config, device)
    result = learner.step(small_batches(config, 1)[0].to(device))
    gradients = torch.cat([gradient.flatten() for gradient in gradients_of(learner)])
    return learner, result.output.logits_BCV.cpu().double(), gradients.cpu().double()


def relative(ours: Tensor, theirs: Tensor) -> float:
    return float((ours - theirs).norm() / theirs.norm())


@pytest.mark.gpu
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("name", ["smoke", "smoke_hrm", "smoke_urm", "smoke_symbols", "arc1"])
def test_a_training_step_equals_that_of_the_cpu(name: str) -> None:
    """In float32, up to the order of sums."""
    config = small_recipe(name, **PLAIN)
    learner, logits_BCV, gradients = make_step(config, CUDA)
    other, expected_BCV, expected = make_step(config, CPU)
    assert learner.model.device.type == CUDA.type
    assert relative(logits_BCV, expected_BCV) < 1e-4
    assert relative(gradients, expected) < 1e-3
    assert relative(learner.table.weights_PI.cpu().double(), other.table.weights_PI.double()) < 1e-3


@pytest.mark.gpu
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("name", ["smoke", "arc1"])
def test_half_precision_varlen_and_compiled_computes_the_same(name: str) -> None:
    """As on a card from 8.0 on; bf16 rounds to 1 part in 256."""
    if torch.cuda.get_device_capability() < (8, 0):
        pytest.skip("neither bf16 nor variable-length attention on this card")
    learner, logits_BCV, gradients = make_step(small_recipe(name, **FAST), CUDA)
    assert learner.model.varlen
    assert find_compile_error(learner.model) is None
    _, expected_BCV, expected = make_step(small_recipe(name, **PLAIN), CUDA)
    assert relative(logits_BCV, expected_BCV) < 0.05
    assert relative(gradients, expected) < 0.15


@pytest.mark.gpu
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_flash_attention_that_is_chosen_works(dtype: torch.dtype) -> None:
    """Whichever it is; on a card from 9.0 on it is named."""
    if torch.cuda.get_device_capability() < (8, 0):
        pytest.skip("no variable-length attention on this card")
    said = choose_flash(8, 64, dtype, CUDA)
    assert bool(said) is (torch.cuda.get_device_capability() >= HOPPER)
    assert varlen_works(8, 64, dtype, CUDA)
    forget_measurements()
