"""A checkpoint trained on Sudokus of one side, asked on those of another: which of them it has right.

Weights depend on the side in nothing but the numbers of cells, which `model.positions = rope2d` turns into rows and
columns. All Sudokus share one ID row. With a symbol axis, digits that the smaller boards lack are outside the palette.
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
"""Of the 4x4 puzzles about 1,900 are there for tests."""


def match_on_side(
    checkpoint: Checkpoint, trained: Task, side: int, device: torch.device, steps: int | None = None
) -> NDArray[np.bool_]:
    """Whether every cell is right, (tests, supervision steps), of as many generated Sudokus as `trained` has tests.

    Args:
        trained: the task of the checkpoint's Sudokus, whose ID row is used.
        side: 4, 6 or 9.
        steps: of prediction, as many as in training where None.

    Raises:
        ValueError: where the model is of one side only: positions in one line, or the MLP mixer.
    """
    config = checkpoint.run_config
    if config.model.positions != "rope2d" or config.model.mixer != "attention":
        raise UserError(
            f"model.positions is {config.model.positions} and model.mixer {config.model.mixer}: boards of another side "
            "need rope2d and attention"
        )
    source = f"sudoku-{side}x{side}/1+{min(len(trained.tests), MOST_TESTS)}"
    task = replace(load_tasks(source)[0], id=trained.id)
    changed = override(config, {"model.board_side": side, "source": source})
    puzzle_set = make_puzzle_set([SourcedTasks(source, "scored", [task])], changed.puzzles, changed.seed, side)
    asked = replace(checkpoint, config=changed.model_dump(mode="json"))
    return exact_match(asked, puzzle_set, [task], device, steps)
