"""The settings that the search tries, by name. A name means one setting for ever: figures are filed under it."""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pipeline.config.run_config import ConfigError, RunConfig, override
from pipeline.recipes.registry import recipe


@dataclass(frozen=True)
class Setting:
    """A recipe and what is changed in it: values by dotted name, as `--set` takes them."""

    recipe: str
    changes: Mapping[str, Any] = field(default_factory=dict)

    def config(self) -> RunConfig:
        """The whole config; ConfigError for a recipe or a name that does not exist, or a value that cannot be."""
        return override(recipe(self.recipe), dict(self.changes))


LEARNER: dict[str, Any] = {
    "train.optimizer": "adamw",
    "train.lr": 1e-3,
    "train.warmup": 50,
    "train.id_optimizer": "adam",
    "train.id_weight_decay": 0.0,
    "train.loss": "softmax",
    "train.visits": "pairs",
    "train.average_warmup": True,
    "model.halting": "random",
    "model.exploration": 0.0,
}
"""What else is changed at once: optimizers, loss, draws, and no halting before the last supervision step."""

TRANSFORM: dict[str, Any] = LEARNER | {"puzzles.ids": "transform", "puzzles.augmentations": 31}
SYMBOLS: dict[str, Any] = LEARNER | {
    "puzzles.ids": "transform",
    "puzzles.augmentations": 7,
    "model.symbols": True,
    "model.id_slots": 0,
    "model.hidden": 48,
    "model.inner_multiple": 16,
    "model.positions": "rope2d",
    "model.rope_theta": 30.0,
}

ONE_LATENT = ["z = f(z + x) * 4"]

PARQUET_OPTIONS: dict[str, Any] = SYMBOLS | {"train.id_lr": 5e-2, "train.batch_size": 16}

ADOPTED: dict[str, Any] = PARQUET_OPTIONS | {
    "train.batch_size": 8,
    "train.lr": 2e-3,
    "model.recursion.updates": ONE_LATENT,
}
"""What the recipe `cpu` has adopted, whose figures are filed as "one latent, lr 2e-3, batch 8"."""

SHALLOW: dict[str, Any] = ADOPTED | {"model.recursion.updates": ["z = f(z + x) * 2"]}

ONCE: dict[str, Any] = {"model.max_steps": 1, "predict.steps": 1}

OTHER_TASKS: dict[str, Any] = {
    "train_sources": ["arc-agi-1/training", "concept"],
    "puzzles.max_side": 5,
    "puzzles.duplicates": "drop",
}

