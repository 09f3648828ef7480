"""Recipes: functions that return a whole config. Each says its command, duration, hardware and the score to expect."""

from collections.abc import Callable

from pipeline.config import (
    ConfigError,
    PredictSettings,
    PuzzleSettings,
    RunConfig,
    SelectionSettings,
    TrainSettings,
)
from solver.model import ModelConfig


def smoke() -> RunConfig:
    """A walk through every stage; its score means nothing.

    python -m pipeline solve --recipe smoke         under 30 seconds on 2 cores
    """
    return RunConfig(
        recipe="smoke",
        remark="This recipe only walks through every stage: its score means nothing.",
        source="arc-agi-1/training",
        selection=SelectionSettings(max_side=3, limit=4),
        puzzles=PuzzleSettings(augmentations=3),
        model=ModelConfig(hidden=32, heads=2, h_cycles=1, l_cycles=2, id_slots=1, max_steps=2, canvas="task"),
        train=TrainSettings(steps=20, batch_size=16, lr=1e-3, warmup=5, average=0.9, log_every=5),
        predict=PredictSettings(batch_size=64),
    )


def cpu() -> RunConfig:
    """Learn 25 real ARC tasks from scratch on a plain machine: every ARC-AGI-1 training task up to 5x5.

    python -m pipeline solve --recipe cpu           9 minutes on 2 cores, 10 at most

    Expect a macro pass@2 of about 30%: 30.0% in the median of seeds 0, 1, 2 (34.0, 18.7, 30.0; that is 13, 8 and 12 of
    31 test outputs), on 2 AVX2 cores; the budget ended seeds 1 and 2 at 98% and 94% of their steps. The settings were
    chosen on other tasks (`docs/log.md`).
    """
    return RunConfig(
        recipe="cpu",
        source="arc-agi-1/training",
        selection=SelectionSettings(max_side=5),
        budget=590,
        puzzles=PuzzleSettings(augmentations=15),
        model=ModelConfig(
            hidden=128,
            heads=2,
            expansion=3,
            h_cycles=1,
            l_cycles=3,
            id_slots=1,
            max_steps=2,
            canvas="task",
        ),
        train=TrainSettings(
            steps=5600,
            batch_size=32,
            lr=7e-4,
            warmup=100,
            min_ratio=0.1,
            average=0.995,
            shift=False,
        ),
        predict=PredictSettings(steps=4),
    )


RECIPES: dict[str, Callable[[], RunConfig]] = {"smoke": smoke, "cpu": cpu}


def recipe(name: str) -> RunConfig:
    """The recipe's config; ConfigError listing the recipes where there is none of that name."""
    if name not in RECIPES:
        raise ConfigError(f"--recipe {name}: no such recipe; there are {', '.join(RECIPES)}")
    return RECIPES[name]()
