"""Trackers: unknown ones are refused instead of ignored, and metrics reach the known ones."""

from pathlib import Path

import pytest
from accelerate import Accelerator
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from pipeline.config.run_config import ConfigError
from pipeline.recipes.registry import RECIPES
from pipeline.recipes.small import smoke
from pipeline.training.trackers import check_trackers, flat_values


@pytest.mark.parametrize(("name", "told"), [("tensorbord", "it knows .*tensorboard"), ("all", "it knows")])
def test_a_tracker_nobody_knows_is_refused(name: str, told: str) -> None:
    with pytest.raises(ConfigError, match=f"{name}.*{told}"):
        check_trackers(["tensorboard", name])


def test_a_tracker_that_is_not_installed_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    check_trackers(["tensorboard"])
    monkeypatch.setattr("pipeline.training.trackers.get_available_trackers", list)
    with pytest.raises(ConfigError, match="pip install tensorboard"):
        check_trackers(["tensorboard"])


@pytest.mark.parametrize("name", RECIPES)
def test_a_flat_config_holds_text_and_numbers_only(name: str) -> None:
    values = flat_values(RECIPES[name]())
    assert all(isinstance(value, str | int | float) for value in values.values())
    assert values["model.hidden"] == RECIPES[name]().model.hidden
    assert values["train.betas"] == "[0.9, 0.95]"
    assert values["train.micro_batch"] == "null"


def test_tensorboard_gets_the_metrics(tmp_path: Path) -> None:
    accelerator = Accelerator(cpu=True, log_with=["tensorboard"], project_dir=tmp_path)
    accelerator.init_trackers("arc-trm", config=flat_values(smoke()))
    for step, loss in ((5, 2.0), (10, 0.5)):
        accelerator.log({"loss": loss}, step=step)
    accelerator.end_training()
    events = EventAccumulator(str(tmp_path / "arc-trm")).Reload()
    assert [(event.step, event.value) for event in events.Scalars("loss")] == [(5, 2.0), (10, 0.5)]
