"""What a run is: one frozen, validated object, from a recipe (`pipeline.recipes.registry`) and `--set` overrides.

In: a recipe and dotted overrides such as "train.lr=3e-4". Out: a `RunConfig`, or a `ConfigError` naming the field.
"""

import json
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, ValidationError, model_validator

from augment import DIHEDRALS
from augment.errors import UserError
from pipeline.config.sections import (
    PredictSettings,
    PuzzleSettings,
    SelectionSettings,
    Settings,
    TrainSettings,
    UnattendedSettings,
)
from pipeline.config.setting_names import describe_errors, flatten, nearest_names
from pipeline.time_budget import parse_duration
from solver.data.tokens import VOCABULARY
from solver.model.config import ModelConfig
from submissions.rankers import find_ranker

OLD_IDS = {"puzzle": "augmentation", "task": "shared"}
"""Values of puzzles.ids in configs without puzzles.fixed_colours, and what they are called now."""


class ConfigError(UserError):
    """A setting that does not exist or cannot be."""


class RunConfig(Settings):
    """A whole run. `source` is scored: its demonstrations are trained on, its test inputs predicted."""

    recipe: str
    remark: str = ""
    """what a reader of the score must know; said at the end of the run"""
    source: str
    selection: SelectionSettings = SelectionSettings()
    train_sources: tuple[str, ...] = ()
    checkpoint: str | None = None
    """start from this checkpoint's weights and ID rows instead of from scratch"""
    budget: Annotated[float, BeforeValidator(parse_duration), Field(gt=0)] | None = None
    """seconds for everything, or a duration such as "10m"; training stops in time to predict"""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    ensemble: Annotated[int, Field(ge=1)] = 1
    """train so many models one after the other, each with a seed of its own, and pool their answers"""
    puzzles: PuzzleSettings = PuzzleSettings()
    model: ModelConfig = ModelConfig()
    train: TrainSettings = TrainSettings()
    predict: PredictSettings = PredictSettings()
    unattended: UnattendedSettings | None = None
    """how to keep to the time and go on whatever breaks; null for a run that somebody watches"""

    @model_validator(mode="after")
    def _holds_arc(self) -> "RunConfig":
        if self.model.vocabulary < VOCABULARY:
            raise UserError(f"model.vocabulary is {self.model.vocabulary}", f"ARC needs {VOCABULARY} tokens")
        return self

    @model_validator(mode="after")
    def _pools_plain_answers(self) -> "RunConfig":
        if self.ensemble > 1 and (self.predict.rescore or self.unattended):
            other = "predict.rescore is above 0" if self.predict.rescore else "the run is unattended"
            raise UserError(f"ensemble is {self.ensemble}, and {other}, which knows one model only: set ensemble=1")
        return self

    @model_validator(mode="after")
    def _trajectories_differ(self) -> "RunConfig":
        predict = self.predict
        draws = bool(self.model.recursion.noisy)
        if predict.trajectories > 1 and predict.noise == 0 and not (draws and predict.temperature):
            more = "a temperature above 0" if draws else "the noise too, for example predict.noise=0.2 (--noise 0.2)"
            raise UserError(
                f"predict.trajectories is {predict.trajectories} and there is no noise, so all of them would be alike",
                f"set {more}",
            )
        if not predict.ranker.endswith(".py") and find_ranker(predict.ranker).judged and not draws:
            raise UserError(
                f"the ranker '{predict.ranker}' needs the value head, which only a recursion with noise has",
                "set predict.ranker=best, which takes the halting head",
            )
        return self

    @model_validator(mode="after")
    def _keeps_starts(self) -> "RunConfig":
        if self.train.corrupted and self.model.recursion.carry == "reset":
            raise UserError(
                "train.corrupted changes where latents start, and model.recursion.carry=reset starts them anew at each "
                "step: set train.corrupted=0 too"
            )
        return self

    @model_validator(mode="after")
    def _tells_transforms_apart(self) -> "RunConfig":
        alone = self.puzzles.ids == "task"
        vectors = self.model.transform_vectors
        if alone and not vectors:
            raise UserError(
                "puzzles.ids is task, so all transforms of a task share an ID row and nothing tells them apart: set "
                "model.transform_vectors=true too"
            )
        if vectors and not alone:
            raise UserError(
                f"model.transform_vectors is true, and puzzles.ids={self.puzzles.ids} needs no such vectors: set "
                "puzzles.ids=task too, or model.transform_vectors=false"
            )
        return self

    @model_validator(mode="after")
    def _permutes_no_symbols(self) -> "RunConfig":
        puzzles = self.puzzles
        turned = puzzles.ids in ("transform", "task") and puzzles.augmentations < DIHEDRALS
        if self.model.symbols and puzzles.augmentations and not turned:
            raise UserError(
                f"model.symbols treats all colours alike, so puzzles of other colours add nothing: set "
                f"puzzles.ids=transform and puzzles.augmentations={DIHEDRALS - 1} (the {DIHEDRALS} transforms)"
            )
        return self

    @model_validator(mode="after")
    def _moves_whole_boards(self) -> "RunConfig":
        self.train.whole_boards(self.model.board_side)
        if self.train.symmetry != "none" and (self.train.shift or self.model.canvas != "full"):
            raise UserError(
                f"train.symmetry is {self.train.symmetry}, which moves whole boards: set train.shift=false and "
                "model.canvas=full too"
            )
        if self.train.symmetry != "none" and self.train.task_steps:
            raise UserError(
                "train.task_steps trains on each task by itself, without train.symmetry: set train.task_steps=0 too"
            )
        return self


