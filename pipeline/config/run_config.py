"""The configuration of a run: one frozen, validated object.

A `RunConfig` comes from a recipe (`pipeline.recipes.registry`) and overrides by dotted name, such as "train.lr=3e-4".
Invalid values raise a `ConfigError` that names the field.
"""

import copy
import json
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, ValidationError, model_validator

from augment import DIHEDRALS
from augment.errors import UserError
from augment.schema import Count
from pipeline.config.sections import (
    LARGEST,
    PredictSettings,
    PuzzleSettings,
    SelectionSettings,
    Settings,
    TrainSettings,
    UnattendedSettings,
)
from pipeline.config.setting_names import LONGEST_VALUE, describe_errors, flatten, nearest_names
from pipeline.time_budget import parse_duration
from solver.data.tokens import VOCABULARY
from solver.model.config import ModelConfig
from submissions.rankers import find_ranker

SEEDS_APART = 1000
"""Difference between the seeds of two models, so that ensembles of neighbouring seeds share no model."""
LONGEST_BUDGET = 10 * 365 * 86400.0
"""Seconds; longer times do not fit into the clocks of some systems."""
OLD_IDS = {"puzzle": "augmentation", "task": "shared"}
"""Values of puzzles.ids in configs older than puzzles.fixed_colours, with the names that replace them."""


OLD_SETTINGS = {
    "train.evidence.told": "train.evidence.posterior",
    "train.evidence.untold": "train.evidence.prior_share",
}
"""Names of settings in version 0.1, which keep working until version 0.3, and in older configs for good."""


class ConfigError(UserError):
    """A setting that does not exist, or a value that it cannot have."""


class RunConfig(Settings):
    """All settings of a run. The model trains on the demonstrations of `source` and is scored on its test inputs."""

    recipe: str
    remark: str = ""
    """a warning for readers of the score, printed at the end of the run"""
    source: str
    selection: SelectionSettings = SelectionSettings()
    train_sources: tuple[str, ...] = ()
    checkpoint: str | None = None
    """start from this checkpoint's weights and puzzle embeddings instead of from scratch"""
    budget: Annotated[float, BeforeValidator(parse_duration), Field(gt=0, le=LONGEST_BUDGET)] | None = None
    """wall-clock seconds for the whole command, or a duration such as "10m"; training stops early enough to predict"""
    seed: Count = 0
    ensemble: Annotated[int, Field(ge=1, le=1000)] = 1
    """number of models, trained one after the other with different seeds; their predictions are pooled"""
    puzzles: PuzzleSettings = PuzzleSettings()
    model: ModelConfig = ModelConfig()
    train: TrainSettings = TrainSettings()
    predict: PredictSettings = PredictSettings()
    unattended: UnattendedSettings | None = None
    """settings of the supervisor, which keeps the run within its time and recovers from failures; null for none"""

    @model_validator(mode="after")
    def _check_vocabulary(self) -> "RunConfig":
        if self.model.vocabulary < VOCABULARY:
            raise UserError(
                f"model.vocabulary is {self.model.vocabulary}, and ARC grids need {VOCABULARY} tokens",
                f"set model.vocabulary={VOCABULARY} or more",
            )
        return self

    @model_validator(mode="after")
    def _check_ensemble(self) -> "RunConfig":
        if self.ensemble > 1 and (self.predict.rescore or self.unattended):
            conflict = "predict.rescore is above 0" if self.predict.rescore else "the run is unattended"
            raise UserError(
                f"ensemble is {self.ensemble}, and {conflict}, which works with a single model only", "set ensemble=1"
            )
        if self.seed + SEEDS_APART * (self.ensemble - 1) > LARGEST:
            raise UserError(
                f"seed is {self.seed}, and with ensemble={self.ensemble} the last model's has more than 64 bits",
                "lower seed",
            )
        return self

    @model_validator(mode="after")
    def _check_noise(self) -> "RunConfig":
        predict = self.predict
        draws = bool(self.model.recursion.noisy)
        if predict.trajectories > 1 and predict.noise == 0 and not (draws and predict.temperature):
            fix = "predict.temperature above 0" if draws else "noise too, for example predict.noise=0.2 (--noise 0.2)"
            raise UserError(
                f"predict.trajectories is {predict.trajectories}, and without noise all trajectories would be equal",
                f"set {fix}",
            )
        if not predict.ranker.endswith(".py") and find_ranker(predict.ranker).judged and not draws:
            raise UserError(
                f"the ranker '{predict.ranker}' needs the value head, which only a recursion with noise has",
                "set predict.ranker=best, which uses the halting head",
            )
        return self

    @model_validator(mode="after")
    def _check_corruption(self) -> "RunConfig":
        if self.train.corrupted and self.model.recursion.carry == "reset":
            raise UserError(
                "train.corrupted changes the initial latents, and model.recursion.carry=reset resets them at each "
                "supervision step",
                "set train.corrupted=0 too",
            )
        return self

    @model_validator(mode="after")
    def _check_transform_vectors(self) -> "RunConfig":
        per_task = self.puzzles.ids == "task"
        vectors = self.model.transform_vectors
        if per_task and not vectors:
            raise UserError(
                "puzzles.ids is task, so all transforms of a task share a puzzle embedding and the model cannot "
                "distinguish them",
                "set model.transform_vectors=true too",
            )
        if vectors and not per_task:
            raise UserError(
                f"model.transform_vectors is true, and puzzles.ids={self.puzzles.ids} does not use such vectors",
                "set puzzles.ids=task too, or model.transform_vectors=false",
            )
        return self

    @model_validator(mode="after")
    def _check_symbol_puzzles(self) -> "RunConfig":
        puzzles = self.puzzles
        transforms_only = puzzles.ids in ("transform", "task") and puzzles.augmentations < DIHEDRALS
        if self.model.symbols and puzzles.augmentations and not transforms_only:
            raise UserError(
                "model.symbols makes the model equivariant to colours, so augmentations that permute colours are "
                "redundant",
                f"set puzzles.ids=transform and puzzles.augmentations={DIHEDRALS - 1} (the {DIHEDRALS} transforms)",
            )
        return self

    @model_validator(mode="after")
    def _check_symmetry(self) -> "RunConfig":
        self.train.board_symmetries(self.model.board_side)
        if self.train.symmetry != "none" and (self.train.shift or self.model.canvas != "full"):
            raise UserError(
                f"train.symmetry is {self.train.symmetry}, which transforms whole boards",
                "set train.shift=false and model.canvas=full too",
            )
        if self.train.symmetry != "none" and self.train.task_steps:
            raise UserError(
                "train.task_steps trains on each task by itself, which is not possible with train.symmetry",
                "set train.task_steps=0 too",
            )
        return self


