"""Exact match of a Sudoku checkpoint on boards of another side than those that it was trained on.

The weights work for any side, because `model.positions = rope2d` turns the number of a cell into its row and column.
All Sudokus share one puzzle embedding. With a symbol axis, digits that smaller boards do not use are outside the
palette.
"""

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from augment import SourcedTasks, Task, load_tasks
from augment.errors import UserError
from pipeline.checkpoints.checkpoint import Checkpoint
from pipeline.config.run_config import override
from pipeline.data.build import make_puzzle_set
from pipeline.experiments.exact_match import exact_match

MOST_TESTS = 1000
"""Maximum number of generated test puzzles; of 4x4 Sudokus, only about 1,900 are available for tests."""


def match_on_side(
    checkpoint: Checkpoint, trained: Task, side: int, device: torch.device, steps: int | None = None
) -> NDArray[np.bool_]:
    """Return whether every cell is right, for generated Sudokus of this side and each supervision step.

    Args:
        checkpoint: the trained model.
        trained: the task that the model was trained on; its puzzle embedding is used. As many Sudokus are generated
            as it has test inputs, and at most MOST_TESTS.
        side: 4, 6 or 9.
        device: where to predict.
        steps: number of supervision steps; None for as many as in training.

    Returns:
        (test inputs, supervision steps)

    Raises:
        UserError: the model works for one side only, because of one-dimensional positions or the MLP mixer.
    """
    config = checkpoint.run_config
    if config.model.positions != "rope2d" or config.model.mixer != "attention":
        raise UserError(
            f"model.positions is {config.model.positions} and model.mixer is {config.model.mixer}, so the model cannot "
            "predict boards of another side",
            "train it with model.positions=rope2d and model.mixer=attention",
        )
    source = f"sudoku-{side}x{side}/1+{min(len(trained.tests), MOST_TESTS)}"
    # Puzzle embeddings are matched by task ID, so the generated task takes the ID of the trained one.
    task = replace(load_tasks(source)[0], id=trained.id)
    changed = override(config, {"model.board_side": side, "source": source})
    puzzle_set = make_puzzle_set([SourcedTasks(source, "scored", [task])], changed.puzzles, changed.seed, side)
    resized = replace(checkpoint, config=changed.model_dump(mode="json"))
    return exact_match(resized, puzzle_set, [task], device, steps)