def override(config: RunConfig, assignments: dict[str, Any]) -> RunConfig:
    """`config` with values replaced by dotted name, validated as a whole."""
    values = config.model_dump()
    known = list(flatten(values))
    for name, value in assignments.items():
        *path, last = name.split(".")
        if name not in known:
            raise ConfigError(f"{name}: no such setting", f"near it are {', '.join(nearest_names(name, known))}")
        place = values
        for part in path:
            place = place[part]
        place[last] = value
    changed = build_config(values)
    _refuse_numbers_from_booleans(assignments, flatten(changed.model_dump()))
    return changed


def _refuse_numbers_from_booleans(assignments: dict[str, Any], made: dict[str, Any]) -> None:
    """ConfigError where true or false was given for a number, which reads it as 1 or 0."""
    for name, value in assignments.items():
        if isinstance(value, bool) and not isinstance(made[name], bool):
            raise ConfigError(f"{name}: true or false is not a possible value")


def build_config(values: dict[str, Any]) -> RunConfig:
    """A config from plain values, for example a run folder's config.json; ConfigError where they cannot be.

    Values that an earlier version wrote keep their meaning (`upgrade`).
    """
    try:
        return RunConfig.model_validate(upgrade(values))
    except ValidationError as error:
        raise ConfigError(describe_errors(error)) from None


def upgrade(values: dict[str, Any]) -> dict[str, Any]:
    """A config's plain values under today's names: before puzzles.fixed_colours was there, puzzles.ids had others."""
    puzzles = values.get("puzzles") if isinstance(values, dict) else None
    if not isinstance(puzzles, dict) or "fixed_colours" in puzzles or puzzles.get("ids") not in OLD_IDS:
        return values
    return values | {"puzzles": puzzles | {"ids": OLD_IDS[puzzles["ids"]]}}


def parse_assignments(texts: list[str]) -> dict[str, Any]:
    """["train.lr=3e-4", ...] as {"train.lr": 3e-4}; values are JSON (3e-4, true, null, [1, 2]) or plain text."""
    assignments = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise ConfigError(f"--set {text}: write it as NAME=VALUE, for example --set train.lr=3e-4")
        try:
            assignments[name.strip()] = json.loads(value)
        except json.JSONDecodeError:
            assignments[name.strip()] = value
    return assignments
