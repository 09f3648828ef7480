"""Run configs: recipes are valid, overrides are validated, durations are parsed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config.run_config import ConfigError, RunConfig, build_config, override, parse_assignments
from pipeline.config.setting_names import differences
from pipeline.recipes.registry import RECIPES, recipe
from pipeline.time_budget import Budget, format_duration, parse_duration


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_survives_json_and_says_how_to_run_it(name: str) -> None:
    config = recipe(name)
    assert config.recipe == name
    assert build_config(config.model_dump(mode="json")) == config
    command = "pretrain" if name.startswith("kaggle_backbone") else "solve"
    assert f"python -m pipeline {command} --recipe {name}" in (RECIPES[name].__doc__ or "")


def change(*texts: str) -> RunConfig:
    return override(recipe("smoke"), parse_assignments(list(texts)))


def test_overrides_reach_every_level() -> None:
    config = change("seed=7", "train.lr=3e-4", "model.canvas=full", "predict.augmentations=null", "budget=10m")
    assert (config.seed, config.train.lr, config.model.canvas) == (7, 3e-4, "full")
    assert config.predict.augmentations is None
    assert config.budget == 600
    assert change("train.betas=[0.8, 0.9]").train.betas == (0.8, 0.9)
    stages = change("train.curriculum=[[0.3, 1, 2], [0.6, 2, 4]]").train.curriculum
    assert stages == ((0.3, 1, 2), (0.6, 2, 4))
    assert change('train.trackers=["wandb"]').train.trackers == ("wandb",)
    assert [change(f"train.compile={value}").train.compile for value in ("true", "false", "null")] == [
        True,
        False,
        None,
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train.learning_rate=1", "train.lr"),
        ("train=1", "no such setting"),
        ("model.hiden=64", "model.hidden"),
        ("train.steps=many", "train.steps"),
        ("train.steps=0", "greater than or equal to 1"),
        ("train.steps=true", "true or false is not a possible"),
        ("train.micro_batch=true", "true or false is not a possible"),
        ("train.lr=-1", "train.lr"),
        ("model.heads=5", "multiple of"),
        ("model.canvas=tasks", "'full' or 'task'"),
        ("model.mixer=mlp", "canvas"),
        ("model.rms_epsilon=soft", "rms_epsilon"),
        ("train.warmup=-1", "warmup"),
        ("train.lr=Infinity", "finite"),
        ("model.expansion=NaN", "finite"),
        ("model.vocabulary=5", "12"),
        ("model.board_side=300", "255"),
        ("budget=soon", "duration"),
        ("seed", "NAME=VALUE"),
        ("predict.ranker=product", "predict.rescore=10"),
        ("predict.ranker=steps", "predict.record=all"),
        ("predict.ranker=worst", "count"),
        ("train.precision=fp8", "'bf16'"),
        ("train.compile=sometimes", "boolean"),
        ("train.attention=flash", "'varlen'"),
        ("train.micro_batch=0", "greater than or equal to 1"),
        ("train.optimizer=sgd", "'muon'"),
        ("train.muon_lr=0", "greater than 0"),
        ("train.curriculum=[[0.6, 1, 2], [0.3, 2, 4]]", "shares must grow"),
        ("train.curriculum=[[0.3, 1, 2], [0.3, 2, 4]]", "shares must grow"),
        ("train.curriculum=[[0, 1, 2]]", "greater than 0"),
        ("train.curriculum=[[1, 1, 2]]", "less than 1"),
        ("train.curriculum=[[0.3, 0, 2]]", "greater than 0"),
        ("train.curriculum=[[0.3, 1]]", "required"),
        ("train.trackers=tensorboard", "tuple"),
        ("train.id_optimizer=sgd", "'adam'"),
        ("train.schedule=linear", "'wsd'"),
        ("train.decay=0", "greater than 0"),
        ("train.loss=mse", "'softmax'"),
        ("train.label_smoothing=1", "less than 1"),
        ("train.halting_loss=-1", "greater than or equal to 0"),
        ("train.corrupted=1.5", "less than or equal to 1"),
        ("train.corruption=[0.9, 0.3]", "give the lower bound first"),
        ("model.halting=never", "'random'"),
        ("model.dropout=1", "below 1"),
    ],
)
def test_impossible_settings_name_the_field_and_what_is_allowed(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as error_info:
        change(text)
    assert text.partition("=")[0].split(".")[-1].rstrip("s")[:3] in str(error_info.value)


def test_unknown_recipe_lists_the_known() -> None:
    with pytest.raises(ConfigError, match="smoke"):
        recipe("best")


def test_differences_name_what_changed() -> None:
    old, new = (config.model_dump(mode="json") for config in (change("seed=1"), change("seed=2", "train.lr=0.5")))
    assert differences(old, new) == {"seed": "1 -> 2", "train.lr": "0.001 -> 0.5"}


@pytest.mark.parametrize(
    ("text", "seconds"), [("10m", 600), ("11h50m", 42_600), ("90s", 90), ("1.5h", 5400), ("600", 600)]
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@given(st.integers(0, 59))
def test_short_durations_read_back(seconds: int) -> None:
    assert parse_duration(format_duration(seconds)) == seconds


@pytest.mark.parametrize("text", ["m", "10x", "1h-3m", ""])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="11h50m"):
        parse_duration(text)


def test_a_budget_runs_down() -> None:
    assert Budget(None).left() == float("inf")
    assert 99 < Budget(100).left() <= 100
    assert Budget(100).left(reserve=100) <= 0


def test_a_ranker_file_that_is_gone_does_not_make_a_config_unreadable() -> None:
    assert change("predict.ranker=gone.py").predict.ranker == "gone.py"


def test_a_config_from_before_a_setting_has_its_default() -> None:
    newer = {
        "train": ("id_optimizer", "schedule", "decay", "loss", "label_smoothing", "halting_loss", "corrupted"),
        "model": ("dropout",),
    }
    values = recipe("arc1").model_dump(mode="json")
    for group, names in newer.items():
        for name in names:
            del values[group][name]
    del values["train"]["corruption"]
    assert build_config(values) == recipe("arc1")


def test_corrupted_starts_need_latents_that_are_carried() -> None:
    with pytest.raises(ConfigError, match=r"set train\.corrupted=0 too"):
        override(recipe("smoke_direct"), {"train.corrupted": 0.5, "model.recursion.carry": "reset"})
