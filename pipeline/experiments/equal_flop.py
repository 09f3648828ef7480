"""Equal operations: a config and the one it is compared with in, the config with as many steps as those pay for out."""

from functools import cache
from typing import Any

from augment import PuzzleSet, Selection
from pipeline.config.run_config import PuzzleSettings, RunConfig, override
from pipeline.data.build import gather, make_puzzle_set
from pipeline.training.flop import step_flop


def match_flop(config: RunConfig, base: RunConfig) -> RunConfig:
    """`config` with the steps that cost what training of `base` does (`pipeline.training.flop`), to the nearest, and at
    least 1.

    Its warm-up takes the same share of the steps as the base's, and so does what the average of the weights looks back
    on: the first weights have the same share in it at the end. Both train on the base's tasks.
    """
    steps = max(1, round(training_flop(base) / step_flop(config, _tasks_of(base))))
    share = steps / base.train.steps
    average = None if config.train.average is None else config.train.average ** (1 / share)
    warmup = round(base.train.warmup * share)
    return override(config, {"train.steps": steps, "train.warmup": warmup, "train.average": average})


def training_flop(config: RunConfig) -> float:
    """Floating-point operations of the whole training, by arithmetic."""
    return config.train.steps * step_flop(config, _tasks_of(config))


def _tasks_of(config: RunConfig) -> PuzzleSet:
    """The tasks that a config trains on, without augmentations, which cost what the task itself does."""
    puzzles = config.puzzles.model_copy(update={"augmentations": 0, "ids": "augmentation"})
    selection = config.selection.selection()
    return _build(config.source, selection, config.train_sources, tuple(puzzles), config.model.board_side)


@cache
def _build(
    source: str, selection: Selection, train_sources: tuple[str, ...], puzzles: tuple[tuple[str, Any], ...], side: int
) -> PuzzleSet:
    """puzzles: the fields of PuzzleSettings."""
    sources = gather([source], selection, list(train_sources))
    return make_puzzle_set(sources, PuzzleSettings(**dict(puzzles)), 0, side)
