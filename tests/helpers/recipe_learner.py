"""A learner and a batch of any recipe, small enough that one step takes a fraction of a second on the CPU."""

import torch

from augment import PuzzleSet, Selection
from pipeline.config.run_config import PuzzleSettings, RunConfig, override
from pipeline.data.build import gather, make_puzzle_set
from pipeline.recipes.registry import recipe
from pipeline.runtime.console import Console
from pipeline.training.setup import make_learner
from solver.data.batch import Batch
from solver.data.batches import PuzzleDataset
from solver.training.learner import Learner

SMALL = {"model.hidden": 32, "model.heads": 2, "model.h_cycles": 2, "model.l_cycles": 2, "model.max_steps": 2}
"""Sizes of the recipes for GPUs here; recipes that are small anyway keep theirs."""
SLOTS = {"task": 12, "full": 2}
"""Slots of a batch, by canvas."""
SMALL_TASKS = Selection(max_side=5, limit=4)


def small_recipe(name: str, **changes: object) -> RunConfig:
    """Return a recipe with few slots, uncompiled, whose matrices are small; `changes` are settings by dotted name."""
    config = recipe(name)
    sizes = SMALL if config.model.hidden > 128 else {}
    common = {"train.batch_size": SLOTS[config.model.canvas], "train.compile": False, "train.warmup": 1}
    common |= {"train.curriculum": ()}
    return override(config, {**sizes, **common, **changes})


def small_set(settings: PuzzleSettings, board_side: int, selection: Selection = SMALL_TASKS) -> PuzzleSet:
    """Return the puzzle set of some tasks of ARC-AGI-1, with two augmentations each."""
    sources = gather(["arc-agi-1/training"], selection, [])
    return make_puzzle_set(sources, settings.model_copy(update={"augmentations": 2}), 0, board_side)


def small_examples(config: RunConfig, selection: Selection = SMALL_TASKS) -> PuzzleDataset:
    """Return the examples that the config trains on, of `small_set`."""
    puzzles = small_set(config.puzzles, config.model.board_side, selection)
    model = config.model
    return PuzzleDataset(puzzles, model.canvas, ids=config.puzzles.ids, palette=model.palette, redraw=not model.symbols)


def small_learner(config: RunConfig, device: torch.device, selection: Selection = SMALL_TASKS) -> Learner:
    """Return a learner of the config on `small_set`, before its first step."""
    return make_learner(config, small_examples(config, selection).row_keys, device, Console(quiet=True), None)


def small_batches(config: RunConfig, number: int, selection: Selection = SMALL_TASKS) -> list[Batch]:
    """Return the first batches of the config on `small_set`, on the CPU."""
    examples = small_examples(config, selection)
    sampler = examples.sampler(config.seed)
    return [examples.training_batch(sampler, config.train.batch_size) for _ in range(number)]
