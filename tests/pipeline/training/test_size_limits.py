"""Settings that no run can have are refused with an estimate, before work begins; every recipe is accepted."""

from pathlib import Path

import pytest
import torch

from augment.errors import UserError
from pipeline.config.run_config import ConfigError, RunConfig, override, parse_assignments
from pipeline.recipes.registry import RECIPES, recipe
from pipeline.runtime import machine
from pipeline.training import size_limits
from pipeline.training.size_limits import check_prediction, check_training, count_weights
from solver.model.model import RecursiveModel
from tests.helpers.commands import refuse

GPU = 80 * 2**30


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_is_accepted_on_a_gpu_machine_and_its_weights_are_counted(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(size_limits, "device_memory", lambda: GPU)
    monkeypatch.setattr(size_limits, "speed_bound", lambda: machine.GPU_FLOP)
    config = recipe(name)
    check_training(config)
    check_prediction(config)
    with torch.device("meta"):
        model = RecursiveModel(config.model)
    real = sum(weights.numel() for weights in model.parameters())
    assert count_weights(config.model) == pytest.approx(real, rel=0.1) or config.model.learns_noise
    assert count_weights(config.model) <= 1.01 * real


def change(*texts: str) -> RunConfig:
    return override(recipe("smoke"), parse_assignments(list(texts)))


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["model.hidden=1000000000", "model.heads=1"], "model.hidden=1000000000.*GiB"),
        (["model.layers=1000000000"], "model.layers=1000000000.*GiB"),
        (["model.expansion=1e9"], "model.expansion=1e.09.*GiB"),
        (["train.batch_size=1000000000"], "train.batch_size=1000000000.*GiB"),
        (["model.h_cycles=2000000000", "train.steps=1000000000"], "train.steps=1000000000.*days"),
        (["train.steps=1000000000000000"], "train.steps=1000000000000000.*days"),
    ],
)
def test_training_that_cannot_be_is_refused_with_an_estimate(texts: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        check_training(change(*texts))


@pytest.mark.parametrize(
    "text",
    [
        *("model.max_steps=1000000", "predict.steps=1000000", "puzzles.augmentations=1000000000000"),
        *("seed=-1", f"seed={2**64}", "budget=-1h", "budget=1e40", "budget=" + "9" * 30 + "h", "ensemble=1000000000"),
        *("selection.max_side=0", "puzzles.pairs=0", "predict.trajectories=-3", "train.checkpoint_every=0"),
        *("train.log_every=0", f"train.steps={10**30}", f"model.hidden={10**400}", "model.hidden=" + "9" * 5000),
        *("train.lr=NaN", "train.weight_decay=Infinity", "train.betas=[NaN, 0.9]", "train.average=-Infinity"),
        *("model.rope_theta=NaN", "model.equilibrium.tolerance=NaN", "train.evidence.free_bits=Infinity"),
        *("source=" + "x" * 1_000_000, "train.steps=" + "x" * 1_000_000, "x" * 1_000_000 + "=1"),
        "train.lr=" + "[" * 10**5,
        *("train_sources=[" + "1," * 1000 + "1]", "train.curriculum=[[0.5, 1e400, 2]]"),
    ],
)  # fmt: skip
def test_an_absurd_value_is_refused_in_a_short_message(text: str) -> None:
    with pytest.raises(ConfigError) as refused:
        change(text)
    assert len(str(refused.value)) < 3000


def test_a_command_refuses_before_any_file_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    absurd = ["--set", "train.batch_size=1000000000"]
    message = refuse(capsys, "solve", "--recipe", "smoke", "--run-dir", run, *absurd)
    assert "train.batch_size=1000000000" in message
    assert not run.exists()