SETTINGS: dict[str, Setting] = {
    "shipped": Setting("cpu_trm"),
    "learner": Setting("cpu_trm", LEARNER),
    "learner, Adam-atan2": Setting("cpu_trm", LEARNER | {"train.optimizer": "adam_atan2", "train.lr": 7e-4}),
    "learner, signs for IDs": Setting(
        "cpu_trm", LEARNER | {"train.id_optimizer": "sign", "train.id_weight_decay": 0.1}
    ),
    "learner, stablemax": Setting("cpu_trm", LEARNER | {"train.loss": "stablemax"}),
    "learner, visits of tasks": Setting("cpu_trm", LEARNER | {"train.visits": "tasks"}),
    "learner, ID rate 5e-2": Setting("cpu_trm", LEARNER | {"train.id_lr": 5e-2}),
    "learner, plain average": Setting("cpu_trm", LEARNER | {"train.average_warmup": False}),
    "learner, halting": Setting("cpu_trm", LEARNER | {"model.halting": "halt", "model.exploration": 0.1}),
    "transform": Setting("cpu_trm", TRANSFORM),
    "transform, rope2d": Setting("cpu_trm", TRANSFORM | {"model.positions": "rope2d", "model.rope_theta": 30.0}),
    "symbols": Setting("cpu_trm", SYMBOLS),
    "symbols, plain average": Setting("cpu_trm", SYMBOLS | {"train.average_warmup": False}),
    "learner, ID rate 5e-2, batch 8": Setting("cpu_trm", LEARNER | {"train.id_lr": 5e-2, "train.batch_size": 8}),
    "symbols, ID rate 5e-2": Setting("cpu_trm", SYMBOLS | {"train.id_lr": 5e-2}),
    "symbols, ID rate 5e-2, lr 2e-3": Setting("cpu_trm", SYMBOLS | {"train.id_lr": 5e-2, "train.lr": 2e-3}),
    "symbols, ID rate 5e-2, batch 16": Setting("cpu_trm", PARQUET_OPTIONS),
    "quick, batch 8": Setting("cpu_trm", PARQUET_OPTIONS | {"train.batch_size": 8}),
    "quick, batch 4": Setting("cpu_trm", PARQUET_OPTIONS | {"train.batch_size": 4}),
    "quick, batch 8, lr 2e-3": Setting("cpu_trm", PARQUET_OPTIONS | {"train.batch_size": 8, "train.lr": 2e-3}),
    "quick, batch 8, one latent": Setting(
        "cpu_trm", PARQUET_OPTIONS | {"train.batch_size": 8, "model.recursion.updates": ONE_LATENT}
    ),
    "one latent, lr 2e-3, batch 16": Setting(
        "cpu_trm", PARQUET_OPTIONS | {"train.lr": 2e-3, "model.recursion.updates": ONE_LATENT}
    ),
    "one latent, lr 2e-3, batch 8": Setting("cpu_trm", ADOPTED),
    "adopted, hidden 32": Setting("cpu_trm", ADOPTED | {"model.hidden": 32}),
    "adopted, hidden 64": Setting("cpu_trm", ADOPTED | {"model.hidden": 64}),
    "adopted, 1 cycle": Setting("cpu_trm", ADOPTED | {"model.recursion.updates": ["z = f(z + x)"]}),
    "adopted, 2 cycles": Setting("cpu_trm", SHALLOW),
    "adopted, 8 cycles": Setting("cpu_trm", ADOPTED | {"model.recursion.updates": ["z = f(z + x) * 8"]}),
    "adopted, 2 cycles, 1 supervision step": Setting("cpu_trm", SHALLOW | {"model.max_steps": 1}),
    "adopted, 1 supervision step, asked once": Setting("cpu_trm", ADOPTED | ONCE),
    "adopted, 2 cycles, 1 supervision step, asked once": Setting("cpu_trm", SHALLOW | ONCE),
    "adopted, 1 cycle, 1 supervision step, asked once": Setting(
        "cpu_trm", SHALLOW | ONCE | {"model.recursion.updates": ["z = f(z + x)"]}
    ),
    "adopted, 2 cycles, 4 supervision steps": Setting("cpu_trm", SHALLOW | {"model.max_steps": 4}),
    "adopted, 2 cycles, 3 models": Setting("cpu_trm", SHALLOW | {"ensemble": 3}),
    "adopted, 1 cycle, 3 models": Setting(
        "cpu_trm", ADOPTED | {"model.recursion.updates": ["z = f(z + x)"], "ensemble": 3}
    ),
    "adopted, 2 cycles, 5 models": Setting("cpu_trm", SHALLOW | {"ensemble": 5}),
    "adopted, 2 cycles, 6 models": Setting("cpu_trm", SHALLOW | {"ensemble": 6}),
    "adopted, 2 cycles, hidden 32": Setting("cpu_trm", SHALLOW | {"model.hidden": 32}),
    "adopted, 2 cycles, hidden 64": Setting("cpu_trm", SHALLOW | {"model.hidden": 64}),
    "adopted, 2 cycles, batch 4": Setting("cpu_trm", SHALLOW | {"train.batch_size": 4}),
    "adopted, 2 cycles, a vector for each transform": Setting(
        "cpu_trm", SHALLOW | {"puzzles.ids": "task", "model.transform_vectors": True}
    ),
    "adopted, 2 cycles, dropout 0.1": Setting("cpu_trm", SHALLOW | {"model.dropout": 0.1}),
    "adopted, 2 cycles, label smoothing 0.1": Setting("cpu_trm", SHALLOW | {"train.label_smoothing": 0.1}),
    "adopted, 2 cycles, label smoothing 0.2": Setting("cpu_trm", SHALLOW | {"train.label_smoothing": 0.2}),
    "adopted, 2 cycles, label smoothing 0.05": Setting("cpu_trm", SHALLOW | {"train.label_smoothing": 0.05}),
    "adopted, 2 cycles, 4 heads, label smoothing 0.1": Setting(
        "cpu_trm", SHALLOW | {"model.heads": 4, "train.label_smoothing": 0.1}
    ),
    "adopted, 1 cycle, label smoothing 0.1": Setting(
        "cpu_trm", SHALLOW | {"model.recursion.updates": ["z = f(z + x)"], "train.label_smoothing": 0.1}
    ),
    "adopted, 2 cycles, corrupted starts": Setting("cpu_trm", SHALLOW | {"train.corrupted": 0.5}),
    "adopted, 2 cycles, weight decay 1": Setting("cpu_trm", SHALLOW | {"train.weight_decay": 1.0}),
    "adopted, 2 cycles, ID weight decay 0.1": Setting("cpu_trm", SHALLOW | {"train.id_weight_decay": 0.1}),
    "adopted, 2 cycles, ID rate 2e-2": Setting("cpu_trm", SHALLOW | {"train.id_lr": 2e-2}),
    "adopted, 2 cycles, lr 4e-3": Setting("cpu_trm", SHALLOW | {"train.lr": 4e-3}),
    "adopted, 2 cycles, twice": Setting("cpu_trm", SHALLOW | {"model.h_cycles": 2}),
    "adopted, 1 cycle, 4 heads": Setting(
        "cpu_trm", SHALLOW | {"model.heads": 4, "model.recursion.updates": ["z = f(z + x)"]}
    ),
    "adopted, 4 heads": Setting("cpu_trm", ADOPTED | {"model.heads": 4}),
    "adopted, 2 cycles, 4 heads": Setting("cpu_trm", SHALLOW | {"model.heads": 4}),
    "adopted, 2 cycles, rope theta 10": Setting("cpu_trm", SHALLOW | {"model.rope_theta": 10.0}),
    "adopted, 2 cycles, average 0.999": Setting("cpu_trm", SHALLOW | {"train.average": 0.999}),
    "adopted, 1 cycle, 4 layers": Setting(
        "cpu_trm", ADOPTED | {"model.recursion.updates": ["z = f(z + x)"], "model.layers": 4}
    ),
    "adopted, 2 cycles, 1 layer": Setting("cpu_trm", SHALLOW | {"model.layers": 1}),
    "adopted, 4 supervision steps": Setting("cpu_trm", ADOPTED | {"model.max_steps": 4}),
    "adopted, stablemax": Setting("cpu_trm", ADOPTED | {"train.loss": "stablemax"}),
    "adopted, NorMuon": Setting("cpu_trm", ADOPTED | {"train.optimizer": "normuon", "train.muon_lr": 2e-3}),
    "adopted, dropout 0.1": Setting("cpu_trm", ADOPTED | {"model.dropout": 0.1}),
    "adopted, label smoothing 0.1": Setting("cpu_trm", ADOPTED | {"train.label_smoothing": 0.1}),
    "adopted, WSD": Setting("cpu_trm", ADOPTED | {"train.schedule": "wsd"}),
    "adopted, corrupted starts": Setting("cpu_trm", ADOPTED | {"train.corrupted": 0.5}),
    "adopted, visits of tasks": Setting("cpu_trm", ADOPTED | {"train.visits": "tasks"}),
    "adopted, only black fixed": Setting("cpu_trm", ADOPTED | {"puzzles.fixed_colours": "black"}),
    "adopted, positions in one line": Setting("cpu_trm", ADOPTED | {"model.positions": "rope"}),
    "adopted, a vector for each transform": Setting(
        "cpu_trm", ADOPTED | {"puzzles.ids": "task", "model.transform_vectors": True}
    ),
    "adopted, signs for IDs": Setting(
        "cpu_trm", ADOPTED | {"train.id_optimizer": "sign", "train.id_weight_decay": 0.1}
    ),
    "adopted, ID rate 2e-1": Setting("cpu_trm", ADOPTED | {"train.id_lr": 2e-1}),
    "adopted, other tasks too": Setting("cpu_trm", ADOPTED | OTHER_TASKS),
}


def find_setting(name: str, recipe_name: str | None, changes: Mapping[str, Any]) -> Setting:
    """The setting of this name in the table, or where a recipe or changes are given a new one (of recipe cpu_trm).

    Raises:
        ConfigError: where a name of the table is given changes, or any other name is given none.
    """
    if name in SETTINGS and (recipe_name or changes):
        raise ConfigError(f"{name}: is a setting of the table already; give what you change another name")
    if name in SETTINGS:
        return SETTINGS[name]
    if not recipe_name and not changes:
        near = difflib.get_close_matches(name, SETTINGS, n=3, cutoff=0.5) or list(SETTINGS)
        raise ConfigError(f"{name}: no such setting; there is {', '.join(near)}, or describe it by --recipe or --set")
    return Setting(recipe_name or "cpu_trm", changes)
