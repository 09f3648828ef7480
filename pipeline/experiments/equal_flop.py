"""Adapts the number of training steps of a config, so that two configs train with equally many operations."""

from functools import cache
from typing import Any

from augment import PuzzleSet, Selection
from pipeline.config.run_config import PuzzleSettings, RunConfig, override
from pipeline.data.build import gather, make_puzzle_set
from pipeline.training.flop import step_flop


def match_flop(config: RunConfig, base: RunConfig) -> RunConfig:
    """Return `config` with the number of steps for which its training costs as many operations as that of `base`.

    The number is rounded to the nearest integer, and is at least 1 (`pipeline.training.flop`). Warm-up takes the same
    share of the steps as in `base`. The decay of the weights' average is adapted, so that the initial weights have the
    same share in it at the end. The operations of both are calculated for the tasks of `base`.
    """
    steps = max(1, round(training_flop(base) / step_flop(config, _tasks_of(base))))
    ratio = steps / base.train.steps
    average = None if config.train.average is None else config.train.average ** (1 / ratio)
    warmup = round(base.train.warmup * ratio)
    return override(config, {"train.steps": steps, "train.warmup": warmup, "train.average": average})


def training_flop(config: RunConfig) -> float:
    """Calculate the floating-point operations of the whole training."""
    return config.train.steps * step_flop(config, _tasks_of(config))


def _tasks_of(config: RunConfig) -> PuzzleSet:
    """Return the tasks that a config trains on, without augmentations: each of these costs as much as its task."""
    puzzles = config.puzzles.model_copy(update={"augmentations": 0, "ids": "augmentation"})
    selection = config.selection.selection()
    return _build(config.source, selection, config.train_sources, tuple(puzzles), config.model.board_side)


@cache
def _build(
    source: str, selection: Selection, train_sources: tuple[str, ...], puzzles: tuple[tuple[str, Any], ...], side: int
) -> PuzzleSet:
    """Build a puzzle set; `puzzles` has the fields of PuzzleSettings as pairs, since the cache needs hashable ones."""
    sources = gather([source], selection, list(train_sources))
    return make_puzzle_set(sources, PuzzleSettings(**dict(puzzles)), 0, side)