def override(config: RunConfig, assignments: dict[str, Any]) -> RunConfig:
    """Return a copy of `config` with some values replaced, validated as a whole.

    Args:
        config: left unchanged.
        assignments: new values by dotted name.

    Raises:
        ConfigError: a name does not exist, or the resulting config is invalid.
    """
    values = config.model_dump()
    known = list(flatten(values))
    assignments = {OLD_SETTINGS.get(name, name): value for name, value in assignments.items()}
    for name, value in assignments.items():
        *path, last = name.split(".")
        if name not in known:
            name = name[:LONGEST_VALUE]  # the search for similar names takes long for a long one
            raise ConfigError(f"{name}: no such setting", f"similar names are {', '.join(nearest_names(name, known))}")
        group = values
        for part in path:
            group = group[part]
        group[last] = value
    changed = build_config(values)
    _refuse_numbers_from_booleans(assignments, flatten(changed.model_dump()))
    return changed


def _refuse_numbers_from_booleans(assignments: dict[str, Any], settings: dict[str, Any]) -> None:
    """Raise ConfigError where a boolean was given for a number: pydantic would convert it to 1 or 0."""
    for name, value in assignments.items():
        if isinstance(value, bool) and not isinstance(settings[name], bool):
            raise ConfigError(f"{name}: true or false is not a possible value")


def build_config(values: dict[str, Any]) -> RunConfig:
    """Return a config from plain values, for example those of a run folder's config.json.

    Values written by an earlier version keep their meaning (`upgrade`).

    Raises:
        ConfigError: a value is invalid; the message has a line for each such field.
    """
    try:
        return RunConfig.model_validate(upgrade(values))
    except ValidationError as error:
        raise ConfigError(describe_errors(error)) from None
    except RecursionError:
        raise ConfigError("the config is nested too deeply", "take it from config.json of a run") from None


def upgrade(values: dict[str, Any]) -> dict[str, Any]:
    """Return a config's plain values with the current names for the values of puzzles.ids.

    These names changed when puzzles.fixed_colours was added, so a config without that field has the old ones.
    """
    if not isinstance(values, dict):
        return values
    values = _rename_settings(values)
    puzzles = values.get("puzzles")
    if not isinstance(puzzles, dict) or "fixed_colours" in puzzles or puzzles.get("ids") not in OLD_IDS:
        return values
    return values | {"puzzles": puzzles | {"ids": OLD_IDS[puzzles["ids"]]}}


def _rename_settings(values: dict[str, Any]) -> dict[str, Any]:
    """Return the plain values under the current names of settings; the given ones are not changed."""
    values = copy.deepcopy(values)
    for old, new in OLD_SETTINGS.items():
        *path, old_name = old.split(".")
        group: Any = values
        for part in path:
            group = group.get(part) if isinstance(group, dict) else None
        if isinstance(group, dict) and old_name in group:
            group[new.rpartition(".")[2]] = group.pop(old_name)
    return values


def parse_assignments(texts: list[str]) -> dict[str, Any]:
    """Parse ["train.lr=3e-4", ...] into {"train.lr": 3e-4}.

    A value is read as JSON (3e-4, true, null, [1, 2]) and, where it is not JSON, kept as text.

    Raises:
        ConfigError: a text has no "=".
    """
    assignments = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise ConfigError(f"--set {text}: is not NAME=VALUE", "write for example --set train.lr=3e-4")
        try:
            assignments[name.strip()] = json.loads(value)
        except (ValueError, RecursionError):  # also a number of too many digits, and lists nested too deeply
            assignments[name.strip()] = value
    return assignments
