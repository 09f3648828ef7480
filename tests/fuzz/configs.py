"""A config: the file of a run, settings of the command line, and recipe names."""

import json
from pathlib import Path
from random import Random
from typing import Any

import torch

from pipeline.cli.app import configure
from pipeline.config.run_config import RunConfig, build_config
from pipeline.config.setting_names import flatten
from pipeline.recipes.registry import RECIPES, recipe
from pipeline.training.setup import check_start, learner_config
from solver.model.model import RecursiveModel
from submissions.rankers import find_ranker
from tests.fuzz.outcomes import call_command, refusable
from tests.fuzz.small_run import PREDICTIONS, SOURCE, write_all
from tests.helpers.mutations import ODD_JSON, ODD_NAMES, mutate_bytes, mutate_json

FILE = "config.json"
NAMES = list(flatten(recipe("smoke").model_dump()))


def prepare() -> None:
    """Write a run folder that was predicted, and its config."""
    write_all()
    run = Path("run")
    run.mkdir()
    Path(PREDICTIONS).rename(run / "predictions")
    config = recipe("smoke").model_copy(update={"source": SOURCE})
    (run / FILE).write_text(json.dumps(config.model_dump(mode="json"), indent=2))
    call_command("vote", run / "predictions", SOURCE, "--out", run / "submission.json")


def mutate(random: Random) -> str:
    """Alter the file, or write settings of the command line for `read`."""
    if random.random() < 0.5:
        words = [_setting(random) for _ in range(random.choice([1, 1, 2]))]
        name = random.choice([*RECIPES, *RECIPES, *ODD_NAMES, "smok", "SMOKE"])
        Path("words.json").write_text(json.dumps([name, words]))
        return f"{name}: {words}"
    file = Path("run") / FILE
    if random.random() < 0.15:
        file.write_bytes(mutate_bytes(random, file.read_bytes()))
        return "bytes"
    text = mutate_json(random, json.loads(file.read_bytes()))
    file.write_text(text)
    return "content"


def _setting(random: Random) -> str:
    name = random.choice(NAMES * 3 + ODD_NAMES)
    if random.random() < 0.05:
        name = name[:-1]
    value = random.choice([*ODD_JSON, "64", "3", "0.5", "1e-3", '"task"', "abc", "1000000000", "100000"])
    return f"{name}={value}" if random.random() < 0.98 else name


def read(random: Random) -> None:
    """Make a config of the words, or build and use that of the file; the model of a valid config must be possible."""
    if Path("words.json").exists():
        name, words = json.loads(Path("words.json").read_text())
        check_config(refusable(_configure, name, words))
        return
    values = _parse(Path("run") / FILE)
    if isinstance(values, dict) and random.random() < 0.7:
        check_config(refusable(build_config, values))
    call_command(random.choice(["score", "report"]), Path("run"))


def _configure(name: str, words: list[str]) -> RunConfig:
    return configure(recipe(name), {}, words, None, None)


def _parse(file: Path) -> Any:
    try:
        return json.loads(file.read_bytes())
    except (ValueError, RecursionError):
        return None


def check_config(config: RunConfig) -> None:
    """Check that an accepted config survives its file, and that its model can be made, without memory for weights."""
    again = refusable(build_config, json.loads(json.dumps(config.model_dump(mode="json"))))
    assert again == config, "a config changes when it is written and read"
    refusable(find_ranker, config.predict.ranker)
    refusable(check_start, config, Path("run"))
    refusable(learner_config, config)
    with torch.device("meta"):
        refusable(RecursiveModel, config.model)
